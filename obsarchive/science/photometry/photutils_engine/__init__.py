"""Photometry by photutils (Bradley et al., doi:10.5281/zenodo.596036): an independent, widely used code.

The functions are those of :class:`obsarchive.science.photometry.engine.Engine`.
"""

from obsarchive.science.photometry.photutils_engine.aperture import aperture_photometry
from obsarchive.science.photometry.photutils_engine.detection import background, centroid_errors, detect
from obsarchive.science.photometry.photutils_engine.psf import psf_photometry

__all__ = ["aperture_photometry", "background", "centroid_errors", "detect", "psf_photometry"]

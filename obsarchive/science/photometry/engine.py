"""Two engines that measure stars, with one interface: the archive's own functions, and photutils."""

from collections.abc import Sequence
from typing import Literal, Protocol

from obsarchive.science.arrays import Float64Array, FloatArray, IndexArray
from obsarchive.science.photometry.aperture import Apertures, aperture_photometry
from obsarchive.science.photometry.background import Background, flat_background
from obsarchive.science.photometry.centroid_errors import windowed_errors
from obsarchive.science.photometry.psf_fit import Frame
from obsarchive.science.photometry.psf_photometry import PsfFluxes, psf_photometry
from obsarchive.science.photometry.source_detection import Sources, detect

EngineName = Literal["fast", "photutils"]
"""Names of the engines in configurations."""


class Engine(Protocol):
    """Functions that measure the stars of an image; parameters, units and errors are those of the fast engine."""

    def detect(self, image: FloatArray, fwhm_px: float = ..., threshold: float = ..., most: int = ...) -> Sources:
        """Detect the sources of an image; see :func:`~obsarchive.science.photometry.source_detection.detect`."""

    def centroid_errors(
        self, image: FloatArray, variance: FloatArray, sources: Sources
    ) -> tuple[Float64Array, Float64Array]:
        """Compute errors; see :func:`~obsarchive.science.photometry.centroid_errors.windowed_errors`."""

    def background(self, image: FloatArray) -> Background:
        """Compute level and noise; see :func:`~obsarchive.science.photometry.background.flat_background`."""

    def aperture_photometry(
        self,
        image: FloatArray,
        variance: FloatArray,
        stars: tuple[FloatArray, FloatArray],
        radii_px: Sequence[float],
        annulus_px: tuple[float, float],
        saturation: float = ...,
    ) -> Apertures:
        """Measure stars in apertures; see :func:`~obsarchive.science.photometry.aperture.aperture_photometry`."""

    def psf_photometry(
        self, frame: Frame, apertures: Apertures, chosen: IndexArray, wanted: IndexArray, fwhm_px: float
    ) -> PsfFluxes:
        """Build and fit the PSF; see :func:`~obsarchive.science.photometry.psf_photometry.psf_photometry`."""


class Fast:
    """The archive's own functions: SEP, compiled apertures, a linear fit of the PSF."""

    detect = staticmethod(detect)
    centroid_errors = staticmethod(windowed_errors)
    background = staticmethod(flat_background)
    aperture_photometry = staticmethod(aperture_photometry)
    psf_photometry = staticmethod(psf_photometry)


def engine_of(name: EngineName) -> Engine:
    """Return the engine of a name; photutils is imported only where it is chosen."""
    if name == "photutils":
        from obsarchive.science.photometry import photutils_engine  # late: it is slow to import

        return photutils_engine
    return Fast()

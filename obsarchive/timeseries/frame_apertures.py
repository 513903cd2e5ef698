"""Aperture photometry of all stars of a catalogue on a frame, without the light of their neighbours."""

from dataclasses import replace

import numpy as np

from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.photometry.aperture import Apertures
from obsarchive.science.photometry.crowded_apertures import CrowdedImage, Radii, without_neighbours
from obsarchive.science.photometry.engine import Engine
from obsarchive.science.photometry.source_detection import Sources
from obsarchive.timeseries.frame_table import Planes
from obsarchive.timeseries.star_catalog import annulus

BRIGHT_SHARE = 0.01
"""Share of the pixels, the brightest ones, whose variance tells the gain."""


def star_apertures(
    planes: Planes,
    stars: tuple[Float64Array, Float64Array],
    radii_px: Radii,
    fwhm_px: float,
    engine: Engine,
) -> Apertures:
    """Measure the stars of a frame, each without the light of its neighbours.

    Parameters
    ----------
    planes : Planes
        Pixels of the frame.
    stars : (ndarray (n,), ndarray (n,))
        Places of all known stars (y, x) [pixel], on the frame and beyond it.
    radii_px : tuple of k floats
        Radii of the apertures, the main one first [pixel].
    fwhm_px : float
        FWHM of the stars [pixel].
    engine : Engine
        Functions that measure.

    Returns
    -------
    Apertures
        Fluxes (n, k), skies and flags of all stars.
    """
    ring = annulus(radii_px[0], fwhm_px)

    def measure(image: FloatArray, variance: FloatArray, some: Sources, radii: Radii) -> Apertures:
        return engine.aperture_photometry(image, variance, (some.y, some.x), radii, ring, planes.saturation)

    n = len(stars[0])
    sources = Sources(*stars, np.ones(n), np.full(n, np.inf), np.full(n, fwhm_px))
    found = measure(planes.image, planes.variance, sources, radii_px)
    sources = replace(sources, flux=np.nan_to_num(found.flux[:, 0]))
    field = CrowdedImage(
        planes.image, planes.variance, sources, fwhm_px, radii_px, ring[1], gain_of(planes), planes.saturation
    )
    near = np.flatnonzero(_is_near(stars, planes.image.shape, field.profile_px))
    if len(near) < 2:
        return found
    part = replace(field, sources=sources.chosen(near))
    names = ("flux", "flux_error", "sky", "sky_error", "flags")
    plain = Apertures(*(getattr(found, name)[near] for name in names))
    cleaned = without_neighbours(part, plain, measure)
    for name in names:
        getattr(found, name)[near] = getattr(cleaned, name)
    return found


def _is_near(stars: tuple[Float64Array, Float64Array], shape: tuple[int, ...], reach_px: float) -> np.ndarray:
    y, x = stars
    with np.errstate(invalid="ignore"):
        return (y > -reach_px) & (x > -reach_px) & (y < shape[0] + reach_px) & (x < shape[1] + reach_px)


def gain_of(planes: Planes) -> float:
    """Return the photons of a count as the variance of bright pixels tells, 0 if it does not grow with their light."""
    image = planes.image[np.isfinite(planes.image)]
    variance = planes.variance[np.isfinite(planes.image)]
    limit = np.quantile(image, 1 - BRIGHT_SHARE)
    bright, dark = image >= limit, image <= np.median(image)
    more = float(variance[bright].mean() - variance[dark].mean())
    return float(image[bright].mean() - image[dark].mean()) / more if more > 0 else 0.0

"""Stars and background of an image by photutils; its warnings about single stars are ignored: their results are NaN.

Stars are detected by :class:`~photutils.detection.DAOStarFinder` (Stetson 1987, PASP 99, 191), not by segmentation: it
is a matched filter for point sources, its threshold is the signal-to-noise ratio of the settings, it keeps close stars
apart, and it rejects cosmic rays by their sharpness. Positions and widths are those of fitted Gaussians.
"""

import math
import warnings

import numpy as np
from photutils.background import Background2D, MADStdBackgroundRMS, SExtractorBackground
from photutils.detection import DAOStarFinder
from photutils.psf import fit_2dgaussian

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray
from obsarchive.science.photometry.background import Background
from obsarchive.science.photometry.centroid_errors import fitted_errors
from obsarchive.science.photometry.source_detection import (
    BACKGROUND_PX,
    MAX_SOURCES,
    THRESHOLD_SNR,
    Sources,
    filled_pixels,
)

MOST_MASKED_PERCENT = 90.0
"""Largest share of masked pixels in a cell of the background; beyond, the cell is interpolated from its neighbours."""
KERNEL_SIGMA, SEPARATION_FWHM = 2.0, 0.75
"""Radius of the detection filter, and least distance of two stars."""
FEW_BRIGHT, WIDTH_ROUNDS = 50, 2
"""Stars whose width sets that of the filter, and number of iterations."""
COSMIC_PX, LEAST_SHARE_OF_STARS = 1.5, 0.2
"""FWHM below which a detection is a cosmic ray, unless the share of the wider ones is below the second number."""
GAUSS_FWHM = 1.5
"""Side of the square to which Gaussians are fitted [FWHM]."""


def detect(
    image: FloatArray, fwhm_px: float = 4.0, threshold: float = THRESHOLD_SNR, most: int = MAX_SOURCES
) -> Sources:
    """Detect the sources of an image.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Counts; pixels that are not finite are masked.
    fwhm_px : float
        FWHM with which the search for the stars' own width begins [pixel].
    threshold : float
        Least signal-to-noise ratio in the filtered image.
    most : int
        Largest number of sources, the brightest ones.

    Returns
    -------
    Sources
        Positions, fluxes and widths; empty if nothing is above the threshold.

    Raises
    ------
    Unprocessable
        The image is too small, constant or without enough finite pixels.
    """
    pixels, bad = filled_pixels(image)
    sky = background(np.where(bad, np.nan, pixels))
    flat, limit = np.where(bad, 0.0, pixels - sky.level), threshold * sky.noise
    for _ in range(WIDTH_ROUNDS):
        bright = DAOStarFinder(limit, fwhm_px, n_brightest=FEW_BRIGHT, sharpness_range=None, roundness_range=None)
        fwhm_px = _typical_fwhm(_gaussians(flat, bad, _found(bright, flat, bad), fwhm_px)[2], fwhm_px)
    finder = DAOStarFinder(
        limit,
        fwhm_px,
        sigma_radius=KERNEL_SIGMA,
        n_brightest=most,
        min_separation=SEPARATION_FWHM * fwhm_px,
    )
    found = _found(finder, flat, bad)
    y, x, width = _gaussians(flat, bad, found, fwhm_px)
    order = np.argsort(-found["flux"], kind="stable")
    snr = found["peak"] / float(np.median(sky.noise))
    return Sources(y, x, found["flux"], snr, width).chosen(order)


def centroid_errors(image: FloatArray, variance: FloatArray, sources: Sources) -> tuple[Float64Array, Float64Array]:
    """Return the errors of centres, as of :func:`.centroid_errors.fitted_errors`.

    Parameters
    ----------
    image, variance : ndarray (ny, nx)
        Background-subtracted image, NaN where pixels are bad, and the variance of its pixels.
    sources : Sources
        Sources as :func:`detect` returns them.

    Returns
    -------
    (ndarray (n,), ndarray (n,))
        Standard errors along y and x [pixel].
    """
    width = float(np.median(sources.fwhm_px)) if len(sources) else 1.0
    return fitted_errors(image, variance, sources, odd_size(GAUSS_FWHM * width))


def _found(finder: DAOStarFinder, flat: Float64Array, bad: BoolArray) -> dict[str, Float64Array]:
    """Return the columns of the detected stars; empty without any."""
    with warnings.catch_warnings(action="ignore"):
        table = finder(flat, mask=bad)
    names = ("x_centroid", "y_centroid", "flux", "peak")
    return {name: np.asarray(table[name], np.float64) if table is not None else np.empty(0) for name in names}


def _gaussians(
    flat: Float64Array, bad: BoolArray, found: dict[str, Float64Array], fwhm_px: float
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Fit Gaussians to stars: centres y, x and FWHM; where a fit fails, its initial values."""
    y, x = found["y_centroid"], found["x_centroid"]
    if not len(y):
        return y, x, np.empty(0)
    with warnings.catch_warnings(action="ignore"):
        fit = fit_2dgaussian(
            flat,
            xypos=np.stack([x, y], axis=1),
            fwhm=fwhm_px,
            fix_fwhm=False,
            fit_shape=odd_size(GAUSS_FWHM * fwhm_px),
            mask=bad,
        ).results
    new_y, new_x, width = (np.asarray(fit[f"{name}_fit"], np.float64) for name in ("y", "x", "fwhm"))
    good = np.isfinite(width) & (width > 0) & (np.hypot(new_y - y, new_x - x) < fwhm_px)
    return np.where(good, new_y, y), np.where(good, new_x, x), np.where(good, width, fwhm_px)


def _typical_fwhm(widths: Float64Array, otherwise: float) -> float:
    """Median FWHM of the stars among the cosmic rays [pixel]."""
    stars = widths[widths > COSMIC_PX]
    widths = stars if len(stars) >= LEAST_SHARE_OF_STARS * len(widths) else widths
    return float(np.clip(np.median(widths), 1.0, 4 * otherwise)) if len(widths) else otherwise


def background(image: FloatArray) -> Background:
    """Compute the background cell by cell: the mode of Bertin & Arnouts (1996, A&AS 117, 393), the noise by the MAD.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Counts; pixels that are not finite are masked.

    Returns
    -------
    Background
        Level and noise of each pixel.

    Raises
    ------
    Unprocessable
        Too few pixels are good.
    """
    pixels = np.asarray(image, np.float32)
    bad = ~np.isfinite(pixels)
    try:
        with warnings.catch_warnings(action="ignore"):
            found = Background2D(
                pixels,
                min(BACKGROUND_PX, *pixels.shape),
                mask=bad,
                exclude_percentile=MOST_MASKED_PERCENT,
                bkg_estimator=SExtractorBackground(),
                bkg_rms_estimator=MADStdBackgroundRMS(),
            )
            return Background(found.background, found.background_rms)
    except ValueError as err:
        raise Unprocessable(f"no background: {np.mean(bad):.0%} of the pixels are bad") from err


def odd_size(size: float) -> int:
    """Return the least odd number of pixels that is not below a size, at least 3."""
    return max(2 * math.ceil((size - 1) / 2) + 1, 3)

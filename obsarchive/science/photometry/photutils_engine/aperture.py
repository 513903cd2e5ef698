"""Aperture photometry by photutils."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
from astropy.stats import SigmaClip
from photutils.aperture import ApertureStats, CircularAnnulus, CircularAperture

from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray, IntArray
from obsarchive.science.photometry.aperture import CLIP, CLIP_ROUNDS, LEAST_SKY_PIXELS, Apertures, Flag


def aperture_photometry(
    image: FloatArray,
    variance: FloatArray,
    stars: tuple[FloatArray, FloatArray],
    radii_px: Sequence[float],
    annulus_px: tuple[float, float],
    saturation: float = math.inf,
) -> Apertures:
    """Measure the fluxes of stars in circular apertures.

    The area that a circle shares with a pixel is exact. The sky is the median of the annulus, clipped at three sigma.

    Parameters
    ----------
    image, variance : ndarray (ny, nx)
        Calibrated image, NaN where pixels are bad, and its variance.
    stars : (ndarray (n,), ndarray (n,))
        Centres (y, x) [pixel].
    radii_px : sequence of k floats
        Radii [pixel]; the flags refer to the first one.
    annulus_px : (inner, outer)
        Radii of the sky annulus [pixel].
    saturation : float
        Level at and above which a pixel is saturated [unit of the image].

    Returns
    -------
    Apertures
        Fluxes (n, k), sky levels and flags (n,).
    """
    xy = np.nan_to_num(np.stack(stars[::-1], axis=1).astype(np.float64), nan=-1e6)
    bad = ~np.isfinite(image)
    planes = np.where(bad, 0.0, image), np.sqrt(np.maximum(variance, 0.0)), bad
    sky, sky_error = _skies(planes, xy, annulus_px)
    flux, error = np.full((len(xy), len(radii_px)), np.nan), np.full((len(xy), len(radii_px)), np.nan)
    for j, radius in enumerate(radii_px):
        inside = within_image(xy, radius, image.shape)
        sums, errors, spoilt = _sums(planes, xy[inside], radius)
        area = math.pi * radius**2
        flux[inside, j] = np.where(spoilt & (j > 0), np.nan, sums - area * sky[inside])
        error[inside, j] = np.where(spoilt & (j > 0), np.nan, np.hypot(errors, area * sky_error[inside]))
    return Apertures(flux, error, sky, sky_error, _flags(planes, xy, (radii_px[0], saturation), np.isnan(sky)))


_Planes = tuple[Float64Array, Float64Array, BoolArray]
"""Image, its error, and the mask of bad pixels."""


def within_image(xy: Float64Array, radius: float, shape: tuple[int, ...]) -> BoolArray:
    """Whether circles lie within the image."""
    return np.asarray(((xy - radius >= -0.5) & (xy + radius <= np.array(shape[::-1]) - 0.5)).all(axis=1))


def _sums(planes: _Planes, xy: Float64Array, radius: float) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Fluxes in circles, their errors, and whether a circle holds a bad pixel."""
    if not len(xy):
        return np.empty(0), np.empty(0), np.empty(0, bool)
    image, error, bad = planes
    circles = CircularAperture(xy, radius)
    return *circles.do_photometry(image, error=error, mask=bad), circles.do_photometry(bad.astype(float))[0] > 0


def _flags(planes: _Planes, xy: Float64Array, circle: tuple[float, float], poor_sky: BoolArray) -> IntArray:
    """Flags of circles (radius, level of saturation)."""
    radius, saturation = circle
    inside = within_image(xy, radius, planes[0].shape)
    flags = np.where(inside, np.where(poor_sky, int(Flag.POOR_SKY), 0), int(Flag.EDGE))
    for flag, plane in ((Flag.BAD_PIXEL, planes[2]), (Flag.SATURATED, planes[0] >= saturation)):
        touched, _, _ = _sums((plane.astype(float), planes[1], np.zeros_like(planes[2])), xy[inside], radius)
        flags[inside] |= np.where(touched > 0, int(flag), 0)
    return flags.astype(np.int64)


def _skies(planes: _Planes, xy: Float64Array, annulus_px: tuple[float, float]) -> tuple[Float64Array, Float64Array]:
    """Clipped median of the annulus around each star, and its error; NaN where there are too few pixels."""
    if not len(xy):
        return np.empty(0), np.empty(0)
    clip = SigmaClip(CLIP, maxiters=CLIP_ROUNDS, stdfunc="mad_std")
    with warnings.catch_warnings(action="ignore"):
        around = ApertureStats(planes[0], CircularAnnulus(xy, *annulus_px), mask=planes[2], sigma_clip=clip)
        pixels = np.nan_to_num(around.center_aper_area.value)
        known = pixels >= LEAST_SKY_PIXELS
        # the median of normal values has 1.2533 times the standard error of their mean
        error = 1.2533 * around.std / np.sqrt(np.maximum(pixels, 1))
        return np.where(known, around.median, np.nan), np.where(known, error, np.nan)

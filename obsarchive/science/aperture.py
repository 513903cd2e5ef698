"""Aperture photometry: exact circles, a clipped sky around each star, and an honest error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numba import njit
from numpy.typing import NDArray

CLIP = 3.0
CLIP_ROUNDS = 5
LEAST_SKY_PIXELS = 20
"""The sky around a star: clipping limit [standard deviations], how often, and the least number of pixels."""


class Flag(IntFlag):
    """What is wrong with a measurement."""

    SATURATED = 1
    """A pixel of the largest aperture is saturated."""
    BAD_PIXEL = 2
    """A pixel of the largest aperture is bad; its light is missing."""
    EDGE = 4
    """The largest aperture is cut by the edge: there is no flux."""
    POOR_SKY = 8
    """Too few good pixels for the sky around the star: there is no flux."""


SATURATED, BAD_PIXEL, EDGE, POOR_SKY = (int(flag) for flag in Flag)


@dataclass(frozen=True)
class Apertures:
    """Fluxes of stars in circles of several radii.

    Parameters
    ----------
    flux, flux_error : ndarray (n, k)
        Light above the sky, and its standard error, in each of k radii; NaN where there is none.
    sky, sky_error : ndarray (n,)
        Level of a pixel around the star, and its standard error.
    flags : ndarray (n,)
        Sum of `Flag`.
    """

    flux: NDArray[np.float64]
    flux_error: NDArray[np.float64]
    sky: NDArray[np.float64]
    sky_error: NDArray[np.float64]
    flags: NDArray[np.int64]


def aperture_photometry(
    image: NDArray,
    variance: NDArray,
    stars: tuple[NDArray, NDArray],
    radii_px: Sequence[float],
    annulus_px: tuple[float, float],
    saturation: float = math.inf,
) -> Apertures:
    """Measure stars in circular apertures.

    The area that a circle shares with a pixel is exact. The sky is the median of the annulus, clipped at three sigma.
    The error adds the noise of the pixels and that of the sky level, times the area (Howell 1989, PASP 101, 616).

    Parameters
    ----------
    image : ndarray (ny, nx)
        Calibrated image; NaN marks bad pixels.
    variance : ndarray (ny, nx)
        Variance of each pixel, in units of the image squared.
    stars : (y, x)
        Centres [pixel].
    radii_px : sequence of float
        Radii [pixel].
    annulus_px : (inner, outer)
        Radii of the annulus of the sky [pixel].
    saturation : float
        Level at and above which a pixel is saturated.

    Raises
    ------
    ValueError
        When image and variance differ in shape, or the annulus is empty.
    """
    inner, outer = annulus_px
    if image.shape != variance.shape or image.ndim != 2:
        raise ValueError(f"image {image.shape} and variance {variance.shape} must be the same plane")
    if not 0 <= inner < outer or not radii_px or min(radii_px) <= 0:
        raise ValueError(f"radii {list(radii_px)} and annulus {annulus_px} must be positive, the annulus not empty")
    planes = np.stack([np.asarray(plane, np.float32) for plane in (image, variance)])
    centres, radii = np.stack([np.asarray(axis, np.float64) for axis in stars]), np.asarray(radii_px, np.float64)
    return Apertures(*_measure(planes, centres, radii, (float(inner), float(outer)), float(saturation)))


@njit(cache=True)
def _measure(planes, stars, radii, annulus, saturation):  # type: ignore[no-untyped-def]
    n, k = stars.shape[1], len(radii)
    flux, error = np.full((n, k), np.nan), np.full((n, k), np.nan)
    sky, sky_error = np.full(n, np.nan), np.full(n, np.nan)
    flags = np.zeros(n, np.int64)
    side = 2 * int(annulus[1] + 2) + 1
    around = np.empty(side * side)
    areas = math.pi * radii**2
    for i in range(n):
        y, x = stars[0, i], stars[1, i]
        if not _is_inside(y, x, radii.max(), planes.shape[1:]):
            flags[i] = EDGE
            continue
        sums, flags[i] = _sums(planes, (y, x), radii, saturation)
        count = _gather(planes[0], (y, x), annulus, around)
        if count < LEAST_SKY_PIXELS:
            flags[i] |= POOR_SKY
            continue
        level, spread, left = _clipped(around[:count])
        sky[i], sky_error[i] = level, 1.2533 * spread / math.sqrt(left)  # of a median of normal values
        flux[i] = sums[0] - level * areas
        error[i] = np.sqrt(sums[1] + (areas * sky_error[i]) ** 2)
    return flux, error, sky, sky_error, flags


@njit(cache=True)
def _is_inside(y, x, radius, shape):  # type: ignore[no-untyped-def]
    low = min(y, x) - radius
    return low >= -0.5 and y + radius <= shape[0] - 0.5 and x + radius <= shape[1] - 0.5


@njit(cache=True)
def _sums(planes, centre, radii, saturation):  # type: ignore[no-untyped-def]
    """Light and variance in each circle, and what is wrong there."""
    sums, flags, largest = np.zeros((2, len(radii))), 0, radii.max()
    _, height, width = planes.shape
    for row in range(max(int(centre[0] - largest), 0), min(int(centre[0] + largest) + 2, height)):
        for column in range(max(int(centre[1] - largest), 0), min(int(centre[1] + largest) + 2, width)):
            dy, dx = row - centre[0], column - centre[1]
            if _overlap(dy, dx, largest) == 0.0:
                continue
            value = planes[0, row, column]
            if not math.isfinite(value):
                flags |= BAD_PIXEL
                continue
            if value >= saturation:
                flags |= SATURATED
            for j in range(len(radii)):
                part = _overlap(dy, dx, radii[j])
                sums[0, j] += part * value
                sums[1, j] += part * part * planes[1, row, column]
    return sums, flags


@njit(cache=True)
def _overlap(dy, dx, radius):  # type: ignore[no-untyped-def]
    """Area that a circle around the origin shares with the unit pixel around (dy, dx)."""
    far = math.hypot(abs(dy) + 0.5, abs(dx) + 0.5)
    if far <= radius:
        return 1.0
    if math.hypot(max(abs(dy) - 0.5, 0.0), max(abs(dx) - 0.5, 0.0)) >= radius:
        return 0.0
    low_y, high_y, low_x, high_x = dy - 0.5, dy + 0.5, dx - 0.5, dx + 0.5
    corners = _corner(high_y, high_x, radius) - _corner(low_y, high_x, radius)
    return corners - _corner(high_y, low_x, radius) + _corner(low_y, low_x, radius)


@njit(cache=True)
def _corner(b, a, radius):  # type: ignore[no-untyped-def]
    """Signed area of the circle between the axes and the lines at a and b."""
    sign = 1.0 if (a >= 0) == (b >= 0) else -1.0
    a, b = min(abs(a), radius), min(abs(b), radius)
    if a * a + b * b <= radius * radius:
        return sign * a * b
    bend = math.sqrt(radius * radius - b * b)
    return sign * (b * bend + _under_arc(a, radius) - _under_arc(bend, radius))


@njit(cache=True)
def _under_arc(x, radius):  # type: ignore[no-untyped-def]
    """Integral of sqrt(r^2 - x^2) from 0 to x."""
    return 0.5 * (x * math.sqrt(max(radius * radius - x * x, 0.0)) + radius * radius * math.asin(min(x / radius, 1.0)))


@njit(cache=True)
def _gather(image, centre, annulus, around):  # type: ignore[no-untyped-def]
    """Collect the good pixels of the annulus; returns their number."""
    count = 0
    (y, x), outer = centre, annulus[1]
    for row in range(max(int(y - outer), 0), min(int(y + outer) + 2, image.shape[0])):
        for column in range(max(int(x - outer), 0), min(int(x + outer) + 2, image.shape[1])):
            distance = math.hypot(row - y, column - x)
            if annulus[0] <= distance <= outer and math.isfinite(image[row, column]):
                around[count] = image[row, column]
                count += 1
    return count


@njit(cache=True)
def _clipped(values):  # type: ignore[no-untyped-def]
    """Median and standard deviation of what lies within three sigma, and how many pixels that are."""
    for _ in range(CLIP_ROUNDS):
        level = np.median(values)
        spread = 1.4826 * np.median(np.abs(values - level))
        kept = values[np.abs(values - level) <= CLIP * spread]
        if len(kept) == len(values) or len(kept) < LEAST_SKY_PIXELS:
            break
        values = kept
    return np.median(values), np.std(values), len(values)

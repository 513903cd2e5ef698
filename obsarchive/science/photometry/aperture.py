"""Aperture photometry with exact circular apertures, a sigma-clipped local sky and its error propagated."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numba import njit

from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray, IntArray
from obsarchive.science.statistics import MAD_TO_SIGMA

CLIP = 3.0
CLIP_ROUNDS = 5
LEAST_SKY_PIXELS = 20
CHUNK = 1000
"""Sky annulus: clipping limit [standard deviations], number of clippings, least number of pixels, and number of
stars measured at a time."""


class Flag(IntFlag):
    """Quality flags of a measurement."""

    SATURATED = 1
    """A pixel of the first aperture is saturated."""
    BAD_PIXEL = 2
    """A pixel of the first aperture is bad; its flux is missing."""
    EDGE = 4
    """The first aperture reaches beyond the image: there is no flux."""
    POOR_SKY = 8
    """Too few good pixels for the sky around the star: there is no flux."""
    BAD_FRAME = 16
    """The whole frame is rejected."""
    PSF_FIT = 32
    """Information only: the flux is that of a PSF fit, not of the aperture."""


SATURATED, BAD_PIXEL, EDGE, POOR_SKY = (int(flag) for flag in list(Flag)[:4])


@dataclass(frozen=True)
class Apertures:
    """Fluxes of n stars in circular apertures of k radii.

    Parameters
    ----------
    flux, flux_error : ndarray (n, k)
        Sky-subtracted flux and its standard error [unit of the image]; NaN where there is none, or where a radius other
        than the first encloses a bad pixel.
    sky, sky_error : ndarray (n,)
        Sky level and its standard error [unit of the image per pixel].
    flags : ndarray (n,)
        Sum of `Flag`.
    """

    flux: Float64Array
    flux_error: Float64Array
    sky: Float64Array
    sky_error: Float64Array
    flags: IntArray


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
    The error adds the noise of the pixels and that of the sky level, times the area (Howell 1989, PASP 101, 616).

    Parameters
    ----------
    image : ndarray (ny, nx)
        Calibrated image; NaN marks bad pixels.
    variance : ndarray (ny, nx)
        Variance of each pixel [unit of the image squared].
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

    Raises
    ------
    ValueError
        Image and variance differ in shape, or the annulus is empty.
    """
    inner, outer = annulus_px
    if image.shape != variance.shape or image.ndim != 2:
        raise ValueError(f"image {image.shape} and variance {variance.shape} must be the same plane")
    if not 0 <= inner < outer or not radii_px or min(radii_px) <= 0:
        raise ValueError(f"radii {list(radii_px)} and annulus {annulus_px} must be positive, the annulus not empty")
    image, variance = (np.ascontiguousarray(plane, np.float32) for plane in (image, variance))
    # stars of unknown position are put far outside of the image: compiled code cannot convert NaN to a pixel
    centres, radii = np.nan_to_num(np.array(stars, np.float64), nan=-1e6), np.asarray(radii_px, np.float64)
    sums, flags = _sums_of_all(image, variance, centres, radii, float(saturation))
    sky, sky_error, poor = _skies(image, centres, (float(inner), float(outer)))
    # EDGE alone explains the missing flux
    flags[poor & (flags & EDGE == 0)] |= POOR_SKY
    areas = math.pi * radii**2
    flux = sums[0] - sky[:, np.newaxis] * areas
    error = np.sqrt(sums[1] + (sky_error[:, np.newaxis] * areas) ** 2)
    return Apertures(flux, error, sky, sky_error, flags)


def _skies(
    image: FloatArray, centres: Float64Array, annulus: tuple[float, float]
) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Return the sky level around each star, its error, and where there are too few pixels for it."""
    n = centres.shape[1]
    level, error, poor = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, bool)
    side = 2 * int(annulus[1]) + 3
    room = min(side * side, int(math.pi * ((annulus[1] + 1) ** 2 - max(annulus[0] - 1, 0) ** 2)) + side)
    # one buffer for all chunks: the annuli of all stars at once would take too much memory
    around = np.empty((min(CHUNK, n), room), np.float32)
    for start in range(0, n, CHUNK):
        some = slice(start, min(start + CHUNK, n))
        rows = around[: some.stop - start]
        count = _gather(image, centres[:, some], annulus, rows)
        rows.sort(axis=1)  # numpy sorts faster than what numba would compile
        level[some], error[some] = _clipped(rows, count)
        poor[some] = count < LEAST_SKY_PIXELS
    return level, error, poor


@njit(cache=True)
def _sums_of_all(image, variance, stars, radii, saturation):  # type: ignore[no-untyped-def]
    """Flux and variance in each circle (2, n, k), NaN for those that the edge cuts, and flags of the first."""
    n, k = stars.shape[1], len(radii)
    sums, flags = np.full((2, n, k), np.nan), np.zeros(n, np.int64)
    for i in range(n):
        y, x = stars[0, i], stars[1, i]
        if not _is_inside(y, x, radii[0], image.shape):
            flags[i] = EDGE
            continue
        sums[:, i], flags[i] = _sums(image, variance, (y, x), radii, saturation)
        for j in range(1, k):
            if not _is_inside(y, x, radii[j], image.shape):
                sums[:, i, j] = np.nan
    return sums, flags


@njit(cache=True)
def _is_inside(y, x, radius, shape):  # type: ignore[no-untyped-def]
    low = min(y, x) - radius
    return low >= -0.5 and y + radius <= shape[0] - 0.5 and x + radius <= shape[1] - 0.5


@njit(cache=True)
def _sums(image, variance, centre, radii, saturation):  # type: ignore[no-untyped-def]
    """Flux and variance in each circle, and flags of the first; a bad pixel makes the others NaN."""
    sums, flags, largest = np.zeros((2, len(radii))), 0, radii.max()
    height, width = image.shape
    for row in range(max(int(centre[0] - largest), 0), min(int(centre[0] + largest) + 2, height)):
        for column in range(max(int(centre[1] - largest), 0), min(int(centre[1] + largest) + 2, width)):
            dy, dx = row - centre[0], column - centre[1]
            near = max(abs(dy) - 0.5, 0.0) ** 2 + max(abs(dx) - 0.5, 0.0) ** 2
            value = image[row, column]
            for j in range(len(radii)):
                # most pixels of the square of the largest radius lie outside of the others
                part = overlap(dy, dx, radii[j]) if near < radii[j] * radii[j] else 0.0
                if part == 0.0:
                    continue
                # the first aperture has a flag for it; the others have none, so their flux is NaN
                if not math.isfinite(value):
                    if j == 0:
                        flags |= BAD_PIXEL
                    else:
                        sums[0, j] = np.nan
                    continue
                if value >= saturation and j == 0:
                    flags |= SATURATED
                sums[0, j] += part * value
                # variance of a weighted sum: the weights are squared
                sums[1, j] += part * part * variance[row, column]
    return sums, flags


@njit(cache=True)
def overlap(dy, dx, radius):  # type: ignore[no-untyped-def]
    """Area that a circle around the origin shares with the unit pixel around (dy, dx)."""
    far_y, far_x = abs(dy) + 0.5, abs(dx) + 0.5
    # most pixels lie wholly inside or outside: they need no integral
    if far_y * far_y + far_x * far_x <= radius * radius:
        return 1.0
    near_y, near_x = max(abs(dy) - 0.5, 0.0), max(abs(dx) - 0.5, 0.0)
    if near_y * near_y + near_x * near_x >= radius * radius:
        return 0.0
    low_y, high_y, low_x, high_x = dy - 0.5, dy + 0.5, dx - 0.5, dx + 0.5
    # area of the rectangle by inclusion and exclusion of its corners
    corners = _corner(high_y, high_x, radius) - _corner(low_y, high_x, radius)
    return corners - _corner(high_y, low_x, radius) + _corner(low_y, low_x, radius)


@njit(cache=True)
def _corner(b, a, radius):  # type: ignore[no-untyped-def]
    """Signed area of the circle between the axes and the lines at a and b."""
    sign = 1.0 if (a >= 0) == (b >= 0) else -1.0
    a, b = min(abs(a), radius), min(abs(b), radius)
    if a * a + b * b <= radius * radius:
        return sign * a * b
    # the horizontal line meets the circle at x = bend; beyond it the arc bounds the area
    bend = math.sqrt(radius * radius - b * b)
    return sign * (b * bend + _under_arc(a, radius) - _under_arc(bend, radius))


@njit(cache=True)
def _under_arc(x, radius):  # type: ignore[no-untyped-def]
    """Integral of sqrt(r^2 - x^2) from 0 to x."""
    return 0.5 * (x * math.sqrt(max(radius * radius - x * x, 0.0)) + radius * radius * math.asin(min(x / radius, 1.0)))


@njit(cache=True)
def _gather(image, stars, annulus, around):  # type: ignore[no-untyped-def]
    """Collect the good pixels of each annulus, the rest of its row is infinite; returns their numbers."""
    counts = np.zeros(stars.shape[1], np.int64)
    inner, outer = annulus
    for i in range(len(counts)):
        y, x = stars[0, i], stars[1, i]
        count = 0
        for row in range(max(math.ceil(y - outer), 0), min(math.floor(y + outer) + 1, image.shape[0])):
            dy2 = (row - y) ** 2
            wide = math.sqrt(max(outer * outer - dy2, 0.0))
            hole = math.sqrt(inner * inner - dy2) if inner * inner > dy2 else -1.0
            for column in range(max(math.ceil(x - wide), 0), min(math.floor(x + wide) + 1, image.shape[1])):
                value = image[row, column]
                if abs(column - x) >= hole and math.isfinite(value):
                    around[i, count] = value
                    count += 1
        # rows are sorted later: infinite values stay at the end
        around[i, count:] = np.inf
        counts[i] = count
    return counts


@njit(cache=True)
def _clipped(rows, counts):  # type: ignore[no-untyped-def]
    """Median of the values within three sigma in sorted rows, and its error; NaN where there are too few.

    Of sorted values, those that remain after clipping are neighbours.
    """
    found, error = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for i in range(len(rows)):
        values, low, high = rows[i], 0, counts[i]
        if high < LEAST_SKY_PIXELS:
            continue
        for _ in range(CLIP_ROUNDS):
            level = _middle(values, low, high)
            # clipping about the median moves two bounds of the sorted row; nothing is copied
            reach = CLIP * MAD_TO_SIGMA * _deviation(values, low, high, level)
            first = low + np.searchsorted(values[low:high], level - reach)
            last = low + np.searchsorted(values[low:high], level + reach, side="right")
            if last - first == high - low or last - first < LEAST_SKY_PIXELS:
                break
            low, high = first, last
        found[i] = _middle(values, low, high)
        # 1.2533: the median of normal values is so much less certain than their mean
        error[i] = 1.2533 * np.std(values[low:high]) / math.sqrt(high - low)
    return found, error


@njit(cache=True)
def _middle(values, low, high):  # type: ignore[no-untyped-def]
    """Median of a range of sorted values."""
    half = low + (high - low) // 2
    return values[half] if (high - low) % 2 else 0.5 * (values[half - 1] + values[half])


@njit(cache=True)
def _deviation(values, low, high, level):  # type: ignore[no-untyped-def]
    """Median absolute deviation of a range of sorted values: the largest deviations are at its ends."""
    below, above = low, high - 1
    for _ in range((high - low) // 2):
        if level - values[below] > values[above] - level:
            below += 1
        else:
            above -= 1
    return max(level - values[below], values[above] - level)

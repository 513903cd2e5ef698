"""Hot pixels and cosmic rays: removed from a single image of stars, and hot ones found in many frames of a sequence."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import minimum_filter, uniform_filter

from obsarchive.science.arrays import BoolArray, Float32Array, FloatArray, IndexArray
from obsarchive.science.pupil import annulus_psf
from obsarchive.science.statistics import median_of_all, noise_of_counts

MAX_PASSES = 16
MAX_SPIKES = 100_000
"""Largest number of spikes in one pass: more mean that the threshold is within the noise."""
SHARPEST, SHARPEST_OF_BLOCKS = 4.0, 7.0
"""Pixels of stars of a FWHM of 1.7 pixels and more are less than so many times as bright as the third-brightest
neighbour, and the fifth-brightest."""
THIRD, FIFTH = 3, 5
FAINT_AROUND_BLOCK = 4
"""Of the eight neighbours, the fifth-brightest and fainter ones."""
_MARGIN = 1.2
"""For noise and for obstructions wider than `_OBSTRUCTION`."""
_OBSTRUCTION = 0.25
_POINTS = 11
"""Along a pixel, for the light in it and for places of a star."""
LEAST_IMAGES = 3
"""Images of which a pixel that stays bright is known not to be hit by cosmic rays."""
HOT_SIGNIFICANCE = 10.0
"""Excess of a hot pixel over the pixels two away, in its own errors."""
LEAST_SPILL = 0.4
"""Light in the eight neighbours over that of the brightest pixel of a star: 0.7 at a FWHM of 1.0 pixels, 2.6 at 1.7."""
LEAST_STEADY = 0.5
"""Share of its mean excess that a hot pixel has in each image."""
MIDDLE, BEYOND = 12, [0, 1, 2, 3, 4, 5, 9, 10, 14, 15, 19, 20, 21, 22, 23, 24]
"""The middle pixel of a box of 5 x 5, and the outermost ones."""


def without_spikes(image: Float32Array, threshold: float, sharpest: float = SHARPEST) -> Float32Array:
    """Return an image without hot pixels and cosmic-ray tracks.

    A pixel above the threshold and above `sharpest` times the third-brightest of its eight neighbours is sharper
    than a star; it is replaced by that neighbour. A track is removed from its ends, pass by pass.

    Parameters
    ----------
    image : ndarray (ny, nx) float32
        Background-subtracted image.
    threshold : float
        Fainter pixels are not replaced [counts/pixel]; single photo-electrons of an EMCCD are spikes, too.
    sharpest : float
        How many times as bright the brightest pixel of a star may be; see `sharpest_star`.

    Returns
    -------
    ndarray (ny, nx) float32
        Cleaned copy; the outermost pixels are unchanged.
    """
    return remove_spikes(image.copy(), threshold, sharpest)


def remove_spikes(
    image: Float32Array, threshold: float, sharpest: float = SHARPEST, sharpest_of_blocks: float = np.inf
) -> Float32Array:
    """Remove spikes in place, see :func:`without_spikes`.

    Parameters
    ----------
    image : ndarray (ny, nx) float32
        Background-subtracted image; changed.
    threshold : float
        Fainter pixels are not replaced [counts/pixel].
    sharpest : float
        As there.
    sharpest_of_blocks : float
        The same with respect to the fifth-brightest neighbour, beyond which what covers 2 x 2 pixels is no star either;
        for thresholds that are far above the noise.

    Returns
    -------
    ndarray (ny, nx) float32
        `image` itself.
    """
    found = np.empty((min(image.size, MAX_SPIKES), 2), np.int32)
    values = np.empty(len(found), image.dtype)
    for _ in range(MAX_PASSES):
        if not _erode_spikes(image, np.array([threshold, sharpest, sharpest_of_blocks], np.float32), found, values):
            break
    return image


def hot_pixels(images: Sequence[FloatArray]) -> BoolArray:
    """Find pixels that are brighter than all around them in every image of a sequence, and so sharp as no star is.

    A pixel's excess, and that of its eight neighbours, are measured above the mean of the sixteen pixels beyond: what
    has no light in its neighbours is no star, even if it lies within one.

    Parameters
    ----------
    images : sequence of k ndarray (ny, nx)
        Frames, or means or medians of subsets of them, on the pixels of the detector; NaN where there is no value.

    Returns
    -------
    ndarray (ny, nx) of bool
        True for hot pixels; none is found in fewer than three images.
    """
    k, shape = len(images), images[0].shape
    is_hot = np.zeros(shape, bool)
    if k >= LEAST_IMAGES:
        # of values that no detector gives, sums overflow
        with np.errstate(over="ignore", invalid="ignore"):
            is_hot[_standing_out(images)] = True
    return is_hot


def _standing_out(images: Sequence[FloatArray]) -> tuple[IndexArray, IndexArray]:
    """Return the places (y, x) of hot pixels."""
    k, shape = len(images), images[0].shape
    mean = sum(images, np.zeros(shape, np.float32)) / np.float32(k)
    known = np.isfinite(mean)
    level = np.float32(median_of_all(mean[known])) if known.any() else np.float32(0)
    light = np.where(known, mean - level, 0)
    nine = 9 * uniform_filter(light, 3)
    beyond = (25 * uniform_filter(light, 5) - nine) / 16
    excess, spill = light - beyond, nine - light - 8 * beyond
    is_bright = (excess > HOT_SIGNIFICANCE * noise_of_counts(excess)) & (spill < LEAST_SPILL * excess)
    if not known.all():
        # beside unknown pixels the light around is not known
        is_bright &= minimum_filter(known, 5)
    y, x = np.nonzero(is_bright)
    if not y.size:
        return y, x
    # reflected at the edges, as by the filter
    padded = [np.pad(image, 2, mode="symmetric") for image in images]
    stays = _stay(np.array([sliding_window_view(image, (5, 5))[y, x] for image in padded]))
    return y[stays], x[stays]


def _stay(boxes: Float32Array) -> BoolArray:
    """Return which middles (m,) of boxes (k, m, 5, 5) stand out in all k images, and from the noise of what is around.

    A pixel of a star is as noisy as its neighbours, the background is not.
    """
    k, m = boxes.shape[:2]
    values = boxes.reshape(k, m, 25).astype(np.float64)
    values = values - values[:, :, BEYOND].mean(axis=2, keepdims=True)
    peaks = values[:, :, MIDDLE]
    noise = np.sqrt(np.delete(values, MIDDLE, axis=2).var(axis=0, ddof=1).mean(axis=1) / k)
    mean = peaks.mean(axis=0)
    stays: BoolArray = (mean > HOT_SIGNIFICANCE * noise) & (peaks.min(axis=0) > LEAST_STEADY * mean)
    return stays


@lru_cache(maxsize=16)
def sharpest_star(core_px: float, rank: int = THIRD) -> float:
    """Return how many times brighter a star's brightest pixel may be than the third- or fifth-brightest around it.

    A star as sharp as the telescope allows is the extreme, at the place in a pixel where most of its light is in that
    one: with pixels as wide as its core it would pass for a hot pixel.

    Parameters
    ----------
    core_px : float
        Half of lambda / D [pixel].
    rank : {THIRD, FIFTH}
        Of the neighbour.

    Returns
    -------
    float
        Factor for `remove_spikes`, at least `SHARPEST` or `SHARPEST_OF_BLOCKS`.
    """
    reach = 5 * _POINTS // 2
    axis = np.arange(-reach, reach + 1) / _POINTS
    light = uniform_filter(annulus_psf(np.hypot(axis[:, np.newaxis], axis) / (2 * core_px), _OBSTRUCTION), _POINTS)
    ratios = []
    for dy, dx in np.ndindex(*2 * [_POINTS // 2 + 1]):
        nine = light[reach % _POINTS + dy :: _POINTS, reach % _POINTS + dx :: _POINTS][1:4, 1:4].ravel()
        ratios.append(nine[4] / np.sort(np.delete(nine, 4))[-rank])
    return max(SHARPEST if rank == THIRD else SHARPEST_OF_BLOCKS, _MARGIN * float(max(ratios)))


@njit(cache=True)
def _erode_spikes(image, limits, found, values):  # type: ignore[no-untyped-def]
    """One pass: all spikes are found before the first one is replaced; returns their number."""
    threshold, sharpest, sharpest_of_blocks = limits
    ny, nx = image.shape
    n_spikes = 0
    for y in range(1, ny - 1):
        # counted first: most rows hold nothing so bright, and counting is compiled to vector instructions
        row, n_bright = image[y], 0
        for x in range(nx):
            n_bright += row[x] > threshold
        for x in range(1, nx - 1 if n_bright else 1):
            if image[y, x] > threshold and n_spikes < len(values):
                # the two brightest neighbours may be of the same track
                third = _third_of_neighbours(image, y, x)
                if image[y, x] > max(sharpest * third, threshold):
                    value = third
                else:
                    # and three of the same block, which is a track without its brightest pixel
                    value = _around_block(image, y, x, image[y, x] / sharpest_of_blocks)
                if value < image[y, x]:
                    found[n_spikes, 0], found[n_spikes, 1] = y, x
                    values[n_spikes] = value
                    n_spikes += 1
    # replaced afterwards, so that the result does not depend on the order of the pixels
    for i in range(n_spikes):
        image[found[i, 0], found[i, 1]] = values[i]
    return n_spikes


@njit(cache=True)
def _third_of_neighbours(image, y, x):  # type: ignore[no-untyped-def]
    """Return the third-brightest of the eight pixels around one; unknown ones count as bright."""
    first = second = third = np.float32(-np.inf)
    for v in range(y - 1, y + 2):
        for u in range(x - 1, x + 2):
            value = image[v, u]
            if v == y and u == x:
                continue
            if value > first or np.isnan(value):
                value = np.float32(np.inf) if np.isnan(value) else value
                first, second, third = value, first, second
            elif value > second:
                second, third = value, second
            elif value > third:
                third = value
    return third


@njit(cache=True)
def _around_block(image, y, x, faint):  # type: ignore[no-untyped-def]
    """Return the mean of the faint neighbours of a pixel; infinite unless it is the brightest and no block larger.

    Unknown ones count as bright.
    """
    if not faint > 0:  # blocks are not looked for
        return np.float32(np.inf)
    total, n = np.float32(0), 0
    for v in range(y - 1, y + 2):
        for u in range(x - 1, x + 2):
            if image[v, u] > image[y, x]:
                return np.float32(np.inf)
            if image[v, u] < faint:
                total += image[v, u]
                n += 1
    return total / np.float32(n) if n >= FAINT_AROUND_BLOCK else np.float32(np.inf)

"""Removal of hot pixels and cosmic rays from a single image of stars."""

import numpy as np
from numba import njit

from obsarchive.science.arrays import Float32Array

MAX_PASSES = 16
MAX_SPIKES = 100_000
"""Largest number of spikes in one pass: more mean that the threshold is within the noise."""


def without_spikes(image: Float32Array, threshold: float) -> Float32Array:
    """Return an image without hot pixels and cosmic-ray tracks.

    A pixel above the threshold and above four times the third-brightest of its eight neighbours is sharper
    than a star of FWHM 1.7 pixel; it is replaced by that neighbour. A track is removed from its ends, pass by pass.

    Parameters
    ----------
    image : ndarray (ny, nx) float32
        Background-subtracted image.
    threshold : float
        Fainter pixels are not replaced [counts/pixel]; single photo-electrons of an EMCCD are spikes, too.

    Returns
    -------
    ndarray (ny, nx) float32
        Cleaned copy; the outermost pixels are unchanged.
    """
    return remove_spikes(image.copy(), threshold)


def remove_spikes(image: Float32Array, threshold: float) -> Float32Array:
    """Remove spikes in place, see :func:`without_spikes`.

    Parameters
    ----------
    image : ndarray (ny, nx) float32
        Background-subtracted image; changed.
    threshold : float
        Fainter pixels are not replaced [counts/pixel].

    Returns
    -------
    ndarray (ny, nx) float32
        `image` itself.
    """
    found = np.empty((min(image.size, MAX_SPIKES), 2), np.int32)
    values = np.empty(len(found), image.dtype)
    for _ in range(MAX_PASSES):
        if not _erode_spikes(image, np.float32(threshold), found, values):
            break
    return image


@njit(cache=True)
def _erode_spikes(image, threshold, found, values):  # type: ignore[no-untyped-def]
    """One pass: all spikes are found before the first one is replaced; returns their number."""
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
                if image[y, x] > max(4 * third, threshold):
                    found[n_spikes, 0], found[n_spikes, 1] = y, x
                    values[n_spikes] = third
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

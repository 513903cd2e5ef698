"""Medians of a few images pixel by pixel, and of the surroundings of each pixel, by networks of comparisons.

A sorting network compares the same places in the same order whatever the values are, so that a row of pixels is sorted
with vector instructions; what does not lead to the median is not computed (Batcher 1968, AFIPS 32, 307).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numba import njit

from obsarchive.science.arrays import Float32Array, IntArray

SIDE = 5
"""Side of the square of :func:`median_5x5` [pixel]."""


def median_of(images: Sequence[Float32Array] | Float32Array) -> Float32Array:
    """Compute the median of images pixel by pixel; the same as that of numpy.

    Parameters
    ----------
    images : sequence of n ndarray (ny, nx) float32
        A few images of the same shape.

    Returns
    -------
    ndarray (ny, nx) float32
        Medians, of an even number of values the mean of the two in the middle; NaN where one of the values is NaN.
    """
    n = len(images)
    out = np.empty(images[0].shape, np.float32)
    rows = np.empty((n, out.shape[1]), np.float32)
    pairs = network(n, ((n - 1) // 2, n // 2))
    for y, target in enumerate(out):
        for row, image in zip(rows, images, strict=True):
            row[:] = image[y]
        _middle(rows, pairs, target)
    return out


def median_5x5(image: Float32Array) -> Float32Array:
    """Compute the median of the square of 5 by 5 pixels around each pixel.

    Parameters
    ----------
    image : ndarray (ny, nx) float32
        Image without NaN; it is reflected at its borders.

    Returns
    -------
    ndarray (ny, nx) float32
        Medians, the same as those of ``scipy.ndimage.median_filter``.
    """
    padded = np.pad(np.asarray(image, np.float32), SIDE // 2, mode="symmetric")
    out = np.empty(image.shape, np.float32)
    _filter(padded, network(SIDE**2, (SIDE**2 // 2,)), out)
    return out


@lru_cache(maxsize=32)
def network(n: int, wanted: tuple[int, ...]) -> IntArray:
    """Return the comparisons that put the values of these ranks into their places.

    Parameters
    ----------
    n : int
        Number of values.
    wanted : tuple of int
        Ranks, from 0.

    Returns
    -------
    ndarray (m, 2)
        Places of which the lower value comes to the first, the higher to the second.
    """
    pairs = [
        (low, low + step)
        for block in (1 << power for power in range((n - 1).bit_length()))
        for step in (block >> power for power in range(block.bit_length()))
        for begin in range(step % block, n - step, 2 * step)
        for low in range(begin, min(begin + step, n - step))
        if low // (2 * block) == (low + step) // (2 * block)
    ]
    needed, useful = set(wanted), []
    for low, high in reversed(pairs):
        if low in needed or high in needed:
            needed |= {low, high}
            useful.append((low, high))
    return np.array(useful[::-1], np.int64).reshape(-1, 2)


@njit(cache=True)
def _sort(rows, pairs):  # type: ignore[no-untyped-def]
    """Exchange values between rows, column by column."""
    for k in range(len(pairs)):
        low, high = rows[pairs[k, 0]], rows[pairs[k, 1]]
        for x in range(rows.shape[1]):
            a, b = low[x], high[x]
            is_wrong = b < a
            # no branch, so that it is compiled to vector instructions
            low[x] = b if is_wrong else a
            high[x] = a if is_wrong else b


@njit(cache=True)
def _middle(rows, pairs, out):  # type: ignore[no-untyped-def]
    n, width = rows.shape
    is_unknown = np.zeros(width, np.bool_)
    for i in range(n):
        for x in range(width):
            is_unknown[x] |= rows[i, x] != rows[i, x]
    _sort(rows, pairs)
    for x in range(width):
        middle = (rows[(n - 1) // 2, x] + rows[n // 2, x]) / np.float32(2)
        out[x] = np.float32(np.nan) if is_unknown[x] else middle


@njit(cache=True)
def _filter(padded, pairs, out):  # type: ignore[no-untyped-def]
    ny, nx = out.shape
    around = np.empty((SIDE * SIDE, nx), np.float32)
    for y in range(ny):
        for v in range(SIDE):
            for u in range(SIDE):
                around[v * SIDE + u] = padded[y + v, u : u + nx]
        _sort(around, pairs)
        out[y] = around[SIDE * SIDE // 2]

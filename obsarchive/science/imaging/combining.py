"""Sigma-clipped combination of frames in bands of rows: memory grows with the band, not with the number of frames."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import AnyArray, Float32Array, FloatArray
from obsarchive.science.statistics import MAD_TO_SIGMA

Shape = tuple[int, int]
ReadRows = Callable[[int, int], AnyArray]  # (y0, y1) -> (n, y1 - y0, nx), rows y0:y1 of every frame

BLOCK_BYTES = 8 * 2**20  # a band of all frames that the processor cache about holds


@dataclass(frozen=True)
class Clip:
    """Sigma clipping of the values of one pixel.

    The rule is ``|value - mean| > sigma * standard deviation``, applied ``max_iterations`` times. Where an
    outlier stands out so far that it may hide itself or others (among 10 frames none can exceed 2.85 sigma
    of a spread to which it contributes) the clipping starts from the median instead: values beyond twice
    ``sigma`` times the scaled median absolute deviation are rejected first. After that start one iteration is enough;
    more of them truncate the tails of good noise.
    """

    sigma: float = 3.0
    max_iterations: int = 1


@dataclass(frozen=True)
class Master:
    """A combined frame.

    Attributes
    ----------
    image : ndarray (ny, nx) float32
        Clipped mean; NaN where no frame has a finite value.
    noise : ndarray (ny, nx) float32
        Standard deviation of a *single* frame about the mean, same unit; the error of the master is
        ``noise / sqrt(n_frames)``.
    used_fraction : float
        Share of all values that survived the clipping, 0 to 1.
    n_frames : int
        Number of frames combined.
    level : float
        Median of every other row and column of ``image``.
    """

    image: Float32Array
    noise: Float32Array
    used_fraction: float
    n_frames: int
    level: float


def combine(
    read_rows: ReadRows,
    n_frames: int,
    shape: Shape,
    *,
    clip: Clip | None = None,
    scale: FloatArray | None = None,
    offset: FloatArray | None = None,
) -> Master:
    """Compute the sigma-clipped mean of many frames.

    Parameters
    ----------
    read_rows : callable
        ``read_rows(y0, y1)`` returns rows ``y0:y1`` of every frame, shape (n_frames, y1 - y0, nx), any
        integer or floating type; NaN is ignored.
    n_frames : int
        Number of frames.
    shape : (ny, nx)
        Shape of a frame [pixel].
    clip : Clip, optional
        Criterion of outliers.
    scale : ndarray (n_frames,), optional
        Factor of each frame, applied after ``offset``; a frame with scale NaN is left out.
    offset : ndarray (ny, nx), optional
        Subtracted from every frame [unit of the frames].

    Returns
    -------
    Master
        Mean and noise (ny, nx) [unit of the scaled frames].

    Raises
    ------
    Unprocessable
        There is no frame, or ``read_rows`` returns rows of another shape.
    """
    if n_frames < 1:
        raise Unprocessable("no frames to combine")
    clip = clip or Clip()
    ny, nx = shape
    factor = np.ones(n_frames, np.float32) if scale is None else np.asarray(scale, np.float32)
    image, noise = np.empty(shape, np.float32), np.empty(shape, np.float32)
    n_rows = max(1, int(BLOCK_BYTES / (n_frames * nx * 4)))
    n_used = 0
    for y0 in range(0, ny, n_rows):
        band = slice(y0, min(y0 + n_rows, ny))
        block = read_rows(band.start, band.stop)
        # numba reads native byte order only; contiguous rows let it use vector instructions
        block = np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("="))
        expected = (n_frames, band.stop - band.start, nx)
        if block.shape != expected:
            raise Unprocessable(f"frames of one set differ: expected rows of shape {expected}, got {block.shape}")
        zero = np.zeros(expected[1:], np.float32)
        dark = zero if offset is None else np.ascontiguousarray(offset[band], np.float32)
        n_used += _combine_band(block, dark, factor, (clip.sigma, clip.max_iterations), (image[band], noise[band]))
    return Master(image, noise, n_used / (n_frames * ny * nx), n_frames, float(np.nanmedian(image[::2, ::2])))


@njit(cache=True)
def _combine_band(block, offset, scale, clip, results):  # type: ignore[no-untyped-def]
    """Clipped mean and scatter of each pixel of block (n, ny, nx); returns the number of values used."""
    n, ny, nx = block.shape
    image, noise = results
    # two equal outliers among n stand sqrt(n / 2 - 1) standard deviations out, however large they are
    suspicious = min(clip[0] + 1.0, 0.9 * np.sqrt(max(n / 2.0 - 1.0, 0.0)))
    pivot, total, squares, low, high = [np.empty(nx, np.float32) for _ in range(5)]
    values = np.empty(n)
    n_used = 0
    for y in range(ny):
        # first pass: sums of a whole row tell which pixels may have an outlier; only these are clipped one by one
        _sums_of_row(block, offset, scale, y, (pivot, total, squares, low, high))
        for x in range(nx):
            shift = total[x] / n
            mean = pivot[x] + shift
            std = np.sqrt(max(squares[x] / n - shift * shift, 0.0))
            extreme = max(high[x] - shift, shift - low[x])
            used = n
            # NaN fails the comparison, too, and is sorted out below
            if not extreme <= min(clip[0], suspicious) * std:
                used = 0
                for i in range(n):
                    value = (block[i, y, x] - offset[y, x]) * scale[i]
                    if np.isfinite(value):
                        values[used] = value
                        used += 1
                if not extreme <= suspicious * std:
                    used = _drop_gross(values, used, 2.0 * clip[0])
                mean, std, used = _clipped_mean(values, used, clip)
            image[y, x] = mean
            noise[y, x] = std
            n_used += used
    return n_used


@njit(cache=True)
def _sums_of_row(block, offset, scale, y, sums):  # type: ignore[no-untyped-def]
    """Value of the first frame, and sum, sum of squares, minimum and maximum of the differences from it.

    Differences keep single precision enough; where the first frame is an outlier, the values are looked at
    again anyway.
    """
    pivot, total, squares, low, high = sums
    for x in range(block.shape[2]):
        pivot[x] = (np.float32(block[0, y, x]) - offset[y, x]) * scale[0]
        total[x] = squares[x] = low[x] = high[x] = 0.0
    for i in range(1, block.shape[0]):
        for x in range(block.shape[2]):
            value = (np.float32(block[i, y, x]) - offset[y, x]) * scale[i] - pivot[x]
            total[x] += value
            squares[x] += value * value
            low[x] = min(low[x], value)
            high[x] = max(high[x], value)


@njit(cache=True)
def _drop_gross(values, n, limit):  # type: ignore[no-untyped-def]
    """Keep what lies within ``limit`` robust standard deviations of the median; returns how many."""
    if n < 3:
        return n
    median = np.median(values[:n])
    distance = np.abs(values[:n] - median)
    spread = MAD_TO_SIGMA * np.median(distance)
    if spread == 0.0:  # integer counts with less noise than one count
        ordered = np.sort(values[:n])
        spread = np.std(ordered[1:-1])
    kept = 0
    for i in range(n):
        if distance[i] <= limit * spread:
            values[kept] = values[i]
            kept += 1
    return kept


@njit(cache=True)
def _clipped_mean(values, n, clip):  # type: ignore[no-untyped-def]
    sigma, max_iterations = clip
    mean, std = _mean_and_std(values, n)
    for _ in range(max_iterations):
        kept = 0
        for i in range(n):
            if abs(values[i] - mean) <= sigma * std:
                values[kept] = values[i]
                kept += 1
        if kept == n:
            break
        n = kept
        mean, std = _mean_and_std(values, n)
    return mean, std, n


@njit(cache=True)
def _mean_and_std(values, n):  # type: ignore[no-untyped-def]
    if n == 0:
        return np.nan, np.nan
    total, squares = 0.0, 0.0
    for i in range(n):
        total += values[i]
    mean = total / n
    for i in range(n):
        squares += (values[i] - mean) ** 2
    return mean, np.sqrt(squares / n)

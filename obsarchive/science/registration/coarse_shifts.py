"""Shifts of whole frames against each other, of telescopes that moved between exposures."""

from collections.abc import Sequence

import numpy as np
import sep
from scipy import fft

from obsarchive.science.arrays import Float32Array, Float64Array
from obsarchive.science.imaging.resampling import without_sharp_pixels
from obsarchive.science.statistics import median_of_all, noise_of_counts

BACKGROUND_CELLS = 16


def coarse_shifts(frames: Sequence[Float32Array], cell_px: int = 2) -> Float64Array:
    """Compute the shifts of whole frames against the first, for telescopes that moved between exposures.

    Frames are binned, background-subtracted and compressed logarithmically, so that the whole field determines the
    shift and not its brightest star or a cosmic ray; then they are cross-correlated without wrapping around.

    Parameters
    ----------
    frames : sequence of ndarray (ny, nx)
        Calibrated counts.
    cell_px : int
        Binning [pixel].

    Returns
    -------
    ndarray (n, 2)
        (dy, dx) that moves each frame onto the first, accurate to about `cell_px` [pixel].
    """
    fields = [_field(frame, cell_px) for frame in frames]
    ny, nx = fields[0].shape
    # zero padding to twice the size: a shift must not wrap around the border
    padded = fft.next_fast_len(2 * ny), fft.next_fast_len(2 * nx)
    first = np.conj(fft.rfft2(fields[0], padded))
    found = np.zeros((len(fields), 2))
    for i, field in enumerate(fields[1:], start=1):
        correlation = fft.irfft2(np.conj(fft.rfft2(field, padded) * first), padded)
        y, x = np.unravel_index(np.argmax(correlation), padded)
        found[i] = (_wrapped(int(y), padded[0]), _wrapped(int(x), padded[1]))
    return found * cell_px


def _field(frame: Float32Array, cell_px: int) -> Float32Array:
    """Return the binned, background-subtracted frame in units of its noise, bright sources compressed."""
    finite = np.isfinite(frame)
    level = median_of_all(frame[finite]) if finite.any() else 0.0
    filled = without_sharp_pixels(np.where(finite, frame, level))
    ny, nx = (side // cell_px * cell_px for side in filled.shape)
    binned = filled[:ny, :nx].reshape(ny // cell_px, cell_px, nx // cell_px, cell_px).mean(axis=(1, 3))
    binned = np.ascontiguousarray(binned, np.float32)
    binned -= sep.Background(binned, bw=BACKGROUND_CELLS, bh=BACKGROUND_CELLS).back()
    sigma = noise_of_counts(binned) or 1.0
    # noise is cut away, so that the many empty cells do not correlate; the logarithm compresses bright stars
    significance = np.maximum(binned / sigma - 2, 0)
    return np.log1p(significance).astype(np.float32)


def _wrapped(position: int, n: int) -> int:
    return int(position if position < n / 2 else position - n)

"""Fixed pattern of a detector in frames of a star that moves: it would hold their shifts at zero."""

from collections.abc import Iterable

import numpy as np
from scipy import fft, ndimage

from obsarchive.science.arrays import Float32Array, Float64Array, FloatArray

SURE_PATTERN = 5.0
"""Power of a pattern, in its own errors, from which it is removed."""
NO_LIGHT = 0.5
"""Spatial frequency beyond which stars have no light [cycle/pixel]."""
LEAST_PERIODS = 5
"""Periods in a frame from which rows are looked for: with fewer, a star is not as bright beside an axis as on it."""
BESIDE, ALONG = slice(1, 3), 5
"""Lines of frequencies next to an axis, and number of frequencies along them, over which a star is smooth."""


def fixed_pattern(frames: Iterable[FloatArray], shifts: Float64Array, shape: tuple[int, int]) -> Float32Array | None:
    """Return what is the same in all frames and is no star.

    The frames are the sum of the pattern, of a star that moves, and of noise. The pattern is that of least squares at
    each spatial frequency, given the powers of all three (if nothing moves: Wiener 1949). It is the sum of

    - the noise of a master dark, which is white: stars have no light beyond half a cycle per pixel, and the power of
      the mean there, over what the noise of the frames leaves of it, is that of the pattern;
    - rows and columns, on the axes of the frequencies: the light of a star there is that of the lines beside them.

    Parameters
    ----------
    frames : iterable of ndarray (ny, nx)
        n frames without background.
    shifts : ndarray (n, 2)
        (dy, dx) that moves the star of each frame onto the others; all zero where it is not known [pixel].
    shape : (ny, nx)
        Of the frames.

    Returns
    -------
    ndarray (ny, nx), or None
        None if no pattern stands out.
    """
    (ny, nx), n = shape, len(shifts)
    along_y, along_x = fft.fftfreq(ny), fft.rfftfreq(nx)
    frequency = np.hypot(along_y[:, np.newaxis], along_x)
    at_rest, moved, phase = (np.zeros(frequency.shape, complex) for _ in range(3))
    power = np.zeros(frequency.shape)
    for frame, (dy, dx) in zip(frames, shifts, strict=True):
        spectrum = fft.rfft2(frame)
        turn = np.outer(np.exp(2j * np.pi * dy * along_y), np.exp(2j * np.pi * dx * along_x))
        at_rest += spectrum / n
        moved += spectrum * np.conj(turn) / n
        phase += turn / n
        power += np.abs(spectrum) ** 2 / n
    left = np.abs(at_rest) ** 2
    noise, pattern = _powers(left, (power - left) / (n - 1), frequency)
    if not pattern.any():
        return None
    held = np.abs(phase) ** 2
    ring = np.rint(frequency * min(shape)).astype(np.intp)
    light = np.abs(moved) ** 2 - noise - pattern * held
    star = np.maximum(np.bincount(ring.ravel(), light.ravel()) / np.bincount(ring.ravel()), 0)[ring]
    sure = star / (star + noise)
    found = pattern * (at_rest - sure * phase * moved) / (noise + pattern * (1 - sure * held))
    return np.asarray(fft.irfft2(found, shape), np.float32)


def _powers(left: Float64Array, noise: Float64Array, frequency: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return the powers of noise and pattern in the mean of the frames, at each frequency.

    Given are that of the mean, and what the noise leaves of it by the differences of the frames.
    """
    beyond = frequency > NO_LIGHT
    usual, white = float(np.mean(left[beyond])), float(np.mean(noise[beyond]))
    is_sure = usual - white > SURE_PATTERN * usual / np.sqrt(beyond.sum())
    of_noise, pattern = np.full(left.shape, white), np.full(left.shape, usual - white if is_sure else 0.0)
    for axis in (0, 1):
        # line 0 is that of the axis
        lines, noises, along = (np.moveaxis(values, axis, 0) for values in (left, noise, frequency))
        # rows that differ from frame to frame are a noise of their own, and no pattern
        here = float(np.mean(noises[0]))
        beside = ndimage.uniform_filter1d(lines[BESIDE].mean(axis=0), ALONG, mode="nearest")
        expected = np.maximum(np.maximum(beside, here), np.finfo(float).tiny)
        over = (lines[0] / expected)[along[0] > (LEAST_PERIODS - 0.5) * along[0, 1]]
        # of a real transform all frequencies along y, but not those along x, are there twice
        if np.mean(over) - 1 > SURE_PATTERN / np.sqrt(over.size / (1 + axis)):
            np.moveaxis(of_noise, axis, 0)[0] = here
            np.moveaxis(pattern, axis, 0)[0] += np.maximum(lines[0] - expected, 0)
    return of_noise, pattern

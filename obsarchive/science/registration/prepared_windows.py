"""Windows of frames as registration needs them: without background, cosmic rays and what all share of a dark."""

from typing import Protocol

import numpy as np
from scipy import fft

from obsarchive.science.arrays import Complex64Array, Float32Array, Float64Array, FloatArray, IndexArray
from obsarchive.science.registration.fixed_pattern import fixed_pattern
from obsarchive.science.statistics import median_of_all, noise_of_counts


class Windows(Protocol):
    """Windows of frames: an array of them (n, ny, nx), or what reads one after the other."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number and sides (n, ny, nx) of the windows."""

    def __getitem__(self, i: int, /) -> Float32Array:
        """Return window `i` (ny, nx)."""


class ChosenWindows:
    """Some of the windows of a sequence, in the same order.

    Parameters
    ----------
    windows : Windows (n, ny, nx)
        All of them.
    chosen : ndarray (m,) of int
        Numbers of those that are taken.
    """

    def __init__(self, windows: Windows, chosen: IndexArray) -> None:
        self.shape = len(chosen), *windows.shape[1:]
        self._windows, self._chosen = windows, chosen.tolist()

    def __getitem__(self, k: int, /) -> Float32Array:
        """Return window `k` of those chosen (ny, nx)."""
        return self._windows[self._chosen[k]]


class Prepared:
    """Windows without background and cosmic rays, made one by one when they are asked for.

    Parameters
    ----------
    windows : Windows (n, ny, nx)
        Calibrated counts; pixels that are not finite count as background.

    Attributes
    ----------
    shape : (n, ny, nx)
        Of the windows.
    noise : ndarray (n,)
        Noise of a pixel in each.
    """

    def __init__(self, windows: Windows) -> None:
        n, ny, nx = windows.shape
        self.shape = n, ny, nx
        self._windows = windows
        self._levels, self.noise, highest = np.zeros(n, np.float32), np.zeros(n), np.zeros(n, np.float32)
        self._is_whole = np.zeros(n, bool)
        for i in range(n):
            window = np.asarray(windows[i], np.float32)
            finite = np.isfinite(window)
            is_whole = self._is_whole[i] = bool(finite.all())
            if is_whole or finite.any():
                # the rim is background, as the star or scene is in the middle
                edge = np.concatenate([window[:4].ravel(), window[-4:].ravel(), window[:, :4].ravel()])
                edge = edge[np.isfinite(edge)]
                known = window.ravel() if is_whole else window[finite]
                self._levels[i] = median_of_all(edge if edge.size else known)
                known = known - self._levels[i]
                self.noise[i] = noise_of_counts(known)
                highest[i] = known.max() if is_whole else max(known.max(), 0)
        # cosmic rays are clipped: they would dominate the correlation of a faint star
        cap = 2 * median_of_all(highest)
        self._cap = np.float32(cap if cap > 0 else np.inf)
        self._pattern = np.zeros((ny, nx), np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def frame(self, i: int) -> Float32Array:
        """Return window `i` (ny, nx) above its background."""
        frame = self._with_pattern(i)
        frame -= self._pattern
        return frame

    def _with_pattern(self, i: int) -> Float32Array:
        frame: Float32Array = np.asarray(self._windows[i], np.float32) - self._levels[i]
        if not self._is_whole[i]:
            frame[~np.isfinite(frame)] = 0
        np.minimum(frame, self._cap, out=frame)
        return frame

    def remove_pattern(self, shifts: Float64Array | None = None) -> bool:
        """Take what is the same in all windows, and is no star, from each: it would hold their shifts at zero.

        Parameters
        ----------
        shifts : ndarray (n, 2), optional
            (dy, dx) that moves the star of each window onto the others [pixel]; zero by default.

        Returns
        -------
        bool
            Whether there is a pattern.
        """
        n = len(self)
        frames, moves = map(self._with_pattern, range(n)), np.zeros((n, 2)) if shifts is None else shifts
        found = fixed_pattern(frames, moves, self.shape[1:])
        if found is None:
            return False
        self._pattern = found
        return True

    def spectra(self, factor: FloatArray) -> Complex64Array:
        """Return the spectra (n, ny, nx / 2 + 1) of the windows with tapered edges, each times a factor."""
        _, ny, nx = self.shape
        edges = taper(ny, nx)
        spectra = np.empty((len(self), ny, nx // 2 + 1), np.complex64)
        for i, spectrum in enumerate(spectra):
            np.multiply(fft.rfft2(self.frame(i) * edges), factor, out=spectrum)
        return spectra


def prepared(windows: Windows | Prepared) -> Prepared:
    """Return windows without background and cosmic rays, which are found but once."""
    return windows if isinstance(windows, Prepared) else Prepared(windows)


def taper(ny: int, nx: int) -> Float32Array:
    """Return a window with cosine edges of an eighth of each side, so that opposite edges do not correlate."""
    sides = []
    for n in (ny, nx):
        edge = max(n // 8, 1)
        ramp = np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5
        sides.append(np.sin(np.pi / 2 * np.clip(ramp / edge, 0, 1)) ** 2)
    return np.outer(*sides).astype(np.float32)

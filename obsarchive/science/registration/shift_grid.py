"""Grid of shifts and spatial frequencies of windows of one shape."""

import math

import numpy as np
from scipy import fft

from obsarchive.science.arrays import Complex64Array, Float32Array, Float64Array, FloatArray

STEP_PX = 0.5
"""Step of the grid of shifts [pixel]."""
CENTRE_FREQUENCY, WHITE_FREQUENCY = 0.06, 0.4
"""Spatial frequencies below which a star has its centre, and above which a frame has only noise [cycle/pixel]."""


class ShiftGrid:
    """Grid of shifts and spatial frequencies of windows of one shape."""

    def __init__(self, shape: tuple[int, int], reach_px: float) -> None:
        self.shape = shape
        half = math.ceil(reach_px / STEP_PX)
        self.steps: Float64Array = np.arange(-half, half + 1) * np.float64(STEP_PX)
        self.cells = len(self.steps), len(self.steps)
        ky, kx = fft.fftfreq(shape[0]), fft.rfftfreq(shape[1])
        self._ky, self._kx = ky[:, np.newaxis], kx[np.newaxis, :]
        self._along_y = np.exp(-2j * np.pi * np.outer(ky, self.steps)).astype(np.complex64)
        self._along_x = np.exp(-2j * np.pi * np.outer(self.steps, kx)).astype(np.complex64)
        # all but the first and, of even sides, the last column of a real transform stand for two
        twice = np.full(len(kx), 2.0, np.float32)
        twice[0] = 1.0
        if shape[1] % 2 == 0:
            twice[-1] = 1.0
        self._twice = np.broadcast_to(twice, (len(ky), len(kx)))
        # sums over the frequencies along y, and real parts of those along x as products of real numbers
        self._sum_along_y = np.ascontiguousarray(self._along_y.T)
        along_x = self._along_x.T * (twice / math.prod(shape))[:, np.newaxis]
        self._sum_along_x = np.stack([along_x.real, -along_x.imag], axis=1).reshape(-1, len(self.steps))
        radius = np.hypot(self._ky, self._kx)
        self.ring = np.minimum((radius * min(shape)).astype(np.intp), min(shape) // 2)
        self.modes = np.maximum(np.bincount(self.ring.ravel(), self._twice.ravel()), 1)
        self.is_white = np.arange(len(self.modes)) > WHITE_FREQUENCY * min(shape)
        # of small windows no other frequency is as low
        self._low = self._twice * (radius < max(CENTRE_FREQUENCY, 1.01 / min(shape)))

    def ring_mean(self, values: FloatArray) -> Float64Array:
        """Average over the modes of each ring of spatial frequencies."""
        mean: Float64Array = (
            np.bincount(self.ring.ravel(), (values * self._twice).ravel(), len(self.modes)) / self.modes
        )
        return mean

    def phases(self, place: tuple[float, float]) -> Complex64Array:
        """Spectrum of a point (y, x)."""
        turn: Complex64Array = np.exp(-2j * np.pi * (self._ky * place[0] + self._kx * place[1])).astype(np.complex64)
        return turn

    def centre(self, spectrum: Complex64Array) -> tuple[float, float]:
        """Measure the centre (y, x) of an image near its middle by the phases of its low frequencies [pixel]."""
        middle = self.shape[0] // 2, self.shape[1] // 2
        angle = np.angle(spectrum * np.conj(self.phases(middle)))
        weight = np.abs(spectrum) ** 2 * self._low
        offset = (-np.sum(weight * angle * k) / np.sum(weight * k**2) / (2 * np.pi) for k in (self._ky, self._kx))
        y, x = (place + float(step) for place, step in zip(middle, offset, strict=True))
        return y, x

    def moved(self, posterior: FloatArray) -> Complex64Array:
        """Factor by which the spectrum of a frame becomes that of its mean over the posterior of its shift."""
        factor: Complex64Array = self._along_y @ posterior.astype(np.complex64) @ self._along_x
        return factor

    def moved_to(self, shift: Float64Array, error: float) -> Complex64Array:
        """Factor of a shift (dy, dx) that is known with an error along an axis [pixel]."""
        spread = -2 * (np.pi * error) ** 2
        along_y = np.exp(spread * self._ky**2 - 2j * np.pi * shift[0] * self._ky).astype(np.complex64)
        along_x = np.exp(spread * self._kx**2 - 2j * np.pi * shift[1] * self._kx).astype(np.complex64)
        factor: Complex64Array = along_y * along_x
        return factor

    def gradient(self, image: FloatArray) -> Float32Array:
        """Return the slopes (2, ny, nx) of an image along y and x [1/pixel]."""
        spectrum = 2j * np.pi * fft.rfft2(image)
        slopes: Float32Array = fft.irfft2(np.stack([self._ky * spectrum, self._kx * spectrum]), self.shape)
        return slopes

    def correlation(self, spectrum: Complex64Array) -> Float32Array:
        """Correlation of two images at the shifts of the grid.

        The spectrum is the product of the conjugate one of the first image with that of the second.
        """
        correlation: Float32Array = (self._sum_along_y @ spectrum).view(np.float32) @ self._sum_along_x
        return correlation

"""Fourier grid on which point spread functions are computed, shifted and sampled."""

from typing import Self

import numpy as np
from scipy import fft

from obsarchive.science.arrays import Complex64Array, Float32Array, Float64Array


class Stamp:
    """Fourier grid on which a PSF is computed, shifted and sampled.

    Parameters
    ----------
    pixel_arcsec : float
        Plate scale of the detector [arcsec/pixel].
    size : int
        Width [pixel], even.
    oversampling : int
        Grid points per detector pixel.
    """

    def __init__(self, pixel_arcsec: float, size: int, oversampling: int = 1) -> None:
        self.pixel_arcsec = pixel_arcsec
        self.size = size
        self.oversampling = oversampling
        self.points = self.size * oversampling
        self._fy: Float64Array = fft.fftfreq(self.points, 1 / oversampling)[:, None]  # [cycles/pixel]
        self._fx: Float64Array = fft.rfftfreq(self.points, 1 / oversampling)[None, :]

    @classmethod
    def covering(cls, extent_arcsec: float, pixel_arcsec: float, oversampling: int = 1) -> Self:
        """Return the smallest stamp of at least 64 pixels that covers an extent and is fast to transform.

        Parameters
        ----------
        extent_arcsec : float
            Least width [arcsec].
        pixel_arcsec : float
            Plate scale of the detector [arcsec/pixel].
        oversampling : int
            Grid points per detector pixel.

        Returns
        -------
        Stamp
        """
        half = max(32, int(np.ceil(extent_arcsec / pixel_arcsec / 2)))
        return cls(pixel_arcsec, 2 * fft.next_fast_len(half), oversampling)

    @property
    def frequency(self) -> Float64Array:
        """Spatial frequency of every Fourier sample of the half plane [cycles/arcsec]."""
        return np.hypot(self._fy, self._fx) / self.pixel_arcsec

    def pixel_otf(self, width_px: float = 1.0) -> Float64Array:
        """Return the transfer function of a square pixel, `width_px` detector pixels wide."""
        return np.sinc(self._fy * width_px) * np.sinc(self._fx * width_px)

    def shifted(self, otf: Complex64Array, y: float, x: float) -> Complex64Array:
        """Return the transfer function of a shifted image.

        Parameters
        ----------
        otf : ndarray of complex64
            Transfer function on the half plane of the stamp.
        y, x : float
            Shift up and right [pixel].

        Returns
        -------
        ndarray of complex64
            Same shape.
        """
        ramp_y = np.exp(-2j * np.pi * self._fy * y).astype(np.complex64)
        ramp_x = np.exp(-2j * np.pi * self._fx * x).astype(np.complex64)
        moved: Complex64Array = otf * ramp_y * ramp_x
        return moved

    def render(self, otf: Complex64Array, y: float = 0.0, x: float = 0.0) -> Float32Array:
        """Return the image of a star of unit flux.

        Parameters
        ----------
        otf : ndarray of complex64
            Transfer function on the half plane of the stamp.
        y, x : float
            Position from the pixel ``(size // 2, size // 2)`` [pixel].

        Returns
        -------
        ndarray (size, size) float32
            Share of the flux per detector pixel.
        """
        half = self.size // 2
        image: Float32Array = fft.irfft2(self.shifted(otf, half + y, half + x), s=(self.points, self.points))
        return image[:: self.oversampling, :: self.oversampling] * np.float32(self.oversampling**2)


def resampled_otf(otf: Complex64Array, points: int) -> Complex64Array:
    """Return the transfer function of the same image on another grid.

    Parameters
    ----------
    otf : ndarray of complex64
        Transfer function on a half plane.
    points : int
        Samples per axis of the new grid, even.

    Returns
    -------
    ndarray (points, points // 2 + 1) of complex64
        Cut off, or padded with zeros, at high frequencies.
    """
    half = min(len(otf), points) // 2
    resampled = np.zeros((points, points // 2 + 1), otf.dtype)
    resampled[:half, :half] = otf[:half, :half]
    resampled[-half:, :half] = otf[-half:, :half]
    return resampled

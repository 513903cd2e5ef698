"""Diffraction-limited point spread function (PSF) of a telescope, from its geometry and filter alone.

Every square response on the way to a pixel (native pixel, drizzle drop, output pixel) multiplies the optical transfer
function (OTF) of the pupil by a sinc. One separable cosine transform brings the product to any pixel grid, at any
sub-pixel phase.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import fft
from scipy.optimize import brentq

from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.psf.vanes import lost_to_vanes
from obsarchive.science.pupil import annulus_otf, annulus_psf

ARCSEC_PER_RAD = 180 * 3600 / np.pi

_WAVELENGTHS = 9
"""Samples across the filter; the peak of a 20 % wide filter is then right to 1e-4."""

_FREQUENCIES = 4096
"""Samples of the one-dimensional OTF table."""

_HALO_BETA = 4.765
_PASSED = 0.02
"""OTF of the telescope below which that of the turbulence is unknown."""

_MIN_PERIOD = 160
"""Smallest distance [lambda/D] of the periodic images that sampling the OTF implies."""


@dataclass(frozen=True)
class Optics:
    """A telescope behind a filter.

    Parameters
    ----------
    primary_m, secondary_m : float
        Diameters of the primary mirror and of its central obstruction [m].
    wavelength_nm, width_nm : float
        Effective wavelength and full width of the filter, taken as a box [nm].
    vane_m : float
        Width of each of the four vanes that hold the obstruction, at right angles [m].

    Raises
    ------
    ValueError
        If the obstruction or its vanes do not fit into the pupil or the filter reaches zero wavelength.
    """

    primary_m: float
    secondary_m: float
    wavelength_nm: float
    width_nm: float = 0.0
    vane_m: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.secondary_m < self.primary_m:
            raise ValueError(f"expected 0 <= secondary_m < primary_m, found {self.secondary_m}, {self.primary_m}")
        if not 0 <= self.width_nm < self.wavelength_nm:
            raise ValueError(f"expected 0 <= width_nm < wavelength_nm, found {self.width_nm}, {self.wavelength_nm}")
        if not 0 <= self.vane_m < self.primary_m / 4:
            raise ValueError(f"expected 0 <= vane_m < primary_m / 4, found {self.vane_m}, {self.primary_m}")

    @property
    def obstruction(self) -> float:
        """Diameter of the central obstruction over that of the primary."""
        return self.secondary_m / self.primary_m

    @property
    def lambda_over_d_arcsec(self) -> float:
        """Wavelength over diameter [arcsec]."""
        return self.wavelength_nm * 1e-9 / self.primary_m * ARCSEC_PER_RAD

    @property
    def diffraction_fwhm_mas(self) -> float:
        """FWHM of the monochromatic diffraction pattern of the annular pupil [mas]."""
        half_width: float = brentq(lambda radius: annulus_psf(radius, self.obstruction) - 0.5, 0.1, 1.0)
        return 2e3 * self.lambda_over_d_arcsec * half_width

    def wavelengths_nm(self, n: int = _WAVELENGTHS) -> Float64Array:
        """Return the centres of `n` equal parts of the filter, shape (n,) [nm]."""
        return self.wavelength_nm + self.width_nm * ((np.arange(n) + 0.5) / n - 0.5)


def vaned_otf(frequency: ArrayLike, obstruction: float, vane: float) -> Float64Array:
    """Compute the mean over all directions of the optical transfer function of an annular pupil with four vanes.

    Peak and flux in a circle of the image follow from this mean alone.

    Parameters
    ----------
    frequency : array_like
        Spatial frequency in units of the cut-off D/lambda.
    obstruction : float
        Inner over outer diameter, 0 to 1.
    vane : float
        Width of a vane over the outer diameter.

    Returns
    -------
    ndarray
        OTF, same shape as `frequency`, 1 at frequency zero.
    """
    distance = np.abs(np.asarray(frequency, dtype=float))
    lost, area = lost_to_vanes(obstruction, vane)
    whole = np.pi / 4 * (1 - obstruction**2)
    otf: Float64Array = whole * annulus_otf(distance, obstruction)
    otf = otf - np.interp(distance * (len(lost) - 1), np.arange(len(lost)), lost, right=0.0)
    return otf / (whole - area)


def telescope_otf(frequency: ArrayLike, optics: Optics) -> Float64Array:
    """Compute the OTF of a telescope averaged over its filter.

    Parameters
    ----------
    frequency : array_like
        Spatial frequency [cycles/arcsec].
    optics : Optics
        Telescope and filter.

    Returns
    -------
    ndarray
        OTF, same shape as `frequency`.
    """
    frequency = np.asarray(frequency, dtype=float)
    lambda_over_d = optics.wavelengths_nm() * 1e-9 / optics.primary_m * ARCSEC_PER_RAD
    vane = optics.vane_m / optics.primary_m

    def of_pupil(scaled: Float64Array) -> Float64Array:
        return vaned_otf(scaled, optics.obstruction, vane) if vane else annulus_otf(scaled, optics.obstruction)

    otf: Float64Array = np.mean([of_pupil(frequency * scale) for scale in lambda_over_d], axis=0)
    return otf


def diffraction_limited_psf(
    optics: Optics,
    pixel_arcsec: float,
    size: int,
    response_px: tuple[float, ...] = (1.0,),
    offset_px: tuple[float, float] = (0.0, 0.0),
) -> Float64Array:
    """Compute the diffraction-limited PSF as sampled by a perfect detector.

    Parameters
    ----------
    optics : Optics
        Telescope and filter.
    pixel_arcsec : float
        Plate scale of the result [arcsec/pixel].
    size : int
        Side of the result [pixel].
    response_px : tuple of float
        Widths of the square responses that the image is convolved with, in pixels of the result: ``(1.0,)`` for a plain
        detector, :func:`drizzled_response` for a drizzled stack.
    offset_px : (float, float)
        Position (y, x) of the star relative to the centre of pixel ``(size // 2, size // 2)`` [pixel].

    Returns
    -------
    ndarray (size, size)
        PSF whose flux over the infinite plane is 1; flux outside of the box is missing.

    Raises
    ------
    ValueError
        `size` or `pixel_arcsec` is not positive.
    """
    if size < 1 or pixel_arcsec <= 0:
        raise ValueError(f"expected a positive size and plate scale, found {size} and {pixel_arcsec}")
    # all frequencies in cycles per pixel; the step sets how far away the periodic images stand
    scale_px = optics.lambda_over_d_arcsec / pixel_arcsec
    # the bluest light has the highest frequencies
    cutoff = 1 / scale_px / (1 - optics.width_nm / optics.wavelength_nm / 2)
    step = 1 / max(2 * size, _MIN_PERIOD * scale_px)
    frequency = step * np.arange(int(cutoff / step) + 2)
    table = np.linspace(0, cutoff, _FREQUENCIES)
    otf = np.interp(
        np.hypot(frequency[:, None], frequency), table, telescope_otf(table / pixel_arcsec, optics), right=0.0
    )
    # an even spectrum: one quadrant, each frequency but zero counted for its negative, too
    weight = np.where(frequency > 0, 2.0, 1.0) * step
    for width in response_px:
        weight *= np.sinc(width * frequency)
    y, x = (np.arange(size) - size // 2 - offset for offset in offset_px)
    psf: Float64Array = _cosines(y, frequency, weight) @ otf @ _cosines(x, frequency, weight).T
    return psf


def model_psf(
    optics: Optics, pixel_arcsec: float, size: int, response_px: tuple[float, ...], state: tuple[float, float]
) -> Float64Array:
    """Compute a PSF of adaptive optics: diffraction-limited core on a seeing halo.

    Parameters
    ----------
    optics, pixel_arcsec, size, response_px
        As for :func:`diffraction_limited_psf`.
    state : (float, float)
        Strehl ratio (0-1), and the FWHM of the halo [pixel], a Moffat profile of beta 4.765 (Trujillo et al. 2001,
        MNRAS 328, 977).

    Returns
    -------
    ndarray (size, size)
        PSF of flux 1.
    """
    strehl, fwhm = state
    core = diffraction_limited_psf(optics, pixel_arcsec, size, response_px)
    distance = np.hypot(*np.ogrid[-(size // 2) : size - size // 2, -(size // 2) : size - size // 2])
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / _HALO_BETA) - 1))
    halo = (1 + (distance / alpha) ** 2) ** -_HALO_BETA
    psf: Float64Array = strehl * core / core.sum() + (1 - strehl) * halo / halo.sum()
    return psf


def alternative_turbulence(psf: FloatArray, perfect: FloatArray, strength: float) -> Float64Array:
    """Compute the PSF of a star as it would be in stronger or weaker turbulence.

    The transfer function of turbulence is exp(-D/2) with a structure function D (Fried 1966, J. Opt. Soc. Am. 56,
    1372); D times `strength` raises it to that power, while that of the telescope stays.

    Parameters
    ----------
    psf : ndarray (side, side)
        Star on the central pixel, odd side; negative and unknown pixels count as zero.
    perfect : ndarray (side, side)
        Diffraction-limited PSF of the telescope, on the same pixels.
    strength : float
        Factor on the structure function.

    Returns
    -------
    ndarray (side, side)
        PSF of flux about 1, not negative.
    """
    clean = np.maximum(np.nan_to_num(psf), 0)
    seen = fft.rfft2(fft.ifftshift(clean / max(clean.sum(), np.finfo(float).tiny)))
    telescope = fft.rfft2(fft.ifftshift(perfect / perfect.sum()))
    passed = np.abs(telescope) > _PASSED
    turbulence = np.divide(seen, telescope, out=np.zeros_like(telescope), where=passed)
    # noise may raise the quotient above 1, which a power would amplify
    changed = np.minimum(np.abs(turbulence), 1) ** strength * np.exp(1j * strength * np.angle(turbulence))
    image = fft.irfft2(np.where(passed, telescope * changed, 0), clean.shape)
    shifted: Float64Array = np.maximum(fft.fftshift(image), 0)
    return shifted


def _cosines(position: FloatArray, frequency: FloatArray, weight: Float64Array) -> Float64Array:
    """Return the matrix (n_position, n_frequency) of the inverse transform of an even function."""
    return weight * np.cos(2 * np.pi * position[:, None] * frequency)


def drizzled_response(scale: float = 2.0, pixfrac: float = 0.45) -> tuple[float, float, float]:
    """Return the square responses of a drizzled stack.

    A frame samples the sky through its own pixel, `scale` output pixels wide. Drizzling deposits each sample as a
    square drop, ``pixfrac * scale`` wide, and the output pixel, 1 wide, averages the drops. Over frames whose
    sub-pixel phases are spread evenly the expectation of the stack is the sky convolved with all three
    (Fruchter & Hook 2002, PASP 114, 144).

    Parameters
    ----------
    scale : float
        Output pixels per native pixel along each axis.
    pixfrac : float
        Side of the drop [native pixel].

    Returns
    -------
    (float, float, float)
        Widths [output pixel].
    """
    return (scale, pixfrac * scale, 1.0)


def aperture_weights(shape: tuple[int, int], y: float, x: float, radius_px: float) -> Float64Array:
    """Return the pixel weights of a circular aperture with an edge one pixel soft.

    Parameters
    ----------
    shape : (int, int)
        Shape of the image.
    y, x : float
        Centre [pixel].
    radius_px : float
        Radius [pixel].

    Returns
    -------
    ndarray, shape `shape`
        Weights, 0 to 1.
    """
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.clip(radius_px + 0.5 - np.hypot(rows - y, columns - x), 0, 1)


def strehl_factor(
    optics: Optics, pixel_arcsec: float, aperture_arcsec: float, response_px: tuple[float, ...] = (1.0,)
) -> float:
    """Compute peak over flux of the diffraction-limited PSF, the reference of a Strehl ratio.

    Parameters
    ----------
    optics : Optics
        Telescope and filter.
    pixel_arcsec : float
        Plate scale [arcsec/pixel].
    aperture_arcsec : float
        Radius of the circular aperture in which flux is measured [arcsec].
    response_px : tuple of float
        Square responses, as in :func:`diffraction_limited_psf`.

    Returns
    -------
    float
        Peak pixel of a centred star over its flux in the aperture.
    """
    radius_px = aperture_arcsec / pixel_arcsec
    half = int(np.ceil(radius_px)) + 1
    psf = diffraction_limited_psf(optics, pixel_arcsec, 2 * half + 1, response_px)
    return float(psf[half, half] / np.sum(psf * aperture_weights(psf.shape, half, half, radius_px)))

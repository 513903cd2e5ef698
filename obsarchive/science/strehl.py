"""Strehl ratio and image quality of a star: its peak over that of the telescope's perfect PSF of the same flux.

Both are measured alike: same pixels, same circular aperture, and a peak interpolated between the pixels with nothing
but the spatial frequencies the telescope can pass (Roberts et al. 2004, Proc. SPIE 5490, 504 compare such methods).
Beyond the core the star is described by the median over sectors, so that a companion, a cosmic ray, bad pixels or
the edge of the image do not count.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, least_squares

from obsarchive.errors import Unprocessable
from obsarchive.science.psf import Optics, aperture_weights, perfect_psf

Float = NDArray[np.float64]

APERTURE_ARCSEC = 2.5
"""Radius of the aperture; smaller where the image is."""

_BACKGROUND_ARCSEC = 1.0
"""Width of the annulus around the aperture in which the background is measured."""

_SECTORS = 16
_CORE_FWHM = 3.0
"""Radius of the core, whose pixels count one by one, in units of the diffraction limit."""

_HALO_BETA = 4.765
"""Moffat exponent of an image through Kolmogorov turbulence (Trujillo et al. 2001, MNRAS 328, 977)."""

_DETECTION_SNR = 5.0
_TRUSTED_SNR = 15.0


@dataclass(frozen=True, eq=False)
class StrehlResult:
    """Quality of a star's image.

    Attributes
    ----------
    ratio, ratio_error : float
        Strehl ratio (0-1) and its standard error from background noise and azimuthal scatter.
    fwhm_arcsec : float
        Full width at half of the peak [arcsec].
    core_arcsec, halo_arcsec : float
        FWHM of the two components of the fit: diffraction core and seeing halo [arcsec].
    y, x : float
        Position of the peak in the image [pixel].
    flux : float
        Flux in the aperture above the background [units of the image].
    flag : str
        "OK", or "BAD?" when the ratio should not be trusted.
    reason : str
        Why it should not; empty when it may.
    box : ndarray
        Square cut-out around the star, NaN beyond the image.
    """

    ratio: float
    ratio_error: float
    fwhm_arcsec: float
    core_arcsec: float
    halo_arcsec: float
    y: float
    x: float
    flux: float
    flag: str
    reason: str
    box: NDArray[np.float32]


def measure_strehl(
    image: NDArray[np.floating],
    optics: Optics,
    pixel_arcsec: float,
    response_px: tuple[float, ...] = (1.0,),
    *,
    centre: tuple[float, float] | None = None,
) -> StrehlResult:
    """Measure the Strehl ratio of a star.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image of any linear unit; NaN marks missing pixels.
    optics : Optics
        Telescope and filter.
    pixel_arcsec : float
        Plate scale [arcsec/pixel].
    response_px : tuple of float
        Square responses of the pixels, as in `psf.perfect_psf`: `psf.drizzled_response` for a drizzled stack.
    centre : (float, float), optional
        Approximate position (y, x) of the star, good to the diffraction limit times three [pixel]; the brightest
        star by default.

    Returns
    -------
    StrehlResult
        Ratio, sizes and a flag.

    Raises
    ------
    Unprocessable
        If there is no star to measure: no finite pixel, nothing above the noise, or a star at the very edge.
    ValueError
        If `image` is not two-dimensional.
    """
    if image.ndim != 2:
        raise ValueError(f"expected an image of two dimensions, found shape {image.shape}")
    core_px = _CORE_FWHM * 1e-3 * optics.diffraction_fwhm_mas / pixel_arcsec
    guess = _brightest_star(image, core_px) if centre is None else centre
    row, column = _brightest_pixel(image, guess, core_px)
    aperture_px = _aperture_px(image.shape, pixel_arcsec, core_px)
    star = _Star(image, (row, column), aperture_px, _BACKGROUND_ARCSEC / pixel_arcsec, core_px)
    if not star.peak_snr >= _DETECTION_SNR:
        raise Unprocessable(
            f"expected a star of peak S/N above {_DETECTION_SNR:g} near (y, x) = ({row}, {column}), "
            f"found {star.peak_snr:.1f}"
        )
    peak, dy, dx = _band_limited_peak(star.patch(core_px), optics, pixel_arcsec)
    perfect_peak, perfect_flux = _perfect(optics, pixel_arcsec, response_px, aperture_px, core_px, (dy, dx))
    ratio = peak / star.flux * perfect_flux / perfect_peak
    fit = _fit_core_and_halo(star, pixel_arcsec, optics)
    error = abs(ratio) * float(np.hypot(star.noise / peak, star.flux_error / star.flux))
    reason = "; ".join(_doubts(star, fit, ratio, error, optics))
    return StrehlResult(
        ratio=ratio,
        ratio_error=error,
        fwhm_arcsec=fit.fwhm_arcsec,
        core_arcsec=fit.core_arcsec,
        halo_arcsec=fit.halo_arcsec,
        y=row + dy,
        x=column + dx,
        flux=star.flux,
        flag="BAD?" if reason else "OK",
        reason=reason,
        box=star.box.astype(np.float32),
    )

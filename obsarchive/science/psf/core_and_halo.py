"""Widths of the core and of the halo of a star: a Gaussian on a Moffat profile, fitted together."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, least_squares

from obsarchive.science.arrays import Float64Array
from obsarchive.science.psf.radial_profile import StarProfile

_MOST_HALO_ERROR = 0.5
"""Relative error of the halo's width from which on the star has none."""

_LEAST_HALO = 1e-3
"""Least peak of a halo, in units of that of the core."""

_HALO_BETA = 4.765
"""Moffat exponent of an image through Kolmogorov turbulence (Trujillo et al. 2001, MNRAS 328, 977)."""

_LOG_STEP = 1e-3
"""Of the logarithms of heights and widths."""


@dataclass(frozen=True)
class CoreAndHalo:
    """Widths of a Gaussian core on a Moffat halo.

    Attributes
    ----------
    core, halo, fwhm : float
        FWHM of the components and of their sum [pixel]; the halo is NaN where the star has none.
    core_error, halo_error : float
        Standard errors [pixel].
    core_share : float
        Share of the core in the peak.
    """

    core: float
    halo: float
    fwhm: float
    core_error: float
    halo_error: float
    core_share: float


def fit_core_and_halo(
    star: StarProfile,
    offset: tuple[float, float],
    start: tuple[float, float],
    variance: Float64Array,
    aligned: Callable[[Float64Array], Float64Array] = np.zeros_like,
    aligned_error: float = 0.0,
) -> CoreAndHalo:
    """Fit a Gaussian core and a Moffat halo to a star by least squares.

    Parameters
    ----------
    star : StarProfile
        Star.
    offset : (float, float)
        Position (y, x) of its peak from its brightest pixel [pixel].
    start : (float, float)
        First guess of the FWHM of core and halo [pixel].
    variance : ndarray
        Of the noise of each pixel of the star's box [unit of the image ** 2].
    aligned : callable
        What is not light of the star, by the distance from its peak [pixel].
    aligned_error : float
        Its relative error.

    Returns
    -------
    CoreAndHalo
        Widths and their errors by noise [pixel].
    """
    radius, value, weight, noise, doubts = star.samples(*offset, variance)
    value = value - aligned(radius)
    unit = float(np.max(value))

    def misfit(logs: Float64Array) -> Float64Array:
        return weight * (_core_and_halo(radius, logs) - value / unit)

    def slopes(logs: Float64Array) -> Float64Array:
        return weight[:, np.newaxis] * _slopes_of_core_and_halo(radius, logs)

    # logarithms keep peaks and widths positive without bounds
    first = np.log([0.7, start[0], 0.3, start[1]])
    fit = least_squares(misfit, first, slopes, method="lm", max_nfev=400)
    steps = _LOG_STEP * np.eye(len(first))
    # no star has the shape of the model: what that leaves bends the sum of squares as much as the model does
    ends = [[slopes(fit.x + sign * step).T @ misfit(fit.x + sign * step) for sign in (-1, 1)] for step in steps]
    inverse = np.linalg.pinv(np.diff(ends, axis=1)[:, 0] / (2 * _LOG_STEP))
    scores = fit.jac * (weight * noise / unit)[:, np.newaxis]
    by_level = fit.jac.T @ weight * star.level_error(variance) / unit
    by_lift = fit.jac.T @ (weight * aligned_error * aligned(radius)) / unit
    by_neighbours = doubts @ (weight[:, np.newaxis] * fit.jac) / unit
    # a sum of squares, which rounding does not make negative where a spike leaves widths undetermined
    moves = np.vstack([scores, by_level, by_lift, by_neighbours]) @ inverse.T
    _, core_error, _, halo_error = np.sqrt(np.sum(moves**2, axis=0))
    core_peak, core, halo_peak, halo = np.exp(np.clip(fit.x, -30, 10))
    half_peak = (core_peak + halo_peak) / 2
    half_width = brentq(lambda r: _core_and_halo(np.array([r]), fit.x)[0] - half_peak, 0, core + halo)
    has_halo = halo_error < _MOST_HALO_ERROR and halo_peak > _LEAST_HALO * core_peak
    return CoreAndHalo(
        core=float(core),
        halo=float(halo) if has_halo else np.nan,
        fwhm=2 * float(half_width),
        core_error=float(core * core_error),
        halo_error=float(halo * halo_error) if has_halo else np.nan,
        core_share=float(core_peak / (core_peak + halo_peak)),
    )


def _core_and_halo(radius: Float64Array, logs: Float64Array) -> Float64Array:
    """Return the sum of Gaussian and Moffat of the logarithms of (core peak, core FWHM, halo peak, halo FWHM)."""
    core_peak, core, halo_peak, halo = np.exp(np.clip(logs, -30, 10))
    alpha2 = (halo / 2) ** 2 / (2 ** (1 / _HALO_BETA) - 1)
    gauss: Float64Array = core_peak * np.exp(-4 * np.log(2) * (radius / core) ** 2)
    moffat: Float64Array = halo_peak * (1 + radius**2 / alpha2) ** -_HALO_BETA
    return gauss + moffat


def _slopes_of_core_and_halo(radius: Float64Array, logs: Float64Array) -> Float64Array:
    """Return the derivatives of `_core_and_halo` by its logarithms, shape (n, 4)."""
    core_peak, core, halo_peak, halo = np.exp(np.clip(logs, -30, 10))
    of_core, of_halo = (radius / core) ** 2, 4 * (2 ** (1 / _HALO_BETA) - 1) * (radius / halo) ** 2
    gauss = core_peak * np.exp(-4 * np.log(2) * of_core)
    moffat = halo_peak * (1 + of_halo) ** -_HALO_BETA
    by_widths = 8 * np.log(2) * of_core * gauss, 2 * _HALO_BETA * of_halo / (1 + of_halo) * moffat
    return np.stack([gauss, by_widths[0], moffat, by_widths[1]], axis=1)

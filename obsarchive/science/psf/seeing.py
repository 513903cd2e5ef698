"""Seeing: FWHM of a star without adaptive optics by a Moffat fit, and its trend through a night."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, optimize

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray
from obsarchive.science.registration.guide_star import cut, locate
from obsarchive.science.statistics import MAD_TO_SIGMA

WINDOW_FWHM = 4.0
"""Half the side of the fitted window [FWHM]."""
FITTED_FWHM = 1.3
"""Radius of the fit [FWHM]: no Moffat profile fits both the core and the wings of an image through turbulence."""
BINNED_FWHM_PX = 8.0
"""FWHM to which wide stars are binned: more pixels take time without adding precision [pixel]."""
LEAST_PEAK_SNR = 10.0
BETA_LIMITS = (1.5, 12.0)
"""Exponents of the Moffat profile; 4.765 is Kolmogorov turbulence (Trujillo et al. 2001, MNRAS 328, 977)."""
SPIKE = 8.0
"""Excess of a cosmic ray or hot pixel over the median of its neighbours [noise]."""
MOST_FULL, MOST_EQUAL, FLAT_SHARE = 2, 4, 0.02
"""Saturated pixels of a core that may be hot, and pixels of one height: so many, or this share of the core."""
MOST_ELONGATED = 1.6


@dataclass(frozen=True)
class StarWidth:
    """Moffat fit of a star.

    Attributes
    ----------
    y, x : float
        Position [pixel].
    fwhm_px : float
        FWHM, geometric mean of both axes [pixel].
    error_px : float
        One-sigma error of the FWHM [pixel].
    elongation : float
        Major over minor axis.
    beta : float
        Exponent of the Moffat profile.
    peak, background : float
        Peak above the background, and background [counts].
    """

    y: float
    x: float
    fwhm_px: float
    error_px: float
    elongation: float
    beta: float
    peak: float
    background: float

    def profile(self, radius_px: FloatArray) -> Float64Array:
        """Return the background-subtracted profile at distances from the centre [counts]."""
        return self.peak * _moffat((np.asarray(radius_px, float) / self.fwhm_px) ** 2, self.beta)


def measure_width(image: FloatArray, level: float = np.inf) -> StarWidth:
    """Fit an elliptical Moffat profile (Moffat 1969, A&A 3, 455) to the brightest star of an image.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Counts; pixels that are not finite are left out.
    level : float
        Counts of a saturated pixel; infinite when they are not known.

    Returns
    -------
    StarWidth

    Raises
    ------
    Unprocessable
        There is no star, or it cannot be fitted: too faint, saturated, elongated, at the edge, wider than the window.
    """
    star = locate(image)
    guess = 2.3548 * max(star.scale_px, 1.0)
    refuse_saturated(image, (star.y, star.x), guess, level)
    for _ in range(2):  # window and binning follow the width, so the fit is repeated with the width found
        found = _fitted(image, (star.y, star.x), guess)
        guess = found.fwhm_px
    if found.elongation > MOST_ELONGATED:
        raise Unprocessable(f"the star is elongated by {found.elongation:.2f}: double, trailed or out of focus")
    return found


def refuse_saturated(image: FloatArray, place: tuple[float, float], fwhm_px: float, level: float) -> None:
    """Refuse a star whose top is cut off.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Counts as they were read; pixels that are not finite are left out.
    place : (float, float)
        Position (y, x) of the star [pixel].
    fwhm_px : float
        Its FWHM [pixel].
    level : float
        Counts of a saturated pixel; infinite when they are not known.

    Raises
    ------
    Unprocessable
        Pixels of the core reach the level, or a part of it is of one height.
    """
    half = max(1.5, fwhm_px / 2)
    window, (top, left) = cut(image, *place, int(half) + 2)
    y, x = np.indices(window.shape)
    core = window[(np.hypot(y + top - place[0], x + left - place[1]) < half) & np.isfinite(window)]
    if not core.size:
        return
    full, equal = int(np.count_nonzero(core >= level)), int(np.count_nonzero(core == core.max()))
    if full > MOST_FULL:
        raise Unprocessable(f"the star is saturated: {full} pixels of its core reach {level:.0f} ADU")
    if equal > max(MOST_EQUAL, FLAT_SHARE * core.size):
        raise Unprocessable(
            f"the star is saturated: {equal} pixels of its core have the same, highest value {core.max():.0f} ADU"
        )


def _fitted(image: FloatArray, place: tuple[float, float], guess_px: float) -> StarWidth:
    half = int(np.clip(WINDOW_FWHM * guess_px, 8, max(image.shape)))
    window, (top, left) = cut(image, *place, half)
    binning = max(1, int(guess_px / BINNED_FWHM_PX))
    values = _binned(window, binning)
    known = np.isfinite(values)
    if known.sum() < 50:
        raise Unprocessable("the star lies at the edge, or its pixels are not known")
    y, x = np.indices(values.shape)
    rim = known & _rim(values.shape)
    sky = float(np.median(values[rim])) if rim.any() else 0.0
    smooth = ndimage.median_filter(np.where(known, values - sky, 0.0), size=3)
    noise = _noise(values - sky, smooth, known)
    known &= np.abs(values - sky - smooth) < SPIKE * noise  # cosmic rays and hot pixels
    # the start must not be a noise peak
    smooth = ndimage.gaussian_filter(smooth, 1.0)
    y0, x0 = np.unravel_index(np.argmax(smooth), smooth.shape)
    peak = float(smooth[y0, x0])
    if peak < LEAST_PEAK_SNR * float(noise.min()) / 5:
        raise Unprocessable(f"the star is too faint: {peak:.3g} counts over a noise of {noise.min():.3g}")

    def misfit(p: Float64Array) -> Float64Array:
        model = p[0] * _moffat(_squared(y - p[1], x - p[2], p[3:6]), p[6]) + sky
        residual: Float64Array = ((model - values) / noise)[near]
        return residual

    width = guess_px / binning
    near = known & (np.hypot(y - y0, x - x0) < max(FITTED_FWHM * width, 4))
    if near.sum() < 30:
        raise Unprocessable("the star lies at the edge, or its pixels are not known")
    # the FWHM enters as its logarithm: steps and errors are relative
    start = np.array([peak, y0, x0, np.log(width), 0.0, 0.0, 4.0])
    low = np.array([0, -1, -1, np.log(0.8), -1, -1, BETA_LIMITS[0]])
    high = np.array([np.inf, *values.shape, np.log(2.0 * max(values.shape)), 1, 1, BETA_LIMITS[1]])
    fit = optimize.least_squares(misfit, np.clip(start, low + 1e-6, high - 1e-6), bounds=(low, high), loss="soft_l1")
    fwhm, error = _width(fit, binning)
    if fwhm > 2 * half:
        raise Unprocessable(f"the star is wider than the window: {fwhm:.0f} of {2 * half} pixels")
    # the centre of a binned pixel lies between the centres of its pixels
    offset = (binning - 1) / 2
    return StarWidth(
        y=float(top + binning * fit.x[1] + offset),
        x=float(left + binning * fit.x[2] + offset),
        fwhm_px=fwhm,
        error_px=error,
        elongation=float(np.exp(2 * np.hypot(fit.x[4], fit.x[5]))),
        beta=float(fit.x[6]),
        peak=float(fit.x[0]),
        background=sky,
    )


def _noise(values: FloatArray, smooth: FloatArray, known: BoolArray) -> Float64Array:
    """Return the noise of every pixel: constant background noise, and a variance that grows with the flux."""
    # residuals of the median-filtered image: the star itself cancels
    rough = values - smooth
    faint = known & (smooth < np.percentile(smooth, 50))
    bright = known & (smooth > 0.3 * smooth.max())
    background = _robust(rough[faint]) or 1.0
    light = float(np.median(smooth[bright])) if bright.any() else 0.0
    growth = max(_robust(rough[bright]) ** 2 - background**2, 0.0) / light if light > 0 else 0.0
    noise: Float64Array = np.sqrt(background**2 + growth * np.maximum(smooth, 0))
    return noise


def _robust(values: FloatArray) -> float:
    """Return the standard deviation from the median absolute deviation, of values minus their median of nine."""
    # the median of nine includes the value itself, which lowers the scatter by about a tenth
    return 1.1 * MAD_TO_SIGMA * float(np.median(np.abs(values))) if values.size else 0.0


def _width(fit: optimize.OptimizeResult, binning: int) -> tuple[float, float]:
    """Return the FWHM and its error in pixels of the image, corrected for the width of the binned pixels."""
    covariance = np.linalg.pinv(fit.jac.T @ fit.jac) * max(1.0, 2 * fit.cost / len(fit.fun))
    binned = float(np.exp(fit.x[3]))
    # a square pixel adds side^2 / 12 to the variance of a profile
    widened = 8 * np.log(2) * (1 - 1 / binning**2) / 12
    fwhm = binning * float(np.sqrt(max(binned**2 - widened, 0.25 * binned**2)))
    return fwhm, fwhm * float(np.sqrt(max(covariance[3, 3], 0.0)))


def _squared(dy: Float64Array, dx: Float64Array, shape: Float64Array) -> Float64Array:
    """Return the squared distance in FWHM of an ellipse, from the log mean FWHM and two components of elongation."""
    stretch = np.exp(-2 * shape[0])
    amount = 2 * np.hypot(shape[1], shape[2])
    cosine, sine = np.cosh(amount), np.sinh(amount) / amount if amount > 1e-6 else 1.0  # its limit
    along, across = 2 * shape[1] * sine, 2 * shape[2] * sine
    squared: Float64Array = stretch * ((cosine - along) * dx**2 + (cosine + along) * dy**2 - 2 * across * dx * dy)
    return squared


def _moffat(squared: Float64Array, beta: float) -> Float64Array:
    """Return a Moffat profile of peak 1 at squared distances in units of its FWHM."""
    return (1 + 4 * (2 ** (1 / beta) - 1) * squared) ** -beta


def _binned(image: FloatArray, factor: int) -> Float64Array:
    ny, nx = (side // factor for side in image.shape)
    part = np.asarray(image[: ny * factor, : nx * factor], float)
    means: Float64Array = part.reshape(ny, factor, nx, factor).mean(axis=(1, 3))
    return means


def _rim(shape: tuple[int, ...]) -> BoolArray:
    rim = np.ones(shape, bool)
    depth = max(1, min(shape) // 10)
    rim[depth:-depth, depth:-depth] = False
    return rim


def trend(hours: FloatArray, values: FloatArray, width_h: float = 0.35) -> Float64Array:
    """Compute the robust trend of measurements: at each time the median, weighted by proximity in time.

    Parameters
    ----------
    hours, values : ndarray (n,)
        Times [h] and measurements; values not finite are ignored.
    width_h : float
        Sigma of the Gaussian weights [h].

    Returns
    -------
    ndarray (n,)
        Trend [unit of the values]; NaN if no value is finite.
    """
    known = np.isfinite(values)
    if not known.any():
        return np.full(len(values), np.nan)
    order = np.argsort(values[known])
    ranked, times = values[known][order], hours[known][order]
    weights = np.exp(-0.5 * ((hours[:, np.newaxis] - times) / width_h) ** 2) + 1e-12
    # weighted median: the ranked value at which half of the weight is reached
    share = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
    return np.asarray(ranked[np.argmax(share >= 0.5, axis=1)], float)

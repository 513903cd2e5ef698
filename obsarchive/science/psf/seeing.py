"""Seeing: FWHM of a star without adaptive optics by a Moffat fit."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage, optimize

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray
from obsarchive.science.registration.guide_star import locate
from obsarchive.science.registration.windows import cut
from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_all

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
UNCURVED = np.outer([1, -2, 1], [1, -2, 1]) / 6
"""Difference of two Laplacians: noise passes as it is, slope and curvature of a star do not (Immerkaer 1996, Computer
Vision and Image Understanding 64, 300). On a flank the median of nine pixels is the middle one, whatever its noise."""
MOST_FULL, MOST_EQUAL, FLAT_SHARE = 2, 4, 0.02
"""Saturated pixels of a core that may be hot, and pixels of one height: so many, or this share of the core."""
MOST_ELONGATED = 1.6
MOST_DOUBTFUL = 0.5
"""Error of a width, relative to it, beyond which nothing is known of it."""
WING_POWER = 4.2
"""By which the light of turbulence falls beyond the fit, to 3.5 FWHM, on its way to 11/3: that of von Karman with outer
scales of 8 to 200 m. Moffat profiles, which fall faster, leave half of the light that a companion has there."""
LEAST_RADIUS = 3.3
"""Least radius of the fit [pixel]."""
LEAST_CORE_RADIUS, MOST_UNKNOWN, UNKNOWN_ERROR = 1.5, 0.3, 0.04
"""Least radius of the core [pixel], the most of it that may be unknown, and the relative error of the width that this
makes, by so much times the share: the middle, where turbulence is sharper than a Moffat profile, is what fixes it."""
NEIGHBOUR_ROUNDS, NEIGHBOUR_SIGMA, NEIGHBOUR_SHARE = 3, 6.0, 0.02
"""Excess over the fit that is another star: means of nine pixels [noise], and at least this share of the peak."""
LEAST_DOUBLE, COMPANION_SHARE = 1.05, 0.03
"""Elongation, or residual of a single star [its peak], from which on two stars are tried."""
LEAST_GAIN, LEAST_APART = 20.0, 0.3
"""Gain in log likelihood, twice, and separation [FWHM] of a companion that is subtracted."""
CLOSE, LEAST_GAINS_CLOSE, SOMEWHAT_UNEVEN = 0.65, (100.0, 300.0), 1.15
"""Separation [FWHM] below which a companion does no more than elongate the star, as turbulence does in exposures of
seconds: a second star then gains up to 80, and up to 250 where what it leaves is less even than noise, which is not
enough."""
UNEVEN, MOST_LEFT = 2.0, 0.1
"""Variance that neighbouring pixels share, over that of noise, from which on an image is uneven: a companion must then
explain all but this share of the squares of the residuals."""
RADII, TOO_NARROW = (1.3, 1.5, 1.8, 2.2, 2.8), (0.0060, 0.0082, 0.0109, 0.0127, 0.0136)
"""By how much a Moffat profile fitted with equal weights within so many FWHM is narrower than turbulence is."""
PROFILE_ERROR = 0.1
"""How this varies with outer scale and image motion, relative to it."""
LEAST_FREE = 0.05
"""Least share of a pixel's residual that its own fit is taken to leave."""
PIXEL_ERROR, PIXEL_POWER = 0.3, 6
"""Relative error by the sampling of a FWHM in pixels that the fit does not show: so much over this power of it, from
images without noise."""


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
        There is no star, or it cannot be fitted: too faint, saturated, elongated, at the edge, wider than the window,
        not known in its core, or no such profile at all.
    """
    star = locate(image)
    guess = 2.3548 * max(star.scale_px, 1.0)
    refuse_saturated(image, (star.y, star.x), guess, level)
    for _ in range(2):  # window and binning follow the width, so the fit is repeated with the width found
        found, unknown = _fitted(image, (star.y, star.x), guess)
        guess = found.fwhm_px
    if unknown > MOST_UNKNOWN:
        raise Unprocessable(f"{100 * unknown:.0f} % of the pixels within half of the FWHM of the star are not known")
    if found.error_px > MOST_DOUBTFUL * found.fwhm_px:
        share = found.error_px / found.fwhm_px
        raise Unprocessable(f"the width of the star is not known: its error is {100 * share:.0f} % of it")
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


@dataclass(frozen=True, eq=False)
class _Pixels:
    """Binned window around a star: background-subtracted values, and which of them are known and free of spikes."""

    values: Float64Array
    known: BoolArray
    sky: float
    noise: float
    peak: float
    place: tuple[int, int]


def _fitted(image: FloatArray, place: tuple[float, float], guess_px: float) -> tuple[StarWidth, float]:
    """Fit the star of a window: its width, and the share of its core that is not known."""
    half = int(np.clip(WINDOW_FWHM * guess_px, 8, max(image.shape)))
    window, (top, left) = cut(image, *place, half)
    binning = max(1, int(guess_px / BINNED_FWHM_PX))
    width = guess_px / binning
    pixels = _pixels(_binned(window, binning), width)
    y, x = np.indices(pixels.values.shape)
    near = pixels.known & (np.hypot(y - pixels.place[0], x - pixels.place[1]) < max(FITTED_FWHM * width, LEAST_RADIUS))
    if near.sum() < 30:
        raise Unprocessable("the star lies at the edge, or its pixels are not known")
    start = np.array([pixels.peak, *pixels.place, np.log(width), 0.0, 0.0, 4.0])
    fit = _least_squares(pixels, near, start)
    pixels, near, error_of_pair = _without_companion(pixels, near, fit)
    fit = _without_neighbours(pixels, near, fit.x)
    unknown = _unknown_core(pixels, fit.x)
    further_error = max(error_of_pair, UNKNOWN_ERROR * unknown)
    fwhm, error = _width(fit, binning, further_error, max(FITTED_FWHM * width, LEAST_RADIUS) / width)
    if fwhm > 2 * half:
        raise Unprocessable(f"the star is wider than the window: {fwhm:.0f} of {2 * half} pixels")
    # the centre of a binned pixel lies between the centres of its pixels
    offset = (binning - 1) / 2
    found = StarWidth(
        y=float(top + binning * fit.x[1] + offset),
        x=float(left + binning * fit.x[2] + offset),
        fwhm_px=fwhm,
        error_px=error,
        elongation=_elongation(fit.x),
        beta=float(fit.x[6]),
        peak=float(fit.x[0]),
        background=pixels.sky,
    )
    return found, unknown


def _unknown_core(pixels: _Pixels, p: Float64Array) -> float:
    """Return the share of the pixels within half of the FWHM that are not known, or lie beyond the edge."""
    radius = max(np.exp(p[3]) / 2, LEAST_CORE_RADIUS)
    margin = int(radius) + 1
    known = np.pad(pixels.known, margin)
    y, x = np.indices(known.shape) - margin
    return 1 - float(np.mean(known[np.hypot(y - p[1], x - p[2]) < radius]))


def _pixels(values: Float64Array, width: float) -> _Pixels:
    """Subtract the sky of a window, and find its spikes and the peak of a star of a width of so many pixels."""
    known = np.isfinite(values)
    if known.sum() < 50:
        raise Unprocessable("the star lies at the edge, or its pixels are not known")
    rim = known & _rim(values.shape)
    sky = median_of_all(values[rim]) if rim.any() else 0.0
    filled = np.where(known, values - sky, 0.0)
    smooth = ndimage.median_filter(filled, size=3)
    faint = known & (smooth < np.percentile(smooth, 50))
    noise = _robust((filled - smooth)[faint]) or 1.0
    # the median of nine is lower than the top of a star, by so much at its width
    drop = 1.5 * (2 ** (2.4 / width) ** 2 - 1)
    light = np.maximum(smooth, 0)
    bright = known & (smooth > 0.3 * smooth.max())
    noise_of_light = MAD_TO_SIGMA * median_of_all(np.abs(ndimage.convolve(filled, UNCURVED)[bright]))
    growth = max(noise_of_light**2 - noise**2, 0.0) / max(median_of_all(light[bright]), 1e-9)
    known &= np.abs(filled - smooth) < SPIKE * np.sqrt(noise**2 + growth * light) + drop * light
    # the start must not be a noise peak
    smooth = ndimage.gaussian_filter(smooth, 1.0)
    y, x = np.unravel_index(np.argmax(smooth), smooth.shape)
    peak = float(smooth[y, x])
    if peak < LEAST_PEAK_SNR * noise / 5:
        raise Unprocessable(f"the star is too faint: {peak:.3g} counts over a noise of {noise:.3g}")
    return _Pixels(filled, known, sky, noise, peak, (int(y), int(x)))


def _without_companion(
    pixels: _Pixels, near: BoolArray, fit: optimize.OptimizeResult
) -> tuple[_Pixels, BoolArray, float]:
    """Subtract another star within the fit: the pixels, those to fit, and the relative error of the width by it."""
    residual = _residual(pixels, fit.x)
    place = np.unravel_index(np.argmax(np.where(near, residual, 0.0)), residual.shape)
    if residual[place] < COMPANION_SHARE * fit.x[0] and _elongation(fit.x) < LEAST_DOUBLE:
        return pixels, near, 0.0
    angle, reach = 0.5 * np.arctan2(fit.x[5], fit.x[4]), 0.3 * np.exp(fit.x[3])
    step = reach * np.array([np.sin(angle), np.cos(angle)])
    starts = [(fit.x[1:3] - step, fit.x[1:3] + step), (np.array(pixels.place, float), np.array(place, float))]
    pairs = [_pair(pixels, near, first, second, fit.x) for first, second in starts]
    pair = min(pairs, key=lambda found: found.cost)
    gain = len(pair.fun) * np.log(fit.cost / max(pair.cost, 1e-300))
    # an image through turbulence is uneven by itself, which a second star describes in part
    if _is_uneven(pair, near, np.exp(fit.x[3])) and pair.cost > MOST_LEFT * fit.cost:
        return pixels, near, 0.0
    light, apart = pair.x[[0, 3]], np.hypot(*(pair.x[4:6] - pair.x[1:3])) / np.exp(pair.x[6])
    if gain < LEAST_GAIN or light.min() < COMPANION_SHARE * light.max() or apart < LEAST_APART:
        return pixels, near, 0.0
    is_even = not _is_uneven(pair, near, np.exp(fit.x[3]), SOMEWHAT_UNEVEN)
    if apart < CLOSE and gain < LEAST_GAINS_CLOSE[0 if is_even else 1]:
        # either may be true: half of the squared difference of the widths is the variance
        return pixels, near, float(abs(pair.x[6] - fit.x[3])) / np.sqrt(2)
    own, other = (pair.x[:3], pair.x[3:6]) if light[0] >= light[1] else (pair.x[3:6], pair.x[:3])
    y, x = np.ogrid[: near.shape[0], : near.shape[1]]
    stretch = np.exp(-2 * pair.x[6])
    companion = pixels.peak * other[0] * _winged(((y - other[1]) ** 2 + (x - other[2]) ** 2) * stretch, pair.x[7])
    around = np.hypot(y - own[1], x - own[2]) < max(FITTED_FWHM * np.exp(pair.x[6]), LEAST_RADIUS)
    return replace(pixels, values=pixels.values - companion), pixels.known & around, _error(pair, 6)


def _pair(
    pixels: _Pixels, near: BoolArray, first: Float64Array, second: Float64Array, single: Float64Array
) -> optimize.OptimizeResult:
    """Fit two round stars of one width: peak, y and x of each, log FWHM, exponent."""
    y, x = (places.astype(float) for places in np.nonzero(near))
    values = pixels.values[near] / pixels.peak

    def misfit(p: Float64Array) -> Float64Array:
        stretch = np.exp(-2 * p[6])
        one, two = (_moffat(((y - p[k + 1]) ** 2 + (x - p[k + 2]) ** 2) * stretch, p[7]) for k in (0, 3))
        residual: Float64Array = p[0] * one + p[3] * two - values
        return residual

    far = 2.0 * max(near.shape)
    low = np.array([0, -1, -1, 0, -1, -1, np.log(0.8), BETA_LIMITS[0]])
    high = np.array([10, *near.shape, 10, *near.shape, np.log(far), BETA_LIMITS[1]])
    start = np.array([0.6, *first, 0.4, *second, single[3] - 0.2, min(max(single[6], 3.0), 6.0)])
    start = np.clip(start, low + 1e-6, high - 1e-6)
    return optimize.least_squares(misfit, start, bounds=(low, high), x_scale=(0.1,) * 6 + (0.05, 1.0), max_nfev=100)


def _without_neighbours(pixels: _Pixels, near: BoolArray, start: Float64Array) -> optimize.OptimizeResult:
    """Fit the pixels around a star, without those in which another star stands out of the fit."""
    fit = _least_squares(pixels, near, start)
    for _ in range(NEIGHBOUR_ROUNDS):
        residual = _residual(pixels, fit.x)
        usual = MAD_TO_SIGMA * median_of_all(np.abs(residual[near]))
        # a mean of nine pixels has a third of their noise
        strange = ndimage.uniform_filter(residual, 3) > max(NEIGHBOUR_SIGMA * usual / 3, NEIGHBOUR_SHARE * fit.x[0])
        kept = near & ~ndimage.binary_dilation(strange)
        if kept.sum() < max(30, 0.5 * near.sum()) or not (near & ~kept).any():
            break
        near = kept
        fit = _least_squares(pixels, near, fit.x)
    return fit


def _residual(pixels: _Pixels, p: Float64Array) -> Float64Array:
    y, x = np.ogrid[: pixels.values.shape[0], : pixels.values.shape[1]]
    model = p[0] * _moffat(_squared(y - p[1], x - p[2], p[3:6]), p[6])
    return np.where(pixels.known, pixels.values - model, 0.0)


def _elongation(p: Float64Array) -> float:
    return float(np.exp(2 * np.hypot(p[4], p[5])))


def _least_squares(pixels: _Pixels, near: BoolArray, start: Float64Array) -> optimize.OptimizeResult:
    """Fit a Moffat profile with equal weights, so that its deviation from turbulence is the same for all stars."""
    y, x = (places.astype(float) for places in np.nonzero(near))
    values = pixels.values[near]
    # the FWHM enters as its logarithm: steps and errors are relative; all is in units of the peak
    low = np.array([0, -1, -1, np.log(0.8), -1, -1, BETA_LIMITS[0]])
    high = np.array([np.inf, *near.shape, np.log(2.0 * max(near.shape)), 1, 1, BETA_LIMITS[1]])

    def misfit(p: Float64Array) -> Float64Array:
        residual: Float64Array = p[0] * _moffat(_squared(y - p[1], x - p[2], p[3:6]), p[6]) - values / pixels.peak
        return residual

    first = np.clip(np.concatenate([[start[0] / pixels.peak], start[1:]]), low + 1e-6, high - 1e-6)
    fit = optimize.least_squares(misfit, first, bounds=(low, high), x_scale=(0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 1.0))
    fit.x[0] *= pixels.peak
    return fit


def _robust(values: FloatArray) -> float:
    """Return the standard deviation from the median absolute deviation, of values minus their median of nine."""
    # the median of nine includes the value itself, which lowers the scatter by about a tenth
    return 1.1 * MAD_TO_SIGMA * median_of_all(np.abs(values)) if values.size else 0.0


def _width(fit: optimize.OptimizeResult, binning: int, further_error: float, radius_fwhm: float) -> tuple[float, float]:
    """Return the FWHM and its error in pixels of the image, corrected for the width of the binned pixels."""
    narrow = float(np.interp(radius_fwhm, RADII, TOO_NARROW))
    binned = (1 + narrow) * float(np.exp(fit.x[3]))
    # a square pixel adds side^2 / 12 to the variance of a profile
    widened = 8 * np.log(2) * (1 - 1 / binning**2) / 12
    fwhm = binning * float(np.sqrt(max(binned**2 - widened, 0.25 * binned**2)))
    terms = max(_error(fit, 3), further_error), PROFILE_ERROR * narrow, PIXEL_ERROR / binned**PIXEL_POWER
    return fwhm, fwhm * float(np.sqrt(np.sum(np.square(terms))))


def _is_uneven(fit: optimize.OptimizeResult, near: BoolArray, width: float, limit: float = UNEVEN) -> bool:
    """Return whether neighbouring pixels share what a fit has left, as they do not share noise."""
    side = max(3, 2 * int(width / 4) + 1)
    residual = np.zeros(near.shape)
    residual[near] = fit.fun
    inside = ndimage.uniform_filter(near.astype(float), side, mode="constant")
    means = ndimage.uniform_filter(residual, side, mode="constant")
    # the mean of n independent values has an n-th of their variance
    shared = float(np.mean(means[near] ** 2 / inside[near])) * side**2
    return shared > limit * float(np.mean(fit.fun**2))


def _error(fit: optimize.OptimizeResult, parameter: int) -> float:
    """Return the error of a parameter from the residuals as they are: how noise grows with the light is not known.

    Where the fit follows a pixel, too small a residual is left. Divided by one minus the leverage it is what the fit of
    all others leaves there (MacKinnon & White 1985, J. Econometrics 29, 305).
    """
    inverse = np.linalg.pinv(fit.jac.T @ fit.jac)
    leverage = np.einsum("ij,jk,ik->i", fit.jac, inverse, fit.jac)
    scores = fit.jac * (fit.fun / np.maximum(1 - leverage, LEAST_FREE))[:, np.newaxis]
    covariance = inverse @ (scores.T @ scores) @ inverse
    return float(np.sqrt(max(covariance[parameter, parameter], 0.0)))


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


def _winged(squared: Float64Array, beta: float) -> Float64Array:
    """Return a Moffat profile within the radius of the fit, and the wings of turbulence beyond; see `_moffat`."""
    edge = FITTED_FWHM**2
    wings: Float64Array = _moffat(np.minimum(squared, edge), beta) * (np.maximum(squared, edge) / edge) ** (
        -WING_POWER / 2
    )
    return wings


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

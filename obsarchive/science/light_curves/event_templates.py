"""Templates of events in light curves: matched filters for faint events, and fits of time, width and amplitude."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numba import njit

from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.statistics import MAD_TO_SIGMA

Shape = Literal["gaussian", "box", "microlensing"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
"""Shapes of events; compiled code identifies them by their index."""
PEAK_OF_LENS = 2.01 / np.sqrt(0.01 * 4.01) - 1.0
"""Peak magnification minus 1 of a point lens of impact parameter 0.1."""
REACH = 3.0
"""Radius of a template [widths]."""
FIT_REACH, LEAST_FITTED, FIT_ROUNDS, MOST_CHANGE = 6.0, 6, 30, 5.0
"""Radius within which an event is fitted [widths], least number of epochs, most iterations and change of the width."""
C3, C4, C5, C6, C7, C8 = (1.0 / math.factorial(k) for k in range(3, 9))
"""Coefficients of the exponential series."""
LEVEL_SHARE = 0.2
"""Error of the quiescent level, in units of the noise of an epoch."""


@dataclass(frozen=True)
class Matched:
    """Response of a light curve to a bank of templates, epoch by epoch.

    Parameters
    ----------
    score : ndarray (n,)
        S/N of the best template centred on the epoch.
    width_d : ndarray (n,)
        Width of that template [d].
    amplitude : ndarray (n,)
        Its amplitude [unit of the fluxes].
    """

    score: Float64Array
    width_d: Float64Array
    amplitude: Float64Array


def template_widths(mjd: FloatArray, longest_d: float, per_octave: int = 1) -> Float64Array:
    """Return logarithmically spaced template widths, from the median cadence upwards.

    A Gaussian between two widths that differ by a factor of two keeps 97 % of its S/N.

    Parameters
    ----------
    mjd : ndarray (n,)
        Times in ascending order [d].
    longest_d : float
        Largest width [d].
    per_octave : int
        Number of widths in a factor of two.

    Returns
    -------
    ndarray (k,)
        Widths [d]; empty without two distinct times.
    """
    widths: Float64Array = _widths(np.ascontiguousarray(mjd, np.float64), float(longest_d), int(per_octave))
    return widths


# compiled: numpy takes as long for the median and the powers as the filter itself
@njit(cache=True)
def _widths(mjd, longest_d, per_octave):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    steps = mjd[1:] - mjd[:-1]
    steps = steps[steps > 0]
    if steps.size == 0:
        return np.empty(0)
    shortest = np.median(steps)
    # a template that is longer than the light curve cannot be told from its level
    longest = min(longest_d, (mjd[-1] - mjd[0]) / (2 * REACH))
    if longest <= shortest:
        return np.full(1, shortest)
    n = int(np.ceil(np.log2(longest / shortest) * per_octave)) + 1
    return shortest * (longest / shortest) ** (np.arange(n) / (n - 1))


def matched_filter(
    mjd: FloatArray, deviation: FloatArray, noise: FloatArray, widths_d: FloatArray, shape: Shape = "gaussian"
) -> Matched:
    """Filter a light curve with templates of several widths, centred on each of its epochs.

    For deviations d with noise e and a template T the best amplitude is ``sum(d T / e^2) / sum(T^2 / e^2)``, and its
    S/N is that times ``sqrt(sum(T^2 / e^2))`` (matched filter for uneven sampling; Turin 1960, IRE Trans. IT-6, 311).
    The single epoch with the largest contribution is excluded from the score, so that an outlier alone is no event.
    Noise of real light curves is correlated, and does not average out over many epochs (Pont, Zucker & Queloz 2006,
    MNRAS 373, 231): where the scores of a width scatter by more than 1, they are divided by their scatter.

    Parameters
    ----------
    mjd : ndarray (n,)
        Times in ascending order [d].
    deviation, noise : ndarray (n,)
        Flux minus its quiescent level, and its noise; all finite.
    widths_d : ndarray (k,)
        Widths of the templates: sigma of a Gaussian, half length of a box, a quarter of the time in which a
        microlensing event of small impact parameter is bright [d].
    shape : {"gaussian", "box", "microlensing"}
        Shape of the template.

    Returns
    -------
    Matched
        S/N, width and amplitude (n,) of the best template at each epoch.
    """
    score, width, amplitude = _filtered(
        np.ascontiguousarray(mjd, np.float64),
        np.ascontiguousarray(deviation, np.float64),
        np.ascontiguousarray(noise, np.float64),
        np.ascontiguousarray(widths_d, np.float64),
        SHAPES.index(shape),
    )
    return Matched(score, width, amplitude)


@njit(cache=True, error_model="numpy")
def _template(x, shape):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    if shape == 0:
        return np.exp(-0.5 * x * x)
    if shape == 1:
        return 1.0 if abs(x) <= 1.0 else 0.0
    # point lens, impact parameter 0.1 (Paczynski 1986, ApJ 304, 1), scaled to 1 at the peak
    u2 = 0.01 + 0.25 * x * x
    bump = (u2 + 2.0) / np.sqrt(u2 * (u2 + 4.0)) - 1.0
    return bump / PEAK_OF_LENS


def template(shape: Shape, x: FloatArray) -> Float64Array:
    """Return the shape of an event, 1 at its peak.

    Parameters
    ----------
    shape : {"gaussian", "box", "microlensing"}
        Gaussian, box, or point lens of impact parameter 0.1.
    x : ndarray (n,)
        Time from the peak [widths, as in :func:`matched_filter`].

    Returns
    -------
    ndarray (n,)
        Flux relative to the peak.
    """
    made: Float64Array = _templates(np.ascontiguousarray(x, np.float64), SHAPES.index(shape))
    return made


@njit(cache=True)
def _templates(x, shape):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    made = np.empty(x.size)
    for i in range(x.size):
        made[i] = _template(x[i], shape)
    return made


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _bells(x):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Replace x within the reach of a template by ``exp(-x^2 / 2)``, by operations that have vector instructions."""
    for j in range(x.size):
        u = x[j] * x[j] * (-1.0 / 128.0)
        e = C5 + u * (C6 + u * (C7 + u * C8))
        e = 1.0 + u * (1.0 + u * (0.5 + u * (C3 + u * (C4 + u * e))))
        # the 64th power: the series is that of the 64th part of the exponent
        e2 = e * e
        e4 = e2 * e2
        e8 = e4 * e4
        e16 = e8 * e8
        e32 = e16 * e16
        x[j] = e32 * e32


@njit(cache=True, error_model="numpy", fastmath={"nnan", "nsz", "reassoc"})
def _largest(values):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """First place of the largest absolute value: its size first, which has vector instructions."""
    size = 0.0
    for j in range(values.size):
        size = max(size, abs(values[j]))
    for j in range(values.size):
        if abs(values[j]) == size:
            return j
    return 0


@njit(cache=True, error_model="numpy")
def _score(deviation, weight, t, parts):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """S/N and amplitude of a template `t`; `parts` is overwritten."""
    signal, power = 0.0, 0.0
    for j in range(t.size):
        parts[j] = deviation[j] * t[j] * weight[j]
    for j in range(t.size):
        signal += parts[j]
        power += t[j] * t[j] * weight[j]
    strongest = _largest(parts)
    rest = power - t[strongest] * t[strongest] * weight[strongest]
    if power <= 0.0 or rest <= 1e-9 * power:
        return 0.0, 0.0
    # the smaller S/N of those with and without the largest epoch, which alone is no event
    whole, without = signal / np.sqrt(power), (signal - parts[strongest]) / np.sqrt(rest)
    if whole * without <= 0.0:
        return 0.0, 0.0
    return (whole if abs(whole) < abs(without) else without), signal / power


@njit(cache=True, error_model="numpy")
def _scores(series, w, shape, scores, amplitudes):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """S/N and amplitude of the templates of one width, centred on each epoch."""
    mjd, deviation, weight = series
    t, parts = np.empty(mjd.size), np.empty(mjd.size)
    first, last = 0, 0
    for i in range(mjd.size):
        # the window only moves forward: linear in the number of epochs, not quadratic
        while mjd[first] < mjd[i] - REACH * w:
            first += 1
        while last < mjd.size and mjd[last] <= mjd[i] + REACH * w:
            last += 1
        near, its = mjd[first:last], t[: last - first]
        for j in range(its.size):
            its[j] = (near[j] - mjd[i]) / w
        if shape == 0:
            _bells(its)
        else:
            for j in range(its.size):
                its[j] = _template(its[j], shape)
        scores[i], amplitudes[i] = _score(deviation[first:last], weight[first:last], its, parts[: its.size])


@njit(cache=True, error_model="numpy")
def _filtered(mjd, deviation, noise, widths, shape):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    n = mjd.size
    best, width, amplitude = np.zeros(n), np.zeros(n), np.zeros(n)
    scores, amplitudes = np.zeros(n), np.zeros(n)
    series = (mjd, deviation, 1.0 / (noise * noise))
    for w in widths:
        _scores(series, w, shape, scores, amplitudes)
        # correlated noise: see the reference in matched_filter
        scatter = max(1.0, MAD_TO_SIGMA * np.median(np.abs(scores))) if n else 1.0
        for i in range(n):
            if abs(scores[i]) / scatter > abs(best[i]):
                best[i], width[i], amplitude[i] = scores[i] / scatter, w, amplitudes[i]
    return best, width, amplitude


@dataclass(frozen=True)
class FittedEvent:
    """A template fitted to an event.

    Parameters
    ----------
    mjd, width_d, amplitude : float
        Time of the peak [d], width as in :func:`matched_filter` [d], and amplitude [unit of the fluxes].
    mjd_error_d, width_error_d, amplitude_error : float
        Their standard errors.
    """

    mjd: float
    mjd_error_d: float
    width_d: float
    width_error_d: float
    amplitude: float
    amplitude_error: float


def fit_event(
    mjd: FloatArray,
    deviation: FloatArray,
    noise: FloatArray,
    start: tuple[float, float, float],
    shape: Shape = "gaussian",
) -> FittedEvent | None:
    """Fit the time, width and amplitude of an event, and the level about it, by least squares.

    The strongest epoch is a chance selection, and widths of a bank of templates are coarse: neither has an error.

    Parameters
    ----------
    mjd : ndarray (n,)
        Times in ascending order [d].
    deviation, noise : ndarray (n,)
        Flux minus its quiescent level, and its noise; all finite.
    start : (float, float, float)
        Time of the peak [d], width [d] and amplitude to start from.
    shape : {"gaussian", "box", "microlensing"}
        Shape of the template; a box has no slope to fit.

    Returns
    -------
    FittedEvent or None
        None of a box, with fewer than six epochs within its reach, or where the fit does not converge near its start.
    """
    if shape == "box" or not start[1] > 0 or start[2] == 0:
        return None
    near = np.abs(mjd - start[0]) <= FIT_REACH * start[1]
    if near.sum() < LEAST_FITTED:
        return None
    # the width as a logarithm: it is positive
    first = np.array([0.0, np.log(start[1]), start[2], 0.0])
    time, light, errors = (np.asarray(values[near], np.float64) for values in (mjd - start[0], deviation, noise))
    found, covariance = _fitted(time, light, errors, first, SHAPES.index(shape))
    with np.errstate(invalid="ignore"):
        error = np.sqrt(np.diag(covariance))
    if not np.isfinite(error).all() or abs(found[0]) > 2 * start[1] or abs(found[1] - first[1]) > np.log(MOST_CHANGE):
        return None
    width = float(np.exp(found[1]))
    values = start[0] + found[0], error[0], width, width * error[1], found[2], error[2]
    return FittedEvent(*map(float, values))


@njit(cache=True)
def _fitted(time, deviation, noise, start, shape):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Time, logarithm of the width, amplitude and level, and their covariance, by Levenberg and Marquardt."""
    best = start.copy()
    residual, slopes = _linear(time, deviation, noise, best, shape)
    chi2, damping = np.sum(residual**2), 1e-3
    for _ in range(FIT_ROUNDS):
        normal = slopes.T @ slopes
        damped = normal + damping * np.diag(np.diag(normal) + 1e-300)
        tried = best + np.linalg.solve(damped + 1e-300 * np.eye(4), slopes.T @ residual)
        # a width far from the start is refused in the end, and its exponential may have no value
        is_near = abs(tried[1] - start[1]) <= 2 * np.log(MOST_CHANGE)
        other, its_slopes = _linear(time, deviation, noise, tried if is_near else best, shape)
        its_chi2 = np.sum(other**2)
        if is_near and its_chi2 < chi2:
            gain, best, residual, slopes, chi2 = chi2 - its_chi2, tried, other, its_slopes, its_chi2
            damping *= 0.2
            if gain < 1e-4:
                break
        else:
            damping *= 5.0
            if damping > 1e6:
                break
    normal = slopes.T @ slopes
    if not np.linalg.det(normal) > 0:
        return best, np.full((4, 4), np.inf)
    # scatter beyond the noise, as of another shape, makes the errors larger
    excess = max(1.0, chi2 / max(len(time) - 4, 1))
    return best, np.linalg.inv(normal) * excess


@njit(cache=True)
def _linear(time, deviation, noise, values, shape):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Residuals of a template in units of the noise, and its slopes with the four values."""
    residual, slopes = np.empty(time.size + 1), np.zeros((time.size + 1, 4))
    # the quiescent level is known, but for what the event itself adds to it
    allowed = LEVEL_SHARE * np.median(noise)
    residual[-1], slopes[-1, 3] = -values[3] / allowed, 1.0 / allowed
    width = np.exp(values[1])
    for i in range(time.size):
        x = (time[i] - values[0]) / width
        light, slope = _template(x, shape), (_template(x + 1e-4, shape) - _template(x - 1e-4, shape)) / 2e-4
        residual[i] = (deviation[i] - values[2] * light - values[3]) / noise[i]
        slopes[i, 0] = -values[2] * slope / width / noise[i]
        slopes[i, 1] = -values[2] * slope * x / noise[i]
        slopes[i, 2], slopes[i, 3] = light / noise[i], 1.0 / noise[i]
    return residual, slopes

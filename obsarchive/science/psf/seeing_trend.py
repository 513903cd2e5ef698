"""Widths of several files: their median, and their trend through a night, with errors."""

from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.statistics import median_of_all

DRAWS = 200
"""Of measurements, for the errors of a trend."""
DRAWS_OF_FEW = 1000
"""Of the widths of a file, for the error of their median."""
USUAL_SCATTER, KNOWN_WITHIN = 0.03, 2.0
"""Scatter of exposures of several seconds over their width, and the factor within which it is known beforehand. Frozen
layers make it 0.04 to 0.06 in 4 s with 2.1 m, less by the square root of the time in longer ones, and seeing itself
changes by 0.035 in a minute (by 1.6 in the end, with an e-folding time of 17 minutes: Racine 1996, PASP 108, 372)."""


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


def combined_width(widths: FloatArray, errors: FloatArray) -> tuple[float, float]:
    """Compute the median of widths measured in the same conditions, and its error.

    Widths of short exposures vary by turbulence, and few do not tell by how much: three that agree by chance would have
    next to no error, and their pulls the tails of Student's distribution. The scatter therefore has a prior, log-normal
    about `USUAL_SCATTER`, and the likelihood of a random effect beside known errors, restricted to what is left of a
    weighted mean (Patterson & Thompson 1971, Biometrika 58, 545); the variance of the median is the mean over both.

    Parameters
    ----------
    widths, errors : ndarray (n,)
        Widths and their errors, any unit.

    Returns
    -------
    (float, float)
        Median and standard error.
    """
    n = len(widths)
    if n == 1:
        return float(widths[0]), float(errors[0])
    median = median_of_all(widths)
    steps = np.linspace(-4, 4, 41)
    scatters = USUAL_SCATTER * median * KNOWN_WITHIN**steps
    weights = 1 / (scatters[:, np.newaxis] ** 2 + np.square(errors))
    total = weights.sum(axis=1)
    residuals = widths - (weights @ widths / total)[:, np.newaxis]
    likelihood = 0.5 * (np.log(weights).sum(axis=1) - np.log(total) - (weights * residuals**2).sum(axis=1))
    chance = np.exp(likelihood - likelihood.max() - 0.5 * steps**2)
    rng = np.random.default_rng(0)
    drawn = rng.choice(scatters, (DRAWS_OF_FEW, 1), p=chance / chance.sum())
    medians = np.median(np.hypot(drawn, errors) * rng.standard_normal((DRAWS_OF_FEW, n)), axis=1)
    return median, float(np.std(medians, ddof=1))


@dataclass(frozen=True, eq=False)
class Trend:
    """Course of measurements with time.

    Attributes
    ----------
    values, errors : ndarray (n,)
        Trend at the times of the measurements, and its standard errors.
    median, median_error : float
        Median of the measurements and its standard error, as that of the course without scatter.
    """

    values: Float64Array
    errors: Float64Array
    median: float
    median_error: float


def trend_with_errors(hours: FloatArray, values: FloatArray, errors: FloatArray, width_h: float = 0.35) -> Trend:
    """Compute the trend and median of measurements, with errors from their scatter.

    The errors say how well the smooth course at these times is known: measurements are drawn again and again from the
    trend with their scatter, or with their errors if these are larger (parametric bootstrap; Efron & Tibshirani 1993).

    Parameters
    ----------
    hours, values, errors : ndarray (n,)
        Times [h], finite measurements and their errors.
    width_h : float
        Sigma of the Gaussian weights of :func:`trend` [h].

    Returns
    -------
    Trend
    """
    smooth = trend(hours, values, width_h)
    n = len(values)
    order = np.argsort(hours)
    successive = float(np.sqrt(np.mean(np.diff(values[order]) ** 2) / 2)) if n > 1 else 0.0
    # what the course does between two of few files is no error of the trend, but one of their median
    about_course = _scatter(hours[order], values[order]) if n > 3 else successive
    deviates = np.random.default_rng(0).standard_normal((DRAWS, n))
    trends = np.array([trend(hours, drawn, width_h) for drawn in smooth + np.maximum(about_course, errors) * deviates])
    medians = np.median(smooth + np.maximum(successive, errors) * deviates, axis=1)
    # scatter moves the median of a course that is lopsided, as of a night that is mostly good: about that of the course
    off = medians - median_of_all(smooth)
    return Trend(
        smooth,
        np.std(trends, axis=0, ddof=1),
        median_of_all(values),
        float(np.sqrt(np.mean(off**2))),
    )


def _scatter(hours: FloatArray, values: FloatArray) -> float:
    """Return the scatter of measurements, in the order of time, about the line between those before and after each.

    A trend that follows few of them one by one leaves no residual.
    """
    apart = hours[2:] - hours[:-2]
    share = np.divide(hours[1:-1] - hours[:-2], apart, out=np.full(len(apart), 0.5), where=apart > 0)
    residual = values[1:-1] - (1 - share) * values[:-2] - share * values[2:]
    return float(np.sqrt(np.mean(residual**2 / (1 + share**2 + (1 - share) ** 2))))

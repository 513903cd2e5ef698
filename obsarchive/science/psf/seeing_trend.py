"""Widths of several files: their median, and their trend through a night, with errors."""

from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.statistics import median_of_all

DRAWS = 200
"""Of measurements, for the errors of a trend."""
MEDIAN_TO_MEAN = (1.0, 1.0, 1.2)
"""Error of a median of one, two, and three and more values, over that of their mean."""


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

    Parameters
    ----------
    widths, errors : ndarray (n,)
        Widths and their errors, any unit.

    Returns
    -------
    (float, float)
        Median and standard error: from the errors, or from the scatter if that is larger, as widths of short
        exposures vary; that of few is known badly, which widens the error.
    """
    n = len(widths)
    if n == 1:
        return float(widths[0]), float(errors[0])
    scatter = float(np.std(widths, ddof=1)) * float(np.sqrt((n + 1) / (n - 1)))
    usual = max(scatter, float(np.sqrt(np.mean(np.square(errors)))))
    return median_of_all(widths), MEDIAN_TO_MEAN[min(n, 3) - 1] * usual / float(np.sqrt(n))


@dataclass(frozen=True, eq=False)
class Trend:
    """Course of measurements with time.

    Attributes
    ----------
    values, errors : ndarray (n,)
        Trend at the times of the measurements, and its standard errors.
    median, median_error : float
        Median of the measurements and its standard error.
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
    return Trend(
        smooth,
        np.std(trends, axis=0, ddof=1),
        median_of_all(values),
        float(np.std(medians, ddof=1)),
    )


def _scatter(hours: FloatArray, values: FloatArray) -> float:
    """Return the scatter of measurements, in the order of time, about the line between those before and after each.

    A trend that follows few of them one by one leaves no residual.
    """
    apart = hours[2:] - hours[:-2]
    share = np.divide(hours[1:-1] - hours[:-2], apart, out=np.full(len(apart), 0.5), where=apart > 0)
    residual = values[1:-1] - (1 - share) * values[:-2] - share * values[2:]
    return float(np.sqrt(np.mean(residual**2 / (1 + share**2 + (1 - share) ** 2))))

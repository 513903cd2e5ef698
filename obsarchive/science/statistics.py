"""Robust statistics that ignore missing values without warnings."""

import math

import numpy as np
from numba import njit

from obsarchive.science.arrays import Float64Array, FloatArray

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a normal distribution in units of its median absolute deviation."""


def median_of_all(values: FloatArray) -> float:
    """Compute the median of all values of an array, as :func:`numpy.median` does, in a tenth of its time.

    One order statistic is found with vector instructions; NumPy asks for three at once, for which it has none.

    Parameters
    ----------
    values : ndarray
        Floating-point numbers.

    Returns
    -------
    float
        Median; NaN if one of the values is, or there is none.
    """
    if not values.size:
        return math.nan
    half = values.size // 2
    ordered = np.partition(values, half, axis=None)
    if np.isnan(ordered[half:].max()):  # sorted to the end
        return math.nan
    above = ordered[half]
    return float(above if values.size % 2 else (ordered[:half].max() + above) / 2)


def robust_sigma(values: FloatArray) -> float:
    """Compute the standard deviation of normally distributed values with outliers, from the median absolute deviation.

    Parameters
    ----------
    values : ndarray
        Floating-point numbers.

    Returns
    -------
    float
        1.4826 times the median absolute deviation from the median.
    """
    return MAD_TO_SIGMA * median_of_all(np.abs(values - median_of_all(values)))


def noise_of_counts(counts: FloatArray) -> float:
    """Return a robust standard deviation; of mostly zero counts, that of all but the highest percentile.

    Parameters
    ----------
    counts : ndarray
        Of any shape; none of them NaN.

    Returns
    -------
    float
        Standard deviation.
    """
    mad = robust_sigma(counts)
    if mad > 0:
        return mad
    # photon-counting frames have a median absolute deviation of zero
    return float(np.std(counts[counts <= np.percentile(counts, 99)])) or float(np.std(counts))


def median_of_known(values: Float64Array, axis: int) -> Float64Array:
    """Compute the median of the finite values along an axis.

    Parameters
    ----------
    values : ndarray
        Values; those not finite are ignored.
    axis : int
        Axis of the medians.

    Returns
    -------
    ndarray
        Medians, without the axis; NaN where no value is finite.
    """
    moved = np.moveaxis(np.asarray(values, np.float64), axis, -1)
    rows = np.ascontiguousarray(moved).reshape(math.prod(moved.shape[:-1]), moved.shape[-1])
    medians: Float64Array = _medians(rows).reshape(moved.shape[:-1])
    return medians


@njit(cache=True)
def _medians(rows):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    found = np.full(len(rows), np.nan)
    for i in range(len(rows)):
        known = rows[i][np.isfinite(rows[i])]
        if known.size:
            found[i] = np.median(known)
    return found

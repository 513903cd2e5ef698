"""Robust statistics that ignore missing values without warnings."""

import math

import numpy as np
from numba import njit

from obsarchive.science.arrays import Float64Array

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a normal distribution in units of its median absolute deviation."""


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

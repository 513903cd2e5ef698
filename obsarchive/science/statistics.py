"""Robust statistics that ignore missing values without warnings."""

import numpy as np

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
    finite = np.isfinite(values)
    known = finite.any(axis=axis)
    # rows without a finite value are filled with zeros: nanmedian would warn of them
    filled = np.where(finite | ~np.expand_dims(known, axis), np.where(finite, values, 0.0), np.nan)
    return np.where(known, np.nanmedian(filled, axis=axis), np.nan)

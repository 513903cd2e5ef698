"""Statistics of what is known, quiet where nothing is."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a normal distribution in units of its median absolute deviation."""


def median_of_known(values: Floats, axis: int) -> Floats:
    """Return the median of what is finite along an axis; NaN where nothing is."""
    finite = np.isfinite(values)
    known = finite.any(axis=axis)
    filled = np.where(finite | ~np.expand_dims(known, axis), np.where(finite, values, 0.0), np.nan)
    return np.where(known, np.nanmedian(filled, axis=axis), np.nan)

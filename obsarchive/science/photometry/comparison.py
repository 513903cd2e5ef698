"""Statistics of how two ways of photometry differ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from obsarchive.science.arrays import Float64Array
from obsarchive.science.statistics import median_of_all, robust_sigma

LEAST_STARS = 3
"""Least number of stars for a scatter."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Stars that were measured in both ways.

    Parameters
    ----------
    mag, difference, error : ndarray (n,)
        Magnitudes of the first way, differences of the second from them, and the errors of both in quadrature [mag].
    """

    mag: Float64Array
    difference: Float64Array
    error: Float64Array

    @property
    def offset(self) -> float:
        """Median difference of the brighter half of the stars [mag]; 0 without any."""
        if not len(self.mag):
            return 0.0
        return median_of_all(self.difference[self.mag <= median_of_all(self.mag)])

    def without_offset(self) -> "Comparison":
        """Return the same with the offset subtracted."""
        return replace(self, difference=self.difference - self.offset)


@dataclass(frozen=True)
class Bin:
    """Stars of a range of magnitudes.

    Parameters
    ----------
    low, high : float
        Range [mag].
    n : int
        Number of stars.
    difference, scatter, expected : float
        Median difference, its robust scatter, and the scatter expected from both errors [mag].
    pull : float
        Robust scatter of the differences in units of both errors.
    """

    low: float
    high: float
    n: int
    difference: float
    scatter: float
    expected: float
    pull: float


def joined(comparisons: Sequence[Comparison]) -> Comparison:
    """Return the stars of several comparisons as one."""
    columns = ([getattr(found, name) for found in comparisons] for name in ("mag", "difference", "error"))
    return Comparison(*map(np.concatenate, columns))


def binned(found: Comparison, width: float) -> list[Bin]:
    """Compute the statistics of a comparison by ranges of magnitude.

    Parameters
    ----------
    found : Comparison
        Stars that were measured in both ways.
    width : float
        Width of the ranges [mag].

    Returns
    -------
    list of Bin
        The ranges that hold a star, brightest first; scatter and pull are NaN for too few stars.
    """
    index = np.floor(found.mag / width).astype(int)
    bins = []
    for i in np.unique(index):
        inside = index == i
        difference, error = found.difference[inside], found.error[inside]
        scatter, pull = _scatter(difference), _scatter(difference / error)
        median, expected = median_of_all(difference), median_of_all(error)
        bins.append(Bin(i * width, (i + 1) * width, int(inside.sum()), median, scatter, expected, pull))
    return bins


def _scatter(values: Float64Array) -> float:
    """Robust standard deviation; NaN of too few."""
    if len(values) < LEAST_STARS:
        return math.nan
    return robust_sigma(values)

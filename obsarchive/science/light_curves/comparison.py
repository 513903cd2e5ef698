"""Two stars compared: what one is brighter than the other, epoch by epoch."""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from obsarchive.science.arrays import Float64Array, FloatArray, IntArray

CHANCE = 1e-3
"""Probability that a constant difference scatters so much, below which it varies."""


@dataclass(frozen=True)
class Difference:
    """Difference of two light curves.

    Parameters
    ----------
    time : ndarray (n,)
        Times of the first [d].
    mag, error : ndarray (n,)
        First minus second, and its error [mag].
    """

    time: Float64Array
    mag: Float64Array
    error: Float64Array

    @property
    def mean(self) -> tuple[float, float]:
        """Weighted mean and its error, which is scaled to the scatter where that is larger [mag]."""
        weight = 1 / self.error**2
        error = 1 / np.sqrt(weight.sum())
        return float(np.average(self.mag, weights=weight)), float(error * np.sqrt(max(1.0, self.reduced_chi2)))

    @property
    def median(self) -> float:
        """Median [mag]."""
        return float(np.median(self.mag))

    @property
    def typical_error(self) -> float:
        """Median error of an epoch [mag]."""
        return float(np.median(self.error))

    @property
    def varies(self) -> bool:
        """Whether the scatter is more than the errors, so that no one number is the difference."""
        freedom = len(self.mag) - 1
        return freedom > 0 and float(chdtrc(freedom, freedom * self.reduced_chi2)) < CHANCE

    @property
    def residual(self) -> Float64Array:
        """What is left without the mean, or without the median where it varies [mag]."""
        return self.mag - (self.median if self.varies else self.mean[0])

    @property
    def reduced_chi2(self) -> float:
        """Chi-square about the mean for each degree of freedom: near 1 if the difference is constant."""
        about_mean = self.mag - np.average(self.mag, weights=1 / self.error**2)
        return float(np.sum((about_mean / self.error) ** 2)) / max(len(self.mag) - 1, 1)

    @property
    def rms(self) -> float:
        """Standard deviation [mag]."""
        return float(np.std(self.mag, ddof=min(len(self.mag) - 1, 1)))

    @property
    def half_range(self) -> float:
        """Half of the difference of largest and smallest value [mag]."""
        return float(np.ptp(self.mag)) / 2


def pairs(first: FloatArray, second: FloatArray, within_d: float) -> tuple[IntArray, IntArray]:
    """Return which epochs of two series belong together: each is the nearest of the other.

    Parameters
    ----------
    first, second : ndarray (n,), (m,)
        Times [d], in any order.
    within_d : float
        Largest distance of epochs that belong together [d].

    Returns
    -------
    (ndarray of int, ndarray of int)
        Indices of the epochs, in the order of time.
    """
    if not len(first) or not len(second):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    to_second, to_first = _nearest(first, second), _nearest(second, first)
    own = np.argsort(first, kind="stable")
    other = to_second[own]
    good = (to_first[other] == own) & (np.abs(first[own] - second[other]) <= within_d)
    return own[good], other[good]


def _nearest(times: FloatArray, among: FloatArray) -> IntArray:
    order = np.argsort(among, kind="stable")
    place = np.clip(np.searchsorted(among[order], times), 1, max(len(among) - 1, 1))
    left, right = order[place - 1], order[np.minimum(place, len(among) - 1)]
    nearest: IntArray = np.where(np.abs(times - among[left]) <= np.abs(times - among[right]), left, right)
    return nearest


def difference(
    first: tuple[FloatArray, FloatArray, FloatArray],
    second: tuple[FloatArray, FloatArray, FloatArray],
    within_d: float,
) -> Difference | None:
    """Return the difference of two light curves at the epochs that both have.

    Parameters
    ----------
    first, second : (ndarray, ndarray, ndarray)
        Times [d], magnitudes and errors [mag].
    within_d : float
        Largest distance of epochs that belong together [d].

    Returns
    -------
    Difference or None
        None where they have no epoch in common.
    """
    a, b = (_good(*one) for one in (first, second))
    own, other = pairs(a[0], b[0], within_d)
    if not len(own):
        return None
    return Difference(a[0][own], a[1][own] - b[1][other], np.hypot(a[2][own], b[2][other]))


def _good(time: FloatArray, mag: FloatArray, error: FloatArray) -> tuple[Float64Array, Float64Array, Float64Array]:
    good = np.isfinite(time) & np.isfinite(mag) & np.isfinite(error) & (error > 0)
    return tuple(np.asarray(values, np.float64)[good] for values in (time, mag, error))  # type: ignore[return-value]

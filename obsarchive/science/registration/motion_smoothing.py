"""Shifts that frames tell one by one, drawn to where the motion of all of them makes each probable."""

import math

import numpy as np
from numba import njit

from obsarchive.science.arrays import Float64Array
from obsarchive.science.registration.motion_law import STRAYS
from obsarchive.science.statistics import median_of_all

_CORRELATIONS = (0.0, 0.5, 0.8, 0.95, 0.99)
"""Correlations of consecutive frames that are tried."""
_LEAST_RMS, _MOST_RMS, _RMS_STEP = 0.1, 1.5, 1.4
"""Rms of the motions that are tried: from so many errors, to so many times the rms of the shifts, in such steps."""


def smoothed(shifts: Float64Array, errors: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Compute the posterior shifts of frames of which each tells its own, given an autoregressive motion of any law.

    Kalman filter and Rauch-Tung-Striebel smoother (1965, AIAA J. 3, 1445); a frame may be a stray, far from where the
    others tell. Laws of the motion, of any power and correlation, count as the frames make them probable.

    Parameters
    ----------
    shifts : ndarray (n, 2)
        Likeliest shifts, in the order of time [pixel].
    errors : ndarray (n,)
        One-sigma errors along an axis, above zero; infinite where a frame tells nothing [pixel].

    Returns
    -------
    shifts : ndarray (n, 2)
        Means of the posterior [pixel].
    errors : ndarray (n,)
        Its standard deviations along an axis [pixel].
    """
    variances = errors**2
    known = np.isfinite(variances)
    middle = np.average(shifts[known], axis=0, weights=1 / variances[known])
    centred = np.where(known[:, np.newaxis], shifts - middle, 0.0)
    spread = float(np.mean(centred[known] ** 2))
    least = _LEAST_RMS * math.sqrt(median_of_all(variances[known]))
    steps = max(math.ceil(math.log(_MOST_RMS * math.sqrt(spread) / least, _RMS_STEP)), 0) if spread > 0 else 0
    laws = [(least * _RMS_STEP**k, correlation) for k in range(steps + 1) for correlation in _CORRELATIONS]
    found = [_by_law(centred, variances, rms**2, correlation, spread) for rms, correlation in laws]
    evidence = np.array([each[2] for each in found])
    # any power is as probable: of rms in equal ratios, the larger ones stand for more
    weights = np.exp(evidence - evidence.max()) * [rms**2 for rms, _ in laws]
    weights /= weights.sum()
    means, within = (np.tensordot(weights, np.array([each[k] for each in found]), 1) for k in (0, 1))
    between = np.tensordot(weights, np.array([np.mean((each[0] - means) ** 2, axis=1) for each in found]), 1)
    return means + middle, np.sqrt(within + between)


@njit(cache=True)
def _by_law(
    shifts: Float64Array, variances: Float64Array, power: float, correlation: float, spread: float
) -> tuple[Float64Array, Float64Array, float]:
    """Return means (n, 2) and variances (n,) of the posterior by one law, and its log evidence."""
    n = len(shifts)
    means, left = np.zeros((n, 2)), np.zeros(n)
    ahead_means, ahead = np.zeros((n, 2)), np.zeros(n)
    evidence, mean, variance = 0.0, np.zeros(2), power
    for i in range(n):
        if i:
            mean = correlation * mean
            variance = correlation**2 * variance + (1 - correlation**2) * power
        apart = shifts[i] - mean
        total = variance + variances[i]
        if np.isfinite(total):
            square = apart[0] ** 2 + apart[1] ** 2
            usual = -np.log(total) - square / 2 / total
            stray = np.log(STRAYS) - np.log(total + spread) - square / 2 / (total + spread)
            if stray > usual:
                variance += spread
                total += spread
            evidence += max(usual, stray)
        ahead_means[i], ahead[i] = mean, variance
        # of a frame that tells nothing it is zero
        gain = variance / total
        mean = mean + gain * apart
        variance = (1 - gain) * variance
        means[i], left[i] = mean, variance
    for i in range(n - 2, -1, -1):
        gain = correlation * left[i] / ahead[i + 1]
        means[i] += gain * (means[i + 1] - ahead_means[i + 1])
        left[i] += gain**2 * (left[i + 1] - ahead[i + 1])
    return means, left, evidence

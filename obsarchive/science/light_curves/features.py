"""Variability features of light curves: amplitude, smoothness, trend and shape of the distribution."""

from collections.abc import Mapping

import numpy as np

from obsarchive.science.arrays import FloatArray
from obsarchive.science.statistics import MAD_TO_SIGMA

LEAST_FOR_ERRORS = 50
"""Number of epochs from which on order statistics have errors."""


def features(mjd: FloatArray, mag: FloatArray, mag_err: FloatArray) -> dict[str, float]:
    """Compute the variability features of a light curve in one filter.

    Parameters
    ----------
    mjd : ndarray (n,)
        Times in ascending order [d].
    mag, mag_err : ndarray (n,)
        Magnitudes and their errors [mag]; those not finite are ignored.

    Returns
    -------
    dict of str to float
        ``n``, ``span_d``, ``median_mag``, ``mean_mag`` (weighted by the errors), ``scatter_mag`` (from the range of the
        middle half; the standard deviation of normal values), ``amplitude_mag`` (half of the range from the 5th to the
        95th percentile), ``reduced_chi2`` about the weighted mean, ``excess_mag`` (scatter beyond the errors),
        ``skewness``, ``kurtosis`` (0 for a Gaussian), ``von_neumann`` (mean square of successive differences over the
        variance; 2 for noise, less for slow variability; von Neumann 1941, Ann. Math. Stat. 12, 367), ``stetson_j``,
        ``stetson_k`` (Stetson 1996, PASP 108, 851; successive epochs as pairs), ``beyond_1_sigma``, ``slope_mag_per_d``
        (least squares), ``max_slope_mag_per_d``. Empty with fewer than three epochs. Those that describe the star have
        standard errors, ``median_mag_error`` and so on: how well the epochs represent it, with their noise; from
        `LEAST_FOR_ERRORS` epochs on, but for mean and slope. The others depend on when it was observed, or are extremes
        or high moments, of which a light curve says little.
    """
    good = np.isfinite(mag) & np.isfinite(mag_err) & (mag_err > 0)
    n = int(good.sum())
    if n < 3:
        return {}
    t, m, e = (np.asarray(values[good], np.float64) for values in (mjd, mag, mag_err))
    weights = 1 / e**2
    mean = float(np.sum(weights * m) / np.sum(weights))
    # of few epochs other estimates of percentiles are biased inwards (Hyndman & Fan 1996, Am. Stat. 50, 361)
    low, lower, middle, upper, high = np.percentile(m, (5, 25, 50, 75, 95), method="median_unbiased")
    deviation = m - np.mean(m)
    variance = float(np.mean(deviation**2))
    # deviations from the median of few epochs are too small: it is theirs
    scatter = MAD_TO_SIGMA * float(upper - lower) / 2
    found = {
        "n": float(n),
        "span_d": float(t[-1] - t[0]),
        "median_mag": float(middle),
        "mean_mag": mean,
        "scatter_mag": scatter,
        "amplitude_mag": float(high - low) / 2,
        "reduced_chi2": float(np.sum(weights * (m - mean) ** 2) / (n - 1)),
        "excess_mag": float(np.sqrt(max(0.0, scatter**2 - float(np.median(e)) ** 2))),
        **_moments(deviation, variance),
        **_stetson(m, e, mean),
        "beyond_1_sigma": float(np.mean(np.abs(deviation) > np.sqrt(variance))),
        **_slopes(t, m),
    }
    found |= {f"{name}_error": value for name, value in _errors(t, m, e, found).items()}
    # features that are undefined for this light curve are left out, not stored as NaN
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _moments(deviation: FloatArray, variance: float) -> dict[str, float]:
    if variance <= 0:
        return {}
    standard = deviation / np.sqrt(variance)
    return {
        "skewness": float(np.mean(standard**3)),
        "kurtosis": float(np.mean(standard**4) - 3),
        "von_neumann": float(np.mean(np.diff(deviation) ** 2) / variance),
    }


def _stetson(mag: FloatArray, error: FloatArray, mean: float) -> dict[str, float]:
    n = len(mag)
    # relative error of Stetson's indices: the factor corrects for the fitted mean
    delta = np.sqrt(n / (n - 1)) * (mag - mean) / error
    product = delta[:-1] * delta[1:]
    power = np.sqrt(np.mean(delta**2))
    return {
        "stetson_j": float(np.mean(np.sign(product) * np.sqrt(np.abs(product)))),
        "stetson_k": float(np.mean(np.abs(delta)) / power) if power > 0 else 0.0,
    }


def _slopes(time: FloatArray, mag: FloatArray) -> dict[str, float]:
    # about the mean time, where slope and level are independent; simultaneous epochs have no slope
    t, steps = time - np.mean(time), np.diff(time)
    power, apart = float(np.sum(t**2)), steps > 0
    found = {"slope_mag_per_d": float(np.sum(t * mag) / power)} if power > 0 else {}
    if apart.any():
        found["max_slope_mag_per_d"] = float(np.max(np.abs(np.diff(mag)[apart] / steps[apart])))
    return found


def _errors(time: FloatArray, mag: FloatArray, error: FloatArray, found: Mapping[str, float]) -> dict[str, float]:
    """Return the standard errors of the features that describe the star, not the times at which it was observed."""
    n, freedom = len(mag), max(len(mag) - 1, 1)
    weights, about = 1 / error**2, mag - found["mean_mag"]
    errors = {"mean_mag": float(np.sqrt(np.sum((weights * about) ** 2) * n / freedom) / np.sum(weights))}
    if "slope_mag_per_d" in found:
        t = time - np.mean(time)
        rest = mag - np.mean(mag) - found["slope_mag_per_d"] * t
        errors["slope_mag_per_d"] = float(np.sqrt(np.sum((t * rest) ** 2) * n / max(n - 2, 1)) / np.sum(t**2))
    if n >= LEAST_FOR_ERRORS:
        values = np.sort(mag)
        errors["reduced_chi2"] = float(np.std((about / error) ** 2) * np.sqrt(n) / freedom)
        errors["median_mag"] = _quantile_error(values, 0.5)
        errors["scatter_mag"] = MAD_TO_SIGMA * _half_range_error(values, 0.25)
        errors["amplitude_mag"] = _half_range_error(values, 0.05)
    return errors


def _half_range_error(values: FloatArray, share: float) -> float:
    """Return the error of half of the range of sorted values without a share at either end."""
    low, high = _quantile_error(values, share), _quantile_error(values, 1 - share)
    # both ends move together
    common = share / (1 - share) * low * high
    return float(np.sqrt(low**2 + high**2 - 2 * common)) / 2


def _quantile_error(values: FloatArray, share: float) -> float:
    """Return the error of a quantile of sorted values, from the range of its own errors (Woodruff 1952, JASA 47, 635).

    The range is that of 1.5 standard errors, as few values lie within one.
    """
    n = len(values)
    error = np.sqrt(share * (1 - share) / n)
    places = np.clip(np.array([share - 1.5 * error, share + 1.5 * error]), 0.0, 1.0)
    low, high = np.interp(places * (n - 1), np.arange(n), values)
    # at the end of the values the range is cut
    return float((high - low) / (places[1] - places[0]) * error)

"""Whether a light curve repeats itself, or happened once: what is left of a periodic model without its best cycle."""

import numpy as np

from obsarchive.science.arrays import Float64Array, FloatArray, IntArray

SURE_GAIN = 40.0
"""Decrease of chi-square, for each unit of scatter, that the best of all periods does not have by chance."""
CYCLES = 2
DAY_D = 1.0
PART_OF_DATA = 0.2
"""A single event is taken to last at most this part of the data where the period is shorter."""


def repeats(
    time: FloatArray, mag: FloatArray, error: FloatArray, band: IntArray, model: FloatArray, period_d: float
) -> bool:
    """Return whether more of a light curve than one stretch of it follows a periodic model.

    Any single event has a best period: that of a model which goes through it, and which is wrong wherever else it
    returns. So the stretch in which the model gains most is left out, and the rest is asked whether it prefers the
    model to a constant. A period that the data do not hold twice does not repeat, nor does one that differs too little
    from a day: nights show what is slow with this period, too.

    Parameters
    ----------
    time, mag, error : ndarray (n,)
        Times [d], magnitudes and errors [mag], finite.
    band : ndarray (n,) of int
        Number of the band of each epoch: each has a constant of its own.
    model : ndarray (n,)
        Magnitudes of the model.
    period_d : float
        Its period [d].

    Returns
    -------
    bool
    """
    order = np.argsort(time, kind="stable")
    when, band = np.asarray(time, np.float64)[order], np.asarray(band)[order]
    brightness, scale, shape = (np.asarray(values, np.float64)[order] for values in (mag, error, model))
    span = float(when[-1] - when[0])
    beats = abs(span / period_d - span / DAY_D)
    if span < CYCLES * period_d or beats < CYCLES:
        return False
    medians = {one: np.median(brightness[band == one]) for one in np.unique(band)}
    constant = np.array([medians[one] for one in band])
    misfit = ((brightness - shape) / scale) ** 2
    gains = np.concatenate([[0.0], np.cumsum(((brightness - constant) / scale) ** 2 - misfit)])
    # a little shorter than the period, so that of two cycles one is left
    length = max(0.9 * period_d, PART_OF_DATA * span)
    ends = np.searchsorted(when, when + length, side="right")
    first = int(np.argmax(gains[ends] - gains[:-1]))
    rest = np.ones(len(when), bool)
    rest[first : ends[first]] = False
    if not rest.any():
        return False
    excess = max(1.0, float(np.mean(misfit[rest])))
    left = _misfit_of_constants(brightness[rest], scale[rest], band[rest]) - float(np.sum(misfit[rest]))
    return left > SURE_GAIN * excess


def _misfit_of_constants(mag: Float64Array, error: Float64Array, band: IntArray) -> float:
    total = 0.0
    for one in np.unique(band):
        own = band == one
        mean = np.average(mag[own], weights=error[own] ** -2)
        total += float(np.sum(((mag[own] - mean) / error[own]) ** 2))
    return total

"""Whether the best period of a light curve is one: single events have a best period, too."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.science.light_curves.harmonics import fit_wave
from obsarchive.science.light_curves.repetition import repeats
from surveys.periods import LARGEST_ERROR, Period


def is_repeated(
    found: Period, mjd: NDArray[Any], mag: NDArray[Any], mag_err: NDArray[Any], bands: NDArray[Any]
) -> bool:
    """Return whether more of the data than a single event follows the light curve of a period.

    Parameters
    ----------
    found : Period
        What :func:`surveys.periods.find_period` found in the same data.
    mjd, mag, mag_err : ndarray (n,)
        Times [d], magnitudes and errors [mag].
    bands : ndarray (n,)
        Band of each epoch.

    Returns
    -------
    bool
    """
    good = np.isfinite(mjd) & np.isfinite(mag) & (mag_err > 0) & (mag_err < LARGEST_ERROR)
    time, brightness, error = (np.asarray(values[good], np.float64) for values in (mjd, mag, mag_err))
    numbers = np.unique(bands[good], return_inverse=True)[1]
    model = np.empty(len(time))
    for one in np.unique(numbers):
        own = numbers == one
        model[own] = _model(found, time[own], brightness[own], error[own])
    return repeats(time, brightness, error, numbers, model, found.period_d)


def _model(found: Period, time: NDArray[Any], mag: NDArray[Any], error: NDArray[Any]) -> NDArray[Any]:
    median: NDArray[Any] = np.full(len(time), np.median(mag))
    if found.duration_d is not None:
        cycles = (time - found.epoch_mjd) / found.period_d
        in_box = np.abs(cycles - np.round(cycles)) * found.period_d < found.duration_d / 2
        return np.asarray(median + found.amplitude_mag * in_box)
    wave = fit_wave(time, mag, error, found.period_d, found.epoch_mjd)
    return wave.magnitude(time) if wave else median

"""Periods of variable sources: Lomb-Scargle for waves, box least squares for eclipses and transits.

The periodograms are astropy's (VanderPlas 2018, ApJS 236, 16; VanderPlas & Ivezić 2015, ApJ 812, 18 for several
bands; Kovács, Zucker & Mazeh 2002, A&A 391, 369 for boxes). Here is what is around them: the grid, the refinement.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.timeseries import BoxLeastSquares, LombScargle
from numpy.typing import NDArray

from obsarchive.errors import ConfigError, Unprocessable

Floats = NDArray[np.float64]

METHODS = ("lomb-scargle", "bls")
OVERSAMPLING = 5
"""Frequencies of the grid within 1 / (length of the data): enough to lose no peak."""
CANDIDATES = 12
HARMONICS = 4
MIN_EPOCHS = 12
LARGEST_ERROR = 1.0
"""An epoch with a larger error is no measurement [mag]."""


@dataclass(frozen=True)
class Period:
    """A period.

    Parameters
    ----------
    period_d : float
        The best one [d].
    power : float
        Its power: of the variance that is explained for waves (0 to 1), S/N of the depth for boxes.
    epoch_mjd : float
        When the source is brightest (waves) or faintest (boxes).
    amplitude_mag : float
        Half of the range of the wave, or depth of the box [mag].
    false_alarm : float or None
        Probability that noise makes such a peak (Baluev 2008, MNRAS 385, 1279); None where it is not known.
    method : str
        ``lomb-scargle`` or ``bls``.
    """

    period_d: float
    power: float
    epoch_mjd: float
    amplitude_mag: float
    false_alarm: float | None
    method: str


def find_period(
    mjd: NDArray,
    mag: NDArray,
    mag_err: NDArray,
    bands: NDArray | None = None,
    period_range: tuple[float, float] = (0.1, 100.0),
    method: str = "lomb-scargle",
) -> Period:
    """Return the best period.

    Waves are looked for with one sine in all bands together; the highest peaks of that are compared and refined with
    four harmonics in every band, so that neither half the period nor a neighbouring alias wins.

    Parameters
    ----------
    mjd, mag, mag_err : ndarray (n,)
        Epochs [d], magnitudes and errors; what is not finite is left out.
    bands : ndarray (n,), optional
        Band of every epoch; None: one band.
    period_range : (float, float)
        Shortest and longest period [d].
    method : str
        ``lomb-scargle`` or ``bls`` (of one band, or of bands that were put to one level).

    Raises
    ------
    Unprocessable
        Fewer than twelve good epochs.
    ConfigError
        An unknown method, or an empty range.
    """
    if method not in METHODS or not 0 < period_range[0] < period_range[1]:
        raise ConfigError(
            f"period search: method {method!r} of {METHODS}, range {period_range}: two growing periods [d]"
        )
    good = np.isfinite(mjd) & np.isfinite(mag) & (mag_err > 0) & (mag_err < LARGEST_ERROR)
    if good.sum() < MIN_EPOCHS:
        raise Unprocessable(f"{int(good.sum())} good epochs: a period needs {MIN_EPOCHS}")
    names = np.zeros(len(mjd), int) if bands is None else np.unique(bands, return_inverse=True)[1]
    time, brightness, error = (np.asarray(values[good], np.float64) for values in (mjd, mag, mag_err))
    data = _Data(time, brightness, error, names[good])
    return _waves(data, period_range) if method == "lomb-scargle" else _boxes(data, period_range)


@dataclass(frozen=True)
class _Data:
    mjd: Floats
    mag: Floats
    error: Floats
    band: NDArray[np.int64]

    @property
    def span(self) -> float:
        return float(self.mjd.max() - self.mjd.min())

    def level(self) -> Floats:
        """Magnitudes without the median of their band."""
        level = self.mag.copy()
        for band in np.unique(self.band):
            level[self.band == band] -= np.median(self.mag[self.band == band])
        return level


def _waves(data: _Data, period_range: tuple[float, float]) -> Period:
    low, high = 1 / period_range[1], 1 / period_range[0]
    step = 1 / (OVERSAMPLING * max(data.span, period_range[0]))
    frequency: NDArray[Any] = low + step * np.arange(int(np.ceil((high - low) / step)) + 1)
    power = np.zeros(len(frequency))
    for band in np.unique(data.band):
        own = data.band == band
        if own.sum() > 3:
            # psd: half of the chi square that the wave takes away, so that bands add up
            model = LombScargle(data.mjd[own], data.mag[own], data.error[own])
            power += model.power(frequency, method="fast", assume_regular_frequency=True, normalization="psd")
    candidates = _peaks(frequency, power)
    # a wave that is not a sine may be strongest at twice its frequency
    candidates = np.concatenate([candidates, candidates / 2])
    candidates = candidates[(candidates >= low) & (candidates <= high)]
    fits = [_refined(data, float(one), step) for one in candidates]
    best, misfit = min(fits, key=lambda found: found[1])
    single = LombScargle(data.mjd, data.level(), data.error)
    false_alarm = float(single.false_alarm_probability(single.power(best), method="baluev", maximum_frequency=high))
    wave = _fit(data, best)[1]
    constant = _misfit_of_constant(data)
    phase = np.linspace(0, 1, 400, endpoint=False)
    shape = _harmonics(phase, 1.0) @ wave
    start = float(data.mjd.min())
    epoch = start + float(phase[np.argmin(shape)]) / best
    return Period(1 / best, 1 - misfit / constant, epoch, float(np.ptp(shape)) / 2, false_alarm, "lomb-scargle")


def _peaks(frequency: Floats, power: Floats) -> Floats:
    """Return the frequencies of the highest separate peaks."""
    padded = np.concatenate([[-np.inf], power, [-np.inf]])
    tops = np.flatnonzero((power >= padded[:-2]) & (power >= padded[2:]))
    return frequency[tops[np.argsort(power[tops])[::-1][:CANDIDATES]]]


def _harmonics(time: Floats, frequency: float) -> Floats:
    angle = 2 * np.pi * frequency * time[:, None] * np.arange(1, HARMONICS + 1)
    return np.hstack([np.cos(angle), np.sin(angle)])


def _scales(data: _Data) -> Floats:
    """Return how much the source varies in its bands, in units of that with the most epochs."""
    scale, level = np.ones(int(data.band.max()) + 1), data.level()
    for band in np.unique(data.band):
        scale[band] = max(float(np.median(np.abs(level[data.band == band]))), 1e-9)
    return scale / scale[np.argmax(np.bincount(data.band))]


def _fit(data: _Data, frequency: float) -> tuple[float, NDArray[Any]]:
    """Fit harmonics, the same in every band but for a mean and a factor of each; returns the misfit and the wave.

    The factors are those of the scatter of the bands: exact enough to compare periods.
    """
    scale = _scales(data)
    n_bands = len(scale)
    means = (data.band[:, None] == np.arange(n_bands)).astype(np.float64)
    design = np.hstack([_harmonics(data.mjd - data.mjd.min(), frequency) * scale[data.band][:, None], means])
    weighted = design / data.error[:, None]
    wanted = data.mag / data.error
    solution: NDArray[Any]
    solution, *_ = np.linalg.lstsq(weighted, wanted, rcond=None)
    misfit = float(np.sum((wanted - weighted @ solution) ** 2))
    return misfit, solution[: 2 * HARMONICS]


def _misfit_of_constant(data: _Data) -> float:
    total = 0.0
    for band in np.unique(data.band):
        own = data.band == band
        weights = 1 / data.error[own] ** 2
        mean = np.sum(weights * data.mag[own]) / np.sum(weights)
        total += float(np.sum(weights * (data.mag[own] - mean) ** 2))
    return max(total, 1e-12)


def _refined(data: _Data, frequency: float, step: float) -> tuple[float, float]:
    """Return the best frequency within a step of the grid, and its misfit: a grid ever finer."""
    best, misfit, reach = frequency, np.inf, step
    for _ in range(4):
        for trial in np.linspace(best - reach, best + reach, 11):
            if trial > 0:
                found = _fit(data, float(trial))[0]
                if found < misfit:
                    best, misfit = float(trial), found
        reach /= 5
    return best, misfit


def _boxes(data: _Data, period_range: tuple[float, float]) -> Period:
    longest = min(period_range[1], data.span)
    if longest <= period_range[0]:
        raise Unprocessable(f"{data.span:.3g} d of data: too short for periods from {period_range[0]:g} d on")
    durations = np.geomspace(0.02, 0.15, 5) * period_range[0]
    model = BoxLeastSquares(data.mjd, -data.level(), data.error)
    grid = model.autoperiod(durations, minimum_period=period_range[0], maximum_period=longest, frequency_factor=2.0)
    found = model.power(grid, durations, objective="snr")
    best = int(np.argmax(found.power))
    fine = found.period[best] * (1 + np.linspace(-1, 1, 2001) * found.duration[best] / data.span)
    again = model.power(fine[fine > durations.max()], durations, objective="snr")
    best = int(np.argmax(again.power))
    return Period(
        float(again.period[best]),
        float(again.power[best]),
        float(again.transit_time[best]),
        float(again.depth[best]),
        None,
        "bls",
    )

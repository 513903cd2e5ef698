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
CANDIDATES, FINALISTS, ROUNDS = 12, 4, 4
HARMONICS = 4
WAVE_ROUNDS = 3
DOUBLING_PAYS = 0.8
"""Twice the period is taken if it leaves less than this fraction of the misfit."""
BOX_FRACTIONS = (0.02, 0.035, 0.06, 0.1, 0.15)
"""Lengths of boxes, in units of the shortest period of an octave."""
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
    if data.span < 2 * period_range[0]:
        raise Unprocessable(f"{data.span:.3g} d of data are less than two periods of {period_range[0]:g} d")
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
    rough = sorted((_refined(data, float(one), step, 1) for one in candidates), key=lambda found: found[1])
    fine = [_refined(data, frequency, step, ROUNDS) for frequency, _ in rough[:FINALISTS]]
    best, misfit = min(fine, key=lambda found: found[1])
    if best / 2 >= low:
        # two unequal eclipses are strongest at twice their frequency; equal ones are not to be told apart
        half = _refined(data, best / 2, step, ROUNDS)
        if half[1] < DOUBLING_PAYS * misfit:
            best, misfit = half
    single = LombScargle(data.mjd, data.level(), data.error)
    false_alarm = float(single.false_alarm_probability(single.power(best), method="baluev", maximum_frequency=high))
    wave = _wave(data, best)
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


def _wave(data: _Data, frequency: float) -> NDArray[Any]:
    """Return the wave in the band with the most epochs, when also the factors of the others are fitted."""
    scale = _scales(data)
    first = int(np.argmax(np.bincount(data.band)))
    wave = _fit(data, frequency, scale)[1]
    for _ in range(WAVE_ROUNDS):
        shape, level = _harmonics(data.mjd - data.mjd.min(), frequency) @ wave, data.level()
        for band in np.unique(data.band):
            own = data.band == band
            swing = shape[own] - np.mean(shape[own])
            power = float(np.sum(swing**2))
            if power > 0:
                scale[band] = float(np.sum(swing * level[own])) / power
        if not scale[first] > 0:
            break
        scale = scale / scale[first]
        wave = _fit(data, frequency, scale)[1]
    return wave


def _fit(data: _Data, frequency: float, scale: Floats | None = None) -> tuple[float, NDArray[Any]]:
    """Fit harmonics, the same in every band but for a mean and a factor of each; returns the misfit and the wave.

    Without factors those of the scatter of the bands are taken: exact enough to compare periods.
    """
    scale = _scales(data) if scale is None else scale
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


def _refined(data: _Data, frequency: float, step: float, rounds: int) -> tuple[float, float]:
    """Return the best frequency within a step of the grid, and its misfit: a grid ever finer."""
    best, misfit, reach = frequency, np.inf, step
    for _ in range(rounds):
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
    model = BoxLeastSquares(data.mjd, -data.level(), data.error)
    fits = [
        _best_box(model, data.span, (start, min(2 * start, longest)))
        for start in period_range[0] * 2.0 ** np.arange(int(np.ceil(np.log2(longest / period_range[0]))))
    ]
    return max(fits, key=lambda found: found.power)


def _best_box(model: BoxLeastSquares, span: float, octave: tuple[float, float]) -> Period:
    """Return the best box with a period in an octave.

    Periods are so near that a box drifts by less than half of its length over the data; then again around the best.
    """
    durations = octave[0] * np.array(BOX_FRACTIONS)
    step = BOX_FRACTIONS[0] / 2 / span
    frequency = np.arange(1 / octave[1], 1 / octave[0] + step, step)
    found = model.power(1 / frequency, durations, objective="snr")
    best = 1 / found.period[int(np.argmax(found.power))]
    again = model.power(1 / (best + step * np.linspace(-1.5, 1.5, 61)), durations, objective="snr")
    i = int(np.argmax(again.power))
    period, power, start, depth = again.period[i], again.power[i], again.transit_time[i], again.depth[i]
    return Period(float(period), float(power), float(start), float(depth), None, "bls")

"""Period search: Lomb-Scargle periodogram for pulsations, box least squares (BLS) for eclipses and transits.

The periodograms are astropy's (VanderPlas 2018, ApJS 236, 16; VanderPlas & Ivezić 2015, ApJ 812, 18 for several
bands; Kovács, Zucker & Mazeh 2002, A&A 391, 369 for boxes); this module adds the frequency grid and the refinement.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import ConfigError, Unprocessable

if TYPE_CHECKING:
    from astropy.timeseries import BoxLeastSquares

Floats = NDArray[np.float64]

METHODS = ("lomb-scargle", "bls")
OVERSAMPLING = 5
"""Frequencies of the grid within 1 / (length of the data): enough not to miss a peak."""
CANDIDATES, FINALISTS, ROUNDS = 12, 4, 4
HARMONICS = 4
SAME_PHASE = 0.05
"""Part of a period within which epochs deviate alike from a light curve that does not repeat exactly."""
LONGEST_MOMENT_D, LEAST_MOMENTS = 0.05, 3
"""Largest duration of a moment [d], and least number of moments of several bands for each unknown."""
WAVE_ROUNDS = 3
SURE_GAIN = 16.0
"""Chi square by which the best period is better than any other one where it is not ambiguous."""
DRAWN, DRAWN_SEED = 200, 1
"""Number of light curves drawn for the errors of their shape, and seed of the random numbers."""
DOUBLING_PAYS = 0.8
"""Twice the period is returned if chi square falls below this fraction."""
BOX_FRACTIONS = (0.02, 0.035, 0.06, 0.1, 0.15)
"""Durations of boxes, in units of the shortest period of an octave."""
MIN_EPOCHS = 12
LARGEST_ERROR = 1.0
"""Epochs with a larger error are rejected [mag]."""


@dataclass(frozen=True)
class Period:
    """A period.

    Parameters
    ----------
    period_d : float
        Best period [d].
    power : float
        Its power: fraction of the variance that the harmonics explain (0 to 1), or S/N of the depth of the box.
    epoch_mjd : float
        Time of maximum light (Lomb-Scargle) or mid-eclipse (BLS), MJD [d].
    amplitude_mag : float
        Semi-amplitude, or depth of the box [mag].
    false_alarm : float or None
        False-alarm probability (Baluev 2008, MNRAS 385, 1279); None for BLS.
    method : str
        ``lomb-scargle`` or ``bls``.
    period_error_d, epoch_error_d, amplitude_error_mag : float or None
        Standard errors, if the period is the true one and no alias of it; None for BLS.
    is_ambiguous : bool
        Whether another period, `alternative_d`, explains the data nearly as well: one of both may be an alias.
    alternative_d : float or None
        The second best period [d]; None without one.
    duration_d : float or None
        Length of the box [d]; None for Lomb-Scargle.
    """

    period_d: float
    power: float
    epoch_mjd: float
    amplitude_mag: float
    false_alarm: float | None
    method: str
    period_error_d: float | None = None
    epoch_error_d: float | None = None
    amplitude_error_mag: float | None = None
    is_ambiguous: bool = False
    alternative_d: float | None = None
    duration_d: float | None = None


def find_period(
    mjd: NDArray[Any],
    mag: NDArray[Any],
    mag_err: NDArray[Any],
    bands: NDArray[Any] | None = None,
    period_range: tuple[float, float] = (0.1, 100.0),
    method: str = "lomb-scargle",
) -> Period:
    """Return the best period; whether it is one at all, :func:`surveys.repetition.is_repeated` says.

    Lomb-Scargle: the periodograms of all bands with one sine are added; the highest peaks are compared and refined with
    four harmonics in each band, so that neither half the period nor a neighbouring alias is returned.

    Parameters
    ----------
    mjd, mag, mag_err : ndarray (n,)
        Times [d], magnitudes and errors [mag]; epochs that are not finite are rejected.
    bands : ndarray (n,), optional
        Band of each epoch; None: one band.
    period_range : (float, float)
        Shortest and longest period [d].
    method : str
        ``lomb-scargle`` or ``bls`` (with the median of each band subtracted).

    Returns
    -------
    Period

    Raises
    ------
    Unprocessable
        Fewer than twelve good epochs, or data that are too short.
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
        """Return the magnitudes minus the median of their band."""
        level = self.mag.copy()
        for band in np.unique(self.band):
            level[self.band == band] -= np.median(self.mag[self.band == band])
        return level


def _waves(data: _Data, period_range: tuple[float, float]) -> Period:
    from astropy.timeseries import LombScargle  # late: the period search is optional

    low, high = 1 / period_range[1], 1 / period_range[0]
    step = 1 / (OVERSAMPLING * max(data.span, period_range[0]))
    frequency: NDArray[Any] = low + step * np.arange(int(np.ceil((high - low) / step)) + 1)
    power = np.zeros(len(frequency))
    for band in np.unique(data.band):
        own = data.band == band
        if own.sum() > 3:
            # psd: half the decrease of chi square, which may be added over bands
            model = LombScargle(data.mjd[own], data.mag[own], data.error[own])
            power += model.power(frequency, method="fast", assume_regular_frequency=True, normalization="psd")
    candidates = _peaks(frequency, power)
    rough = sorted((_refined(data, float(one), step, 1) for one in candidates), key=lambda found: found[1])
    fine = [_refined(data, frequency, step, ROUNDS) for frequency, _ in rough[:FINALISTS]]
    best, misfit = _simplest(data, fine)
    if best / 2 >= low:
        # unequal eclipses give the highest peak at twice their frequency; equal ones cannot be distinguished
        half = _refined(data, best / 2, step, ROUNDS)
        if half[1] < DOUBLING_PAYS * misfit and misfit - half[1] > SURE_GAIN * _excess(data, half[1]):
            best, misfit = half
        fine.append(half)
    single = LombScargle(data.mjd, data.level(), data.error)
    false_alarm = float(single.false_alarm_probability(single.power(best), method="baluev", maximum_frequency=high))
    other = _alternative(data, fine + rough, (best, misfit))
    explained = 1 - misfit / _misfit_of_constant(data)
    shape, errors = _light_curve(data, best)
    return Period(
        1 / best,
        explained,
        *shape,
        false_alarm,
        "lomb-scargle",
        *errors,
        is_ambiguous=other is not None and other[1] - misfit < SURE_GAIN * _excess(data, misfit),
        alternative_d=1 / other[0] if other is not None else None,
    )


def _simplest(data: _Data, fits: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the best fit, or that of twice its frequency, if two waves in a period say no more than one."""
    best = min(fits, key=lambda fit: fit[1])
    twice = [fit for fit in fits if abs(fit[0] - 2 * best[0]) < 1 / data.span]
    simpler = min(twice, key=lambda fit: fit[1], default=best)
    return simpler if simpler[1] - best[1] < SURE_GAIN * _excess(data, best[1]) else best


def _alternative(data: _Data, fits: list[tuple[float, float]], best: tuple[float, float]) -> tuple[float, float] | None:
    """Return the best fit at another frequency; at half of the best one, only if it is clearly better there."""
    # two waves in a period fit whatever one does, with more harmonics
    clearly = best[1] - SURE_GAIN * _excess(data, best[1])
    apart = [
        fit
        for fit in fits
        if abs(fit[0] - best[0]) > 1 / data.span and (abs(fit[0] - best[0] / 2) > 1 / data.span or fit[1] < clearly)
    ]
    return min(apart, key=lambda fit: fit[1], default=None)


def _excess(data: _Data, misfit: float) -> float:
    """Return by how much the scatter about a fit exceeds the errors, in squares; at least 1."""
    freedom = len(data.mjd) - 2 * HARMONICS - len(np.unique(data.band)) - 1
    return max(1.0, misfit / max(freedom, 1))


def _light_curve(data: _Data, frequency: float) -> tuple[tuple[float, float], tuple[float, float, float]]:
    """Return time of maximum and semi-amplitude, and the errors of the period, of that time and of the amplitude.

    The errors are those of the linearised fit of harmonics and frequency together (Montgomery & O'Donoghue 1999, Delta
    Scuti Star Newsletter 13, 28, for a sine); those of the shape are the scatter of shapes drawn from it.
    """
    scale = _relative_amplitudes(data, frequency)
    wave, covariance = _linearised(data, frequency, scale, _harmonics_that_count(data, frequency, scale))
    rng = np.random.default_rng(DRAWN_SEED)
    drawn = rng.multivariate_normal(np.r_[frequency, wave], covariance, DRAWN, method="eigh")
    phase = np.linspace(0, 1, 400, endpoint=False)
    basis = _harmonics(phase, 1.0)[:, _columns(len(wave) // 2)]
    shape, shapes = basis @ wave, drawn[:, 1:] @ basis.T
    start, top = float(data.mjd.min()), float(phase[np.argmin(shape)])
    # the maximum next to the best one: its number of cycles is not uncertain
    tops = top + (phase[np.argmin(shapes, axis=1)] - top + 0.5) % 1 - 0.5
    epochs, swings = tops / drawn[:, 0], np.ptp(shapes, axis=1) / 2
    period_error = float(np.sqrt(covariance[0, 0])) / frequency**2
    return (
        (start + top / frequency, float(np.ptp(shape)) / 2),
        (period_error, float(np.std(epochs)), float(np.std(swings))),
    )


def _peaks(frequency: Floats, power: Floats) -> Floats:
    """Return the frequencies of the highest separate peaks."""
    padded = np.concatenate([[-np.inf], power, [-np.inf]])
    tops = np.flatnonzero((power >= padded[:-2]) & (power >= padded[2:]))
    return frequency[tops[np.argsort(power[tops])[::-1][:CANDIDATES]]]


def _harmonics(time: Floats, frequency: float) -> Floats:
    angle = 2 * np.pi * frequency * time[:, None] * np.arange(1, HARMONICS + 1)
    return np.hstack([np.cos(angle), np.sin(angle)])


def _columns(n: int) -> NDArray[np.int64]:
    """Return the columns of the first harmonics in the design of :func:`_harmonics`."""
    return np.concatenate([np.arange(n), HARMONICS + np.arange(n)])


def _design(data: _Data, frequency: float, scale: Floats, n: int) -> Floats:
    """Return the columns of the first harmonics, and of the means of the bands."""
    means = (data.band[:, None] == np.arange(len(scale))).astype(np.float64)
    waves = _harmonics(data.mjd - data.mjd.min(), frequency)[:, _columns(n)]
    return np.hstack([waves * scale[data.band][:, None], means])


def _harmonics_that_count(data: _Data, frequency: float, scale: Floats) -> int:
    """Return the number of harmonics that are significant (Akaike 1974): noise in others adds to the amplitude."""
    wanted = data.mag / data.error
    misfits = []
    for n in range(1, HARMONICS + 1):
        design = _design(data, frequency, scale, n) / data.error[:, None]
        misfits.append(float(np.sum((wanted - design @ np.linalg.lstsq(design, wanted, rcond=None)[0]) ** 2)))
    per_harmonic = 4 * _excess(data, misfits[-1])
    return int(np.argmin(np.array(misfits) + per_harmonic * np.arange(HARMONICS))) + 1


def _linearised(data: _Data, frequency: float, scale: Floats, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return harmonics, and the covariance of the frequency and them, of a fit of both about the best frequency."""
    time, chosen = data.mjd - data.mjd.min(), _columns(n)
    design = _design(data, frequency, scale, n)
    solution = np.linalg.lstsq(design / data.error[:, None], data.mag / data.error, rcond=None)[0]
    order = np.tile(np.arange(1, n + 1), 2)
    # cos' = -sin and sin' = cos, times the angle per frequency
    swapped = np.r_[solution[n : 2 * n], -solution[:n]] * order
    waves = _harmonics(time, frequency)[:, chosen] * scale[data.band][:, None]
    slope = 2 * np.pi * time * (waves @ swapped)
    weighted = np.hstack([slope[:, None], design]) / data.error[:, None]
    misfit = float(np.sum((data.mag / data.error - weighted[:, 1:] @ solution) ** 2))
    covariance: NDArray[Any]
    moment = _moments(data.mjd, min(SAME_PHASE / frequency, LONGEST_MOMENT_D))
    if len(scale) > 1 and LEAST_MOMENTS * weighted.shape[1] <= moment.max() + 1 < len(moment):
        covariance = _covariance_of_groups(weighted, data.mag / data.error - weighted[:, 1:] @ solution, moment)
    else:
        covariance = np.linalg.pinv(weighted.T @ weighted) * _excess(data, misfit)
    kept = 1 + 2 * n
    return np.asarray(solution[: 2 * n], np.float64), np.asarray(covariance[:kept, :kept], np.float64)


def _moments(mjd: Floats, longest_d: float) -> NDArray[np.int64]:
    """Return the number of the moment of each epoch, from the first one to what follows within so much time."""
    moment = np.empty(len(mjd), np.int64)
    number, start = -1, -np.inf
    for i in np.argsort(mjd, kind="stable"):
        if mjd[i] - start > longest_d:
            number, start = number + 1, float(mjd[i])
        moment[i] = number
    return moment


def _covariance_of_groups(rows: Floats, residual: Floats, group: NDArray[np.int64]) -> Floats:
    """Return the covariance of least squares whose residuals are correlated within groups, by the jackknife.

    A light curve that does not repeat exactly deviates alike in all bands of a moment. What the fit would be without
    a group follows from its residuals and its leverage (Bell & McCaffrey 2002, Survey Methodology 28, 169).
    """
    inverse = np.linalg.pinv(rows.T @ rows)
    total = np.zeros_like(inverse)
    for number in range(group.max() + 1):
        own = rows[group == number]
        free = np.eye(len(own)) - own @ inverse @ own.T
        pull = own.T @ (np.linalg.pinv(free, hermitian=True) @ residual[group == number])
        total += np.outer(pull, pull)
    covariance: Floats = inverse @ total @ inverse
    return covariance


def _scales(data: _Data) -> Floats:
    """Return the relative amplitude in each band, in units of that of the band with the most epochs."""
    scale: Floats = np.ones(int(data.band.max()) + 1)
    level = data.level()
    for band in np.unique(data.band):
        scale[band] = max(float(np.median(np.abs(level[data.band == band]))), 1e-9)
    scale /= scale[np.argmax(np.bincount(data.band))]
    return scale


def _relative_amplitudes(data: _Data, frequency: float) -> Floats:
    """Return the amplitudes of the bands, fitted, in units of that of the band with the most epochs."""
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
    return scale


def _fit(data: _Data, frequency: float, scale: Floats | None = None) -> tuple[float, NDArray[Any]]:
    """Fit harmonics that are the same in every band but for a mean and a scale; return chi square and coefficients.

    Without scales those of `_scales` are used, which are precise enough to compare periods.
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
    """Return the best frequency within a step of the grid and its chi square, by ever finer grids."""
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
    from astropy.timeseries import BoxLeastSquares

    longest = min(period_range[1], data.span)
    if longest <= period_range[0]:
        raise Unprocessable(f"{data.span:.3g} d of data: too short for periods from {period_range[0]:g} d on")
    model = BoxLeastSquares(data.mjd, -data.level(), data.error)
    fits = [
        _best_box(model, data.span, (start, min(2 * start, longest)))
        for start in period_range[0] * 2.0 ** np.arange(int(np.ceil(np.log2(longest / period_range[0]))))
    ]
    return max(fits, key=lambda found: found.power)


def _best_box(model: "BoxLeastSquares", span: float, octave: tuple[float, float]) -> Period:
    """Return the best box with a period in an octave.

    The frequency step is such that a box drifts by less than half of its length over the data; it is refined around the
    best period.
    """
    durations = octave[0] * np.array(BOX_FRACTIONS)
    step = BOX_FRACTIONS[0] / 2 / span
    frequency = np.arange(1 / octave[1], 1 / octave[0] + step, step)
    found = model.power(1 / frequency, durations, objective="snr")
    best = 1 / found.period[int(np.argmax(found.power))]
    again = model.power(1 / (best + step * np.linspace(-1.5, 1.5, 61)), durations, objective="snr")
    i = int(np.argmax(again.power))
    period, power, start, depth = again.period[i], again.power[i], again.transit_time[i], again.depth[i]
    duration_d = float(again.duration[i])
    return Period(float(period), float(power), float(start), float(depth), None, "bls", duration_d=duration_d)

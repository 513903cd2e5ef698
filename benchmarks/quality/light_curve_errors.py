"""Errors of light curves, of zero points of frames, of periods, events and features: simulations of fluxes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.quality.pulls import Pulls, simulate, table
from obsarchive.errors import Unprocessable
from obsarchive.science.light_curves.features import features
from obsarchive.science.light_curves.light_curve import magnitudes_of_fluxes
from obsarchive.science.light_curves.point_lens import Photometry, fit
from obsarchive.science.photometry.ensemble import frame_zero_points
from obsarchive.science.photometry.error_model import fit_error_model
from obsarchive.science.photometry.zero_point import instrumental_magnitudes
from surveys.dataset import Lightcurve
from surveys.finder import Finder
from surveys.periods import find_period
from surveys.quality import QualityChecker

TITLE = "Errors of light curves, periods and events"
TEXT = """
Fluxes are drawn with the noise of their photons, a sky, errors of the flat field (2 to 3 mmag, which no claimed error
holds; the error model has to find them), clouds and, in one regime, gradients of clouds; 3 % of the stars vary. The
offset of all magnitudes of a dataset is the error of its zero point, which is published apart; here it is that of the
comparison stars. Times of periods are those of nights: one window of eight hours a day. An *alias* is a period that
differs from the true one by more than half of 1/length in frequency: it is counted below and has no pull.
"""
Found = dict[str, tuple[object, object, object]]
"""Values found, errors claimed and truths, by quantity."""


@dataclass(frozen=True)
class Field:
    """Stars, frames, error of the flat field [mag], and gradient of the clouds [mag over half of the field]."""

    stars: int
    frames: int
    flat: float = 0.003
    gradient: float = 0.0


FIELDS = {
    "200 stars, 40 frames": Field(200, 40),
    "5 comparison stars, 40 frames": Field(6, 40),
    "40 stars, 4 frames": Field(40, 4, 0.0),
    "gradients of clouds": Field(60, 40, 0.002, 0.03),
}
FAINTEST_MAG, SKY_E2, ZERO_E = 18.5, 2000.0, 25.0


def _fluxes(field: Field, seed: int) -> tuple[np.ndarray, ...]:
    """Mean magnitudes and places, true magnitudes and zero points of frames, and measured fluxes with their errors."""
    rng = np.random.default_rng(seed)
    n, frames = field.stars, field.frames
    mag = rng.uniform(13, FAINTEST_MAG if n > 10 else 16, n)
    # the target: every second one bright
    mag[0] = 13.0 if seed % 2 else rng.uniform(15, 18)
    place = rng.uniform(-1, 1, (n, 2))
    true = np.repeat(mag[:, np.newaxis], frames, axis=1)
    varies = np.arange(n) < 1 + round(0.03 * n)
    true[varies] += 0.2 * np.sin(np.outer(rng.uniform(0.3, 1.5, varies.sum()), np.arange(frames)))
    clouds = rng.normal(0, 0.1, frames) - rng.exponential(0.1, frames)
    slopes = rng.normal(0, field.gradient, (2, frames))
    # a gradient that all frames share is one of the star's own magnitudes
    slopes -= slopes.mean(axis=1, keepdims=True)
    light = 10 ** (-0.4 * (true - ZERO_E - clouds - place @ slopes))
    flux = light + rng.normal(size=light.shape) * np.sqrt(light + SKY_E2)
    flux *= 1 + rng.normal(0, field.flat, light.shape)
    return mag, place, true, clouds, varies, flux, np.sqrt(np.maximum(flux, 0) + SKY_E2)


def _ensemble(field: Field, seed: int) -> Found:
    mag, place, true, clouds, varies, flux, error = _fluxes(field, seed)
    usable = np.ones(flux.shape, bool)
    terms = {"place": place} if field.gradient or field.stars > 100 else None
    scale = frame_zero_points(flux, error, usable, terms, np.arange(len(mag)) == 0)
    flux, error = scale.applied(flux, error)
    error = fit_error_model(flux, error, usable).applied(flux, error)
    found, claimed = instrumental_magnitudes(flux, error)
    found = found + ZERO_E
    steady = ~varies & (np.median(claimed, axis=1) < 0.1)
    weight = 1 / np.median(claimed[steady], axis=1) ** 2
    shared = float(np.average(np.mean((found - true)[steady], axis=1), weights=weight))
    truth, light = true + shared, 10 ** (-0.4 * (true + shared - ZERO_E))
    bright, faint = steady & (mag < 14.5), ~varies & (mag > 17.5)
    kind = "bright target" if seed % 2 else "target"
    measured: Found = {
        f"magnitude of the {kind}": (found[0], claimed[0], truth[0]),
        f"flux of the {kind}": (flux[0] / light[0], error[0] / light[0], 1.0),
        "magnitudes of bright constant stars": (found[bright], claimed[bright], truth[bright]),
    }
    if faint.any():
        measured["fluxes of faint stars"] = (flux[faint] / light[faint], error[faint] / light[faint], 1.0)
        measured["magnitudes of faint stars"] = (found[faint], claimed[faint], truth[faint])
    if not field.gradient:
        zero = np.mean(scale.correction - clouds, axis=0)
        measured["zero point of a frame"] = (zero - np.mean(zero), scale.error, 0.0)
    return measured


def trial_wide(seed: int) -> Found:
    return _ensemble(FIELDS["200 stars, 40 frames"], seed)


def trial_few_stars(seed: int) -> Found:
    return _ensemble(FIELDS["5 comparison stars, 40 frames"], seed)


def trial_few_frames(seed: int) -> Found:
    return _ensemble(FIELDS["40 stars, 4 frames"], seed)


def trial_clouds(seed: int) -> Found:
    return _ensemble(FIELDS["gradients of clouds"], seed)


def _period(seed: int, n: int, amplitude: float, error: float, nights: int) -> Found:
    rng = np.random.default_rng(seed)
    period, phase = rng.uniform(0.3, 1.7), rng.random()
    mjd = np.sort(rng.integers(0, nights, n) + rng.uniform(0.2, 0.55, n))
    turn = 2 * np.pi * (mjd / period - phase)
    mag = 15 - amplitude * np.cos(turn + 0.5 * np.sin(turn)) + rng.normal(0, error, n)
    found = find_period(mjd, mag, np.full(n, error), None, (0.1, 10.0))
    if abs(1 / found.period_d - 1 / period) > 0.5 / np.ptp(mjd):
        return {"alias, flagged" if found.is_ambiguous else "alias, not flagged": (0.0, 1.0, 0.0)}
    cycles = np.round(found.epoch_mjd / period - phase)
    return {
        "period [d]": (found.period_d, found.period_error_d, period),
        "time of maximum [d]": (found.epoch_mjd, found.epoch_error_d, (cycles + phase) * period),
        "semi-amplitude [mag]": (found.amplitude_mag, found.amplitude_error_mag, amplitude),
        "true, flagged" if found.is_ambiguous else "true, not flagged": (0.0, 1.0, 0.0),
    }


def trial_bright_period(seed: int) -> Found:
    return _period(seed, 200, 0.4, 0.02, 300)


def trial_faint_period(seed: int) -> Found:
    return _period(seed, 200, 0.1, 0.05, 300)


def trial_few_epochs(seed: int) -> Found:
    return _period(seed, 40, 0.4, 0.05, 120)


def _event(seed: int, height: float, sampling_d: float) -> Found:
    """An event of a Gaussian shape in the light curve of a survey."""
    rng = np.random.default_rng(seed)
    mjd = 58000 + np.arange(0, 200, sampling_d) + rng.uniform(0, 0.4, round(200 / sampling_d))
    middle, width, noise = 58100 + rng.uniform(-3, 3), rng.uniform(4, 8), 2.0
    flux = 100 + height * noise * np.exp(-0.5 * ((mjd - middle) / width) ** 2) + rng.normal(0, noise, len(mjd))
    error = np.full(len(mjd), noise)
    mag, mag_err = magnitudes_of_fluxes(flux, error)
    columns = {"mjd": mjd, "flux": flux, "flux_err": error, "mag": mag, "mag_err": mag_err}
    columns |= {"exptime": np.full(len(mjd), 30.0), "flag": np.zeros(len(mjd), bool)}
    columns |= {"ra": np.full(len(mjd), 10.0), "dec": np.full(len(mjd), 10.0)}
    finder = Finder()
    events = finder.detect(finder.process(QualityChecker().check(Lightcurve(columns, {"filter": "r"}))))
    near = [one.fit for one in events if one.score > 0 and abs(one.mjd_peak - middle) < 2 * width]
    at = near[0] if near and near[0] else None
    if at is None:
        return {"event without a fit": (0.0, 1.0, 0.0)}
    return {
        "time of an event [d]": (at["mjd"], at["mjd_error_d"], middle),
        "width of an event [d]": (at["width_d"], at["width_error_d"], width),
        "amplitude of an event [µJy]": (at["amplitude"], at["amplitude_error"], height * noise),
    }


def trial_bright_event(seed: int) -> Found:
    return _event(seed, 15.0, 1.0)


def trial_faint_event(seed: int) -> Found:
    return _event(seed, 5.0, 1.0)


def trial_sparse_event(seed: int) -> Found:
    return _event(seed, 12.0, 3.0)


def _lens(seed: int, n: int, relative: float) -> Found:
    rng = np.random.default_rng(seed)
    time = np.sort(rng.uniform(0, 200, n))
    t0, t_e, u0, blend = rng.uniform(80, 120), rng.uniform(12, 25), rng.uniform(0.1, 0.5), rng.uniform(0, 100)
    u2 = u0**2 + ((time - t0) / t_e) ** 2
    flux = 100 * (u2 + 2) / np.sqrt(u2 * (u2 + 4)) + blend
    error = relative * np.sqrt(flux * 150)
    try:
        found = fit([Photometry("band", time, flux + rng.normal(0, error), error)])
    except Unprocessable:
        return {"no lens": (0.0, 1.0, 0.0)}
    if not found.is_reliable:
        return {"lens, not reliable": (0.0, 1.0, 0.0)}
    own = found.sets[0]
    return {
        "lens: t0 [d]": (found.t0.value, found.t0.error, t0),
        "lens: ln u0": (np.log(found.u0.value), found.u0.error / found.u0.value, np.log(u0)),
        "lens: ln tE": (np.log(found.t_e.value), found.t_e.error / found.t_e.value, np.log(t_e)),
        "lens: u0 tE [d]": (found.t_eff.value, found.t_eff.error, u0 * t_e),
        "lens: ln source flux": (np.log(own.source_flux), own.source_flux_error / own.source_flux, np.log(100)),
        "lens: blend": (own.blend_flux, own.blend_flux_error, blend),
    }


def trial_bright_lens(seed: int) -> Found:
    return _lens(seed, 200, 0.01)


def trial_faint_lens(seed: int) -> Found:
    return _lens(seed, 200, 0.05)


def trial_few_lens(seed: int) -> Found:
    return _lens(seed, 40, 0.03)


def _star(rng: np.random.Generator, n: int, amplitude: float) -> tuple[np.ndarray, ...]:
    mjd, error = np.sort(rng.uniform(0, 100, n)), 0.03 * np.exp(rng.normal(0, 0.3, n))
    wave = amplitude * np.sin(2 * np.pi * (mjd / 0.537 + rng.random()))
    return mjd, 17 + wave + rng.normal(0, error), error


@cache
def _endless(amplitude: float) -> dict[str, float]:
    """What a light curve without end has."""
    return features(*_star(np.random.default_rng(10**9), 400_000, amplitude))


def _features(seed: int, n: int, amplitude: float) -> Found:
    found = features(*_star(np.random.default_rng(seed), n, amplitude))
    endless = _endless(amplitude)
    names = [name for name in found if f"{name}_error" in found]
    return {name: (found[name], found[f"{name}_error"], endless[name]) for name in names}


def trial_constant(seed: int) -> Found:
    return _features(seed, 200, 0.0)


def trial_variable(seed: int) -> Found:
    return _features(seed, 200, 0.2)


def trial_few_of_variable(seed: int) -> Found:
    return _features(seed, 60, 0.2)


REGIMES: tuple[tuple[str, Callable[[int], Found], float], ...] = (
    ("200 stars, 40 frames", trial_wide, 0.3),
    ("5 comparison stars, 40 frames", trial_few_stars, 1.0),
    ("40 stars, 4 frames", trial_few_frames, 1.0),
    ("gradients of clouds", trial_clouds, 0.3),
    ("bright: 200 epochs, S/N 20", trial_bright_period, 0.5),
    ("faint: 200 epochs, S/N 2", trial_faint_period, 0.5),
    ("few: 40 epochs, S/N 8", trial_few_epochs, 1.0),
    ("bright: 15 σ, every night", trial_bright_event, 1.0),
    ("faint: 5 σ, every night", trial_faint_event, 1.0),
    ("sparse: 12 σ, every third night", trial_sparse_event, 1.0),
    ("bright: 1 %, 200 epochs", trial_bright_lens, 1.0),
    ("faint: 5 %, 200 epochs", trial_faint_lens, 1.0),
    ("few: 3 %, 40 epochs", trial_few_lens, 1.0),
    ("constant star, 200 epochs", trial_constant, 1.0),
    ("variable star, 200 epochs", trial_variable, 1.0),
    ("variable star, 60 epochs", trial_few_of_variable, 1.0),
)
"""Regimes, their trials, and how many in units of those wanted: a trial of many stars is slow, and has many pulls."""
COUNTED = ("alias, flagged", "alias, not flagged", "true, flagged", "true, not flagged")
COUNTED_TOO = ("event without a fit", "no lens", "lens, not reliable")
"""Outcomes without a pull."""


def collected(regime: str, found: Iterable[Found]) -> tuple[list[Pulls], dict[str, int]]:
    """Return the pulls of all quantities of a regime, and how often each outcome without a pull happened."""
    pulls: dict[str, Pulls] = {}
    counts: dict[str, int] = {}
    for one in found:
        for name, values in one.items():
            if name in COUNTED + COUNTED_TOO:
                counts[name] = counts.get(name, 0) + 1
                continue
            quantity, _, unit = name.partition(" [")
            pulls.setdefault(name, Pulls(quantity, regime, unit.rstrip("]"))).add(*values)
    return list(pulls.values()), counts


def report(trials: int, processes: int) -> str:
    """The table of all quantities and regimes."""
    pulls, notes = [], []
    for regime, trial, share in REGIMES:
        found, counts = collected(regime, simulate(trial, range(max(round(share * trials), 2)), processes))
        pulls += found
        notes += [f"- {regime}: {', '.join(f'{name} {n}' for name, n in sorted(counts.items()))}"] if counts else []
    return f"{TEXT}\n{table(pulls)}\nTrials without a pull, and periods:\n\n" + "\n".join(notes) + "\n\n" + AFTERWORD


AFTERWORD = """
Periods flagged as ambiguous are to be read with their alternative: nearly all aliases are among them. Events of a
microlensing shape are for `point_lens`; a Gaussian says only when they were. Fluxes fainter than their error have no
magnitude: at low signal-to-noise fluxes are to be used.
"""

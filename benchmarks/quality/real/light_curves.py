"""Light curves: microlensing events beside MulensModel, periods beside astropy, peaks of supernovae beside fits."""

import csv
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import MulensModel
import numpy as np
from astropy.timeseries import LombScargle
from scipy import optimize

from benchmarks.quality.compared import Compared, version_of
from benchmarks.quality.real.data import FOLDER
from obsarchive.science.light_curves.point_lens import Measured, PointLens, fit
from obsarchive.timeseries.point_lens import read_file
from surveys.dataset import RawPhotometry
from surveys.detection import Detection
from surveys.finder import Finder
from surveys.observatory import VirtualObservatory
from surveys.periods import Period, find_period
from surveys.quality import QualityChecker

EVENTS = {
    "OB08092": "OGLE-2008-BLG-092",
    "MB08310": "MOA-2008-BLG-310",
    "OB161195": "OGLE-2016-BLG-1195",
    "OB150966": "OGLE-2015-BLG-0966",
}
PUBLISHED = {
    # Janczak et al. 2010, ApJ 711, 731, table 2
    "MB08310": {"u0": (0.00300, 0.00006), "tE": (11.14, 0.26)},
    # Bond et al. 2017, MNRAS 469, 2434
    "OB161195": {"tE": (9.95, 0.11)},
}
"""Published values with their errors."""
ALIAS = "1671222"
"""Its published period explains much less of the data than one that differs by a cycle a year."""
SOME = ("1013184", "1230610", "1477740", "1884245", "21992", ALIAS)
"""Stars that are enough for a quick look."""
N_WAVES, BOOTSTRAPS = 4, 16
LEAST_ERROR_MAG = 0.02
RISE_D, FALL_D = (1.0, 20.0), (5.0, 80.0)
SYMMETRIC = "the template is symmetric, supernovae fade more slowly than they rise"
BANDS_D = 2.0
"""How much the peaks in g and r differ [d]."""
LEAST_AROUND = 8
"""Epochs in one band that a fit of a supernova needs."""


@cache
def fitted(event: str) -> PointLens:
    """Return the point lens of an event as the archive fits it."""
    files = [path for path in sorted((FOLDER / "lc" / "microlensing" / event).glob("*.*"))]
    # Spitzer sees another event: it is far from the Earth
    own = [path for path in files if path.suffix in (".dat", ".tbl") and "spitzer" not in path.name]
    return fit([read_file(path) for path in own])


def event_rows(event: str) -> Iterator[Compared]:
    """Compare the parameters of an event with those of MulensModel, from the epochs and errors of the archive's fit."""
    ours = fitted(event)
    name, program = EVENTS[event], version_of("mulensmodel")
    values = {"t0": ours.t0, "u0": ours.u0, "tE": ours.t_e} | ({"rho": ours.rho} if ours.rho is not None else {})
    theirs, errors = _by_mulensmodel(ours, values)
    for key, value, error in zip(values, theirs, errors, strict=True):
        # days since the first one: all digits of a Julian date would not be seen
        base = np.floor(ours.t0.value / 1000) * 1000 if key == "t0" else 0.0
        quantity, unit = (f"t0 - {base:.0f}", "d") if key == "t0" else (key, "d" * (key == "tE"))
        yield Compared(name, quantity, program, values[key].value - base, values[key].error, value - base, error, unit)
    for key, (value, error) in PUBLISHED.get(event, {}).items():
        yield Compared(name, key, "published", values[key].value, values[key].error, value, error, "d" * (key == "tE"))


def _by_mulensmodel(ours: PointLens, start: dict[str, Measured]) -> tuple[np.ndarray, np.ndarray]:
    """Return the best parameters by MulensModel and their errors, from the curvature of its chi-square."""
    data = [
        MulensModel.MulensData(
            [one.data.time[one.kept], one.data.flux[one.kept], one.data.error[one.kept] * one.error_scale],
            phot_fmt="flux",
        )
        for one in ours.sets
        if one.n
    ]
    names = {"t0": "t_0", "u0": "u_0", "tE": "t_E", "rho": "rho"}
    first = {names[key]: value.value for key, value in start.items()}
    model = MulensModel.Model(first)
    if "rho" in start:
        t0, reach = ours.t0.value, 8 * ours.u0.value * ours.t_e.value
        model.set_magnification_methods([t0 - reach, "finite_source_uniform_Gould94", t0 + reach])
    event = MulensModel.Event(data, model)
    # along the axes of the archive's errors, which are narrow valleys in the parameters themselves
    axes = np.linalg.cholesky(ours.covariance)
    origin = np.array(list(first.values())) + axes @ np.array([1.5, -1.5, 1.5, -1.5])[: len(axes)]

    def chi2(steps: np.ndarray) -> float:
        for key, value in zip(first, origin + axes @ steps, strict=True):
            setattr(event.model.parameters, key, value)
        return float(event.get_chi2())

    settings: dict[str, Any] = {"xatol": 1e-3, "fatol": 1e-4, "maxfev": 600}
    best = optimize.minimize(chi2, np.zeros(len(axes)), method="Nelder-Mead", options=settings).x
    covariance = axes @ (2 * np.linalg.inv(_curvature(chi2, best))) @ axes.T
    return origin + axes @ best, np.sqrt(np.diag(covariance))


def _curvature(function: Callable[[np.ndarray], float], at: np.ndarray, step: float = 0.3) -> np.ndarray:
    """Return the second derivatives of a function."""
    n = len(at)
    unit = step * np.eye(n)
    found = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
            terms = [a * b * function(at + a * unit[i] + b * unit[j]) for a, b in signs]
            found[i, j] = found[j, i] = sum(terms) / (4 * step**2)
    return found


def _rr_lyrae() -> Iterator[tuple[str, float, dict[str, np.ndarray]]]:
    folder = FOLDER / "lc" / "rrlyrae_s82"
    with (folder / "periods.csv").open() as file:
        published = {row["Num"]: float(row["Per"]) for row in csv.DictReader(file)}
    for number, period in published.items():
        yield number, period, _columns(folder / f"{number}.csv")


def _columns(path: Path) -> dict[str, np.ndarray]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    columns = {key: np.array([float(row[key]) for row in rows]) for key in ("time", "mag", "magerr")}
    return {**columns, "band": np.array([row["band"] for row in rows])}


def _period_by_astropy(data: dict[str, np.ndarray], near: float, seed: int) -> tuple[float, float]:
    """Return the period in g by a Lomb-Scargle periodogram with harmonics, and its error by resampling epochs."""
    own = np.flatnonzero((data["band"] == "g") & (data["magerr"] < 1))
    time, mag, error = (data[key][own] for key in ("time", "mag", "magerr"))
    frequency = 1 / near + np.linspace(-6e-5, 6e-5, 601)
    rng = np.random.default_rng(seed)

    def best(rows: np.ndarray) -> float:
        model = LombScargle(time[rows], mag[rows], np.hypot(error[rows], LEAST_ERROR_MAG), nterms=N_WAVES)
        return float(1 / frequency[np.argmax(model.power(frequency, method="chi2"))])

    again = [best(np.unique(rng.integers(0, len(own), len(own)))) for _ in range(BOOTSTRAPS)]
    return best(np.arange(len(own))), float(np.std(again))


def period_rows(*, of_all: bool = True) -> Iterator[Compared]:
    """Compare the periods of RR Lyrae stars of Stripe 82, or of some, with those of astropy and the published ones."""
    found: list[tuple[str, Period, float, tuple[float, float]]] = []
    for seed, (number, published, data) in enumerate(_rr_lyrae()):
        if not of_all and number not in SOME:
            continue
        ours = find_period(data["time"], data["mag"], data["magerr"], data["band"], (0.2, 1.0))
        found.append((number, ours, published, _period_by_astropy(data, ours.period_d, seed)))
    good = [row for row in found if row[0] != ALIAS]
    periods = [row[1].period_d for row in good]
    own_error = [row[1].period_error_d for row in good]
    theirs, errors = np.array([row[3] for row in good]).T
    name, program = "RR Lyrae, Stripe 82", f"{version_of('astropy')}, LombScargle in g"
    usual = float(np.median(errors))
    yield Compared(name, "period", program, periods, own_error, theirs, errors, "d", usual)
    published = [row[2] for row in good]
    program = "Sesar et al. 2010, ApJ 708, 717"
    yield Compared(name, "period", program, periods, own_error, published, errors, "d", usual)
    (odd,) = (row for row in found if row[0] == ALIAS)
    # one more cycle a year than published, which explains the data better
    yearly = 1 / (1 / odd[2] + 1 / 365.25)
    values = odd[1].period_d, odd[1].period_error_d, yearly, 0.01 * abs(odd[2] - yearly)
    yield Compared(name, f"period of {ALIAS}", f"{program}, alias of a year", *values, "d", usual)


def _flux(mag: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flux = 10 ** (-0.4 * (mag - 18))
    return flux, flux * error / 1.0857


def _bazin(time: np.ndarray, height: float, t0: float, rise: float, fall: float) -> np.ndarray:
    """Return the light curve of a supernova (Bazin et al. 2009, A&A 499, 653)."""
    return height * np.exp(-(time - t0) / fall) / (1 + np.exp(-(time - t0) / rise))


def _peak_by_fit(time: np.ndarray, mag: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """Return the time of the peak, and its error from the covariance of the fit."""
    flux, flux_error = _flux(mag, error)
    middle = float(time[np.argmax(flux)])
    start = (2 * flux.max(), middle - 5, 4.0, 20.0)
    limits = ((0, middle - 40, RISE_D[0], FALL_D[0]), (np.inf, middle + 40, RISE_D[1], FALL_D[1]))
    values, covariance = optimize.curve_fit(_bazin, time, flux, start, flux_error, bounds=limits)

    def peak(parameters: np.ndarray) -> float:
        _, t0, rise, fall = parameters
        return float(t0 + rise * np.log(max(fall / rise - 1, 1e-3)))

    trials = np.random.default_rng(1).multivariate_normal(values, covariance, 300)
    trials = np.clip(trials, np.array(limits[0]) + 1e-6, limits[1])
    low, high = np.percentile([peak(trial) for trial in trials], [15.87, 84.13])
    return peak(values), float(high - low) / 2


def _found(name: str, data: dict[str, np.ndarray]) -> Detection | None:
    """Return the strongest detection in difference photometry."""
    raw = RawPhotometry(data, {"name": name, "ra": 1.0, "dec": 2.0}, observatory="ZTF")
    finder, best = Finder(baseline=0.0), []
    for curve in VirtualObservatory("SURVEY").reduce(raw, gap=0):
        if len(curve) > 1:
            best += finder.detect(finder.process(QualityChecker().check(curve)))
    return max(best, key=lambda one: one.score, default=None)


def supernova_rows() -> Iterator[Compared]:
    """Compare the peaks of supernovae with fits of their light curves and with the published ones."""
    folder = FOLDER / "lc" / "ztf_snia"
    with (folder / "bts_rows.csv").open() as file:
        rows = {row["ZTFID"]: float(row["peakt"]) + 2_458_000 - 2_400_000.5 for row in csv.DictReader(file)}
    found, published, fits, tolerance = [], [], [], []
    for name, peak in rows.items():
        data = _columns(folder / f"{name}.csv")
        best = _found(name, data)
        if best is None:
            continue
        own = data["band"] == best.filter
        columns = [data[key][own] for key in ("time", "mag", "magerr")]
        found.append(best)
        published.append(peak)
        tolerance.append(_unresolved(*columns))
        fits.append(_peak_by_fit(*columns) if own.sum() >= LEAST_AROUND else (np.nan, np.nan))
    name, survey = "supernovae, ZTF", "Bright Transient Survey, any band"
    strongest = [one.mjd_peak for one in found]
    yield Compared(name, "time of the strongest epoch", survey, strongest, np.nan, published, BANDS_D, "d", tolerance)
    program = "scipy, fit of Bazin et al. (2009)"
    theirs, errors = np.array(fits).T
    yield Compared(name, "time of the strongest epoch", program, strongest, np.nan, theirs, errors, "d", tolerance)
    fitted_time, own_error = (np.array([one.fit.get(key, np.nan) for one in found]) for key in ("mjd", "mjd_error_d"))
    values = fitted_time, own_error
    yield Compared(name, "middle of the template", survey, *values, published, BANDS_D, "d", note=SYMMETRIC)
    yield Compared(name, "middle of the template", program, *values, theirs, errors, "d", note=SYMMETRIC)


def _unresolved(time: np.ndarray, mag: np.ndarray, error: np.ndarray) -> float:
    """Return half of the time in which the peak may lie: epochs as bright as the brightest, and the gaps around."""
    flux, flux_error = _flux(mag, error)
    order = np.argsort(time)
    time, flux, flux_error = time[order], flux[order], flux_error[order]
    top = int(np.argmax(flux))
    alike = np.flatnonzero(flux[top] - flux < 2 * np.hypot(flux_error, flux_error[top]))
    first, last = max(int(alike[0]) - 1, 0), min(int(alike[-1]) + 1, len(time) - 1)
    return float(time[last] - time[first]) / 2

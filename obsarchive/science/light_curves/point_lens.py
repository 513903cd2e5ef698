"""Fit of a point lens to microlensing events: t0, u0, tE, and source and blend flux of each data set.

A point source that passes a point lens at distance ``u = sqrt(u0^2 + ((t - t0) / tE)^2)`` is magnified by ``A = (u^2 +
2) / (u sqrt(u^2 + 4))`` (Paczynski 1986, ApJ 304, 1); what is measured is ``source_flux A + blend_flux``. Epochs that a
point lens cannot explain, such as the anomaly of a planet or the rounded peak of an extended source, are rejected and
reported. Parallax and binary lenses are beyond this model.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import Float64Array
from obsarchive.science.light_curves.events import find_events
from obsarchive.science.light_curves.point_lens_model import (
    CORRELATED,
    Anomaly,
    Measured,
    Options,
    Photometry,
    PointLens,
    SetFit,
    magnification,
)
from obsarchive.science.light_curves.point_lens_robust import LEAST_GAIN, RUN_EPOCHS, Problem, huber
from obsarchive.science.light_curves.point_lens_solver import (
    HIGHEST,
    LN_RHO,
    LN_TE,
    LN_U0,
    LOWEST,
    T0,
    Solution,
    evaluate,
    profile_errors,
)

__all__ = ["Anomaly", "Measured", "Options", "Photometry", "PointLens", "SetFit", "fit", "magnification"]

LARGEST_U0 = 0.2
START_RHO = (0.5, 1.0, 2.0, 4.0)
"""Radii of an extended source to start from [u0]; it is looked for up to the largest impact parameter."""
LEAST_EPOCHS = 6
LEAST_KEPT = 0.6
"""Fraction of the epochs that a point lens must explain."""
LARGE_SCALE, LARGE_BLEND = 2.0, 0.2
"""Scale of errors, and negative blend in units of the source, from which a warning says so."""
DEGENERATE = 0.4
"""Relative error of u0 from which only u0 tE is known."""


def fit(data: Sequence[Photometry], options: Options = Options()) -> PointLens:  # noqa: B008 - immutable
    """Fit a point lens to light curves of one star.

    Parameters
    ----------
    data : sequence of Photometry
        A data set for each observatory and band.
    options : Options, optional
        How it is done.

    Returns
    -------
    PointLens
        With warnings where the data do not say all.

    Raises
    ------
    Unprocessable
        There are too few epochs, or no event.
    """
    sets = [one for one in (given.usable(options.exclude) for given in data) if len(one.time)]
    n_epochs = sum(len(one.time) for one in sets)
    if n_epochs < LEAST_EPOCHS + 2 * len(sets):
        raise Unprocessable(
            f"a point lens needs {LEAST_EPOCHS} good epochs and 2 for each data set, found {n_epochs} in {len(sets)}"
        )
    problem = Problem.of(sets, options)
    found = problem.robust(problem.first())
    if options.extended_source or (options.extended_source is None and _is_odd_at_peak(*found)):
        extended = problem.robust(_extended(problem, found[1]))
        if options.extended_source or _is_better(extended, found):
            found = extended
    return _result(*found)


def _is_odd_at_peak(problem: Problem, solution: Solution) -> bool:
    """Return whether epochs near the maximum were rejected, in an event that comes near a source of usual size."""
    u0, t_e = np.exp(solution.parameters[[LN_U0, LN_TE]])
    near = np.abs(problem.series.time - solution.parameters[T0]) < 2 * max(u0, 0.005) * t_e
    return bool(u0 < LARGEST_U0 and (near & ~problem.kept).sum() >= RUN_EPOCHS)


def _extended(problem: Problem, point: Solution) -> Solution:
    """Return the best solution with a source that is a disc."""
    starts = [np.append(point.parameters, point.parameters[LN_U0] + np.log(ratio)) for ratio in START_RHO]
    return min((huber(problem, start) for start in starts), key=lambda pair: pair[1])[0]


def _is_better(extended: tuple[Problem, Solution], point: tuple[Problem, Solution]) -> bool:
    """Return whether a disc explains most of what a point does not, and its radius is known."""
    n_rejected, n_before = ((~problem.kept).sum() for problem, _ in (extended, point))
    is_known = np.sqrt(extended[1].covariance()[LN_RHO, LN_RHO]) < DEGENERATE
    # a planet, too, lets a disc fit better than a point, and leaves much that neither explains
    return bool(n_rejected < 0.5 * n_before and is_known)


def _result(problem: Problem, solution: Solution) -> PointLens:
    """Return what is known at the minimum."""
    series, weight = problem.series, problem.weight
    covariance = solution.covariance()
    formal = evaluate(series, np.where(problem.kept, 1 / problem.error, 0.0), solution.parameters).covariance()
    profile = profile_errors(series, weight, solution, range(len(covariance)))
    best = np.append(solution.parameters[:1], np.exp(solution.parameters[1:]))
    unit = np.append(1.0, best[1:])  # from logarithms
    errors, formal_errors = (np.sqrt(np.diag(matrix)) * unit for matrix in (covariance, formal))
    values = [
        Measured(
            float(value), float(errors[i]), float(formal_errors[i]), *_in_units(profile[i], float(value), is_log=i > 0)
        )
        for i, value in enumerate(best)
    ]
    gain = _gain(problem, solution)
    _require_event(problem, solution, gain)
    times = series.time[problem.kept]
    found = PointLens(
        t0=values[T0],
        u0=values[LN_U0],
        t_e=values[LN_TE],
        t_eff=_effective(solution, covariance, formal),
        rho=values[LN_RHO] if len(values) > LN_RHO else None,
        covariance=covariance * np.outer(unit, unit),
        sets=_sets(problem, solution, covariance),
        gain=gain,
        correlation=_correlation(problem, solution),
        is_degenerate=_is_degenerate(solution, covariance),
        is_observed=bool(times.min() <= best[T0] <= times.max()),
        anomalies=_anomalies(problem, solution),
    )
    return replace(found, warnings=_warnings(problem, found))


def _in_units(distances: tuple[float, float], value: float, *, is_log: bool) -> tuple[float, float]:
    if not is_log:
        return distances
    return value * (1 - float(np.exp(-distances[0]))), value * (float(np.exp(distances[1])) - 1)


def _effective(solution: Solution, covariance: Float64Array, formal: Float64Array) -> Measured:
    """Return u0 tE, which is known where its factors are not."""
    value = float(np.exp(solution.parameters[LN_U0] + solution.parameters[LN_TE]))
    both = np.zeros(len(covariance))
    both[[LN_U0, LN_TE]] = 1.0
    error, formal_error = (value * math.sqrt(max(float(both @ one @ both), 0.0)) for one in (covariance, formal))
    return Measured(value, error, formal_error, error, error)


def _sets(problem: Problem, solution: Solution, covariance: Float64Array) -> tuple[SetFit, ...]:
    residual = problem.scaled(solution)
    made = []
    for number, (data, part) in enumerate(zip(problem.sets, problem.slices(), strict=True)):
        by_lens, kept = solution.by_parameters[:, :, number], problem.kept[part]
        own = residual[part]
        # the uncertainty at fixed t0, u0 and tE, and that which these pass on
        source_error, blend_error = (
            float(np.sqrt(solution.variances[i, number] + by_lens[i] @ covariance @ by_lens[i])) for i in (0, 1)
        )
        scale = float(problem.scales[number])
        made.append(
            SetFit(
                data,
                float(solution.source[number]),
                source_error,
                float(solution.blend[number]),
                blend_error,
                float(np.sum(own[kept] ** 2)) * scale**2,
                kept,
                own,
                scale,
            )
        )
    return tuple(made)


def _gain(problem: Problem, solution: Solution) -> float:
    """Return by how much chi-square of constant light is larger, without the epoch that contributes most."""
    series, weight = problem.series, problem.weight
    w2 = weight * weight
    total = series.sums(w2)
    mean = series.sums(w2 * series.flux) / np.where(total > 0, total, 1.0)
    gains = (weight * (series.flux - series.spread(mean))) ** 2 - solution.residual**2
    return float(gains.sum() - max(gains.max(), 0.0))


def _require_event(problem: Problem, solution: Solution, gain: float) -> None:
    strength = problem.series.sums((problem.weight * (solution.model - problem.series.spread(solution.blend))) ** 2)
    if problem.kept.mean() < LEAST_KEPT:
        raise Unprocessable(
            f"no event: a point lens explains {problem.kept.sum()} of {len(problem.kept)} epochs, it varies otherwise"
        )
    if gain < LEAST_GAIN:
        raise Unprocessable(f"no event: a point lens improves chi-square by {gain:.1f}, {LEAST_GAIN:.0f} are needed")
    if solution.source[int(np.argmax(strength))] <= 0:
        raise Unprocessable("no event: the light curves become fainter, a lens makes them brighter")


def _correlation(problem: Problem, solution: Solution) -> float:
    """Return the significance of the correlation of consecutive residuals within two Einstein times of the maximum."""
    series = problem.series
    u0, t_e = np.exp(solution.parameters[LN_U0]), np.exp(solution.parameters[LN_TE])
    near = problem.kept & (np.abs(series.time - solution.parameters[T0]) < 2 * max(u0, 0.5) * t_e)
    residual = problem.scaled(solution)[near][np.argsort(series.time[near], kind="stable")]
    if len(residual) < 3:
        return 0.0
    return float(np.sum(residual[1:] * residual[:-1]) / np.sqrt(len(residual) - 1))


def _is_degenerate(solution: Solution, covariance: Float64Array) -> bool:
    lens, lowest, highest = solution.parameters[[LN_U0, LN_TE]], LOWEST[:2], HIGHEST[:2]
    is_at_bound = np.isclose(lens, lowest).any() or np.isclose(lens, highest).any()
    return bool(is_at_bound or np.sqrt(covariance[LN_U0, LN_U0]) > DEGENERATE)


def _anomalies(problem: Problem, solution: Solution) -> tuple[Anomaly, ...]:
    """Return the runs of rejected epochs, over all data sets, with their deviations."""
    series, residual = problem.series, problem.scaled(solution)
    order = np.argsort(series.time, kind="stable")
    rejected = ~problem.kept[order]
    runs = find_events(np.where(rejected, 10.0, 0.0), np.ones(len(order), bool), 5.0, 5.0, RUN_EPOCHS, RUN_EPOCHS)
    made = []
    for run in sorted(runs, key=lambda one: one.start):
        epochs = order[run.start : run.stop]
        own = residual[epochs][~problem.kept[epochs]]
        times = series.time[epochs]
        made.append(Anomaly(float(times[0]), float(times[-1]), len(own), float(own.mean()), float(own @ own)))
    return tuple(made)


def _warnings(problem: Problem, found: PointLens) -> tuple[str, ...]:
    series, kept = problem.series, problem.kept
    said = []
    first, last = series.time[kept].min(), series.time[kept].max()
    if not found.is_observed:
        said.append(f"t0 is outside the data, which cover {first:.3f} to {last:.3f}: the maximum was not observed")
    elif not _has_peak(series.time[kept], found):
        said.append("no epoch within one u0 tE of the maximum was used: t0 and u0 follow from the wings alone")
    if found.is_degenerate:
        said.append(_degeneracy(found.t_eff))
    if found.rho is not None:
        said.append(
            f"the source is not a point: its radius is {found.rho.value:.4g} Einstein radii, without limb darkening"
        )
    if found.anomalies:
        n = sum(one.n_epochs for one in found.anomalies)
        said.append(f"{n} epochs in {len(found.anomalies)} runs deviate from a point lens and were rejected")
    if found.correlation >= CORRELATED:
        said.append(
            f"the residuals are correlated ({found.correlation:.1f} sigma): parallax, a companion, an extended source "
            "or a variable star may be the reason, and the errors are too small"
        )
    said += [
        f"{one.name}: the errors were multiplied by {one.error_scale:.2f}, to match the scatter"
        for one in found.sets
        if one.error_scale > LARGE_SCALE
    ]
    said += [
        f"{one.name}: the blend is negative, {one.blend_ratio:.2f} of the source: its baseline or scale is doubtful"
        for one in found.sets
        if one.blend_flux < -max(LARGE_BLEND * abs(one.source_flux), 3 * one.blend_flux_error)
    ]
    said += [
        f"{one.name}: {one.n_rejected} of {len(one.kept)} epochs were rejected"
        for one in found.sets
        if one.n_rejected > 0.3 * len(one.kept)
    ]
    return tuple(said)


def _degeneracy(t_eff: Measured) -> str:
    if t_eff.error > DEGENERATE * t_eff.value:
        return "neither u0 nor u0 tE is known: the data do not constrain the maximum"
    return f"u0 and tE are degenerate: only u0 tE = {t_eff.value:.4g} ± {t_eff.error:.2g} d is known"


def _has_peak(time: Float64Array, found: PointLens) -> bool:
    return bool((np.abs(time - found.t0.value) < found.t_eff.value).any())

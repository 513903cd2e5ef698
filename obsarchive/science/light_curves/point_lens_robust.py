"""Robust least squares of a point lens: starts, epochs that are rejected, and scales of the errors."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import BoolArray, Float64Array
from obsarchive.science.light_curves.events import find_events
from obsarchive.science.light_curves.point_lens_model import Options, Photometry
from obsarchive.science.light_curves.point_lens_solver import Series, Solution, evaluate, minimise
from obsarchive.science.light_curves.point_lens_start import Candidate, find_candidates, noise_scale
from obsarchive.science.statistics import MAD_TO_SIGMA

START_U0 = (0.003, 0.03, 0.1, 0.3, 0.6, 1.0, 1.5)
LEAST_GAIN = 60.0
"""By how much chi-square of an event falls below that of constant light, in errors that match the scatter."""
ROUNDS = 15
BEND, SOFT_ROUNDS = 2.0, 4
SMOOTH = 1.5
"""Scatter about the model in units of that of neighbours, up to which epochs are judged by the former."""
RUN_PEAK, RUN_EDGE, RUN_EPOCHS = 3.5, 2.0, 3
"""Consecutive epochs that deviate to one side, by so many errors and at least so many of them, are an anomaly."""
ENOUGH_TO_SHRINK = 20
"""Degrees of freedom from which errors are also made smaller."""


@dataclass(frozen=True)
class Problem:
    """Data of a fit, which epochs are kept, and by how much their errors are scaled.

    Parameters
    ----------
    sets : list of Photometry
        Usable epochs of each data set.
    options : Options
        How the fit is done.
    series : Series
        The same epochs, data set after data set.
    error : ndarray (n,)
        Their errors as given.
    kept : ndarray (n,) of bool
        Epochs that are not rejected.
    scales : ndarray (k,)
        Factors of the errors of the data sets.
    """

    sets: list[Photometry]
    options: Options
    series: Series
    error: Float64Array
    kept: BoolArray
    scales: Float64Array

    @classmethod
    def of(cls, sets: list[Photometry], options: Options) -> "Problem":
        """Return the problem of data sets, with all epochs and errors that match the scatter of neighbours."""
        counts = np.array([len(one.time) for one in sets], np.intp)
        time, flux, error = np.concatenate([np.stack([one.time, one.flux, one.error]) for one in sets], axis=1)
        series = Series(time, flux, np.r_[0, np.cumsum(counts)[:-1]].astype(np.intp), counts)
        made = cls(sets, options, series, error, np.ones(len(time), bool), np.ones(len(sets)))
        return made.with_epochs(made.kept, made.white)

    @cached_property
    def white(self) -> Float64Array:
        """By how much the scatter of neighbouring epochs exceeds their errors, for each data set."""
        return np.array([noise_scale(one.flux, one.error) for one in self.sets])

    @property
    def weight(self) -> Float64Array:
        """Inverse scaled errors; 0 for rejected epochs."""
        return np.where(self.kept, 1 / (self.error * self.series.spread(self.scales)), 0.0)

    def with_epochs(self, kept: BoolArray, scales: Float64Array) -> "Problem":
        """Return the problem with other epochs and scales of the errors."""
        return Problem(self.sets, self.options, self.series, self.error, kept, scales)

    def scaled(self, solution: Solution) -> Float64Array:
        """Return the residuals of all epochs in scaled errors, those of rejected ones too."""
        return (self.series.flux - solution.model) / (self.error * self.series.spread(self.scales))

    def slices(self) -> list[slice]:
        """Return where the data sets are."""
        starts = self.series.starts.tolist()
        return [slice(start, start + n) for start, n in zip(starts, self.series.counts.tolist(), strict=True)]

    def first(self) -> Solution:
        """Return the best least-squares solution from all starts."""
        if self.options.start is not None:
            t0, u0, t_e = self.options.start
            return minimise(self.series, self.weight, np.array([t0, np.log(u0), np.log(t_e)]))
        edges = [*self.series.starts.tolist(), len(self.error)]
        within = self.options.within
        found = find_candidates(self.series.time, self.series.flux, self.weight**2, edges, within)
        if not found or found[0].gain < LEAST_GAIN / 2:
            raise Unprocessable("no event: nothing in the light curves brightens as behind a lens, beyond the noise")
        strong = [one for one in found if one.gain > 0.2 * found[0].gain]
        tried = [huber(self, self._start(one)) for one in strong]
        return min(tried, key=lambda pair: pair[1])[0]

    def _start(self, candidate: Candidate) -> Float64Array:
        """Return the best start of a candidate, which does not tell u0 and tE apart."""
        grid = [
            np.array([candidate.t0, np.log(u0), np.log(candidate.teff * factor / u0)])
            for u0 in START_U0
            for factor in (0.7, 1.4)
        ]
        weight = self.weight
        best = sorted(grid, key=lambda start: loss(evaluate(self.series, weight, start).residual))[:3]
        reached = [minimise(self.series, weight, start, iterations=15) for start in best]
        return min(reached, key=lambda solution: loss(solution.residual)).parameters

    def robust(self, solution: Solution) -> tuple["Problem", Solution]:
        """Reject epochs and scale errors until neither changes."""
        # at first by the median deviation, which neither outliers nor an anomaly enlarge
        problem = self.with_epochs(self.kept, self.typical(solution)) if self.options.rescale else self
        for _ in range(ROUNDS):
            kept = problem.judged(solution)
            scales = problem.scaled_to(solution, kept)
            is_same = np.array_equal(kept, problem.kept) and np.allclose(scales, problem.scales, rtol=1e-3)
            problem = problem.with_epochs(kept, scales)
            solution = minimise(problem.series, problem.weight, solution.parameters)
            if is_same:
                break
        return problem, solution

    def judged(self, solution: Solution) -> BoolArray:
        """Return which epochs are kept."""
        kept = np.ones(len(self.error), bool)
        if self.options.clip_sigma <= 0:
            return kept
        # a smooth deviation must not hide behind errors that it enlarged itself
        excess = np.maximum(1.0, self.scales / (SMOOTH * self.white))
        residual = self.scaled(solution) * self.series.spread(excess)
        kept &= np.abs(residual) <= self.options.clip_sigma
        everything = np.argsort(self.series.time, kind="stable")
        for epochs in (everything, *(np.arange(part.start, part.stop) for part in self.slices())):
            for run in find_events(residual[epochs], np.ones(len(epochs), bool), RUN_PEAK, RUN_EDGE, RUN_EPOCHS, 1):
                kept[epochs[run.start : run.stop]] = False
        return kept

    def typical(self, solution: Solution) -> Float64Array:
        """Return the median deviation of each data set, as a standard deviation in errors, at least 1."""
        deviation = np.abs(self.series.flux - solution.model) / self.error
        return np.array([max(1.0, MAD_TO_SIGMA * float(np.median(deviation[part]))) for part in self.slices()])

    def scaled_to(self, solution: Solution, kept: BoolArray) -> Float64Array:
        """Return the factors that make the reduced chi-square of each data set 1."""
        if not self.options.rescale:
            return np.ones(len(self.sets))
        squares = np.where(kept, (self.series.flux - solution.model) / self.error, 0.0) ** 2
        chi2, n = self.series.sums(squares), self.series.sums(kept.astype(np.float64))
        # the three parameters of the lens are shared by all data sets
        dof = np.maximum(n - 2 - 3 * n / max(n.sum(), 1), 1)
        scale = np.sqrt(chi2 / dof)
        few = dof < ENOUGH_TO_SHRINK
        return np.where((few & (scale < 1)) | (scale <= 0), 1.0, scale)


def huber(problem: Problem, start: Float64Array) -> tuple[Solution, float]:
    """Return the solution of least Huber loss that is reached from a start, and its loss."""
    weight = problem.weight
    solution = minimise(problem.series, weight, start, iterations=25)
    for _ in range(SOFT_ROUNDS):
        deviation = np.abs(problem.scaled(solution))
        softened = weight * np.sqrt(BEND / np.maximum(deviation, BEND))
        solution = minimise(problem.series, softened, solution.parameters, iterations=8)
    return solution, loss(problem.scaled(solution))


def loss(residual: Float64Array) -> float:
    """Return the sum of the squared residuals, linear beyond the bend (Huber 1964, Ann. Math. Stat. 35, 73)."""
    deviation = np.abs(residual)
    return float(np.where(deviation < BEND, deviation**2, 2 * BEND * deviation - BEND**2).sum())

"""Least squares of the point-lens model: source and blend flux solved exactly, the rest by Levenberg-Marquardt.

The fluxes of a data set are linear parameters and are eliminated at each step (variable projection: Golub & Pereyra
1973, SIAM J. Numer. Anal. 10, 413, with the Jacobian of Kaufman 1975, BIT 15, 49), so that three parameters remain:
t0, ln u0 and ln tE; a fourth, ln rho, where the source is not a point.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import ellipe, ellipk

from obsarchive.science.arrays import Float64Array, IndexArray

T0, LN_U0, LN_TE, LN_RHO = 0, 1, 2, 3
LOWEST, HIGHEST = np.log([1e-5, 1e-3, 1e-6]), np.log([4.0, 1e5, 0.5])
"""Bounds of ln u0, ln tE [d] and ln rho: what lies beyond cannot be told from what lies at them."""
DISC_STEP, DISC_REACH = 0.001, 10.0
"""Grid of distances for the magnification of a disc [source radii]."""
MOST_ITERATIONS = 60
CONVERGED = 1e-7
"""Relative change of chi-square of the last step."""


@dataclass(frozen=True)
class Series:
    """Photometry of all data sets, one after the other.

    Parameters
    ----------
    time, flux : ndarray (n,)
        Times [d] and fluxes.
    starts : ndarray (k,)
        First epoch of each data set.
    counts : ndarray (k,)
        Numbers of epochs of the data sets.
    """

    time: Float64Array
    flux: Float64Array
    starts: IndexArray
    counts: IndexArray

    def sums(self, values: Float64Array) -> Float64Array:
        """Return the sum of the last axis over each data set."""
        return np.add.reduceat(values, self.starts, axis=-1)

    def spread(self, values: Float64Array) -> Float64Array:
        """Return a value of each data set (last axis) for each of its epochs."""
        return np.repeat(values, self.counts, axis=-1)


@dataclass(frozen=True)
class Solution:
    """The model at some parameters, with the best fluxes.

    Parameters
    ----------
    parameters : ndarray (p,)
        t0 [d], ln u0, ln tE; ln rho for an extended source.
    residual : ndarray (n,)
        Data minus model, in errors; 0 for epochs without weight.
    model : ndarray (n,)
        Model fluxes.
    source, blend : ndarray (k,)
        Source and blend flux of each data set.
    jacobian : ndarray (p, n)
        Derivatives of the model by the parameters with the fluxes adapted, in errors.
    by_parameters : ndarray (2, p, k)
        Derivatives of source and blend flux by the parameters.
    variances : ndarray (2, k)
        Variances of source and blend flux at fixed parameters.
    """

    parameters: Float64Array
    residual: Float64Array
    model: Float64Array
    source: Float64Array
    blend: Float64Array
    jacobian: Float64Array
    by_parameters: Float64Array
    variances: Float64Array

    @property
    def chi2(self) -> float:
        """Sum of the squared residuals."""
        return float(self.residual @ self.residual)

    def covariance(self) -> Float64Array:
        """Return the covariance (p, p) of the parameters, with the uncertainty of the fluxes included."""
        hessian = self.jacobian @ self.jacobian.T
        scale = np.sqrt(np.maximum(np.diag(hessian), 1e-300))
        inverse = np.linalg.pinv(hessian / np.outer(scale, scale), rcond=1e-14, hermitian=True)
        return np.asarray(inverse / np.outer(scale, scale), np.float64)


def magnification_of_u2(u2: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return magnification of a point source and its derivative by the squared distance `u2` from the lens."""
    product = u2 * (u2 + 4.0)
    root = np.sqrt(product)
    return (u2 + 2.0) / root, -4.0 / (product * root)


@cache
def _disc() -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return distances in source radii, magnification of a disc over that of a point, and its derivative.

    A uniform disc close to the lens (Gould 1994, ApJ 421, L71; Yoo et al. 2004, ApJ 603, 139, B0).
    """
    z = np.arange(0.0, DISC_REACH, DISC_STEP)
    inside, m = 4 / np.pi * z * ellipe(np.minimum(z, 1.0) ** 2), 1 / np.maximum(z, 1.0 + 1e-9) ** 2
    ratio = np.where(z <= 1, inside, 4 / np.pi / m * (ellipe(m) - (1 - m) * ellipk(m)))
    return z, ratio, np.gradient(ratio, DISC_STEP)


def magnification_of_disc(u2: Float64Array, rho: float) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return the magnification of a uniform disc of radius `rho`, and its derivatives by `u2` and ln rho."""
    grid, ratios, slopes = _disc()
    point, slope = magnification_of_u2(u2)
    z = np.sqrt(u2) / rho
    far = 1 / (8 * np.maximum(z, 1.0) ** 2)
    is_near = z < grid[-1]
    ratio = np.where(is_near, np.interp(z, grid, ratios), 1 + far)
    growth = z * np.where(is_near, np.interp(z, grid, slopes), -2 * far / np.maximum(z, 1.0))
    return point * ratio, slope * ratio + point * growth / (2 * u2), -point * growth


def _magnified(time: Float64Array, parameters: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return the magnifications (n,) and their derivatives by the parameters."""
    te, u0_2 = np.exp(parameters[LN_TE]), np.exp(2 * parameters[LN_U0])
    tau = (time - parameters[T0]) / te
    u2 = u0_2 + tau * tau
    by_u2 = np.stack([-2 * tau / te, np.full_like(tau, 2 * u0_2), -2 * tau * tau])
    if len(parameters) <= LN_RHO:
        magnification, slope = magnification_of_u2(u2)
        return magnification, slope * by_u2
    magnification, slope, by_rho = magnification_of_disc(u2, float(np.exp(parameters[LN_RHO])))
    return magnification, np.vstack([slope * by_u2, by_rho])


def evaluate(series: Series, weight: Float64Array, parameters: Float64Array) -> Solution:
    """Solve the fluxes of all data sets for given t0, u0 and tE.

    Parameters
    ----------
    series : Series
        The photometry.
    weight : ndarray (n,)
        Inverse errors; 0 for rejected epochs.
    parameters : ndarray (p,)
        t0 [d], ln u0, ln tE; ln rho for an extended source.

    Returns
    -------
    Solution
        With the derivatives for the next step.
    """
    magnification, derivatives = _magnified(series.time, parameters)
    w2 = weight * weight
    total = series.sums(w2)
    safe = np.where(total > 0, total, 1.0)
    # weighted means are subtracted first: this removes the blend, and keeps the digits of the source flux
    columns = np.vstack([magnification, series.flux, derivatives])
    means = series.sums(w2 * columns) / safe
    centred = columns - series.spread(means)
    variance = series.sums(w2 * centred[0] ** 2)
    known = variance > 1e-12 * safe
    invariance = np.where(known, 1 / np.where(known, variance, 1.0), 0.0)
    slopes = series.sums(w2 * centred[0] * centred[1:]) * invariance  # of the flux, and of each derivative
    source = slopes[0]
    blend = means[1] - source * means[0]
    model = series.spread(source) * magnification + series.spread(blend)
    adapted = series.spread(source) * (centred[2:] - series.spread(slopes[1:]) * centred[0])
    by_parameters = np.stack([-source * slopes[1:], -source * (means[2:] - slopes[1:] * means[0])])
    variances = np.stack([invariance, 1 / safe + means[0] ** 2 * invariance])
    residual = weight * (series.flux - model)
    return Solution(parameters, residual, model, source, blend, weight * adapted, by_parameters, variances)


def minimise(
    series: Series,
    weight: Float64Array,
    start: Float64Array,
    fixed: int | None = None,
    iterations: int = MOST_ITERATIONS,
) -> Solution:
    """Return the minimum of chi-square that is reached from a start (Levenberg 1944; Marquardt 1963).

    Parameters
    ----------
    series : Series
        The photometry.
    weight : ndarray (n,)
        Inverse errors; 0 for rejected epochs.
    start : ndarray (p,)
        t0 [d], ln u0, ln tE; ln rho for an extended source.
    fixed : int, optional
        Number of a parameter that keeps its value.
    iterations : int
        Largest number of steps.

    Returns
    -------
    Solution
        The best one found.
    """
    free = [i for i in range(len(start)) if i != fixed]
    best, damping = evaluate(series, weight, _bounded(start)), 1e-3
    for _ in range(iterations):
        jacobian = best.jacobian[free]
        hessian, gradient = jacobian @ jacobian.T, jacobian @ best.residual
        step = _step(hessian, gradient, damping)
        # steps in the logarithms are limited, so that one bad step does not leave the event
        moved = best.parameters.copy()
        moved[free] += step
        moved[1:] = best.parameters[1:] + np.clip(moved[1:] - best.parameters[1:], -1.5, 1.5)
        new = evaluate(series, weight, _bounded(moved))
        gain = best.chi2 - new.chi2
        if gain >= 0:
            finished = gain <= CONVERGED * max(best.chi2, 1.0) and damping <= 1e-2
            best, damping = new, max(damping * 0.2, 1e-9)
            if finished:
                break
        else:
            damping *= 6
            if damping > 1e8:
                break
    return best


def _step(hessian: Float64Array, gradient: Float64Array, damping: float) -> Float64Array:
    scale = np.maximum(np.diag(hessian), 1e-300)
    step = np.linalg.lstsq(hessian + damping * np.diag(scale), gradient, rcond=1e-14)[0]
    return np.asarray(step, np.float64)


def _bounds(parameters: Float64Array) -> tuple[Float64Array, Float64Array]:
    return LOWEST[: len(parameters) - 1], HIGHEST[: len(parameters) - 1]


def _bounded(parameters: Float64Array) -> Float64Array:
    return np.concatenate([parameters[:1], np.clip(parameters[1:], *_bounds(parameters))])


def profile_errors(
    series: Series, weight: Float64Array, best: Solution, which: Sequence[int] = (T0, LN_U0, LN_TE)
) -> dict[int, tuple[float, float]]:
    """Return how far each parameter may move down and up until chi-square grows by 1, the others adapted.

    Parameters
    ----------
    series : Series
        The photometry.
    weight : ndarray (n,)
        Inverse errors; 0 for rejected epochs.
    best : Solution
        The minimum.
    which : sequence of int
        Numbers of the parameters.

    Returns
    -------
    dict of int to (float, float)
        Distances down and up, positive; infinite where chi-square does not grow so far.
    """
    covariance = best.covariance()
    return {
        number: (
            _distance(series, weight, best, covariance[number], number, -1),
            _distance(series, weight, best, covariance[number], number, 1),
        )
        for number in which
    }


def _distance(series: Series, weight: Float64Array, best: Solution, row: Float64Array, number: int, side: int) -> float:
    if not row[number] > 0:
        return float(np.inf)
    sigma = float(np.sqrt(row[number]))
    distance, lowest, highest = sigma, 0.0, np.inf
    start = best.parameters
    for _ in range(8):
        moved = start + side * distance * row / row[number]
        moved[number] = start[number] + side * distance
        if number != T0 and not LOWEST[number - 1] < moved[number] < HIGHEST[number - 1]:
            return float(np.inf)
        rise = minimise(series, weight, moved, number, 12).chi2 - best.chi2
        if abs(rise - 1.0) < 0.05:
            return distance
        if rise < 1.0:
            lowest = distance
        else:
            highest = distance
        # chi-square is nearly a parabola: its root, kept within what is known already
        guess = distance / np.sqrt(rise) if rise > 0.05 else 3 * distance
        distance = float(guess if lowest < guess < highest else (lowest + min(highest, 4 * distance)) / 2)
    return distance

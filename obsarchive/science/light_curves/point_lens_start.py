"""Starting values of a point-lens fit: a search of light curves for the shape of a microlensing event.

Times of maximum and effective time scales ``teff = u0 tE`` are scanned with shapes of fixed impact parameters, as in
the event finder of KMTNet (Kim et al. 2018, AJ 155, 76); source flux and baseline are solved at each point of the grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from obsarchive.science.arrays import Float64Array, IndexArray
from obsarchive.science.statistics import MAD_TO_SIGMA

SHAPES_U0 = (0.1, 0.8)
"""Impact parameters of the scanned shapes: a sharp peak with wide wings, and a flat one."""
REACH_U = 2.5
"""Distance from the lens beyond which the shapes are 0 [Einstein radii]."""
TEFF_STEP, T0_STEP = 1.5, 0.4
"""Factor between time scales, and step between times of maximum [time scales]."""
SHORTEST_D, LONGEST_D = 0.01, 300.0
BIN = 0.15
"""Width of the bins of epochs [time scales]."""


@dataclass(frozen=True)
class Candidate:
    """A place in the light curves that looks like an event.

    Parameters
    ----------
    gain : float
        By how much chi-square falls below that of a constant, without the epoch that contributes most.
    t0, teff : float
        Time of maximum and effective time scale [d].
    """

    gain: float
    t0: float
    teff: float


def noise_scale(flux: Float64Array, error: Float64Array) -> float:
    """Return by how much the scatter of consecutive epochs exceeds their errors, at least 1.

    Differences of neighbours do not contain the event (von Neumann 1941, Ann. Math. Stat. 12, 367).

    Parameters
    ----------
    flux, error : ndarray (n,)
        Fluxes in the order of time, and their errors.

    Returns
    -------
    float
        Factor for the errors.
    """
    if len(flux) < 3:
        return 1.0
    steps = np.abs(np.diff(flux)) / np.hypot(error[1:], error[:-1])
    return max(1.0, float(MAD_TO_SIGMA * np.median(steps)))


def find_candidates(
    time: Float64Array,
    flux: Float64Array,
    weight: Float64Array,
    edges: Sequence[int],
    within: tuple[float, float] | None = None,
    most: int = 3,
) -> list[Candidate]:
    """Return the places that look most like an event, the best first.

    Parameters
    ----------
    time, flux, weight : ndarray (n,)
        Times [d], fluxes and inverse variances, data set after data set, each in the order of time.
    edges : sequence of int
        First epoch of each data set, and `n`.
    within : (float, float), optional
        Range of the times of maximum [d].
    most : int
        Largest number of candidates.

    Returns
    -------
    list of Candidate
        Places at different times; empty if nothing brightens.
    """
    span = float(time.max() - time.min())
    scales = np.geomspace(SHORTEST_D, LONGEST_D, round(np.log(LONGEST_D / SHORTEST_D) / np.log(TEFF_STEP)) + 1)
    found: list[tuple[float, float, float]] = []
    for teff in scales[scales <= max(span, SHORTEST_D)]:
        binned = _binned(time, flux, weight, edges, BIN * teff)
        times = _thinned(np.sort(binned[0]), T0_STEP * teff)
        if within is not None:
            times = times[(times >= within[0]) & (times <= within[1])]
        for u0 in SHAPES_U0:
            gain = _gains(*binned, times, (teff, u0))
            best = np.argsort(-gain)[: 20 * most]
            found += [(float(gain[i]), float(times[i]), float(teff)) for i in best if gain[i] > 0]
    return _distinct([Candidate(*item) for item in sorted(found, reverse=True)], most)


def _distinct(found: Sequence[Candidate], most: int) -> list[Candidate]:
    chosen: list[Candidate] = []
    for one in found:
        # a weaker place within the reach of a stronger one is its wing
        if all(abs(one.t0 - other.t0) > 5 * other.teff + 2 * one.teff for other in chosen):
            chosen.append(one)
        if len(chosen) == most:
            break
    return chosen


def _thinned(time: Float64Array, step: float) -> Float64Array:
    """Return one time of each step that has any."""
    if not time.size:
        return time
    cells = np.floor((time - time[0]) / step)
    first = np.r_[True, np.diff(cells) > 0]
    return time[first]


def _binned(
    time: Float64Array, flux: Float64Array, weight: Float64Array, edges: Sequence[int], width: float
) -> tuple[Float64Array, Float64Array, Float64Array, IndexArray]:
    """Return weighted means of the epochs within bins of time, data set after data set."""
    cells = np.floor((time - time.min()) / width)
    starts = np.zeros(len(time), bool)
    starts[np.asarray(edges[:-1])] = True
    starts[1:] |= np.diff(cells) != 0
    first = np.flatnonzero(starts)
    total = np.add.reduceat(weight, first)
    safe = np.where(total > 0, total, 1.0)
    means = [np.add.reduceat(weight * values, first) / safe for values in (time - time[0], flux)]
    new_edges = np.searchsorted(first, np.asarray(edges))
    keep = total > 0
    kept_before = np.r_[0, np.cumsum(keep)]
    return means[0][keep] + time[0], means[1][keep], total[keep], kept_before[new_edges].astype(np.intp)


@njit(cache=True)
def _gains(time, flux, weight, edges, times, shape):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Gain in chi-square for each time of maximum, over all data sets; `shape`: (teff, u0)."""
    gains = np.zeros(times.size)
    reach = REACH_U * shape[0] / shape[1]
    for s in range(edges.size - 1):
        total, mean = 0.0, 0.0
        for i in range(edges[s], edges[s + 1]):
            total += weight[i]
            mean += weight[i] * flux[i]
        mean /= max(total, 1e-300)
        first, last = edges[s], edges[s]
        for k in range(times.size):
            # the window only moves forward
            while first < edges[s + 1] and time[first] < times[k] - reach:
                first += 1
            while last < edges[s + 1] and time[last] <= times[k] + reach:
                last += 1
            window = slice(first, last)
            gains[k] += _gain(time[window] - times[k], flux[window] - mean, weight[window], total, shape)
    return gains


@njit(cache=True)
def _gain(time, deviation, weight, total, shape):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Gain of one data set, of which a window is given and the shape is 0 elsewhere."""
    teff, u0_2 = shape[0], shape[1] * shape[1]
    peak = (u0_2 + 2.0) / np.sqrt(u0_2 * (u0_2 + 4.0)) - 1.0
    linear, square, product, largest = 0.0, 0.0, 0.0, 0.0
    for i in range(time.size):
        x = time[i] / teff
        u2 = u0_2 * (1.0 + x * x)
        bump = ((u2 + 2.0) / np.sqrt(u2 * (u2 + 4.0)) - 1.0) / peak
        own = weight[i] * bump * deviation[i]
        linear += weight[i] * bump
        square += weight[i] * bump * bump
        product += own
        largest = max(largest, own)
    power = square - linear * linear / max(total, 1e-300)
    # one bright epoch is no event: the gain is that without it
    if power <= 1e-6 * square or product <= largest:
        return 0.0
    return product * (product - largest) / power

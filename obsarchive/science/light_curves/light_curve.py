"""Light curves as numbers: fluxes and magnitudes, robust levels, seasons.

One convention of signs everywhere: brighter is positive, in flux, in S/N and in magnitude differences [mag].
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from obsarchive.science.photometry.zero_point import POGSON
from obsarchive.science.statistics import MAD_TO_SIGMA

Floats = NDArray[np.float64]

AB_MICROJANSKY = 23.9
"""Zero point of AB magnitudes for fluxes in µJy (Oke & Gunn 1983, ApJ 266, 713)."""
CLIP_SIGMA, CLIP_ROUNDS = 3.0, 10


@dataclass(frozen=True)
class Baseline:
    """The quiescent level of a light curve.

    Parameters
    ----------
    mean, rms : float
        Mean and standard deviation after clipping; NaN if nothing is finite.
    n : int
        Epochs that they rest on.
    """

    mean: float
    rms: float
    n: int


def quiescent_level(values: NDArray, good: NDArray[np.bool_] | None = None) -> Baseline:
    """Return the mean and scatter of quiet epochs: several times clipped at 3 sigma about the median.

    Sigma is that of the median absolute deviation, so that an event may take a good part of the light curve.

    Parameters
    ----------
    values : ndarray (n,)
        Fluxes or magnitudes.
    good : ndarray (n,) of bool, optional
        Which of them count.
    """
    chosen = np.ones(len(values), np.bool_) if good is None else good
    return Baseline(*_clipped(np.ascontiguousarray(values, np.float64), chosen, CLIP_SIGMA, CLIP_ROUNDS))


@njit(cache=True)
def _clipped(values, good, sigma, rounds):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    kept = values[good & np.isfinite(values)]
    for _ in range(rounds):
        if kept.size < 3:
            break
        middle = np.median(kept)
        # a long event makes the standard deviation its own; the median of the deviations is that of the quiet epochs
        width = sigma * MAD_TO_SIGMA * np.median(np.abs(kept - middle))
        inside = kept[np.abs(kept - middle) <= width]
        if inside.size == kept.size or inside.size < 2:
            break
        kept = inside
    if kept.size == 0:
        return np.nan, np.nan, 0
    return np.mean(kept), np.std(kept), kept.size


def fluxes_of_magnitudes(mag: NDArray, error: NDArray, zero_point: float = AB_MICROJANSKY) -> tuple[Floats, Floats]:
    """Return fluxes and their errors: ``10**(-0.4 (mag - zero_point))``, µJy for AB magnitudes."""
    flux = np.exp((zero_point - np.asarray(mag, np.float64)) / POGSON)
    return flux, flux * np.asarray(error, np.float64) / POGSON


def magnitudes_of_fluxes(flux: NDArray, error: NDArray, zero_point: float = AB_MICROJANSKY) -> tuple[Floats, Floats]:
    """Return magnitudes and their errors; NaN where there is no light."""
    flux = np.asarray(flux, np.float64)
    bright = np.where(flux > 0, flux, np.nan)
    return zero_point - POGSON * np.log(bright), POGSON * np.asarray(error, np.float64) / bright


def delta_magnitude(flux: NDArray, level: Baseline) -> Floats:
    """Return by how many magnitudes fluxes are brighter than their quiescent level; defined for negative fluxes, too.

    Differences of inverse hyperbolic sine magnitudes (Lupton, Gunn & Szalay 1999, AJ 118, 1406), softened by the
    noise; they are ordinary magnitudes where the light is much stronger than the noise.
    """
    softening = 2 * max(level.rms, 1e-12 * abs(level.mean), 1e-300)
    return POGSON * (np.arcsinh(np.asarray(flux, np.float64) / softening) - np.arcsinh(level.mean / softening))


def seasons(mjd: NDArray, gap_d: float) -> list[slice]:
    """Return the stretches of sorted times between which nothing was observed for longer than `gap_d` [d]."""
    if not len(mjd):
        return []
    edges = [0, *(np.flatnonzero(np.diff(mjd) > gap_d) + 1).tolist(), len(mjd)]
    return [slice(start, stop) for start, stop in pairwise(edges)]

"""Light curves: conversion of fluxes and magnitudes, quiescent level, seasons.

One sign convention throughout: brighter is positive, in flux, in S/N and in magnitude differences [mag].
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import njit

from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray, IntArray
from obsarchive.science.photometry.zero_point import POGSON
from obsarchive.science.statistics import MAD_TO_SIGMA

AB_MICROJANSKY = 23.9
"""Zero point of AB magnitudes for fluxes in µJy (Oke & Gunn 1983, ApJ 266, 713)."""
CLIP_SIGMA, CLIP_ROUNDS = 3.0, 10


@dataclass(frozen=True)
class Baseline:
    """Quiescent level of a light curve.

    Parameters
    ----------
    mean, rms : float
        Mean and standard deviation after clipping; NaN if no epoch is finite.
    n : int
        Number of epochs used.
    """

    mean: float
    rms: float
    n: int


def quiescent_level(values: FloatArray, good: BoolArray | None = None) -> Baseline:
    """Compute the quiescent level: mean and scatter after iterative clipping at 3 sigma about the median.

    Sigma is that of the median absolute deviation, so that an event may cover a good part of the light curve.

    Parameters
    ----------
    values : ndarray (n,)
        Fluxes or magnitudes.
    good : ndarray (n,) of bool, optional
        Epochs to use.

    Returns
    -------
    Baseline
        Mean and scatter [unit of the values].
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
        # a long event inflates the standard deviation, but not the median of the deviations
        width = sigma * MAD_TO_SIGMA * np.median(np.abs(kept - middle))
        inside = kept[np.abs(kept - middle) <= width]
        if inside.size == kept.size or inside.size < 2:
            break
        kept = inside
    if kept.size == 0:
        return np.nan, np.nan, 0
    return np.mean(kept), np.std(kept), kept.size


def middle_and_scatter(values: FloatArray) -> tuple[float, float]:
    """Return the median of values and their scatter, from the median absolute deviation.

    Parameters
    ----------
    values : ndarray (n,)
        Values; those that are not finite are skipped.

    Returns
    -------
    middle, scatter : float
        Both NaN without a finite value.
    """
    middle, scatter = _middle_and_scatter(np.ascontiguousarray(values, np.float64))
    return middle, scatter


@njit(cache=True)
def _middle_and_scatter(values):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.nan, np.nan
    middle = np.median(finite)
    return middle, MAD_TO_SIGMA * np.median(np.abs(finite - middle))


def fluxes_of_magnitudes(
    mag: FloatArray, error: FloatArray, zero_point: float = AB_MICROJANSKY
) -> tuple[Float64Array, Float64Array]:
    """Return fluxes and their errors: ``10**(-0.4 (mag - zero_point))``.

    Parameters
    ----------
    mag, error : ndarray (n,)
        Magnitudes and their errors [mag].
    zero_point : float
        Magnitude of flux 1; the default gives µJy for AB magnitudes.

    Returns
    -------
    flux, error : ndarray (n,)
        Fluxes and their errors, to first order.
    """
    flux = np.exp((zero_point - np.asarray(mag, np.float64)) / POGSON)
    return flux, flux * np.asarray(error, np.float64) / POGSON


def magnitudes_of_fluxes(
    flux: FloatArray, error: FloatArray, zero_point: float = AB_MICROJANSKY
) -> tuple[Float64Array, Float64Array]:
    """Return magnitudes and their errors, the inverse of :func:`fluxes_of_magnitudes`.

    Parameters
    ----------
    flux, error : ndarray (n,)
        Fluxes and their errors.
    zero_point : float
        Magnitude of flux 1; the default is that of µJy and AB magnitudes.

    Returns
    -------
    mag, error : ndarray (n,)
        Magnitudes and their errors, to first order [mag]; NaN for fluxes that are not positive.
    """
    flux = np.asarray(flux, np.float64)
    bright = np.where(flux > 0, flux, np.nan)
    return zero_point - POGSON * np.log(bright), POGSON * np.asarray(error, np.float64) / bright


def delta_magnitude(flux: FloatArray, level: Baseline) -> Float64Array:
    """Return the magnitude difference of fluxes to their quiescent level, positive if brighter.

    Differences of inverse hyperbolic sine magnitudes (Lupton, Gunn & Szalay 1999, AJ 118, 1406), softened by the
    noise, so that they are defined for negative fluxes; ordinary magnitudes where the flux is far above the noise.

    Parameters
    ----------
    flux : ndarray (n,)
        Fluxes.
    level : Baseline
        Their quiescent level.

    Returns
    -------
    ndarray (n,)
        Magnitude differences [mag].
    """
    # bounded from below: a light curve without scatter must not divide by zero
    softening = 2 * max(level.rms, 1e-12 * abs(level.mean), 1e-300)
    quiet = np.arcsinh(level.mean / softening)
    magnitudes: Float64Array = POGSON * (np.arcsinh(np.asarray(flux, np.float64) / softening) - quiet)
    return magnitudes


def seasons(mjd: FloatArray, gap_d: float) -> list[slice]:
    """Return the contiguous parts of a light curve, separated by long gaps.

    Parameters
    ----------
    mjd : ndarray (n,)
        Times in ascending order [d].
    gap_d : float
        Gap that separates two seasons [d].

    Returns
    -------
    list of slice
        Epochs of each season.
    """
    if not len(mjd):
        return []
    edges = [0, *(np.flatnonzero(np.diff(mjd) > gap_d) + 1).tolist(), len(mjd)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def binned(
    mjd: FloatArray, flux: FloatArray, error: FloatArray, width_d: float
) -> tuple[Float64Array, Float64Array, Float64Array, IntArray, IntArray]:
    """Average a light curve in bins of time, weighted by the errors; without errors all epochs weigh the same.

    Parameters
    ----------
    mjd : ndarray (n,)
        Times [d], in any order.
    flux, error : ndarray (n,)
        Fluxes and their errors; fluxes must be finite.
    width_d : float
        Width of a bin [d]; the first one begins at the first epoch.

    Returns
    -------
    mjd, flux, error : ndarray (m,)
        Mean times, weighted mean fluxes and their errors, of the bins that are not empty.
    n_epochs : ndarray (m,) of int
        Number of epochs of each bin.
    number : ndarray (n,) of int
        Bin of each epoch.
    """
    if not len(mjd):
        nothing, none = np.empty(0), np.empty(0, np.int64)
        return nothing, nothing, nothing, none, none
    place = np.floor((mjd - np.min(mjd)) / width_d).astype(np.int64)
    _, number, n_epochs = np.unique(place, return_inverse=True, return_counts=True)
    known = np.isfinite(error) & (error > 0)
    weight = np.where(known, 1 / np.where(known, error, 1.0) ** 2, 0.0) if known.any() else np.ones(len(mjd))
    total = np.bincount(number, weight)
    without = total <= 0  # bins all of whose epochs lack an error
    weight, total = np.where(without[number], 1.0, weight), np.where(without, n_epochs, total)
    mean = np.bincount(number, weight * flux) / total
    spread = 1 / np.sqrt(total) if known.any() else np.full(len(total), np.nan)
    return (
        np.bincount(number, mjd) / n_epochs,
        mean,
        np.where(without, np.nan, spread),
        n_epochs,
        number,
    )

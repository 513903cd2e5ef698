"""Putting all frames on one photometric scale by the stars that they have in common.

A star has the same magnitude in every frame but for the frame's zero point (transparency, extinction) and, where they
pay, terms that depend on the star's place and colour. Stars that vary do not count. After Honeycutt (1992, PASP 104,
435), with weights that include the scatter that each star shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obsarchive.science.photometry.zero_point import POGSON
from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_known

ROUNDS = 15
LEAST_STARS = 3
MAX_ERROR_MAG = 0.1
"""Stars whose median error is larger do not help [mag]."""
FLOOR_MAG = 0.002
"""Least error of a measurement in the weights: flat field, scintillation [mag]."""
VARIABLE = 4.0
"""A star varies if its scatter is so many times what is usual for its error."""
CLIP_SIGMA = 4.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FrameZeroPoints:
    """Zero points of frames.

    Parameters
    ----------
    correction : ndarray (n_stars, n_frames)
        To be added to the instrumental magnitudes [mag]; NaN in frames without enough stars. Its mean over the frames
        is 0 for a star in the middle of the field.
    error : ndarray (n_frames,)
        Standard error of the zero point of each frame [mag].
    magnitude, scatter : ndarray (n_stars,)
        Mean magnitude on the common scale, and the robust scatter around it [mag].
    is_reference : ndarray (n_stars,)
        Whether the star helped.
    terms : tuple of str
        Names of the terms that pay.
    """

    correction: Floats
    error: Floats
    magnitude: Floats
    scatter: Floats
    is_reference: NDArray[np.bool_]
    terms: tuple[str, ...] = ()

    def applied(self, flux: NDArray, error: NDArray) -> tuple[Floats, Floats]:
        """Return fluxes and their errors on the common scale; the error of the zero point is added."""
        return self._scaled(flux, error, self.correction)

    def applied_at(self, star: int, flux: NDArray, error: NDArray) -> tuple[Floats, Floats]:
        """Return fluxes and errors (n_frames,) of something that stands beside a star on the common scale."""
        return self._scaled(flux, error, self.correction[star])

    def _scaled(self, flux: NDArray, error: NDArray, correction: Floats) -> tuple[Floats, Floats]:
        factor = np.exp(-correction / POGSON)
        return flux * factor, np.hypot(error * factor, flux * factor * self.error / POGSON)


@dataclass(frozen=True)
class _Data:
    """Magnitudes and their errors (n_stars, n_frames), and what a zero point may depend on (n_stars, k)."""

    mag: Floats
    sigma: Floats
    design: Floats


def frame_zero_points(
    flux: NDArray, error: NDArray, usable: NDArray, terms: Mapping[str, NDArray] | None = None
) -> FrameZeroPoints:
    """Find the zero points of frames.

    Parameters
    ----------
    flux, error : ndarray (n_stars, n_frames)
        Instrumental fluxes and their standard errors; NaN where there is none.
    usable : ndarray (n_stars, n_frames)
        Measurements without a flag.
    terms : mapping of str to ndarray (n_stars, k), optional
        What zero points may depend on, of order one and 0 in the middle: ``{"place": (y, x), "colour": ...}``. Each
        stays only if it pays (Schwarz 1978, Annals of Statistics 6, 461).

    Raises
    ------
    ValueError
        When the arrays differ in shape.
    """
    if not flux.shape == error.shape == usable.shape or flux.ndim != 2:
        raise ValueError(f"fluxes {flux.shape}, errors {error.shape} and {usable.shape} must have one shape")
    good = usable & np.isfinite(flux) & np.isfinite(error) & (flux > 0) & (error > 0)
    safe = np.where(good, flux, 1.0)
    mag = np.where(good, -POGSON * np.log(safe), np.nan)
    sigma = np.where(good, np.hypot(POGSON * error / safe, FLOOR_MAG), np.nan)
    design = np.ones((len(flux), 1))
    kept: tuple[str, ...] = ()
    best = _solve(_Data(mag, sigma, design))
    for name, values in (terms or {}).items():
        wider = np.hstack([design, np.nan_to_num(np.asarray(values, float).reshape(len(flux), -1))])
        tried = _solve(_Data(mag, sigma, wider))
        if tried[1] < best[1]:
            design, best, kept = wider, tried, (*kept, name)
    return FrameZeroPoints(*best[0], kept)


def _solve(data: _Data) -> tuple[tuple[Floats, Floats, Floats, Floats, NDArray[np.bool_]], float]:
    """Solve for stars and frames in turn; returns what `FrameZeroPoints` holds, and the criterion of Schwarz."""
    reference = _first_references(data)
    correction = np.zeros_like(data.mag)
    extra = np.zeros(len(data.mag))
    for _ in range(ROUNDS):
        star = _star_magnitudes(data, correction, extra)
        fitted, error, criterion = _fit_frames(data, star, extra, reference)
        change = np.nanmax(np.abs(fitted - correction), initial=0.0) if np.isfinite(fitted).any() else 0.0
        correction = fitted
        scatter = _scatter(data.mag + correction)
        extra = np.sqrt(np.maximum(scatter**2 - median_of_known(data.sigma, 1) ** 2, 0.0))
        steady = _first_references(data) & ~_varies(data, scatter)
        if change < 1e-6 and np.array_equal(steady, reference):
            break
        reference = steady if steady.sum() >= LEAST_STARS else reference
    star = _star_magnitudes(data, correction, extra)
    return (correction, error, star, _scatter(data.mag + correction), reference), criterion


def _first_references(data: _Data) -> NDArray[np.bool_]:
    """Stars that are well measured in most frames; if there are too few, the best there are."""
    count = np.isfinite(data.mag).sum(axis=1)
    typical = np.where(count > 0, median_of_known(data.sigma, 1), np.inf)
    chosen = (typical < MAX_ERROR_MAG) & (count >= 0.7 * count.max(initial=0))
    if chosen.sum() < LEAST_STARS:
        chosen = typical <= np.sort(typical)[min(LEAST_STARS, len(typical)) - 1]
    return chosen & np.isfinite(typical)


def _star_magnitudes(data: _Data, correction: Floats, extra: Floats) -> Floats:
    """Weighted means over the frames, without outliers."""
    values = data.mag + correction
    weight = 1 / (data.sigma**2 + extra[:, np.newaxis] ** 2)
    middle = median_of_known(values, 1)[:, np.newaxis]
    kept = np.isfinite(values) & (np.abs(values - middle) <= CLIP_SIGMA / np.sqrt(weight))
    weight = np.where(kept, weight, 0.0)
    total = weight.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.sum(weight * np.where(kept, values, 0.0), axis=1) / total
    return np.where(total > 0, mean, middle[:, 0])


def _fit_frames(data: _Data, star: Floats, extra: Floats, reference: NDArray[np.bool_]) -> tuple[Floats, Floats, float]:
    """Weighted least squares of each frame: its terms; corrections, errors of the zero points, criterion of Schwarz."""
    n_frames, n_terms = data.mag.shape[1], data.design.shape[1]
    coefficients, error, criterion = np.full((n_frames, n_terms), np.nan), np.full(n_frames, np.nan), 0.0
    if n_frames == 1:
        return np.zeros_like(data.mag), np.zeros(1), 0.0
    for f in range(n_frames):
        wanted, sigma = star - data.mag[:, f], np.hypot(data.sigma[:, f], extra)
        known = np.flatnonzero(reference & np.isfinite(wanted) & np.isfinite(sigma))
        if len(known) >= max(LEAST_STARS, n_terms + 1):
            coefficients[f], error[f], chi2 = _fit_frame(data.design[known], wanted[known], sigma[known])
            criterion += chi2 + n_terms * np.log(len(known))
    middle = np.nanmean(coefficients, axis=0) if np.isfinite(coefficients).any() else 0.0
    return data.design @ (coefficients - middle).T, error, criterion


def _fit_frame(design: Floats, wanted: Floats, sigma: Floats) -> tuple[Floats, float, float]:
    """Fit one frame without its outliers; returns the terms, the error of the first, and the clipped chi-square."""
    kept = np.ones(len(wanted), bool)
    for _ in range(3):
        solution, error, reduced = _weighted(design[kept], wanted[kept], sigma[kept])
        pull = np.abs(wanted - design @ solution) / sigma
        fine = pull <= CLIP_SIGMA * max(1.0, reduced**0.5)
        if np.array_equal(fine, kept) or fine.sum() <= design.shape[1]:
            break
        kept = fine
    return solution, error, float(np.sum(np.minimum(pull, CLIP_SIGMA) ** 2))


def _weighted(design: Floats, values: Floats, sigma: Floats) -> tuple[Floats, float, float]:
    """Solve least squares; returns the coefficients, the error of the first, and chi-square per degree of freedom."""
    scaled = design / sigma[:, np.newaxis]
    covariance = np.linalg.pinv(scaled.T @ scaled)
    solution = covariance @ (scaled.T @ (values / sigma))
    reduced = float(np.sum(((values - design @ solution) / sigma) ** 2)) / max(1, len(values) - design.shape[1])
    return solution, float(np.sqrt(covariance[0, 0] * max(1.0, reduced))), reduced


def _scatter(values: Floats) -> Floats:
    """Robust standard deviation over the frames; NaN for stars with one value."""
    middle = median_of_known(values, 1)[:, np.newaxis]
    spread = MAD_TO_SIGMA * median_of_known(np.abs(values - middle), 1)
    return np.where(np.isfinite(values).sum(axis=1) > 1, spread, 0.0)


def _varies(data: _Data, scatter: Floats) -> NDArray[np.bool_]:
    """Whether a star's scatter is far above what is usual for its error."""
    ratio = scatter / median_of_known(data.sigma, 1)
    usual = np.nanmedian(ratio[ratio > 0]) if (ratio > 0).any() else 1.0
    return np.asarray(ratio > VARIABLE * max(usual, 1.0))

"""Ensemble photometry: zero points of frames from their common stars (relative photometric calibration).

A star has the same magnitude in every frame but for the frame's zero point (transparency, extinction) and, where they
are significant, terms that depend on the star's position and colour. Variable stars are excluded. After Honeycutt
(1992, PASP 104, 435), with weights that include the scatter of each star.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray
from obsarchive.science.photometry.zero_point import POGSON
from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_known

ROUNDS = 15
LEAST_STARS = 3
MAX_ERROR_MAG = 0.1
"""Largest median error of a reference star [mag]."""
FLOOR_MAG = 0.002
"""Error floor of the weights, for flat field and scintillation [mag]."""
VARIABLE = 4.0
"""Scatter over error, relative to the median star, from which on a star is variable."""
CLIP_SIGMA = 4.0


@dataclass(frozen=True)
class FrameZeroPoints:
    """Zero points of frames.

    Parameters
    ----------
    correction : ndarray (n_stars, n_frames)
        Added to the instrumental magnitudes [mag]; NaN in frames without enough stars. Its mean over the frames
        is 0 for a star in the middle of the field.
    error : ndarray (n_frames,)
        Standard error of the zero point of each frame [mag].
    magnitude, scatter : ndarray (n_stars,)
        Mean magnitude on the common scale, and the robust scatter around it [mag].
    is_reference : ndarray (n_stars,)
        Whether the star is a reference star.
    correction_error : ndarray (n_stars, n_frames)
        Standard error of the correction of each star, with those of the terms at its place and colour [mag].
    own_weight : ndarray (n_stars, n_frames)
        Weight of a star in its own correction: 0 unless it is a reference star. That part of its noise cancels.
    terms : tuple of str
        Names of the significant terms.
    """

    correction: Float64Array
    error: Float64Array
    magnitude: Float64Array
    scatter: Float64Array
    is_reference: BoolArray
    correction_error: Float64Array
    own_weight: Float64Array
    terms: tuple[str, ...] = ()

    def applied(self, flux: FloatArray, error: FloatArray) -> tuple[Float64Array, Float64Array]:
        """Return fluxes and errors of all stars on the common scale.

        The error of the zero point is added in quadrature.

        Parameters
        ----------
        flux, error : ndarray (n_stars, n_frames)
            Instrumental fluxes and their standard errors.

        Returns
        -------
        flux, error : ndarray (n_stars, n_frames)
            Same unit; NaN in frames without a zero point.
        """
        return self._scaled(flux, error, (self.correction, self.correction_error, self.own_weight))

    def applied_at(self, star: int, flux: FloatArray, error: FloatArray) -> tuple[Float64Array, Float64Array]:
        """Return fluxes and errors of a source close to a star on the common scale.

        The error of the zero point is added in quadrature.

        Parameters
        ----------
        star : int
            Number of the star, whose correction is applied.
        flux, error : ndarray (n_frames,)
            Instrumental fluxes and their standard errors.

        Returns
        -------
        flux, error : ndarray (n_frames,)
            Same unit; NaN in frames without a zero point.
        """
        nothing = np.zeros(self.correction.shape[1])
        return self._scaled(flux, error, (self.correction[star], self.correction_error[star], nothing))

    @staticmethod
    def _scaled(
        flux: FloatArray, error: FloatArray, scale: tuple[Float64Array, Float64Array, Float64Array]
    ) -> tuple[Float64Array, Float64Array]:
        correction, correction_error, own = scale
        factor = np.exp(-correction / POGSON)
        # a star's noise n, less its part in the zero point: (1 - own)^2 n^2, and own^2 n^2 is in the error of that
        noise = error * factor * np.sqrt(np.maximum(1 - 2 * own, 0.0))
        return flux * factor, np.hypot(noise, flux * factor * correction_error / POGSON)


@dataclass(frozen=True)
class _Data:
    """Magnitudes and errors (n_stars, n_frames), terms of a zero point (n_stars, k), and which stars are excluded."""

    mag: Float64Array
    sigma: Float64Array
    design: Float64Array
    excluded: BoolArray


def frame_zero_points(
    flux: FloatArray,
    error: FloatArray,
    usable: BoolArray,
    terms: Mapping[str, FloatArray] | None = None,
    excluded: BoolArray | None = None,
) -> FrameZeroPoints:
    """Compute the zero points of frames.

    Parameters
    ----------
    flux, error : ndarray (n_stars, n_frames)
        Instrumental fluxes and their standard errors; NaN where there is none.
    usable : ndarray (n_stars, n_frames) of bool
        Measurements without a flag.
    terms : mapping of str to ndarray (n_stars, k), optional
        Terms of zero points, of order one and 0 in the middle: ``{"place": (y, x), "colour": ...}``. Each
        is kept only if it lowers the information criterion (Schwarz 1978, Annals of Statistics 6, 461).
    excluded : ndarray (n_stars,) of bool, optional
        Stars that are no references while there are enough others: those whose light curve is wanted.

    Returns
    -------
    FrameZeroPoints
        Corrections (n_stars, n_frames), errors, and the stars used.

    Raises
    ------
    ValueError
        The arrays differ in shape.
    """
    if not flux.shape == error.shape == usable.shape or flux.ndim != 2:
        raise ValueError(f"fluxes {flux.shape}, errors {error.shape} and {usable.shape} must have one shape")
    good = usable & np.isfinite(flux) & np.isfinite(error) & (flux > 0) & (error > 0)
    safe = np.where(good, flux, 1.0)
    mag = np.where(good, -POGSON * np.log(safe), np.nan)
    sigma = np.where(good, np.hypot(POGSON * error / safe, FLOOR_MAG), np.nan)
    design = np.ones((len(flux), 1))
    kept: tuple[str, ...] = ()
    excluded = np.zeros(len(flux), bool) if excluded is None else excluded
    best = _solve(_Data(mag, sigma, design, excluded))
    for name, values in (terms or {}).items():
        wider = np.hstack([design, np.nan_to_num(np.asarray(values, float).reshape(len(flux), -1))])
        tried = _solve(_Data(mag, sigma, wider, excluded))
        if tried[1] < best[1]:
            design, best, kept = wider, tried, (*kept, name)
    return FrameZeroPoints(*best[0], kept)


_Solution = tuple[Float64Array, Float64Array, Float64Array, Float64Array, BoolArray, Float64Array, Float64Array]
"""The fields of `FrameZeroPoints` but for the terms."""


def _solve(data: _Data) -> tuple[_Solution, float]:
    """Solve for stars and frames in turn; return the fields of `FrameZeroPoints`, and Schwarz's criterion."""
    reference = _first_references(data)
    correction = np.zeros_like(data.mag)
    extra = np.zeros(len(data.mag))
    for _ in range(ROUNDS):
        star = _star_magnitudes(data, correction, extra)
        fitted, errors, criterion = _fit_frames(data, star, extra, reference)
        change = np.nanmax(np.abs(fitted - correction), initial=0.0) if np.isfinite(fitted).any() else 0.0
        correction = fitted
        scatter = _scatter(data.mag + correction)
        # scatter beyond the errors: a star that varies a little counts less, with no threshold
        extra = np.sqrt(np.maximum(scatter**2 - median_of_known(data.sigma, 1) ** 2, 0.0))
        steady = _first_references(data) & ~_varies(data, scatter)
        if change < 1e-6 and np.array_equal(steady, reference):
            break
        # with too few constant stars left, variable ones are better than none
        reference = steady if steady.sum() >= LEAST_STARS else reference
    star = _star_magnitudes(data, correction, extra)
    scatter = _scatter(data.mag + correction)
    return (correction, errors[0], star, scatter, reference, *errors[1:]), criterion


def _first_references(data: _Data) -> BoolArray:
    """Return the stars that are well measured in most frames; if these are too few, the best available."""
    count = np.isfinite(data.mag).sum(axis=1)
    typical = np.where(count > 0, median_of_known(data.sigma, 1), np.inf)
    chosen = (typical < MAX_ERROR_MAG) & (count >= 0.7 * count.max(initial=0))
    if chosen.sum() < LEAST_STARS:
        chosen = typical <= np.sort(typical)[min(LEAST_STARS, len(typical)) - 1]
    others = chosen & np.isfinite(typical) & ~data.excluded
    references: BoolArray = others if others.sum() >= LEAST_STARS else chosen & np.isfinite(typical)
    return references


def _star_magnitudes(data: _Data, correction: Float64Array, extra: Float64Array) -> Float64Array:
    """Return the weighted means over the frames, without outliers."""
    values = data.mag + correction
    weight = 1 / (data.sigma**2 + extra[:, np.newaxis] ** 2)
    middle = median_of_known(values, 1)[:, np.newaxis]
    # about the median: an outlier would pull a mean towards itself and hide
    kept = np.isfinite(values) & (np.abs(values - middle) <= CLIP_SIGMA / np.sqrt(weight))
    weight = np.where(kept, weight, 0.0)
    total = weight.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.sum(weight * np.where(kept, values, 0.0), axis=1) / total
    return np.where(total > 0, mean, middle[:, 0])


def _fit_frames(
    data: _Data, star: Float64Array, extra: Float64Array, reference: BoolArray
) -> tuple[Float64Array, tuple[Float64Array, Float64Array, Float64Array], float]:
    """Return corrections, their errors and Schwarz's criterion of weighted fits to each frame.

    The errors are those of the zero points (n_frames,), of the corrections of stars, and the weights of stars in their
    own corrections.
    """
    n_frames, n_terms = data.mag.shape[1], data.design.shape[1]
    coefficients, error, criterion = np.full((n_frames, n_terms), np.nan), np.full(n_frames, np.nan), 0.0
    of_stars, own = np.full(data.mag.shape, np.nan), np.zeros(data.mag.shape)
    n_all = max(int(_first_references(data).sum()), 1)
    if n_frames == 1:
        nothing = np.zeros_like(data.mag)
        return nothing, (np.zeros(1), nothing, nothing), 0.0
    for f in range(n_frames):
        wanted, sigma = star - data.mag[:, f], np.hypot(data.sigma[:, f], extra)
        known = np.flatnonzero(reference & np.isfinite(wanted) & np.isfinite(sigma))
        if len(known) >= max(LEAST_STARS, n_terms + 1):
            fit = _fit_frame(data.design[known], wanted[known], sigma[known])
            coefficients[f], kept = fit.solution, known[fit.kept]
            error[f] = np.sqrt(fit.covariance[0, 0])
            of_stars[:, f] = np.sqrt(np.einsum("ij,jk,ik->i", data.design, fit.covariance, data.design))
            own[kept, f] = of_stars[kept, f] ** 2 / fit.excess / sigma[kept] ** 2
            # the scatter that a model leaves counts in its errors: without their logarithm it would explain itself
            deviance = fit.clipped_chi2 + 2 * float(np.sum(np.log(sigma[known])))
            # in units of as many stars, as each model has references of its own
            criterion += deviance * n_all / len(known) + n_terms * np.log(n_all)
    # relative to the mean of all frames, in which each has its part
    relative = np.sqrt(1 - 1 / max(int(np.isfinite(error).sum()), 2))
    error, of_stars, own = error * relative, of_stars * relative, own * relative**2
    # a common offset of all frames is not constrained: their mean correction is zero
    middle = np.nanmean(coefficients, axis=0) if np.isfinite(coefficients).any() else 0.0
    return data.design @ (coefficients - middle).T, (error, of_stars, own), criterion


@dataclass(frozen=True)
class _FrameFit:
    """Terms of one frame and their covariance, excess of the scatter, stars kept, and clipped chi-square."""

    solution: Float64Array
    covariance: Float64Array
    excess: float
    kept: BoolArray
    clipped_chi2: float


def _fit_frame(design: Float64Array, wanted: Float64Array, sigma: Float64Array) -> _FrameFit:
    """Return the fit of one frame without its outliers."""
    kept = np.ones(len(wanted), bool)
    for _ in range(3):
        solution, covariance, reduced = _weighted(design[kept], wanted[kept], sigma[kept])
        pull = np.abs(wanted - design @ solution) / sigma
        fine = pull <= CLIP_SIGMA * max(1.0, reduced**0.5)
        if np.array_equal(fine, kept) or fine.sum() <= design.shape[1]:
            break
        kept = fine
    # clipped, not without the outliers: models compared by it must rest on the same stars
    clipped = float(np.sum(np.minimum(pull, CLIP_SIGMA) ** 2))
    return _FrameFit(solution, covariance, max(1.0, reduced), kept, clipped)


def _weighted(
    design: Float64Array, values: Float64Array, sigma: Float64Array
) -> tuple[Float64Array, Float64Array, float]:
    """Return the least-squares coefficients, their covariance, and chi-square per degree of freedom."""
    scaled = design / sigma[:, np.newaxis]
    # pseudo-inverse: terms may be degenerate, as for stars of one colour
    covariance = np.linalg.pinv(scaled.T @ scaled)
    solution = covariance @ (scaled.T @ (values / sigma))
    reduced = float(np.sum(((values - design @ solution) / sigma) ** 2)) / max(1, len(values) - design.shape[1])
    return solution, covariance * max(1.0, reduced), reduced


def _scatter(values: Float64Array) -> Float64Array:
    """Return the robust standard deviation over the frames; 0 for stars with one value."""
    middle = median_of_known(values, 1)[:, np.newaxis]
    spread = MAD_TO_SIGMA * median_of_known(np.abs(values - middle), 1)
    return np.where(np.isfinite(values).sum(axis=1) > 1, spread, 0.0)


def _varies(data: _Data, scatter: Float64Array) -> BoolArray:
    """Return whether a star's scatter is far above the usual for its error."""
    ratio = scatter / median_of_known(data.sigma, 1)
    # relative to the median star: errors may be underestimated for all
    usual = np.nanmedian(ratio[ratio > 0]) if (ratio > 0).any() else 1.0
    return np.asarray(ratio > VARIABLE * max(usual, 1.0))

"""PSF photometry in crowded fields: an empirical PSF from bright stars, fitted to neighbouring stars at once."""

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from scipy import ndimage, optimize
from scipy.spatial import cKDTree

from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray, IndexArray
from obsarchive.science.photometry.aperture import Apertures
from obsarchive.science.photometry.psf_fit import (
    OVERSAMPLING,
    PIXEL_ERROR,
    BoxFit,
    EmpiricalPSF,
    Frame,
    fit_box,
    fit_star,
    moffat,
)
from obsarchive.science.statistics import median_of_all

REACH_FWHM = 3.5
"""Radius of the PSF [FWHM]."""
MAX_STARS = 25
MAX_CANDIDATES = 400
MAX_DISTURBANCE = 0.05
"""Flux of the neighbours, over that of the star, up to which a star is isolated."""
LEAST_STARS = 3
LEAST_FOR_DETAILS = 8
"""Number of stars needed to measure the residuals of a Moffat profile."""
LEAST_SEEN = 0.8
"""Least share of good pixels of a PSF star."""
OUTSIDE = 0.8
"""Radius beyond which the profile has no residuals, over that of the PSF: what is there is the sky's."""
RING_PX = 1.0
"""Width of the rings in which residuals of a profile are seen."""
CORE_FWHM = 1.5
"""Radius within which the light of a star is compared with the profile [FWHM]."""
LEAST_OF_PEAK = 0.05
"""Least light of a pixel, over that of the brightest one, for the pixel to show the errors of the profile."""
LEAST_SNR = 3.0
"""Least signal-to-noise ratio of a star that shows the errors of the profile."""
FREE_WIDTH = 0.1
"""Scatter of the widths of stars, relative, within which they are free while it is measured."""
WITHIN_SIGMA = 0.6827
"""Share of the values of a Gaussian within one standard deviation: a third of all may be outliers."""
CLEANING_ROUNDS = 4
BETA_RANGE = (1.5, 10.0)
BOX_FWHM = 5.0
"""Side of the square to which the PSF is fitted [FWHM]."""


@dataclass(frozen=True, eq=False)
class PsfFluxes:
    """Fluxes of n stars from PSF fits.

    Parameters
    ----------
    flux, flux_error : ndarray (n,)
        Flux and its standard error [unit of the image]; NaN for stars that were not fitted.
    fwhm_px : float or None
        FWHM of the PSF [pixel]; None where there were too few stars to build it.
    """

    flux: Float64Array
    flux_error: Float64Array
    fwhm_px: float | None


Stamp = tuple[Float64Array, Float64Array, Float64Array]
"""Distances of pixels from the centre of a star (dy, dx), and their share of its flux."""


def psf_photometry(
    frame: Frame, apertures: Apertures, chosen: IndexArray, wanted: IndexArray, fwhm_px: float
) -> PsfFluxes:
    """Build the PSF of a frame from some stars, and fit it to others.

    Parameters
    ----------
    frame : Frame
        Pixels and positions of all stars.
    apertures : Apertures
        Aperture photometry of all stars; the first radius counts.
    chosen : ndarray of int
        Stars from which the PSF is built: bright, isolated and unsaturated, the best first, see :func:`isolated_stars`.
    wanted : ndarray of int
        Stars that are fitted.
    fwhm_px : float
        Approximate FWHM of the stars [pixel].

    Returns
    -------
    PsfFluxes
        Fluxes of all stars, NaN for those that are not wanted.
    """
    flux, error = np.full(len(frame.y), np.nan), np.full(len(frame.y), np.nan)
    psf = build_epsf(frame, chosen, apertures.flux[:, 0], apertures.sky, fwhm_px) if len(chosen) else None
    if psf is None:
        return PsfFluxes(flux, error, None)
    psf, share = _with_errors(frame, chosen, psf, fwhm_px)
    for i in wanted:
        flux[i], error[i] = fit_star(frame, i, psf, BOX_FWHM / 2 * fwhm_px)
    error = np.hypot(error, share * np.nan_to_num(flux))
    return PsfFluxes(flux, error, psf.fwhm_px)


def isolated_stars(
    stars: tuple[FloatArray, FloatArray], flux: FloatArray, good: BoolArray, reach_px: float, most: int = MAX_STARS
) -> IndexArray:
    """Return the bright isolated stars: those with the least relative flux of neighbours.

    Parameters
    ----------
    stars : (ndarray (n,), ndarray (n,))
        Positions (y, x) of all stars [pixel].
    flux : ndarray (n,)
        Their fluxes; NaN counts as zero.
    good : ndarray (n,) of bool
        Stars that may be chosen.
    reach_px : float
        Radius of the PSF [pixel].
    most : int
        Largest number of stars.

    Returns
    -------
    ndarray (k,) of int
        Numbers of the stars, the most isolated first.
    """
    y, x = stars
    light = np.where(np.isfinite(flux), np.maximum(flux, 0), 0.0)
    placed = np.flatnonzero(np.isfinite(y) & np.isfinite(x))
    order = placed[np.argsort(-light[placed])]
    candidates = [j for j in order[:MAX_CANDIDATES] if good[j] and light[j] > 0]
    tree = cKDTree(np.stack([y[placed], x[placed]], axis=1))
    disturbance = [
        light[placed[tree.query_ball_point((y[j], x[j]), reach_px)]].sum() / light[j] - 1 for j in candidates
    ]
    ranked = np.array(candidates, np.intp)[np.argsort(disturbance, kind="stable")]
    # at least enough for the residuals of the profile, even if neighbours disturb them
    few = int(np.clip(np.sum(np.array(disturbance) < MAX_DISTURBANCE), LEAST_FOR_DETAILS + 4, most))
    return ranked[:few]


def build_epsf(
    frame: Frame, chosen: IndexArray, flux: FloatArray, sky: FloatArray, fwhm_px: float
) -> EmpiricalPSF | None:
    """Build the empirical PSF of a frame, iteratively, with the neighbours of its stars subtracted.

    Parameters
    ----------
    frame : Frame
        Pixels and all stars.
    chosen : ndarray (k,) of int
        Bright, isolated, unsaturated stars, the best first.
    flux, sky : ndarray (n,)
        Aperture fluxes of all stars above the sky, and sky levels.
    fwhm_px : float
        Approximate FWHM [pixel].

    Returns
    -------
    EmpiricalPSF or None
        None without enough stars.
    """
    reach = REACH_FWHM * fwhm_px
    stamps = [_stamp(frame.image, (frame.y[i], frame.x[i], flux[i], sky[i]), reach) for i in chosen]
    shape = _learnt([stamp for stamp in stamps if stamp is not None], reach, fwhm_px)
    for _ in range(CLEANING_ROUNDS):
        if shape is None:
            break
        # neighbours can be subtracted only with a PSF, which their flux distorts: hence the iteration
        cleaned = [stamp for i in chosen if (stamp := _cleaned(frame, i, shape)) is not None]
        shape = _learnt(cleaned, reach, fwhm_px, shape) or shape
    return shape


def _learnt(
    stamps: list[Stamp], reach: float, fwhm_px: float, before: EmpiricalPSF | None = None
) -> EmpiricalPSF | None:
    """Return the PSF fitted to the stamps of several stars, each normalised by its flux; None if they are too few."""
    if len(stamps) < LEAST_STARS:
        return None
    dy, dx, light = (np.concatenate(parts) for parts in zip(*stamps, strict=True))

    def misfit(parameters: Float64Array) -> Float64Array:
        # the noise of bright stars is that of their own light
        noise = np.sqrt(0.02 * light.max() + np.abs(light))
        residual: Float64Array = (parameters[4] * moffat(parameters[:4], dy, dx) - light) / noise
        return residual

    width = 4 * (2 ** (1 / 3.0) - 1) / fwhm_px**2
    limits = ([0, -np.inf, 0, BETA_RANGE[0], 0], [np.inf, np.inf, np.inf, BETA_RANGE[1], np.inf])
    # strictly within the limits, as the solver demands
    first = (*before.form, before.beta) if before else (width, 0.0, width, 3.0)
    start = np.clip([*first, float(np.quantile(light, 0.999))], *np.array(limits) * (1 - 1e-9))
    fit = optimize.least_squares(
        misfit, start, bounds=limits, loss="soft_l1", f_scale=0.1, x_scale=np.abs(start) + 1e-3
    )
    xx, xy, yy, beta, height = map(float, fit.x)
    bare = EmpiricalPSF((xx, xy, yy), beta, np.empty((0, 0)), 1.0, reach)
    details = np.empty((0, 0))
    if len(stamps) >= LEAST_FOR_DETAILS:
        details = _details(dy, dx, light / height - bare.at(dy, dx), reach)
    shape = replace(bare, details=details)
    # normalised as pixels sample it, so that the fitted amplitude is the flux
    side = np.arange(-int(reach), int(reach) + 1.0)
    return replace(shape, peak=1 / float(shape.at(side[:, np.newaxis], side).sum()))


def _stamp(image: FloatArray, star: tuple[float, ...], reach: float) -> Stamp | None:
    """Return the pixels of a star: distances from its centre and shares of its flux; None without enough pixels."""
    y, x, flux, sky = star
    top, left, size = int(np.ceil(y - reach)), int(np.ceil(x - reach)), int(2 * reach)
    if min(top, left) < 0 or top + size > image.shape[0] or left + size > image.shape[1] or not flux > 0:
        return None
    dy, dx = np.mgrid[top : top + size, left : left + size] - np.array([y, x])[:, np.newaxis, np.newaxis]
    light = (image[top : top + size, left : left + size] - sky) / flux
    inside = (np.hypot(dy, dx) <= reach) & np.isfinite(light)
    if inside.sum() < LEAST_SEEN * np.pi * reach**2:
        return None
    return dy[inside], dx[inside], light[inside].astype(float)


def _cleaned(frame: Frame, i: int, shape: EmpiricalPSF) -> Stamp | None:
    """Return the pixels of a star as :func:`_stamp`, neighbours and sky subtracted by a fit."""
    box = shape.reach + 1
    fit = fit_box(frame, i, shape, box)
    if fit is None or not fit.solution[0] > 0:
        return None
    near = (np.hypot(fit.dy[:, 0], fit.dx[:, 0]) <= shape.reach) & fit.kept
    if near.sum() < LEAST_SEEN * np.pi * shape.reach**2:
        return None
    others = fit.design[:, 1:] @ fit.solution[1:]
    light = (fit.light - others) / fit.solution[0]
    return fit.dy[near, 0], fit.dx[near, 0], light[near]


def _details(dy: Float64Array, dx: Float64Array, missing: Float64Array, reach: float) -> Float64Array:
    """Return the residuals of a profile on a grid finer than a pixel: medians of rings, and smoothed ones of cells."""
    half = int(reach * OVERSAMPLING) + 1
    side = 2 * half + 1
    # few stars leave cells empty, and medians of few are noise: the wings, which are round, are those of rings
    radius, grid = np.hypot(dy, dx), np.arange(-half, half + 1) / OVERSAMPLING
    missing = missing - median_of_all(missing[radius > OUTSIDE * reach])
    number = np.rint(radius / RING_PX).astype(int)
    seen = np.flatnonzero(np.bincount(number) >= 3)
    ring = np.array([median_of_all(missing[number == each]) for each in seen])
    steps = seen * RING_PX
    missing = missing - np.interp(radius, steps, ring)
    cell = (np.rint(dy * OVERSAMPLING) + half).astype(int) * side + (np.rint(dx * OVERSAMPLING) + half).astype(int)
    order = np.argsort(cell, kind="stable")
    edges = np.searchsorted(cell[order], np.arange(side * side + 1))
    found = _medians(missing[order], edges)
    smooth: Float64Array = ndimage.gaussian_filter(found.reshape(side, side), 0.7)
    wings = np.interp(np.hypot(grid[:, np.newaxis], grid), steps, ring)
    return np.asarray(smooth + wings)


@njit(cache=True)
def _medians(values, edges):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Median of the values from each edge to the next; 0 for fewer than three, which cannot reject a cosmic ray."""
    found = np.zeros(len(edges) - 1)
    for i in range(len(found)):
        members = values[edges[i] : edges[i + 1]]
        if members.size >= 3:
            found[i] = np.median(members)
    return found


def _with_errors(frame: Frame, chosen: IndexArray, shape: EmpiricalPSF, fwhm_px: float) -> tuple[EmpiricalPSF, float]:
    """Return the PSF with its errors, and the share of the flux that it misses: those of the stars that made it."""
    free = replace(shape, width_error=FREE_WIDTH)
    cores = _cores(frame, chosen, free, fwhm_px)
    pixels = excess_scatter(*_columns([_missed_of_pixels(*each) for each in cores]))
    if pixels > PIXEL_ERROR:
        # these fits rejected what the profile misses, those of all stars will not
        free = replace(free, pixel_error=pixels)
        cores = _cores(frame, chosen, free, fwhm_px)
    widths = excess_scatter(*_columns([_width(fit) for fit, _ in cores]))
    share = excess_scatter(*_columns([_missed(*each) for each in cores]))
    return replace(free, width_error=widths), share


def _cores(frame: Frame, chosen: IndexArray, shape: EmpiricalPSF, fwhm_px: float) -> list[tuple[BoxFit, BoolArray]]:
    """Return the fits of stars, and which of their pixels are in the core.

    These may be rejected ones: what the profile misses most may be among them.
    """
    fits = [fit_box(frame, i, shape, BOX_FWHM / 2 * fwhm_px) for i in chosen]
    good = [fit for fit in fits if fit is not None and fit.solution[0] > LEAST_SNR * fit.error]
    return [(fit, np.hypot(fit.dy[:, 0], fit.dx[:, 0]) < CORE_FWHM * fwhm_px) for fit in good]


def _columns(pairs: list[tuple[Float64Array, Float64Array]]) -> Float64Array:
    """Return values and variances of several stars, (2, n)."""
    return np.hstack(pairs) if pairs else np.empty((2, 0))


def _width(fit: BoxFit) -> tuple[Float64Array, Float64Array]:
    """Return the relative width of a star beyond that of the PSF, and its variance."""
    flux = fit.solution[0]
    variance = fit.covariance[-1, -1] / flux**2
    # the fit drew the width to zero
    drawn = max(1 - variance, 0.1)
    return np.array([FREE_WIDTH * fit.solution[-1] / flux / drawn]), np.array([FREE_WIDTH**2 * variance / drawn])


def _missed_of_pixels(fit: BoxFit, within: BoolArray) -> tuple[Float64Array, Float64Array]:
    """Return the light that the profile misses in each pixel of the core of a star, relative, and its variance."""
    within = within & (fit.design[:, 0] > LEAST_OF_PEAK * fit.design[:, 0].max())
    star = fit.design[within, 0] * fit.solution[0]
    rest = fit.light[within] - fit.design[within] @ fit.solution
    return rest / star, fit.variance[within] / star**2


def _missed(fit: BoxFit, within: BoolArray) -> tuple[Float64Array, Float64Array]:
    """Return the share of the light in the core of a star that the profile misses, and its variance."""
    light = float(fit.design[within, 0].sum()) * fit.solution[0]
    sums = fit.design[within].sum(axis=0)
    # the fit has taken its part of the noise away
    noise = float(fit.variance[within].sum() - sums @ fit.covariance @ sums)
    missed = float(fit.light[within].sum() - sums @ fit.solution) / light
    return np.array([missed]), np.array([max(noise, 0.0) / light**2])


def excess_scatter(values: Float64Array, variance: Float64Array) -> float:
    """Return the scatter about zero that values have beyond their variances; outliers do not count.

    Parameters
    ----------
    values, variance : ndarray (n,)
        Values that should be zero, and their variances.

    Returns
    -------
    float
        Standard deviation; 0 where the variances suffice, or with less than three values.
    """
    if len(values) < LEAST_STARS:
        return 0.0
    variance = np.maximum(variance, 1e-30)

    def surplus(excess: float) -> float:
        return float(np.quantile(values**2 / (variance + excess), WITHIN_SIGMA)) - 1

    most = float(np.max(values**2)) + 1e-30
    return float(np.sqrt(optimize.brentq(surplus, 0.0, most))) if surplus(0.0) > 0 else 0.0

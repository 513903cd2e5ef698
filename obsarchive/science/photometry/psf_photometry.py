"""Photometry in crowded places: the image of a star is learnt from bright ones, then fitted to all stars at once."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]

REACH_FWHM = 3.5
"""Size of a star's image."""
MAX_STARS = 25
MAX_CANDIDATES = 400
MAX_DISTURBANCE = 0.05
"""Light of the neighbours, in units of the star's, up to which more stars are better than fewer."""
LEAST_STARS = 3
LEAST_FOR_DETAILS = 8
"""Stars that are needed to see where the image of a star differs from a Moffat profile."""
LEAST_SEEN = 0.8
"""Share of the pixels of a star that must be good."""
OVERSAMPLING = 2
ROUNDS = 4
CLIP_SIGMA = 6.0
CLEANING_ROUNDS = 2
UNRESOLVED_FWHM = 0.35
"""Stars that are closer are measured as one: no fit could share their light out."""
LEAST_LIGHT = 0.02
"""Share of a star's light that must fall into a box for the star to be fitted."""
BETA_RANGE = (1.5, 10.0)


@dataclass(frozen=True, eq=False)
class EmpiricalPSF:
    """What a point of light becomes on a frame: an elliptical Moffat profile and what it misses.

    Attributes
    ----------
    form : (float, float, float)
        Elements xx, xy, yy of its quadratic form [1/pixel^2].
    beta : float
        Exponent.
    details : ndarray (m, m)
        What is added, in steps of half a pixel.
    peak : float
        Such that all light within its reach is 1.
    reach : float
        Radius within which it is known [pixel].
    """

    form: tuple[float, float, float]
    beta: float
    details: Floats
    peak: float
    reach: float

    def at(self, dy: NDArray, dx: NDArray) -> Floats:
        """Light of a pixel at a distance from the centre, 0 beyond the reach."""
        return np.where(np.hypot(dy, dx) <= self.reach, self.peak * self._bare(dy, dx), 0.0)

    def _bare(self, dy: NDArray, dx: NDArray) -> Floats:
        profile = _moffat((*self.form, self.beta), dy, dx)
        if not self.details.size:
            return profile
        middle = (len(self.details) - 1) / 2
        places = np.stack([np.asarray(axis) * OVERSAMPLING + middle for axis in np.broadcast_arrays(dy, dx)])
        return profile + ndimage.map_coordinates(self.details, places, order=1, mode="constant")

    @property
    def fwhm_px(self) -> float:
        """Geometric mean of the full widths at half maximum along both axes [pixel]."""
        xx, xy, yy = self.form
        return float(2 * np.sqrt((2 ** (1 / self.beta) - 1) / np.sqrt(max(xx * yy - xy * xy, 1e-12))))


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame and its stars.

    Attributes
    ----------
    image, variance : ndarray (ny, nx)
        Pixels, NaN where they are bad, and their variance.
    y, x : ndarray (n,)
        All stars [pixel].
    saturation : float
        Level at and above which a pixel is left out.
    """

    image: NDArray
    variance: NDArray
    y: Floats
    x: Floats
    saturation: float = np.inf


Stamp = tuple[Floats, Floats, Floats]
"""Distances of pixels from a star's centre (dy, dx), and their light."""


def _moffat(parameters: tuple[float, ...] | Floats, dy: NDArray, dx: NDArray) -> Floats:
    xx, xy, yy, beta = parameters
    return np.asarray((1 + np.maximum(xx * dx * dx + 2 * xy * dx * dy + yy * dy * dy, 0)) ** -beta)


def isolated_stars(
    stars: tuple[NDArray, NDArray], flux: NDArray, good: NDArray, reach_px: float, most: int = MAX_STARS
) -> NDArray[np.intp]:
    """Numbers of the bright stars whose image their neighbours disturb least.

    Parameters
    ----------
    stars : (y, x)
        All stars [pixel].
    flux : ndarray (n,)
        Their light.
    good : ndarray (n,)
        Those that may be chosen.
    reach_px : float
        Size of a star's image [pixel].
    most : int
        Largest number of stars.
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
    few = int(np.clip(np.sum(np.array(disturbance) < MAX_DISTURBANCE), LEAST_FOR_DETAILS + 4, most))
    return ranked[:few]


def build_epsf(
    frame: Frame, chosen: NDArray[np.intp], flux: NDArray, sky: NDArray, fwhm_px: float
) -> EmpiricalPSF | None:
    """Learn the image of a star; then again, each time with what the neighbours add taken away.

    Parameters
    ----------
    frame : Frame
        Pixels and all stars.
    chosen : ndarray of int
        Bright, isolated, unsaturated stars, the best first.
    flux, sky : ndarray (n,)
        Light of all stars above the sky in the aperture, and the sky.
    fwhm_px : float
        About what it is [pixel].

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
        cleaned = [stamp for i in chosen if (stamp := _cleaned(frame, i, shape)) is not None]
        shape = _learnt(cleaned, reach, fwhm_px) or shape
    return shape


def _learnt(stamps: list[Stamp], reach: float, fwhm_px: float) -> EmpiricalPSF | None:
    """Fit one profile to the light of several stars, each in units of its own."""
    if len(stamps) < LEAST_STARS:
        return None
    dy, dx, light = (np.concatenate(parts) for parts in zip(*stamps, strict=True))

    def misfit(parameters: Floats) -> Floats:
        # the noise of bright stars is that of their own light
        return (parameters[4] * _moffat(parameters[:4], dy, dx) - light) / np.sqrt(0.02 * light.max() + np.abs(light))

    width = 4 * (2 ** (1 / 3.0) - 1) / fwhm_px**2
    limits = ([0, -np.inf, 0, BETA_RANGE[0], 0], [np.inf, np.inf, np.inf, BETA_RANGE[1], np.inf])
    start = np.clip([width, 0.0, width, 3.0, float(np.quantile(light, 0.999))], *np.array(limits) * (1 - 1e-9))
    fit = optimize.least_squares(
        misfit, start, bounds=limits, loss="soft_l1", f_scale=0.1, x_scale=np.abs(start) + 1e-3
    )
    xx, xy, yy, beta, height = map(float, fit.x)
    bare = EmpiricalPSF((xx, xy, yy), beta, np.empty((0, 0)), 1.0, reach)
    details = np.empty((0, 0))
    if len(stamps) >= LEAST_FOR_DETAILS:
        details = _details(dy, dx, light / height - bare.at(dy, dx), reach)
    shape = replace(bare, details=details)
    side = np.arange(-int(reach), int(reach) + 1.0)
    return replace(shape, peak=1 / float(shape.at(side[:, np.newaxis], side).sum()))


def _stamp(image: NDArray, star: tuple[float, ...], reach: float) -> Stamp | None:
    """Pixels of a star: their distances from its centre and their light, of its flux."""
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
    """Pixels of a star without its neighbours and the sky, of the flux that fitting finds."""
    box = shape.reach + 1
    fit = _fitted(frame, i, shape, box)
    if fit is None or not fit.solution[0] > 0:
        return None
    near = (np.hypot(fit.dy[:, 0], fit.dx[:, 0]) <= shape.reach) & fit.kept
    if near.sum() < LEAST_SEEN * np.pi * shape.reach**2:
        return None
    others = fit.design[:, 1:] @ fit.solution[1:]
    light = (fit.light - others) / fit.solution[0]
    return fit.dy[near, 0], fit.dx[near, 0], light[near]


def _details(dy: Floats, dx: Floats, missing: Floats, reach: float) -> Floats:
    """Medians of what a profile misses, in cells of a part of a pixel."""
    half = int(reach * OVERSAMPLING) + 1
    side = 2 * half + 1
    cell = (np.rint(dy * OVERSAMPLING) + half).astype(int) * side + (np.rint(dx * OVERSAMPLING) + half).astype(int)
    order = np.argsort(cell, kind="stable")
    edges = np.searchsorted(cell[order], np.arange(side * side + 1))
    found = np.zeros(side * side)
    for i in range(side * side):
        members = missing[order[edges[i] : edges[i + 1]]]
        if len(members) >= 3:
            found[i] = np.median(members)
    return ndimage.gaussian_filter(found.reshape(side, side), 0.7)


def fit_star(frame: Frame, i: int, shape: EmpiricalPSF, box_px: float) -> tuple[float, float]:
    """Fit a star and all others around it at once, together with the sky; returns its flux and standard error.

    Positions are kept, so that the fit is linear. Neighbours that are not resolved count to the star. Pixels that no
    star explains (cosmic rays) are left out.

    Parameters
    ----------
    frame : Frame
        Pixels and all stars.
    i : int
        Number of the star.
    shape : EmpiricalPSF
        Image of a star.
    box_px : float
        Half the side of the square that is fitted [pixel].
    """
    fit = _fitted(frame, i, shape, box_px)
    return (np.nan, np.nan) if fit is None else (float(fit.solution[0]), fit.error)


@dataclass(frozen=True, eq=False)
class _Fit:
    """Fit of a box: distances of its pixels from the stars, what was fitted to which light, and with what result."""

    dy: Floats
    dx: Floats
    design: Floats
    light: Floats
    solution: Floats
    error: float
    kept: NDArray[np.bool_]


def _fitted(frame: Frame, i: int, shape: EmpiricalPSF, box_px: float) -> _Fit | None:
    """Fit all stars of a box, the one that is asked for first; None if it is not seen."""
    reach = box_px + shape.reach
    dy, dx = frame.y - frame.y[i], frame.x - frame.x[i]
    apart = np.hypot(dy, dx) > UNRESOLVED_FWHM * shape.fwhm_px
    order = np.concatenate([[i], np.flatnonzero((np.abs(dy) < reach) & (np.abs(dx) < reach) & apart)])
    y, x = frame.y[order], frame.x[order]
    if not np.isfinite(y[0] + x[0]):
        return None
    top, left = max(int(y[0] - box_px), 0), max(int(x[0] - box_px), 0)
    bottom, right = int(y[0] + box_px) + 2, int(x[0] + box_px) + 2
    cut = frame.image[top:bottom, left:right]
    if not cut.size:
        return None
    rows, columns = np.mgrid[top : top + cut.shape[0], left : left + cut.shape[1]]
    good = np.isfinite(cut) & (cut < frame.saturation)
    dy, dx = rows[good][:, np.newaxis] - y, columns[good][:, np.newaxis] - x
    profiles = shape.at(dy, dx)
    seen = profiles.sum(axis=0) > LEAST_LIGHT
    if not seen[:1].any():
        return None
    plane = np.stack([np.ones(len(dy)), dy[:, 0] / box_px, dx[:, 0] / box_px], axis=1)
    design, light = np.hstack([profiles[:, seen], plane]), cut[good].astype(float)
    variance = np.maximum(frame.variance[top:bottom, left:right][good], 1e-9)
    return _Fit(dy, dx, design, light, *_least_squares(design, light, variance))


def _least_squares(design: Floats, light: Floats, variance: NDArray) -> tuple[Floats, float, NDArray[np.bool_]]:
    """Solve again and again without the pixels that stand out; solution, error of the first unknown, what was kept."""
    weight = 1 / np.sqrt(variance)
    kept = np.ones(len(light), bool)
    for _ in range(ROUNDS):
        scaled = design[kept] * weight[kept, np.newaxis]
        covariance = np.linalg.pinv(scaled.T @ scaled, rcond=1e-10, hermitian=True)
        solution = covariance @ (scaled.T @ (light[kept] * weight[kept]))
        model = design @ solution
        # a profile is known to some per cent only, so bright stars may differ by that
        tolerance = CLIP_SIGMA * np.sqrt(variance + (0.03 * (model - np.median(model))) ** 2)
        fine = light - model <= tolerance
        if np.array_equal(fine, kept) or fine.sum() <= design.shape[1]:
            break
        kept = fine
    return solution, float(np.sqrt(covariance[0, 0])), kept

"""Which star of an image is which of a catalogue, also when there are only a few.

Pairs of stars of both lists that are as far apart, within the uncertainty of scale and orientation, propose a plate
solution each; the one that brings most stars together wins, if chance would not bring as many together (compare Lang et
al. 2010, AJ 139, 1782).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special
from scipy.spatial import cKDTree

from obsarchive.science.astrometry.plate_solution import PlateSolution, fit_wcs, project
from obsarchive.science.statistics import MAD_TO_SIGMA

MAX_IMAGE_STARS, MAX_CATALOG_STARS = 30, 80
"""Brightest ones that propose solutions."""
MAX_VOTERS = 400
"""Brightest stars of an image that vote on the shift; twice as many of the catalogue."""
LEAST_MATCHED = 3
FALSE_ALARM = 1e-3
"""Chance of a solution in a field of strangers above which none is claimed."""
ROUNDS, ROBUST_ROUNDS = 6, 10
CLIP_SIGMA = 3.5
FEW_STARS = 12
OUTLIER_FACTOR = 5.0
"""A star without which the residuals of so few become so much smaller is none of them."""
ORDER_NEEDS = {0: 3, 1: 8, 2: 20, 3: 40}
"""Stars that a fit of an order needs."""


@dataclass(frozen=True)
class Uncertainty:
    """How well the first guess is known.

    Parameters
    ----------
    pointing_arcsec : float
        Largest error of the pointing.
    scale : float
        Largest relative error of the plate scale.
    rotation_deg : float
        Largest error of the orientation.
    match_arcsec : float
        How far apart the same star may seem in image and catalogue after the first fit.
    """

    pointing_arcsec: float = 60.0
    scale: float = 0.02
    rotation_deg: float = 3.0
    match_arcsec: float = 0.5


@dataclass(frozen=True, eq=False)
class Match:
    """A plate solution and the stars that it rests on.

    Attributes
    ----------
    solution : PlateSolution
        From pixels to the sky.
    stars, catalog : ndarray (n,)
        Numbers of the matched stars in both lists.
    residuals_arcsec : ndarray (n, 2)
        Image minus catalogue, east and north.
    false_alarm : float
        Chance of as many matches in a field of strangers.
    """

    solution: PlateSolution
    stars: NDArray[np.intp]
    catalog: NDArray[np.intp]
    residuals_arcsec: NDArray[np.float64]
    false_alarm: float

    @property
    def rms_arcsec(self) -> float:
        """Root mean square of the residuals along an axis, corrected for the degrees of freedom [arcsec]."""
        n = len(self.stars)
        freedom = max(2 * n - 4, 1)
        return float(np.sqrt(np.sum(self.residuals_arcsec**2) / freedom))


def match_stars(
    pixels: tuple[NDArray, NDArray],
    catalog: tuple[NDArray, NDArray],
    guess: PlateSolution,
    uncertainty: Uncertainty,
    order: int = 1,
) -> Match | None:
    """Find the plate solution of an image.

    Parameters
    ----------
    pixels : (y, x)
        Positions of stars in the image, brightest first [pixel].
    catalog : (ra, dec)
        Positions of catalogue stars, brightest first [deg].
    guess : PlateSolution
        First guess.
    uncertainty : Uncertainty
        How well it is known.
    order : int
        As in :func:`.wcs.fit_wcs`; a lower one is taken where there are not enough stars for it.

    Returns
    -------
    Match or None
        None if no solution can be claimed.
    """
    y, x = (np.asarray(axis, float) for axis in pixels)
    sky = np.stack(project(*catalog, guess.centre), axis=1)
    if len(y) < LEAST_MATCHED or np.isfinite(sky).all(axis=1).sum() < LEAST_MATCHED:
        return None
    sky = np.where(np.isfinite(sky), sky, 1e9)
    stars = np.stack(guess.to_standard_coordinates(y, x), axis=1)
    best = _best_proposal(stars[:MAX_IMAGE_STARS], sky[:MAX_CATALOG_STARS], uncertainty)
    if best is None:
        return None
    turned, trials = best
    return _refined((y, x), sky, guess, (turned(stars), trials), (uncertainty, order))


def refine_plate(
    pixels: tuple[NDArray, NDArray],
    catalog: tuple[NDArray, NDArray],
    guess: PlateSolution,
    uncertainty: Uncertainty,
    order: int = 1,
) -> Match | None:
    """Improve a plate solution that is known but for a shift, a small turn and its distortion.

    The shift on which most pairs of bright stars agree is taken; where it leads to nothing, :func:`match_stars` is
    asked. Parameters and returned value are those of :func:`match_stars`.
    """
    y, x = (np.asarray(axis, float) for axis in pixels)
    sky = np.stack(project(*catalog, guess.centre), axis=1)
    sky = np.where(np.isfinite(sky), sky, 1e9)
    if len(y) >= LEAST_MATCHED and len(sky) >= LEAST_MATCHED:
        stars = np.stack(guess.to_standard_coordinates(y, x), axis=1)
        shift, cells = _favourite_shift(stars[:MAX_VOTERS], sky[: 2 * MAX_VOTERS], uncertainty)
        found = _refined((y, x), sky, guess, (stars + shift, cells), (uncertainty, order))
        if found is not None:
            return found
    return match_stars(pixels, catalog, guess, uncertainty, order)


def _favourite_shift(stars: NDArray, sky: NDArray, uncertainty: Uncertainty) -> tuple[NDArray, int]:
    """Shift that brings most stars onto the catalogue [arcsec], and among how many it was chosen."""
    reach, cell = uncertainty.pointing_arcsec, uncertainty.match_arcsec
    apart = (sky[np.newaxis] - stars[:, np.newaxis]).reshape(-1, 2)
    apart = apart[(np.abs(apart) < reach).all(axis=1)]
    side = max(int(2 * reach / cell), 1)
    place = np.minimum(((apart + reach) / (2 * reach) * side).astype(np.intp), side - 1)
    votes = np.bincount(place[:, 0] * side + place[:, 1], minlength=side * side).reshape(side, side)
    votes = ndimage.uniform_filter(votes.astype(float), 2, mode="constant")  # a peak may lie between cells
    peak = np.array(np.unravel_index(int(np.argmax(votes)), votes.shape))
    coarse = peak * (2 * reach / side) - reach
    near = apart[np.hypot(*(apart - coarse).T) < 1.5 * cell]
    return (np.median(near, axis=0) if len(near) else coarse), side * side


def _best_proposal(stars: NDArray, sky: NDArray, uncertainty: Uncertainty):  # type: ignore[no-untyped-def]
    """Similarity in the tangent plane that brings most stars together, and how many were tried; None without any."""
    tree = cKDTree(sky)
    best, least, trials = None, (LEAST_MATCHED - 1, 0.0), 0
    for factor, shift in _proposals(stars, sky, uncertainty):
        trials += 1
        moved = factor * (stars[:, 0] + 1j * stars[:, 1]) + shift
        distance, _ = tree.query(
            np.stack([moved.real, moved.imag], axis=1), distance_upper_bound=uncertainty.match_arcsec
        )
        inside = np.isfinite(distance)
        score = (int(inside.sum()), -float(distance[inside].sum()))
        if score > least:
            best, least = (factor, shift), score
    if best is None:
        return None
    factor, shift = best

    def turned(points: NDArray) -> NDArray:
        moved = factor * (points[:, 0] + 1j * points[:, 1]) + shift
        return np.stack([moved.real, moved.imag], axis=1)

    return turned, trials


def _proposals(stars: NDArray, sky: NDArray, uncertainty: Uncertainty):  # type: ignore[no-untyped-def]
    """Yield similarities (complex factor and shift) that bring a pair of stars onto a pair of the catalogue."""
    image, field = stars[:, 0] + 1j * stars[:, 1], sky[:, 0] + 1j * sky[:, 1]
    first, second = np.triu_indices(len(field), 1)
    between = field[second] - field[first]
    for i in range(len(image)):
        for j in range(i + 1, len(image)):
            step = image[j] - image[i]
            if abs(step) < 4 * uncertainty.match_arcsec:
                continue
            for a, gap in ((first, between), (second, -between)):
                ratio = gap / step
                fits = (np.abs(np.abs(ratio) - 1) < uncertainty.scale + uncertainty.match_arcsec / abs(step)) & (
                    np.abs(np.degrees(np.angle(ratio))) < uncertainty.rotation_deg
                )
                for k in np.flatnonzero(fits).tolist():
                    shift = field[a[k]] - ratio[k] * image[i]
                    if abs(shift) < uncertainty.pointing_arcsec:
                        yield ratio[k], shift


def _refined(
    pixels: tuple[NDArray, NDArray],
    sky: NDArray,
    guess: PlateSolution,
    proposal: tuple[NDArray, int],
    limits: tuple[Uncertainty, int],
) -> Match | None:
    """Fit all stars that come together, again and again, with a closer and closer eye."""
    (uncertainty, order), (moved, trials) = limits, proposal
    reach = uncertainty.match_arcsec
    tree = cKDTree(sky)
    solution, chosen = guess, (np.empty(0, np.intp), np.empty(0, np.intp))
    for _ in range(ROUNDS):
        mine, theirs = _consistent(pixels, sky, _mutual(moved, sky, tree, reach), (guess, order))
        if len(mine) < LEAST_MATCHED:
            return None
        solution = _fitted(pixels, sky, (mine, theirs), (guess, order))
        moved = _about(solution, pixels, guess)
        chosen = mine, theirs
        distance = np.hypot(*(moved[mine] - sky[theirs]).T)
        spread = MAD_TO_SIGMA * float(np.median(distance))
        reach = float(np.clip(CLIP_SIGMA * spread, 0.1 * uncertainty.match_arcsec, uncertainty.match_arcsec))
    mine, theirs = chosen
    solution = _robust(pixels, sky, chosen, (guess, order), solution)
    moved = _about(solution, pixels, guess)
    widest = 2 * float(np.hypot(*(moved[mine] - sky[theirs]).T).max())
    tolerance = float(np.clip(widest, 0.1 * uncertainty.match_arcsec, uncertainty.match_arcsec))
    alarm = _false_alarm(moved, sky, len(mine), (trials, tolerance))
    if alarm > FALSE_ALARM:
        return None
    return Match(solution, mine, theirs, moved[mine] - sky[theirs], alarm)


def _fitted(
    pixels: tuple[NDArray, NDArray], sky: NDArray, pairs: tuple[NDArray, NDArray], fit: tuple[PlateSolution, int]
) -> PlateSolution:
    """Plate solution through pairs, of the order wanted or of what they suffice for."""
    (mine, theirs), (guess, order) = pairs, fit
    level = max(level for level, needed in ORDER_NEEDS.items() if level <= max(order, 0) and len(mine) >= needed)
    return fit_wcs((pixels[0][mine], pixels[1][mine]), (sky[theirs, 0], sky[theirs, 1]), guess, level)


def _robust(
    pixels: tuple[NDArray, NDArray],
    sky: NDArray,
    pairs: tuple[NDArray, NDArray],
    fit: tuple[PlateSolution, int],
    solution: PlateSolution,
) -> PlateSolution:
    """Fit again with little weight for stars that neighbours push aside (biweight of Cauchy's kind), if many remain."""
    (mine, theirs), (guess, order) = pairs, fit
    level = max(
        level for level, needed in ORDER_NEEDS.items() if (level <= order and len(mine) >= 2 * needed) or not level
    )
    if level == 0:
        return solution
    stars = pixels[0][mine], pixels[1][mine]
    for _ in range(ROBUST_ROUNDS):
        residual = np.hypot(*(_about(solution, stars, guess) - sky[theirs]).T)
        usual = max(MAD_TO_SIGMA * float(np.median(residual)), 1e-9)
        weights = (1 + (residual / usual) ** 2) ** -2.0
        solution = fit_wcs(stars, (sky[theirs, 0], sky[theirs, 1]), guess, level, weights)
    return solution


def _consistent(
    pixels: tuple[NDArray, NDArray], sky: NDArray, pairs: tuple[NDArray, NDArray], fit: tuple[PlateSolution, int]
) -> tuple[NDArray, NDArray]:
    """Pairs without a wrong one among few: it bends the fit so far that its own residual does not stand out."""

    def rms(mine: NDArray, theirs: NDArray) -> float:
        moved = _about(_fitted(pixels, sky, (mine, theirs), fit), pixels, fit[0])[mine]
        return float(np.sqrt(np.mean((moved - sky[theirs]) ** 2)))

    mine, theirs = pairs
    while LEAST_MATCHED + 1 < len(mine) <= FEW_STARS:
        without = [rms(np.delete(mine, i), np.delete(theirs, i)) for i in range(len(mine))]
        worst = int(np.argmin(without))
        if without[worst] * OUTLIER_FACTOR >= rms(mine, theirs):
            break
        mine, theirs = np.delete(mine, worst), np.delete(theirs, worst)
    return mine, theirs


def _about(solution: PlateSolution, pixels: tuple[NDArray, NDArray], guess: PlateSolution) -> NDArray:
    """Standard coordinates of pixels about the centre of the first guess (n, 2)."""
    return np.stack(project(*solution.sky(*pixels), guess.centre), axis=1)


def _mutual(moved: NDArray, sky: NDArray, tree: cKDTree, reach: float) -> tuple[NDArray, NDArray]:
    """Numbers of pairs that are each other's nearest within a reach."""
    distance, nearest = tree.query(moved, distance_upper_bound=reach)
    _, back = cKDTree(moved).query(sky)
    mine = np.flatnonzero(np.isfinite(distance))
    mine = mine[back[nearest[mine]] == mine]
    return mine, nearest[mine]


def _false_alarm(moved: NDArray, sky: NDArray, matched: int, trials: tuple[int, float]) -> float:
    """Chance that any of the proposals brings so many strangers together: two of them it does by construction."""
    proposals, reach = trials
    low, high = moved.min(axis=0) - reach, moved.max(axis=0) + reach
    inside = np.all((sky >= low) & (sky <= high), axis=1).sum()
    chance = min(float(inside * np.pi * reach**2 / max(np.prod(high - low), 1e-12)), 1.0)
    return float(min(1.0, max(proposals, 1) * special.bdtrc(matched - 3, max(len(moved) - 2, 1), chance)))

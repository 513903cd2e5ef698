"""Star matching between an image and a catalogue, also of few stars, and the plate solution from it.

Pairs of stars of both lists of the same separation, within the uncertainty of scale and orientation, each propose a
plate solution; the one that matches most stars is accepted, if chance would not match as many (compare Lang et
al. 2010, AJ 139, 1782).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, special
from scipy.spatial import cKDTree

from obsarchive.science.arrays import Float64Array, FloatArray, IndexArray
from obsarchive.science.astrometry.plate_solution import (
    PlateErrors,
    PlateSolution,
    fit_wcs,
    plate_errors,
    project,
)
from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_all

MAX_IMAGE_STARS, MAX_CATALOG_STARS = 30, 80
"""Numbers of the brightest stars whose pairs propose solutions."""
MAX_VOTERS = 400
"""Number of the brightest stars of an image that vote on the shift; twice as many of the catalogue."""
LEAST_MATCHED = 3
FALSE_ALARM = 1e-3
"""Largest probability of a chance match of an accepted solution."""
ROUNDS, ROBUST_ROUNDS = 6, 10
CLIP_SIGMA = 3.5
FEW_STARS = 12
OUTLIER_FACTOR = 5.0
"""Factor in the residuals of few stars from which on the star that causes it is a mismatch."""
ORDER_NEEDS = {0: 3, 1: 8, 2: 20, 3: 40}
"""Number of stars needed for a fit of each order."""


@dataclass(frozen=True)
class Uncertainty:
    """Uncertainty of the first guess of a plate solution.

    Parameters
    ----------
    pointing_arcsec : float
        Largest error of the pointing [arcsec].
    scale : float
        Largest relative error of the plate scale.
    rotation_deg : float
        Largest error of the orientation [deg].
    match_arcsec : float
        Largest separation of a star in image and catalogue after the first fit [arcsec].
    """

    pointing_arcsec: float = 60.0
    scale: float = 0.02
    rotation_deg: float = 3.0
    match_arcsec: float = 0.5


@dataclass(frozen=True, eq=False)
class Match:
    """A plate solution and its matched stars.

    Attributes
    ----------
    solution : PlateSolution
        From pixels to the sky.
    stars, catalog : ndarray (n,) of int
        Numbers of the matched stars in both lists.
    residuals_arcsec : ndarray (n, 2)
        Image minus catalogue, east and north [arcsec].
    false_alarm : float
        Probability of as many matches by chance.
    errors : PlateErrors or None
        Standard errors of the solution.
    """

    solution: PlateSolution
    stars: IndexArray
    catalog: IndexArray
    residuals_arcsec: Float64Array
    false_alarm: float
    errors: PlateErrors | None = None

    @property
    def rms_arcsec(self) -> float:
        """Root mean square of the residuals along an axis, corrected for the degrees of freedom [arcsec]."""
        n = len(self.stars)
        freedom = max(2 * n - 4, 1)
        return float(np.sqrt(np.sum(self.residuals_arcsec**2) / freedom))


def match_stars(
    pixels: tuple[FloatArray, FloatArray],
    catalog: tuple[FloatArray, FloatArray],
    guess: PlateSolution,
    uncertainty: Uncertainty,
    order: int = 1,
) -> Match | None:
    """Compute the plate solution of an image by matching pairs of stars.

    Parameters
    ----------
    pixels : (ndarray (n,), ndarray (n,))
        Positions (y, x) of stars in the image, brightest first [pixel].
    catalog : (ndarray (m,), ndarray (m,))
        Positions (ra, dec) of catalogue stars, brightest first [deg].
    guess : PlateSolution
        First guess.
    uncertainty : Uncertainty
        Uncertainty of the first guess.
    order : int
        As in :func:`.wcs.fit_wcs`; a lower one is used where there are not enough stars for it.

    Returns
    -------
    Match or None
        None if no solution is significant.
    """
    y, x = (np.asarray(axis, float) for axis in pixels)
    sky = np.stack(project(*catalog, guess.centre), axis=1)
    if len(y) < LEAST_MATCHED or np.isfinite(sky).all(axis=1).sum() < LEAST_MATCHED:
        return None
    # stars on the other half of the sky are put far away: trees of neighbours cannot hold NaN
    sky = np.where(np.isfinite(sky), sky, 1e9)
    stars = np.stack(guess.to_standard_coordinates(y, x), axis=1)
    best = _best_proposal(stars[:MAX_IMAGE_STARS], sky[:MAX_CATALOG_STARS], uncertainty)
    if best is None:
        return None
    turned, trials = best
    return _refined((y, x), sky, guess, (turned(stars), trials), (uncertainty, order))


def refine_plate(
    pixels: tuple[FloatArray, FloatArray],
    catalog: tuple[FloatArray, FloatArray],
    guess: PlateSolution,
    uncertainty: Uncertainty,
    order: int = 1,
) -> Match | None:
    """Improve a plate solution that is correct but for a shift, a small rotation and its distortion.

    The shift on which most pairs of bright stars agree is tried first, then :func:`match_stars`.

    Parameters
    ----------
    pixels : (ndarray (n,), ndarray (n,))
        Positions (y, x) of stars in the image, brightest first [pixel].
    catalog : (ndarray (m,), ndarray (m,))
        Positions (ra, dec) of catalogue stars, brightest first [deg].
    guess : PlateSolution
        First guess.
    uncertainty : Uncertainty
        Uncertainty of the first guess.
    order : int
        As in :func:`.wcs.fit_wcs`; a lower one is used where there are not enough stars for it.

    Returns
    -------
    Match or None
        None if no solution is significant.
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


def _favourite_shift(stars: FloatArray, sky: FloatArray, uncertainty: Uncertainty) -> tuple[FloatArray, int]:
    """Return the shift that matches most stars with the catalogue [arcsec], and the number of shifts tried."""
    reach, cell = uncertainty.pointing_arcsec, uncertainty.match_arcsec
    apart = (sky[np.newaxis] - stars[:, np.newaxis]).reshape(-1, 2)
    apart = apart[(np.abs(apart) < reach).all(axis=1)]
    side = max(int(2 * reach / cell), 1)
    place = np.minimum(((apart + reach) / (2 * reach) * side).astype(np.intp), side - 1)
    votes = np.bincount(place[:, 0] * side + place[:, 1], minlength=side * side).reshape(side, side)
    votes = ndimage.uniform_filter(votes.astype(float), 2, mode="constant")  # a peak may lie between cells
    peak = np.array(np.unravel_index(int(np.argmax(votes)), votes.shape))
    coarse = peak * (2 * reach / side) - reach
    # the median of the votes around the peak is finer than a cell
    near = apart[np.hypot(*(apart - coarse).T) < 1.5 * cell]
    shift: FloatArray = np.median(near, axis=0) if len(near) else coarse
    return shift, side * side


def _best_proposal(
    stars: FloatArray, sky: FloatArray, uncertainty: Uncertainty
) -> tuple[Callable[[FloatArray], FloatArray], int] | None:
    """Return the similarity of the tangent plane that matches most stars, and the number tried; None without any."""
    tree = cKDTree(sky)
    best, least, trials = None, (LEAST_MATCHED - 1, 0.0), 0
    for factor, shift in _proposals(stars, sky, uncertainty):
        trials += 1
        moved = factor * (stars[:, 0] + 1j * stars[:, 1]) + shift
        distance, _ = tree.query(
            np.stack([moved.real, moved.imag], axis=1), distance_upper_bound=uncertainty.match_arcsec
        )
        inside = np.isfinite(distance)
        # of solutions with as many matches the closest one
        score = (int(inside.sum()), -float(distance[inside].sum()))
        if score > least:
            best, least = (factor, shift), score
    if best is None:
        return None
    factor, shift = best

    def turned(points: FloatArray) -> FloatArray:
        moved = factor * (points[:, 0] + 1j * points[:, 1]) + shift
        return np.stack([moved.real, moved.imag], axis=1)

    return turned, trials


def _proposals(stars: FloatArray, sky: FloatArray, uncertainty: Uncertainty) -> Iterator[tuple[complex, complex]]:
    """Yield similarities (complex factor and shift) that map a pair of stars onto a pair of the catalogue."""
    # complex coordinates: rotation and scale are one factor
    image, field = stars[:, 0] + 1j * stars[:, 1], sky[:, 0] + 1j * sky[:, 1]
    first, second = np.triu_indices(len(field), 1)
    between = field[second] - field[first]
    for i in range(len(image)):
        for j in range(i + 1, len(image)):
            step = image[j] - image[i]
            # close pairs fix neither scale nor orientation
            if abs(step) < 4 * uncertainty.match_arcsec:
                continue
            # both directions: which star of the pair is which is not known
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
    pixels: tuple[FloatArray, FloatArray],
    sky: FloatArray,
    guess: PlateSolution,
    proposal: tuple[FloatArray, int],
    limits: tuple[Uncertainty, int],
) -> Match | None:
    """Fit all matching stars iteratively, with an ever smaller matching radius; None if the match is by chance."""
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
        spread = MAD_TO_SIGMA * median_of_all(distance)
        reach = float(np.clip(CLIP_SIGMA * spread, 0.1 * uncertainty.match_arcsec, uncertainty.match_arcsec))
    mine, theirs = chosen
    solution, level, weights = _robust(pixels, sky, chosen, (guess, order), solution)
    moved = _about(solution, pixels, guess)
    # the chance of a match is that within a radius as wide as the residuals of the accepted stars
    widest = 2 * float(np.hypot(*(moved[mine] - sky[theirs]).T).max())
    tolerance = float(np.clip(widest, 0.1 * uncertainty.match_arcsec, uncertainty.match_arcsec))
    alarm = _false_alarm(moved, sky, len(mine), (trials, tolerance))
    if alarm > FALSE_ALARM:
        return None
    residuals = moved[mine] - sky[theirs]
    # of the weights (1 + r^2)^-2 of _robust, times r
    slopes = None if weights is None else weights**1.5 * (2 - weights**-0.5)
    errors = plate_errors((pixels[0][mine], pixels[1][mine]), residuals, solution, level, weights, slopes)
    return Match(solution, mine, theirs, residuals, alarm, errors)


def _fitted(
    pixels: tuple[FloatArray, FloatArray],
    sky: FloatArray,
    pairs: tuple[IndexArray, IndexArray],
    fit: tuple[PlateSolution, int],
) -> PlateSolution:
    """Return the plate solution of pairs, of the order wanted or the highest that they suffice for."""
    (mine, theirs), (guess, order) = pairs, fit
    level = _affordable(order, len(mine))
    return fit_wcs((pixels[0][mine], pixels[1][mine]), (sky[theirs, 0], sky[theirs, 1]), guess, level)


def _affordable(order: int, n: int) -> int:
    """Return the order wanted, or the highest for which there are enough stars."""
    return max(level for level, needed in ORDER_NEEDS.items() if level <= max(order, 0) and n >= needed)


def _robust(
    pixels: tuple[FloatArray, FloatArray],
    sky: FloatArray,
    pairs: tuple[IndexArray, IndexArray],
    fit: tuple[PlateSolution, int],
    solution: PlateSolution,
) -> tuple[PlateSolution, int, Float64Array | None]:
    """Fit again with squared Cauchy weights, if there are many stars: neighbours displace some of them.

    Also returned are the order and the weights of the fit.
    """
    (mine, theirs), (guess, order) = pairs, fit
    level = max(
        level for level, needed in ORDER_NEEDS.items() if (level <= order and len(mine) >= 2 * needed) or not level
    )
    if level == 0:
        return solution, _affordable(order, len(mine)), None
    stars = pixels[0][mine], pixels[1][mine]
    for _ in range(ROBUST_ROUNDS):
        residual = np.hypot(*(_about(solution, stars, guess) - sky[theirs]).T)
        usual = max(MAD_TO_SIGMA * median_of_all(residual), 1e-9)
        weights = (1 + (residual / usual) ** 2) ** -2.0
        solution = fit_wcs(stars, (sky[theirs, 0], sky[theirs, 1]), guess, level, weights)
    return solution, level, weights


def _consistent(
    pixels: tuple[FloatArray, FloatArray],
    sky: FloatArray,
    pairs: tuple[IndexArray, IndexArray],
    fit: tuple[PlateSolution, int],
) -> tuple[IndexArray, IndexArray]:
    """Return the pairs without a mismatch among few, which bends the fit so that its residual does not stand out.

    Of five stars, four may agree by chance so much better that their errors would be far too small.
    """

    def squares(mine: IndexArray, theirs: IndexArray) -> float:
        moved = _about(_fitted(pixels, sky, (mine, theirs), fit), pixels, fit[0])[mine]
        return float(np.sum((moved - sky[theirs]) ** 2))

    mine, theirs = pairs
    while LEAST_MATCHED + 1 < len(mine) <= FEW_STARS:
        n, together = len(mine), squares(mine, theirs)
        # leave-one-out: refits are affordable, as this is for few stars only
        without = [squares(np.delete(mine, i), np.delete(theirs, i)) for i in range(n)]
        worst = int(np.argmin(without))
        left = without[worst] / together if together > 0 else 1.0
        factor = np.sqrt(n / (n - 1) * left)
        if factor * OUTLIER_FACTOR >= 1 or n * _chance_of_agreement(left, n - 1, fit[1]) > FALSE_ALARM:
            break
        mine, theirs = np.delete(mine, worst), np.delete(theirs, worst)
    return mine, theirs


def _chance_of_agreement(left: float, n: int, order: int) -> float:
    """Return the probability that a given star's removal leaves so small a share of the squares of the residuals.

    What n other stars leave has 2 n less the unknowns degrees of freedom, what one star adds has two: the share is
    a beta deviate (Cook & Weisberg 1982, Residuals and Influence in Regression, section 2.2).
    """
    level = _affordable(order, n)
    freedom = 2 * n - max(4, (level + 1) * (level + 2))
    return float(left ** (freedom / 2))


def _about(solution: PlateSolution, pixels: tuple[FloatArray, FloatArray], guess: PlateSolution) -> FloatArray:
    """Return the standard coordinates (n, 2) of pixels about the centre of the first guess [arcsec]."""
    return np.stack(project(*solution.sky(*pixels), guess.centre), axis=1)


def _mutual(moved: FloatArray, sky: FloatArray, tree: cKDTree, reach: float) -> tuple[IndexArray, IndexArray]:
    """Return the numbers of pairs that are mutual nearest neighbours within a radius."""
    distance, nearest = tree.query(moved, distance_upper_bound=reach)
    _, back = cKDTree(moved).query(sky)
    mine = np.flatnonzero(np.isfinite(distance))
    mine = mine[back[nearest[mine]] == mine]
    return mine, nearest[mine]


def _false_alarm(moved: FloatArray, sky: FloatArray, matched: int, trials: tuple[int, float]) -> float:
    """Return the probability that any proposal matches as many stars by chance; two of them match by construction."""
    proposals, reach = trials
    low, high = moved.min(axis=0) - reach, moved.max(axis=0) + reach
    inside = np.all((sky >= low) & (sky <= high), axis=1).sum()
    # probability that a random position of the field has a catalogue star within the radius
    chance = min(float(inside * np.pi * reach**2 / max(np.prod(high - low), 1e-12)), 1.0)
    return float(min(1.0, max(proposals, 1) * special.bdtrc(matched - 3, max(len(moved) - 2, 1), chance)))

"""Frames matched by the patterns of their stars: how one is shifted, turned or mirrored with respect to another.

A shift is looked for first, by the differences of all pairs of stars. Where the other stars contradict it, triangles of
bright stars with sides as long in both frames propose similarities (after Groth 1986, AJ 91, 1244); the one that
matches most stars is accepted if chance would not match as many.
"""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import special
from scipy.spatial import cKDTree

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray, IndexArray
from obsarchive.science.imaging.resampling import MIRROR, Turn, without_sharp_pixels
from obsarchive.science.photometry.source_detection import GAUSS_FWHM, Sources, detect
from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_all

DETECTION_SNR = 15.0
"""In the median of 3 x 3 pixels, whose noise is correlated: about 8 in the frame."""
BINNED_FROM_PX = 512
"""Side from which on frames are binned for the detection."""
MOST_STARS, VOTERS, PATTERN_STARS = 200, 60, 30
"""Stars of a list; the brightest, whose pairs propose shifts; those that form triangles."""
MOST_PROPOSALS, MOST_TRIED = 1500, 10
"""Pairs of triangles that vote, and turns with most votes that are tried on all stars."""
VOTE_PX = 6.0
"""Distance of the corners of a frame within which turns vote for each other."""
REACH_PX = 2.0
"""Largest distance of the same star in both frames."""
SIDE_PX, SCALE_SHARE = 1.5, 0.04
"""Tolerance of the side of a triangle, and of the scale of a frame."""
SHORTEST_SIDE_PX = 12.0
AGREEMENT = 0.25
"""Share of the stars that both frames should show which must agree; of two stars both."""
CLEAR_AGREEMENT = 0.6
"""Share from which on no turn is looked for."""
FLUX_FACTOR = 2.5
"""Factor of the usual ratio of fluxes beyond which two stars are not the same."""
FALSE_ALARM = 1e-2
"""Largest probability of a match by chance."""
LEAST_SNR = 15.0
"""Of the flux of a star that is relied on."""
EDGE_PX = 8
"""Sources this close to the edge of a frame are not relied on."""
SEPARATE_PX = 8.0
"""Closer sources, the fainter ones, are parts of a brighter one."""
HALO, HALO_SHARE = 10.0, 0.03
"""Reach of the halo of a star in units of its FWHM, and share of its flux below which a source there is part of it."""
AT_ODDS = 0.4
"""Share of the stars that should agree up to which they contradict; one star that agrees does not save it."""
LEAST_TURN_PX, TURN_SIGNIFICANCE = 0.3, 5.0
"""Displacement of the corners of a frame from which on it counts as turned, and how certain the turn must be."""
LEAST_ERROR_PX = 0.05
"""Of the position of a star."""
LEAST_FOR_TURN, LEAST_TURN_BY_FEW_PX = 6, 3.0
"""Stars without which a small turn is not believed, and the displacement from which on it is."""
LEAST_FOR_SCALE = 8
"""Stars without which a change of scale is not believed."""
ROUNDS = 6


@dataclass(frozen=True, eq=False)
class StarList:
    """Stars of a frame, brightest first.

    Attributes
    ----------
    positions : ndarray (n, 2)
        (y, x) [pixel].
    flux : ndarray (n,)
        Flux [counts].
    fwhm_px : ndarray (n,)
        FWHM, of the frame without sharp pixels [pixel].
    noise : float
        Of a pixel of the frame [counts].
    shape : (ny, nx)
        Of the frame.
    """

    positions: Float64Array
    flux: Float64Array
    fwhm_px: Float64Array
    noise: float
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.flux)

    @property
    def usual_fwhm_px(self) -> float:
        """Median FWHM of the brighter half of the stars [pixel]; NaN without any."""
        return median_of_all(self.fwhm_px[: (len(self) + 1) // 2]) if len(self) else float("nan")

    def chosen(self, which: IndexArray) -> "StarList":
        """Return some of the stars, by their numbers."""
        return StarList(self.positions[which], self.flux[which], self.fwhm_px[which], self.noise, self.shape)

    def flux_at(self, snr: float) -> float:
        """Return the flux of a star of that signal-to-noise ratio in front of the background alone [counts]."""
        # a Gaussian of sigma s measured with its own profile collects the noise of 4 pi s^2 pixels
        return float(snr * self.noise * np.sqrt(4 * np.pi) * self.usual_fwhm_px / GAUSS_FWHM)


@dataclass(frozen=True, eq=False)
class Agreement:
    """How the stars of a frame lie on those of a reference.

    Attributes
    ----------
    turn : Turn
        From the frame to the reference.
    stars, reference : ndarray (m,) of int
        Numbers of the stars that agree, in both lists.
    n_expected : int
        Stars that should: the smaller number of those in the part of the sky that both frames show.
    is_certain : bool
        Whether they are more than by chance, and enough.
    light : float
        Flux of a star in the frame over that in the reference.
    error_px : float
        Of the shift along an axis [pixel].
    """

    turn: Turn
    stars: IndexArray
    reference: IndexArray
    n_expected: int
    is_certain: bool
    light: float = 1.0
    error_px: float = float("nan")

    @property
    def is_contradiction(self) -> bool:
        """Whether most of the stars that should agree do not."""
        most = max(1.0, AT_ODDS * self.n_expected)
        return not self.is_certain and self.n_expected >= 2 and len(self.stars) <= most

    @property
    def share(self) -> float:
        """Share of the expected stars that agree."""
        return len(self.stars) / max(self.n_expected, 1)

    def __str__(self) -> str:
        """Return the number of stars that agree, in words."""
        return f"{len(self.stars)} of {self.n_expected} stars agree"


def star_list(frame: FloatArray, most: int = MOST_STARS) -> StarList:
    """Detect the stars of a frame; hot pixels and thin tracks of cosmic rays are none.

    Parameters
    ----------
    frame : ndarray (ny, nx)
        Calibrated counts.
    most : int
        Largest number of stars, the brightest ones.

    Returns
    -------
    StarList
        None in a frame that is constant, empty or covered with sources.
    """
    clean = without_sharp_pixels(frame)
    binning = 2 if min(frame.shape) >= BINNED_FROM_PX else 1
    ny, nx = (side // binning for side in frame.shape)
    binned = clean[: ny * binning, : nx * binning].reshape(ny, binning, nx, binning).mean(axis=(1, 3))
    try:
        found = detect(binned, 4.0 / binning, DETECTION_SNR, 2 * most)
    except Unprocessable:
        found = Sources(*(np.empty(0) for _ in range(5)))
    positions = np.stack([found.y, found.x], axis=1) * binning + (binning - 1) / 2
    shape = (frame.shape[0], frame.shape[1])
    stars = StarList(positions, found.flux * binning**2, found.fwhm_px * binning, _pixel_noise(frame), shape)
    inner = ((positions >= EDGE_PX) & (positions <= np.array(shape) - 1 - EDGE_PX)).all(axis=1)
    # SEP gives no size for some sources that are mostly masked
    stars = stars.chosen(np.flatnonzero(inner & np.isfinite(stars.flux) & np.isfinite(stars.fwhm_px)))
    stars = stars.chosen(_separate(stars))
    return stars.chosen(np.flatnonzero(stars.flux >= stars.flux_at(LEAST_SNR))[:most])


def _pixel_noise(frame: FloatArray) -> float:
    """Return the noise of a pixel from the differences of neighbours, which a gradient of the sky does not enter."""
    rows = np.where(np.isfinite(frame[::4]), frame[::4], np.nan)
    differences = np.diff(rows, axis=1)[:, ::2]
    known = np.abs(differences[np.isfinite(differences)])
    return MAD_TO_SIGMA * median_of_all(known) / np.sqrt(2) if known.size else 0.0


def _separate(stars: StarList) -> IndexArray:
    """Return the numbers of sources that are no part of a brighter one: of its wings, spikes or halo."""
    kept = np.ones(len(stars), bool)
    if not len(stars):
        return np.flatnonzero(kept)
    tree = cKDTree(stars.positions)
    # an extended source has no halo of ten times its width: stars around a galaxy stay
    reach = np.maximum(HALO * np.minimum(stars.fwhm_px, 2 * np.percentile(stars.fwhm_px, 25)), 2 * stars.fwhm_px)
    for bright, far in enumerate(np.maximum(SEPARATE_PX, reach).tolist()):
        if not kept[bright]:
            continue
        near = np.array(tree.query_ball_point(stars.positions[bright], far), np.intp)
        near = near[near > bright]
        distance = np.hypot(*(stars.positions[near] - stars.positions[bright]).T)
        # sources are in the order of their brightness
        kept[near[(distance < SEPARATE_PX) | (stars.flux[near] < HALO_SHARE * stars.flux[bright])]] = False
    return np.flatnonzero(kept)


def match(stars: StarList, reference: StarList) -> Agreement | None:
    """Find how a frame lies on a reference.

    Parameters
    ----------
    stars : StarList
        Of the frame.
    reference : StarList
        Of the reference.

    Returns
    -------
    Agreement or None
        The best one, certain or not; None if fewer than two stars in either list leave nothing to compare.
    """
    if min(len(stars), len(reference)) < 2:
        return None
    best = _best_shift(stars, reference)
    if not (best.is_certain and best.share >= CLEAR_AGREEMENT):
        other = _best_similarity(stars, reference)
        if other is not None and (len(other.stars), other.is_certain) > (len(best.stars), best.is_certain):
            best = other
    return _refined(best, stars, reference) if best.is_certain else best


def agreement(turn: Turn, stars: StarList, reference: StarList, trials: int = 1, by_construction: int = 1) -> Agreement:
    """Return which stars of a frame lie on which of a reference.

    Parameters
    ----------
    turn : Turn
        From the frame to the reference.
    stars, reference : StarList
        Of both.
    trials : int
        Number of turns that were tried.
    by_construction : int
        Number of stars on which this one was made to agree.

    Returns
    -------
    Agreement
        Of the stars within reach of each other, as bright as usual in both.
    """
    moved, back = turn(stars.positions), turn.inverse(reference.positions)
    here, there = _within(moved, reference.shape), _within(back, stars.shape)
    expected = int(min(here.sum(), there.sum()))
    mine, theirs = _mutual(moved, reference.positions)
    ratios = np.log(np.maximum(stars.flux[mine], 1e-9) / np.maximum(reference.flux[theirs], 1e-9))
    usual = median_of_all(ratios) if len(ratios) else 0.0
    # of two stars the median is the mean: both would pass
    usual = float(ratios[0]) if len(ratios) == 2 else usual
    same = np.abs(ratios - usual) < np.log(FLUX_FACTOR)
    mine, theirs = mine[same], theirs[same]
    area = float(np.prod(reference.shape))
    chance = min(float(len(reference) * np.pi * REACH_PX**2 / area), 1.0)
    alarm = max(trials, 1) * special.bdtrc(len(mine) - by_construction - 1, max(expected - by_construction, 1), chance)
    enough = len(mine) >= (2 if by_construction == 1 and expected <= 3 else 3) and len(mine) >= AGREEMENT * expected
    certain = bool(enough and len(mine) > by_construction and alarm < FALSE_ALARM)
    rest = moved[mine] - reference.positions[theirs]
    error = float(np.sqrt(np.mean(rest**2) / len(mine))) if len(mine) else float("nan")
    return Agreement(turn, mine, theirs, expected, certain, float(np.exp(usual)), error)


def _within(positions: FloatArray, shape: tuple[int, int]) -> BoolArray:
    return np.asarray(((positions >= 0) & (positions <= np.array(shape) - 1)).all(axis=1))


def _mutual(moved: FloatArray, reference: FloatArray) -> tuple[IndexArray, IndexArray]:
    """Return the numbers of pairs that are nearest to each other, within reach."""
    distance, nearest = cKDTree(reference).query(moved, distance_upper_bound=REACH_PX)
    mine = np.flatnonzero(np.isfinite(distance))
    if not len(mine):
        return mine, mine
    _, back = cKDTree(moved).query(reference)
    mine = mine[back[nearest[mine]] == mine]
    return mine, nearest[mine]


def _best_shift(stars: StarList, reference: StarList) -> Agreement:
    """Return the agreement by the shift on which most pairs of stars agree."""
    apart = (reference.positions[:VOTERS] - stars.positions[:VOTERS, np.newaxis]).reshape(-1, 2)
    tree = cKDTree(apart)
    votes = tree.query_ball_point(apart, REACH_PX, return_length=True)
    # the first of equals is that of the brightest star
    around = apart[tree.query_ball_point(apart[int(np.argmax(votes))], REACH_PX)]
    return agreement(Turn.shift(*np.median(around, axis=0)), stars, reference, len(apart))


def _best_similarity(stars: StarList, reference: StarList) -> Agreement | None:
    """Return the agreement by the similarity on which most triangles agree; None if no two are of the same shape."""
    proposals = _proposals(stars.positions[:PATTERN_STARS], reference.positions[:PATTERN_STARS])
    if not len(proposals):
        return None
    # where three corners of the frame go to says it all
    corners = np.array([(0, 0), (0, stars.shape[1]), (stars.shape[0], 0)], float)
    places = np.stack([turn(corners).ravel() for turn in proposals])
    votes = cKDTree(places).query_ball_point(places, VOTE_PX, p=np.inf, return_length=True)
    best = None
    for k in np.argsort(-votes, kind="stable")[:MOST_TRIED].tolist():
        found = agreement(proposals[k], stars, reference, by_construction=3)
        if best is None or len(found.stars) > len(best.stars):
            best = found
    if best is None:
        return None
    # three stars of the same triangle are a match by themselves, if no other triangle was like it
    used = 3 if len(best.stars) > 3 else 2
    return agreement(best.turn, stars, reference, len(proposals), used)


def _proposals(stars: FloatArray, reference: FloatArray) -> list[Turn]:
    """Return the similarities that map triangles of a frame onto triangles of the reference of their shape and size."""
    corners, sides = _triangles(stars)
    other_corners, other_sides = _triangles(reference)
    if not len(corners) or not len(other_corners):
        return []
    shapes, other_shapes = (found[:, 1:] / found[:, :1] for found in (sides, other_sides))
    near = cKDTree(other_shapes).query_ball_point(shapes, SIDE_PX / sides[:, 0], p=np.inf)
    mine = np.repeat(np.arange(len(near)), [len(found) for found in near])
    theirs = np.concatenate([np.asarray(found, np.intp) for found in near])
    as_large = np.abs(np.log(sides[mine, 0] / other_sides[theirs, 0])) < SCALE_SHARE
    mine, theirs = mine[as_large], theirs[as_large]
    every = max(1, len(mine) // MOST_PROPOSALS)
    mine, theirs = mine[::every], theirs[::every]
    if not len(mine):
        return []
    here, there = stars[corners[mine]], reference[other_corners[theirs]]
    (matrices, offsets, rest), mirrored = (_similarities(here, there, is_mirrored) for is_mirrored in (False, True))
    # stars on a line look the same in a mirror
    fits = rest < SIDE_PX
    matrices = np.where(fits[:, np.newaxis, np.newaxis], matrices, mirrored[0])
    offsets = np.where(fits[:, np.newaxis], offsets, mirrored[1])
    rest = np.where(fits, rest, mirrored[2])
    return [Turn(matrices[k], offsets[k]) for k in np.flatnonzero(rest < SIDE_PX).tolist()]


def _triangles(positions: FloatArray) -> tuple[IndexArray, Float64Array]:
    """Return the corners (k, 3) and sides (k, 3) of all triangles, the longest side first, each opposite its corner."""
    numbers = np.array(list(combinations(range(len(positions)), 3)), np.intp).reshape(-1, 3)
    corner = positions[numbers]
    sides = np.stack([np.hypot(*(corner[:, (i + 1) % 3] - corner[:, (i + 2) % 3]).T) for i in range(3)], axis=1)
    order = np.argsort(-sides, axis=1)
    sides = np.take_along_axis(sides, order, axis=1)
    numbers = np.take_along_axis(numbers, order, axis=1)
    # sides that are equally long leave open which corner is which
    clear = (sides[:, 2] > SHORTEST_SIDE_PX) & (np.diff(sides, axis=1) < -2 * SIDE_PX).all(axis=1)
    return numbers[clear], sides[clear]


def similarity(positions: FloatArray, targets: FloatArray, is_mirrored: bool = False) -> Turn:
    """Fit the similarity that maps positions onto others.

    Parameters
    ----------
    positions, targets : ndarray (n, 2)
        (y, x) of the same points, at least two [pixel].
    is_mirrored : bool
        Whether it is mirrored: points on a line do not tell.

    Returns
    -------
    Turn
        From the positions to the targets.
    """
    matrices, offsets, _ = _similarities(positions[np.newaxis], targets[np.newaxis], is_mirrored)
    return Turn(matrices[0], offsets[0])


def _similarities(
    positions: FloatArray, targets: FloatArray, is_mirrored: bool
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Fit one similarity to each of k sets of points (k, n, 2): matrices, offsets and largest distances."""
    mirror = MIRROR if is_mirrored else np.eye(2)
    start = positions @ mirror.T
    middle, goal = start.mean(axis=1), targets.mean(axis=1)
    # complex numbers y + ix: rotation and scale are one factor
    here = (start - middle[:, np.newaxis]) @ np.array([1, 1j])
    there = (targets - goal[:, np.newaxis]) @ np.array([1, 1j])
    factor = np.sum(np.conj(here) * there, axis=1) / np.maximum(np.sum(np.abs(here) ** 2, axis=1), 1e-12)
    rows = [np.stack([factor.real, -factor.imag], axis=1), np.stack([factor.imag, factor.real], axis=1)]
    matrices = np.stack(rows, axis=1)
    offsets = goal - np.einsum("kij,kj->ki", matrices, middle)
    rest = np.abs(there - factor[:, np.newaxis] * here).max(axis=1)
    return matrices @ mirror, offsets, rest


def _refined(first: Agreement, stars: StarList, reference: StarList) -> Agreement:
    """Return the agreement by the fit of all stars that agree; a shift alone if the turn is not significant."""
    found = first
    for _ in range(ROUNDS):
        before, found = found, agreement(_fitted(found, stars, reference), stars, reference)
        if len(found.stars) < 2:
            return first
        if np.array_equal(before.stars, found.stars) and np.array_equal(before.reference, found.reference):
            break
    return replace(found, is_certain=True) if 2 * len(found.stars) > len(first.stars) else first


def _fitted(found: Agreement, stars: StarList, reference: StarList) -> Turn:
    """Return the simplest turn that maps the stars that agree: a shift, one without change of scale, a similarity.

    It is mirrored only if that by which they agree is: a few stars on a line fit a mirrored one as well as a shift.
    """
    here, there = stars.positions[found.stars], reference.positions[found.reference]
    bare = Turn.shift(*np.median(there - here, axis=0))
    if len(here) < 3:
        return bare
    is_mirrored = found.turn.is_mirrored
    free = similarity(here, there, is_mirrored)
    rest = np.hypot(*(free(here) - there).T)
    good = rest <= max(4 * median_of_all(rest), LEAST_ERROR_PX)
    free = similarity(here[good], there[good], is_mirrored)
    # a similarity has four parameters; errors of a coordinate
    n = int(good.sum())
    error = np.sqrt(np.sum((free(here[good]) - there[good]) ** 2) / max(2 * n - 4, 1))
    arm = np.sqrt(np.sum((here[good] - here[good].mean(axis=0)) ** 2))
    half = float(np.hypot(*stars.shape)) / 2
    least = LEAST_TURN_PX if n >= LEAST_FOR_TURN else LEAST_TURN_BY_FEW_PX
    least = max(least, TURN_SIGNIFICANCE * max(float(error), LEAST_ERROR_PX) * half / max(float(arm), 1e-9))
    if free.displacement_px(np.eye(2), stars.shape) <= least:
        return bare
    rigid = free.matrix / free.scale
    is_scaled = n >= LEAST_FOR_SCALE and free.displacement_px(rigid, stars.shape) > least
    matrix = free.matrix if is_scaled else rigid
    if not is_scaled and Turn(rigid, bare.offset).displacement_px(np.eye(2), stars.shape) <= least:
        return bare
    return Turn(matrix, np.median(there[good] - here[good] @ matrix.T, axis=0))

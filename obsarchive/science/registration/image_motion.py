"""Image motion of stars too faint for single frames: the posterior distribution of the shift of each frame.

The shifts of a sequence are the hidden states of a Markov chain (Rabiner 1989, Proc. IEEE 77, 257) on a grid: the
motion has an rms and a correlation from frame to frame, both learnt from the data, so that a frame of few photons stays
where its neighbours are. The stars are learnt from the frames too, each weighted with the posterior of its shift, as in
the maximum-likelihood refinement of Sigworth (1998, J. Struct. Biol. 122, 328); the round part of a star is averaged
over the angle, which takes most of the noise from it. No frame is compared with a template that holds its own noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from obsarchive.science.arrays import Float32Array, Float64Array
from obsarchive.science.registration.alignment import Alignment, align, aligned_at
from obsarchive.science.registration.motion_law import MotionLaw, posterior_of_correlations
from obsarchive.science.registration.motion_smoothing import smoothed
from obsarchive.science.registration.moving_star import MovingStar
from obsarchive.science.registration.prepared_windows import ChosenWindows, Prepared, Windows, prepared
from obsarchive.science.registration.shift_grid import STEP_PX, ShiftGrid
from obsarchive.science.registration.shift_posteriors import NARROW_PX, ShiftPosteriors, moments

LEAST_REACH_PX, MAX_REACH_PX = 12.0, 20.0
"""Largest shift from the median that is looked for where all seem to be small, and in any case [pixel]."""
SURE_SIGNIFICANCE = 8.0
"""Significance of the star in a frame that is certain to show it."""

FIRST_LAW, USUAL_RMS_PX = MotionLaw(2.0, 0.5), (0.5, 1.0, 2.0, 3.0)
"""Law of the motion of the first iterations, and rms that are probable where the frames hardly tell [pixel]."""
WELL_KNOWN, LAW_ROUNDS = 0.5, 3
"""Error of the shifts, over their rms, below which the frames tell the law of their motion; else rounds with each."""
MOST_WHITE = 2.0
"""Variance of the likelihood over that of white noise above which the mean of all frames is no star to begin with."""
FEW_FRAMES = 10
"""So few frames tell neither the law of their motion nor whether their images have other shapes than the mean."""
LEAST_FOR_PATTERN = 5
"""Frames of which it is known what is the same in all."""
FIRST_ROUNDS = 3
"""Iterations by which it is known how far the frames lie apart."""
MAX_ROUNDS, NOISE_ROUNDS = 8, 3
"""Most iterations, and the first ones, before which the noise is measured."""
SETTLED_PX = 0.05
"""Iterations stop when the rms change of the shifts is smaller [pixel]."""
REACH_RMS = 5.0
"""Largest shift of the grid, once the motion is known, in units of its rms."""


@dataclass(frozen=True, eq=False)
class ImageMotion:
    """Shifts of frames, and the law of their motion.

    Attributes
    ----------
    shifts : ndarray (n, 2)
        (dy, dx) that moves each frame onto the template: means of the posteriors [pixel].
    errors : ndarray (n,)
        One-sigma error of a shift along an axis: standard deviation of its posterior [pixel].
    rms_px : float
        Rms of the motion along an axis [pixel].
    correlation : float
        Correlation of the shifts of consecutive frames, 0 to 1.
    """

    shifts: Float64Array
    errors: Float64Array
    rms_px: float
    correlation: float


def align_star(windows: Windows, others: Sequence[Windows] = (), *, follow: bool = False) -> Alignment:
    """Register windows around a star of any brightness.

    Parameters
    ----------
    windows : Windows (n, ny, nx)
        Calibrated counts in the order of time, the star in the middle; pixels that are not finite count as background.
    others : sequence of Windows (n, ny, nx)
        Windows around more stars of the same frames, that move in the same way; those without light tell nothing.
    follow : bool
        Whether windows follow the star, so that no pattern of the detector is the same in all.

    Returns
    -------
    Alignment
        Shifts, errors and qualities of the n windows.

    Raises
    ------
    Unprocessable
        All windows are empty.
    """
    found = _aligned(windows, others, follow)
    lit = np.flatnonzero(~found.is_black)
    if not 2 <= len(lit) < len(found.shifts):
        return found
    # frames without the star are no part of its image, nor of the law of its motion
    chosen, *more = (ChosenWindows(each, lit) for each in (windows, *others))
    return found.replaced(lit, _aligned(chosen, more, follow))


def _aligned(windows: Windows, others: Sequence[Windows], follow: bool) -> Alignment:
    """Return the alignment of windows of which each may show the star."""
    n, *sides = windows.shape
    star, *rest = map(prepared, (windows, *others))
    if n < 2:
        return align(star)
    is_fixed = n >= LEAST_FOR_PATTERN and not follow
    patterned = [each for each in (star, *rest) if is_fixed and each.remove_pattern()]
    found = align(star, most_rounds=FIRST_ROUNDS)
    reach = min(LEAST_REACH_PX, min(sides) / 4)
    far = np.abs(found.shifts).max(axis=1)
    usual = far <= min(MAX_REACH_PX, min(sides) / 4)
    start = np.where(usual[:, np.newaxis], found.shifts, 0.0)
    more = [other for other in rest if other.noise.any()]
    reach = max(reach, 1.2 * float(far[usual].max(initial=0.0)))
    motion = image_motion((star, *more), reach, start)
    if patterned:
        for each in patterned:
            each.remove_pattern(motion.shifts)
        motion = image_motion((star, *more), reach, motion.shifts)
    shifts, errors = motion.shifts - np.median(motion.shifts, axis=0), motion.errors
    moved = aligned_at(star, shifts, errors)
    if usual.all():
        return moved
    # frames that have slipped show the star where the motion does not explain it
    elsewhere = aligned_at(star, np.where(usual[:, np.newaxis], shifts, found.shifts), errors)
    slipped = ~usual & (elsewhere.significance > moved.significance + SURE_SIGNIFICANCE)
    if not slipped.any():
        return moved
    shifts[slipped], errors[slipped] = found.shifts[slipped], found.errors[slipped]
    return aligned_at(star, shifts, errors)


def image_motion(
    windows: Sequence[Windows | Prepared], reach_px: float, start: Float64Array | None = None
) -> ImageMotion:
    """Compute the posterior shifts of stars in windows around each.

    Parameters
    ----------
    windows : sequence of Windows (n, ny, nx) or Prepared
        Calibrated counts of each star in the order of time, the star in the middle; pixels that are not finite count as
        background.
    reach_px : float
        Largest shift [pixel].
    start : ndarray (n, 2), optional
        Shifts that may be close [pixel].

    Returns
    -------
    ImageMotion
        Shifts and errors of the n windows.
    """
    n, ny, nx = windows[0].shape
    grid = ShiftGrid((ny, nx), reach_px)
    stars = [MovingStar(grid, each) for each in windows]
    known = _first(stars, grid, [np.zeros((n, 2)), *([] if start is None else [start])])
    law, is_told = FIRST_LAW, False
    for _ in range(NOISE_ROUNDS):
        scores = _scores(stars, grid, known, with_noise=True)
        posterior, found = law.posterior(grid.steps, scores)
        known = known.after(grid, posterior, scores)
        is_told = float(np.sqrt(np.mean(known.errors**2))) < max(WELL_KNOWN * found.rms_px, STEP_PX / 2)
        law = found if is_told else FIRST_LAW
    for star in stars:
        star.clip_outliers(grid)
    if not is_told:
        return _of_all_laws(stars, grid, known)
    for _ in range(MAX_ROUNDS - NOISE_ROUNDS):
        before = known.shifts
        grid, known = _narrowed(grid, known, law)
        scores = _scores(stars, grid, known)
        posterior, law = law.posterior(grid.steps, scores)
        known = known.after(grid, posterior, scores)
        if np.sqrt(np.mean((known.shifts - before) ** 2)) < SETTLED_PX:
            break
    return _smoothed(known, _of_other_shapes(stars, grid, known), law)


def _smoothed(known: ShiftPosteriors, errors: Float64Array, law: MotionLaw) -> ImageMotion:
    """Return the motion with the shifts of frames that tell them by themselves drawn to where that of all puts them."""
    is_told = (known.errors < NARROW_PX) & (errors > 0)
    if is_told.sum() < FEW_FRAMES:
        return ImageMotion(known.shifts, errors, law.rms_px, law.correlation)
    shifts, smaller = smoothed(known.shifts, np.where(is_told, errors, np.inf))
    return ImageMotion(
        np.where(is_told[:, np.newaxis], shifts, known.shifts),
        np.where(is_told, smaller, errors),
        law.rms_px,
        law.correlation,
    )


def _of_other_shapes(stars: Sequence[MovingStar], grid: ShiftGrid, known: ShiftPosteriors) -> Float64Array:
    """Return the errors (n,) of shifts of frames in which the stars have other shapes than in the mean of all.

    Of a true likelihood, the variance of the slope is the curvature. That of the shape in the mean is not true for a
    frame that motion or turbulence has blurred: the error is that of the maximum of a wrong likelihood (Huber 1967,
    Proc. Fifth Berkeley Symp. 1, 221), where the frame itself and not its neighbours tell its shift.
    """
    is_told = known.errors < NARROW_PX
    # the mean of few frames has the shape of each, and single electrons do not tell any
    if len(is_told) < FEW_FRAMES or not is_told.any() or any(star.counts_electrons for star in stars):
        return known.errors
    excess = known.errors**2 * sum(star.slope_variance(grid, known.shifts) for star in stars)
    return np.where(is_told, known.errors * np.sqrt(np.maximum(excess, 0)), known.errors)


def _first(stars: Sequence[MovingStar], grid: ShiftGrid, starts: Sequence[Float64Array]) -> ShiftPosteriors:
    """Return the shifts (n, 2) under which the frames are most probable, each by the stars of the others."""
    rest = ShiftPosteriors.at_rest(len(starts[0]), grid)
    for star in stars:
        star.learn(grid, rest, with_noise=True)
    # in white noise the frames' own noise is in shifts that were found by their mean, and would be believed
    if len(starts) == 1 or max(star.excess for star in stars) < MOST_WHITE:
        return rest
    found = [replace(rest, shifts=shifts) for shifts in starts]
    evidence = []
    for known in found:
        scores = _scores(stars, grid, known, with_noise=True)
        frames = FIRST_LAW.evidence(grid.steps, scores) + float(scores.max(axis=(1, 2)).sum(dtype=float))
        evidence.append(frames + len(scores) * sum(star.offset(grid) for star in stars))
    return found[int(np.argmax(evidence))]


def _of_all_laws(stars: Sequence[MovingStar], grid: ShiftGrid, start: ShiftPosteriors) -> ImageMotion:
    """Return the mean of the posteriors under all laws of the motion, by the probability of the frames under each.

    The mean of frames that move resembles a star of frames that do not: each law has stars of its own.
    """
    n = len(start.shifts)
    found: list[tuple[Float32Array, MotionLaw, float, Float32Array]] = []
    for rms_px in USUAL_RMS_PX:
        known = start
        for _ in range(LAW_ROUNDS):
            scores = _scores(stars, grid, known)
            posterior, law, evidence = posterior_of_correlations(grid.steps, scores, rms_px)
            known = known.after(grid, posterior, scores)
        found.append((posterior, law, evidence + n * sum(star.offset(grid) for star in stars), scores))
    weights = np.exp([evidence - max(each[2] for each in found) for _, _, evidence, _ in found])
    weights /= weights.sum()
    mean = sum(weight * posterior for weight, (posterior, _, _, _) in zip(weights.tolist(), found, strict=True))
    likeliest = found[int(np.argmax(weights))][3]
    shifts, errors = moments(grid.steps, np.asarray(mean), likeliest)
    variance = float(np.dot(weights, [law.rms_px**2 for _, law, _, _ in found]))
    correlation = float(np.dot(weights, [law.correlation for _, law, _, _ in found]))
    return ImageMotion(shifts, errors, math.sqrt(variance), correlation)


def _scores(
    stars: Sequence[MovingStar], grid: ShiftGrid, known: ShiftPosteriors, with_noise: bool = False
) -> Float32Array:
    """Learn the stars, and return the log likelihood (n, cells, cells) of each shift of each frame."""
    scores = np.zeros(known.posterior.shape, np.float32)
    for star in stars:
        star.learn(grid, known, with_noise)
        scores += star.scores(grid)
    return scores


def _narrowed(grid: ShiftGrid, known: ShiftPosteriors, motion: MotionLaw) -> tuple[ShiftGrid, ShiftPosteriors]:
    """Return grid and posteriors without the margin that the motion does not reach."""
    margin = int((grid.steps[-1] - max(REACH_RMS * motion.rms_px, LEAST_REACH_PX / 3)) / STEP_PX)
    if margin <= 0:
        return grid, known
    inner = np.ascontiguousarray(known.posterior[:, margin:-margin, margin:-margin])
    return ShiftGrid(grid.shape, float(grid.steps[-1 - margin])), replace(known, posterior=inner)

"""Image motion of stars too faint for single frames: the posterior distribution of the shift of each frame.

The shifts of a sequence are the hidden states of a Markov chain (Rabiner 1989, Proc. IEEE 77, 257) on a grid: the
motion has an rms and a correlation from frame to frame, both learnt from the data, so that a frame of few photons stays
where its neighbours are. The stars are learnt from the frames too, each weighted with the posterior of its shift, as in
the maximum-likelihood refinement of Sigworth (1998, J. Struct. Biol. 122, 328); the round part of a star is averaged
over the angle, which takes most of the noise from it. No frame is compared with a template that holds its own noise.
"""

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft, ndimage

from obsarchive.science.arrays import Complex64Array, Float32Array, Float64Array, FloatArray, IndexArray
from obsarchive.science.registration.alignment import Alignment, align, aligned_at
from obsarchive.science.registration.motion_law import MotionLaw, posterior_of_correlations
from obsarchive.science.registration.motion_smoothing import smoothed
from obsarchive.science.registration.pixel_noise import (
    MOST_LIGHT_E,
    MultipliedElectrons,
    PixelNoise,
    ScaledPhotonNoise,
    multiplied_electrons,
)
from obsarchive.science.registration.prepared_windows import Prepared, Windows, prepared, taper
from obsarchive.science.registration.shift_grid import STEP_PX, ShiftGrid
from obsarchive.science.registration.subpixel_peaks import vertex
from obsarchive.science.statistics import median_of_all

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
FEW_FRAMES, BEYOND_NOISE = 10, 1000.0
"""So few frames in which the star has this significance differ by its image, which changes, more than by noise."""
FIRST_ROUNDS = 3
"""Iterations by which it is known how far the frames lie apart."""
MAX_ROUNDS, NOISE_ROUNDS = 8, 3
"""Most iterations, and the first ones, before which the noise is measured."""
SETTLED_PX = 0.05
"""Iterations stop when the rms change of the shifts is smaller [pixel]."""
REACH_RMS = 5.0
"""Largest shift of the grid, once the motion is known, in units of its rms."""
FOLDS = 8
"""Parts of the sequence: the template of the frames of a part is the mean of the others."""
NOISE_FRAMES = 50
"""Frames from whose residuals the noise is measured."""
FAR_PX = 2.0
"""Distance from the shift of a frame beyond which its likelihood shows noise only [pixel]."""
OUTLIER_LIGHT, OUTLIER_SIGMA = 2.0, 6.0
"""A pixel is clipped above so many times the light of the star at its brightest, and so many sigma of noise."""
SIGNIFICANT = 3.0
"""Excess of power over noise, in its own errors, from which a star is not taken for round."""
NARROW_STEPS = 0.8
"""Width of a posterior, in steps of the grid, below which the parabola through its maximum replaces its mean."""
LEAST_AT_REST, MOST_AT_REST, FREE_ROUNDS = -0.3, 0.1, 6
"""Light at rest that moves by the shifts, over that which moves, beyond which a smooth pattern is looked for; rounds.
What was taken away as a pattern leaves -0.1 to -0.2."""
SHARPER = 5.0
"""Peak of a star without image motion over that of the mean, at most."""


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


def align_star(windows: Windows, others: Sequence[Windows] = ()) -> Alignment:
    """Register windows around a star of any brightness.

    Parameters
    ----------
    windows : Windows (n, ny, nx)
        Calibrated counts in the order of time, the star in the middle; pixels that are not finite count as background.
    others : sequence of Windows (n, ny, nx)
        Windows around more stars of the same frames, that move in the same way; those without light tell nothing.

    Returns
    -------
    Alignment
        Shifts, errors and qualities of the n windows.

    Raises
    ------
    Unprocessable
        All windows are empty.
    """
    n, *sides = windows.shape
    star, *rest = map(prepared, (windows, *others))
    if n < 2:
        return align(star)
    patterned = [each for each in (star, *rest) if n >= FEW_FRAMES and each.remove_pattern()]
    found = align(star, most_rounds=FIRST_ROUNDS)
    if n < FEW_FRAMES and median_of_all(found.significance) > BEYOND_NOISE:
        return align(star)
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
    if n >= FEW_FRAMES:
        motion, (star, *_) = _not_held((star, *more), reach, motion)
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
    stars = [_Star(grid, each) for each in windows]
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


def _smoothed(known: "_Known", errors: Float64Array, law: MotionLaw) -> ImageMotion:
    """Return the motion with the shifts of frames that tell them by themselves drawn to where the law puts them."""
    is_told = known.errors < NARROW_STEPS * STEP_PX
    if is_told.sum() < FEW_FRAMES:
        return ImageMotion(known.shifts, errors, law.rms_px, law.correlation)
    shifts, smaller = smoothed(known.shifts, np.where(is_told, errors, np.inf))
    return ImageMotion(
        np.where(is_told[:, np.newaxis], shifts, known.shifts),
        np.where(is_told, smaller, errors),
        law.rms_px,
        law.correlation,
    )


def _not_held(
    stars: Sequence[Prepared], reach_px: float, motion: ImageMotion
) -> tuple[ImageMotion, Sequence[Prepared]]:
    """Return the motion, and the stars, without a pattern of any power that adds to the stars or holds the shifts.

    Neither is known where the shifts are held: pattern and shifts are found in turns, from all that is at rest on.
    """

    def is_in_place(star: Prepared, motion: ImageMotion) -> bool:
        error_px = float(np.sqrt(np.mean(motion.errors**2)))
        return LEAST_AT_REST < star.light_at_rest(motion.shifts, error_px) < MOST_AT_REST

    if is_in_place(stars[0], motion):
        return motion, stars
    free, shifts = [copy(star) for star in stars], np.zeros_like(motion.shifts)
    for _ in range(FREE_ROUNDS):
        for star in free:
            star.remove_pattern(shifts, is_smooth=True)
        found = image_motion(free, reach_px, shifts)
        change = float(np.sqrt(np.mean((found.shifts - shifts) ** 2)))
        shifts = found.shifts
        if change < SETTLED_PX:
            break
    # the light of a star that changes its shape is out of place, too, without any pattern
    return (found, free) if is_in_place(free[0], found) else (motion, stars)


def _of_other_shapes(stars: Sequence["_Star"], grid: ShiftGrid, known: "_Known") -> Float64Array:
    """Return the errors (n,) of shifts of frames in which the stars have other shapes than in the mean of all.

    Of a true likelihood, the variance of the slope is the curvature. That of the shape in the mean is not true for a
    frame that motion or turbulence has blurred: the error is that of the maximum of a wrong likelihood (Huber 1967,
    Proc. Fifth Berkeley Symp. 1, 221), where the frame itself and not its neighbours tell its shift.
    """
    is_told = known.errors < NARROW_STEPS * STEP_PX
    # the mean of few frames has the shape of each, and single electrons do not tell any
    if len(is_told) < FEW_FRAMES or not is_told.any() or any(star.counts_electrons for star in stars):
        return known.errors
    excess = known.errors**2 * sum(star.slope_variance(grid, known.shifts) for star in stars)
    return np.where(is_told, known.errors * np.sqrt(np.maximum(excess, 0)), known.errors)


def _first(stars: Sequence["_Star"], grid: ShiftGrid, starts: Sequence[Float64Array]) -> "_Known":
    """Return the shifts (n, 2) under which the frames are most probable, each by the stars of the others."""
    rest = _Known.at_rest(len(starts[0]), grid)
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


def _of_all_laws(stars: Sequence["_Star"], grid: ShiftGrid, start: "_Known") -> ImageMotion:
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
    shifts, errors = _refined(likeliest, *_moments(grid.steps, np.asarray(mean)))
    variance = float(np.dot(weights, [law.rms_px**2 for _, law, _, _ in found]))
    correlation = float(np.dot(weights, [law.correlation for _, law, _, _ in found]))
    return ImageMotion(shifts, errors, math.sqrt(variance), correlation)


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known of the shifts of the frames.

    Attributes
    ----------
    posterior : ndarray (n, cells, cells)
        Probabilities on the grid.
    shifts, errors : ndarray (n, 2), (n,)
        Of the frames [pixel].
    """

    posterior: Float32Array
    shifts: Float64Array
    errors: Float64Array

    @classmethod
    def at_rest(cls, n: int, grid: ShiftGrid) -> "_Known":
        """Certainty that no frame has moved."""
        posterior = np.zeros((n, *grid.cells), np.float32)
        posterior[:, grid.cells[0] // 2, grid.cells[1] // 2] = 1.0
        return cls(posterior, np.zeros((n, 2)), np.zeros(n))

    def after(self, grid: ShiftGrid, posterior: Float32Array, scores: Float32Array) -> "_Known":
        """Return the moments of a posterior, or the vertex of the scores where it is narrower than the grid."""
        shifts, errors = _refined(scores, *_moments(grid.steps, posterior))
        if len(shifts) == 2:
            # both halfway: two frames that were moved onto each other would change places forever
            shifts = (self.shifts + shifts) / 2
        return _Known(posterior, shifts, errors)

    def factor(self, grid: ShiftGrid, i: int) -> Complex64Array:
        """Return the factor by which the spectrum of a frame becomes that of its mean over its shifts."""
        if len(self.errors) == 2 or self.errors[i] < NARROW_STEPS * STEP_PX:
            return grid.moved_to(self.shifts[i], float(self.errors[i]))
        return grid.moved(self.posterior[i])


def _scores(stars: Sequence["_Star"], grid: ShiftGrid, known: _Known, with_noise: bool = False) -> Float32Array:
    """Learn the stars, and return the log likelihood (n, cells, cells) of each shift of each frame."""
    scores = np.zeros(known.posterior.shape, np.float32)
    for star in stars:
        star.learn(grid, known, with_noise)
        scores += star.scores(grid)
    return scores


def _narrowed(grid: ShiftGrid, known: _Known, motion: MotionLaw) -> tuple[ShiftGrid, _Known]:
    """Return grid and posteriors without the margin that the motion does not reach."""
    margin = int((grid.steps[-1] - max(REACH_RMS * motion.rms_px, LEAST_REACH_PX / 3)) / STEP_PX)
    if margin <= 0:
        return grid, known
    inner = np.ascontiguousarray(known.posterior[:, margin:-margin, margin:-margin])
    return ShiftGrid(grid.shape, float(grid.steps[-1 - margin])), replace(known, posterior=inner)


class _Star:
    """A star of the frames: what is known of it, and of the noise of its pixels.

    Parameters
    ----------
    grid : ShiftGrid
        Of its windows.
    windows : Windows (n, ny, nx) or Prepared
        Counts around it.

    Attributes
    ----------
    excess : float
        Variance of the slopes of the log likelihood over that of white noise.
    """

    def __init__(self, grid: ShiftGrid, windows: Windows | Prepared) -> None:
        self._edges = taper(*grid.shape)
        self._rim = self._edges < self._edges.max() / 2
        self._clean, (ny, nx) = prepared(windows), grid.shape
        n = len(self._clean)
        self._electrons = multiplied_electrons(np.array([self._clean.frame(i)[self._rim] for i in _some(n).tolist()]))
        self._spectra = np.empty((n, ny, nx // 2 + 1), np.complex64)
        for i, spectrum in enumerate(self._spectra):
            spectrum[:] = fft.rfft2(self._window(i))
        self._statistics: tuple[Complex64Array, ...] = (self._spectra,)
        power = np.zeros(self._spectra.shape[1:], np.float32)
        for spectrum in self._spectra:
            power += np.abs(spectrum) ** 2
        self._white = float(grid.ring_mean(power / n)[grid.is_white].mean())
        self._centre = grid.centre(self._spectra.mean(axis=0))
        self._scaled = ScaledPhotonNoise(self._white / math.prod(grid.shape), 0.0)
        self._noise: PixelNoise = self._scaled
        self.excess = 1.0

    @property
    def counts_electrons(self) -> bool:
        """Whether the noise is that of single electrons."""
        return isinstance(self._noise, MultipliedElectrons)

    def learn(self, grid: ShiftGrid, known: _Known, with_noise: bool) -> None:
        """Make the template from frames whose shifts are known so far, and measure the noise."""
        self._sums = np.zeros((FOLDS, *self._spectra.shape[1:]), np.complex64)
        self._powers = np.zeros(self._sums.shape, np.float32)
        for i, spectrum in enumerate(self._spectra):
            factor = known.factor(grid, i)
            self._sums[i % FOLDS] += spectrum * factor
            self._powers[i % FOLDS] += np.abs(factor) ** 2
        if with_noise:
            self._template = self._template_without(grid, None)
            self._measure_noise(grid, known)

    def scores(self, grid: ShiftGrid) -> Float32Array:
        """Return the log likelihood (n, cells, cells) of each shift of each frame."""
        n = len(self._spectra)
        scores = np.empty((n, *grid.cells), np.float32)
        for part in range(min(FOLDS, n)):
            light = fft.irfft2(self._template_without(grid, part), grid.shape)
            weights = np.conj(fft.rfft2(self._noise.weights(light)))
            for i in range(part, n, FOLDS):
                scores[i] = _correlation(grid, weights, [spectra[i] for spectra in self._statistics])
        scores /= self.excess
        return scores

    def slope_variance(self, grid: ShiftGrid, shifts: Float64Array) -> Float64Array:
        """Return the variance (n,) of the slope of the log likelihood along an axis, by the noise of each frame.

        The shifts (n, 2) move the frames onto the template.
        """
        template, variances = self._template_without(grid, None), np.empty(len(shifts))
        for i, shift in enumerate(shifts):
            model = fft.irfft2(template * np.conj(grid.moved_to(shift, 0.0)), grid.shape)
            slopes = grid.gradient(self._scaled.weights(model)[0])
            noise = self._scaled.variance(fft.irfft2(self._spectra[i], grid.shape))
            variances[i] = np.sum(slopes**2 * noise) / 2
        return variances / self.excess**2

    def offset(self, grid: ShiftGrid) -> float:
        """Return what the log likelihood of each shift of a frame lacks: it depends on the star alone."""
        light = fft.irfft2(self._template_without(grid, None), grid.shape)
        return self._noise.offset(light) / self.excess

    def clip_outliers(self, grid: ShiftGrid) -> None:
        """Clip pixels above what the star can give to them: cosmic rays would draw it away."""
        side = 2 * math.ceil(grid.steps[-1]) + 1
        light = np.maximum(ndimage.maximum_filter(fft.irfft2(self._template, grid.shape), size=side), 0)
        variance = self._scaled.background + self._scaled.per_count * light
        limit = (OUTLIER_LIGHT * light + OUTLIER_SIGMA * np.sqrt(variance)).astype(np.float32)
        for spectrum in self._spectra:
            spectrum[:] = fft.rfft2(np.minimum(fft.irfft2(spectrum, grid.shape), limit))

    def _window(self, i: int) -> Float32Array:
        """Return the window of frame `i` without background and edges."""
        frame = self._clean.frame(i)
        # the mean of the rim, not its median, is that of the light of photons that are counted
        window: Float32Array = (frame - frame[self._rim].mean()) * self._edges
        return window

    def _template_without(self, grid: ShiftGrid, part: int | None) -> Complex64Array:
        total, power, n = self._sums.sum(axis=0), self._powers.sum(axis=0), len(self._spectra)
        if part is not None:
            total, power, n = total - self._sums[part], power - self._powers[part], n - len(range(part, n, FOLDS))
        return _template(grid, total, power, self._white, self._centre, n)

    def _measure_noise(self, grid: ShiftGrid, known: _Known) -> None:
        """Measure the noise from the residuals of some frames."""
        some = _some(len(known.shifts))
        light = fft.irfft2(self._template, grid.shape)
        spectra = [self._template * np.conj(known.factor(grid, i)) for i in some.tolist()]
        models = fft.irfft2(np.stack(spectra), grid.shape)
        windows = np.array([self._window(i) for i in some.tolist()])
        self._scaled = _scaled_noise(windows, models) or self._scaled
        if not self.counts_electrons:
            self._noise = self._with_electrons(float(light.max()))
        weights = np.conj(fft.rfft2(self._noise.weights(light)))
        expected = _correlation(grid, weights, fft.rfft2(self._noise.means(light)))
        residuals = []
        for i, model in zip(some.tolist(), models, strict=True):
            means = fft.rfft2(self._noise.means(model))
            rest = [spectra[i] - mean for spectra, mean in zip(self._statistics, means, strict=True)]
            residuals.append(_correlation(grid, weights, rest))
        self.excess = _excess(grid, expected, residuals)

    def _with_electrons(self, peak: float) -> PixelNoise:
        """Return the noise of single electrons if they are seen, else that of photons whose number is scaled."""
        found = self._electrons
        if found is None or found.sky_e + peak / found.gain > MOST_LIGHT_E:
            return self._scaled
        noise = replace(found, most_light_e=SHARPER * max(peak / found.gain, found.sky_e))
        # one array for each term, filled frame by frame: what is made from the frames before is not held twice
        terms = len(noise.statistics(self._clean.frame(0)))
        self._statistics = tuple(np.empty_like(self._spectra) for _ in range(terms))
        for i in range(len(self._clean)):
            for spectra, term in zip(self._statistics, noise.statistics(self._clean.frame(i)), strict=True):
                spectra[i] = fft.rfft2(term * self._edges)
        return noise


def _correlation(grid: ShiftGrid, weights: FloatArray, terms: Sequence[FloatArray]) -> Float32Array:
    """Return the correlation of weights with terms, from the conjugate spectra of the former."""
    products = [weight * term for weight, term in zip(weights, terms, strict=True)]
    return grid.correlation(sum(products[1:], start=products[0]))


def _some(n: int) -> IndexArray:
    """Return the numbers of the frames, of `n`, from which noise is measured."""
    return np.unique(np.linspace(0, n - 1, NOISE_FRAMES).astype(int))


def _scaled_noise(windows: Float32Array, models: FloatArray) -> ScaledPhotonNoise | None:
    """Measure the noise from the squared residuals, a straight line of the counts of the star."""
    ny, nx = windows.shape[1:]
    inner = np.s_[:, ny // 8 : ny - ny // 8, nx // 8 : nx - nx // 8]
    x, y = np.maximum(models[inner], 0).ravel(), ((windows[inner] - models[inner]) ** 2).ravel()
    centred = x - x.mean()
    spread = float(np.sum(centred**2))
    slope = max(float(np.sum(centred * y)) / spread, 0.0) if spread > 0 else 0.0
    level = float(y.mean() - slope * x.mean())
    if level <= 0:
        # a line through the bright pixels: the faint ones have the noise of their own
        is_faint = x <= median_of_all(x)
        level = float(y[is_faint].mean())
        slope = max(float(y.mean()) - level, 0.0) / float(x.mean() - x[is_faint].mean())
    return ScaledPhotonNoise(level, slope) if level > 0 else None


def _excess(grid: ShiftGrid, expected: FloatArray, residuals: Sequence[FloatArray]) -> float:
    """Return the variance of the slopes of the log likelihood far from its maximum, over that of white noise.

    Speckles that change from frame to frame are noise, too, and not white: where they dominate, it is greater than 1.
    """
    far = np.hypot(grid.steps[:, np.newaxis], grid.steps)[1:-1, 1:-1] > FAR_PX
    information = -float(np.gradient(np.gradient(expected, axis=0), axis=0)[grid.cells[0] // 2, grid.cells[1] // 2])
    slopes = [np.array(np.gradient(rest))[:, 1:-1, 1:-1][:, far] for rest in residuals]
    found = float(np.median([np.mean(slope**2) for slope in slopes]))
    return max(found / information, 1.0) if information > 0 else 1.0


def _template(
    grid: ShiftGrid, total: Complex64Array, power: Float32Array, white: float, centre: tuple[float, float], n: int
) -> Complex64Array:
    """Return the spectrum of the star from the sum of n moved frames: its round part, and what is surely not round.

    Both are Wiener filtered, by rings of spatial frequencies.
    """
    point = grid.phases(centre)
    found = total / n * np.conj(point)
    noise = grid.ring_mean(white * power / n**2)
    ring = grid.ring_mean(found.real)
    share = np.clip(1 - noise / grid.modes / np.maximum(ring**2, 1e-30), 0, 1) * (ring > 0)
    # what frequencies beyond the first gap seem to hold is noise
    share = np.minimum.accumulate(np.convolve(np.pad(share, 2, mode="edge"), np.full(5, 0.2), "valid"))
    rest = found - ring[grid.ring]
    excess = grid.ring_mean(np.abs(rest) ** 2) - noise * (1 + SIGNIFICANT / np.sqrt(grid.modes))
    odd = np.clip(excess / np.maximum(excess + noise, 1e-30), 0, 1)
    spectrum: Complex64Array = ((ring * share)[grid.ring] + rest * odd[grid.ring]) * point
    return spectrum.astype(np.complex64)


def _moments(steps: Float64Array, posterior: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Return means (n, 2) and standard deviations along an axis (n,) of the posteriors."""
    shifts, variances = np.empty((len(posterior), 2)), np.empty(len(posterior))
    for i, cells in enumerate(posterior):
        along = cells.sum(axis=1, dtype=float), cells.sum(axis=0, dtype=float)
        mean = [float(values @ steps) for values in along]
        variance = [float(values @ steps**2) - m**2 for values, m in zip(along, mean, strict=True)]
        shifts[i], variances[i] = mean, sum(variance) / 2
    return shifts, np.sqrt(np.maximum(variances, 0))


def _refined(scores: Float32Array, shifts: Float64Array, errors: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Replace the moments of posteriors that are narrower than the grid by vertex and curvature of the likelihood."""
    half = scores.shape[1] // 2
    for i in np.flatnonzero(errors < NARROW_STEPS * STEP_PX).tolist():
        y, x = (int(np.clip(round(cell), 1, 2 * half - 1)) for cell in shifts[i] / STEP_PX + half)
        lines = scores[i, y - 1 : y + 2, x], scores[i, y, x - 1 : x + 2]
        curvature = [2 * float(line[1]) - float(line[0]) - float(line[2]) for line in lines]
        if min(curvature) > 0:
            shifts[i] = [STEP_PX * (cell - half + vertex(line)) for cell, line in zip((y, x), lines, strict=True)]
            errors[i] = STEP_PX * math.sqrt(sum(1 / value for value in curvature) / 2)
        else:
            # no vertex within the cell: the shift is anywhere in it
            errors[i] = max(errors[i], STEP_PX / math.sqrt(12))
    return shifts, errors

"""Image motion of a star too faint for single frames: the posterior distribution of the shift of each frame.

The shifts of a sequence are the hidden states of a Markov chain (Rabiner 1989, Proc. IEEE 77, 257) on a grid: the
motion has an rms and a correlation from frame to frame, both learnt from the data, so that a frame of few photons stays
where its neighbours are. The star is learnt from the frames too, each weighted with the posterior of its shift, as in
the maximum-likelihood refinement of Sigworth (1998, J. Struct. Biol. 122, 328); its round part is averaged over the
angle, which takes most of the noise from it. No frame is compared with a template that holds its own noise.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from obsarchive.science.arrays import Complex64Array, Float32Array, Float64Array, FloatArray
from obsarchive.science.registration.alignment import Alignment, align, aligned_at, prepared, taper
from obsarchive.science.registration.subpixel_peaks import vertex

LEAST_FRAMES = 10
"""Frames from which on their motion is learnt."""
LEAST_REACH_PX, MAX_REACH_PX = 12.0, 20.0
"""Largest shift from the median that is looked for where all seem to be small, and in any case [pixel]."""
SURE_SIGNIFICANCE = 8.0
"""Significance of the star in a frame that is certain to show it."""

STEP_PX = 0.5
"""Step of the grid of shifts [pixel]."""
MAX_ROUNDS, NOISE_ROUNDS = 8, 3
"""Most iterations, and the first ones, before which the noise is measured."""
SETTLED_PX = 0.05
"""Iterations stop when the rms change of the shifts is smaller [pixel]."""
FIRST_RMS_PX = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Rms of the motion from which the first is chosen [pixel]."""
REACH_RMS = 5.0
"""Largest shift of the grid, once the motion is known, in units of its rms."""
FOLDS = 8
"""Parts of the sequence: the template of the frames of a part is the mean of the others."""
NOISE_FRAMES = 50
"""Frames from whose residuals the noise is measured."""
FAR_PX = 2.0
"""Distance from the shift of a frame beyond which its likelihood shows noise only [pixel]."""
MAX_CORRELATION = 0.98
STRAYS = 1e-3
"""Share of frames that may lie anywhere, whatever the motion of the others."""
CENTRE_FREQUENCY, WHITE_FREQUENCY = 0.06, 0.4
"""Spatial frequencies below which a star has its centre, and above which a frame has only noise [cycle/pixel]."""
OUTLIER_LIGHT, OUTLIER_SIGMA = 2.0, 6.0
"""A pixel is clipped above so many times the light of the star at its brightest, and so many sigma of noise."""
SIGNIFICANT = 3.0
"""Excess of power over noise, in its own errors, from which a star is not taken for round."""
NARROW_STEPS = 0.8
"""Width of a posterior, in steps of the grid, below which the parabola through its maximum replaces its mean."""


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


def align_star(windows: Float32Array) -> Alignment:
    """Register windows around a star of any brightness.

    Parameters
    ----------
    windows : ndarray (n, ny, nx)
        Calibrated counts in the order of time, the star in the middle; pixels that are not finite count as background.

    Returns
    -------
    Alignment
        Shifts, errors and qualities of the n windows.

    Raises
    ------
    Unprocessable
        All windows are empty.
    """
    found = align(windows)
    n, *sides = windows.shape
    if n < LEAST_FRAMES:
        return found
    reach = min(LEAST_REACH_PX, min(sides) / 4)
    far = np.abs(found.shifts).max(axis=1)
    usual = far <= min(MAX_REACH_PX, min(sides) / 4)
    motion = image_motion(windows, max(reach, 1.2 * float(far[usual].max(initial=0.0))))
    shifts, errors = motion.shifts - np.median(motion.shifts, axis=0), motion.errors
    moved = aligned_at(windows, shifts, errors)
    if usual.all():
        return moved
    # frames that have slipped show the star where the motion does not explain it
    elsewhere = aligned_at(windows, np.where(usual[:, np.newaxis], shifts, found.shifts), errors)
    slipped = ~usual & (elsewhere.significance > moved.significance + SURE_SIGNIFICANCE)
    if not slipped.any():
        return moved
    shifts[slipped], errors[slipped] = found.shifts[slipped], found.errors[slipped]
    return aligned_at(windows, shifts, errors)


def image_motion(windows: Float32Array, reach_px: float) -> ImageMotion:
    """Compute the posterior shifts of a star in windows around it.

    Parameters
    ----------
    windows : ndarray (n, ny, nx)
        Calibrated counts in the order of time, the star in the middle; pixels that are not finite count as background.
    reach_px : float
        Largest shift [pixel].

    Returns
    -------
    ImageMotion
        Shifts and errors of the n windows.
    """
    windows = _without_background(windows)
    grid = _Grid((windows.shape[1], windows.shape[2]), reach_px)
    spectra = fft.rfft2(windows)
    white = float(grid.ring_mean((np.abs(spectra) ** 2).mean(axis=0))[grid.is_white].mean())
    centre = grid.centre(spectra.mean(axis=0))
    noise, excess = _Noise(white / math.prod(grid.shape), 0.0), 1.0
    posterior = np.zeros((len(windows), *grid.cells), np.float32)
    posterior[:, grid.cells[0] // 2, grid.cells[1] // 2] = 1.0
    shifts = np.zeros((len(windows), 2))
    for made in range(MAX_ROUNDS):
        before = shifts
        sums, powers = _moved_sums(grid, spectra, posterior)
        if made < NOISE_ROUNDS:
            template = _template(grid, sums.sum(axis=0), powers.sum(axis=0), white, centre, len(windows))
            noise = _measured_noise(grid, windows, posterior, template, noise)
            excess = _excess(grid, spectra, posterior, template, noise)
        scores = _scores(grid, spectra, noise, (sums, powers), white, centre)
        scores /= excess
        if made == 0:
            motion = _likeliest(grid.steps, scores)
        posterior, motion = motion.posterior(grid.steps, scores)
        shifts, errors = _moments(grid.steps, posterior)
        if made + 1 >= NOISE_ROUNDS and np.sqrt(np.mean((shifts - before) ** 2)) < SETTLED_PX:
            break
        if made + 1 == NOISE_ROUNDS:
            windows = _without_outliers(windows, fft.irfft2(template, grid.shape), noise, grid.steps[-1])
            spectra = fft.rfft2(windows)
        grid, posterior = _narrowed(grid, posterior, motion)
    shifts, errors = _refined(scores, shifts, errors)
    return ImageMotion(shifts, errors, motion.rms_px, motion.correlation)


def _without_background(windows: Float32Array) -> Float32Array:
    """Return windows whose rim has a mean of zero, as that of the light is needed of photons that are counted."""
    clean, _ = prepared(windows)
    ny, nx = clean.shape[1:]
    edges = taper(ny, nx)
    rim = edges < edges.max() / 2
    clean -= clean[:, rim].mean(axis=1)[:, np.newaxis, np.newaxis]
    clean *= edges
    return clean


def _without_outliers(windows: Float32Array, template: FloatArray, noise: "_Noise", reach_px: float) -> Float32Array:
    """Return windows whose pixels are not above what the star can give to them: cosmic rays would draw it away."""
    side = 2 * math.ceil(reach_px) + 1
    light = np.maximum(ndimage.maximum_filter(template, size=side), 0)
    limit = OUTLIER_LIGHT * light + OUTLIER_SIGMA * np.sqrt(noise.background + noise.per_count * light)
    clipped: Float32Array = np.minimum(windows, limit.astype(np.float32))
    return clipped


def _narrowed(grid: "_Grid", posterior: Float32Array, motion: "_Motion") -> "tuple[_Grid, Float32Array]":
    """Return grid and posteriors without the margin that the motion does not reach."""
    margin = int((grid.steps[-1] - max(REACH_RMS * motion.rms_px, LEAST_REACH_PX / 3)) / STEP_PX)
    if margin <= 0:
        return grid, posterior
    inner = slice(margin, -margin)
    return _Grid(grid.shape, float(grid.steps[-1 - margin])), np.ascontiguousarray(posterior[:, inner, inner])


class _Grid:
    """Grid of shifts and spatial frequencies of windows of one shape."""

    def __init__(self, shape: tuple[int, int], reach_px: float) -> None:
        self.shape = shape
        half = math.ceil(reach_px / STEP_PX)
        self.steps: Float64Array = np.arange(-half, half + 1) * np.float64(STEP_PX)
        self.cells = len(self.steps), len(self.steps)
        ky, kx = fft.fftfreq(shape[0]), fft.rfftfreq(shape[1])
        self._ky, self._kx = ky[:, np.newaxis], kx[np.newaxis, :]
        self._along_y = np.exp(-2j * np.pi * np.outer(ky, self.steps)).astype(np.complex64)
        self._along_x = np.exp(-2j * np.pi * np.outer(self.steps, kx)).astype(np.complex64)
        # all but the first and, of even sides, the last column of a real transform stand for two
        twice = np.full(len(kx), 2.0, np.float32)
        twice[0] = 1.0
        if shape[1] % 2 == 0:
            twice[-1] = 1.0
        self._twice = np.broadcast_to(twice, (len(ky), len(kx)))
        radius = np.hypot(self._ky, self._kx)
        self.ring = np.minimum((radius * min(shape)).astype(np.intp), min(shape) // 2)
        self.modes = np.maximum(np.bincount(self.ring.ravel(), self._twice.ravel()), 1)
        self.is_white = np.arange(len(self.modes)) > WHITE_FREQUENCY * min(shape)
        self._low = self._twice * (radius < CENTRE_FREQUENCY)

    def ring_mean(self, values: FloatArray) -> Float64Array:
        """Average over the modes of each ring of spatial frequencies."""
        mean: Float64Array = (
            np.bincount(self.ring.ravel(), (values * self._twice).ravel(), len(self.modes)) / self.modes
        )
        return mean

    def phases(self, place: tuple[float, float]) -> Complex64Array:
        """Spectrum of a point (y, x)."""
        turn: Complex64Array = np.exp(-2j * np.pi * (self._ky * place[0] + self._kx * place[1])).astype(np.complex64)
        return turn

    def centre(self, spectrum: Complex64Array) -> tuple[float, float]:
        """Measure the centre (y, x) of an image near its middle by the phases of its low frequencies [pixel]."""
        middle = self.shape[0] // 2, self.shape[1] // 2
        angle = np.angle(spectrum * np.conj(self.phases(middle)))
        weight = np.abs(spectrum) ** 2 * self._low
        offset = (-np.sum(weight * angle * k) / np.sum(weight * k**2) / (2 * np.pi) for k in (self._ky, self._kx))
        y, x = (place + float(step) for place, step in zip(middle, offset, strict=True))
        return y, x

    def moved(self, posterior: FloatArray) -> Complex64Array:
        """Factor by which the spectrum of a frame becomes that of its mean over the posterior of its shift."""
        factor: Complex64Array = self._along_y @ posterior.astype(np.complex64) @ self._along_x
        return factor

    def correlation(self, spectrum: Complex64Array) -> Float32Array:
        """Correlation of two images at the shifts of the grid, from the product of their spectra."""
        product = np.conj(self._along_y).T @ (spectrum * self._twice) @ np.conj(self._along_x).T
        correlation: Float32Array = product.real / math.prod(self.shape)
        return correlation


@dataclass(frozen=True)
class _Noise:
    """Variance of a pixel: that of the background, and its growth with the counts."""

    background: float
    per_count: float

    def matched_filter(self, template: FloatArray) -> FloatArray:
        """Return the weights of the pixels: with scaled Poisson noise, their sum over counts is the log likelihood."""
        light = np.maximum(template, 0)
        if self.per_count <= 0:
            return light / self.background
        weights: FloatArray = np.log1p(self.per_count / self.background * light) / self.per_count
        return weights


def _moved_sums(grid: _Grid, spectra: Complex64Array, posterior: Float32Array) -> tuple[Complex64Array, Float32Array]:
    """Return the sum of the moved frames of each part of the sequence, and that of the power left of their noise."""
    sums = np.zeros((FOLDS, *spectra.shape[1:]), np.complex64)
    powers = np.zeros(sums.shape, np.float32)
    for i, spectrum in enumerate(spectra):
        factor = grid.moved(posterior[i])
        sums[i % FOLDS] += spectrum * factor
        powers[i % FOLDS] += np.abs(factor) ** 2
    return sums, powers


def _template(
    grid: _Grid, total: Complex64Array, power: Float32Array, white: float, centre: tuple[float, float], n: int
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


def _measured_noise(
    grid: _Grid, windows: Float32Array, posterior: Float32Array, template: Complex64Array, before: _Noise
) -> _Noise:
    """Measure the noise from the squared residuals of some frames, a straight line of the counts of the template."""
    some = np.unique(np.linspace(0, len(windows) - 1, NOISE_FRAMES).astype(int))
    edge = tuple(slice(side // 8, side - side // 8) for side in grid.shape)
    light, squares = [], []
    for i in some.tolist():
        model = fft.irfft2(template * np.conj(grid.moved(posterior[i])), grid.shape)[edge]
        light.append(np.maximum(model, 0))
        squares.append((windows[i][edge] - model) ** 2)
    x, y = np.stack(light).ravel(), np.stack(squares).ravel()
    centred = x - x.mean()
    spread = float(np.sum(centred**2))
    slope = max(float(np.sum(centred * y)) / spread, 0.0) if spread > 0 else 0.0
    level = float(y.mean() - slope * x.mean())
    return _Noise(level, slope) if level > 0 else before


def _excess(
    grid: _Grid, spectra: Complex64Array, posterior: Float32Array, template: Complex64Array, noise: _Noise
) -> float:
    """Return the variance of the slopes of the log likelihood far from its maximum, over that of white noise.

    Speckles that change from frame to frame are noise, too, and not white: where they dominate, it is greater than 1.
    """
    weights = fft.rfft2(noise.matched_filter(fft.irfft2(template, grid.shape)))
    expected = grid.correlation(weights * np.conj(template))
    far = np.hypot(grid.steps[:, np.newaxis], grid.steps)[1:-1, 1:-1] > FAR_PX
    information = -float(np.gradient(np.gradient(expected, axis=0), axis=0)[grid.cells[0] // 2, grid.cells[1] // 2])
    some = np.unique(np.linspace(0, len(spectra) - 1, NOISE_FRAMES).astype(int))
    found = []
    for i in some.tolist():
        residual = spectra[i] - template * np.conj(grid.moved(posterior[i]))
        slopes = np.gradient(grid.correlation(weights * np.conj(residual)))
        found.append(float(np.mean(np.array(slopes)[:, 1:-1, 1:-1][:, far] ** 2)))
    return max(float(np.median(found)) / information, 1.0) if information > 0 else 1.0


def _scores(
    grid: _Grid,
    spectra: Complex64Array,
    noise: _Noise,
    moved: tuple[Complex64Array, Float32Array],
    white: float,
    centre: tuple[float, float],
) -> Float32Array:
    """Return the log likelihood (n, cells, cells) of each shift of each frame."""
    sums, powers = moved
    total, power = sums.sum(axis=0), powers.sum(axis=0)
    scores = np.empty((len(spectra), *grid.cells), np.float32)
    for part in range(min(FOLDS, len(spectra))):
        mine = range(part, len(spectra), FOLDS)
        others = len(spectra) - len(mine)
        template = _template(grid, total - sums[part], power - powers[part], white, centre, others)
        weights = fft.rfft2(noise.matched_filter(fft.irfft2(template, grid.shape)))
        for i in mine:
            scores[i] = grid.correlation(weights * np.conj(spectra[i]))
    return scores


@dataclass(frozen=True)
class _Motion:
    """Motion as an autoregressive process of the first order, the same along both axes."""

    rms_px: float
    correlation: float

    def posterior(self, steps: Float64Array, scores: Float32Array) -> tuple[Float32Array, "_Motion"]:
        """Return the posterior of each shift given all frames (forward-backward), and the motion that it shows."""
        likelihood = _likelihood(scores)
        initial, ahead = self.usual(steps), self._transition(steps)
        n = len(scores)
        forward, backward = np.empty_like(likelihood), np.ones_like(likelihood)
        forward[0] = _normal(initial * likelihood[0])
        for i in range(1, n):
            forward[i] = _normal((ahead.T @ forward[i - 1] @ ahead + STRAYS * initial) * likelihood[i])
        for i in range(n - 1, 0, -1):
            backward[i - 1] = _normal(ahead @ (likelihood[i] * backward[i]) @ ahead.T)
        posterior = np.stack([_normal(a * b) for a, b in zip(forward, backward, strict=True)])
        marginal = posterior.sum(axis=2) + posterior.sum(axis=1)
        variance = float((marginal @ steps**2).mean()) / 2
        products = sum(_products(steps, ahead, forward[i - 1], likelihood[i] * backward[i]) for i in range(1, n))
        correlation = products / 2 / max(n - 1, 1) / variance if variance > 0 else 0.0
        return posterior.astype(np.float32), _Motion(math.sqrt(variance), min(max(correlation, 0.0), MAX_CORRELATION))

    def usual(self, steps: Float64Array) -> Float64Array:
        """Probability of a shift if nothing is known of the other frames."""
        along = _normal(np.exp(-0.5 * (steps / max(self.rms_px, STEP_PX / 2)) ** 2))
        return np.outer(along, along)

    def _transition(self, steps: Float64Array) -> Float64Array:
        """Probability of a step after another."""
        scatter = max(self.rms_px * math.sqrt(1 - self.correlation**2), STEP_PX / 2)
        law: Float64Array = np.exp(-0.5 * ((steps - self.correlation * steps[:, np.newaxis]) / scatter) ** 2)
        law /= law.sum(axis=1, keepdims=True)
        return law


def _likeliest(steps: Float64Array, scores: Float32Array) -> _Motion:
    """Return the uncorrelated motion under which the frames are most probable: none, where they say nothing."""
    likelihood = _likelihood(scores).reshape(len(scores), -1)

    def evidence(motion: _Motion) -> float:
        return float(np.log(likelihood @ motion.usual(steps).ravel() + np.finfo(float).tiny).sum())

    return max((_Motion(rms_px, 0.0) for rms_px in FIRST_RMS_PX), key=evidence)


def _likelihood(scores: Float32Array) -> Float64Array:
    likelihood: Float64Array = np.exp(scores - scores.max(axis=(1, 2), keepdims=True)).astype(np.float64)
    return likelihood


def _products(steps: Float64Array, ahead: Float64Array, before: Float64Array, after: Float64Array) -> float:
    """Return the expected sum over both axes of the product of the shifts of two consecutive frames."""
    column, row = steps[:, np.newaxis], steps[np.newaxis, :]
    weight = float(np.sum(before * (ahead @ after @ ahead.T)))
    along_y = np.sum(before * column * (ahead @ (after * column) @ ahead.T))
    along_x = np.sum(before * row * (ahead @ (after * row) @ ahead.T))
    return float(along_y + along_x) / weight if weight > 0 else 0.0


def _normal(values: Float64Array) -> Float64Array:
    total = float(values.sum())
    return values / total if total > 0 else np.full_like(values, 1 / values.size)


def _moments(steps: Float64Array, posterior: Float32Array) -> tuple[Float64Array, Float64Array]:
    """Return means (n, 2) and standard deviations along an axis (n,) of the posteriors."""
    shifts, variances = np.empty((len(posterior), 2)), np.empty(len(posterior))
    for i, cells in enumerate(posterior):
        along = cells.sum(axis=1), cells.sum(axis=0)
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
    return shifts, errors

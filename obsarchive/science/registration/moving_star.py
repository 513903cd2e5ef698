"""A star of frames that move: what is known of it from all frames, and how probable each shift of a frame is by it."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import fft, ndimage

from obsarchive.science.arrays import Complex64Array, Float32Array, Float64Array, FloatArray, IndexArray
from obsarchive.science.registration.pixel_noise import (
    MOST_LIGHT_E,
    MultipliedElectrons,
    PixelNoise,
    ScaledPhotonNoise,
    multiplied_electrons,
)
from obsarchive.science.registration.prepared_windows import Prepared, Windows, prepared, taper
from obsarchive.science.registration.shift_grid import ShiftGrid
from obsarchive.science.registration.shift_posteriors import ShiftPosteriors
from obsarchive.science.statistics import median_of_all, robust_sigma

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
LEAST_FRAMES, LEVEL_SIGMA, MOST_VARIANCE = 10, 6.0, 2.0
"""Frames among which those that a cosmic ray hit are told, by the level of the rim in robust standard deviations, and
by the mean square of the residuals over the usual one."""
NEARBY_PX = 1.0
"""Standard deviation of the Gaussian by which a frame is smoothed to tell the noise of its pixels [pixel]."""
LIGHT_PX = 4.0
"""Standard deviation of the Gaussian by which a star is smoothed to measure its light [pixel]."""
SHARPER = 5.0
"""Peak of a star without image motion over that of the mean, at most."""


class MovingStar:
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
        levels = np.empty(n)
        for i, spectrum in enumerate(self._spectra):
            frame = self._clean.frame(i)
            # the mean of the rim, not its median, is that of the light of photons that are counted
            levels[i] = frame[self._rim].mean()
            spectrum[:] = fft.rfft2(frame * self._edges)
        self._levels = _without_hits(levels).astype(np.float32)
        self._spectra -= self._levels[:, np.newaxis, np.newaxis] * fft.rfft2(self._edges)
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

    def learn(self, grid: ShiftGrid, known: ShiftPosteriors, with_noise: bool) -> None:
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
            # of a frame that has little light where the template has much, single pixels would be far below zero
            counts = ndimage.gaussian_filter(fft.irfft2(self._spectra[i], grid.shape), NEARBY_PX)
            variances[i] = np.sum(slopes**2 * self._scaled.variance(np.maximum(counts, 0))) / 2
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
        window: Float32Array = (self._clean.frame(i) - self._levels[i]) * self._edges
        return window

    def _template_without(self, grid: ShiftGrid, part: int | None) -> Complex64Array:
        total, power, n = self._sums.sum(axis=0), self._powers.sum(axis=0), len(self._spectra)
        if part is not None:
            total, power, n = total - self._sums[part], power - self._powers[part], n - len(range(part, n, FOLDS))
        return _template(grid, total, power, self._white, self._centre, n)

    def _measure_noise(self, grid: ShiftGrid, known: ShiftPosteriors) -> None:
        """Measure the noise from the residuals of some frames."""
        some = _some(len(known.shifts))
        light = fft.irfft2(self._template, grid.shape)
        spectra = [self._template * np.conj(known.factor(grid, i)) for i in some.tolist()]
        models = fft.irfft2(np.stack(spectra), grid.shape)
        windows = np.array([self._window(i) for i in some.tolist()])
        # clouds and scintillation are no noise: the likelihood of a shift does not depend on them
        models *= _light(windows, models, self._scaled)[:, np.newaxis, np.newaxis].astype(np.float32)
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


def _without_hits(levels: Float64Array) -> Float64Array:
    """Return the levels (n,) of frames, of those far above the usual one that: a cosmic ray hit them."""
    if len(levels) < LEAST_FRAMES:
        return levels
    usual = median_of_all(levels)
    return np.where(levels > usual + LEVEL_SIGMA * robust_sigma(levels), usual, levels)


def _light(windows: Float32Array, models: FloatArray, noise: ScaledPhotonNoise) -> Float64Array:
    """Return the light (n,) of the star in each frame over the mean, as far as it scatters by more than noise.

    It is summed with smooth weights: a star of another shape is not one of less light.
    """
    weights = ndimage.gaussian_filter(models, (0, LIGHT_PX, LIGHT_PX))
    scale = np.sum(weights * models, axis=(1, 2), dtype=float)
    if not scale.all():
        return np.ones(len(models))
    light = np.sum(weights * windows, axis=(1, 2), dtype=float) / scale
    mean, scatter = float(light.mean()), float(np.var(light))
    if mean <= 0 or scatter == 0:
        return np.ones(len(models))
    of_noise = np.sum(weights**2 * noise.variance(np.maximum(models, 0)), axis=(1, 2), dtype=float) / scale**2
    share = max(1 - float(of_noise.mean()) / scatter, 0.0)
    found: Float64Array = np.maximum(1 + share * (light / mean - 1), 0)
    return found


def _scaled_noise(windows: Float32Array, models: FloatArray) -> ScaledPhotonNoise | None:
    """Measure the noise from the squared residuals, a straight line of the counts of the star."""
    ny, nx = windows.shape[1:]
    inner = np.s_[:, ny // 8 : ny - ny // 8, nx // 8 : nx - nx // 8]
    light, squared = np.maximum(models[inner], 0), (windows[inner] - models[inner]) ** 2
    by_frame = squared.mean(axis=(1, 2))
    usual = np.ones(len(windows), bool)
    if len(windows) >= LEAST_FRAMES:
        usual = by_frame <= MOST_VARIANCE * median_of_all(by_frame)
    x, y = light[usual].ravel(), squared[usual].ravel()
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

    Both are Wiener filtered, by rings of spatial frequencies. The corners beyond half a cycle per pixel are left out:
    of sharp stars they hold folded light, which does not move with them. Frames that are moved onto a template put
    their noise where its own is, which would grow there until it seems to be a sharp star.
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
    share[-1] = odd[-1] = 0
    spectrum: Complex64Array = ((ring * share)[grid.ring] + rest * odd[grid.ring]) * point
    return spectrum.astype(np.complex64)

"""What the counts of pixels tell of the light on them: sums of products of statistics of the counts and weights.

Where the noise is that of photons, scaled by a gain, the logarithm of the likelihood is the counts times a weight. An
EMCCD multiplies each electron at random: as a Gaussian, its noise has twice the variance of the photons. The true
distribution (Basden, Haniff & Mackay 2003, MNRAS 345, 985; Hirsch et al. 2013, PLoS ONE 8, e53671) tells up to twice as
much where there is less than an electron in a pixel, as one is told from none.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import optimize, special

from obsarchive.science.arrays import Float32Array, Float64Array, FloatArray

MOST_SKY_E = 2.0
"""Background above which single electrons are not told apart [electron/pixel]."""
MOST_LIGHT_E = 10.0
"""Light above which the distribution of the counts is a Gaussian [electron/pixel]."""
MOST_READ_NOISE = 0.4
"""Read noise in gains above which an electron is not told from none."""
LEAST_GAIN_OF_EVIDENCE = 0.02
"""Logarithm of the likelihood per pixel, over that of a Gaussian, with which electrons are seen."""
LARGEST_DEVIATION = 0.02
"""Of the cumulative distribution of the counts from that of multiplied electrons."""
MOST_STEADY = 2.0
"""Variance of the means of pixels, over that of independent counts: stars stay, electrons come and go."""
MOST_COUNTS = 20_000
"""Counts to which the distribution is fitted."""
STRAY_SHARE = 1e-5
"""Probability of counts that have another cause."""
LEVELS, PRODUCTS = 40, 4
"""Levels of light for which the likelihood is computed, and terms of the sum that represents it."""


class PixelNoise(Protocol):
    """Likelihood of the light on a pixel, as sum over terms of statistic times weight."""

    def statistics(self, counts: Float32Array) -> Float32Array:
        """Return the terms (k, ...) of the counts, with a mean of zero on the background."""

    def weights(self, light: FloatArray) -> FloatArray:
        """Return the weights (k, ...) of the terms where there is light above the background [counts]."""

    def means(self, light: FloatArray) -> FloatArray:
        """Return the expected terms (k, ...) where there is light above the background [counts]."""

    def offset(self, light: FloatArray) -> float:
        """Return what the sum over all pixels lacks to the log likelihood: it does not depend on the counts."""


@dataclass(frozen=True)
class ScaledPhotonNoise:
    """Variance of a pixel: that of the background, and its growth with the counts.

    Parameters
    ----------
    background : float
        Variance of the background [counts^2].
    per_count : float
        Variance per count of light.
    """

    background: float
    per_count: float

    def statistics(self, counts: Float32Array) -> Float32Array:
        """Return the counts themselves (1, ...)."""
        return counts[np.newaxis]

    def weights(self, light: FloatArray) -> FloatArray:
        """Return the weights (1, ...) of the counts: with scaled Poisson noise, their sum is the log likelihood."""
        light = np.maximum(light, 0)[np.newaxis]
        if self.per_count <= 0:
            return light / self.background
        weights: FloatArray = np.log1p(self.per_count / self.background * light) / self.per_count
        return weights

    def variance(self, counts: FloatArray) -> FloatArray:
        """Return the variance of pixels by their counts: its sum over many is that of the noise."""
        return self.background + self.per_count * counts

    def means(self, light: FloatArray) -> FloatArray:
        """Return the light itself (1, ...)."""
        return light[np.newaxis]

    def offset(self, light: FloatArray) -> float:
        """Return what the sum over all pixels lacks to the log likelihood: it does not depend on the counts."""
        light = np.maximum(light, 0)
        if self.per_count <= 0:
            return -float(np.sum(light**2)) / 2 / self.background
        sky = self.background / self.per_count
        return float(np.sum(sky * self.weights(light)[0] - light / self.per_count))


@dataclass(frozen=True)
class MultipliedElectrons:
    """Counts of an EMCCD: electrons that are multiplied at random, and read noise.

    Parameters
    ----------
    zero : float
        Counts of a pixel without electrons.
    read_noise : float
        Standard deviation of these [counts].
    gain : float
        Mean counts of an electron.
    sky_e : float
        Electrons of the background in a pixel.
    most_light_e : float
        Most light above it [electron/pixel].
    """

    zero: float
    read_noise: float
    gain: float
    sky_e: float
    most_light_e: float = 10.0

    def density(self, levels_e: Float64Array) -> Float64Array:
        """Return the probability per count of the counts of the `grid` where so many electrons are expected.

        Parameters
        ----------
        levels_e : ndarray (n,)
            Expected electrons of a pixel.

        Returns
        -------
        ndarray (n, m)
            One row a level.
        """
        near, far = self._near, self.grid[len(self._near) :] - self.zero
        step = self.read_noise / 8
        few = np.arange(0, 20 * self.read_noise, step)
        trapezoid = np.full(len(few), step)
        trapezoid[0] /= 2
        none = _normal((near - self.zero) / self.read_noise) / self.read_noise
        kernel = _normal((near[:, np.newaxis] - self.zero - few) / self.read_noise) / self.read_noise
        some = (self._multiplied(few, levels_e) * trapezoid) @ kernel.T
        return np.hstack([np.exp(-levels_e)[:, np.newaxis] * none + some, self._multiplied(far, levels_e)])

    @cached_property
    def grid(self) -> Float64Array:
        """Counts (m,) for which densities are computed."""
        most = self.sky_e + self.most_light_e
        end = self.gain * (most + 6 * np.sqrt(2 * most) + 12)
        beyond = np.geomspace(self._near[-1] - self.zero + self.read_noise / 4, end + 20 * self.read_noise, 250)
        return np.concatenate([self._near, self.zero + beyond])

    def statistics(self, counts: Float32Array) -> Float32Array:
        """Return the terms (k, ...) of the counts, with a mean of zero on the background."""
        place = np.interp(counts, self.grid, np.arange(len(self.grid)))
        return _between(self._terms - self._expected[:, :1], place)

    def weights(self, light: FloatArray) -> FloatArray:
        """Return the weights (k, ...) of the terms where there is light above the background [counts]."""
        return self._at(light, self._basis)

    def means(self, light: FloatArray) -> FloatArray:
        """Return the expected terms (k, ...) where there is light above the background [counts]."""
        return self._at(light, self._expected - self._expected[:, :1])

    def offset(self, light: FloatArray) -> float:
        """Return what the sum over all pixels lacks to the log likelihood: it does not depend on the counts."""
        return float(np.sum(self.weights(light) * self._expected[:, 0, np.newaxis, np.newaxis]))

    def _at(self, light: FloatArray, rows: Float64Array) -> FloatArray:
        first, step = np.log(self._levels[0]), np.log(self._levels[1] / self._levels[0])
        return _between(rows, (np.log(self.sky_e + np.maximum(light, 0) / self.gain) - first) / step)

    @cached_property
    def _near(self) -> Float64Array:
        return self.zero + self.read_noise * np.arange(-10, 12, 0.25)

    @cached_property
    def _levels(self) -> Float64Array:
        return np.geomspace(self.sky_e, self.sky_e + self.most_light_e, LEVELS)

    @cached_property
    def _probabilities(self) -> Float64Array:
        """Probability (levels, m) of the counts around each of the grid."""
        probabilities = self.density(self._levels) * np.gradient(self.grid)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        return probabilities

    @cached_property
    def _evidence(self) -> Float64Array:
        """Logarithm (levels, m) of the likelihood of each level over that of the background."""
        width = np.gradient(self.grid)
        logarithm = np.log(self._probabilities + STRAY_SHARE * width / np.ptp(self.grid))
        evidence: Float64Array = logarithm - logarithm[0]
        evidence[:, -1] = 0.0  # counts beyond have another cause
        return evidence

    @cached_property
    def _basis(self) -> Float64Array:
        """Functions (k, levels) of the light whose combinations are closest to the likelihoods that occur."""
        usual = np.sqrt(self._probabilities.mean(axis=0))
        functions = np.linalg.svd(self._evidence * usual, full_matrices=False)[0]
        return np.ascontiguousarray(functions[:, :PRODUCTS].T)

    @cached_property
    def _terms(self) -> Float64Array:
        return self._basis @ self._evidence

    @cached_property
    def _expected(self) -> Float64Array:
        return self._terms @ self._probabilities.T

    def _multiplied(self, counts: Float64Array, levels_e: Float64Array) -> Float64Array:
        """Probability (n, m) per count above zero of at least one electron, without read noise."""
        charge, level = counts / self.gain, levels_e[:, np.newaxis]
        product = np.sqrt(np.maximum(charge * level, 1e-12))
        near = np.exp(-((np.sqrt(level) - np.sqrt(charge)) ** 2))
        density: Float64Array = level / product * special.ive(1, 2 * product) * near / self.gain
        return density


def _between(rows: Float64Array, place: FloatArray) -> Float32Array:
    """Return the values of rows (k, m) at places (...) between their cells, linearly interpolated."""
    place = np.clip(place, 0, rows.shape[1] - 1)
    cell = np.minimum(place.astype(np.intp), rows.shape[1] - 2)
    rest = (place - cell).astype(np.float32)
    steps = np.diff(rows).astype(np.float32)
    values: Float32Array = rows.astype(np.float32)[:, cell] + steps[:, cell] * rest
    return values


def _normal(deviation: Float64Array) -> Float64Array:
    density: Float64Array = np.exp(-0.5 * deviation**2) / np.sqrt(2 * np.pi)
    return density


def multiplied_electrons(counts: FloatArray) -> MultipliedElectrons | None:
    """Fit the distribution of the counts of pixels under the same faint light.

    Parameters
    ----------
    counts : ndarray (n, m)
        Of m pixels of the background, in n frames.

    Returns
    -------
    MultipliedElectrons, optional
        None where the counts are not those of an EMCCD, or of too much light for single electrons to be seen.
    """
    if len(counts) * np.var(counts.mean(axis=0)) > MOST_STEADY * np.var(counts):
        return None
    counts = np.sort(counts.ravel()[:: max(1, counts.size // MOST_COUNTS)])
    first = _first_guess(counts)
    if first is None:
        return None

    def made(values: Float64Array) -> MultipliedElectrons:
        noise, gain, sky = np.exp(values[1:])
        return MultipliedElectrons(float(values[0]) * first.read_noise, float(noise), float(gain), float(sky), 1.0)

    def cost(values: Float64Array) -> float:
        return -_mean_logarithm(made(values), counts)

    start = np.array([first.zero / first.read_noise, *np.log([first.read_noise, first.gain, first.sky_e])])
    steps = np.vstack([start, start + np.diag([0.3, 0.15, 0.2, 0.3])])
    found = optimize.minimize(
        cost, start, method="Nelder-Mead", options={"initial_simplex": steps, "xatol": 0.01, "fatol": 1e-5}
    )
    fitted = made(found.x)
    gaussian = -np.log(float(np.std(counts)) * np.sqrt(2 * np.pi)) - 0.5
    is_seen = -found.fun - gaussian > LEAST_GAIN_OF_EVIDENCE and fitted.read_noise < MOST_READ_NOISE * fitted.gain
    return fitted if is_seen and fitted.sky_e < MOST_SKY_E and _deviation(fitted, counts) < LARGEST_DEVIATION else None


def _first_guess(counts: FloatArray) -> MultipliedElectrons | None:
    """Zero from the densest tenth of the sorted counts, read noise from those below, gain from those far above."""
    width = max(len(counts) // 10, 2)
    densest = int(np.argmin(counts[width:] - counts[:-width]))
    zero = float(counts[densest + width // 2])
    below = counts[counts < zero] - zero
    read_noise = float(np.sqrt(np.mean(below**2))) if below.size else 0.0
    above = counts[counts > zero + 5 * read_noise] - zero - 5 * read_noise
    light = float(counts.mean()) - zero
    if read_noise <= 0 or above.size < len(counts) / 1000 or light <= 0:
        return None
    gain = float(above.mean())
    sky = light / gain
    return MultipliedElectrons(zero, read_noise, gain / (1 + min(sky, 2.0) / 2), sky, 1.0)


def _mean_logarithm(model: MultipliedElectrons, counts: FloatArray) -> float:
    density = model.density(np.array([model.sky_e]))[0]
    floor = STRAY_SHARE / np.ptp(model.grid)
    return float(np.mean(np.interp(counts, model.grid, np.log(density + floor), right=np.log(floor))))


def _deviation(model: MultipliedElectrons, counts: FloatArray) -> float:
    """Largest difference of the cumulative distributions of model and counts."""
    density = model.density(np.array([model.sky_e]))[0]
    steps = np.diff(model.grid) * (density[1:] + density[:-1]) / 2
    expected = np.interp(counts, model.grid[1:], np.cumsum(steps), left=0.0, right=1.0)
    return float(np.max(np.abs(expected - (np.arange(len(counts)) + 0.5) / len(counts))))

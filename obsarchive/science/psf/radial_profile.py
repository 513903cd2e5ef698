"""Radial profile of a star: background, noise and flux.

Beyond the core the shape of a star is that of the middle half of the sectors of each ring, so that a companion, a
cosmic ray, bad pixels or the edge of the image have no influence. Its light is that of all sectors without a companion:
speckles and the rays of vanes are bright in few of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import AnyArray, BoolArray, Float64Array, FloatArray, IntArray
from obsarchive.science.psf.model import aperture_weights
from obsarchive.science.statistics import median_of_all, robust_sigma

ANNULUS = 1.4
"""Outer radius of the background annulus that surrounds the aperture, in units of the aperture."""

CORE_FWHM = 3.0
"""Radius of the core, whose pixels are used individually, in units of the diffraction limit."""

_SECTORS = 16
_COMPANION_SIGMA = 4.0
"""Excess of a sector with a companion over the other sectors [their standard deviations]."""

_WING, _WING_SIGMA = -10 / 3, 0.19
"""Exponent of the wings and its error, before the image is asked: any value between that of turbulence, -11/3
(Kolmogorov), and that of diffraction, -3, is as likely."""
_EXPONENTS = np.linspace(-2.5, 2.5, 13)
"""Those that are tried, from it [its errors]."""
_BENT = 0.05
"""Error of the exponent because no wings are a power law, from stars by Fourier optics."""

_WING_FROM = 0.6
"""Inner radius of the fit of the wings, in units of the aperture."""
_SHARED = 4
"""Distance of rings that may share a speckle, in widths of the core."""
_UNEVEN = 0.3
"""Error of the flux, over the difference between all sectors and the middle half of them."""


@dataclass(frozen=True)
class _Level:
    """Level of the background: its error by the wings of the star, and its variance by pixels of variance 1."""

    value: float
    error: float
    share: float


class StarProfile:
    """A star cut out of its image, background-subtracted.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image; NaN marks missing pixels.
    position : (int, int)
        Central pixel (row, column) of the star.
    aperture_px, core_px : float
        Radii of the aperture and of the core [pixel].
    doubts : sequence of ndarray (ny, nx)
        Standard error of the light of each neighbour, the pixels of one wrong alike.

    Attributes
    ----------
    box : ndarray
        Square cut-out that reaches to the end of the background annulus, NaN beyond the image.
    image : ndarray, same shape
        Background-subtracted cut-out, missing pixels filled from the profile.
    profile : ndarray
        Mean by radius in whole pixels.
    noise : float
        Rms noise of a pixel of the background.
    background : float
        Level of the background that is subtracted.
    flux : float
        Flux in the aperture.
    """

    def __init__(
        self,
        image: FloatArray,
        position: tuple[int, int],
        aperture_px: float,
        core_px: float,
        doubts: Sequence[Float64Array] = (),
    ) -> None:
        half = int(ANNULUS * aperture_px)
        self.aperture_px = aperture_px
        self.core_px = core_px
        self.box = cut_out(image, position, half)
        self._doubts = [np.nan_to_num(cut_out(doubt, position, half)) for doubt in doubts]
        self._rings, self._sectors = _polar(half)
        self._weights = aperture_weights(self.box.shape, half, half, aperture_px)
        means, self._counts = self._sector_means(self._rings)
        # sectors that are brighter than the others hold companions
        excess = self._sector_excess(means)
        companion = excess - median_of_all(excess) > _COMPANION_SIGMA * _spread(excess)
        self._is_companion = companion
        self._dropped = float(excess[companion].sum()) / _SECTORS
        means = np.where(companion, np.nan, means)
        self._light = _mean(means)
        self._level = self._wings(self._light)
        self.background = self._level.value
        self.profile = np.nan_to_num(_midmean(means - self.background))
        # missing pixels and halo are those of a symmetric star; only the core is summed pixel by pixel
        symmetric = self.profile[self._rings]
        self.image = np.where(self._seen, self.box - self.background, symmetric)
        self.noise = _spread(self.box[self._seen & (self._rings > aperture_px) & (self._rings <= half)])
        self._area = np.bincount(self._rings.ravel(), self._weights.ravel())
        # the flux in the aperture: pixels of the core, and rings beyond it
        self._area[: int(np.ceil(core_px))] = 0
        self.flux = float(np.sum(self.core) + self._area @ np.nan_to_num(self._light - self.background))
        self._means = means

    def flux_error(self, variance: Float64Array) -> float:
        """Return the error of the flux, by noise of this variance of each pixel of the box [unit of the image ** 2].

        It is that of the pixels, that of the background's level, and a part of the difference between all sectors and
        the middle half of them, which companions that are not seen make larger, and that of light that was left out or
        subtracted because it seems to be that of others.
        """
        pixels = float(np.sum(self._weights**2 * variance))
        level = self.level_error(variance) * float(self._weights.sum())
        uneven = _UNEVEN * float(self._area @ self.skewness)
        # a sector that is brighter than the others may as well hold a speckle of the star
        subtracted = [float(np.sum(self._weights * doubt)) for doubt in self._doubts]
        terms = level, uneven, self._dropped, *subtracted
        return float(np.sqrt(pixels + np.sum(np.square(terms))))

    @cached_property
    def skewness(self) -> Float64Array:
        """Mean of all sectors of each ring minus that of their middle half, which speckles make smaller."""
        skewness: Float64Array = np.nan_to_num(_mean(self._means) - _midmean(self._means))
        return skewness

    def level_error(self, variance: Float64Array) -> float:
        """Return the error of the background by noise of this variance of each pixel, and by the shape of the wings."""
        outside = self._rings > self.aperture_px
        noise = median_of_all(variance[outside]) * self._level.share if outside.any() else 0.0
        return float(np.hypot(np.sqrt(noise), self._level.error))

    @property
    def core(self) -> Float64Array:
        """Pixels of the core."""
        pixels: Float64Array = self.image[self._rings < self.core_px]
        return pixels

    @property
    def peak_snr(self) -> float:
        """Brightest pixel of the core over the background noise of a pixel."""
        peak = float(np.max(self.core))
        return float(peak / self.noise) if self.noise > 0 else float(np.inf if peak > 0 else 0)

    @property
    def saturated(self) -> bool:
        """Whether more pixels of the core share the highest value than symmetry explains."""
        core = self.box[self._rings < self.core_px]
        return int(np.count_nonzero(core == np.nanmax(core))) > 4

    @property
    def missing_share(self) -> float:
        """Share of the aperture without pixels."""
        return float(1 - np.sum(self._weights * self._seen) / np.sum(self._weights))

    @property
    def centre_missing(self) -> bool:
        """Whether pixels are missing within the diffraction limit."""
        return not np.all(self._seen[self._rings < self.core_px / CORE_FWHM])

    @property
    def patch(self) -> Float64Array:
        """Inner part of the image, twice as wide as the core."""
        half = len(self.box) // 2
        reach = min(half, int(2 * self.core_px))
        return self.image[half - reach : half + reach + 1, half - reach : half + reach + 1]

    def samples(
        self, dy: float, dx: float, variance: Float64Array
    ) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array, Float64Array]:
        """Return the profile for a fit: the pixels of the core, then the rings of the halo.

        Parameters
        ----------
        dy, dx : float
            Centre of the star from its brightest pixel [pixel].
        variance : ndarray
            Of each pixel of the box.

        Returns
        -------
        radius, value, weight, noise : ndarray (n,)
            Distance from the centre [pixel], value above the background (in the halo the mean of all sectors), square
            root of the number of pixels, and noise of the value.
        doubts : ndarray (k, n)
            Errors of the values by each of the neighbours, and by sectors that were left out.
        """
        core = self._rings < self.core_px
        # about the highest point as the core is: rings about its pixel, up to half a pixel off, look narrower
        offset = np.arange(len(self.box)) - len(self.box) // 2
        distance = np.hypot((offset - dy)[:, np.newaxis], offset - dx)
        nearest = np.rint(distance).astype(np.int64)
        means, _ = self._sector_means(nearest)
        everything = _mean(means)
        means[:, self._is_companion] = np.nan
        rings = np.arange(int(np.ceil(self.core_px)), int(self.aperture_px))
        value = np.nan_to_num(_mean(means) - self.background)
        count, radius, noise = (
            np.bincount(nearest.ravel(), values.ravel())[rings]
            for values in (np.ones(distance.shape), distance, variance)
        )
        doubts = [
            np.concatenate([doubt[core], np.bincount(nearest.ravel(), doubt.ravel())[rings] / count])
            for doubt in self._doubts
        ]
        if self._is_companion.any():
            # what is brighter than the other sectors may as well be speckles of the star, whose halo they are then
            left_out = np.nan_to_num(everything - _mean(means))[rings]
            doubts.append(np.concatenate([np.zeros(int(core.sum())), left_out]))
        return (
            np.concatenate([distance[core], radius / count]),
            np.concatenate([self.image[core], value[rings]]),
            np.concatenate([np.ones(int(core.sum())), np.sqrt(2 * np.pi * rings)]),
            np.sqrt(np.concatenate([variance[core], noise / count**2])),
            np.array(doubts).reshape(len(doubts), len(count) + int(core.sum())),
        )

    @cached_property
    def _seen(self) -> BoolArray:
        return np.isfinite(self.box)

    def _sector_means(self, rings: IntArray) -> tuple[Float64Array, Float64Array]:
        """Return the mean of every ring and sector, NaN without pixels, and the number of pixels of every ring."""
        # histograms of cell numbers: sums of all sectors in one pass
        cell = (rings * _SECTORS + self._sectors)[self._seen]
        cells = (rings.max() + 1) * _SECTORS
        sums = np.bincount(cell, self.box[self._seen], cells).reshape(-1, _SECTORS)
        counts = np.bincount(cell, minlength=cells).reshape(-1, _SECTORS)
        return _quotient(sums, counts), counts.sum(axis=1).astype(float)

    def _wings(self, profile: Float64Array) -> _Level:
        """Return the level under the wings of the star, which reach beyond any annulus.

        The annulus alone would overestimate it: it is fitted together with wings of many exponents, and the mean of
        what was found, by how well each fits and how likely it is beforehand.
        """
        ring = np.arange(int(_WING_FROM * self.aperture_px), len(self.box) // 2 + 1)
        ring = ring[(self._counts[ring] > 0) & np.isfinite(profile[ring])]
        weight, value = self._counts[ring], profile[ring]
        annulus = ring > self.aperture_px
        if not annulus.any():
            raise Unprocessable(
                f"the sky around the star is not known: expected finite pixels at {self.aperture_px:.0f} pixels "
                "and more from it, found none"
            )
        wings = (ring / self.aperture_px) ** (_WING + _WING_SIGMA * _EXPONENTS)[:, np.newaxis]
        total, middle = weight.sum(), wings @ weight / weight.sum()
        mean = float(np.average(value, weights=weight))
        slope = (wings - middle[:, np.newaxis]) @ (weight * (value - mean))
        spread = ((wings - middle[:, np.newaxis]) ** 2) @ weight
        levels = mean - slope / spread * middle
        usual = len(_EXPONENTS) // 2
        share = float(1 / total + middle[usual] ** 2 / spread[usual])
        # no wings above the noise: the plain mean of the annulus has the smaller error
        if slope[usual] < 0:
            return _Level(float(np.average(value[annulus], weights=weight[annulus])), 0.0, share)
        squares = float(weight @ (value - mean) ** 2)
        # an image without noise leaves nothing
        left = np.maximum(squares - slope**2 / spread, 1e-12 * squares + np.finfo(float).tiny)
        best = int(np.argmin(left))
        residuals = np.sqrt(weight) * (value - mean - slope[best] / spread[best] * (wings[best] - middle[best]))
        likely = np.exp(-0.5 * (self._independent(residuals) * (left / left.min() - 1) + _EXPONENTS**2))
        level = float(np.average(levels, weights=likely))
        variance = float(np.average((levels - level) ** 2, weights=likely))
        bent = _BENT * float(np.gradient(levels, _WING_SIGMA * _EXPONENTS)[usual])
        return _Level(level, float(np.hypot(np.sqrt(variance), bent)), share)

    def _independent(self, residuals: Float64Array) -> float:
        """Return how many of the rings of a fit are independent: more of noise than of speckles, which rings share."""
        width = self.core_px / CORE_FWHM
        squares = max(float(residuals @ residuals), np.finfo(float).tiny)
        lags = range(1, min(int(_SHARED * width), len(residuals) - 1) + 1)
        shared = sum(max(float(residuals[:-lag] @ residuals[lag:]) / squares, 0.0) for lag in lags)
        return len(residuals) / min(1 + 2 * shared, width)

    def _sector_excess(self, means: Float64Array) -> Float64Array:
        """Return the flux of every sector beyond the core, scaled to the whole circle, minus that of the profile."""
        area = np.bincount(self._rings.ravel(), self._weights.ravel())
        area[: int(np.ceil(self.core_px))] = 0
        excess = np.nan_to_num(means - _midmean(means)[:, None])
        return area @ excess


def cut_out(image: FloatArray, position: tuple[int, int], half: int) -> Float64Array:
    """Return a square of side ``2 * half + 1`` around a pixel, NaN beyond the image and where it is not finite."""
    box = np.full((2 * half + 1, 2 * half + 1), np.nan)
    top, left = position[0] - half, position[1] - half
    y, x = max(top, 0), max(left, 0)
    part = image[y : top + len(box), x : left + len(box)]
    box[y - top : y - top + part.shape[0], x - left : x - left + part.shape[1]] = part
    box[np.isinf(box)] = np.nan
    return box


@lru_cache(maxsize=4)
def _polar(half: int) -> tuple[IntArray, IntArray]:
    """Return ring (radius rounded to whole pixels) and sector of every pixel of a square of side ``2 * half + 1``."""
    offset = np.arange(-half, half + 1)
    rings = np.rint(np.hypot(offset[:, None], offset)).astype(np.int64)
    turns = np.arctan2(offset[:, None], offset) / (2 * np.pi) + 0.5
    return rings, (turns * _SECTORS).astype(np.int64) % _SECTORS


def _quotient(sums: AnyArray, counts: AnyArray) -> Float64Array:
    """Return the quotient, NaN where the divisor is not positive."""
    quotient: Float64Array = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return quotient


def _mean(values: Float64Array) -> Float64Array:
    """Return the mean of every row without its NaNs (NaN for an empty row)."""
    return _quotient(np.nansum(values, axis=1), np.isfinite(values).sum(axis=1))


def _midmean(values: Float64Array) -> Float64Array:
    """Return the mean of the middle half of every row without its NaNs (NaN for an empty row)."""
    ordered = np.sort(values, axis=1)  # NaN last
    n = np.count_nonzero(np.isfinite(values), axis=1)[:, None]
    rank = np.arange(values.shape[1])
    # ranks of the n finite values: NaNs are sorted last
    middle = (rank >= n // 4) & (rank < n - n // 4)
    return _quotient(np.where(middle, ordered, 0).sum(axis=1), np.count_nonzero(middle, axis=1))


def _spread(values: Float64Array) -> float:
    """Return the standard deviation from the median absolute deviation; 0 for no values."""
    return robust_sigma(values) if values.size else 0.0

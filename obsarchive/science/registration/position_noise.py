"""How noise moves the position of a star in a frame, and the errors of positions in the frames of a sequence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from obsarchive.science.arrays import Float32Array, Float64Array, FloatArray
from obsarchive.science.registration.noise_choice import DROP_VARIANCE, CoreChoice
from obsarchive.science.registration.photon_transfer import LEAST_RINGS, grain_of_rings
from obsarchive.science.registration.rival_peaks import RivalPeak
from obsarchive.science.registration.windows import cut, rim
from obsarchive.science.statistics import median_of_all, robust_sigma

GRAIN_HALF_PX = 15
"""Half side of the square in which noise is compared with light [pixel]."""
SIXTH_DIFFERENCES = 924.0
"""Sum of the squared coefficients of the sixth difference."""
RIM_PARTS, MOST_OF_PART = 16, 4.0
"""Parts of the rim of a window, and the variance of one, over the median, from which on it holds a star."""
MOST_VARIANCE, MOST_EXCESS, LEAST_FRAMES = 3.0, 6.0, 10
"""Variance of the background over the usual one, and excess of a frame in robust standard deviations, beyond which
there was a cosmic ray; frames without which it cannot be told."""


@dataclass(frozen=True)
class PositionNoise:
    """How noise moves the position of a star in a frame.

    Attributes
    ----------
    sky : ndarray (2, 2)
        Covariance (y, x) of the position by the noise of the background [pixel^2].
    light : ndarray (2, 2)
        The same by the noise of the light itself, of unit `grain` [pixel^2 / counts].
    variance : float
        Of a pixel of the background [counts^2].
    lift : float
        Height of a narrow peak at the position found that is noise, as noise moves the position to where it is high, by
        noise of variance 1 of a pixel [1 / counts].
    excess, total : float
        Around the star the variance of the noise beyond that of the background [counts^2], and the light
        [counts/pixel]: their quotient is the grain, the variance by one count of light.
    rival : RivalPeak or None
        Another peak, or the end of a ridge, that is nearly as high: the true place may be there.
    rings : ndarray (k, 4) or None
        Of pixels wider than half of lambda / D, whose finest frequencies hold light: see `sums_of_rings`.
    folded : float
        Of these pixels: `folded_share`.
    from_whole : ndarray (2,) or None
        From the centroid of the whole star (y, x) to its core, where that is the position; None where it is not, or
        where the whole star was not measured [pixel].
    phase : ndarray (2,) or None
        Standard error (y, x) of the correction for where in a pixel the star is; None without one [pixel].
    choice : CoreChoice or None
        Between core and centroid; None where there was none.
    height : float or None
        Of the smoothed window at the position, where that is a centroid; None where it is the peak [counts/pixel].
    """

    sky: Float64Array
    light: Float64Array
    variance: float
    lift: float
    excess: float
    total: float
    rival: RivalPeak | None = None
    rings: Float64Array | None = None
    folded: float = 0.0
    from_whole: Float64Array | None = None
    phase: Float64Array | None = None
    choice: CoreChoice | None = None
    height: float | None = None

    @property
    def grain(self) -> float:
        """Variance of the noise by one count of light, as this frame alone has it [counts]."""
        return max(self.excess / self.total, 0.0) if self.total > 0 else 0.0

    def within(self, reach_px: float) -> "PositionNoise":
        """Return the noise of a star that is known to be the right one of several, which are further away."""
        is_other = self.rival is not None and np.hypot(*self.rival.offset) > reach_px
        return replace(self, rival=None if is_other else self.rival, from_whole=None)

    def lifts(self, grain: float) -> Float64Array:
        """Return the heights (2,) at the position that are noise, by noise of variance 1 of a pixel [1 / counts].

        The first is of a narrow peak in a hollow, the second of a peak without one, see `aligned_noise`: what moved the
        position, and what made it this one of two places.

        Parameters
        ----------
        grain : float
            Variance of the noise by one count of light [counts].
        """
        by_rival = self.rival.lift(self.variance, grain) if self.rival else 0.0
        in_hollow, alone = self.choice.lifts(self.variance, grain) if self.choice else (0.0, 0.0)
        return np.array([self.lift + in_hollow, by_rival + alone])

    def covariance(self, grain: float) -> Float64Array:
        """Return the covariance of the position (2, 2) with noise of this variance by one count of light [pixel^2]."""
        found = self.sky + grain * self.light
        if self.phase is not None:
            found = found + np.diag(self.phase**2)
        return found if self.rival is None else found + self.rival.covariance(self.variance, grain)


def position_errors(noises: Sequence[PositionNoise | None]) -> Float64Array:
    """Compute the errors of the positions of a star in the frames of a sequence.

    They are those of the peak of the image that was recorded, by the noise of its background and of its light, and by
    the chance that another peak would be the highest one without noise; how far turbulence moves the peak of a frame
    from the star is no error of it. In a frame without a core the position is a centroid, of which most other frames
    may know nothing: where they have cores, these scatter about the centroids, and so much is the centroid uncertain.

    How noise grows with the light (by the gain, and by the register of an electron-multiplying CCD) is measured in all
    frames together, in the spatial frequencies that the telescope does not transmit. Pixels wider than half of
    lambda / D have none of these: the noise of the light is told from its speckles, and errors hold what the light that
    such pixels fold back does to the peak (`folded_share`). Amplitudes of core and speckles add up, so that the square
    of a core in speckles is uncertain by twice the product of both.

    Parameters
    ----------
    noises : sequence of n PositionNoise or None
        Of every frame; None without a star.

    Returns
    -------
    ndarray (n, 2)
        Standard errors (y, x) [pixel]; NaN without a star.
    """
    known = without_cosmic_rays([noise for noise in noises if noise is not None])
    grain, speckles = noise_and_speckles(known)
    covariances = [noise.covariance(grain + 2 * noise.folded * speckles) for noise in known]
    variances = np.array([np.diag(covariance) for covariance in covariances]).reshape(-1, 2)
    apart = [noise.from_whole for noise in known if noise.from_whole is not None]
    if 2 * len(apart) > len(known):
        has_core = np.array([noise.from_whole is not None for noise in known])
        scatter = np.mean(np.square(apart), axis=0) - np.mean(variances[has_core], axis=0)
        variances[~has_core] += np.maximum(scatter, 0)
    errors = np.full((len(noises), 2), np.nan)
    errors[[noise is not None for noise in noises]] = np.sqrt(np.maximum(variances, 0))
    return errors


def without_cosmic_rays(noises: Sequence[PositionNoise]) -> list[PositionNoise]:
    """Return the noise of frames, of those that a cosmic ray hit as the others have it: it is no noise of the star.

    A single one would be most of the noise of all frames, or, where it hit the rim of a window, hide that of the light.

    Parameters
    ----------
    noises : sequence of PositionNoise
        Of the frames that show a star.

    Returns
    -------
    list of PositionNoise
        Of as many; `noises` themselves where they are few.
    """
    if len(noises) < LEAST_FRAMES:
        return list(noises)
    variance, excess, total = (
        np.array([getattr(noise, name) for noise in noises]) for name in ("variance", "excess", "total")
    )
    usual, light = median_of_all(variance), median_of_all(total)
    expected = total * (median_of_all(excess) / light) if light > 0 else np.zeros(len(total))
    is_hit = (variance > MOST_VARIANCE * usual) | (excess - expected > MOST_EXCESS * robust_sigma(excess - expected))
    return [
        replace(noise, sky=noise.sky * min(usual / noise.variance, 1.0), variance=usual, excess=by_light, rings=None)
        if hit and noise.variance > 0
        else noise
        for noise, hit, by_light in zip(noises, is_hit.tolist(), expected.tolist(), strict=True)
    ]


def noise_and_speckles(noises: Sequence[PositionNoise]) -> tuple[float, float]:
    """Return the variances by one count of light, from all frames of a star; 0 where none is seen.

    Parameters
    ----------
    noises : sequence of PositionNoise
        Of the frames that show it.

    Returns
    -------
    (float, float)
        By noise, and at the core by speckles that pixels wider than half of lambda / D do not resolve [counts]. Windows
        too small to tell them apart have all of it as noise, which is too much.
    """
    rings = [noise.rings for noise in noises if noise.rings is not None and len(noise.rings) >= LEAST_RINGS]
    if rings:
        k = min(len(sums) for sums in rings)
        together = np.sum([sums[:k] for sums in rings], axis=0)
        return grain_of_rings(together, float(np.mean([noise.variance for noise in noises])))
    total = sum(noise.total for noise in noises)
    return max(sum(noise.excess for noise in noises) / total, 0.0) if total > 0 else 0.0, 0.0


def position_noise(
    image: Float32Array, place: tuple[float, float], terms: FloatArray, sigma_px: float
) -> PositionNoise | None:
    """Compute the noise of a position: slopes of the noise over the curvature of the smoothed peak.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Window around the star, above its background [counts].
    place : (float, float)
        Highest point (y, x) of the smoothed window [pixel].
    terms : ndarray (3, 3)
        Derivatives of the smoothed window there, of orders a in y and b in x.
    sigma_px : float
        Of the Gaussian that smooths [pixel].

    Returns
    -------
    PositionNoise or None
        None where there is no maximum.
    """
    curvature = -np.array([[terms[2, 0], terms[1, 1]], [terms[1, 1], terms[0, 2]]], float)
    if least_and_greatest(curvature)[0] <= 0:
        return None
    part, (top, left) = cut(image, *place, int(np.ceil(3.5 * sigma_px)))
    y, x = np.arange(part.shape[0]) + top - place[0], np.arange(part.shape[1]) + left - place[1]
    # slopes of a Gaussian are products of a function of y and one of x, so sums over pixels are products of vectors
    along_y, along_x = (_moments_of_gaussian(axis, sigma_px) for axis in (y, x))
    unit = (2 * np.pi * sigma_px**4) ** 2
    variance = _rim_variance(image)
    (a, b, c), determinant = (curvature[0, 0], curvature[0, 1], curvature[1, 1]), float(np.linalg.det(curvature))
    inverse = np.array([[c, -b], [-b, a]]) / determinant
    white = _products(along_y, np.ones(part.shape), along_x) / unit
    by_light = _products(along_y, part, along_x) / unit
    # slopes of noise under the Gaussian, times those under a drop: white noise through both, over that through two
    # Gaussians
    narrow = 4 / (1 + DROP_VARIANCE / sigma_px**2) ** 2
    around, _ = cut(image, *place, GRAIN_HALF_PX)
    fine = finest(around)
    return PositionNoise(
        sky=variance * inverse @ white @ inverse,
        light=inverse @ by_light @ inverse,
        variance=variance,
        lift=narrow * float(np.trace(white @ inverse)),
        excess=float(np.mean(fine**2)) - variance,
        total=float(around[3:-3, 3:-3].mean()),
    )


def _moments_of_gaussian(offsets: FloatArray, sigma_px: float) -> FloatArray:
    """Return a squared Gaussian at offsets (n,) from its centre, times their powers 0 to 2; (3, n)."""
    moments: FloatArray = np.exp(-((offsets / sigma_px) ** 2)) * offsets ** np.arange(3)[:, np.newaxis]
    return moments


def _products(along_y: FloatArray, image: FloatArray, along_x: FloatArray) -> Float64Array:
    """Return the sums (2, 2) of an image times the products of two slopes, of which each is along y or x."""
    terms = along_y @ image @ along_x.T
    return np.array([[terms[2, 0], terms[1, 1]], [terms[1, 1], terms[0, 2]]])


def least_and_greatest(symmetric: FloatArray) -> tuple[float, float]:
    """Return the eigenvalues of a symmetric matrix (2, 2), the smaller one first."""
    a, b, c = float(symmetric[0, 0]), float(symmetric[0, 1]), float(symmetric[1, 1])
    middle, half = (a + c) / 2, math.hypot((a - c) / 2, b)
    return middle - half, middle + half


def _rim_variance(image: Float32Array) -> float:
    """Return the variance of the rim of a window without parts that hold another star.

    Of single electrons a median deviation would know nothing, and of very few the median part.
    """
    pixels = rim(image).astype(np.float64)
    parts = pixels[: RIM_PARTS * (len(pixels) // RIM_PARTS)].reshape(RIM_PARTS, -1)
    variances = parts.var(axis=1)
    usual = MOST_OF_PART * median_of_all(variances)
    return float(variances[variances <= usual].mean() if usual > 0 else variances.mean())


def finest(image: Float32Array) -> Float64Array:
    """Return the sixth differences along both axes, in which white noise keeps its variance.

    Of a well-sampled camera's image they hold noise alone: the telescope does not transmit what varies so fast along
    diagonals.
    """
    ny, nx = image.shape
    return _sixth_differences(ny) @ image @ _sixth_differences(nx).T / SIXTH_DIFFERENCES


@lru_cache(maxsize=16)
def _sixth_differences(n: int) -> Float64Array:
    """Return the matrix (n - 6, n) that takes the sixth difference of n values."""
    return np.diff(np.eye(n), 6, axis=0)

"""Noise of a stack around a star, of its background and of its light, from its frames or from the stack alone.

The pixels of a drizzled stack are finer than the telescope resolves: what varies from pixel to pixel along diagonals is
noise. Its variance, compared with the light, tells how noise grows with it, whatever gain and register of the camera
are; the square responses that it has passed tell how much of it is at the frequencies of the star. Frames that cover
the pixels unevenly leave a pattern of the star's light, too: where the frames are known, their noise is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from obsarchive.science.arrays import Float64Array
from obsarchive.science.registration.frame_measure import FrameMeasure
from obsarchive.science.registration.position_noise import noise_and_speckles, without_cosmic_rays
from obsarchive.science.statistics import robust_sigma

UNEVEN = 2.5
"""Factor on the error by uneven coverage, which is of first order in it: from simulated sequences of 10 to 60."""

UNEVEN_LEFT = 0.4
"""Share of it that is left where `coverage` is known: 0.39 for sequences of 12 by Fourier optics."""

LIFT_ERROR = 0.3
"""Relative error of the height by aligned noise: of faint stars by Fourier optics the noise is found to be 5 to 15 %
too small, and the curvature of the peaks, which noise has chosen, up to 25 % too large."""

BLOCK_PX, LEAST_BLOCKS = 4, 20
_DIFFERENCES = 6
_SAMPLES = 128
_TINY = np.finfo(float).tiny
_ROUNDS = 4
"""The light is what the profile is without the aligned noise."""


@dataclass(frozen=True)
class StackNoise:
    """Density of the noise before the responses of a stack, as the variance of a pixel.

    Attributes
    ----------
    sky : float
        Of the background [unit of the image ** 2].
    grain : float
        Of one unit of light [unit of the image].
    lift : float
        Height of the star's peak that is noise of the background, because the frames are aligned where their noise is
        high [unit of the image].
    light_lift : float
        The same by the noise of the light, in units of the peak without it.
    chosen, light_chosen : float
        The same where noise chose between two places of a frame, as far as it is a peak without a hollow around it.
    lift_error : float
        Relative error of the heights that are noise.
    sampling : float
        Relative error of the peak by frames of unequal sharpness that cover the pixels unevenly.
    offset : (float, float)
        How far (y, x) the star is from its place, because frames cover the pixels unevenly, see `uneven_coverage`
        [pixel].
    coverage : float or None
        Relative change of the peak by it, of the same; None where it is not known.
    widening : float
        Relative change of the FWHM by it, of the same; 0 where it is not known.
    n_places : int
        Number of frames, as far as they are at different places in a pixel.
    """

    sky: float
    grain: float
    lift: float = 0.0
    sampling: float = 0.0
    offset: tuple[float, float] = (0.0, 0.0)
    light_lift: float = 0.0
    chosen: float = 0.0
    light_chosen: float = 0.0
    lift_error: float = LIFT_ERROR
    coverage: float | None = None
    widening: float = 0.0
    n_places: int = 1

    @property
    def left(self) -> float:
        """Relative error of the peak by uneven coverage, once it is corrected."""
        return self.sampling if self.coverage is None else UNEVEN_LEFT * self.sampling

    def variance(self, light: Float64Array) -> Float64Array:
        """Return the variance at pixels of so much light [unit of the image ** 2]."""
        density: Float64Array = self.sky + self.grain * np.maximum(light, 0)
        return density


def noise_of_frames(measures: Sequence[FrameMeasure], scale: int, pixfrac: float) -> StackNoise:
    """Compute the noise of the stack of frames that were aligned on their star.

    Parameters
    ----------
    measures : sequence of n FrameMeasure
        The star in the frames of the stack.
    scale : int
        Pixels of the stack per pixel of a frame along each axis.
    pixfrac : float
        Side of the drizzled drops [pixel of a frame].

    Returns
    -------
    StackNoise
        For a stack in counts per pixel of its own.
    """
    known = without_cosmic_rays([m.noise for m in measures if m.noise is not None])
    n = max(len(known), 1)
    grain, speckles = noise_and_speckles(known)
    sky = float(np.mean([noise.variance for noise in known])) if known else 0.0
    peaks = np.array([m.peak for m in measures if m.noise is not None])
    # the stack has of a frame what is at its position, which need not be the peak
    placed = sum(m.peak if m.noise.height is None else m.noise.height for m in measures if m.noise is not None)
    # frames are aligned on what their pixels fold back, too
    lifting = np.array([grain + 2 * noise.folded * speckles for noise in known])
    lifts = np.array([noise.lifts(by_light) for noise, by_light in zip(known, lifting, strict=True)]).reshape(-1, 2)
    variances = np.array([noise.variance for noise in known])
    lift, chosen = (variances @ lifts / (n * scale**2)).tolist()
    light_lift, light_chosen = ((lifting * peaks / placed) @ lifts).tolist() if placed > 0 else (0.0, 0.0)
    # noise chose between places in few of the frames
    heights = (variances + lifting * np.maximum(peaks, 0))[:, np.newaxis] * lifts
    moved = np.array([noise.lift for noise in known]) * (variances + lifting * np.maximum(peaks, 0))
    few = np.sqrt(np.sum((heights.sum(axis=1) - moved) ** 2)) / max(np.sum(heights), _TINY)
    sharpness = np.array([m.peak / m.flux for m in measures if m.noise is not None and m.flux > 0])
    unequal = float(np.std(sharpness) / np.mean(sharpness)) if len(sharpness) > 1 else 0.0
    # weight of the drops of one frame: amplitudes of its harmonics along one axis, and along both
    first = float(np.sinc(pixfrac) * np.sinc(1 / scale))
    uneven = np.sqrt(4 * first**4 + 4 * first**8)
    sampling = UNEVEN * uneven * unequal / n
    return StackNoise(
        sky=sky / (scale**2 * n),
        grain=grain / n,
        lift=lift,
        sampling=sampling,
        light_lift=light_lift,
        chosen=chosen,
        light_chosen=light_chosen,
        lift_error=float(np.hypot(LIFT_ERROR, few)),
        n_places=n,
    )


def aligned_noise(radius_px: Float64Array, profile: Float64Array, noise: StackNoise, sigma_px: float) -> Float64Array:
    """Return what noise is at a distance from the place at which frames were aligned, in their mean.

    Noise moves a peak along its slopes. The mean of the moved noise is the divergence of its variance times the slopes
    of what it was smoothed with: high in the middle, low around it, and no light in all. That of the light is narrower
    than that of the background, as it is where the light is. Where noise chose between two places that
    are further apart, its mean is that of the noise of what was compared: of heights a peak without a hollow.

    Parameters
    ----------
    radius_px : ndarray (n,)
        Distances, from 0 on [pixel].
    profile : ndarray (n,)
        Mean of the stack at these distances [unit of the image].
    noise : StackNoise
        Noise of the stack.
    sigma_px : float
        Of the Gaussian in which the peaks of the frames were looked for [pixel].
    """
    squared = (radius_px / sigma_px) ** 2
    aligned = np.zeros_like(profile)
    for _ in range(_ROUNDS):
        light = profile - aligned
        slope = radius_px * np.gradient(light, radius_px) / 2
        of_light = noise.light_lift * (light * (1 - squared / 2) + slope) + noise.light_chosen * light
        aligned = (noise.lift * (1 - squared / 2) + noise.chosen + of_light) * np.exp(-squared / 2)
    return aligned


def stack_noise(image: Float64Array, core_px: float, sky_px: float, response_px: tuple[float, ...]) -> StackNoise:
    """Measure the noise of a stack around a star.

    Parameters
    ----------
    image : ndarray (side, side)
        Background-subtracted image, the star on the central pixel; NaN marks missing pixels.
    core_px, sky_px : float
        Radius of the star's core, and radius beyond which there is background [pixel].
    response_px : tuple of float
        Square responses of the pixels. The first is that of the camera, which noise has not passed; a single one is
        that of a plain image.

    Returns
    -------
    StackNoise
    """
    fine = np.diff(np.diff(image, _DIFFERENCES, axis=0), _DIFFERENCES, axis=1) ** 2 / _passed(response_px[1:])
    margin = _DIFFERENCES // 2
    light = image[margin:-margin, margin:-margin]
    half = len(light) // 2
    distance = np.hypot(*np.ogrid[-half : half + 1, -half : half + 1])
    known = np.isfinite(fine)
    sky, core = known & (distance > sky_px), known & (distance < core_px)
    background = float(np.mean(fine[sky])) if sky.any() else 0.0
    total = float(np.sum(light[core]))
    grain = max(float(np.sum(fine[core]) - background * core.sum()) / total, 0.0) if total > 0 else 0.0
    return StackNoise(_sky_noise(image, sky_px), grain)


def _sky_noise(image: Float64Array, sky_px: float) -> float:
    """Return the variance of sums of blocks of sky, per pixel: that of noise at the frequencies of a star."""
    half = len(image) // 2
    distance = np.hypot(*np.ogrid[-half : half + 1, -half : half + 1])
    n = len(image) // BLOCK_PX
    masked = np.where(distance > sky_px, image, np.nan)[: n * BLOCK_PX, : n * BLOCK_PX]
    sums = masked.reshape(n, BLOCK_PX, n, BLOCK_PX).sum(axis=(1, 3))
    sums = sums[np.isfinite(sums)]
    if len(sums) < LEAST_BLOCKS:
        return float(np.nanvar(image))
    return float((robust_sigma(sums)) ** 2) / BLOCK_PX**2


@lru_cache(maxsize=16)
def _passed(response_px: tuple[float, ...]) -> float:
    """Return the sum of the squared sixth differences along both axes of noise of density 1 after these responses."""
    frequency = (np.arange(_SAMPLES) + 0.5) / (2 * _SAMPLES)
    power = (2 * np.sin(np.pi * frequency)) ** (2 * _DIFFERENCES)
    for width in response_px:
        power *= np.sinc(width * frequency) ** 2
    # frequencies beyond those of the pixels are folded back: the output pixel suppresses them
    return float(np.mean(power)) ** 2

"""From physical values to grey tones: one stretch for stars with halo, faint fields and discs alike."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tones = NDArray[np.float32]

_SAMPLE = 2**16
"""Pixels from which background and noise are taken."""

_BACKGROUND_SHARE = 0.2
"""Share of the pixels whose narrowest interval of values is the background."""

_OBJECT_SHARE = 0.25
"""With more than this share of the pixels clearly below it, the commonest value belongs to an object, not to the sky."""

_UNDEFINED = 1e30
"""No measurement is larger; some programs mark missing pixels by the largest number of single precision."""

_BLACK_SIGMA = 2.5
"""How far below the background black lies, so that the noise of the sky stays visible."""

_SOFT_SIGMA = 3.0
"""Values up to this far from black are shown linearly, those beyond logarithmically."""

_STAR_SHARE = 0.3
"""Largest share of a star's pixels that are brighter than half its peak, with some margin for noise."""

_MIN_RANGE_SIGMA = 40.0
"""White lies at least this far above the background: the noise of an empty field stays dark."""


@dataclass(frozen=True)
class Levels:
    """What becomes black and white, and where the scale turns from linear to logarithmic.

    Attributes
    ----------
    black, white : float
        Values shown as 0 and 1 [unit of the image].
    soft : float
        Distance from black at which the scale turns from linear to logarithmic [unit of the image].
    """

    black: float = 0.0
    white: float = 1.0
    soft: float = 1.0


def levels(image: NDArray, core: tuple[slice, slice] = (slice(None), slice(None))) -> Levels:
    """Find the levels that show an image well.

    Black follows from the background, white is the brightest spot of at least 2x2 pixels, so that neither a hot
    pixel nor a cosmic ray decides. The softening is a few times the noise for stars; the more of the bright pixels
    are as bright as the brightest, as in the disc of a planet, the closer it comes to a linear scale.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image in any unit; what is not finite is left out.
    core : (slice, slice)
        Part of the image that decides about white, usually the surroundings of the star.

    Returns
    -------
    Levels
        Finite, with ``black < white`` and ``soft > 0``, whatever the image.
    """
    sample = _sample(image)
    if not sample.size:
        return Levels()
    background, noise = _background(sample)
    spots = _spots(image[core])
    peak = float(spots.max(initial=background))
    smallest = 1e-5 * max(abs(background), abs(peak), 1e-30)
    height = max(peak - background, _MIN_RANGE_SIGMA * noise, smallest)
    soft = max(_SOFT_SIGMA * noise, _flatness(spots - background, height) ** 2 * height, 1e-5 * height)
    return Levels(background - _BLACK_SIGMA * noise, background + height, soft)


def stretch(image: NDArray, shown: Levels | None = None) -> Tones:
    """Map values to tones on an inverse hyperbolic sine scale (Lupton et al. 2004, PASP 116, 133).

    Parameters
    ----------
    image : ndarray, any shape
        Values [unit of the levels].
    shown : Levels, optional
        Levels; by default those of the image, which must then be two-dimensional.

    Returns
    -------
    ndarray of float32, same shape
        Tones from 0 (black) to 1 (white); NaN where the image has no measured value.
    """
    shown = shown or levels(image)
    top = (shown.white - shown.black) / shown.soft
    values = single(image)
    with np.errstate(over="ignore"):
        tones = np.arcsinh(np.clip((values - np.float32(shown.black)) / np.float32(shown.soft), 0, np.float32(top)))
    tones /= np.float32(np.arcsinh(top))
    tones[~measured(values)] = np.nan
    return tones


def single(image: NDArray) -> NDArray[np.float32]:
    """Return an image in native single precision, without a copy if it is; what does not fit becomes infinite."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(image, dtype=np.float32)


def measured(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which pixels hold a measured value rather than NaN, infinity or an absurd number."""
    return np.abs(values) < _UNDEFINED


def _sample(image: NDArray) -> NDArray[np.float64]:
    """Sorted finite values of an evenly spread part of the pixels."""
    step = max(1, int(np.sqrt(image.size / _SAMPLE)))
    values = single(image[::step, ::step])
    return np.sort(values[measured(values)]).astype(float)


def _background(sample: NDArray[np.float64]) -> tuple[float, float]:
    """Background and its noise from sorted values: the commonest value and the spread below it.

    Light only ever adds to the background, so the values below it tell about the noise even in a crowded field. Where
    an object fills the image its own surface is commonest; the darkest pixels are then the best there is.
    """
    n = len(sample)
    width = max(1, round(_BACKGROUND_SHARE * n))
    start = int(np.argmin(sample[width - 1 :] - sample[: n - width + 1]))
    background = float(np.median(sample[start : start + width]))
    below = sample[: max(1, int(np.searchsorted(sample, background, side="right")))]
    noise = 1.4826 * (background - float(np.median(below)))
    clearly_below = np.searchsorted(sample, background - 5 * noise) / n
    if clearly_below > _OBJECT_SHARE:
        return float(sample[n // 100]), 0.0
    return background, noise


def _spots(image: NDArray) -> NDArray[np.float64]:
    """Values that blocks of 2x2 pixels reach throughout, shape (n,)."""
    values = single(image)
    ny, nx = (length // 2 * 2 for length in values.shape)
    rows = np.minimum(values[:ny:2, :nx], values[1:ny:2, :nx])
    blocks = np.minimum(rows[:, ::2], rows[:, 1::2])
    return blocks[measured(blocks)].astype(float)


def _flatness(heights: NDArray[np.float64], top: float) -> float:
    """How much like a disc the bright parts are: 0 for any star, 1 for a disc of constant brightness.

    Of the pixels above 1/20 of the top, the share above 1/2 is ln 2 / ln 20 = 0.23 in a Gaussian star, less if the
    star has a halo, and 1 in a disc.
    """
    n_object = np.count_nonzero(heights > top / 20)
    share = np.count_nonzero(heights > top / 2) / max(n_object, 1)
    return max(0.0, (share - _STAR_SHARE) / (1 - _STAR_SHARE))

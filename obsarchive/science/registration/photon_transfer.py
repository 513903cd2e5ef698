"""Noise of the light of a star on wide pixels, told from its speckles, which vary from pixel to pixel as noise does.

The variance of noise is proportional to the light, that of speckles to its square: they are told apart as read-out
noise, shot noise and the pattern of the pixels are by the photon transfer method (Janesick 2007, Photon Transfer).
"""

from functools import lru_cache

import numpy as np

from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.pupil import annulus_otf

_RINGS = 4.0
"""Width of a ring [pixel]."""
_FIRST = 1
"""Of the rings, without the core: of its light nothing varies at random."""
LEAST_RINGS = _FIRST + 2
"""Light of one brightness alone does not tell noise from speckles."""
_STEEPEST = 4.0
"""Largest quotient of the light of two rings that is believed."""
_SAMPLES = 60
"""Frequencies along an axis."""


def sums_of_rings(light: FloatArray, variance: FloatArray, place: tuple[float, float]) -> Float64Array:
    """Return the sums of rings around a star that `grain_of_rings` needs.

    Parameters
    ----------
    light, variance : ndarray (ny, nx)
        Light above the background [counts], and squared differences of the pixels beyond the noise of the background.
    place : (float, float)
        Of the star (y, x) in them.

    Returns
    -------
    ndarray (k, 4)
        Number of pixels, variance, light, and square of the mean light times the number; from the core outwards.
    """
    ny, nx = light.shape
    ring = (np.hypot(*np.ogrid[-place[0] : ny - place[0], -place[1] : nx - place[1]]) / _RINGS).astype(int).ravel()
    k = max(int((min(ny, nx) / 2 - 1) / _RINGS), _FIRST + 1)
    count, of_variance, of_light = (
        np.bincount(ring, weights, k)[:k] for weights in (None, variance.ravel(), light.ravel())
    )
    return np.stack([count, of_variance, of_light, of_light**2 / np.maximum(count, 1)], axis=1)


def grain_of_rings(sums: Float64Array, background: float) -> tuple[float, float]:
    """Return the variance by one count of light, and that of the speckles near the core.

    Parameters
    ----------
    sums : ndarray (k, 4)
        Those of `sums_of_rings`, of all frames together.
    background : float
        Mean variance of the background [counts^2].

    Returns
    -------
    grain, speckles : float
        By noise, and by speckles at the core over the light that is there [counts]. Their contrast is that of the
        innermost ring, and the halo under the core is taken to lie between a flat and an exponential one.
    """
    count, of_variance, of_light, of_square = sums[_FIRST:].T
    variance = of_variance / count
    # what the rim of the window has of the star's light is in all rings alike
    terms = np.stack([np.ones(len(count)), of_light / count, of_square / count], axis=1)
    weight = np.sqrt(count) / np.maximum(variance + background, 1e-3 * background + np.finfo(float).tiny)
    scale = np.maximum(np.abs(terms).max(axis=0), np.finfo(float).tiny)
    _, grain, _ = np.linalg.lstsq(terms / scale * weight[:, np.newaxis], variance * weight, rcond=None)[0] / scale
    grain = max(float(grain), 0.0)
    near, next_ring = (of_light / count)[:2]
    if not near > 0:
        return grain, 0.0
    inwards = np.sqrt(np.clip(near / next_ring, 1, _STEEPEST)) if next_ring > 0 else 1.0
    return grain, float(max(of_variance[0] / of_light[0] - grain, 0.0) * inwards)


@lru_cache(maxsize=16)
def folded_share(core_px: float, sigma_px: float) -> float:
    """Return how speckles that are folded back move a peak, over what white noise of their sixth differences would.

    The power of speckles at a frequency is that of the transfer function of pupil and pixel (Korff 1973, J. Opt. Soc.
    Am. 63, 971): sixth differences see it at the highest frequencies of the pixels, a slope sees what is folded back to
    lower ones.

    Parameters
    ----------
    core_px : float
        Half of lambda / D [pixel].
    sigma_px : float
        Of the Gaussian that smooths the pixels [pixel].
    """
    u = (np.arange(_SAMPLES) + 0.5) / (2 * _SAMPLES)
    v = u[:, np.newaxis]

    def power(u: Float64Array, v: Float64Array) -> Float64Array:
        return annulus_otf(2 * core_px * np.hypot(u, v), 0.0) * (np.sinc(u) * np.sinc(v)) ** 2

    folded = power(1 - u, v) + power(u, 1 - v) + power(1 - u, 1 - v)
    slopes = (2 * np.pi * u) ** 2 * np.exp(-4 * (np.pi * sigma_px) ** 2 * (u**2 + v**2))
    finest = (np.sin(np.pi * u) * np.sin(np.pi * v)) ** 12
    seen = np.sum((power(u, v) + folded) * finest) / np.sum(finest)
    return float(np.sum(slopes * folded) / np.sum(slopes) / seen) if seen > 0 else 0.0

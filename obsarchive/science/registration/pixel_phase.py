"""Pixel-phase error: where pixels are wider than half of lambda / D, peaks are found nearer to their middles.

Frequencies beyond those of the pixels are folded back, and with them the slope of an image at its peak changes with the
place of the peak in a pixel (Anderson & King 2000, PASP 112, 1360, correct stars of the Hubble Space Telescope for it).
"""

from functools import lru_cache

import numpy as np

from obsarchive.science.arrays import Float64Array
from obsarchive.science.pupil import annulus_otf

_SAMPLES = 120
"""Frequencies along an axis."""
_MOST = 0.15
"""Largest amplitude that is corrected: from 1 / (2 pi) on two places are found at one [pixel]."""


def without_phase_error(place: float, core_px: float, sigma_px: float) -> float:
    """Return the place of a peak along an axis, corrected for where in a pixel it is.

    A peak at x is found at x - A sin(2 pi x), see `phase_error`.

    Parameters
    ----------
    place : float
        Highest point of the smoothed pixels, pixels at whole numbers [pixel].
    core_px, sigma_px : float
        See `phase_error`.
    """
    amplitude = min(phase_error(core_px, sigma_px), _MOST)
    if amplitude == 0:
        return place
    whole = round(place)
    true = np.linspace(-0.5, 0.5, 101)
    return whole + float(np.interp(place - whole, true - amplitude * np.sin(2 * np.pi * true), true))


@lru_cache(maxsize=16)
def phase_error(core_px: float, sigma_px: float) -> float:
    """Compute the amplitude of the pixel-phase error of a diffraction-limited core.

    To first order it is the slope of the light that is folded back by one pixel's frequency, over the curvature: with
    the transfer function T of pupil and pixel and G of the Gaussian, the integrals over the frequencies (u, v) of the
    pixels of 4 pi u T(1 - u, v) G(u, v), for positive u, and of (2 pi u)^2 T(u, v) G(u, v). A halo has no part in
    either, an obstruction changes both alike by some percent.

    Parameters
    ----------
    core_px : float
        Half of lambda / D [pixel].
    sigma_px : float
        Of the Gaussian that smooths the pixels [pixel].

    Returns
    -------
    float
        Amplitude [pixel]; 0 for pixels up to half of lambda / D.
    """
    if core_px >= 1:
        return 0.0
    u = (np.arange(_SAMPLES) + 0.5) / (2 * _SAMPLES)
    v = u[:, np.newaxis]
    smooth = np.exp(-2 * (np.pi * sigma_px) ** 2 * (u**2 + v**2))

    def passed(u: Float64Array) -> Float64Array:
        return annulus_otf(2 * core_px * np.hypot(u, v), 0.0) * np.sinc(u) * np.sinc(v)

    # the integral of the curvature is over both signs of u
    return float(
        np.sum(4 * np.pi * u * passed(1 - u) * smooth) / (2 * np.sum((2 * np.pi * u) ** 2 * passed(u) * smooth))
    )

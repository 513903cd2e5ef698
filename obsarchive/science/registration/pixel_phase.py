"""Pixel-phase error: where pixels are wider than half of lambda / D, peaks are found nearer to their middles.

Frequencies beyond those of the pixels are folded back, and with them the slope of an image at its peak changes with the
place of the peak in a pixel (Anderson & King 2000, PASP 112, 1360, correct stars of the Hubble Space Telescope for it).
Stars that motion or seeing blurs have little light at these frequencies: the error falls with their width.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.pupil import annulus_otf

SCALES = (1.0, 1.5, 2.0)
"""Smoothings by whose curvatures the width of a peak is measured, over the one whose peak is the place."""
_SAMPLES = 120
"""Frequencies along an axis."""
_MOST = 0.15
"""Largest amplitude that is corrected: from 1 / (2 pi) on two places are found at one [pixel]."""
_NONE, _ALL = 0.15, 0.35
"""Blur of a peak up to which it is that of speckles and halo, and from which on it is all believed [pixel^2]."""
_BLURS = np.concatenate([np.linspace(0, 1, 41), np.geomspace(1.1, 20, 20)])
"""Variances along an axis by which a core may be blurred [pixel^2]."""


@dataclass(frozen=True, eq=False)
class _Blurred:
    """Diffraction-limited cores that are blurred with Gaussians.

    Attributes
    ----------
    amplitude : ndarray (k,)
        Of the phase error [pixel].
    height : ndarray (k,)
        What is folded back from along an axis adds to the peak of a star in the middle of a pixel, relative.
    curvature : ndarray (k, 3)
        At the peak after the smoothings of `SCALES`, mean of both axes.
    folded : ndarray (k, 3)
        What is folded back adds to it for a star in the middle of a pixel, from along each axis.
    """

    amplitude: Float64Array
    height: Float64Array
    curvature: Float64Array
    folded: Float64Array

    def blur(self, curvatures: FloatArray, place: Float64Array) -> float:
        """Return the variance by which a core is blurred that has these curvatures (3,) at a place (y, x)."""
        finest, middle, coarsest = (float(value) for value in curvatures)
        # a curvature that is common to all scales is that of a halo
        if not finest > middle > coarsest:
            return float(_BLURS[-1])
        expected = self.curvature + self.folded * float(np.cos(2 * np.pi * place).sum())
        contrast = (expected[:, 0] - expected[:, 2]) / (expected[:, 1] - expected[:, 2])
        return float(np.interp(-(finest - coarsest) / (middle - coarsest), -contrast, _BLURS))

    def place(self, found: Float64Array, blur: float) -> Float64Array:
        """Return where a star is that is blurred so, and whose peak is found at a place (y, x)."""
        amplitude = min(float(np.interp(blur, _BLURS, self.amplitude)), _MOST)
        whole, true = np.round(found), np.linspace(-0.5, 0.5, 101)
        place: Float64Array = whole + np.interp(found - whole, true - amplitude * np.sin(2 * np.pi * true), true)
        return place


@dataclass(frozen=True, eq=False)
class Corrected:
    """A peak without its pixel-phase error.

    Attributes
    ----------
    place, errors : ndarray (2,)
        Place (y, x), and the standard errors of its correction [pixel].
    excess : float
        By how much the core was too high for where in a pixel it is, relative.
    """

    place: Float64Array
    errors: Float64Array
    excess: float


def without_phase_error(
    place: tuple[float, float], curvatures: FloatArray, core_px: float, sigma_px: float
) -> Corrected:
    """Correct a peak for where in a pixel it is.

    A peak at x is found at x - A sin(2 pi x), see `phase_error`, along each axis. How much the core is blurred follows
    from the curvatures. Speckles and halo change these, too, by as much as a little blur, which is not believed: the
    place is as uncertain as it would change the correction. The height of the core has cos(2 pi x) of what is folded
    back, of both axes: stars in the middles of pixels are higher than those on corners.

    Parameters
    ----------
    place : (float, float)
        Highest point (y, x) of the smoothed pixels, pixels at whole numbers [pixel].
    curvatures : ndarray (3,)
        There, after the smoothings of `SCALES`; mean of both axes.
    core_px, sigma_px : float
        See `phase_error`.

    Returns
    -------
    Corrected
    """
    cores = _blurred(core_px, sigma_px)
    found = true = np.array(place)
    # the place decides what is folded into the curvatures, and these how far from it the star is
    for _ in range(2):
        blur = cores.blur(curvatures, true)
        believed = blur * min(max((blur - _NONE) / (_ALL - _NONE), 0.0), 1.0)
        true = cores.place(found, believed)
    excess = float(np.interp(believed, _BLURS, cores.height) * np.cos(2 * np.pi * true).sum())
    return Corrected(true, np.abs(cores.place(found, blur) - true), excess)


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
    return float(_blurred(core_px, sigma_px).amplitude[0])


@lru_cache(maxsize=16)
def _blurred(core_px: float, sigma_px: float) -> _Blurred:
    u = (np.arange(_SAMPLES) + 0.5) / (2 * _SAMPLES)
    v = u[:, np.newaxis]
    smooth = [np.exp(-2 * (np.pi * scale * sigma_px) ** 2 * (u**2 + v**2)) for scale in SCALES]
    bent = [2 * np.pi**2 * (u**2 + v**2) * each for each in smooth]

    def passed(u: Float64Array, blur: float) -> Float64Array:
        core = annulus_otf(2 * core_px * np.hypot(u, v), 0.0) * np.sinc(u) * np.sinc(v)
        return core * np.exp(-2 * np.pi**2 * blur * (u**2 + v**2))

    amplitude, height, curvature, folded = [], [], [], []
    for blur in _BLURS.tolist():
        # folded along x; along y it is the same with the axes exchanged
        inside, beyond = passed(u, blur), passed(1 - u, blur) if core_px < 1 else np.zeros_like(u * v)
        # the integral of the curvature is over both signs of u
        slope, curved = 4 * np.pi * u * smooth[0] * beyond, 2 * (2 * np.pi * u) ** 2 * smooth[0] * inside
        amplitude.append(np.sum(slope) / np.sum(curved))
        height.append(np.sum(smooth[0] * beyond) / np.sum(smooth[0] * inside))
        curvature.append([np.sum(each * inside) for each in bent])
        folded.append([np.sum(each * beyond) for each in bent])
    return _Blurred(*(np.array(each) for each in (amplitude, height, curvature, folded)))

"""Diffraction by an annular pupil: its pattern, and its optical transfer function (OTF).

The OTF is the overlap area of two shifted annuli (O'Neill 1956, J. Opt. Soc. Am. 46, 285).
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import j1

from obsarchive.science.arrays import Float64Array


def annulus_psf(radius: ArrayLike, obstruction: float) -> Float64Array:
    """Compute the monochromatic diffraction pattern of an annular pupil, peak 1.

    Parameters
    ----------
    radius : array_like
        Distance from the centre [lambda/D].
    obstruction : float
        Inner over outer diameter, 0 to 1.

    Returns
    -------
    ndarray
        Intensity, same shape as `radius`.
    """
    # J1(v) / v is 0 / 0 at the centre
    v = np.pi * np.maximum(np.abs(np.asarray(radius, dtype=float)), 1e-9)
    amplitude = 2 * (j1(v) - obstruction * j1(obstruction * v)) / v
    intensity: Float64Array = (amplitude / (1 - obstruction**2)) ** 2
    return intensity


def annulus_otf(frequency: ArrayLike, obstruction: float) -> Float64Array:
    """Compute the optical transfer function of an annular pupil.

    Parameters
    ----------
    frequency : array_like
        Spatial frequency in units of the cut-off D/lambda; the OTF is zero from 1 on.
    obstruction : float
        Inner over outer diameter, 0 to 1.

    Returns
    -------
    ndarray
        OTF, same shape as `frequency`, 1 at frequency zero.
    """
    distance = 2 * np.abs(np.asarray(frequency, dtype=float))
    area = _overlap(1.0, 1.0, distance)
    if obstruction > 1e-6:  # less is negligible, and its square would be lost to rounding
        area += _overlap(obstruction, obstruction, distance) - 2 * _overlap(1.0, obstruction, distance)
    return area / (np.pi * (1 - obstruction**2))


def _overlap(large: float, small: float, distance: Float64Array) -> Float64Array:
    """Return the area common to two circles of the given radii (large >= small) with centres `distance` apart."""
    # clipped to touching circles: one within the other, or none in common
    d = np.clip(distance, max(large - small, 1e-12), large + small)
    cos_large = np.clip((d**2 + large**2 - small**2) / (2 * d * large), -1, 1)
    cos_small = np.clip((d**2 + small**2 - large**2) / (2 * d * small), -1, 1)
    kite = (large + small - d) * (d + small - large) * (d - small + large) * (d + small + large)
    sectors = large**2 * np.arccos(cos_large) + small**2 * np.arccos(cos_small)
    return sectors - 0.5 * np.sqrt(np.maximum(kite, 0))

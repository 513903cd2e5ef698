"""Vanes that hold the secondary mirror, in the transfer function of a telescope."""

from functools import lru_cache

import numpy as np
from scipy import fft

from obsarchive.science.arrays import Float64Array

_PUPIL_SAMPLES = 256
"""Samples across the pupil, for its vanes alone: the annulus is computed exactly."""


@lru_cache(maxsize=8)
def lost_to_vanes(obstruction: float, vane: float) -> tuple[Float64Array, float]:
    """Compute what four vanes at right angles take from the overlap of an annular pupil with itself.

    Parameters
    ----------
    obstruction, vane : float
        Diameter of the obstruction and width of a vane, over the diameter of the pupil.

    Returns
    -------
    lost : ndarray (n,)
        Loss at shifts of 0 to 1 diameter, the mean over all directions [diameter^2].
    area : float
        Of the vanes [diameter^2].
    """
    n = _PUPIL_SAMPLES
    axis = (np.arange(2 * n) - n) / n
    radius = np.hypot(axis[:, np.newaxis], axis)
    # shares of the samples, so that vanes may be narrower than one
    annulus = np.clip((0.5 - radius) * n + 0.5, 0, 1) - np.clip((obstruction / 2 - radius) * n + 0.5, 0, 1)
    covered = np.clip((vane / 2 - np.abs(axis)) * n + 0.5, 0, min(vane * n, 1.0))
    vanes = annulus * np.maximum(covered[:, np.newaxis], covered)
    waves = fft.rfft2(vanes)
    # of the pupil without vanes with itself, minus the same of that with them
    overlap = fft.irfft2((fft.rfft2(2 * annulus - vanes)) * waves.conj(), vanes.shape) / n**2
    shift = np.rint(np.hypot(*np.meshgrid(*2 * [fft.fftfreq(2 * n, 1 / (2 * n))], indexing="ij"))).astype(int).ravel()
    lost: Float64Array = np.bincount(shift, overlap.ravel())[: n + 1] / np.bincount(shift)[: n + 1]
    return lost, float(vanes.sum()) / n**2

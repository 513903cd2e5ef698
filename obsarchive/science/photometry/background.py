"""Level and noise of the background of an image."""

from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import FloatArray
from obsarchive.science.statistics import MAD_TO_SIGMA


@dataclass(frozen=True, eq=False)
class Background:
    """Background of an image.

    Parameters
    ----------
    level, noise : ndarray (ny, nx) or float
        Level and rms noise per pixel [unit of the image]; a number where they are the same everywhere.
    """

    level: FloatArray | float
    noise: FloatArray | float


def flat_background(image: FloatArray) -> Background:
    """Compute one background for a whole image: its median, and the noise of the pixels below the median.

    Sources only add to the pixels above it.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Counts; NaN marks bad pixels.

    Returns
    -------
    Background
        One level and one noise.
    """
    level = float(np.nanmedian(image))
    below = image[image < level]
    noise = MAD_TO_SIGMA * float(np.median(level - below)) if below.size else 1.0
    return Background(level, noise)

"""Level and noise of the background of an image."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from obsarchive.science.arrays import FloatArray
from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_all

LEAST_SQUARES = 60
"""Number of squares from which the correlation of the noise is measured."""


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
    noise = MAD_TO_SIGMA * median_of_all(level - below) if below.size else 1.0
    return Background(level, noise)


def noise_correlation(
    image: FloatArray, background: Background, side_px: int, stars: tuple[FloatArray, FloatArray, float]
) -> float:
    """Return by how much the noise of the sum of a square of pixels exceeds that of independent pixels.

    Pixels of a drizzled image share the noise of the detector's (Fruchter & Hook 2002, PASP 114, 144). It is measured
    by the differences of neighbouring squares without stars.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Counts; NaN marks bad pixels.
    background : Background
        Its background.
    side_px : int
        Side of the squares [pixel].
    stars : (ndarray (n,), ndarray (n,), float)
        Positions (y, x) of the stars, and their reach [pixel].

    Returns
    -------
    float
        Factor on the noise, at least 1; 1 with too few such squares, as in crowded fields.
    """
    ny, nx = (size // side_px for size in image.shape)
    if ny * nx < LEAST_SQUARES or side_px < 2:
        return 1.0
    whole = np.asarray((image - background.level) / background.noise, np.float64)[: ny * side_px, : nx * side_px]
    sums = whole.reshape(ny, side_px, nx, side_px).sum(axis=(1, 3))
    y, x, reach = stars
    if len(y):
        middle = (np.mgrid[:ny, :nx].reshape(2, -1).T + 0.5) * side_px
        distance, _ = cKDTree(np.stack([y, x], axis=1)).query(middle)
        sums[(distance < reach + side_px / 2).reshape(ny, nx)] = np.nan
    steps = np.concatenate([np.abs(np.diff(sums, axis=axis)).ravel() for axis in (0, 1)])
    steps = steps[np.isfinite(steps)]
    if len(steps) < LEAST_SQUARES:
        return 1.0
    return max(1.0, float(median_of_all(steps) * MAD_TO_SIGMA / (np.sqrt(2) * side_px)))

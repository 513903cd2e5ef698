"""Peaks of a star that are nearly as high as the one that was chosen: noise decides which one is the highest."""

import math
from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import Float64Array, FloatArray

LEAST_HEIGHT = 0.5
"""Least height of a rival, over that of the highest peak."""
APART_SIGMA = 1.2
"""Least distance of two peaks, in units of the Gaussian that smooths the image."""


@dataclass(frozen=True, eq=False)
class RivalPeak:
    """The second highest peak.

    Attributes
    ----------
    offset : ndarray (2,)
        Its place (y, x) from the highest one [pixel].
    gap, total : float
        Height of the chosen peak less that of the other one, negative where it was so by the pixels alone, and sum
        [counts/pixel].
    share : float
        Variance of the difference by white noise of variance 1, half of it.
    """

    offset: Float64Array
    gap: float
    total: float
    share: float

    def covariance(self, variance: float, grain: float) -> Float64Array:
        """Return what the choice adds to the covariance of the position (2, 2) [pixel^2].

        Parameters
        ----------
        variance : float
            Of a pixel of the background [counts^2].
        grain : float
            Variance by one count of light [counts].
        """
        noise = math.sqrt(max(self.share * (2 * variance + grain * max(self.total, 0.0)), 0.0))
        # the chance that without noise the other one is the higher
        chance = 0.5 * math.erfc(self.gap / (math.sqrt(2) * noise)) if noise > 0 else 0.0
        return chance * np.outer(self.offset, self.offset)


def rival_of(smooth: FloatArray, place: tuple[float, float], height: float, sigma_px: float) -> RivalPeak | None:
    """Find the second highest peak of an image.

    Parameters
    ----------
    smooth : ndarray (ny, nx)
        Image, smoothed by a Gaussian, above its background.
    place : (float, float)
        Place of the highest peak (y, x) [pixel].
    height : float
        Its height.
    sigma_px : float
        Of the Gaussian [pixel].

    Returns
    -------
    RivalPeak or None
        None without another peak of at least half of the height.
    """
    rows, columns = np.nonzero(smooth[1:-1, 1:-1] > LEAST_HEIGHT * height)
    rows, columns = rows + 1, columns + 1
    far = (rows - place[0]) ** 2 + (columns - place[1]) ** 2 > (APART_SIGMA * sigma_px) ** 2
    rows, columns = rows[far], columns[far]
    if not len(rows):
        return None
    around = [smooth[rows + dy, columns + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    is_peak = around[4] >= np.max(around, axis=0)
    if not is_peak.any():
        return None
    best = int(np.argmax(np.where(is_peak, around[4], -np.inf)))
    row, column = int(rows[best]), int(columns[best])
    (dy, up), (dx, right) = _vertex(smooth[row - 1 : row + 2, column]), _vertex(smooth[row, column - 1 : column + 2])
    top = float(smooth[row, column]) + up + right
    offset = np.array([row + dy - place[0], column + dx - place[1]])
    common = math.exp(-float(offset @ offset) / (4 * sigma_px**2))
    return RivalPeak(offset, height - top, height + top, (1 - common) / (4 * math.pi * sigma_px**2))


def _vertex(values: FloatArray) -> tuple[float, float]:
    """Return place and height of the vertex of a parabola through three values, from the middle one."""
    before, middle, after = (float(value) for value in values)
    curvature = before - 2 * middle + after
    if curvature >= 0:
        return 0.0, 0.0
    place = 0.5 * (before - after) / curvature
    return place, -0.25 * (before - after) * place

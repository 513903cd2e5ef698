"""Places of a star that are nearly as high as the peak that was chosen: noise decides which one is the highest."""

import math
from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.registration.noise_choice import DROP_VARIANCE, density_of_ties

LEAST_HEIGHT = 0.5
"""Least height of a rival, over that of the highest peak."""
APART_SIGMA = 1.2
"""Least distance of two peaks, in units of the Gaussian that smooths the image."""
FLAT = 0.25
"""Of what the curvature of the peak lets it fall to a place: one that has fallen less is on a ridge with the peak."""


@dataclass(frozen=True, eq=False)
class RivalPeak:
    """The second highest peak, or the far end of a ridge.

    Attributes
    ----------
    offset : ndarray (2,)
        Its place (y, x) from the highest one [pixel].
    gap, total : float
        Height of the chosen peak less that of the other one, negative where it was so by the pixels alone, and sum
        [counts/pixel].
    share : float
        Variance of the difference by white noise of variance 1, half of it.
    sigma_px : float
        Of the Gaussian that smooths the image [pixel].
    is_peak : bool
        Whether it is a peak, not the end of a ridge.
    """

    offset: Float64Array
    gap: float
    total: float
    share: float
    sigma_px: float
    is_peak: bool = True

    def covariance(self, variance: float, grain: float) -> Float64Array:
        """Return what the choice adds to the covariance of the position (2, 2) [pixel^2].

        Parameters
        ----------
        variance : float
            Of a pixel of the background [counts^2].
        grain : float
            Variance by one count of light [counts].
        """
        noise = self._noise(variance, grain)
        # the chance that without noise the other one is the higher
        chance = 0.5 * math.erfc(self.gap / (math.sqrt(2) * noise)) if noise > 0 else 0.0
        return chance * np.outer(self.offset, self.offset)

    def lift(self, variance: float, grain: float) -> float:
        """Return the height of noise at the chosen peak, because it was chosen, see `CoreChoice.lifts` [1/counts].

        Along a ridge noise is free to move the peak, which is no choice.
        """
        density = density_of_ties(self.gap, self._noise(variance, grain)) if self.is_peak else 0.0
        narrow = 2 / (1 + DROP_VARIANCE / self.sigma_px**2)
        return narrow * 2 * self.share * density

    def _noise(self, variance: float, grain: float) -> float:
        """Return the noise of the gap [counts/pixel]."""
        return math.sqrt(max(self.share * (2 * variance + grain * max(self.total, 0.0)), 0.0))


def rival_of(smooth: FloatArray, place: tuple[float, float], terms: FloatArray, sigma_px: float) -> RivalPeak | None:
    """Find the place of an image that competes with its highest peak.

    That is the second highest peak; but motion within an exposure draws a core out to a ridge, along which noise is as
    free to choose as between two peaks, and which has no second one.

    Parameters
    ----------
    smooth : ndarray (ny, nx)
        Image, smoothed by a Gaussian, above its background.
    place : (float, float)
        Place of the highest peak (y, x) [pixel].
    terms : ndarray (3, 3)
        Derivatives there, of orders a in y and b in x, up to 2 in all; [0, 0] is its height.
    sigma_px : float
        Of the Gaussian [pixel].

    Returns
    -------
    RivalPeak or None
        None without a place of at least half of the height.
    """
    height = float(terms[0, 0])
    rows, columns = np.nonzero(smooth[1:-1, 1:-1] > LEAST_HEIGHT * height)
    rows, columns = rows + 1, columns + 1
    far = (rows - place[0]) ** 2 + (columns - place[1]) ** 2 > (APART_SIGMA * sigma_px) ** 2
    rows, columns = rows[far], columns[far]
    if not len(rows):
        return None
    dy, dx = rows - place[0], columns - place[1]
    fall = -0.5 * (terms[2, 0] * dy * dy + 2 * terms[1, 1] * dy * dx + terms[0, 2] * dx * dx)
    before, middle, after = smooth[rows - 1, columns], smooth[rows, columns], smooth[rows + 1, columns]
    left, right = smooth[rows, columns - 1], smooth[rows, columns + 1]
    is_peak = (middle >= before) & (middle >= after) & (middle >= left) & (middle >= right)
    # between the pixels a ridge is higher
    is_flat = height - middle < 2 * FLAT * fall
    if not (is_peak | is_flat).any():
        return None
    (along_y, up), (along_x, beside) = _vertices(before, middle, after), _vertices(left, middle, right)
    gaps = height - (middle + up + beside)
    is_flat &= gaps < FLAT * fall
    best = int(np.argmin(np.where(is_peak, gaps, np.inf)))
    far_end = int(np.argmin(np.where(is_flat, gaps / (dy * dy + dx * dx), np.inf)))
    # the flanks of another peak are no ridge
    if is_flat[far_end] and not (is_peak[best] and gaps[best] <= gaps[far_end]):
        best = far_end
    elif not is_peak[best]:
        return None
    offset, gap = np.array([dy[best] + along_y[best], dx[best] + along_x[best]]), float(gaps[best])
    common = math.exp(-float(offset @ offset) / (4 * sigma_px**2))
    share = (1 - common) / (4 * math.pi * sigma_px**2)
    return RivalPeak(offset, gap, 2 * height - gap, share, sigma_px, bool(is_peak[best]))


def _vertices(before: FloatArray, middle: FloatArray, after: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return places and heights of the vertices of parabolas through three values (n,) each, from the middle one.

    Along a ridge there are none: the place is then the middle.
    """
    curvature = before - 2 * middle + after
    is_vertex = (curvature < 0) & (middle >= np.maximum(before, after))
    place = np.where(is_vertex, 0.5 * (before - after) / np.where(is_vertex, curvature, 1), 0.0)
    return place, -0.25 * (before - after) * place

"""Choices that noise makes between two places of a star, and how high noise is at the place that is chosen.

Where a small change of an image makes another place the position of a star, noise that makes the change is in the
image, too: the mean of the noise at the position is the covariance of that noise with what decides between the places,
times the density of the latter at the point of the decision (Stein 1981, Ann. Statist. 9, 1135). The density is that
of all frames of a sequence, each of which tells by how much it was decided.
"""

import math
from dataclasses import dataclass

DROP_VARIANCE = 0.04
"""Of the square drops of a drizzled stack and its pixels [pixel^2]."""
_WIDTH = 0.5
"""Of the kernel that measures the density, over the noise of what decides, which makes the density smooth."""


def density_of_ties(margin: float, noise: float) -> float:
    """Return what one frame adds to the density of margins at 0, by the margin and its noise."""
    width = _WIDTH * noise
    return math.exp(-((margin / width) ** 2) / 2) / (math.sqrt(2 * math.pi) * width) if width > 0 else 0.0


@dataclass(frozen=True)
class CoreChoice:
    """How the position of a star came to be that of its core, or its centroid.

    Attributes
    ----------
    margin : float
        Sharpness beyond the least one of a core; negative where the position is the centroid.
    sharpness, height : float
        Of the highest point, the latter above the background [counts/pixel].
    apart_px : float
        Distance of core and centroid [pixel].
    sigma_px : float
        Of the Gaussian that smooths the image [pixel].
    """

    margin: float
    sharpness: float
    height: float
    apart_px: float
    sigma_px: float

    def lifts(self, variance: float, grain: float) -> tuple[float, float]:
        """Return the heights of noise at the position by noise of variance 1 of a pixel, of two shapes [1/counts].

        The sharpness is a curvature over a height: noise makes cores by a hollow around the peak, less a peak.

        Parameters
        ----------
        variance : float
            Of a pixel of the background [counts^2].
        grain : float
            Variance by one count of light [counts].
        """
        if not self.height > 0:
            return 0.0, 0.0
        noise = math.sqrt((variance + grain * self.height) / (4 * math.pi)) / self.sigma_px
        noise *= math.sqrt(3 - 2 * self.sharpness + self.sharpness**2) / self.height
        density = density_of_ties(self.margin, noise)
        squared = self.sigma_px**2 + DROP_VARIANCE
        of_curvature, of_height = 2 * self.sigma_px**2 / squared, -self.sharpness
        # the centroid may lie in the hollow
        distance = self.apart_px**2 / (2 * squared)
        there = (of_curvature * (1 - distance) + of_height) * math.exp(-distance)
        scale = density / (2 * math.pi * squared * self.height) * (1 - there / (of_curvature + of_height))
        return scale * of_curvature, scale * of_height

"""The highest point of a star between the pixels, with the spatial frequencies that the telescope transmits."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import j0

from obsarchive.science.arrays import Complex128Array, Float64Array
from obsarchive.science.psf.model import Optics

_SEARCH_PX = ((2.0, 0.5), (0.375, 0.125))
"""Reach and steps of the search for the highest point, from the brightest pixel on [pixel]."""


@dataclass(frozen=True, eq=False)
class Peak:
    """Maximum of a star between the pixels, and how pixels make it.

    Attributes
    ----------
    height : float
        Height [unit of the image].
    y, x : float
        Position from the central pixel [pixel].
    spectrum : ndarray (m, m)
        Of the star, at the frequencies that the telescope transmits.
    frequency : ndarray (m,)
        Along either axis [1/pixel].
    analyse : ndarray (m, side)
        Matrix that transforms pixels to them.
    """

    height: float
    y: float
    x: float
    spectrum: Complex128Array
    frequency: Float64Array
    analyse: Complex128Array

    def errors(self, variance: Float64Array, response_px: tuple[float, ...]) -> tuple[float, float, float]:
        """Return the errors of height, y and x by noise of this density, which passed all responses but the first."""

        def slope(by_y: int, by_x: int) -> float:
            return float((self._waves(by_y, self.y) @ self.spectrum @ self._waves(by_x, self.x)).real)

        slopes = np.stack([self._kernel(response_px, orders) for orders in ((1, 0), (0, 1))])
        curvature = np.array([[slope(2, 0), slope(1, 1)], [slope(1, 1), slope(0, 2)]])
        inverse = np.linalg.pinv(curvature)
        covariance = inverse @ np.einsum("iyx,jyx,yx->ij", slopes, slopes, variance) @ inverse
        height = float(np.sqrt(np.sum(self._kernel(response_px) ** 2 * variance)))
        return height, float(np.sqrt(covariance[0, 0])), float(np.sqrt(covariance[1, 1]))

    @property
    def radii(self) -> Float64Array:
        """Distances of the profile [pixel]."""
        return np.linspace(0, self.analyse.shape[1] / 4, 200)

    @cached_property
    def profile(self) -> Float64Array:
        """Means on circles around the maximum."""
        return self._rings(self.radii)

    def full_width(
        self,
        variance: Float64Array,
        response_px: tuple[float, ...],
        lift: Float64Array,
        lift_error: float,
    ) -> tuple[float, float] | None:
        """Return the full width at half maximum of the azimuthal mean, and its error.

        Parameters
        ----------
        variance : ndarray (side, side)
            Density of the noise, as of the image [unit of the image ** 2].
        response_px : tuple of float
            Square responses; noise has passed all but the first.
        lift : ndarray
            What is no light of the star, at `radii`; see `aligned_noise`.
        lift_error : float
            Its relative error.

        Returns
        -------
        (float, float) or None
            Width and error [pixel]; None where it is too wide.
        """
        radii, profile = self.radii, self.profile - lift
        peak = self.height - lift[0]
        below = np.flatnonzero(profile < peak / 2)
        if not len(below) or below[0] == 0:
            return None
        i = int(below[0])
        half = float(np.interp(-peak / 2, -profile[i - 1 : i + 1], radii[i - 1 : i + 1]))
        slope = (profile[i] - profile[i - 1]) / (radii[i] - radii[i - 1])
        kernel = self._kernel(response_px, radius=half) - self._kernel(response_px) / 2
        by_lift = lift_error * (lift[i] - lift[0] / 2)
        return 2 * half, 2 * float(np.sqrt(np.sum(kernel**2 * variance) + by_lift**2) / abs(slope))

    def _rings(self, radii: Float64Array) -> Float64Array:
        """Return the means of the interpolated image on circles around the maximum."""
        terms = np.outer(self._waves(0, self.y), self._waves(0, self.x)) * self.spectrum
        # frequencies of the same length have the same mean on a circle
        length, which = np.unique(np.hypot(self.frequency[:, None], self.frequency), return_inverse=True)
        amplitudes = np.bincount(which.ravel(), terms.real.ravel())
        means: Float64Array = j0(2 * np.pi * np.outer(radii, length)) @ amplitudes
        return means

    def _waves(self, order: int, place: float) -> Complex128Array:
        wave = 2j * np.pi * self.frequency
        waves: Complex128Array = wave**order * np.exp(wave * place)
        return waves

    def _kernel(
        self, response_px: tuple[float, ...], orders: tuple[int, int] = (0, 0), radius: float = 0.0
    ) -> Float64Array:
        """Return how white noise in the pixels, before it passes the responses, adds to a value or its derivatives."""
        passed = np.prod([np.sinc(width * self.frequency) for width in response_px[1:]], axis=0)
        terms = np.outer(self._waves(orders[0], self.y) * passed, self._waves(orders[1], self.x) * passed)
        terms *= (self.spectrum != 0) * j0(2 * np.pi * radius * np.hypot(self.frequency[:, None], self.frequency))
        kernel: Float64Array = (self.analyse.T @ terms @ self.analyse).real
        return kernel


def band_limited_peak(patch: Float64Array, optics: Optics, pixel_arcsec: float) -> Peak:
    """Find the maximum of a star between the pixels.

    The patch is interpolated with the frequencies below the cut-off of the telescope: exact for a well sampled
    image, and noise at frequencies that the telescope does not transmit cannot raise the maximum.

    Parameters
    ----------
    patch : ndarray (side, side)
        The star on the central pixel.
    optics : Optics
        Telescope and filter.
    pixel_arcsec : float
        Plate scale [arcsec/pixel].

    Returns
    -------
    Peak
    """
    shortest = 1 - optics.width_nm / optics.wavelength_nm / 2
    return peak_below(patch, pixel_arcsec / (shortest * optics.lambda_over_d_arcsec))


def peak_below(patch: Float64Array, frequency: float) -> Peak:
    """Find the maximum of a patch (side, side) between its pixels with the frequencies below this one [1/pixel]."""
    size = len(patch)
    # one and a half steps more, because the taper spreads the spectrum
    cutoff = min(0.5, frequency + 1.5 / size)
    order = min(int(cutoff * size), (size - 1) // 2)
    frequencies = np.arange(-order, order + 1) / size
    pixel = np.arange(size) - size // 2
    # matrices instead of a padded transform: few frequencies and few points around the centre are needed
    analyse = np.exp(-2j * np.pi * np.outer(frequencies, pixel)) * _tukey(size) / size
    spectrum = analyse @ patch @ analyse.T
    if cutoff < 0.5:
        # the corners of the square of frequencies lie beyond the cut-off
        spectrum *= np.hypot(frequencies[:, None], frequencies) <= cutoff
    # of a faint star the pixel is the highest only of an image that is smoother
    place, top = np.zeros(2), 0.0
    for reach, step in _SEARCH_PX:
        grid = np.arange(-reach, reach + step / 2, step)
        rows, columns = (np.exp(2j * np.pi * np.outer(centre + grid, frequencies)) for centre in place)
        values = (rows @ spectrum @ columns.T).real
        i, j = np.unravel_index(np.argmax(values[1:-1, 1:-1]), (len(grid) - 2, len(grid) - 2))
        y, top = _vertex(values[i : i + 3, j + 1])
        x, _ = _vertex(values[i + 1, j : j + 3])
        place += np.array([grid[i + 1] + y * step, grid[j + 1] + x * step])
    return Peak(top, float(place[0]), float(place[1]), spectrum, frequencies, analyse)


def _tukey(size: int) -> Float64Array:
    """Return a window that is flat in the middle half and falls like a cosine (Harris 1978, Proc. IEEE 66, 51).

    Not that of scipy.signal, whose import takes longer than the whole measurement.
    """
    distance = np.minimum(np.arange(size), np.arange(size)[::-1]) / ((size - 1) / 4)
    return np.where(distance < 1, 0.5 - 0.5 * np.cos(np.pi * distance), 1.0)


def _vertex(values: Float64Array) -> tuple[float, float]:
    """Return position (from the middle one) and height of the parabola through three equidistant values."""
    before, middle, after = values
    curvature = before - 2 * middle + after
    position = np.clip(0.5 * (before - after) / curvature, -1, 1) if curvature < 0 else 0.0
    return float(position), float(middle - 0.25 * (before - after) * position)

"""Pixels of a stack that were filled from those around them, and the light of stars that this may have cost."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.photometry.source_detection import GAUSS_FWHM

COLUMNS = [("y_px", "i4"), ("x_px", "i4"), ("share", "f4")]
LEAST_SHARE = 1e-3
"""Of the weight of a pixel."""
AROUND = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
"""Pixels from which one is filled."""


def filled_pixels(share: FloatArray) -> NDArray[np.void]:
    """Return the table of filled pixels.

    Parameters
    ----------
    share : ndarray (ny, nx)
        Share of the weight of each pixel that comes from filled pixels.

    Returns
    -------
    structured ndarray (n,)
        ``y_px``, ``x_px`` from 0 and ``share``.
    """
    y, x = np.nonzero(share > LEAST_SHARE)
    table = np.zeros(len(y), COLUMNS)
    table["y_px"], table["x_px"], table["share"] = y, x, share[y, x]
    return table


def light_at_stake(
    filled: NDArray[np.void],
    stars: tuple[FloatArray, FloatArray],
    flux: FloatArray,
    fwhm_px: float,
    radius_px: float,
) -> Float64Array:
    """Estimate how wrong filled pixels make the light of stars, as if these were Gaussians.

    Parameters
    ----------
    filled : structured ndarray (m,)
        From :func:`filled_pixels`.
    stars : (y, x), each ndarray (n,)
        Positions [pixel]; NaN where unknown.
    flux : ndarray (n,)
        Their fluxes.
    fwhm_px : float
        Their width [pixel].
    radius_px : float
        Of the aperture [pixel].

    Returns
    -------
    ndarray (n,)
        Sum of the differences between the light of a pixel and the mean of those around it [unit of the flux].
    """
    places = np.stack([np.asarray(coordinate, float) for coordinate in stars], axis=1)
    known = np.flatnonzero(np.isfinite(places).all(axis=1) & np.isfinite(flux))
    lost = np.zeros(len(places))
    if not (known.size and len(filled)):
        return lost
    pixels = np.stack([filled["y_px"], filled["x_px"]], axis=1).astype(float)
    near = cKDTree(places[known]).query_ball_point(pixels, radius_px + 1)
    pixel = np.repeat(np.arange(len(pixels)), [len(found) for found in near])
    star = known[np.concatenate([np.asarray(found, int) for found in near])]
    offset, variance = pixels[pixel] - places[star], (fwhm_px / GAUSS_FWHM) ** 2

    def light(dy: int, dx: int) -> Float64Array:
        squared = (offset[:, 0] + dy) ** 2 + (offset[:, 1] + dx) ** 2
        of_pixel: Float64Array = np.exp(-squared / (2 * variance)) / (2 * np.pi * variance)
        return of_pixel

    around = sum((light(dy, dx) for dy, dx in AROUND), np.zeros(len(pixel))) / len(AROUND)
    np.add.at(lost, star, filled["share"][pixel] * np.abs(flux[star] * (light(0, 0) - around)))
    return lost

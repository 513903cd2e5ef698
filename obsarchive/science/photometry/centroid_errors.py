"""Standard errors of centroids, propagated from the noise of the pixels."""

import numpy as np
from numba import njit

from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.photometry.source_detection import GAUSS_FWHM, Sources

WINDOW_SIGMA = 4.0
"""Radius to which the window of a centroid counts, in units of its width."""
SAMPLED_SIGMA, SUBPIXELS = 1.2, 5
"""Width below which a pixel is divided, and into how many parts along an axis [pixel]."""


def windowed_errors(image: FloatArray, variance: FloatArray, sources: Sources) -> tuple[Float64Array, Float64Array]:
    """Return the errors of centroids in a Gaussian window that follows the star.

    The window ends where the weighted sum of the distances from its centre is zero; the error of the centre is the
    noise of that sum over its change with the centre.

    Parameters
    ----------
    image, variance : ndarray (ny, nx)
        Background-subtracted image, NaN where pixels are bad, and the variance of its pixels.
    sources : Sources
        Sources with windowed centroids.

    Returns
    -------
    (ndarray (n,), ndarray (n,))
        Standard errors along y and x [pixel]; NaN for a source without a width, or too faint for one.
    """
    sigma = sources.fwhm_px / GAUSS_FWHM
    half = np.ceil(WINDOW_SIGMA * np.where(np.isfinite(sigma), sigma, 0.0))
    return _of_all(image, variance, sources, half, False)


def fitted_errors(
    image: FloatArray, variance: FloatArray, sources: Sources, side_px: int
) -> tuple[Float64Array, Float64Array]:
    """Return the errors of the centres of Gaussians fitted without weights.

    Parameters
    ----------
    image, variance : ndarray (ny, nx)
        Background-subtracted image, NaN where pixels are bad, and the variance of its pixels.
    sources : Sources
        Sources with the centres and widths of fitted Gaussians.
    side_px : int
        Side of the square that was fitted [pixel].

    Returns
    -------
    (ndarray (n,), ndarray (n,))
        Standard errors along y and x [pixel]; NaN for a source without a width, or too faint for one.
    """
    return _of_all(image, variance, sources, np.full(len(sources), side_px // 2), True)


def _of_all(
    image: FloatArray, variance: FloatArray, sources: Sources, half: FloatArray, is_fitted: bool
) -> tuple[Float64Array, Float64Array]:
    centres = np.array([sources.y, sources.x, sources.fwhm_px / GAUSS_FWHM], np.float64)
    centres[:, ~(np.isfinite(centres).all(axis=0) & (centres[2] > 0))] = np.nan
    planes = np.ascontiguousarray(image, np.float64), np.ascontiguousarray(variance, np.float64)
    y, x = _errors(*planes, centres, half.astype(np.int64), is_fitted)
    return y, x


@njit(cache=True)
def _errors(image, variance, centres, half, is_fitted):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Errors (2, n) of centres (y, x, sigma), from squares of twice the half side and one."""
    found = np.full((2, centres.shape[1]), np.nan)
    for i in range(centres.shape[1]):
        y, x, sigma = centres[0, i], centres[1, i], centres[2, i]
        if not np.isfinite(y):
            continue
        noise_y, noise_x, change_y, change_x, light, power = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for row in range(max(int(np.rint(y)) - half[i], 0), min(int(np.rint(y)) + half[i] + 1, image.shape[0])):
            for column in range(max(int(np.rint(x)) - half[i], 0), min(int(np.rint(x)) + half[i] + 1, image.shape[1])):
                value = image[row, column]
                if not np.isfinite(value):
                    continue
                weight, along_y, along_x, square_y, square_x = _window(row - y, column - x, sigma)
                light += weight * value
                power += weight * weight
                noise_y += along_y * along_y * variance[row, column]
                noise_x += along_x * along_x * variance[row, column]
                change_y += along_y * along_y if is_fitted else square_y * value
                change_x += along_x * along_x if is_fitted else square_x * value
        # the height of a fitted Gaussian turns its slope into counts
        height = light / power if power > 0 else 0.0
        slope_y = height * change_y / sigma**2 if is_fitted else light - change_y / sigma**2
        slope_x = height * change_x / sigma**2 if is_fitted else light - change_x / sigma**2
        if min(slope_y, slope_x) > 0 and light > 0:
            found[0, i], found[1, i] = np.sqrt(noise_y) / slope_y, np.sqrt(noise_x) / slope_x
    return found


@njit(cache=True)
def _window(dy, dx, sigma):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Means over a pixel of a Gaussian, of that times the distances along y and x, and times their squares."""
    # the Gaussian of an undersampled star changes within a pixel
    n = 1 if sigma > SAMPLED_SIGMA else SUBPIXELS
    weight, along_y, along_x, square_y, square_x = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        y = dy + (i + 0.5) / n - 0.5
        for j in range(n):
            x = dx + (j + 0.5) / n - 0.5
            part = np.exp(-(y * y + x * x) / (2 * sigma**2)) / (n * n)
            weight += part
            along_y += part * y
            along_x += part * x
            square_y += part * y * y
            square_x += part * x * x
    return weight, along_y, along_x, square_y, square_x

"""What stands out beside a star: signal-to-noise ratio of apertures among the others of their ring.

With the statistics of small samples (Mawet et al. 2014, ApJ 792, 97): close to the star a ring holds only few
apertures.
"""

from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage, special

from obsarchive.science.psf.subtraction import Image, radii

LEAST_FWHM_PX = 2.0


def aperture_flux(image: NDArray, fwhm_px: float) -> Image:
    """Flux in an aperture one FWHM wide around every pixel; NaN counts as zero.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Residual image.
    fwhm_px : float
        Diameter of the aperture [pixel].

    Returns
    -------
    ndarray (ny, nx)
    """
    return ndimage.convolve(np.nan_to_num(np.asarray(image, np.float32)), aperture(fwhm_px), mode="constant")


def aperture(fwhm_px: float) -> Image:
    """Weights of the pixels in an aperture one FWHM wide."""
    half = int(np.ceil(fwhm_px / 2))
    distance = np.hypot(*np.ogrid[-half : half + 1, -half : half + 1])
    return np.clip(fwhm_px / 2 + 0.5 - distance, 0, 1).astype(np.float32)


def aperture_at(place: NDArray, fwhm_px: float, side: int) -> Image:
    """Weights (side, side) of an :func:`aperture` at a place (dy, dx) from the centre, also between the pixels."""
    y, x = place + side // 2
    kernel = aperture(fwhm_px)
    half = len(kernel) // 2
    out = np.zeros((side, side), np.float32)
    for top, wy in ((int(y), 1 - y % 1), (int(y) + 1, y % 1)):
        for left, wx in ((int(x), 1 - x % 1), (int(x) + 1, x % 1)):
            part = out[top - half : top + half + 1, left - half : left + half + 1]
            if part.shape == kernel.shape:
                part += np.float32(wy * wx) * kernel
    return out


def snr_map(residual: NDArray, fwhm_px: float) -> Image:
    """Signal-to-noise ratio of an aperture at every pixel among the others of its ring (Mawet et al. 2014, eq. 9).

    Parameters
    ----------
    residual : ndarray (side, side)
        Subtracted star.
    fwhm_px : float
        Diameter of an aperture [pixel].

    Returns
    -------
    ndarray (side, side)
        NaN where nothing is known, or a ring has fewer than four apertures.
    """
    flux = aperture_flux(residual, fwhm_px)
    return _snr_map(flux, np.isfinite(residual), float(fwhm_px))


@njit(cache=True)
def _snr_map(flux, known, fwhm):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    side = flux.shape[0]
    half = side // 2
    out = np.full(flux.shape, np.nan, np.float32)
    for row in range(side):
        for column in range(side):
            y, x = row - half, column - half
            radius = np.hypot(y, x)
            n = int(2 * np.pi * radius / fwhm)
            if not known[row, column] or n < 5 or radius + fwhm / 2 > half:
                continue
            start = np.arctan2(y, x)
            total, squares, count = 0.0, 0.0, 0
            for k in range(2, n - 1):  # its neighbours hold its own light
                angle = start + 2 * np.pi * k / n
                fy, fx = half + radius * np.sin(angle), half + radius * np.cos(angle)
                iy, ix = min(int(fy), side - 2), min(int(fx), side - 2)
                wy, wx = fy - iy, fx - ix
                value = (flux[iy, ix] * (1 - wx) + flux[iy, ix + 1] * wx) * (1 - wy) + (
                    flux[iy + 1, ix] * (1 - wx) + flux[iy + 1, ix + 1] * wx
                ) * wy
                total += value
                squares += value * value
                count += 1
            if count < 3:
                continue
            mean = total / count
            variance = max(squares / count - mean * mean, 0.0) * count / (count - 1)
            if variance > 0:
                out[row, column] = (flux[row, column] - mean) / np.sqrt(variance * (1 + 1 / count))
    return out


def significance(snr: NDArray, radius_px: NDArray, fwhm_px: float) -> NDArray[np.float64]:
    """Standard deviations of a Gaussian that have as many false alarms as a signal-to-noise ratio at a radius.

    Parameters
    ----------
    snr : ndarray
        Signal-to-noise ratios.
    radius_px : ndarray
        Distances from the star, of the same shape [pixel].
    fwhm_px : float
        Diameter of an aperture [pixel].

    Returns
    -------
    ndarray
    """
    freedom = np.maximum((2 * np.pi * np.asarray(radius_px) / fwhm_px).astype(int) - 4, 1)
    with np.errstate(divide="ignore"):
        return -special.ndtri(np.clip(special.stdtr(freedom, -snr), 1e-300, 1))


def brightest_source(snr: NDArray, fwhm_px: float, beyond_px: float) -> tuple[int, int, float]:
    """Most significant source of a map from :func:`snr_map`, outside of a radius.

    Parameters
    ----------
    snr : ndarray (side, side)
        Signal-to-noise ratios; NaN where nothing is known.
    fwhm_px : float
        Diameter of an aperture [pixel].
    beyond_px : float
        Sources nearer to the centre are left alone [pixel].

    Returns
    -------
    (int, int, float)
        Its pixel (y, x), and its significance as standard deviations of a Gaussian; -inf when nothing is known.
    """
    radius = radii(len(snr))
    level = np.where(np.isfinite(snr) & (radius >= beyond_px), significance(snr, radius, fwhm_px), -np.inf)
    y, x = np.unravel_index(np.argmax(level), level.shape)
    return int(y), int(x), float(level[y, x])


def without_halo(stamp: NDArray) -> Image:
    """Stamp (side, side) of a star minus the median of the pixels on each ring."""
    radius = radii(len(stamp))
    ring = np.rint(radius).astype(int)
    known = np.isfinite(stamp)
    order = np.argsort(ring[known], kind="stable")
    values, rings = np.asarray(stamp)[known][order], ring[known][order]
    edges = np.searchsorted(rings, np.arange(ring.max() + 2))
    halo = np.array([np.median(values[a:b]) if b > a else 0.0 for a, b in pairwise(edges)])
    return (stamp - np.interp(radius, np.arange(len(halo)), halo)).astype(np.float32)

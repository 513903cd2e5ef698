"""Detection of companions: signal-to-noise ratio of an aperture relative to the others at the same separation.

With small-sample statistics (Mawet et al. 2014, ApJ 792, 97): close to the star a ring holds only few apertures.
Residual speckles and few photons have a longer positive tail than a Gaussian; it is measured in each image.
"""

from itertools import pairwise

import numpy as np
from numba import njit
from scipy import ndimage, special

from obsarchive.science.arrays import Float32Array, Float64Array, FloatArray
from obsarchive.science.psf.subtraction import radii
from obsarchive.science.statistics import median_of_all

LEAST_FWHM_PX = 2.0
FIVE_SIGMA = float(special.ndtr(-5.0))
"""False-alarm probability of five standard deviations of a Gaussian."""
RARE = np.array([0.2, 0.1, 0.05, 0.02, 0.01])
"""Shares of the pixels, the brightest ones, that show the tail of the noise: more than companions cover."""
LEAST_SNR = 2.0
"""Signal-to-noise ratio of a pixel below which it is no source."""
PLACES_PER_FWHM = 3
"""Places of a ring for which a limit is computed, per FWHM: as many as differ."""


def aperture_flux(image: FloatArray, fwhm_px: float) -> Float32Array:
    """Compute the flux in an aperture of one FWHM diameter around every pixel; NaN counts as zero.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Residual image.
    fwhm_px : float
        Diameter of the aperture [pixel].

    Returns
    -------
    ndarray (ny, nx) float32
        Fluxes [unit of the image].
    """
    clean = np.nan_to_num(np.asarray(image, np.float32))
    flux: Float32Array = ndimage.convolve(clean, aperture(fwhm_px), mode="constant")
    return flux


def aperture(fwhm_px: float) -> Float32Array:
    """Return the weights (0 to 1) of the pixels in an aperture of one FWHM diameter, odd side."""
    half = int(np.ceil(fwhm_px / 2))
    distance = np.hypot(*np.ogrid[-half : half + 1, -half : half + 1])
    # an edge one pixel wide approximates the shared area of circle and pixel
    return np.clip(fwhm_px / 2 + 0.5 - distance, 0, 1).astype(np.float32)


def aperture_at(place: FloatArray, fwhm_px: float, side: int) -> Float32Array:
    """Return the weights of an :func:`aperture` at a position between the pixels.

    Parameters
    ----------
    place : ndarray (2,)
        Position (dy, dx) from the central pixel [pixel].
    fwhm_px : float
        Diameter of the aperture [pixel].
    side : int
        Side of the stamp [pixel].

    Returns
    -------
    ndarray (side, side) float32
        Weights; zero where the aperture reaches beyond the stamp.
    """
    y, x = place + side // 2
    kernel = aperture(fwhm_px)
    half = len(kernel) // 2
    out = np.zeros((side, side), np.float32)
    # the same as interpolating aperture_flux bilinearly at this position
    for top, wy in ((int(y), 1 - y % 1), (int(y) + 1, y % 1)):
        for left, wx in ((int(x), 1 - x % 1), (int(x) + 1, x % 1)):
            part = out[top - half : top + half + 1, left - half : left + half + 1]
            if part.shape == kernel.shape:
                part += np.float32(wy * wx) * kernel
    return out


def snr_map(residual: FloatArray, fwhm_px: float) -> Float32Array:
    """Compute the signal-to-noise ratio of an aperture at every pixel (Mawet et al. 2014, eq. 9).

    Parameters
    ----------
    residual : ndarray (side, side)
        Star-subtracted stamp; NaN where unknown.
    fwhm_px : float
        Diameter of an aperture [pixel].

    Returns
    -------
    ndarray (side, side) float32
        NaN where unknown, or where fewer than three other apertures fit on the ring.
    """
    flux = aperture_flux(residual, fwhm_px)
    snr: Float32Array = _snr_map(flux, np.isfinite(residual), float(fwhm_px))
    return snr


def snr_at(residual: FloatArray, rest: FloatArray, place: tuple[float, float], fwhm_px: float) -> float:
    """Compute the signal-to-noise ratio of an aperture at a position between the pixels.

    Parameters
    ----------
    residual : ndarray (side, side)
        Star-subtracted stamp; NaN where unknown.
    rest : ndarray (side, side)
        The same without the source, whose wings are no noise.
    place : (float, float)
        Position (dy, dx) from the central pixel [pixel].
    fwhm_px : float
        Diameter of an aperture [pixel].

    Returns
    -------
    float
        As in :func:`snr_map`; NaN beyond the rings that are known.
    """
    flux, others = aperture_flux(residual, fwhm_px), aperture_flux(rest, fwhm_px)
    return float(_snr(flux, others, float(place[0]), float(place[1]), float(fwhm_px)))


def least_fluxes(flux: Float32Array, radius_px: float, fwhm_px: float, least: float) -> Float64Array:
    """Compute the flux that a source at each place of a ring needs for a signal-to-noise ratio.

    Parameters
    ----------
    flux : ndarray (side, side)
        Fluxes of apertures, from :func:`aperture_flux`.
    radius_px : float
        Radius of the ring [pixel].
    fwhm_px : float
        Diameter of an aperture [pixel].
    least : float
        Signal-to-noise ratio, as in :func:`snr_map`.

    Returns
    -------
    ndarray (n,)
        Fluxes in an aperture on top of the residual [unit of the image]; NaN where unknown.
    """
    fluxes: Float64Array = _least_fluxes(flux, float(radius_px), float(fwhm_px), float(least))
    return fluxes


@njit(cache=True)
def _least_fluxes(flux, radius, fwhm, least):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    n = PLACES_PER_FWHM * int(2 * np.pi * radius / fwhm)
    out = np.empty(n)
    for k in range(n):
        angle = 2 * np.pi * k / n
        mean, noise = _others(flux, radius, angle, fwhm)
        out[k] = mean + least * noise - _between(flux, radius * np.sin(angle), radius * np.cos(angle))
    return out


@njit(cache=True)
def _snr_map(flux, known, fwhm):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    side = flux.shape[0]
    half = side // 2
    out = np.full(flux.shape, np.nan, np.float32)
    for row in range(side):
        for column in range(side):
            if known[row, column]:
                out[row, column] = _snr(flux, flux, float(row - half), float(column - half), fwhm)
    return out


@njit(cache=True)
def _snr(flux, others, y, x, fwhm):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    radius, start = np.hypot(y, x), np.arctan2(y, x)
    mean, noise = _others(others, radius, start, fwhm)
    return (_between(flux, y, x) - mean) / noise


@njit(cache=True)
def _others(others, radius, start, fwhm):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Mean of the other apertures of a ring, and their scatter with the error of this mean; NaN if unknown."""
    n = int(2 * np.pi * radius / fwhm)
    if n < 5 or radius + fwhm / 2 > others.shape[0] // 2:
        return np.nan, np.nan
    total, squares, count = 0.0, 0.0, 0
    # turned from aperture to aperture: sine and cosine of each angle would take most of the time
    step = 2 * np.pi / n
    turn_y, turn_x = np.sin(step), np.cos(step)
    y, x = radius * np.sin(start + step), radius * np.cos(start + step)
    for _ in range(2, n - 1):  # the adjacent apertures hold flux of the source itself
        y, x = y * turn_x + x * turn_y, x * turn_x - y * turn_y
        value = _between(others, y, x)
        total += value
        squares += value * value
        count += 1
    if count < 3:
        return np.nan, np.nan
    mean = total / count
    # unbiased variance; the mean of `count` apertures has an error of its own (two-sample t statistic)
    variance = max(squares / count - mean * mean, 0.0) * count / (count - 1)
    return mean, np.sqrt(variance * (1 + 1 / count)) if variance > 0 else np.nan


@njit(cache=True)
def _between(flux, y, x):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Bilinear interpolation at a place relative to the central pixel."""
    side = flux.shape[0]
    fy, fx = side // 2 + y, side // 2 + x
    iy, ix = min(int(fy), side - 2), min(int(fx), side - 2)
    wy, wx = fy - iy, fx - ix
    return (flux[iy, ix] * (1 - wx) + flux[iy, ix + 1] * wx) * (1 - wy) + (
        flux[iy + 1, ix] * (1 - wx) + flux[iy + 1, ix + 1] * wx
    ) * wy


def significance(
    snr: FloatArray, radius_px: FloatArray, fwhm_px: float, tail: float | FloatArray = 1.0
) -> Float64Array:
    """Compute the standard deviations of a Gaussian with the same false-alarm probability as an S/N of few apertures.

    Parameters
    ----------
    snr : ndarray
        Signal-to-noise ratios.
    radius_px : ndarray
        Separations from the star, same shape [pixel].
    fwhm_px : float
        Diameter of an aperture [pixel].
    tail : float or ndarray
        Length of the tail of the noise, from :func:`noise_tail`; one for all, or of the shape of the others.

    Returns
    -------
    ndarray
        Standard deviations, same shape.
    """
    with np.errstate(divide="ignore"):
        # bounded: the normal quantile of zero is infinite
        chance = np.clip(special.stdtr(_freedom(radius_px, fwhm_px), -np.asarray(snr) / tail), 1e-300, 1)
        deviations: Float64Array = -special.ndtri(chance)
    return deviations


def least_snr(radius_px: FloatArray, fwhm_px: float, tail: float | FloatArray = 1.0) -> Float64Array:
    """Compute the signal-to-noise ratio of a :func:`significance` of five standard deviations.

    Parameters
    ----------
    radius_px : ndarray
        Separations from the star [pixel].
    fwhm_px : float
        Diameter of an aperture [pixel].
    tail : float or ndarray
        Length of the tail of the noise, from :func:`noise_tail`; one for all, or of the shape of the others.

    Returns
    -------
    ndarray
        Signal-to-noise ratios, same shape.
    """
    least: Float64Array = -tail * special.stdtrit(_freedom(radius_px, fwhm_px), FIVE_SIGMA)
    return least


def _freedom(radius_px: FloatArray, fwhm_px: float) -> Float64Array:
    """Return the apertures of the ring, less the source, its two neighbours and the mean."""
    freedom: Float64Array = np.maximum(np.floor(2 * np.pi * np.asarray(radius_px) / fwhm_px) - 4, 1)
    return freedom


def noise_tail(snr: FloatArray, fwhm_px: float, beyond_px: float, until_px: float = np.inf) -> float:
    """Compute the excess of noise as rare as five sigma over five standard deviations of a Gaussian.

    The ratio of the quantiles of all pixels to those of a Gaussian is extrapolated to five sigma: it is linear in them
    to first order for any distribution close to a Gaussian (Cornish & Fisher 1938), also for a mixture of several.

    Parameters
    ----------
    snr : ndarray (side, side)
        Signal-to-noise ratios; NaN where unknown.
    fwhm_px : float
        Diameter of an aperture [pixel].
    beyond_px, until_px : float
        Pixels closer to the centre, and further from it, are ignored [pixel].

    Returns
    -------
    float
        Factor, at least 1.
    """
    radius = radii(len(snr))
    known = np.isfinite(snr) & (radius >= beyond_px) & (radius <= until_px)
    if not known.any():
        return 1.0
    levels = np.sign(snr[known]) * significance(np.abs(snr[known]), radius[known], fwhm_px)
    normal = -special.ndtri(RARE)
    ratios = np.quantile(levels, 1 - RARE) / normal
    # by the errors of the ratios: few pixels are rare, and frequent quantiles are close to zero
    weight = normal * np.exp(-(normal**2) / 2) / np.sqrt(RARE)
    slope, offset = np.polyfit(normal, ratios, 1, w=weight)
    return max(float(offset + 5.0 * slope), 1.0)


def brightest_source(
    snr: FloatArray, fwhm_px: float, beyond_px: float, tail: float | FloatArray = 1.0
) -> tuple[int, int, float]:
    """Return the most significant source of a map from :func:`snr_map`, outside of a radius.

    Parameters
    ----------
    snr : ndarray (side, side)
        Signal-to-noise ratios; NaN where unknown.
    fwhm_px : float
        Diameter of an aperture [pixel].
    beyond_px : float
        Sources closer to the centre are ignored [pixel].
    tail : float or ndarray
        Length of the tail of the noise, from :func:`noise_tail`; one for all, or of the shape of the others.

    Returns
    -------
    (int, int, float)
        Pixel (y, x), and significance as standard deviations of a Gaussian; -inf when no S/N exceeds `LEAST_SNR`.
    """
    radius = radii(len(snr))
    # few pixels: quantiles of Student's distribution are slow
    high = np.isfinite(snr) & (radius >= beyond_px) & (snr > LEAST_SNR)
    level = np.full(snr.shape, -np.inf)
    level[high] = significance(snr[high], radius[high], fwhm_px, np.broadcast_to(tail, snr.shape)[high])
    y, x = np.unravel_index(np.argmax(level), level.shape)
    return int(y), int(x), float(level[y, x])


def without_halo(stamp: FloatArray) -> Float32Array:
    """Return a stamp (side, side) of a star minus the median of the pixels at the same radius."""
    radius = radii(len(stamp))
    ring = np.rint(radius).astype(int)
    known = np.isfinite(stamp)
    # sorted by ring, each ring is one slice: no mask of the whole stamp per ring
    order = np.argsort(ring[known], kind="stable")
    values, rings = np.asarray(stamp)[known][order], ring[known][order]
    edges = np.searchsorted(rings, np.arange(ring.max() + 2))
    halo = np.array([median_of_all(values[a:b]) if b > a else 0.0 for a, b in pairwise(edges)])
    rest: Float32Array = (stamp - np.interp(radius, np.arange(len(halo)), halo)).astype(np.float32)
    return rest

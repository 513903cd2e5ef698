"""Spherical astronomy by unit vectors, which have no singularity at 0 h or at the poles."""

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from obsarchive.science.arrays import Float64Array, FloatArray

MAS = np.radians(1.0 / 3.6e6)


def unit_vectors(ra_deg: FloatArray, dec_deg: FloatArray) -> Float64Array:
    """Return the unit vectors of positions on the sky.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray (n,)
        Positions [deg].

    Returns
    -------
    ndarray (n, 3)
        Unit vectors.
    """
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def tangent_plane_offsets(
    ra_deg: FloatArray, dec_deg: FloatArray, centre: tuple[float, float] | None = None
) -> tuple[Float64Array, Float64Array]:
    """Return the offsets of positions to the east and north on the tangent plane.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray (n,)
        Positions [deg]; NaN where unknown.
    centre : (float, float), optional
        Reference position [deg]; by default the median of the positions.

    Returns
    -------
    east, north : ndarray (n,)
        Offsets [arcsec].
    """
    ra, dec = np.ascontiguousarray(ra_deg, np.float64), np.ascontiguousarray(dec_deg, np.float64)
    if centre is not None:
        x, y = _tangent(ra, dec, *centre)
        return x, y
    x, y = _about_median(ra, dec)
    return x, y


@njit(cache=True)
def _tangent(ra, dec, ra0, dec0):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    x, y = np.empty(ra.size), np.empty(ra.size)
    sin0, cos0 = np.sin(np.radians(dec0)), np.cos(np.radians(dec0))
    arcsec = 3600.0 * np.degrees(1.0)
    for i in range(ra.size):
        apart, up = np.radians(ra[i] - ra0), np.radians(dec[i])
        sin_dec, cos_dec, cos_apart = np.sin(up), np.cos(up), np.cos(apart)
        towards = sin0 * sin_dec + cos0 * cos_dec * cos_apart
        x[i] = cos_dec * np.sin(apart) / towards * arcsec
        y[i] = (cos0 * sin_dec - sin0 * cos_dec * cos_apart) / towards * arcsec
    return x, y


@njit(cache=True)
def _about_median(ra, dec):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if known.size == 0:
        return np.full(ra.size, np.nan), np.full(ra.size, np.nan)
    # any position near by serves as the tangent point: the median offset is subtracted
    x, y = _tangent(ra, dec, ra[known[0]], dec[known[0]])
    return x - np.median(x[known]), y - np.median(y[known])


def radec_of(vectors: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return right ascension (0 to 360) and declination [deg] of vectors (n, 3) of any length."""
    ra = np.degrees(np.arctan2(vectors[..., 1], vectors[..., 0])) % 360.0
    # an arctangent is accurate at the poles, where an arcsine is not
    dec = np.degrees(np.arctan2(vectors[..., 2], np.hypot(vectors[..., 0], vectors[..., 1])))
    return ra, dec


def apply_proper_motion(
    place: tuple[ArrayLike, ArrayLike], motion: tuple[ArrayLike, ArrayLike], years: float
) -> tuple[Float64Array, Float64Array]:
    """Apply proper motions.

    Motion is along straight lines on the tangent plane, without parallax and radial velocity, which most
    catalogues do not have for every star; they shift few stars by more than a milliarcsecond in a decade.

    Parameters
    ----------
    place : (array_like, array_like)
        Right ascension and declination (n,) [deg].
    motion : (array_like, array_like)
        Proper motion in right ascension times cos(declination), and in declination (n,) [mas/yr]; NaN: none.
    years : float
        Time from the epoch of the positions [yr].

    Returns
    -------
    ra, dec : ndarray (n,)
        Right ascension (0 to 360) and declination [deg].
    """
    ra, dec = (np.asarray(angle, np.float64) for angle in place)
    along, up = (np.nan_to_num(np.asarray(rate, np.float64)) * (MAS * years) for rate in motion)
    sin_ra, cos_ra = np.sin(np.radians(ra)), np.cos(np.radians(ra))
    sin_dec, cos_dec = np.sin(np.radians(dec)), np.cos(np.radians(dec))
    east = np.stack([-sin_ra, cos_ra, np.zeros_like(ra)], axis=-1)
    north = np.stack([-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec], axis=-1)
    return radec_of(unit_vectors(ra, dec) + along[..., None] * east + up[..., None] * north)

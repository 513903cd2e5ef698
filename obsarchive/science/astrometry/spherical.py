"""Places on the sky as unit vectors: the same at 0 h, at the poles, anywhere."""

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MAS = np.radians(1.0 / 3.6e6)


def unit_vectors(ra_deg: NDArray, dec_deg: NDArray) -> Floats:
    """Return unit vectors (n, 3) of places on the sky."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def tangent_plane_offsets(
    ra_deg: NDArray, dec_deg: NDArray, centre: tuple[float, float] | None = None
) -> tuple[Floats, Floats]:
    """Return offsets to the east and north on the tangent plane [arcsec], the same at 0 h, at the poles, anywhere.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray (n,)
        Places [deg]; NaN where unknown.
    centre : (float, float), optional
        Place that they are relative to; their own median if there is none.

    Returns
    -------
    (ndarray, ndarray)
        Offsets (n,).
    """
    ra, dec = np.ascontiguousarray(ra_deg, np.float64), np.ascontiguousarray(dec_deg, np.float64)
    if centre is not None:
        return _tangent(ra, dec, *centre)
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if not known.size:
        return np.full(len(ra), np.nan), np.full(len(ra), np.nan)
    # any of the places will do to measure from: the median of the offsets is what counts
    x, y = _tangent(ra, dec, ra[known[0]], dec[known[0]])
    return x - np.median(x[known]), y - np.median(y[known])


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


def radec_of(vectors: Floats) -> tuple[Floats, Floats]:
    """Return right ascension (0 to 360) and declination [deg] of vectors (n, 3) of any length."""
    ra = np.degrees(np.arctan2(vectors[..., 1], vectors[..., 0])) % 360.0
    dec = np.degrees(np.arctan2(vectors[..., 2], np.hypot(vectors[..., 0], vectors[..., 1])))
    return ra, dec


def apply_proper_motion(
    place: tuple[ArrayLike, ArrayLike], motion: tuple[ArrayLike, ArrayLike], years: float
) -> tuple[Floats, Floats]:
    """Return where stars are after some years.

    Straight lines on the tangent plane, as far as proper motions alone tell: parallax and radial velocity, which most
    catalogues do not have for every star, change the place of few stars by more than a milliarcsecond in a decade.

    Parameters
    ----------
    place : (array_like, array_like)
        Right ascension and declination (n,) [deg].
    motion : (array_like, array_like)
        Proper motion in right ascension times cos(declination), and in declination (n,) [mas/yr]; NaN: none.
    years : float
        Time from the epoch of the places [yr].

    Returns
    -------
    (ndarray, ndarray)
        Right ascension (0 to 360) and declination (n,) [deg].
    """
    ra, dec = (np.asarray(angle, np.float64) for angle in place)
    along, up = (np.nan_to_num(np.asarray(rate, np.float64)) * (MAS * years) for rate in motion)
    sin_ra, cos_ra = np.sin(np.radians(ra)), np.cos(np.radians(ra))
    sin_dec, cos_dec = np.sin(np.radians(dec)), np.cos(np.radians(dec))
    east = np.stack([-sin_ra, cos_ra, np.zeros_like(ra)], axis=-1)
    north = np.stack([-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec], axis=-1)
    return radec_of(unit_vectors(ra, dec) + along[..., None] * east + up[..., None] * north)

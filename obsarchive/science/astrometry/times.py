"""Time scales and light-time corrections: heliocentric and barycentric Julian dates."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import erfa
import numpy as np
from numpy.typing import ArrayLike

from obsarchive.science.arrays import Float64Array

AU_LIGHT_DAYS = erfa.DAU / erfa.CMPS / erfa.DAYSEC
"""Light travel time of an astronomical unit [d]."""
MJD_1970 = 40587.0
JD_OF_MJD = erfa.DJM0
"""Julian date of the modified Julian date 0 [d]."""


def mjd_of(moment: datetime) -> float:
    """Return the modified Julian date of an aware time [d, UTC]."""
    return MJD_1970 + (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(days=1)


def julian_year(mjd: float) -> float:
    """Return the Julian year of a date [d], the epoch of catalogues."""
    return 2000.0 + (mjd - 51544.5) / 365.25


def utc_of(mjd: ArrayLike, scale: str) -> Float64Array:
    """Return modified Julian dates in UTC.

    Parameters
    ----------
    mjd : array_like (n,)
        Modified Julian dates [d].
    scale : str
        Their scale: ``utc``, ``tai``, ``tt``, ``tdb`` (taken as TT: 2 ms) or ``tcb``.

    Returns
    -------
    ndarray (n,)
        Modified Julian dates, UTC [d].
    """
    known = np.atleast_1d(np.asarray(mjd, np.float64))
    if scale == "utc":
        return known
    day = np.full_like(known, erfa.DJM0)
    if scale == "tcb":
        day, known = erfa.tcbtdb(day, known)
    tai = (day, known) if scale == "tai" else erfa.tttai(day, known)
    first, second = erfa.taiutc(*tai)
    utc: Float64Array = (first - erfa.DJM0) + second
    return utc


@dataclass(frozen=True)
class LightCurveTimes:
    """Mid-exposure times of a light curve.

    Parameters
    ----------
    mjd_utc : ndarray (n,)
        Modified Julian date, UTC [d].
    hjd_utc : ndarray (n,)
        Heliocentric Julian date in UTC, as older light curves have it [d].
    bjd_tdb : ndarray (n,)
        Barycentric Julian date in barycentric dynamical time [d].
    """

    mjd_utc: Float64Array
    hjd_utc: Float64Array
    bjd_tdb: Float64Array


def light_curve_times(mjd_utc: ArrayLike, ra_deg: float, dec_deg: float) -> LightCurveTimes:
    """Compute heliocentric and barycentric Julian dates.

    Positions of the Earth are those of ERFA (epv00; Bretagnon & Francou 1988, VSOP87), good to some kilometres: 10 µs
    and less. The offset of the observer from the Earth's centre (21 ms at most) is neglected. Eastman et al. (2010,
    PASP 122, 935) define the quantities.

    Parameters
    ----------
    mjd_utc : array_like (n,)
        Modified Julian dates of the middle of the exposures, UTC [d].
    ra_deg, dec_deg : float
        Direction of the target [deg, ICRS].

    Returns
    -------
    LightCurveTimes
        Dates (n,) [d].
    """
    mjd = np.atleast_1d(np.asarray(mjd_utc, np.float64))
    day = np.full_like(mjd, erfa.DJM0)
    tt = erfa.taitt(*erfa.utctai(day, mjd))
    # TDB - TT stays below 2 ms; UT1 and the observer's place would change it by microseconds
    tdb = erfa.tttdb(*tt, erfa.dtdb(*tt, 0.0, 0.0, 0.0, 0.0))
    heliocentric, barycentric = erfa.epv00(*tdb)
    towards = erfa.s2c(np.radians(ra_deg), np.radians(dec_deg))
    to_sun, to_barycentre = (AU_LIGHT_DAYS * (earth["p"] @ towards) for earth in (heliocentric, barycentric))
    return LightCurveTimes(mjd, erfa.DJM0 + mjd + to_sun, tdb[0] + tdb[1] + to_barycentre)

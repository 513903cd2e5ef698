"""Times at the Sun and at the barycentre, against astropy and a published value."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.time import Time
from astropy.utils import iers
from hypothesis import given, settings
from hypothesis import strategies as st

from obsarchive.science.astrometry.times import light_curve_times

# at the Earth's centre its rotation does not matter, so no table of it need be recent
iers.conf.auto_download, iers.conf.auto_max_age = False, None
iers.conf.iers_degraded_accuracy = "ignore"
CENTRE = EarthLocation.from_geocentric(0, 0, 0, unit=u.m)


@given(mjd=st.floats(51544, 61500), ra=st.floats(0, 359.9), dec=st.floats(-89, 89))
@settings(max_examples=40)
def test_times_are_those_of_astropy(mjd: float, ra: float, dec: float) -> None:
    ours = light_curve_times(mjd, ra, dec)
    time, target = Time(mjd, format="mjd", scale="utc", location=CENTRE), SkyCoord(ra, dec, unit="deg")
    theirs = time.tdb.jd + time.light_travel_time(target, "barycentric").to_value(u.day)
    assert ours.bjd_tdb[0] == pytest.approx(theirs, abs=0.005 / 86400)
    sun = time.utc.jd + time.light_travel_time(target, "heliocentric").to_value(u.day)
    assert ours.hjd_utc[0] == pytest.approx(sun, abs=0.005 / 86400)


def test_utc_and_tdb_differ_by_the_leap_seconds() -> None:
    """37 leap seconds and 32.184 s since 2017, and the Sun's path around the barycentre (4 s)."""
    found = light_curve_times(np.array([58000.0, 58100.0, 58200.0]), 269.0, -29.0)
    assert 86400 * (found.bjd_tdb - found.hjd_utc) == pytest.approx(69.184, abs=4.5)
    assert found.mjd_utc.shape == found.bjd_tdb.shape == (3,)

"""The height of the sun, beside astropy's."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import AltAz, EarthLocation, get_sun
from astropy.time import Time
from astropy.utils import iers

from obsarchive.science.astrometry.sun import DARK_DEG, SUNSET_DEG, below, sun_height_deg

KITT_PEAK = (31.96, -111.6)


@pytest.mark.parametrize("place", [KITT_PEAK, (-29.25, -70.73), (69.0, 19.0)])
def test_the_height_of_the_sun(place) -> None:
    times = Time("2014-01-01") + np.arange(0, 3500, 37.77) * u.day
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
        frame = AltAz(obstime=times, location=EarthLocation(lat=place[0] * u.deg, lon=place[1] * u.deg))
        expected = get_sun(times).transform_to(frame).alt.deg
    found = [sun_height_deg(when, *place) for when in times.unix]
    assert np.abs(found - expected).max() < 0.05


def test_a_night_lies_within_twilight() -> None:
    middle = Time("2016-09-25T07:00:00").unix
    sunset, dark = below(SUNSET_DEG, middle, KITT_PEAK), below(DARK_DEG, middle, KITT_PEAK)
    assert sunset is not None
    assert dark is not None
    assert sunset[0] < dark[0] < middle < dark[1] < sunset[1]
    assert 60 < (dark[0] - sunset[0]) / 60 < 90
    assert below(SUNSET_DEG, Time("2016-09-25T19:00:00").unix, KITT_PEAK) is None
    summer = Time("2016-06-21T23:00:00").unix
    assert below(DARK_DEG, summer, (69.0, 19.0)) is None

"""Places on the sky against astropy: the same at 0 h, at the poles, anywhere."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time
from hypothesis import assume, example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from obsarchive.science.astrometry.spherical import apply_proper_motion, radec_of, tangent_plane_offsets, unit_vectors

ras, decs = st.floats(0, 360), st.floats(-90, 90)
ROUNDED = 1e-4
"""Declinations beside a pole that are made by arcsin have no more digits [arcsec]."""
CENTRES = [(0.0, 0.0), (359.9999, 12.0), (123.4, -88.0), (45.0, 90.0), (200.0, -90.0), (1e-7, 89.9999)]


def apart_mas(place, other) -> float:
    """Return the largest distance of places from others [mas], by astropy."""
    ours, theirs = (SkyCoord(np.atleast_1d(ra), np.atleast_1d(dec), unit="deg") for ra, dec in (place, other))
    return float(np.max(ours.separation(theirs).to_value(u.mas)))


@given(ras, decs)
@example(0.0, 90.0)
@example(360.0, -90.0)
def test_unit_vectors_are_those_of_astropy_and_lead_back(ra, dec):
    vector = unit_vectors(np.array([ra]), np.array([dec]))
    assert_allclose(vector[0], SkyCoord(ra, dec, unit="deg").cartesian.xyz.value, atol=1e-15)
    back = radec_of(7.5 * vector)
    assert 0 <= back[0][0] <= 360
    assert apart_mas(back, (ra, dec)) < 1e-5  # arcsin of what is near 1 has few digits, arctan does not


@pytest.mark.parametrize("centre", CENTRES)
def test_offsets_are_those_on_the_tangent_plane(centre):
    """A gnomonic projection: tan(distance), in the direction of the position angle."""
    rng = np.random.default_rng(1)
    middle = SkyCoord(*centre, unit="deg")
    angle, distance = rng.uniform(0, 360, 200), 10 ** rng.uniform(-1, 4, 200)
    places = middle.directional_offset_by(angle * u.deg, distance * u.arcsec)
    x, y = tangent_plane_offsets(places.ra.deg, places.dec.deg, centre)
    projected = np.degrees(np.tan(np.radians(distance / 3600))) * 3600
    assert_allclose(x, projected * np.sin(np.radians(angle)), atol=ROUNDED)
    assert_allclose(y, projected * np.cos(np.radians(angle)), atol=ROUNDED)


@pytest.mark.parametrize("centre", CENTRES)
def test_offsets_from_the_median_are_those_that_were_put_in_wherever_it_is(centre):
    rng = np.random.default_rng(2)
    east, north = rng.normal(0, 0.3, 301), rng.normal(0, 0.3, 301)
    angle, distance = np.arctan2(east, north), np.hypot(east, north)
    places = SkyCoord(*centre, unit="deg").directional_offset_by(angle * u.rad, distance * u.arcsec)
    ra, dec = places.ra.deg, places.dec.deg
    x, y = tangent_plane_offsets(ra, dec)
    # north is that of the first place, which at a pole is another one for every place
    turn = np.radians(SkyCoord(ra[0], dec[0], unit="deg").position_angle(places[1]).deg) - np.arctan2(
        east[1] - east[0], north[1] - north[0]
    )
    wanted = (east + 1j * north) * np.exp(-1j * turn)
    assert_allclose(x + np.median(wanted.real), wanted.real, atol=ROUNDED)
    assert_allclose(y + np.median(wanted.imag), wanted.imag, atol=ROUNDED)
    assert (np.median(x), np.median(y)) == pytest.approx((0, 0), abs=1e-9)


def test_unknown_places_stay_unknown_and_do_not_count():
    ra = np.array([np.nan, 359.9999, 0.0001, 0.0, 10.0, np.inf])
    dec = np.array([1.0, 0.0, 0.0, 0.0, np.nan, 0.0])
    x, y = tangent_plane_offsets(ra, dec)
    assert_allclose(x[1:4], [-0.36, 0.36, 0.0], atol=1e-9)
    assert_allclose(y[1:4], 0, atol=1e-12)
    for values in (x, y):
        assert np.isnan(values[[0, 4, 5]]).all()
    x, y = tangent_plane_offsets(np.full(3, np.nan), np.zeros(3))
    assert np.isnan(x).all()
    assert np.isnan(y).all()
    assert [len(values) for values in tangent_plane_offsets(np.empty(0), np.empty(0))] == [0, 0]
    x, _ = tangent_plane_offsets(np.array([np.nan, 5.001]), np.zeros(2), (5.0, 0.0))
    assert np.isnan(x[0])
    assert x[1] == pytest.approx(3.6)


def test_places_may_be_of_any_type_and_stride():
    ra, dec = np.array([10, 10, 11], np.int32), np.arange(6, dtype=np.float32)[::2]
    x, y = tangent_plane_offsets(ra, dec, (10.0, 2.0))
    assert x[1] == 0
    assert y[1] == 0
    assert (x[0], y[0]) == pytest.approx((0.0, -3600 * np.degrees(np.tan(np.radians(2)))))


# --------------------------------------------------------------------------------------------- proper motions


def by_astropy(ra, dec, pmra, pmdec, years):
    star = SkyCoord(
        ra=np.atleast_1d(ra) * u.deg,
        dec=np.atleast_1d(dec) * u.deg,
        pm_ra_cosdec=np.atleast_1d(pmra) * u.mas / u.yr,
        pm_dec=np.atleast_1d(pmdec) * u.mas / u.yr,
        distance=np.full(np.size(ra), 10.0) * u.pc,  # without one it warns; the direction does not depend on it
        obstime=Time(2016.0, format="jyear", scale="tdb"),
    )
    later = star.apply_space_motion(new_obstime=Time(2016.0 + years, format="jyear", scale="tdb"))
    return later.ra.deg, later.dec.deg


@pytest.mark.parametrize("years", [-16.0, 0.0, 10.0, 30.0])
def test_proper_motion_is_that_of_astropy(years):
    rng = np.random.default_rng(3)
    n = 300
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    pmra, pmdec = rng.normal(0, 1000, n), rng.normal(0, 1000, n)
    pmra[0], pmdec[0] = -801.551, 10362.394  # Barnard's star
    assert (
        apart_mas(apply_proper_motion((ra, dec), (pmra, pmdec), years), by_astropy(ra, dec, pmra, pmdec, years)) < 0.05
    )


@pytest.mark.parametrize("dec", [89.9999, 90.0, -90.0, -89.999999])
@pytest.mark.parametrize("ra", [0.0, 77.0, 359.99999])
def test_proper_motion_across_a_pole(ra, dec):
    pmra, pmdec = 3000.0, np.copysign(5000.0, dec)
    ours = apply_proper_motion((ra, dec), (pmra, pmdec), 20.0)
    assert apart_mas(ours, by_astropy(ra, dec, pmra, pmdec, 20.0)) < 0.05
    assert abs(ours[1]) < 90


def test_proper_motion_across_0_h():
    ra, dec = apply_proper_motion((np.array([359.9999]), np.array([0.0])), (np.array([3600.0]), np.array([0.0])), 1.0)
    assert ra[0] == pytest.approx(0.0009, abs=1e-9)
    assert dec[0] == pytest.approx(0, abs=1e-12)


@given(ras, st.floats(-89.9, 89.9), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(0.1, 30))
def test_a_star_moves_as_far_as_its_motion_and_the_time_say(ra, dec, pmra, pmdec, years):
    rate = np.hypot(pmra, pmdec)
    assume(rate > 1)
    place = apply_proper_motion((ra, dec), (pmra, pmdec), years)
    wanted = np.degrees(np.arctan(np.radians(rate * years / 3.6e6))) * 3.6e6
    assert apart_mas(place, (ra, dec)) == pytest.approx(wanted, abs=0.01)
    assert 0 <= place[0] <= 360


def test_an_unknown_motion_is_none():
    ra, dec = np.array([10.0, 20.0]), np.array([5.0, -5.0])
    found = apply_proper_motion((ra, dec), (np.array([np.nan, 1000.0]), np.array([np.nan, np.nan])), 10.0)
    assert_allclose([found[0][0], found[1][0]], [10.0, 5.0], atol=1e-12)
    assert found[0][1] == pytest.approx(20 + 10 / 3600 / np.cos(np.radians(5)), abs=1e-8)

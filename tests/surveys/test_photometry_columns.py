"""Columns of raw photometry, whatever they are called: times against astropy, brightness against its units."""

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.time import Time
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from obsarchive.errors import Unprocessable
from surveys.formats.photometry_columns import map_columns, mjds_of, simplify, standard_photometry

MJD = np.array([58000.25, 58100.5, 58465.125])
MS = 1e-3 / 86400
"""A millisecond [d]; Julian dates in double precision have 40 microseconds."""
MAG = np.array([15.0, 16.0, 17.0])
STAR = {"ra": 217.4, "dec": -62.7}


def standard(time, name="mjd", altdata=None, **columns):
    return standard_photometry({name: np.asarray(time), "mag": MAG[: len(time)], **columns}, altdata or {})


# ------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("MJD-50000", "mjd"),
        ("MJD - 50000", "mjd"),
        ("BJD - 2454833, days", "bjd"),
        ("Mag_err", "magerr"),
        ("mag errors", "magerror"),
        ("PDCSAP_FLUX_ERR", "pdcsapfluxerr"),
        ("RA_J2000", "raj"),
        ("RAJ2000", "raj"),
        ("Flags", "flag"),
        ("exp. time [s]", "exptime"),
        (3, ""),
        ("", ""),
        (None, "none"),
    ],
)
def test_names_are_simplified(name, plain):
    assert simplify(name) == plain


@pytest.mark.parametrize(
    ("names", "found", "scale", "offset"),
    [
        (["mjd", "mag", "magerr"], {"time": "mjd", "mag": "mag", "mag_err": "magerr"}, "mjd", 0),
        (["MJD-50000", "Mag"], {"time": "MJD-50000", "mag": "Mag"}, "mjd", 50000),
        (["HJD - 2450000.5", "mag"], {"time": "HJD - 2450000.5", "mag": "mag"}, "hjd", 2450000.5),
        (["BJD", "SAP_FLUX", "PDCSAP_FLUX"], {"time": "BJD", "flux": "PDCSAP_FLUX"}, "bjd", 0),
        (["obsmjd", "magpsf", "sigmapsf", "fid"], None, "mjd", 0),
        (["obs_jd", "mag"], {"time": "obs_jd", "mag": "mag"}, "jd", 0),
        (["TIMESTAMP", "flux"], {"time": "TIMESTAMP", "flux": "flux"}, "unix", 0),
        (["date", "flux"], {"time": "date", "flux": "flux"}, "date", 0),
        (["time", "QUALITY", "Filter"], {"time": "time", "flag": "QUALITY", "filter": "Filter"}, "", 0),
        (["hjd", "mjd", "ra", "dec"], {"time": "mjd", "ra": "ra", "dec": "dec"}, "mjd", 0),
        ([0, 1, 2.5, None], {}, "", 0),
    ],
)
def test_columns_are_recognised(names, found, scale, offset):
    """Names without blanks, and names that are numbers, broke the published package."""
    mapped = map_columns(names, {})
    if found is None:
        found = {"time": "obsmjd", "mag": "magpsf", "mag_err": "sigmapsf", "filter": "fid"}
    assert dict(mapped.names) == found
    assert (mapped.time_scale, mapped.time_offset) == (scale, offset)


@given(st.lists(st.text(max_size=8) | st.integers() | st.floats(), max_size=8))
@example(["MJD-", "-5", "MJD-5.", "MJD - 5.5.5"])
def test_any_names_are_recognised_or_passed_over(names):
    mapped = map_columns(names, {})
    assert set(mapped.names.values()) <= {str(name) for name in names}
    assert np.isfinite(mapped.time_offset)


def test_what_is_said_beside_the_data_wins():
    assert map_columns(["MJD-50000"], {"time_scale": "jd", "time_offset": 2450000}).time_offset == 2450000
    assert map_columns(["MJD-50000"], {"time_scale": "jd"}).time_scale == "jd"
    assert map_columns(["MJD-50000"], {"time_offset": 0}).time_offset == 0
    assert map_columns(["MJD-50000"], {"time_offset": None, "time_scale": None}).time_offset == 50000


# ------------------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("name", "values", "altdata"),
    [
        ("mjd", MJD, {}),
        ("MJD-50000", MJD - 50000, {}),
        ("MJD - 50000", MJD - 50000, {}),
        ("jd", MJD + 2400000.5, {}),
        ("JD-2450000", MJD - 49999.5, {}),
        ("time", MJD, {}),
        ("time", MJD + 2400000.5, {}),
        ("Time", MJD - 56999.5, {"time_scale": "jd", "time_offset": 2457000}),
        ("time", MJD - 58000, {"time_scale": "mjd", "time_offset": 58000}),
        ("time - 2457000", MJD - 56999.5, {}),
        ("time", (MJD - 40587) * 86400, {}),
        ("timestamp", (MJD - 40587) * 86400, {}),
        ("unixtime", ((MJD - 40587) * 86400).astype(np.int64), {}),
        ("bmjd", MJD, {}),
        ("bjd", MJD + 2400000.5, {}),
        ("mjd", MJD.astype(">f8"), {}),
        ("mjd", MJD.astype(str), {}),
        ("mjd", MJD.astype(str).astype("S"), {}),
        ("mjd", MJD.astype(object), {}),
        ("MJD-50000", (MJD - 50000).astype(str).astype(object), {}),
        ("time", (MJD + 2400000.5).astype(str), {}),
        ("date", Time(MJD, format="mjd").isot, {}),
        ("datetime", Time(MJD, format="mjd").iso, {}),
        ("time", np.char.add(Time(MJD, format="mjd").isot, "Z"), {}),
        ("time", np.char.add(Time(MJD, format="mjd").isot, "+00:00"), {}),
        ("date", Time(MJD + 2 / 24, format="mjd").strftime("%Y-%m-%dT%H:%M:%S+02:00"), {}),
        ("mjd", Time(MJD, format="mjd").isot, {}),
        ("timestamp", Time(MJD, format="mjd").datetime64, {}),
        ("time", Time(MJD, format="mjd").datetime64.astype("M8[s]"), {}),
        ("time", np.array(Time(MJD, format="mjd").to_datetime(), object), {}),
        ("time", pd.Series(Time(MJD, format="mjd").datetime64).dt.tz_localize("UTC").to_numpy(), {}),
    ],
)
def test_times_of_every_kind(name, values, altdata):
    found = standard(values, name, altdata)
    assert_allclose(found["mjd"], MJD, rtol=0, atol=MS)
    assert_array_equal(found["mag"], MAG)
    assert_allclose(mjds_of({name: np.asarray(values)}, altdata), MJD, rtol=0, atol=MS)


@pytest.mark.parametrize("place", [STAR, {"ra": 0.0, "dec": 90.0}, {"ra": 359.9, "dec": 23.4}])
@pytest.mark.parametrize("kind", ["barycentric", "heliocentric"])
def test_light_travel_times_are_those_of_astropy(place, kind):
    """Up to 8.3 minutes; BJD is in TDB, 69 s apart from UTC, HJD in UTC, as they are given."""
    mjd = np.arange(57000, 58500, 37.3)
    observed = Time(mjd, format="mjd", scale="utc", location=EarthLocation.from_geocentric(0, 0, 0, u.m))
    later = observed.light_travel_time(SkyCoord(**place, unit="deg"), kind)
    if kind == "barycentric":
        arrived, name = (observed.tdb + later).jd, "bjd"
    else:
        arrived, name = mjd + 2400000.5 + later.to_value(u.day), "hjd"
    assert np.abs(arrived - 2400000.5 - mjd).max() * 86400 > 60
    raw = {name: arrived, "mag": np.full(len(mjd), 15.0)}
    assert_allclose(standard_photometry(raw, place)["mjd"], mjd, rtol=0, atol=MS)
    short = {f"{name}-2457000": arrived - 2457000, "mag": raw["mag"]}
    assert_allclose(standard_photometry(short, place)["mjd"], mjd, rtol=0, atol=MS)
    if name == "bjd":
        modified = {"bmjd": arrived - 2400000.5, "mag": raw["mag"]}
        assert_allclose(standard_photometry(modified, place)["mjd"], mjd, rtol=0, atol=MS)
    # where the place is not known nothing can be undone
    assert_allclose(standard_photometry(raw, {})["mjd"], arrived - 2400000.5, rtol=0, atol=1e-9)


def test_the_place_of_barycentric_times_may_be_unknown_and_so_may_the_times():
    found = standard([2458000.5, np.nan, 0.0], "bjd", STAR)
    assert len(found["mjd"]) == 1
    assert found["mjd"][0] == pytest.approx(58000, abs=600 / 86400)
    old = standard([2411111.5, 2470000.5], "bjd", STAR)  # leap seconds of 1889 and 2050 are nobody's to know
    assert_allclose(old["mjd"], [11111, 70000], atol=600 / 86400)


def test_rows_are_sorted_by_time_and_those_without_are_left_out():
    time = np.array([58003.0, np.nan, 58001.0, 58002.0, np.inf, 58001.0])
    found = standard_photometry(
        {"mjd": time, "mag": np.arange(6.0) + 15, "x": np.array(list("abcdef"))}, {}, also=["x"]
    )
    assert_array_equal(found["mjd"], [58001, 58001, 58002, 58003])
    assert_array_equal(found["mag"], [17, 20, 18, 15])
    assert found["x"].tolist() == ["c", "f", "d", "a"]
    assert_array_equal(mjds_of({"mjd": time}, {}), time)  # in the order of the rows
    dates = standard(np.array(["2020-01-02", "no date", ""]), "date")
    assert_array_equal(dates["mjd"], [58850])


# ------------------------------------------------------------------------------------------ what cannot be read


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({}, "raw photometry without columns"),
        ({"mag": MAG}, "needs a time and a magnitude or flux; it has mag"),
        ({"mjd": MJD, "colour": MAG}, "needs a time and a magnitude or flux; it has mjd, colour"),
        ({0: MJD, 1: MAG}, "needs a time and a magnitude or flux; it has 0, 1"),
        (
            {"time": np.array([1.0, 2, 3]), "mag": MAG},
            "times of 'time' are neither JD nor MJD .median 2.: set time_scale",
        ),
        ({"time": MJD - 50000, "flux": MAG}, "set time_scale and time_offset"),
    ],
)
def test_what_cannot_be_read_is_told(raw, words):
    with pytest.raises(Unprocessable, match=words):
        standard_photometry(raw, {})


def test_times_that_are_not_there_are_told():
    with pytest.raises(Unprocessable, match="needs a time; it has mag, 3"):
        mjds_of({"mag": MAG, 3: MAG}, {})
    with pytest.raises(Unprocessable, match="neither JD nor MJD"):
        standard(MJD, "mjd", {"time_scale": "martian"})


@pytest.mark.parametrize("name", ["mjd", "time", "bjd", "date", "timestamp"])
@pytest.mark.parametrize("kind", [float, "U5", object])
def test_no_rows_are_no_rows(name, kind):
    empty = np.empty(0, kind)
    found = standard_photometry({name: empty, "mag": np.empty(0), "filter": empty, "flag": empty}, STAR)
    assert {len(values) for values in found.values()} == {0}
    assert set(found) == {"mjd", "exptime", "ra", "dec", "flux", "flux_err", "mag", "mag_err", "flag", "filter"}


def test_times_all_missing_leave_no_rows():
    assert len(standard(np.full(3, np.nan), "time")["mjd"]) == 0
    assert len(standard(np.array([None, None], object), "time")["mjd"]) == 0
    assert len(standard(np.array(["", ""]), "mjd")["mjd"]) == 0


# -------------------------------------------------------------------------------------------------- brightness


def test_magnitudes_become_microjansky_and_back():
    mag, err = np.array([15.0, 20.0, 23.9]), np.array([0.01, 0.1, 0.3])
    found = standard_photometry({"mjd": MJD, "mag": mag, "magerr": err}, {})
    assert_allclose(found["flux"], (mag * u.ABmag).to_value(u.uJy), rtol=2e-5)  # 23.9 is 8.90 + 15 rounded
    assert_allclose(found["flux_err"] / found["flux"], err * np.log(10) / 2.5, rtol=1e-9)
    back = standard_photometry({"mjd": MJD, "flux": found["flux"], "fluxerr": found["flux_err"]}, {})
    assert_allclose(back["mag"], mag, rtol=1e-12)
    assert_allclose(back["mag_err"], err, rtol=1e-12)


@pytest.mark.parametrize("zero_point", [20.44, 25.0, 27.5, None])
def test_fluxes_with_a_zero_point(zero_point):
    flux = np.array([1.0, 100.0, 10000.0])
    altdata = {"zero_point": zero_point}
    found = standard_photometry({"mjd": MJD, "flux": flux, "flux_err": 0.1 * flux}, altdata)
    wanted = (23.9 if zero_point is None else zero_point) - 2.5 * np.log10(flux)
    assert_allclose(found["mag"], wanted, rtol=1e-12)
    assert_allclose(found["flux"], (wanted * u.ABmag).to_value(u.uJy), rtol=2e-5)
    assert_allclose(found["mag_err"], 0.1 * 2.5 / np.log(10), rtol=1e-12)


def test_negative_fluxes_stay_but_have_no_magnitude():
    found = standard_photometry({"mjd": MJD, "flux": np.array([-5.0, 0.0, 5.0])}, {})
    assert_array_equal(found["flux"], [-5, 0, 5])
    assert_array_equal(np.isnan(found["mag"]), [True, True, False])
    assert np.isnan(found["flux_err"]).all()


@pytest.mark.parametrize("sentinel", [99.0, 99.99, 100.0, -99.0, -999.0, 9999.0, np.nan, np.inf, -np.inf])
def test_numbers_that_stand_for_nothing(sentinel):
    raw = {"mjd": MJD, "mag": np.array([15.0, sentinel, 17.0]), "magerr": np.array([0.1, 0.1, sentinel])}
    found = standard_photometry(raw, {})
    assert_array_equal(np.isnan(found["mag"]), [False, True, False])
    assert_array_equal(np.isnan(found["flux"]), [False, True, False])
    assert_array_equal(np.isnan(found["mag_err"]), [False, True, True])
    assert_array_equal(np.isnan(found["flux_err"]), [False, True, True])
    # a flux is known also where no magnitude is
    both = standard_photometry({**raw, "flux": np.array([3.0, -2.0, 1.0]), "fluxerr": np.full(3, 0.5)}, {})
    assert_array_equal(both["flux"], [3, -2, 1])
    assert_array_equal(both["flux_err"], 0.5)
    assert_array_equal(np.isnan(both["mag"]), [False, True, False])


def test_the_catalogue_does_not_stand_in_for_what_was_not_measured():
    altdata = {"mag": 16.0, "mag_err": 0.5, "flux_err": 9.0, "exptime": 30, "ra": 10.0, "dec": None}
    found = standard_photometry({"mjd": MJD, "mag": MAG}, altdata)
    assert np.isnan(found["mag_err"]).all()
    assert_array_equal(found["exptime"], 30)
    assert_array_equal(found["ra"], 10)
    assert np.isnan(found["dec"]).all()
    own = standard_photometry({"mjd": MJD, "mag": MAG, "exptime": MAG, "ra": MAG}, altdata)
    assert_array_equal(own["exptime"], MAG)
    assert_array_equal(own["ra"], MAG)


def test_both_magnitudes_and_fluxes_are_taken_as_they_are():
    raw = {"mjd": MJD, "mag": MAG, "flux": np.array([1.0, 2.0, 3.0]), "flux_err": np.array([0.1, 0.1, 0.1])}
    found = standard_photometry(raw, {})
    assert_array_equal(found["mag"], MAG)
    assert_array_equal(found["flux"], [1, 2, 3])
    assert_allclose(found["mag_err"], 2.5 / np.log(10) * 0.1 / np.array([1, 2, 3]))


def test_numbers_that_are_text():
    raw = {"mjd": MJD, "mag": np.array(["15.0", "", "bad"]), "magerr": np.array([0.1, None, "0.2"], object)}
    found = standard_photometry(raw, {})
    assert_array_equal(found["mag"], [15, np.nan, np.nan])
    assert_array_equal(found["mag_err"], [0.1, np.nan, np.nan])


# ---------------------------------------------------------------------------------------------- flags, filters


@pytest.mark.parametrize(
    ("flags", "bad"),
    [
        ([0, 1, 32768], [False, True, True]),
        ([False, True, False], [False, True, False]),
        ([0.0, np.nan, -1.0], [False, False, True]),
        (["", "OK", "bad"], [False, False, True]),
        (["0", "Good", "false"], [False, False, False]),
        (np.array([None, "None", "x"], object), [False, False, True]),
        (np.array([0, None, 2], object), [False, False, True]),
        (np.array([0.0, 1.0, 2.0], object), [False, True, True]),
        (np.array([b"", b"ok", b"1"]), [False, False, True]),
    ],
)
def test_flags(flags, bad):
    found = standard_photometry({"mjd": MJD, "mag": MAG, "catflags": np.asarray(flags)}, {})
    assert found["flag"].dtype == bool
    assert found["flag"].tolist() == bad
    assert not standard(MJD)["flag"].any()


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        (["zg", "zr", "zi"], ["zg", "zr", "zi"]),
        ([1, 2, 3], ["1", "2", "3"]),
        (np.array(["zg", None, np.nan], object), ["zg", "", ""]),
        (np.array([b"zg", b"", b"zr"]), ["zg", "", "zr"]),
    ],
)
def test_filters(filters, wanted):
    found = standard_photometry({"mjd": MJD, "mag": MAG, "filtercode": np.asarray(filters)}, {"filter": "x"})
    assert found["filter"].tolist() == wanted
    assert standard(MJD, altdata={"filter": "R"})["filter"].tolist() == ["R"] * 3
    assert standard(MJD, altdata={"filter": None})["filter"].tolist() == [""] * 3


@given(st.permutations(range(4)), st.integers(0, 10**6))
def test_the_order_of_rows_makes_no_difference(order, seed):
    rng = np.random.default_rng(seed)
    raw = {"jd": 2458000.5 + np.arange(4) * 1.5, "flux": rng.normal(size=4), "filter": np.array(list("abcd"))}
    mixed = {name: values[list(order)] for name, values in raw.items()}
    for name, values in standard_photometry(raw, {}).items():
        assert_array_equal(standard_photometry(mixed, {})[name], values)

"""Catalogues: read from any file, recognised, moved, looked up by name and place - against astropy and brute force."""

import gzip
import io
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord, angular_separation
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from obsarchive.errors import ConfigError
from obsarchive.io.catalog_tables import write_table
from obsarchive.remote.http import RequestRefusedError, ServerUnavailableError
from surveys.catalog import Catalog
from surveys.catalog_files import WHITE_DWARFS_PATH

DATA = Path(os.environ.get("ARCHIVER_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "catalogs"
real = [pytest.mark.real, pytest.mark.skipif(not DATA.is_dir(), reason=f"no catalogues in {DATA}")]

ID = 4267180339403392769
"""Above 2**53: as a float it would be another number."""
GAIA = {
    "source_id": np.array([ID, ID + 2, 7]),
    "ra": np.array([10.0, 359.99999, 123.4]),
    "dec": np.array([-5.0, 0.0, 89.9999]),
    "phot_g_mean_mag": np.array([15.5, 16.5, 17.5]),
    "phot_bp_mean_mag": np.array([15.0, np.nan, 17.0]),
    "mag_error": np.array([0.01, 0.02, np.nan]),
    "pmra": np.array([100.0, -200.0, 3000.0]),
    "pmdec": np.array([-30.0, 40.0, 5000.0]),
    "parallax": np.array([10.0, np.nan, -1.0]),
    "spectype": np.array(["DA", "DC", ""]),
    "other": np.array(["alpha", "", "gamma"]),
    "number": np.array([1.0, np.nan, 3.0]),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def catalog(columns: dict = GAIA, suffix: str = ".parquet", **kwargs) -> Catalog:
    path = Path(f"stars{suffix}").absolute()
    write_table(path, columns)
    return Catalog(filename=str(path), **kwargs)


def stars(ra, dec, **columns) -> Catalog:
    names = np.array([f"star {n}" for n in range(len(ra))], "U")
    return catalog({"name": names, "ra": np.asarray(ra, float), "dec": np.asarray(dec, float), **columns})


# --------------------------------------------------------------------------------------------- files and columns


@pytest.mark.parametrize("suffix", [".fits", ".csv", ".h5", ".vot", ".parquet", ".fits.gz", ".csv.gz", ".HDF5"])
def test_every_format_gives_the_same_sources(suffix):
    found = catalog(suffix=suffix)
    assert len(found) == 3
    assert found.names == [str(ID), str(ID + 2), "7"]
    assert found.get_row(0) == {
        "name": str(ID),
        "ra": 10.0,
        "dec": -5.0,
        "mag": 15.5,
        "mag_err": 0.01,
        "pmra": 100.0,
        "pmdec": -30.0,
        "parallax": 10.0,
        "aliases": [],
        "cat_index": 0,
    }
    last = found.get_row(2)
    assert (last["mag_err"], last["parallax"], last["pmra"], last["pmdec"]) == (None, -1.0, 3000.0, 5000.0)
    assert all(type(value) in (str, float, int, list, type(None)) for value in last.values())


@pytest.mark.parametrize(
    "names",
    [
        ("source_id", "ra", "dec", "phot_g_mean_mag", "phot_g_mean_mag_error", "pmra", "pmdec", "parallax"),
        ("GaiaEDR3", "RA_ICRS", "DE_ICRS", "Gmag", "e_Gmag", "pmRA", "pmDE", "Plx"),
        ("object_id", "RAJ2000", "DEJ2000", "Vmag", "magerr", "PMRA", "PMDEC", "PARALLAX"),
        ("Name", "RA (deg)", "Dec (deg)", "mag", "mag_err", "pm_ra", "pm_dec", "plx"),
        ("MAIN_ID", "right_ascension", "Declination", "magnitude", "Mag-Error", "pmRA", "pmDE", "Plx"),
    ],
)
def test_columns_are_recognised_by_their_names(names):
    values = ["a b", 10.0, -5.0, 15.5, 0.01, 100.0, -30.0, 10.0]
    columns = {"first": np.array([3.5]), **{name: np.array([value]) for name, value in zip(names, values, strict=True)}}
    found = catalog(columns).get_row(0)
    assert [found[what] for what in ("name", "ra", "dec", "mag", "mag_err", "pmra", "pmdec", "parallax")] == values


def test_columns_may_be_named():
    columns = {"mag": np.array([1.0]), "lon": np.array([2.0]), "lat": np.array([3.0]), "who": np.array(["x"])}
    columns |= {"Ks": np.array([4.0]), "e_Ks": np.array([0.4])}
    found = catalog(
        columns, name_column="WHO", ra_column="lon", dec_column="lat", mag_column="Ks", mag_err_column="e_ks"
    )
    row = found.get_row("x")
    assert (row["ra"], row["dec"], row["mag"], row["mag_err"]) == (2.0, 3.0, 4.0, 0.4)
    assert (row["pmra"], row["parallax"]) == (None, None)


def test_names_that_differ_by_case_alone_are_different_columns():
    columns = {**GAIA, "Gmag": np.array([1.0, 2.0, 3.0]), "gmag": np.array([4.0, 5.0, 6.0])}
    assert catalog(columns, mag_column="Gmag").get_row(0)["mag"] == 1.0
    assert catalog(columns, mag_column="gmag").get_row(0)["mag"] == 4.0
    assert catalog(columns, preferred_mag="Gmag").get_row(0, preferred_mag="gmag")["mag"] == 4.0


def test_the_magnitude_that_is_preferred():
    assert catalog(preferred_mag="Gaia_BP").get_row(0)["mag"] == 15.0
    assert catalog(preferred_mag="gaia_bp").get_row(1)["mag"] is None
    found = catalog()
    assert [found.get_row(0, preferred_mag=name)["mag"] for name in (None, "Gaia_G", "Gaia_BP")] == [15.5, 15.5, 15.0]
    assert catalog(preferred_mag="Gaia_BP", mag_column="phot_g_mean_mag").get_row(0)["mag"] == 15.5
    with pytest.raises(ConfigError, match=r"stars\.parquet: no column 'phot_rp_mean_mag' for mag; there are source_id"):
        catalog(preferred_mag="Gaia_RP").load()


@pytest.mark.parametrize(
    ("columns", "kwargs", "words"),
    [
        (GAIA, {"ra_column": "RAJ"}, "no column 'RAJ' for ra; there are source_id, ra, dec"),
        ({"dec": np.zeros(1), "mag": np.zeros(1)}, {}, "no column with ra: set ra_column; there are dec, mag"),
        ({"name": np.array(["x"]), "dec": np.zeros(1)}, {}, "no column with ra: set ra_column"),
        (
            {"name": np.array(["x"]), "ra": np.array(["?"]), "dec": np.zeros(1)},
            {},
            "positions are degrees, or sexagesimal",
        ),
        (GAIA, {"where": "phot_g_mean_mag <"}, "rule 'phot_g_mean_mag <'"),
        (GAIA, {"where": "mag < 16 and colour > 1"}, "colour"),
        (GAIA, {"where": "spectype > 3"}, "spectype"),
    ],
)
def test_what_cannot_be_used_is_told_again_and_again(columns, kwargs, words):
    found = catalog(columns, **kwargs)
    for _ in range(2):  # nothing half read stays
        with pytest.raises(ConfigError) as failure:
            len(found)
        assert words in str(failure.value)


def test_a_file_that_is_not_there():
    with pytest.raises(ConfigError, match=r"nothing\.fits: expected a table, found no such file"):
        Catalog(filename="nothing.fits").load()
    with pytest.raises(ConfigError, match="default: 'WX' is none of WD, test"):
        Catalog(default="WX").load()


def test_a_file_is_found_in_the_folders_of_catalogues(here, survey_root):
    columns = {**GAIA, "ra": (GAIA["ra"] + 1) % 360}
    for n, folder in enumerate((survey_root / "catalogs", here / "catalogs", here)):
        write_table(folder / "my-stars 1.csv", {**GAIA, "phot_g_mean_mag": np.full(3, float(n))})
        assert Catalog(filename="my-stars 1.csv").get_row(0)["mag"] == n
    write_table(here / "packed.csv.gz", columns)
    assert Catalog(filename="packed.csv").get_row(0)["ra"] == 11.0


def test_numbers_with_gaps_and_blanks_are_names_all_the_same():
    columns = {"id": np.array([5.0, np.nan, 7.0]), "ra": np.zeros(3), "dec": np.zeros(3)}
    assert catalog(columns).names == ["5", "7"]
    columns["id"] = np.array([" a ", "", "b"])
    assert catalog(columns).names == ["a", "b"]


def test_text_where_a_magnitude_is_expected_is_none():
    found = stars([1, 2], [1, 2], mag=np.array(["15.5", "15.5:"]))
    assert [found.get_row(n)["mag"] for n in (0, 1)] == [15.5, None]


# ------------------------------------------------------------------------------------------------------- places


def test_sexagesimal_places():
    ra = np.array(["17:30:25.5", "05h34m31.94s", "0 0 0.1", "266.41683", "", "12:00:00"])
    dec = np.array(["-25:30:30", "+22d00m52.2s", "-0 0 30", "-29.00781", "5:00:00", ""])
    found = catalog({"name": np.array(list("abcdef")), "ra": ra, "dec": dec})
    assert found.names == list("abcd")
    expected = SkyCoord(ra[:3].tolist(), dec[:3].tolist(), unit=(u.hourangle, u.deg))
    assert_allclose(found.places()[0], [*expected.ra.deg, 266.41683], atol=1e-10)
    assert_allclose(found.places()[1], [*expected.dec.deg, -29.00781], atol=1e-10)
    assert found.get_row("c")["dec"] == pytest.approx(-30 / 3600)


def test_rows_without_a_place_and_names_that_occur_again_are_left_out_with_a_warning(caplog):
    columns = {
        "name": np.array(["a", "b", "c", "a", "d", "e", "c", "a"]),
        "ra_deg": np.array([1, np.nan, 3, 4, 5, 6, 7, 8.0]),
        "dec": np.array([1, 2, 3, 4, np.nan, np.nan, 7, 8.0]),
    }
    found = catalog(columns)
    assert len(found) == 2
    assert found.names == ["a", "c"]
    assert found.places()[0].tolist() == [1, 3]
    first, second = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "3 rows without a name or position are skipped" in first
    assert "3 names occur again and are skipped: ['a', 'c', 'a']" in second
    caplog.clear()
    assert len(catalog()) == 3
    assert not caplog.records


EPOCH = Time(2016.0, format="jyear", scale="tdb")


@pytest.mark.parametrize("year", [2000.0, 2016.0, 2024.5, 2046.0])
@pytest.mark.parametrize("suffix", [".fits", ".csv"])
def test_proper_motion_is_enough_to_move_a_source(year, suffix):
    """Without a parallax the published package had NaN for places; its pmdec was lost."""
    found = catalog(suffix=suffix)
    expected = SkyCoord(
        GAIA["ra"] * u.deg,
        GAIA["dec"] * u.deg,
        pm_ra_cosdec=GAIA["pmra"] * u.mas / u.yr,
        pm_dec=GAIA["pmdec"] * u.mas / u.yr,
        distance=np.full(3, 100.0) * u.pc,
        obstime=EPOCH,
    ).apply_space_motion(new_obstime=Time(year, format="jyear", scale="tdb"))
    rows = [found.get_row(n, obstime=year) for n in range(3)]
    for ra, dec in (([row["ra"] for row in rows], [row["dec"] for row in rows]), found.places(year)):
        assert np.isfinite([*ra, *dec]).all()
        apart = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(expected.ra, expected.dec))
        assert apart.to_value(u.mas).max() < 1
    moved = SkyCoord(*found.places(year), unit="deg").separation(SkyCoord(GAIA["ra"], GAIA["dec"], unit="deg"))
    assert_allclose(
        moved.to_value(u.mas), np.hypot(GAIA["pmra"], GAIA["pmdec"]) * abs(year - 2016), rtol=1e-4, atol=0.1
    )


def test_times_and_epochs():
    found = catalog()
    when = datetime(2026, 7, 2, 12, tzinfo=UTC)
    by_year = found.get_row(0, obstime=Time(when).jyear)
    assert found.get_row(0, obstime=when)["ra"] == pytest.approx(by_year["ra"], abs=1e-9)
    assert found.get_row(0) == found.get_row(0, obstime=None)
    assert found.epoch == 2016.0
    assert catalog(epoch=2000).get_row(0, obstime=2000.0)["dec"] == pytest.approx(-5.0, abs=1e-12)
    told = catalog({**GAIA, "ref_epoch": np.full(3, 2015.5)})
    assert told.epoch == 2015.5
    assert told.get_row(0, obstime=2025.5)["dec"] == pytest.approx(-5 - 0.3 / 3600, abs=1e-9)
    assert catalog({**GAIA, "ref_epoch": np.full(3, 2015.5)}, epoch=1991.25).epoch == 1991.25
    still = stars([10.0], [5.0])
    assert still.get_row(0, obstime=2050.0)["ra"] == 10.0


# ------------------------------------------------------------------------------------------------------ look-up


def test_names_and_aliases():
    found = catalog(alias_column=["other", "number", "spectype"])
    assert (
        found.get_row("alpha")
        == found.get_row(str(ID))
        == found.get_row("1")
        == found.get_row("DA")
        == found.get_row(0)
    )
    assert found.get_row(0)["aliases"] == ["alpha", "1", "DA"]
    assert found.get_row(1)["aliases"] == ["DC"]
    assert found.get_row(2)["aliases"] == ["gamma", "3"]
    assert "alpha" in found
    assert str(ID) in found
    assert "" not in found
    assert "nan" not in found
    assert found.indices(["gamma", "nobody", str(ID)]).tolist() == [2, -1, 0]
    assert catalog(alias_column="other").get_row("gamma")["aliases"] == ["gamma"]
    assert catalog().get_row(0)["aliases"] == []
    with pytest.raises(ConfigError, match="expected a column 'Others', found none; did you mean 'other'"):
        catalog(alias_column="Others").get_row("x")


def test_an_alias_does_not_take_the_place_of_a_name():
    columns = {**GAIA, "source_id": np.array(["a", "b", "c"]), "other": np.array(["b", "c", "x"])}
    found = catalog(columns, alias_column="other")
    assert [found.get_row(name)["cat_index"] for name in "abcx"] == [0, 1, 2, 2]


def test_rows_by_number_and_as_they_are_in_the_file():
    found = catalog(where="mag > 16")
    assert found.names == [str(ID + 2), "7"]
    assert found.get_row(-1) == found.get_row(1) == found.get_row(np.int64(1)) == found.get_row("7")
    raw = found.get_row("7", output="raw")
    assert list(raw) == list(GAIA)
    assert raw["source_id"] == 7
    assert (raw["mag_error"], raw["spectype"], raw["pmdec"]) == (None, None, 5000.0)
    for unknown in ("nobody", str(ID), 2, -3):
        with pytest.raises(KeyError, match="no source"):
            found.get_row(unknown)
    assert [row["name"] for row in found.rows([1, 0])] == ["7", str(ID + 2)]
    assert found.values_from_row(found.get_row(0)) == (0, str(ID + 2), 359.99999, 0.0, 16.5, 0.02, [])
    assert found.values_from_row({"name": "7"})[:2] == (1, "7")


def test_the_whole_table():
    found = catalog(where="mag > 16")
    assert list(found.data.columns) == list(GAIA)
    assert found.data["source_id"].tolist() == [ID + 2, 7]
    assert Catalog(default="test", test_size=3).data["mag"].between(15, 20).all()


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("mag < 16", [0]),
        ("mag < 17 and dec > -1", [1]),
        ("spectype in ['DA', 'DC']", [0, 1]),
        ("not parallax <= 0", [0, 1]),
        ("phot_bp_mean_mag - 0 < 16", None),
        ("phot_bp_mean_mag < 16", [0]),
        ("pmdec > 0 and ra > 200", [1]),
        ("mag > 99", []),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".fits"])
def test_cuts(where, names, suffix):
    found = catalog(suffix=suffix, where=where)
    if names is None:
        with pytest.raises(ConfigError):
            found.load()
    else:
        assert found.names == [str(GAIA["source_id"][n]) for n in names]
        assert [row["ra"] for row in found.rows(range(len(found)))] == GAIA["ra"][names].tolist()


def test_a_smaller_catalogue():
    whole = catalog(where="mag > 10", alias_column="other")
    small = whole.make_smaller_catalog([2, 0])
    assert len(small) == 2
    assert small.names == ["7", str(ID)]
    assert small.get_row(0) == {**whole.get_row(2), "cat_index": 0}
    assert small.get_row("alpha", output="raw") == whole.get_row(0, output="raw")
    assert small.get_nearest_row(10, -5)["cat_index"] == 1
    assert small.get_row(0, obstime=2030.0)["dec"] == whole.get_row(2, obstime=2030.0)["dec"]
    assert len(whole) == 3
    assert len(whole.make_smaller_catalog([])) == 0
    assert whole.make_smaller_catalog([2, 0]).cat_hash == small.cat_hash != whole.cat_hash
    assert Catalog(default="test").make_smaller_catalog([3]).names == [Catalog(default="test").names[3]]


def test_the_hash_tells_names_and_places():
    assert catalog().cat_hash == catalog(suffix=".csv", where="mag < 99").cat_hash
    hashes = {
        catalog(columns).cat_hash
        for columns in (GAIA, {**GAIA, "ra": GAIA["ra"] + 1e-6}, {**GAIA, "source_id": GAIA["source_id"] + 1})
    }
    assert len(hashes) == 3


def test_the_test_catalogue_is_always_the_same():
    first, second = Catalog(default="test"), Catalog(test_size=10)
    assert len(first) == 10
    assert first.names == second.names
    assert [first.get_row(n) for n in range(10)] == [second.get_row(n) for n in range(10)]
    assert len(Catalog(default="test", test_size=500)) == 500
    many = Catalog(default="test", test_size=500)
    assert many.get_row(0, output="raw").keys() == {"name", "ra", "dec", "mag", "mag_err"}
    place = SkyCoord(*many.places(), unit="deg")
    for name, ra, dec in zip(many.names, place.ra.deg, place.dec.deg, strict=True):
        assert name == f"J{ra:09.5f}{dec:+09.5f}"
    # uniform on the sphere: the mean of unit vectors is zero within 5 standard errors
    assert_allclose(place.cartesian.xyz.mean(axis=1), 0, atol=5 / np.sqrt(3 * 500))
    assert Catalog(default="test", where="dec > 0").places()[1].min() > 0


# ---------------------------------------------------------------------------------------------------- by place

near_pole = st.floats(-90, -89.99) | st.floats(89.99, 90)
places = st.one_of(
    st.tuples(st.floats(0, 360), st.floats(-90, 90)),
    st.tuples(st.floats(359.99, 360) | st.floats(0, 0.01), st.floats(-1, 1)),
    st.tuples(st.floats(0, 360), near_pole),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(places, min_size=1, max_size=20, unique=True),
    st.lists(places, min_size=1, max_size=10),
    st.none() | st.floats(0.1, 1e5) | st.floats(1e5, 1e6),
)
@example([(0.0, 90.0), (180.0, -90.0)], [(123.0, 90.0), (0.0, -90.0), (0.0, 0.0)], 2.0)
@example([(359.9999, 0.0), (10.0, 0.0)], [(0.0001, 0.0)], 2.0)
@example([(0.0, 0.0)], [(180.0, 0.0)], 648000.0)
def test_the_nearest_source_is_that_of_brute_force(here, known, wanted, radius):
    found = stars(*zip(*known, strict=True))
    ra, dec = np.array(wanted).T
    apart = (
        np.degrees(angular_separation(*np.radians([ra[:, None], dec[:, None]]), *np.radians(np.array(known).T))) * 3600
    )
    nearest = apart.min(axis=1)
    # far apart, a distance has fewer digits by the chord
    assume(radius is None or (np.abs(nearest - radius) > 0.01).all() or known == [(0.0, 0.0)])
    index, distance = found.match(ra, dec, radius)
    for n in range(len(wanted)):
        if radius is not None and nearest[n] > radius:
            assert (index[n], distance[n]) == (-1, np.inf)
            assert found.get_nearest_row(ra[n], dec[n], radius) is None
        else:
            assert distance[n] == pytest.approx(nearest[n], abs=0.01, rel=1e-7)
            assert apart[n, index[n]] == pytest.approx(nearest[n], abs=0.01, rel=1e-7)
            assert found.get_nearest_row(ra[n], dec[n], radius)["cat_index"] == index[n]


def test_distances_are_right_to_a_microarcsecond_where_it_matters():
    centres = SkyCoord([0.0, 359.9999, 45.0], [0.0, 12.0, -75.0], unit="deg")
    found = stars([*centres.ra.deg, 45.0, 200.0], [*centres.dec.deg, 90.0, -90.0])
    for angle in (0, 90, 217):
        for distance in (0.001, 1.0, 1.999, 2.001):
            around = centres.directional_offset_by(angle * u.deg, distance * u.arcsec)
            # beside a pole astropy's arcsin has too few digits; there right ascension is an angle like any other
            dec = 90 - distance / 3600
            index, apart = found.match([*around.ra.deg, angle, angle], [*around.dec.deg, dec, -dec])
            assert index.tolist() == ([0, 1, 2, 3, 4] if distance < 2 else [-1] * 5)
            assert_allclose(apart, distance if distance < 2 else np.inf, atol=1e-6)


def test_the_radius_belongs_to_the_circle():
    found = stars([10.0], [0.0])
    assert found.get_nearest_row(10.0, 0.0, radius=0)["name"] == "star 0"
    assert found.get_nearest_row(10.0, 1.0, radius=3600)["name"] == "star 0"
    assert found.get_nearest_row(190.0, 0.0, radius=None)["name"] == "star 0"
    assert found.get_nearest_row(190.0, 0.0, radius=1e9)["name"] == "star 0"
    assert found.get_nearest_row(10.0, 0.001) is None
    assert found.get_nearest_row(10.0, 0.0005)["name"] == "star 0"
    assert found.get_nearest_row(10.0, 0.0005, output="raw") == {"name": "star 0", "ra": 10.0, "dec": 0.0}


def test_places_that_are_not_known_match_nothing():
    index, apart = stars([10.0], [0.0]).match([np.nan, 10.0], [0.0, 0.0], None)
    assert index.tolist() == [-1, 0]
    assert apart.tolist() == [np.inf, pytest.approx(0, abs=1e-6)]
    empty = stars([10.0], [0.0], mag=np.array([5.0]))
    empty.pars.where = "mag > 9"
    assert empty.get_nearest_row(10, 0, None) is None
    assert len(empty) == 0


# ------------------------------------------------------------------------------------ the catalogue of white dwarfs


def white_dwarfs() -> bytes:
    table = Table({"WDJ_name": ["WDJ1", "WDJ2"], "source_id": [ID, 5], "ra": [10.0, 20.0], "dec": [1.0, 2.0]})
    table["phot_g_mean_mag"] = np.array([16.0, 17.0], np.float32)
    table["pmra"], table["pmdec"], table["parallax"] = [1.0, 2.0], [3.0, 4.0], [5.0, 6.0]
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(table)]).writeto(file)
    return gzip.compress(file.getvalue())


class Service(HTTPServer):
    """Stands for the university that offers the catalogue."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []
        self.status, self.headers, self.body, self.length = 200, {}, white_dwarfs(), 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        service = self.server
        service.asked.append(self.path)
        self.send_response(service.status)
        for name, value in service.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(service.length or len(service.body)))
        self.end_headers()
        self.wfile.write(service.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr("obsarchive.remote.http.sleep", lambda _: None)
    with Service() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.mark.parametrize("default", ["WD", "wds", "White Dwarf"])
@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/x-gzip", "Content-Encoding": "gzip"}])
def test_white_dwarfs_are_fetched_once(service, survey_root, default, headers):
    """Some servers say of a packed file that it is packed for the way only."""
    service.headers = headers
    found = Catalog(default=default, service=service.url)
    assert not service.asked
    assert len(found) == 2
    row = found.get_row(str(ID))
    assert (row["mag"], row["pmra"], row["pmdec"], found.epoch) == (16.0, 1.0, 3.0, 2016.0)
    again = Catalog(default=default, service=service.url)
    assert again.names == found.names == [str(ID), "5"]
    assert service.asked == [WHITE_DWARFS_PATH]
    assert [path.name for path in (survey_root / "catalogs").iterdir()] == ["GaiaEDR3_WD_main.fits.gz"]


def test_white_dwarfs_that_are_here_are_not_fetched(service, survey_root):
    path = survey_root / "catalogs" / "GaiaEDR3_WD_main.fits"
    path.parent.mkdir()
    path.write_bytes(gzip.decompress(white_dwarfs()))
    assert len(Catalog(default="WD", service=service.url)) == 2
    assert service.asked == []


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"status": 404, "body": b"gone"}, RequestRefusedError, "refuses .*: 404"),
        ({"status": 302, "headers": {"Location": "http://127.0.0.1:9/"}}, RequestRefusedError, "sends us elsewhere"),
        ({"status": 503}, ServerUnavailableError, "answered 503, 6 times"),
        ({"length": 10**6}, ServerUnavailableError, "6 times"),
        ({"body": b"<html>please log in</html>"}, ConfigError, "damaged file or another format"),
        ({"body": white_dwarfs()[:-100]}, ConfigError, "expected a binary table"),
    ],
)
def test_a_catalogue_that_cannot_be_fetched_leaves_nothing(service, survey_root, change, error, words):
    before = vars(service).copy()
    vars(service).update(change)
    found = Catalog(default="WD", service=service.url)
    with pytest.raises(error, match=words):
        found.load()
    assert not list(survey_root.glob("catalogs/*"))
    vars(service).update(before)
    assert len(found) == 2  # a second attempt begins anew


# -------------------------------------------------------------------------------------------------- real catalogues


class TestRealCatalogues:
    pytestmark = real

    def test_gaia(self):
        found = Catalog(filename=str(DATA / "gdr3_sm.fits"), where="phot_g_mean_mag < 18 and parallax > 0")
        table = fits.getdata(DATA / "gdr3_sm.fits")
        chosen = table[(table["phot_g_mean_mag"] < 18) & (table["parallax"] > 0)]
        assert found.names == [str(name) for name in chosen["source_id"]]
        row, wanted = found.get_row(3), chosen[3]
        for what, column in (
            ("mag", "phot_g_mean_mag"),
            ("pmra", "pmra"),
            ("pmdec", "pmdec"),
            ("parallax", "parallax"),
        ):
            assert row[what] == pytest.approx(wanted[column])
        assert found.epoch == 2016.0
        assert Catalog(filename=str(DATA / "gdr2_sm_negplx.fits")).epoch == 2015.5
        # each source is the nearest to itself, and some have neighbours that a match might take for them
        index, apart = found.match(chosen["ra"], chosen["dec"], 0.5)
        assert_array_equal(index, np.arange(len(chosen)))
        assert apart.max() < 1e-4

    @pytest.mark.parametrize(("name", "n_still"), [("gdr3_sm.fits", 0), ("gdr2_sm_negplx.fits", 1)])
    def test_gaia_some_years_later(self, name, n_still):
        """Those without proper motion stay where they are."""
        found, table = Catalog(filename=str(DATA / name)), fits.getdata(DATA / name)
        ra, dec = found.places(found.epoch + 20)
        motion = np.hypot(table["pmra"], table["pmdec"])
        assert np.isnan(motion).sum() == n_still
        apart = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(table["ra"], table["dec"], unit="deg"))
        assert_allclose(apart.to_value(u.mas), 20 * np.nan_to_num(motion), atol=0.1, rtol=1e-4)

    def test_white_dwarfs_of_montreal(self):
        found = Catalog(
            filename=str(DATA / "MontWarWDs.csv.gz"), where="Gmag < 16 and spectype in ['DA']", alias_column="SDSS12"
        )
        lines = gzip.decompress((DATA / "MontWarWDs.csv.gz").read_bytes()).decode().splitlines()
        names = lines[0].split(",")
        rows = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
        wanted = [row for row in rows if row["Gmag"] and float(row["Gmag"]) < 16 and row["spectype"] == "DA"]
        assert 0 < len(wanted) < len(rows)
        assert found.names == [row["GaiaEDR3"] for row in wanted]
        row = found.get_row(wanted[5]["SDSS12"])
        assert row["name"] == wanted[5]["GaiaEDR3"]
        assert (row["ra"], row["dec"], row["mag"]) == tuple(
            float(wanted[5][key]) for key in ("RA_ICRS", "DE_ICRS", "Gmag")
        )
        assert row["aliases"] == [wanted[5]["SDSS12"]]

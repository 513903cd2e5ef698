"""Exports of light curves: what other programs read is what was measured, under the names that they use."""

import io
import json
import pickle
import re
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import votable
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from obsarchive.errors import ConfigError, Unprocessable
from surveys import export, read_light_curve, skyportal
from surveys.dataset import Lightcurve


def curve(
    filter_name: str = "r", observatory: str = "ZTF", number: int = 1, n: int = 5, **more: np.ndarray
) -> Lightcurve:
    rng = np.random.default_rng(number)
    mag = rng.normal(18, 0.1, n).astype(np.float32)
    columns = {
        "mjd": 58000.1 + np.arange(n),
        "exptime": np.full(n, 30.0, np.float32),
        "ra": np.full(n, 123.4),
        "dec": np.full(n, -5.6),
        "flux": (10 ** (-0.4 * (mag - 23.9))).astype(np.float32),
        "flux_err": np.full(n, 3.0, np.float32),
        "mag": mag,
        "mag_err": np.full(n, 0.02, np.float32),
        "flag": np.arange(n) == 1,
        **more,
    }
    facts = {"name": "WD J0001+02.5", "ra": 123.4, "dec": -5.6, "filter": filter_name, "series_number": number}
    return Lightcurve(columns, facts, observatory=observatory, project="P")


@pytest.mark.parametrize(
    ("observatory", "name", "wanted"),
    [
        ("ZTF", "g", "ztfg"),
        ("ZTF", "r", "ztfr"),
        ("ZTF", "i", "ztfi"),
        ("ZTF", "zg", "ztfg"),
        ("ZTF", "zr", "ztfr"),
        ("ztf", "zi", "ztfi"),
        ("ZTF", "ZTF-r", "ztfr"),
        ("TESS", "TESS", "tess"),
        ("TESS", "", "tess"),
        ("DEMO", "r", "sdssr"),
        ("DEMO", "ip", "sdssi"),
        ("DEMO", "SDSS g", "sdssg"),
        ("OGLE", "I", "besselli"),
        ("OGLE", "V", "bessellv"),
        ("DEMO", "R", "bessellr"),
        ("LCO", "W 1", "w1"),
    ],
)
def test_filters_are_named_as_skyportal_names_them(observatory: str, name: str, wanted: str) -> None:
    assert skyportal.filter_of(observatory, name) == wanted


def test_filters_of_ztf_are_not_taken_for_their_neighbours() -> None:
    """The published package sent r as ztfi, and i as ztfz, which is no filter."""
    assert [skyportal.metadata_of(curve(name))["filter"] for name in "gri"] == ["ztfg", "ztfr", "ztfi"]


def test_a_series_has_the_columns_and_facts_that_skyportal_wants() -> None:
    given_curve = curve()
    with h5py.File(io.BytesIO(export.write([given_curve], "skyportal"))) as file:
        assert list(file) == ["photometry"]
        group = file["photometry"]
        table, attributes = group["table"][:], dict(group.attrs)
        kinds = {name: value for name, value in group["table"].attrs.items() if name.endswith("_kind")}
    for ours, theirs in (
        ("mjd", "mjd"),
        ("flux", "flux"),
        ("flux_err", "fluxerr"),
        ("mag", "mag"),
        ("mag_err", "magerr"),
    ):
        np.testing.assert_array_equal(table[theirs], given_curve.columns[ours])
    assert set(table["filter"]) == {b"ztfr"}
    assert set(table["magsys"]) == {b"ab"}
    assert set(table["zp"]) == {23.9}
    np.testing.assert_allclose(-2.5 * np.log10(table["flux"]) + table["zp"], table["mag"], atol=1e-4)
    assert table["flag"].tolist() == [0, 1, 0, 0, 0]
    metadata = pickle.loads(attributes["metadata"])  # noqa: S301 - made by ourselves
    assert metadata == {
        "series_name": "ZTF_r_01",
        "series_obj_id": "WD_J0001+02_5",
        "exp_time": 30.0,
        "ra": 123.4,
        "dec": -5.6,
        "filter": "ztfr",
        "time_stamp_alignment": "middle",
    }
    assert re.fullmatch(r"[\w+-]+", metadata["series_obj_id"])
    assert attributes["pandas_type"] == b"frame_table"
    columns = pickle.loads(attributes["values_cols"])  # noqa: S301 - made by ourselves
    assert {name.removesuffix("_kind") for name in kinds} == {"index", *columns}


def test_pandas_reads_a_series_as_skyportal_does() -> None:
    pytest.importorskip("tables")
    image = export.write([curve()], "skyportal")
    options = {"driver": "H5FD_CORE", "driver_core_backing_store": 0, "driver_core_image": image}
    with pd.HDFStore("series.h5", mode="r", **options) as store:
        keys = store.keys()
        assert keys == ["/photometry"]
        frame, attributes = store[keys[0]], store.get_storer(keys[0]).attrs
        assert attributes["metadata"]["filter"] == "ztfr"
    assert list(frame["mjd"]) == list(curve().columns["mjd"])
    assert set(frame["filter"]) == {"ztfr"}


def test_several_series_are_packed_and_keep_apart() -> None:
    curves = [curve("g", number=1), curve("r", number=2), curve("TESS", "TESS", 1)]
    with zipfile.ZipFile(io.BytesIO(export.write(curves, "skyportal"))) as packed:
        assert len(set(packed.namelist())) == 3
        found = {
            name: h5py.File(io.BytesIO(packed.read(name)))["photometry/table"][0]["filter"]
            for name in packed.namelist()
        }
    assert sorted(found.values()) == [b"tess", b"ztfg", b"ztfr"]
    assert export.kind_of("skyportal", 3) == (".zip", "application/zip")
    assert export.kind_of("skyportal", 1)[0] == ".h5"


def test_what_is_not_known_is_not_made_up() -> None:
    nan = np.full(5, np.nan)
    unknown = curve(exptime=nan, ra=nan, dec=nan)
    unknown.altdata.pop("ra")
    metadata = skyportal.metadata_of(unknown)
    assert np.isnan(metadata["exp_time"])
    assert np.isnan(metadata["ra"])
    assert metadata["dec"] == -5.6
    shorter = curve(ra=np.array([1.0, np.nan, 3.0, 2.0, 2.0]))
    shorter.altdata.pop("ra")
    assert skyportal.metadata_of(shorter)["ra"] == 2.0


def read(form: str, content: bytes) -> dict[str, np.ndarray]:
    match form:
        case "csv":
            frame = pd.read_csv(io.BytesIO(content))
        case "parquet":
            frame = parquet.read_table(io.BytesIO(content)).to_pandas()
        case _:
            with warnings.catch_warnings(action="ignore"):
                array = votable.parse_single_table(io.BytesIO(content)).array
            return {name: np.ma.getdata(array[name]) for name in array.dtype.names}
    return {name: frame[name].to_numpy() for name in frame}


@pytest.mark.parametrize("form", ["csv", "parquet", "votable"])
def test_tables_are_read_by_others(form: str) -> None:
    curves = [curve("g"), curve("r", number=2, n=3, snr=np.array([1, np.nan, -3], np.float32))]
    found = read(form, export.write(curves, form))
    for name, values in curves[0].columns.items():
        together = np.concatenate([values, curves[1].columns[name]])
        np.testing.assert_array_equal(np.asarray(found[name]).astype(together.dtype), together)
    assert [str(name) for name in found["filter"]] == ["g"] * 5 + ["r"] * 3
    assert list(found["series_number"]) == [1] * 5 + [2] * 3
    np.testing.assert_array_equal(np.asarray(found["snr"], float), [*[np.nan] * 5, 1, np.nan, -3])


def test_a_votable_tells_units() -> None:
    with warnings.catch_warnings(action="ignore"):
        table = votable.parse_single_table(io.BytesIO(export.write([curve()], "votable")))
    units = {field.name: str(field.unit) for field in table.fields if field.unit}
    assert units["flux"] == "uJy"
    assert (units["mjd"], units["ra"], units["mag"], units["exptime"]) == ("d", "deg", "mag", "s")


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_json_keeps_the_digits_of_single_precision_and_no_number_that_is_none(values: list[float]) -> None:
    given_values = np.array(values, np.float32)
    written = json.loads(json.dumps(export.plain_values(given_values), allow_nan=False))
    read_back = np.array([np.nan if value is None else value for value in written], np.float32)
    np.testing.assert_array_equal(read_back, np.where(np.isfinite(given_values), given_values, np.nan))


def test_json_holds_every_light_curve() -> None:
    found = json.loads(export.write([curve("g"), curve("r", number=2)], "json"))["lightcurves"]
    assert [(one["filter"], one["series_number"], one["n"]) for one in found] == [("g", 1, 5), ("r", 2, 5)]
    assert found[0]["columns"]["flag"] == [False, True, False, False, False]


def test_what_cannot_be_written_is_said() -> None:
    with pytest.raises(ConfigError, match="csv, json"):
        export.write([curve()], "xlsx")
    for form in export.FORMS:
        with pytest.raises(Unprocessable, match="no light curve"):
            export.write([], form)


@pytest.mark.parametrize("form", ["csv", "parquet", "fits", "ecsv", "votable"])
def test_greek_names_are_written_and_read(form: str, tmp_path: Path) -> None:
    greek = curve("α-β")
    greek = Lightcurve(greek.columns, {**greek.altdata, "name": "α Cen/β"}, observatory="OMEGA")
    path = tmp_path / f"greek{export.FORMS[form][0]}"
    path.write_bytes(export.write([greek], form))
    found = read_light_curve(path)
    assert set(found["filter"]) == {"α-β"}
    assert found["flag"].sum() == 1
    np.testing.assert_allclose(found["flux"], greek.columns["flux"], rtol=1e-6)

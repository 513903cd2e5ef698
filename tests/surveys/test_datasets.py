"""Data sets, sources, events and the session that keeps them: as the guide says, on a real database and disk."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import astropy.units as u
import h5py
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time
from numpy.testing import assert_allclose, assert_array_equal

from obsarchive.database import connect
from obsarchive.errors import ArchiveError, ConfigError, Unprocessable
from surveys import database, dataset
from surveys.database import Session, open_surveys
from surveys.dataset import Lightcurve, RawPhotometry, data_root
from surveys.detection import Detection
from surveys.formats.hdf5_light_curves import CorruptFileError, MissingDataError, PhotometryFile, checksum
from surveys.properties import Properties
from surveys.source import Source, UniqueList

N = 40
STAR = Source("J123.1-32.13", 123.1, -32.13, 17.0)


def columns(n: int = N, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "mjd": 58000 + np.arange(n) * 1.5,
        "mag": rng.normal(17, 0.1, n),
        "magerr": rng.uniform(0.01, 0.1, n),
        "filter": np.array(["zg", "zr"])[np.arange(n) % 2],
    }


def raw(source: Source = STAR, observatory: str = "ztf", **kwargs) -> RawPhotometry:
    return RawPhotometry(kwargs.pop("data", columns()), source=source, observatory=observatory, **kwargs)


def curve(number: int = 1, total: int = 3, source: Source = STAR, **facts) -> Lightcurve:
    n = 20
    flux = np.random.default_rng(number).normal(100, 2, n)
    made = {
        "mjd": 58000.0 + np.arange(n),
        "flux": flux,
        "flux_err": np.full(n, 2.0),
        "mag": 23.9 - 2.5 * np.log10(flux),
    }
    made |= {"mag_err": np.full(n, 0.02), "flag": np.arange(n) == 3}
    altdata = {"series_number": number, "series_total": total, "filter": "g", **facts}
    return Lightcurve(made, altdata, source=source, observatory="ZTF", project="PROJ_NAME")


# --------------------------------------------------------------------------------------------- names and places


def test_raw_data_lie_where_the_guide_says(survey_root):
    data = raw()
    data.save()
    assert data.filename == "ZTF_photometry_RA123.h5"
    assert data.get_fullname() == survey_root / "ZTF" / "ZTF_photometry_RA123.h5"
    assert data.filekey == "J123.1-32.13"
    with h5py.File(data.get_fullname()) as file:
        assert list(file) == ["J123.1-32.13"]
        assert_array_equal(file["J123.1-32.13"]["mag"], columns()["mag"])


def test_light_curves_lie_where_the_guide_says(survey_root):
    lc = curve(1, 3)
    lc.save()
    assert lc.filename == "ZTF_photometry_RA123_reduced.h5"
    assert lc.get_fullname() == survey_root / "PROJ_NAME" / "ZTF_photometry_RA123_reduced.h5"
    assert lc.filekey == "J123.1-32.13_reduction_01_of_03"
    assert curve(12, 12).filekey == "J123.1-32.13_reduction_12_of_12"
    assert curve(2, was_processed=True).filekey == "J123.1-32.13_processed_02_of_03"
    assert curve(2, simulation_number=1, simulation_total=4).filekey == "J123.1-32.13_simulated_01_of_04"


@pytest.mark.parametrize(
    ("ra", "degree"), [(4.7, "004"), (45.0, "045"), (0.0, "000"), (359.999, "359"), (-0.1, "359"), (360, "000")]
)
def test_degrees_have_three_digits(survey_root, ra, degree):
    source = Source("x", ra, 0.0)
    assert raw(source).filename == f"ZTF_photometry_RA{degree}.h5"
    assert curve(source=source).filename == f"ZTF_photometry_RA{degree}_reduced.h5"


def test_the_root_is_that_of_the_module_or_the_environment(tmp_path, monkeypatch):
    for name in dataset.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(dataset, "DATA_ROOT", None)
    monkeypatch.chdir(tmp_path)
    assert data_root() == tmp_path / "survey_data"
    monkeypatch.setenv("VO_DATA", str(tmp_path / "old"))
    assert data_root() == tmp_path / "old"
    monkeypatch.setenv("RETRIEVER_DATA", str(tmp_path / "new"))
    assert data_root() == tmp_path / "new"
    monkeypatch.setattr(dataset, "DATA_ROOT", str(tmp_path / "mine"))
    assert raw().get_fullname() == tmp_path / "mine" / "ZTF" / "ZTF_photometry_RA123.h5"


def test_what_is_not_known_has_no_place(survey_root):
    for nowhere in (
        RawPhotometry(columns()),
        RawPhotometry(columns(), observatory="ZTF"),
        RawPhotometry(columns(), source=STAR),
    ):
        with pytest.raises(ArchiveError, match="need an observatory and a source"):
            nowhere.save()
    with pytest.raises(ArchiveError, match="belongs to no project"):
        Lightcurve(columns(), source=STAR, observatory="ZTF").save()
    assert list(survey_root.rglob("*.h5")) == []


# ---------------------------------------------------------------------------------------- loading and saving


def test_data_are_loaded_when_they_are_asked_for(survey_root):
    raw().save()
    data = RawPhotometry(source=STAR, observatory="ZTF")
    assert data._data is None
    assert_array_equal(data.data["mag"], columns()["mag"])
    assert data.data["filter"].tolist() == columns()["filter"].tolist()
    assert (data.source_name, data.altdata["ra"], data.observatory) == ("J123.1-32.13", 123.1, "ZTF")
    other = RawPhotometry(source=STAR, observatory="ZTF")
    other.autoload = False
    with pytest.raises(ArchiveError, match=r"RA123\.h5: the data were not loaded: call load\(\)"):
        _ = other.data
    other.load()
    assert len(other) == len(data) == N
    with pytest.raises(MissingDataError, match=r"RA123\.h5 holds no 'other'"):
        len(RawPhotometry(source=Source("other", 123.5, 0), observatory="ZTF"))
    with pytest.raises(MissingDataError, match=r"RA124\.h5: no such file"):
        RawPhotometry(source=Source("other", 124.5, 0), observatory="ZTF").load()


def test_a_file_that_somebody_names(survey_root, tmp_path, monkeypatch):
    """As in the guide: RawPhotometry(filename="my_raw_data.h5"), with nothing else known."""
    raw(altdata={"note": "kept"}, filename="my_raw_data.h5").save()
    assert (survey_root / "ZTF" / "my_raw_data.h5").exists()
    beside = tmp_path / "elsewhere"
    beside.mkdir()
    monkeypatch.chdir(beside)
    (survey_root / "ZTF" / "my_raw_data.h5").rename(beside / "my_raw_data.h5")
    for name in ("my_raw_data.h5", str(beside / "my_raw_data.h5")):
        data = RawPhotometry(filename=name)
        data.load()
        assert_array_equal(data.data["mag"], columns()["mag"])
        assert (data.filekey, data.source_name, data.observatory) == ("J123.1-32.13", "J123.1-32.13", "ZTF")
        assert (data.altdata["ra"], data.altdata["note"]) == (123.1, "kept")
        assert data.get_fullname() == beside / "my_raw_data.h5"
    PhotometryFile(beside / "my_raw_data.h5").write({"second": raw().record})
    with pytest.raises(ArchiveError, match=r"holds 2 datasets: select one by filekey= \(J123\.1-32\.13, second\)"):
        RawPhotometry(filename="my_raw_data.h5").load()
    assert len(RawPhotometry(filename="my_raw_data.h5", filekey="second")) == N


def test_a_table_of_another_format_is_read_but_never_written(survey_root, tmp_path):
    path = tmp_path / "mine.csv"
    pd.DataFrame(columns()).to_csv(path, index=False)
    data = RawPhotometry(filename=str(path), source=STAR, observatory="ZTF")
    assert_allclose(data.data["mag"], columns()["mag"])
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match=r"mine\.csv: data are kept in HDF5; write other formats by surveys\.export"):
        data.save()
    assert path.read_bytes() == before
    for suffix in ("fits", "json", "nc"):
        with pytest.raises(ArchiveError, match="data are kept in HDF5"):
            raw(filename=f"mine.{suffix}").save()
    assert not list(survey_root.rglob("mine.[fjn]*"))


def test_changes_of_the_data_are_saved(survey_root):
    raw().save()
    data = RawPhotometry(source=STAR, observatory="ZTF")
    data.data["mag"] += 1
    data.data["new"] = np.arange(N)
    data.data = data.data[data.data["filter"] == "zg"]
    data.altdata["note"] = "changed"
    data.save()
    again = RawPhotometry(source=STAR, observatory="ZTF")
    assert_allclose(again.data["mag"], columns()["mag"][::2] + 1)
    assert_array_equal(again.data["new"], np.arange(0, N, 2))
    assert again.altdata["note"] == "changed"
    again.load()
    assert len(again) == N // 2


def test_looking_at_the_data_does_not_change_their_checksum(survey_root):
    data = raw(data={**columns(), "flag": np.arange(N) % 2 == 0, "n": np.arange(N, dtype=np.int16)})
    data.save()
    again = RawPhotometry(source=STAR, observatory="ZTF")
    before = again.document()["checksum"]
    assert before == checksum(data.record)
    assert again.data.dtypes["n"] == np.int16
    assert again.document()["checksum"] == before
    again.save()
    assert RawPhotometry(source=STAR, observatory="ZTF").document()["checksum"] == before


def test_what_is_there_is_replaced_only_if_wanted(survey_root):
    raw().save()
    other = raw(data=columns(seed=1))
    with pytest.raises(ArchiveError, match=r"holds 'J123\.1-32\.13' already: set overwrite=True"):
        other.save(overwrite=False)
    assert_array_equal(RawPhotometry(source=STAR, observatory="ZTF").data["mag"], columns()["mag"])
    other.save()
    assert_array_equal(RawPhotometry(source=STAR, observatory="ZTF").data["mag"], columns(seed=1)["mag"])
    raw(Source("new", 123.9, 0)).save(overwrite=False)
    assert PhotometryFile(other.get_fullname()).keys() == ["J123.1-32.13", "new"]


def test_data_are_removed_from_the_disk(survey_root):
    first, second = raw(), raw(Source("new", 123.9, 0))
    for data in (first, second):
        data.save()
    first.delete_data_from_disk()
    assert PhotometryFile(first.get_fullname()).keys() == ["new"]
    first.delete_data_from_disk()
    second.delete_data_from_disk()
    assert not second.get_fullname().exists()
    second.save()  # they are still in memory
    assert len(RawPhotometry(source=Source("new", 123.9, 0), observatory="ZTF")) == N


@pytest.mark.parametrize(
    "nothing", [{}, pd.DataFrame(), {"mjd": np.empty(0), "mag": np.empty(0)}, pd.DataFrame(columns=["mjd"])]
)
def test_that_there_is_nothing_is_remembered(survey_root, nothing):
    """The published package forgot it, and asked the survey again and again."""
    data = raw(data=nothing, altdata={"asked": "yes"})
    data.save()
    again = RawPhotometry(source=STAR, observatory="ZTF")
    again.load()
    assert again.is_empty
    assert len(again) == 0
    assert again.altdata["asked"] == "yes"
    assert (again.mjds.shape, again.times) == ((0,), [])
    expires = datetime(2030, 1, 1, tzinfo=UTC)
    document = again.document(expires)
    assert (document["state"], document["number"], document["filters"], document["expires"]) == (
        "empty",
        0,
        [],
        expires,
    )
    assert raw().document(expires)["state"] == "good"
    assert raw().document(expires)["expires"] is None


def test_damage_is_told(survey_root):
    data = raw()
    data.save()
    data.get_fullname().write_bytes(b"rubbish")
    with pytest.raises(CorruptFileError, match=r"RA123\.h5"):
        RawPhotometry(source=STAR, observatory="ZTF").load()


# ------------------------------------------------------------------------------------------- times and pictures


def test_times_stand_beside_their_epochs():
    mjd = np.array([58003.5, 58001.25, 58002.0])
    for data in (
        RawPhotometry({"mjd": mjd, "mag": mjd}),
        RawPhotometry({"JD - 2450000": mjd - 49999.5, "flux": mjd}),
        RawPhotometry({"date": Time(mjd, format="mjd").isot, "mag": mjd}),
        RawPhotometry({"time": mjd - 57000, "mag": mjd}, {"time_offset": 57000, "time_scale": "mjd"}),
        Lightcurve({"mjd": mjd, "flux": mjd}),
    ):
        assert_allclose(data.mjds, mjd, rtol=0, atol=1e-9)
        wanted = Time(mjd, format="mjd").to_datetime(timezone=UTC)
        assert all(
            abs(found - time) < timedelta(milliseconds=1) for found, time in zip(data.times, wanted, strict=True)
        )
    unknown = RawPhotometry({"mjd": np.array([58000.0, np.nan]), "mag": np.zeros(2)})
    assert unknown.times == [datetime(2017, 9, 4, tzinfo=UTC), pd.NaT]
    with pytest.raises(Unprocessable, match="needs a time"):
        _ = RawPhotometry({"mag": mjd}).mjds


@pytest.fixture
def no_screen():
    before = mpl.get_backend()
    mpl.use("agg")
    yield
    from matplotlib import pyplot

    pyplot.close("all")
    mpl.use(before)


def test_pictures_show_every_filter_and_brighter_is_up(survey_root, no_screen):
    raw().save()
    data = RawPhotometry(source=STAR, observatory="ZTF")
    axes = data.plot()
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["zg", "zr"]
    assert axes.get_title() == "J123.1-32.13 ZTF"
    shown = {container.get_label(): container.lines[0].get_xydata() for container in axes.containers}
    assert_array_equal(shown["zg"], np.stack([columns()["mjd"], columns()["mag"]], 1)[::2])
    assert curve().plot(axes) is axes
    assert axes.yaxis_inverted()
    assert len(axes.containers) == 3


def test_pictures_of_little(no_screen):
    assert RawPhotometry({}).plot().containers == []
    unnamed = RawPhotometry({"mjd": 58000 + np.arange(3.0), "mag": np.arange(3.0)}).plot()
    assert [text.get_text() for text in unnamed.get_legend().get_texts()] == ["no filter"]
    nan = np.full(3, np.nan)
    assert (
        len(
            RawPhotometry({"mjd": 58000 + np.arange(3.0), "mag": nan, "filter": np.array(list("abc"))})
            .plot()
            .containers
        )
        == 3
    )


# ------------------------------------------------------------------------------------------------ light curves


def test_good_epochs_and_quiet_levels():
    lc = curve()
    assert_array_equal(np.flatnonzero(~lc.good), [3])
    lc = lc.with_columns(
        {**lc.columns, "qflag": np.arange(20) < 5, "flux": np.where(np.arange(20) == 9, np.nan, 100.0)}
    )
    assert_array_equal(np.flatnonzero(~lc.good), [0, 1, 2, 3, 4, 9])
    assert (lc.level.mean, lc.level.rms, lc.level.n) == (100.0, 0.0, 14)
    assert (lc.filter, lc.series_number, lc.project, lc.filekey) == (
        "g",
        1,
        "PROJ_NAME",
        "J123.1-32.13_reduction_01_of_03",
    )
    processed = lc.with_columns(lc.columns, was_processed=True)
    assert processed.was_processed
    assert not lc.was_processed
    assert not lc.is_simulated
    assert processed.with_columns({}, simulation_number=2).is_simulated


def test_the_document_of_a_light_curve():
    lc = curve(2, 3)
    document = lc.document("hash")
    assert document["_id"] == lc.identifier == "PROJ_NAME/ZTF/J123.1-32.13_reduction_02_of_03"
    assert (document["run"], document["source_name"], document["filter"]) == ("PROJ_NAME", "J123.1-32.13", "g")
    assert (document["number"], document["mjd_start"], document["mjd_stop"]) == (20, 58000.0, 58019.0)
    assert (document["cadence_d"], document["is_uniform"]) == (1.0, True)
    assert document["mag"] == pytest.approx(np.median(lc.columns["mag"]))
    assert document["flux_mean"] == pytest.approx(lc.level.mean)
    assert document["cfg_hash"] == "hash"
    uneven = curve().with_columns({**curve().columns, "mjd": np.sort(np.random.default_rng(0).uniform(0, 100, 20))})
    assert not uneven.document()["is_uniform"]
    none = curve().with_columns({name: values[:0] for name, values in curve().columns.items()}).document()
    assert (none["number"], none["mjd_start"], none["mag"], none["flux_mean"], none["is_uniform"]) == (
        0,
        None,
        None,
        None,
        False,
    )


# ------------------------------------------------------------------------------------------------------ session


def test_sources_come_back(survey_store, survey_root):
    source = Source(
        *("WD 1145+017", 177.14, 1.483, 17.2, 0.01),
        aliases=["EPIC 201563164", 7],
        mag_filter="Gaia_G",
        cat_index=3,
        cat_name="WD",
        cat_row={"pmra": -43.3, "spectype": "DBZA"},
    )
    with Session() as session:
        session.add_all([source, Source("plain", 1.0, 2.0)])
        assert session.first(Source) is None
        session.commit()
        found = session.first(Source, name="WD 1145+017")
        assert found.document() == source.document()
        assert repr(found) == "Source('WD 1145+017', ra=177.14000, dec=+1.48300, mag=17.2)"
        assert found.cat_row == {
            "name": "WD 1145+017",
            "ra": 177.14,
            "dec": 1.483,
            "mag": 17.2,
            **source.facts["cat_row"],
        }
        assert [item.name for item in session.find(Source)] == ["WD 1145+017", "plain"]
        assert session.first(Source, name="plain").mag is None
        assert [item.name for item in session.all(Source, aliases="EPIC 201563164")] == ["WD 1145+017"]
        assert session.first(Source, cat_name="WD", mag=17.2).name == "WD 1145+017"
        assert session.first(Source, name="nobody") is None


def test_sources_of_rows_of_a_catalogue():
    row = {
        "name": "a",
        "ra": 1.0,
        "dec": 2.0,
        "mag": 3.0,
        "mag_err": None,
        "aliases": ["b"],
        "cat_index": 4,
        "pmra": 5.0,
    }
    source = Source.from_row(row, project="P")
    assert (source.name, source.ra, source.dec, source.mag, source.project) == ("a", 1.0, 2.0, 3.0, "P")
    assert (source.aliases, source.facts, source.identifier) == (["b"], {"cat_index": 4}, "a")


def test_writing_a_source_again_does_not_take_it_from_its_projects(survey_store, survey_root):
    surveys = open_surveys()
    surveys.register([STAR.document()], "FIRST")
    surveys.register([STAR.document()], "SECOND")
    with Session() as session:
        [found] = session.all(Source, project="SECOND")
        assert found.project == "SECOND"  # whose light curves are meant
        found.mag = 15.0
        session.add(found)
        session.add(Source("free", 1.0, 2.0))
        session.add(Source("bound", 1.0, 2.0, project="THIRD"))
        session.commit()
        assert session.first(Source, project="FIRST").mag == 15.0
        assert [source.name for source in session.find(Source, project="THIRD")] == ["bound"]
        assert session.first(Source, name="free").project == ""
    [document] = surveys.find("sources", {"_id": STAR.name})
    assert document["projects"] == ["FIRST", "SECOND"]


def test_a_source_knows_its_data(survey_store, survey_root):
    source = Source(STAR.name, STAR.ra, STAR.dec, project="PROJ_NAME")
    empty = raw(source, "tess", data={})
    other = curve(source=STAR)
    other.project = "OTHER"
    items = [raw(source), empty, curve(2), curve(1), other, curve(1, was_processed=True)]
    strong = Detection(STAR.name, "ZTF", "PROJ_NAME", number=1, score=-9.0)
    weak = Detection(STAR.name, "ZTF", "PROJ_NAME", number=2, score=6.0)
    unreal = Detection(STAR.name, "ZTF", "PROJ_NAME", score=99.0, simulated=True, sim_pars={"number": 1})
    with Session() as session:
        for item in items:
            item.save()
        session.add_all([source, *items, weak, unreal, strong, Properties(STAR.name, "PROJ_NAME", has_data=True)])
        session.commit()
        source = session.first(Source, name=STAR.name, project="PROJ_NAME")
    assert [item.observatory for item in source.raw_photometry] == ["TESS", "ZTF"]
    assert source.raw_data["ztf"] is source.raw_photometry[1]
    assert_array_equal(source.raw_photometry["ZTF"].data["mag"], columns()["mag"])
    assert source.raw_photometry["TESS"].is_empty
    assert [item.filekey[13:] for item in source.lightcurves] == [
        "processed_01_of_03",
        "reduction_01_of_03",
        "reduction_02_of_03",
    ]
    assert_array_equal(source.lightcurves[2].columns["flux"], curve(2).columns["flux"])
    assert [event.score for event in source.detections] == [-9.0, 6.0]
    assert source.properties.has_data
    assert Source("nobody", 1, 2).properties is None
    assert [item.series_number for item in source.get_data("ztf", level="reduced")] == [1, 2]
    assert [item.was_processed for item in source.get_data("ZTF", level="processed")] == [True]
    assert [len(item) for item in source.get_data("ztf")] == [N]
    source.raw_photometry["ZTF"].delete_data_from_disk()
    assert source.get_data("ZTF") == []
    for wrong in ({"data_type": "spectra"}, {"level": "cooked"}):
        with pytest.raises(ConfigError, match="photometry; raw, reduced, processed"):
            source.get_data("ZTF", **wrong)


def test_data_sets_come_back(survey_store, survey_root):
    data, lc = raw(), curve(2, 3)
    data.save()
    lc.save()
    with Session() as session:
        session.add_all([data, lc])
        session.commit()
        found = session.first(RawPhotometry, name=STAR.name)
        assert session.first(RawPhotometry, source_name=STAR.name, observatory="ZTF").filekey == found.filekey
        assert found._data is None
        assert_array_equal(found.data["mag"], data.data["mag"])
        assert found.document()["checksum"] == data.document()["checksum"]
        again = session.first(Lightcurve, project="PROJ_NAME", filter="g")
        assert again.get_fullname() == lc.get_fullname()
        assert_array_equal(again.columns["flux"], lc.columns["flux"])
        assert again.document() == lc.document()
        assert session.first(Lightcurve, project="OTHER") is None


def test_data_are_deleted_on_disk_and_then_in_the_database(survey_store, survey_root):
    """In the order of the guide; the data are gone when the session hears of it."""
    raw().save()
    curve().save()
    with Session() as session:
        session.add_all([raw(), curve(), STAR, Detection(STAR.name, "ZTF", "P"), Properties(STAR.name, "P")])
        session.commit()
        for kind in (RawPhotometry, Lightcurve):
            data = session.first(kind, source_name=STAR.name)
            data.delete_data_from_disk()
            session.delete(data)
        session.delete(session.first(Source))
        session.delete(session.first(Detection))
        session.delete(session.first(Properties))
        assert session.first(RawPhotometry) is not None
        session.commit()
        assert not [kind for kind in (Source, RawPhotometry, Lightcurve, Detection, Properties) if session.all(kind)]
    assert not list(survey_root.rglob("*.h5"))


def test_changed_raw_data_make_results_stale(survey_store, survey_root):
    with Session() as session:
        session.add_all([raw(), Properties(STAR.name, "P", cfg_hash="h"), Properties("other", "P", cfg_hash="h")])
        session.commit()
        assert open_surveys().finished("P", "h") == {STAR.name, "other"}
        session.add(raw())
        session.commit()
        assert open_surveys().finished("P", "h") == {STAR.name, "other"}
        session.add(raw(data=columns(seed=1)))
        session.commit()
        assert open_surveys().finished("P", "h") == {"other"}


def test_nothing_happens_without_a_commit(survey_store, survey_root):
    with Session() as session:
        session.add(STAR)
        session.commit()
        session.add(Source("forgotten", 1, 2))
        session.delete(STAR)
        session.rollback()
        session.commit()
        assert [source.name for source in session.find(Source)] == [STAR.name]
        session.add(Source("forgotten", 1, 2))
    session.commit()
    assert session.first(Source, name="forgotten") is None


def test_a_commit_that_cannot_be_is_none_at_all(survey_store, survey_root):
    with Session() as session:
        session.add(STAR)
        session.add(RawPhotometry(source=STAR, observatory="ZTF"))  # its data are nowhere
        with pytest.raises(MissingDataError):
            session.commit()
        assert session.first(Source) is None
        session.rollback()
        session.add("text")
        with pytest.raises(ConfigError, match=r"objects of the classes Source, RawPhotometry, .* found str"):
            session.commit()
    with pytest.raises(ConfigError, match="found dict"):
        session.first(dict)


def test_classes_of_ones_own_are_kept_like_their_parents(survey_store, survey_root):
    class MySource(Source):
        pass

    with Session() as session:
        session.add(MySource("mine", 1, 2))
        session.commit()
        assert type(session.first(MySource)) is MySource
        assert type(session.first(Source)) is Source


OPERATORS = [
    {"name": {"$gt": ""}},
    {"name": {"$regex": ".*"}},
    {"name": ["a"]},
    {"name": b"a"},
    {"$where": "true"},
    {"$expr": "x"},
    {"cat_row.$x": 1},
    {"mag": STAR},
]


def test_operators_are_refused(survey_store, survey_root):
    with Session() as session:
        session.add(STAR)
        session.commit()
        for wanted in OPERATORS:
            for kind in (Source, Lightcurve):
                for ask in (session.first, session.all, lambda *args, **kwargs: list(session.find(*args, **kwargs))):
                    with pytest.raises(ConfigError, match="to look for, found"):
                        ask(kind, **wanted)


CENTRES = [(0.0, 0.0), (359.999, -30.0), (0.001, 60.0), (123.0, 90.0), (10.0, -90.0), (45.0, 89.0), (180.0, 20.0)]


def test_cone_searches_are_right_at_0_h_and_at_the_poles(survey_store, survey_root):
    rng = np.random.default_rng(1)
    centres = SkyCoord(CENTRES, unit="deg")
    angle, distance = rng.uniform(0, 360, (60, 1)), rng.uniform(0, 0.2, (60, 1))
    places = centres.directional_offset_by(angle * u.deg, distance * u.deg).flatten()
    with Session() as session:
        ra_dec = zip(places.ra.deg.tolist(), places.dec.deg.tolist(), strict=True)
        session.add_all([Source(str(n), *place) for n, place in enumerate(ra_dec)])
        session.commit()
        for centre in centres:
            apart = places.separation(centre).deg
            for radius in (0.1, 0.02, apart.min() + 1e-6, 1.5):
                assert (np.abs(apart - radius) > 1e-7).all()
                found = {int(source.name) for source in session.cone_search(centre.ra.deg, centre.dec.deg, radius)}
                assert found == set(np.flatnonzero(apart < radius).tolist())
                assert found


def test_a_source_is_found_by_its_own_place_whatever_its_right_ascension(survey_store, survey_root):
    with Session() as session:
        for ra in (0.0, 180.0, 179.9999, 359.9999, 360.0):
            session.add(Source(f"at {ra}", ra, 10.0))
            session.commit()
            assert f"at {ra}" in {source.name for source in session.cone_search(ra, 10.0, 1e-5)}


# ---------------------------------------------------------------------------------------- events and properties


def test_detections_come_back(survey_store, survey_root):
    real = Detection(
        *("a", "ZTF", "P", "g", 2, 1, "matched filter", -7.5, 58000.0, 58001.5, 58003.0),
        peak_mag=17.25,
        n_epochs=4,
        width_d=2.5,
        amplitude=-30.0,
        quality=True,
        cfg_hash="h",
    )
    unreal = Detection(
        "a", "ZTF", "P", "g", 2, 1, simulated=True, sim_pars={"number": 3, "amplitude": 5.0, "mjd": 58000.0}
    )
    assert real.identifier == "P/a/ZTF/2/real/1"
    assert unreal.identifier == "P/a/ZTF/2/simulated 3/1"
    assert (real.snr, real.document()["strength"]) == (-7.5, 7.5)
    assert real.time_peak == datetime(2017, 9, 5, 12, tzinfo=UTC)
    with Session() as session:
        session.add_all([real, unreal])
        session.commit()
        assert session.all(Detection, simulated=False) == [real]
        assert session.all(Detection, name="a", simulated=True) == [unreal]
        session.add(real)  # found again: the same event
        session.commit()
        assert len(session.all(Detection)) == 2
    assert open_surveys().strongest({"run": "P"}, 1)[0]["_id"] == real.identifier


def test_properties_come_back(survey_store, survey_root):
    made = Properties(
        *("a", "P", "h"),
        has_data=True,
        n_detections=2,
        features={"ZTF": {"g": {"n": 30.0, "amplitude_mag": 0.5}}},
        inputs={"ZTF": "0123456789abcdef"},
        extra={"mine": [1, 2]},
    )
    failed = Properties("b", "P", "h", state="failed", reason="too dark")
    with Session() as session:
        session.add_all([made, failed])
        session.commit()
        assert session.all(Properties, project="P") == [made, failed]
        assert session.first(Properties, state="failed").reason == "too dark"
        assert session.first(Properties, name="a", cfg_hash="other") is None
    [document, _] = open_surveys().find("properties", {})
    assert document["_id"] == made.identifier == "P/a"
    assert datetime.now(UTC) - document["made"] < timedelta(minutes=5)


# ---------------------------------------------------------------------------------------------------- the rest


def test_lists_by_number_and_by_observatory():
    items = UniqueList([raw(), raw(observatory="tess"), curve(1), curve(2)])
    assert len(items) == 4
    assert items["ZTF"] is items["ztf"] is items[0] is next(iter(items))
    assert items["Tess"] is items[1]
    assert items[-1].series_number == 2
    assert [item.observatory for item in items[1:3]] == ["TESS", "ZTF"]
    assert "tess" in items
    assert items[1] in items
    assert "DEMO" not in items
    assert raw() not in items
    with pytest.raises(KeyError, match="DEMO; there is TESS, ZTF"):
        _ = items["DEMO"]
    with pytest.raises(KeyError, match="nothing"):
        _ = UniqueList([])["ZTF"]
    with pytest.raises(IndexError):
        _ = items[4]


def test_the_database_is_opened_once_and_beside_the_data(survey_root, monkeypatch, mongo_server):
    """Without a configuration here there is none to belong to; it is opened with the first question, not before."""
    monkeypatch.chdir(survey_root)
    monkeypatch.delenv(database.CONFIG_VARIABLE, raising=False)
    database.use(None)
    opened = []

    class DatabaseHandle:
        class surveys:  # noqa: N801 - stands for an object
            @staticmethod
            def ensure_indexes() -> None:
                opened.append("indexes")

    class Opening:
        def __init__(self, config) -> None:
            opened.append(config.database.folder)

        def __enter__(self):
            return DatabaseHandle

        def __exit__(self, *_) -> None:
            opened.append("closed")

    monkeypatch.setattr(connect, "open_store", Opening)
    assert database.find_config() is None
    assert opened == []
    threads = [threading.Thread(target=open_surveys) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [survey_root / ".db", "indexes"]
    assert open_surveys() is DatabaseHandle.surveys
    database.use(None)


def test_a_configuration_that_is_named_must_be_there(survey_root, monkeypatch):
    monkeypatch.setenv(database.CONFIG_VARIABLE, str(survey_root / "nowhere.json"))
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        database.find_config()


def test_the_data_of_an_archive_lie_in_its_own_folder(tmp_path, monkeypatch):
    for name in dataset.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(dataset, "DATA_ROOT", None)
    config = database._alone(tmp_path)
    assert database.root_of(config) == config.paths.archive / ".surveys"
    monkeypatch.setenv("RETRIEVER_DATA", str(tmp_path / "env"))
    assert database.root_of(config) == tmp_path / "env"
    named = config.model_copy(update={"surveys": config.surveys.model_copy(update={"data": Path("/data/surveys")})})
    assert database.root_of(named) == Path("/data/surveys")
    monkeypatch.setattr(dataset, "DATA_ROOT", tmp_path / "set")
    assert database.root_of(named) == tmp_path / "set"

"""Sources whose position is corrected in the catalogue: what was fetched for the old one is fetched again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.cli.main import surveys as main
from obsarchive.store import Store
from surveys.catalog import Catalog
from surveys.observatory import VirtualObservatory
from surveys.places import apart_arcsec, moved, place_of, tolerance_arcsec
from surveys.project import Project, load_project

ROW = {"name": "A", "ra": 10.0, "dec": 60.0, "pmra": None, "pmdec": None}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"dec": 60.0 + 0.09 / 3600}, ""),
        ({"ra": 10.0 + 0.19 / 3600}, ""),  # 0.095 arcsec at this declination
        ({"dec": 60.0 + 0.11 / 3600}, "0.11 arcsec apart"),
        ({"ra": 150.0}, "10.00000 +60.00000, now 150.00000 +60.00000, 56.05 deg apart"),
        ({"pmra": 5.0, "pmdec": -5.0}, ""),
        ({"pmra": 50.0}, "proper motion 0, 0 mas/yr, now 50, 0"),
    ],
)
def test_how_far_a_source_may_move(change: dict[str, Any], words: str) -> None:
    how = moved({**ROW, **change}, {"place": place_of(ROW)}, 0.1)
    assert words in how
    assert bool(how) == bool(words)


def test_older_records_have_no_position_but_that_of_their_file() -> None:
    for name, is_moved in (("ZTF_photometry_RA010.h5", False), ("ZTF_photometry_RA009.h5", False), ("", False)):
        assert bool(moved(ROW, {"filename": name}, 0.1)) == is_moved
    assert "right ascension 6, now 10.0" in moved(ROW, {"filename": "ZTF_photometry_RA006.h5"}, 0.1)
    assert moved({"ra": 10.0, "dec": 60.0}, {"place": [10.0, 60.0, 99.0, 0.0]}, 0.1) == ""
    assert moved({**ROW, "pmra": 99.0}, {"place": [10.0, 60.0, None, None]}, 0.1) == ""
    assert [tolerance_arcsec(radius) for radius in (None, 0.5, 2.0, 360.0)] == [0.1, 0.1, 0.2, 1.0]


sphere = st.tuples(st.floats(0, 360), st.floats(-90, 90))


@given(sphere, sphere)
def test_distances_are_those_of_astropy(one: tuple[float, float], other: tuple[float, float]) -> None:
    from astropy.coordinates import angular_separation

    expected = np.degrees(angular_separation(*np.radians([*one, *other]))) * 3600
    assert apart_arcsec(*one, *other) == pytest.approx(expected, abs=1e-3, rel=1e-6)


class VirtualTable(VirtualObservatory):
    """Has an outburst of each source, and counts what it is asked for."""

    name = "TABLE"
    asked: list[tuple[str, float]] = []  # noqa: RUF012 - of all of them
    fails = False

    def fetch_data_from_observatory(self, cat_row: Any, **_: Any) -> Any:
        self.asked.append((str(cat_row["name"]), float(cat_row["ra"])))
        if VirtualTable.fails:
            raise OSError("no answer")
        mjd = np.arange(60000.0, 60060.0)
        mag = np.where(abs(mjd - 60030) < 5, 12.0, 14.0) + np.sin(mjd) * 0.02
        return {"mjd": mjd, "mag": mag, "magerr": np.full(60, 0.03), "filter": np.full(60, "V")}, {"exptime": 30.0}


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch: pytest.MonkeyPatch, survey_root: Path) -> None:
    monkeypatch.setattr(VirtualTable, "asked", [])
    monkeypatch.setattr(VirtualTable, "fails", False)


def project(ra: list[float], dec: list[float], name: str = "tables", **columns: list[float]) -> Project:
    catalog = Table({"name": list("ABCD"[: len(ra)]), "ra_deg": ra, "dec_deg": dec, **columns})
    return Project(
        name,
        cfg_file=None,
        catalog=catalog,
        obs_names=[f"{__name__}.VirtualTable"],
        analysis_kwargs={"num_injections": 0},
    )


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.h5"))


@pytest.mark.parametrize("stages", [("fetch", "reduce", "analyze"), ("fetch",)])
def test_a_corrected_position_is_fetched_again(
    survey_store: Store, survey_root: Path, caplog: pytest.LogCaptureFixture, stages: tuple[str, ...]
) -> None:
    """Hours by mistake, then degrees; also where the first run stopped before the analysis."""
    project([6.75, 7.25, 200.0], [20, -20, 5]).run(stages=stages)
    right = project([101.25, 108.75, 200.0], [20, -20, 5 + 0.05 / 3600])
    assert sorted(right.moved()) == ["A", "B"]
    VirtualTable.asked.clear()
    caplog.clear()
    run = right.run()
    assert VirtualTable.asked == [("A", 101.25), ("B", 108.75)]
    assert (run.fetched, run.failures, right.failures()) == (2, [], [])
    assert run.analysed == (2 if "analyze" in stages else 3)
    text = "A: TABLE was fetched for the position 6.75000 +20.00000, now 101.25000 +20.00000, 87.27 deg apart"
    assert text in caplog.text
    assert "another project" not in caplog.text
    zones = (101, 108, 200)
    expected = [f"TABLE/TABLE_photometry_RA{zone}.h5" for zone in zones]
    assert files(survey_root) == [*expected, *(f"TABLES/TABLE_photometry_RA{zone}_reduced.h5" for zone in zones)]
    assert [found["ra_deg"] for found in survey_store.surveys.find("sources", {})] == [101.25, 108.75, 200.0]
    assert right.moved() == {}
    assert survey_store.surveys.progress("TABLES")["analysed"] == 3
    assert len(right.histogram.sources) == 3
    again = right.run()
    assert (again.fetched, again.analysed) == (0, 0)


def test_a_proper_motion_that_is_corrected_counts_too(survey_store: Store, survey_root: Path) -> None:
    given = {"pmra": [0.0, 0.0], "pmdec": [0.0, 0.0]}
    project([10.0, 20.0], [1, 2], **given).run()
    changed = project([10.0, 20.0], [1, 2], **{**given, "pmra": [500.0, 1.0]})
    assert list(changed.moved()) == ["A"]
    assert changed.run().fetched == 1
    assert changed.run().fetched == 0
    changed.observatories[0].populate_sources()  # files do not tell proper motions
    assert changed.moved() == {}


def test_a_source_that_cannot_be_fetched_again_has_no_results_of_the_old_position(
    survey_store: Store, survey_root: Path
) -> None:
    project([6.75], [20]).run()
    right = project([101.25], [20])
    VirtualTable.fails = True
    run = right.run()
    assert [name for name, _ in run.failures] == ["A"]
    assert [(found["source"], found["stage"]) for found in right.failures()] == [("A", "fetch TABLE")]
    assert files(survey_root) == []
    assert survey_store.surveys.count("lightcurves", {}) == 0
    VirtualTable.fails = False
    assert right.run(retry_failed=True).analysed == 1
    assert right.failures() == []


def test_stages_without_a_download_refuse_photometry_of_another_position(survey_store: Store) -> None:
    project([6.75, 200.0], [20, 5]).run()
    right = project([101.25, 200.0], [20, 5])
    run = right.run(stages=("reduce", "analyze"))
    [(name, reason)] = run.failures
    assert name == "A"
    assert "TABLE was fetched for the position 6.75000 +20.00000, now 101.25000" in reason
    assert [found["source"] for found in right.failures()] == ["A"]
    assert right.run().fetched == 1
    assert right.failures() == []


def test_another_project_that_has_the_name_elsewhere_is_named_and_listed(survey_store: Store) -> None:
    project([10.0], [5]).run()
    other = project([200.0], [5], "others")
    for _ in range(2):
        [(name, reason)] = other.run().failures
        assert (name, [found["source"] for found in other.failures()]) == ("A", ["A"])
        assert "another project, tables, has a source of this name at 10.0000 +5.0000" in reason


def test_records_without_a_position_are_judged_by_file_and_source(survey_store: Store, survey_root: Path) -> None:
    """As they were written before positions were stored."""
    project([6.75, 200.0, 201.0], [20, 5, 6]).run()
    for raw in survey_store.surveys.find("raw_photometry", {}):
        survey_store.surveys.save("raw_photometry", [{key: value for key, value in raw.items() if key != "place"}])
    survey_store.surveys.note_run("TABLES", {"cat_hash": None})
    right = project([101.25, 200.5, 201.0], [20, 5, 6])
    assert list(right.moved()) == ["A"]
    assert right.run().fetched == 2
    assert files(survey_root)[0] == "TABLE/TABLE_photometry_RA101.h5"


def test_commands_tell_what_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], survey_store: Store
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.yaml").write_text(
        f"project: {{name: tables, obs_names: [{__name__}.VirtualTable]}}\ncatalog: {{filename: c.csv}}\n"
        "analysis: {num_injections: 0}\n"
    )
    Path("c.csv").write_text("name,ra_deg,dec\nA,6.75,20\n")
    assert main(["run", "p.yaml"]) == 0
    Path("c.csv").write_text("name,ra_deg,dec\nA,101.25,20\n")
    for expected in ("moved in the catalogue, to be fetched again: 1", None):
        capsys.readouterr()
        main(["status", "p.yaml"])
        assert ("moved" in capsys.readouterr().out) == (expected is not None)
        assert main(["run", "p.yaml"]) == 0
    assert main(["failures", "p.yaml"]) == 0


def test_a_catalogue_in_memory_is_kept_for_later(survey_store: Store, survey_root: Path) -> None:
    proj = project([10.0, 200.0], [5, -5])
    proj.run()
    [config] = (survey_root / "TABLES").glob("00_config_*.yaml")
    kept = load_project(str(config))
    assert kept.catalog.cat_hash == proj.catalog.cat_hash
    assert kept.cfg_hash == proj.cfg_hash
    assert kept.run().fetched == 0
    given = Catalog(default="test", test_size=3)
    assert Project("x", cfg_file=None, obs_names=["DEMO"], catalog=given).catalog is given
    assert len(Project("x", cfg_file=None, obs_names=["DEMO"], catalog={"test_size": 4}).catalog) == 4

"""Projects from end to end, on a real database: complete, resumable, versioned, together with others."""

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from obsarchive.cli.main import surveys as main
from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.store import Store
from surveys import runner
from surveys.analysis import Analysis
from surveys.dataset import Lightcurve, RawPhotometry
from surveys.demo import VirtualDemoObs
from surveys.formats.hdf5_light_curves import PhotometryFile
from surveys.parameters import UnknownParameter
from surveys.project import Project, load_project
from surveys.properties import Properties
from surveys.source import Source
from tests.surveys.survey_contents import KINDS, everything

pytestmark = pytest.mark.usefixtures("survey_store", "survey_root")


def project(name: str = "test project", n: int = 40, **more: Any) -> Project:
    given = {"obs_names": ["DEMO"], "catalog_kwargs": {"test_size": n}, "DEMO": {"event_fraction": 0.2}}
    return Project(name=name, cfg_file=None, **{**given, **more})


class FailingAnalysis(Analysis):
    """Fails for the sources whose names end with a digit."""

    digit = "3"

    def analyze_photometry(self, source: Source) -> None:
        if source.name.endswith(self.digit):
            raise RuntimeError("cannot be analysed")
        super().analyze_photometry(source)


def test_a_run_backfills_everything_and_a_second_one_nothing(survey_store: Store, survey_root: Path) -> None:
    proj = project()
    run = proj.run()
    surveys = survey_store.surveys
    assert (run.fetched, run.analysed, run.failures) == (40, 40, [])
    assert surveys.progress(proj.output_folder)["analysed"] == 40
    assert surveys.run("TEST_PROJECT")["state"] == "done"
    before = everything(survey_store, survey_root)
    again = project().run()
    assert (again.fetched, again.analysed) == (0, 0)
    assert everything(survey_store, survey_root) == before


def test_products_lie_where_the_readme_says(survey_root: Path) -> None:
    proj = project()
    proj.run()
    source = proj.get_source(proj.catalog.names[0])
    degree = f"RA{int(source.ra):03d}"
    raw = source.raw_photometry["demo"]
    assert raw.get_fullname() == survey_root / "DEMO" / f"DEMO_photometry_{degree}.h5"
    assert raw.filekey == source.name
    curve = source.lightcurves[0]
    assert curve.get_fullname() == survey_root / "TEST_PROJECT" / f"DEMO_photometry_{degree}_reduced.h5"
    assert curve.filekey == f"{source.name}_reduction_01_of_01"
    assert len(curve.data) == len(raw.data) == 100
    assert source.get_data("demo", level="reduced")[0].filekey == curve.filekey
    assert source.properties.has_data


def test_events_are_found_where_the_demonstration_put_them() -> None:
    proj = project(n=150)
    proj.run()
    found, hidden = 0, 0
    for source in proj.sources:
        truth = source.raw_photometry[0].columns and source.raw_photometry[0].altdata["truth"]
        detections = source.detections
        if truth:
            hidden += 1
            found += any(abs(one.mjd_peak - truth["mjd"]) < 10 and one.snr > 5 for one in detections)
        else:
            assert detections == []
    assert hidden > 15
    assert found == hidden


def test_every_source_is_counted_once_in_the_histogram(survey_store: Store) -> None:
    proj = project()
    proj.run(finish=10)
    proj.run()
    histogram = proj.histogram
    assert len(histogram.sources) == 40
    assert int(histogram.data["snr_counts"].sum()) == 4000
    whole = histogram
    proj.histogram_path.unlink()
    proj.run()  # what is missing is counted again
    assert proj.histogram == whole
    name = proj.catalog.names[0]
    raw = survey_store.surveys.find("raw_photometry", {"source_name": name})
    survey_store.surveys.save_raw([{**next(raw), "checksum": "another"}])
    assert proj.run().analysed == 1  # stale, so made again
    assert proj.histogram == whole
    fainter = RawPhotometry.from_document(next(survey_store.surveys.find("raw_photometry", {"source_name": name})))
    fainter.data["mag"] += np.linspace(0, 1, 100)
    fainter.save()
    survey_store.surveys.save_raw([fainter.document()])
    assert proj.run().analysed == 1
    # what the source was counted with before is not in it any more
    assert int(proj.histogram.data["snr_counts"].sum()) == 4000
    assert proj.histogram != whole
    changed = project(analysis_kwargs={"finder_kwargs": {"baseline": 0.0}})
    changed.run()
    assert int(changed.histogram.data["snr_counts"].sum()) == 4000
    assert changed.histogram != proj.histogram


def test_a_source_that_cannot_be_analysed_is_listed_and_stops_no_other(survey_store: Store) -> None:
    proj = project(analysis_module=__name__, analysis_class="FailingAnalysis")
    failing = [name for name in proj.catalog.names if name.endswith("3")]
    run = proj.run()
    assert failing
    assert run.analysed == 40
    assert sorted(name for name, _ in run.failures) == sorted(failing)
    listed = proj.failures()
    assert {one["source"] for one in listed} == set(failing)
    assert listed[0]["reason"] == "RuntimeError: cannot be analysed"
    assert proj.run().analysed == 0
    assert proj.run(retry_failed=True).analysed == len(failing)


def test_a_damaged_raw_file_fails_its_sources_with_a_reason(survey_store: Store, survey_root: Path) -> None:
    proj = project()
    proj.run(stages=["fetch"])
    path = sorted((survey_root / "DEMO").glob("*.h5"))[0]
    names = PhotometryFile(path).keys()
    document = next(survey_store.surveys.find("raw_photometry", {"source_name": names[0]}))
    path.write_bytes(b"\x89HDF\r\n\x1a\nnothing")
    reduced = proj.run(stages=["reduce"])
    assert sorted(name for name, _ in reduced.failures) == names
    run = proj.run(stages=["analyze"])
    assert document["filename"] == path.name
    assert sorted(name for name, _ in run.failures) == names
    assert all("readable" in reason for _, reason in run.failures)


def test_a_damaged_raw_file_is_set_aside_and_its_sources_are_fetched_again(
    survey_store: Store, survey_root: Path
) -> None:
    proj = project()
    proj.run()
    path = sorted((survey_root / "DEMO").glob("*.h5"))[0]
    names = PhotometryFile(path).keys()
    wanted = everything(survey_store, survey_root)
    path.write_bytes(b"\x89HDF\r\n\x1a\nnothing")
    for name in names:
        proj.get_source(name).reset_analysis()
    assert proj.run().fetched == len(names)
    assert everything(survey_store, survey_root) == wanted
    assert len(list(path.parent.glob(f"{path.name}.damaged_*"))) == 1


def test_empty_sources_are_analysed_too(survey_store: Store) -> None:
    proj = project(obs_kwargs={"empty_fraction": 1.0})
    assert proj.run().analysed == 40
    assert proj.run().analysed == 0
    properties = list(survey_store.surveys.find("properties", {}))
    assert not any(found["has_data"] for found in properties)


def test_stages_one_after_the_other_make_the_same(survey_store: Store, survey_root: Path) -> None:
    proj = project()
    assert proj.run(stages=["fetch"]).fetched == 40
    assert survey_store.surveys.count("lightcurves", {}) == 0
    proj.run(stages=["reduce"])
    assert survey_store.surveys.count("lightcurves", {}) == 40
    assert proj.run(stages=["reduce", "analyze"]).analysed == 40
    staged = everything(survey_store, survey_root)
    proj.delete_everything()
    assert survey_store.surveys.count("sources", {}) == 0
    assert list(survey_root.rglob("*.h5")) == []
    proj.run()
    assert everything(survey_store, survey_root) == staged


def test_workers_of_dask_make_the_same(survey_store: Store, survey_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LEAST_FOR_WORKERS", 0)
    proj = project()
    proj.run()
    alone = everything(survey_store, survey_root)
    proj.delete_everything()
    together = project(num_workers=2)
    assert together.cfg_hash == proj.cfg_hash
    assert together.run().analysed == 40
    assert everything(survey_store, survey_root) == alone


def test_a_source_may_be_analysed_again() -> None:
    proj = project(n=5)
    proj.run()
    source = proj.get_source(proj.catalog.names[2])
    assert source.properties is not None
    source.reset_analysis()
    assert source.properties is None
    assert proj.run().analysed == 1


def test_progress_is_told_while_a_batch_goes_on(monkeypatch: pytest.MonkeyPatch, survey_store: Store) -> None:
    monkeypatch.setattr(runner, "NOTE_S", 0.0)
    told: list[float] = []
    note = survey_store.surveys.note_run

    def listen(run: str, facts: dict[str, Any]) -> None:
        told.extend([facts["progress"]] if "text" in facts else [])
        note(run, facts)

    monkeypatch.setattr(survey_store.surveys, "note_run", listen)
    project().run()
    assert len(set(told)) > 40
    assert told == sorted(told)
    assert (told[0] < 0.1, told[-1]) == (True, 1.0)
    assert survey_store.surveys.run("TEST_PROJECT")["text"] == ""


def test_only_some_sources() -> None:
    proj = project()
    names = proj.catalog.names
    assert proj.run(source_names=names[3:5]).analysed == 2
    assert proj.run(source_ids=[4, 5, 6]).analysed == 2
    assert proj.run(10, 20).analysed == 10
    with pytest.raises(ConfigError, match="no source 'X'"):
        proj.run(source_names=["X"])


def test_a_lost_database_is_rebuilt_from_the_files(survey_store: Store, survey_root: Path) -> None:
    proj = project()
    proj.run()
    before = everything(survey_store, survey_root)
    for kind in KINDS:
        survey_store.surveys._of[kind].delete_many({})
    assert proj.rebuild() == 40
    run = proj.run()
    assert (run.fetched, run.analysed) == (0, 40)
    after = everything(survey_store, survey_root)
    assert {key: before[key] for key in before if not key.startswith("raw_")} == {
        key: after[key] for key in after if not key.startswith("raw_")
    }


# versions


def test_a_changed_parameter_makes_results_again_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    project().run()
    changed = project(analysis_kwargs={"snr_threshold": 8.5})
    with caplog.at_level(logging.WARNING):
        assert changed.run().analysed == 40
    assert "analysed with another configuration" in caplog.text
    assert changed.run().analysed == 0


def test_version_control_keeps_the_results_of_each_configuration(survey_store: Store, survey_root: Path) -> None:
    first = project(version_control=True)
    first.run()
    second = project(vc=True, analysis_kwargs={"num_injections": 2})
    second.run()
    assert first.output_folder == f"TEST_PROJECT_{first.cfg_hash}"
    assert first.output_folder != second.output_folder
    for one in (first, second):
        folder = survey_root / one.output_folder
        config = yaml.safe_load((folder / f"00_config_{one.cfg_hash}.yaml").read_text())
        assert config["analysis"]["num_injections"] == one.analysis.pars.num_injections
        assert survey_store.surveys.progress(one.output_folder)["analysed"] == 40
    assert project(version_control=True).cfg_hash == first.cfg_hash
    assert first.run().analysed == 0


def test_the_hash_depends_on_the_meaning_alone() -> None:
    reference = project(obs_names=["ZTF", "DEMO"]).cfg_hash
    assert project(obs_names=["DEMO", "ZTF"], verbose=3, num_workers=2, batch_size=7).cfg_hash == reference
    assert (
        project(obs_names=["ZTF", "DEMO"], analysis_kwargs={"finder_kwargs": {"snr_threshold": 5}}).cfg_hash
        == reference
    )
    for other in (
        project(obs_names=["DEMO"]),
        project(obs_names=["ZTF", "DEMO"], analysis_kwargs={"finder_kwargs": {"snr_threshold": 6}}),
        project(obs_names=["ZTF", "DEMO"], obs_kwargs={"reducer": {"gap": 50}}),
        project(obs_names=["ZTF", "DEMO"], analysis_module=__name__, analysis_class="FailingAnalysis"),
    ):
        assert other.cfg_hash != reference


class VirtualOwn(VirtualDemoObs):
    """An observatory of one's own."""

    name = "OWN"


def test_a_configuration_that_was_written_makes_the_same_project(survey_root: Path, tmp_path: Path) -> None:
    proj = project(ZTF={"reducer": {"radius": 3.5}}, obs_names=["ZTF", "DEMO", f"{__name__}.VirtualOwn"])
    proj.begin()
    written = next((survey_root / "TEST_PROJECT").glob("00_config_*.yaml"))
    again = load_project(str(written))
    assert again.cfg_hash == proj.cfg_hash
    assert again.observatories["ZTF"].pars.reducer == {"radius": 3.5}
    assert type(again.observatories["OWN"]).__name__ == "VirtualOwn"


def test_no_secret_is_written_anywhere(
    survey_store: Store, survey_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = {"username": "guy", "password": "12345xyz"}
    with caplog.at_level(logging.DEBUG):
        proj = project(
            obs_names=["DEMO", "ZTF"],
            DEMO={"credentials": credentials},
            obs_kwargs={"ZTF": {"credentials": credentials}},
        )
        proj.observatories["ZTF"].pars.max_mag = -99.0  # nothing is asked for
        proj.run()
    assert proj.observatories["ZTF"].secret("password") == "12345xyz"
    for path in survey_root.rglob("*"):
        assert not path.is_file() or b"12345xyz" not in path.read_bytes()
    assert "12345xyz" not in repr(everything(survey_store, survey_root)) + caplog.text
    assert "12345xyz" not in repr(survey_store.surveys.run("TEST_PROJECT")) + repr(proj.pars) + proj.pars.describe()


# names and configuration


def test_two_projects_that_would_share_a_folder_do_not() -> None:
    project("a-b", n=1).begin()
    with pytest.raises(ConfigError, match="belongs to the project 'a-b'"):
        project("a_b", n=1).run()


def test_a_name_of_two_places_is_refused(survey_store: Store) -> None:
    proj = project(n=3)
    proj.run()
    name = proj.catalog.names[1]
    survey_store.surveys._of["sources"].update_one({"_id": name}, {"$set": {"ra_deg": 1.0, "dec_deg": 2.0}})
    other = project("other", n=3)
    run = other.run()
    assert run.analysed == 2
    assert run.failures[0][0] == name
    assert "another name" in run.failures[0][1]


def test_raw_photometry_is_shared_and_results_are_not(survey_store: Store) -> None:
    project().run()
    other = project("another project", analysis_kwargs={"num_injections": 0})
    run = other.run()
    assert (run.fetched, run.analysed) == (0, 40)
    source = next(survey_store.surveys.find("sources", {}))
    assert sorted(source["projects"]) == ["ANOTHER_PROJECT", "TEST_PROJECT"]
    other.delete_everything()
    assert survey_store.surveys.count("raw_photometry", {}) == 40
    assert project().run().analysed == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"obs_names": []}, "at least one observatory"),
        ({"obs_names": ["DEMOO"], "DEMO": {"obs_class": None}}, "no parameter 'DEMO'"),
        ({"obs_names": ["DEMO", "ZFT"]}, "no observatory ZFT: DEMO, ZTF, TESS"),
        ({"catalogue_kwargs": {}}, "did you mean 'catalog_kwargs'"),
        ({"analysis_kwargs": {"num_injection": 1}}, "did you mean 'num_injections'"),
        ({"obs_kwargs": {"num_epoch": 1}}, "did you mean 'num_epochs'"),
        ({"analysis_module": "no.such.module"}, "no.such.module"),
        ({"analysis_module": "no_such_module"}, "No module named 'no_such_module', neither in this folder nor on"),
        ({"analysis_module": "surveys.finder", "analysis_class": "Finder"}, "no Analysis"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        project(**given)
    assert issubclass(UnknownParameter, AttributeError)


def test_a_module_of_the_user_that_fails_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "failing_finder.py").write_text("import surveys\nimport absent_package\n")
    with pytest.raises(ConfigError, match=r"No module named 'absent_package' \(.*failing_finder\.py, line 2\)"):
        project(analysis_kwargs={"finder_module": "failing_finder"})


def test_a_file_configures_everything_and_arguments_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    text = """
project: {description: from the file, obs_names: [demo]}
catalog: {test_size: 7}
observatories:
  reducer: {gap: 33}
  DEMO: {num_epochs: 50, reducer: {gap: 44}}
analysis: {num_injections: 0}
finder: {snr_threshold: 9.5}
simulator: {seed: 4}
"""
    (tmp_path / "configs" / "My_Project.yaml").write_text(text)
    proj = Project("my_project", analysis_kwargs={"simulator_kwargs": {"seed": 5}}, catalog_kwargs={"test_size": 8})
    assert proj.pars.description == "from the file"
    assert len(proj.catalog) == 8
    assert proj.observatories[0].pars.num_epochs == 50
    assert proj.observatories["demo"].pars.reducer == {"gap": 44}
    assert proj.analysis.finder.pars.snr_threshold == 9.5
    assert proj.analysis.simulator.pars.seed == 5
    alone = Project("my_project", cfg_file=None, obs_names=["DEMO"])
    assert (len(alone.catalog), alone.analysis.finder.pars.snr_threshold) == (10, 5.0)
    fresh = Project("my_project")
    assert (len(fresh.catalog), fresh.analysis.simulator.pars.seed) == (7, 4)  # nothing leaked
    with pytest.raises(ConfigError, match="obs_names"):
        Project("my_project", cfg_file=None)


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text("project: {name: from file, obs_names: [DEMO]}\ncatalog: {test_size: 12}\n")
    data = ["--data", str(tmp_path / "data")]
    assert main(["run", "p.yaml", *data]) == 0
    assert "12 fetched, 12 analysed" in capsys.readouterr().out
    assert main(["run", "p.yaml", "--finish", "5", *data]) == 0
    assert main(["status", "p.yaml", *data]) == 0
    assert "analysed: 12" in capsys.readouterr().out
    assert main(["failures", "p.yaml", *data]) == 0
    assert main(["rebuild", "p.yaml", *data]) == 0
    assert main(["efficiency", "p.yaml", "--output", "e.png", *data]) == 0
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")
    assert main(["describe", "p.yaml", *data]) == 0
    assert "snr_threshold" in capsys.readouterr().out
    assert main(["run", "nothing.yaml", *data]) == 2
    assert "nothing.yaml: no such file" in capsys.readouterr().err
    (tmp_path / "q.yaml").write_text("project: {name: q, obs_names: [DEMO]}\ncatalogue: {test_size: 12}\n")
    assert main(["run", "q.yaml", *data]) == 2
    assert "did you mean 'catalog'" in capsys.readouterr().err


def test_what_the_readme_does_with_objects(survey_store: Store, survey_root: Path) -> None:
    from surveys import dataset
    from surveys.database import Session

    assert survey_root == dataset.DATA_ROOT
    proj = project(n=5)
    proj.observatories["DEMO"].fetch_all_sources(0, 5, save=True)
    obs = proj.observatories[0]
    name = proj.catalog.names[2]
    proj.run(stages=["fetch"])
    with Session() as session:
        source = session.first(Source, name=name)
        assert source is not None
        for curve in obs.reduce(source.raw_photometry[0], data_type="photometry"):
            curve.save()
            session.add(curve)
        session.commit()
        kept = session.all(Lightcurve, source_name=name)
        assert np.array_equal(kept[0].data["mag"], kept[0].columns["mag"])
        raw = session.first(RawPhotometry, source_name=name)
        raw.delete_data_from_disk()
        session.delete(raw)
        session.commit()
        assert session.first(RawPhotometry, source_name=name) is None
    assert obs.fetch_all_sources(0, 5) == 1
    assert session.first(Properties, source_name=name) is None


def test_the_example_of_an_analysis_of_ones_own(monkeypatch: pytest.MonkeyPatch, survey_store: Store) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "docs" / "examples")
    monkeypatch.delitem(sys.modules, "my_analysis", raising=False)
    proj = project(
        n=3,
        analysis_kwargs={"deepest": 2.0, "num_injections": 0, "shortest": 1.0, "longest": 4.0},
        analysis_module="my_analysis",
        analysis_class="EclipseAnalysis",
        DEMO={"num_epochs": 200, "event_fraction": 0.0},
    )
    assert proj.analysis.pars.deepest == 2.0
    proj.run(stages=["fetch"])
    # one of the three gets eclipses
    name = proj.catalog.names[0]
    raw = proj.get_source(name).raw_photometry[0]
    data = raw.data
    eclipsed = np.abs((data["mjd"] / 1.7 + 0.5) % 1 - 0.5) < 0.04
    data["mag"] += np.where(eclipsed, 0.6, 0.0)
    raw.save()
    survey_store.surveys.save_raw([raw.document()])
    proj.run()
    found = {source.name: source.properties.extra.get("eclipses") for source in proj.sources}
    assert found[name]["period_d"] == pytest.approx(1.7, rel=1e-3)
    assert found[name]["depth_mag"] == pytest.approx(0.6, abs=0.1)
    assert [found[other] for other in proj.catalog.names[1:]] == [None, None]


def test_a_full_disk_leaves_what_was_and_tells(monkeypatch: pytest.MonkeyPatch, survey_store: Store) -> None:
    proj = project()
    proj.run(finish=5)

    def full(*_: Any) -> None:
        raise ArchiveError("no space left for it")

    with monkeypatch.context() as patch:
        patch.setattr(PhotometryFile, "write", full)
        with pytest.raises(ArchiveError, match="no space left"):
            proj.run()
    assert survey_store.surveys.run("TEST_PROJECT")["state"] == "failed"
    assert "no space left" in survey_store.surveys.run("TEST_PROJECT")["reason"]
    assert proj.run().analysed == 35


def test_a_wrong_folder_is_noticed_and_mended(
    survey_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["--data", str(tmp_path / "data")]
    text = "project: {name: p, obs_names: [DEMO]}\ncatalog: {test_size: 6}\nobservatories:\n  DEMO: "
    (tmp_path / "p.yaml").write_text(text + "{empty_fraction: 1.0}\n")
    assert main(["run", "p.yaml", *data]) == 0
    assert "6 fetched (of which 6 empty), 6 analysed" in capsys.readouterr().out
    assert "DEMO: all 6 sources that were fetched are empty" in caplog.text
    assert main(["status", "p.yaml", *data]) == 0
    assert "  empty: 6\n" in (shown := capsys.readouterr().out)
    assert "  DEMO good: 0\n  DEMO empty: 6\n" in shown
    (tmp_path / "p.yaml").write_text(text + "{empty_fraction: 0.0}\n")
    assert main(["run", "p.yaml", *data]) == 0
    assert "0 fetched, 6 analysed" in capsys.readouterr().out
    assert main(["run", "p.yaml", "--again", *data]) == 0
    assert "6 fetched, 6 analysed" in capsys.readouterr().out
    assert main(["run", "p.yaml", "--again", *data]) == 0
    assert "0 fetched, 0 analysed" in capsys.readouterr().out
    assert main(["fetch", "p.yaml", "--again", "0", *data]) == 0
    assert "6 fetched, 0 analysed" in capsys.readouterr().out


def test_the_example_of_an_observatory_of_ones_own_notices_a_missing_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "docs" / "examples")
    proj = Project("p", cfg_file=None, obs_names=["my_observatory.VirtualFolder"], FOLDER={"photometry": "/no/such"})
    with pytest.raises(ConfigError, match=r"no folder /no/such: correct 'photometry' of the observatory FOLDER"):
        proj.observatories[0].download(proj.catalog.get_row(0))


def test_messages_name_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survey_root: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(
        "project: {name: my name, obs_names: [DEMO]}\nobservatories:\n  HAWKEYE: {num_epochs: 3}\n"
    )
    with pytest.raises(ConfigError, match="no observatory HAWKEYE; this project has DEMO"):
        Project(cfg_file="p.yaml")
    (tmp_path / "p.yaml").write_text("project: {name: my name, obs_names: [DEMO]}\n")
    assert Project(cfg_file="p.yaml").folder_name == "MY_NAME"
    with pytest.raises(ConfigError, match="needs a name"):
        Project(obs_names=["DEMO"])
    with pytest.raises(ConfigError, match="did you mean 'VirtualDemoObs'"):
        Project("p", cfg_file=None, obs_names=["surveys.demo.VirtualDemoObz"])
    catalog = Project("p", cfg_file=None, obs_names=["DEMO"], catalog_kwargs={"filename": "s.csv"}).catalog
    with pytest.raises(ConfigError) as raised:
        catalog.load()
    for place in (tmp_path / "s.csv", tmp_path / "catalogs" / "s.csv", survey_root / "catalogs" / "s.csv"):
        assert str(place) in str(raised.value)

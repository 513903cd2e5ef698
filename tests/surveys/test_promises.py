"""What the documentation of AstroRetriever and virtualobserver promises."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from obsarchive.core import processes
from obsarchive.core.processes import has_ended, this_process
from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.science.light_curves.light_curve import magnitudes_of_fluxes
from obsarchive.store import Store
from surveys import runner
from surveys.analysis import Analysis, in_memory
from surveys.database import Session
from surveys.dataset import Lightcurve, RawPhotometry
from surveys.demo import VirtualDemoObs
from surveys.detection import Detection, DetectionInTime, DetectionMixin
from surveys.event_groups import one_per_event
from surveys.finder import Finder, ParsFinder
from surveys.formats.hdf5_light_curves import PhotometryFile
from surveys.histograms import Histogram, Histograms
from surveys.observatory import VirtualObservatory
from surveys.observatory.tess import VirtualTESS
from surveys.observatory.ztf import VirtualZTF
from surveys.project import ParsProject, Project
from surveys.properties import Properties
from surveys.quality import QualityChecker
from surveys.source import Source

stored = pytest.mark.usefixtures("survey_store", "survey_root")


def project(n: int = 30, **more: Any) -> Project:
    given = {"obs_names": ["DEMO"], "catalog_kwargs": {"test_size": n}, "DEMO": {"event_fraction": 0.2}}
    return Project(name="promises", cfg_file=None, **{**given, **more})


# what is gone from disk


def contents(path: Path) -> dict[str, dict[str, np.ndarray]]:
    file = PhotometryFile(path)
    return {key: file.read(key).columns for key in list(file.keys())}


@stored
@pytest.mark.parametrize("which", ["raw", "reduced", "a raw key", "a reduced key", "both", "damaged"])
def test_what_is_gone_from_disk_is_made_again_also_of_analysed_sources(survey_root: Path, which: str) -> None:
    proj = project()
    proj.run()
    # the file of most sources
    raw = max((survey_root / "DEMO").glob("*.h5"), key=lambda path: len(PhotometryFile(path).keys()))
    reduced = survey_root / "PROMISES" / f"{raw.stem}_reduced.h5"
    names = PhotometryFile(raw).keys()
    before = {path: contents(path) for path in (raw, reduced)}
    for path in {"raw": [raw], "reduced": [reduced], "both": [raw, reduced]}.get(which, []):
        path.unlink()
    if which == "a raw key":
        PhotometryFile(raw).remove(names[:1])
    if which == "a reduced key":
        PhotometryFile(reduced).remove([f"{names[0]}_reduction_01_of_01"])
    if which == "damaged":
        reduced.write_bytes(b"nothing")
    n_gone = 1 if "key" in which else len(names)
    run = project().run()
    assert (run.fetched, run.analysed) == (n_gone if which in ("raw", "a raw key", "both") else 0, n_gone)
    for path, records in before.items():
        again = contents(path)
        assert again.keys() == records.keys()
        for key, columns in records.items():
            assert all(np.array_equal(values, again[key][name]) for name, values in columns.items())
    assert (project().run().fetched, project().run().analysed) == (0, 0)


@stored
def test_results_stay_if_their_raw_photometry_is_gone_and_may_not_be_fetched(survey_root: Path) -> None:
    proj = project(5)
    proj.run()
    for path in (survey_root / "DEMO").glob("*.h5"):
        path.unlink()
    run = project(5).run(stages=["analyze"])
    assert (run.analysed, run.failures) == (0, [])
    assert proj.failures() == []


@stored
def test_the_database_is_rebuilt_with_the_sources_of_the_catalogue_alone(survey_store: Store) -> None:
    other = Project("other", cfg_file=None, obs_names=["DEMO"], catalog_kwargs={"test_size": 30})
    other.run(stages=["fetch"])
    for kind in ("sources", "raw_photometry"):
        survey_store.surveys._of[kind].delete_many({})
    wanted = project(10)
    wanted.catalog.load()
    mine = [name for name in wanted.catalog.names if name in other.catalog]
    assert wanted.rebuild() == len(mine)
    found = {one["_id"] for one in survey_store.surveys.find("sources", {})}
    assert found == set(mine)
    alone = VirtualDemoObs(cfg_file=None)  # without a catalogue: all that there is
    assert alone.populate_sources() == 30


# stops


@stored
def test_a_stop_loses_few_sources(monkeypatch: pytest.MonkeyPatch, survey_store: Store) -> None:
    n_before, seen = 60, []
    reduce = VirtualDemoObs.reduce_photometry

    def stops(self: VirtualDemoObs, dataset: RawPhotometry, **more: Any) -> list[Lightcurve]:
        seen.append(dataset.source_name)
        if len(seen) > n_before:
            raise KeyboardInterrupt
        return reduce(self, dataset, **more)

    project(100).run(stages=["fetch"])
    with monkeypatch.context() as patch:
        patch.setattr(VirtualDemoObs, "reduce_photometry", stops)
        with pytest.raises(KeyboardInterrupt):
            project(100).run()
    done = survey_store.surveys.count("properties", {})
    assert n_before - 50 <= done <= n_before
    assert survey_store.surveys.run("PROMISES")["state"] == "failed"
    assert project(100).run().analysed == 100 - done


@stored
def test_a_kill_at_any_moment_loses_at_most_fifty_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    n_analysed, n_committed, lost = [0], [0], []
    analyze, commit = Analysis.analyze_source, runner.Run._commit

    def counted(self: Analysis, *arguments: Any) -> Source:
        n_analysed[0] += 1
        lost.append(n_analysed[0] - n_committed[0])
        return analyze(self, *arguments)

    def noted(self: runner.Run, records: list[Any]) -> None:
        commit(self, records)
        n_committed[0] += sum(len(record.results.names) for record in records)

    monkeypatch.setattr(Analysis, "analyze_source", counted)
    monkeypatch.setattr(runner.Run, "_commit", noted)
    # many sources in few zones, and few in many
    with monkeypatch.context() as patch:
        patch.setattr(runner, "zone_of", lambda row: int(row["ra"]) // 180)
        assert project(200).run(finish=130).analysed == 130
    assert project(200).run().analysed == 70
    assert n_analysed == n_committed == [200]
    assert 25 < max(lost) <= 50


def test_tasks_are_small() -> None:
    rows = [{"name": str(i)} for i in range(1000)]
    pieces = runner._pieces(rows)
    assert [row for piece in pieces for row in piece] == rows
    assert max(map(len, pieces)) <= 25
    assert len(runner._pieces(rows * 20)) <= 200


def ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


@stored
def test_a_killed_run_is_not_shown_as_running(survey_store: Store) -> None:
    surveys = survey_store.surveys
    surveys.note_run("P", {"state": "running", "process": this_process(), "programs": []})
    assert surveys.run("P")["state"] == "running"
    surveys.note_run("P", {"process": {**this_process(), "pid": ended_process()}})
    found = surveys.run("P")
    assert found["state"] == "failed"
    assert "ended before the run did: run it again" in found["reason"]
    assert surveys.visible_runs("all") == [found]


def test_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    now = processes.utc_now()
    elsewhere = {"host": "another", "pid": 1, "started": 0.0}
    assert not has_ended(this_process(), None)
    assert has_ended({**this_process(), "started": 1.0}, now)  # its number was used again
    assert not has_ended(elsewhere, now)
    monkeypatch.setattr(processes, "SILENT_S", -1.0)
    assert has_ended(elsewhere, now)
    assert has_ended(None, now)
    assert has_ended(None, None)


# files of a user's own


COLUMNS = {"mjd": 58000.0 + np.arange(30), "mag": np.linspace(18, 18.2, 30), "magerr": np.full(30, 0.02)}


@pytest.mark.parametrize("kind", [VirtualDemoObs, VirtualZTF, VirtualTESS, VirtualObservatory])
@pytest.mark.parametrize("name", ["my_raw_data.h5", "my_raw_data.csv"])
def test_a_file_of_ones_own_is_reduced_without_a_place(
    kind: type[VirtualObservatory], name: str, survey_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(survey_root)
    if name.endswith(".csv"):
        pd.DataFrame(COLUMNS).to_csv(name, index=False)
    else:
        RawPhotometry(COLUMNS, {"filter": "r", "exptime": 30.0}, filename=name, filekey="mine").save()
    data = RawPhotometry(filename=name)
    data.load()
    (curve,) = kind(cfg_file=None).reduce(data, data_type="photometry")
    assert len(curve) == 30
    assert curve.source_name == ("my_raw_data" if name.endswith(".csv") else "mine")
    with pytest.raises(ArchiveError, match=r"need an observatory and a source.*filename="):
        curve.save()


def test_objects_of_ztf_are_kept_without_a_place() -> None:
    more = {"oid": np.repeat([1, 2], 15), "ra": np.full(30, 10.0), "dec": np.full(30, 5.0)}
    raw = RawPhotometry({**COLUMNS, **more}, {"filter": "zr"}, observatory="ZTF")
    assert [curve.altdata["oid"] for curve in VirtualZTF(cfg_file=None).reduce(raw)] == [1, 2]


def test_metadata_are_loaded_when_they_are_needed(survey_root: Path) -> None:
    raw = RawPhotometry(COLUMNS, {"truth": {"a": 1}}, source={"name": "S", "ra": 1.0, "dec": 2.0}, observatory="DEMO")
    raw.save()
    again = RawPhotometry.from_document(raw.document())
    assert "epochs" not in repr(again)  # not loaded to be shown
    assert again.altdata["truth"] == {"a": 1}
    assert len(again) == 30
    raw.delete_data_from_disk()
    assert RawPhotometry.from_document(raw.document()).altdata["name"] == "S"
    assert RawPhotometry(altdata={"x": 1}).altdata == {"x": 1}


# sources


@stored
def test_processed_light_curves_of_a_source() -> None:
    proj = project(3, analysis_kwargs={"save_processed": True})
    proj.run()
    source = proj.get_source(proj.catalog.names[0])
    (curve,) = source.processed_lightcurves
    assert {"snr", "dmag", "qflag"} <= set(curve.columns)
    assert [one.was_processed for one in source.reduced_lightcurves] == [False]
    assert [one.filekey for one in source.get_data("demo", level="processed")] == [curve.filekey]
    assert Source("memory", 1, 2).processed_lightcurves == []


@stored
def test_an_observatory_has_the_last_sources_also_when_nothing_was_fetched() -> None:
    names = project(12).catalog.names
    obs = project(12).observatories[0]
    assert obs.fetch_all_sources(0, 10) == 10
    again = project(12).observatories[0]
    assert again.fetch_all_sources(0, 10) == 0
    for one in (obs, again):
        assert [source.name for source in one.sources] == names[:10]
        assert [raw.source_name for raw in one.datasets] == names[:10]
    assert len(again.raw_data[0].data) == 100
    assert again.fetch_all_sources(5, 12) == 2
    assert sorted(source.name for source in again.sources) == sorted(names)
    assert [source.name for source in again.sources][-7:] == names[5:]


# names


@stored
def test_names_of_the_older_packages() -> None:
    assert Histograms is Histogram
    assert DetectionInTime is Detection
    assert issubclass(Detection, DetectionMixin)
    assert ParsProject.get_default_cfg_key() == "project"
    proj = project(3)
    proj.run()
    with Session() as session:
        source = session.first(Source, name=proj.catalog.names[1])
        assert session.first(Source, id=source.id).name == source.name
        for kind in (RawPhotometry, Lightcurve, Properties):
            found = session.first(kind, source_id=source.id)
            assert found.source_id == source.id == source.name
            assert session.first(kind, id=found.id).id == found.id


class ParsOwn(ParsFinder):
    @classmethod
    def get_default_cfg_key(cls) -> str:
        return "own"


def test_a_section_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("own: {snr_threshold: 7}\n")
    assert ParsOwn(cfg_file=str(tmp_path / "p.yaml")).snr_threshold == 7


class OldAnalysis(Analysis):
    def run_lightcurves(self, source: Source) -> None:
        super().run_lightcurves(source)
        source.properties.extra["old"] = True


class OldFinder(Finder):
    def run_lightcurves(self, source: Source) -> None: ...


class OldChecker(QualityChecker):
    def run_lightcurves(self, source: Source) -> None: ...


def test_an_overridden_run_lightcurves_is_called_or_refused() -> None:
    source = in_memory(Source("S", 1, 2), [light_curve()])
    assert OldAnalysis(num_injections=0).analyze_source(source).properties.extra == {"old": True}
    for part, name in (("finder", "OldFinder"), ("quality", "OldChecker")):
        with pytest.raises(ConfigError, match=rf"{name} has a method run_lightcurves, which is never called: a Finder"):
            Analysis(**{f"{part}_module": __name__, f"{part}_class": name})


# an event counts once


def light_curve(n: int = 200, **facts: Any) -> Lightcurve:
    mjd = 58000.0 + np.arange(n)
    return curve_of(mjd, 100 + 2 * np.random.default_rng(1).normal(size=n), **facts)


def curve_of(mjd: np.ndarray, flux: np.ndarray, **facts: Any) -> Lightcurve:
    error = np.full(len(mjd), 2.0)
    mag, mag_err = magnitudes_of_fluxes(flux, error)
    columns = {"mjd": mjd, "exptime": np.full(len(mjd), 30.0), "flux": flux, "flux_err": error}
    return Lightcurve(
        {**columns, "mag": mag, "mag_err": mag_err}, {"name": "S", "filter": "r", **facts}, observatory="X"
    )


def events(t0: float, einstein_d: float, u0: float) -> list[Detection]:
    """Events that are found of one microlensing event in two filters and three seasons."""
    rng = np.random.default_rng(7)
    curves = []
    for number, name in enumerate("gr"):
        for year in range(3):
            mjd = 58000.0 + 365 * year + np.sort(rng.uniform(0, 220, 160))
            u = np.hypot(u0, (mjd - t0) / einstein_d)
            flux = 100 * (u**2 + 2) / (u * np.sqrt(u**2 + 4)) + 2 * rng.normal(size=160)
            curves.append(curve_of(mjd, flux, filter=name, series_number=3 * number + year + 1))
    source = Analysis(num_injections=0).analyze_source(in_memory(Source("S", 1, 2), curves))
    assert source.properties.n_detections == len(source.detections)
    return source.detections


@pytest.mark.parametrize("einstein_d", [5.0, 20.0, 50.0])
@pytest.mark.parametrize("u0", [0.1, 0.3])
@pytest.mark.parametrize("after", [110.0, 215.0])
def test_an_event_of_several_filters_counts_once(einstein_d: float, u0: float, after: float) -> None:
    (found,) = events(58365 + after, einstein_d, u0)
    assert found.mjd_start < 58365 + after < found.mjd_stop + 10
    assert {one["filter"] for one in found.also_seen} | {found.filter} == {"g", "r"}


def test_an_event_of_two_seasons_counts_once_and_two_events_twice() -> None:
    (found,) = events(58365 + 290, 100.0, 0.1)
    assert found.mjd_start < 58365 + 220
    assert found.mjd_stop > 58365 + 365
    assert {one["series_number"] for one in found.also_seen} | {found.series_number} > {found.series_number}

    def seen(start: float, score: float, **more: Any) -> Detection:
        return Detection("S", "X", score=score, mjd_start=start, mjd_peak=start + 1, mjd_stop=start + 3, **more)

    assert len(one_per_event([seen(0, 9), seen(10, 8), seen(1, -7), seen(2, 7, filter="g")], [])) == 3


@pytest.mark.parametrize("seed", range(10))
def test_the_wings_of_an_event_are_no_events(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mjd = 58000 + np.sort(rng.uniform(0, 400, 1500))
    u = np.hypot(0.2, (mjd - 58200) / 25)
    flux = 100 * (u**2 + 2) / (u * np.sqrt(u**2 + 4)) + 6 * rng.normal(size=1500)
    finder = Finder()
    (found,) = finder.detect(finder.process(QualityChecker().check(curve_of(mjd, flux))))
    assert found.mjd_start < 58200 < found.mjd_stop


def test_flares_that_follow_each_other_are_several_events() -> None:
    rng = np.random.default_rng(3)
    mjd = 58000.0 + np.arange(0, 300, 0.5)
    flux = 100 + 2 * rng.normal(size=600) + sum(40 * np.exp(-0.5 * ((mjd - t) / 2) ** 2) for t in (58050, 58100, 58150))
    finder = Finder()
    found = finder.detect(finder.process(QualityChecker().check(curve_of(mjd, flux))))
    assert sorted(round(one.mjd_peak / 50) * 50 for one in found) == [58050, 58100, 58150]

"""Requests for a redo that a rule excludes, on a real MongoDB."""

import os
import time
from pathlib import Path

import pytest

from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Observation
from obsarchive.core.rules import compile_rule
from obsarchive.daemon.night_context import NightContext
from obsarchive.daemon.observation_edits import ObservationEdits
from obsarchive.daemon.reconcile import UNTOUCHED_S, Reconciler
from obsarchive.daemon.requests import Requests
from obsarchive.daemon.work_queue import WorkQueue
from obsarchive.pipeline import Pipeline
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.store import Store
from tests.sample_pipelines import Other, Toy, ToyCalibration

NIGHT, OBS = "20260314", "3_faint_VIC_Si_o_20260314_010000.000000"


def entry(kind: type[Pipeline], when: str = "True") -> ChainEntry:
    return ChainEntry(kind(), compile_rule(when), {}, {}, when)


CHAIN = [entry(ToyCalibration), entry(Toy), entry(Other, "magnitude < 12")]
EXCLUDED = "other is not for this observation: its rule is magnitude < 12"


@pytest.fixture
def archive(store: Store) -> Store:
    """A night with an observation that is too faint for one of the pipelines, which was run once all the same."""
    steps = {"write": {"state": "done", "products": [{"name": "other.txt", "bytes": 1}]}}
    document = {"_id": OBS, "night": NIGHT, "magnitude": 15.0, "pipelined": {"other": {"steps": steps}}}
    store.observations.insert(document)  # type: ignore[arg-type]
    store.nights.touch(NIGHT)
    return store


def answer(store: Store, layout: Layout, **what: str) -> str:
    store.requests.ask("redo", "grace", what)
    Requests(store, layout, CHAIN).apply()
    assert store.requests.waiting() == []
    return str(store.requests.about("redo", **what)[0]["problem"])


def other(store: Store) -> dict:
    return store.observations.find(OBS)["pipelined"]["other"]


def test_requests_say_why_they_are_rejected(archive: Store, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert answer(archive, layout, subject=OBS, pipeline="other", step="") == EXCLUDED
    assert answer(archive, layout, subject=OBS, pipeline="other", step="write") == EXCLUDED
    assert "no pipeline 'another'" in answer(archive, layout, subject=OBS, pipeline="another", step="")
    assert "calib is a pipeline of nights" in answer(archive, layout, subject=OBS, pipeline="calib", step="")
    assert not other(archive).get("status", {}).get("force_redo")
    assert other(archive)["steps"]["write"]["state"] == "done"


def test_requests_that_the_rule_allows_are_applied(archive: Store, tmp_path: Path) -> None:
    assert answer(archive, Layout(tmp_path), subject=OBS, pipeline="toy", step="") == ""
    assert answer(archive, Layout(tmp_path), subject=NIGHT, pipeline="calib", step="") == ""
    assert archive.observations.find(OBS)["pipelined"]["toy"]["status"]["force_redo"] is True


def test_a_redo_set_in_the_shell_is_dropped_with_a_warning(archive: Store, tmp_path: Path, caplog) -> None:
    archive.observations.request_redo(OBS, "other")
    queue = WorkQueue(archive, CHAIN[1:], CHAIN[:1], 3)
    assert Reconciler(queue, Layout(tmp_path), ObservationEdits(tmp_path)).settle(
        Observation(archive.observations.find(OBS)), NightContext()
    )
    assert other(archive)["status"]["force_redo"] is False
    assert other(archive)["steps"]["write"]["state"] == "done"
    assert "its rule is magnitude < 12" in caplog.text


def test_vanished_products_that_the_rule_excludes_do_not_wait(archive: Store, tmp_path: Path) -> None:
    queue = WorkQueue(archive, CHAIN[1:], CHAIN[:1], 3)
    assert list(Reconciler(queue, Layout(tmp_path), ObservationEdits(tmp_path)).audit()) == [NIGHT]
    assert other(archive)["steps"]["write"]["state"] == "done"


def test_what_failed_is_tried_again_when_products_vanished(archive: Store, tmp_path: Path) -> None:
    """A reader may have failed all its attempts before the loss was noticed."""
    failed = {"state": "failed", "retries": 4, "message": "dark_6.fits: no such file"}
    done = {"state": "done", "products": [{"name": "dark_6.fits", "bytes": 1}]}
    archive.observations.set_fields(OBS, {"pipelined.toy.steps.write": failed, "pipelined.other.steps.write": failed})
    reconciler = Reconciler(WorkQueue(archive, CHAIN[1:], CHAIN[:1], 3), Layout(tmp_path), ObservationEdits(tmp_path))
    states = []
    for darks in ({"state": "done", "products": []}, done):
        archive.nights.set_fields(NIGHT, {"calib.steps.darks": darks})
        list(reconciler.audit())
        toy = Observation(archive.observations.find(OBS)).pipeline("toy").step("write")
        states.append((str(toy.state), toy.retries))
    assert states == [("failed", 4), ("waiting", 0)]
    assert other(archive)["steps"]["write"]["state"] == "failed", "its rule excludes it"


def test_leftovers_of_any_night_are_swept_once_in_a_run(archive: Store, tmp_path: Path) -> None:
    part = tmp_path / NIGHT / "summary" / ".seeing.png.1234.part"
    part.parent.mkdir(parents=True)
    reconciler = Reconciler(WorkQueue(archive, CHAIN[1:], CHAIN[:1], 3), Layout(tmp_path), ObservationEdits(tmp_path))
    for is_first in (True, False):
        part.touch()
        os.utime(part, (100.0, 100.0))
        list(reconciler.audit())
        assert part.exists() is not is_first


def test_later_leftovers_are_swept_while_no_step_runs(archive: Store, tmp_path: Path) -> None:
    part = tmp_path / NIGHT / "summary" / ".seeing.png.1234.part"
    part.parent.mkdir(parents=True)
    reconciler = Reconciler(WorkQueue(archive, CHAIN[1:], CHAIN[:1], 3), Layout(tmp_path), ObservationEdits(tmp_path))
    part.touch()
    list(reconciler.audit((), lambda: True))
    assert part.exists(), "it may still be written"
    os.utime(part, (time.time() - UNTOUCHED_S - 1.0,) * 2)
    list(reconciler.audit((), lambda: False))
    assert part.exists(), "a step runs"
    list(reconciler.audit((), lambda: True))
    assert not part.exists()

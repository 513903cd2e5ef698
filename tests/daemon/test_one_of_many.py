"""What is wrong with one observation costs itself only."""

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from obsarchive.daemon.endings import Delays
from obsarchive.daemon.ingest import Ingest
from obsarchive.daemon.raw_scanner import Scanner
from obsarchive.daemon.scheduler import Scheduler
from obsarchive.daemon.time_series import TimeSeries
from tests.cli.test_check import NIGHT, config  # noqa: F401 - a fixture


def test_an_observation_that_cannot_be_planned_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    advanced = []

    def advance(subject: Any, _: Any) -> bool:
        if subject.id == "bad":
            raise TypeError("'<' not supported between instances of 'str' and 'int'")
        advanced.append(subject.id)
        return True

    subjects = [(SimpleNamespace(id=name), None) for name in ("a", "bad", "b")]
    daemon: Any = SimpleNamespace(
        stopping=SimpleNamespace(is_set=lambda: False), cluster=SimpleNamespace(capacity=9, busy=0)
    )
    daemon._malformed, daemon._advance = set(), advance
    daemon.queue = SimpleNamespace(subjects=lambda _: subjects, record_looks=lambda: None)
    daemon.tasks, daemon._leads = SimpleNamespace(subjects=set, delays=Delays(1.0)), lambda: True
    daemon._guarded = lambda *given: Scheduler._guarded(daemon, *given)
    Scheduler.submit(daemon)
    Scheduler.submit(daemon)
    assert advanced == ["a", "b"] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "bad: its document cannot be understood; the others go on"
    ]


def test_an_observation_that_cannot_be_taken_in_stops_no_other(
    config: Any,  # noqa: F811
    store: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    taken, first = [], []

    def observation(_: Any, __: Any, name: str, *___: Any) -> None:
        first.append(name)
        if name == first[0]:
            raise KeyError("no such thing")
        taken.append(name)

    monkeypatch.setattr(Ingest, "_new_observation", observation)
    with caplog.at_level(logging.WARNING):
        Ingest(config, store).night(next(Scanner(config.paths.raw[0], 0.0).changed({NIGHT})))
    assert len(first) == 2
    assert taken == first[1:]
    assert f"{first[0]}: not entered: 'no such thing'" in caplog.text


def test_a_request_for_a_download_that_is_missing_is_shown_and_stops_no_reduction(
    config: Any,  # noqa: F811
    store: Any,
    tmp_path: Path,
) -> None:
    job = config.intake.model_copy(update={"download": tmp_path / "data_download.yaml"})
    series = TimeSeries(config.model_copy(update={"intake": job}), store, SimpleNamespace(each=None))  # type: ignore[arg-type]
    store.datasets.set_due(tmp_path, "A")
    reduced: list[Path] = []
    reductions: Any = SimpleNamespace(stopping=None, reduce=lambda due, _: reduced.extend(due) or [])
    series._work(reductions, downloads=True)
    assert reduced == [tmp_path]
    assert "data_download.yaml: no such file" in store.frames.last_run()["told"]


def test_files_of_an_observation_that_belongs_to_another_night_are_named(
    config: Any,  # noqa: F811
    store: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    raw = config.paths.raw[0]
    copied = "20260315"
    shutil.copytree(raw.path / NIGHT, raw.path / copied)
    ingest, scanner = Ingest(config, store), Scanner(raw, 0.0)
    ingest.night(next(scanner.changed({NIGHT})))
    with caplog.at_level(logging.WARNING):
        listing = next(scanner.changed({copied}))
        ingest.night(listing)
        ingest.night(listing)
    found = [problem for problem in listing.problems if f"night {NIGHT} already" in problem.reason]
    assert len(found) == 4
    assert store.nights.find(copied)["raw_data"]["problems_count"] == len(listing.problems)
    assert f"is an observation of night {NIGHT} already" in caplog.text

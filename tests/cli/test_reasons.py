"""What `obsarchive status` says of work that waits or failed."""

import json
import os
import socket
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from obsarchive.cli import daemon_reasons, step_reasons
from obsarchive.cli.status import _reasons
from obsarchive.config.loading import load
from obsarchive.config.model import Config
from obsarchive.core.archive_paths import Layout
from obsarchive.core.causes import CAUSES, OTHER, cause_of, kind_of
from obsarchive.core.documents import utc_now
from obsarchive.errors import ConfigError
from obsarchive.io.start_record import noted_start
from obsarchive.store import Store

NIGHT = "20260314"


def make_config(folder: Path, **daemon: Any) -> Config:
    places = {name: str(folder / name) for name in ("archive", "tmp", "logs")}
    raw = {
        "paths": {"raw": [str(folder / "raw")], **places},
        "daemon": daemon,
        "pipelines": [{"class": f"pipelines.{name}"} for name in ("night.Calibration", "bright_star.BrightStar")],
    }
    return Config.model_validate(raw, context={"folder": folder})


def status(**more: Any) -> dict[str, Any]:
    here = {"host": socket.gethostname(), "pid": os.getpid(), "state": "idle", "workers": [{"name": "0"}]}
    return {**here, "updated": str(utc_now()), **more}


def observation(store: Store, number: int, **steps: Any) -> str:
    name = f"4_star_{number}_VIC_Si_o_{NIGHT}_03000{number}.000000"
    pipelined = {"bright_star": {"steps": steps}} if steps else {}
    document = {"_id": name, "night": NIGHT, "pipelined": pipelined, "distributed": {"status": bool(steps)}}
    store.observations.insert({**document, "date_utc": utc_now()})
    return name


def told(config: Config, store: Store) -> list[daemon_reasons.Reason]:
    @contextmanager
    def opened(_: Config) -> Any:
        yield store

    return step_reasons.of_steps(config, opened)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, []),
        ({"state": "stopped"}, ["no daemon runs"]),
        ({"pid": 2**22 + 1}, ["no daemon runs"]),  # beyond what Linux gives out
        ({"updated": str(utc_now() - timedelta(minutes=2))}, ["no daemon runs"]),
        ({"updated": None}, ["no daemon runs"]),
        ({"configuration": "config.json: daemon.max_retries: expected a number"}, ["the changed configuration"]),
        ({"state": "napping"}, ["napping"]),
        ({"workers": []}, ["no workers"]),
    ],
)
def test_what_keeps_the_daemon_from_working(tmp_path: Path, changed: dict[str, Any], words: list[str]) -> None:
    found = list(daemon_reasons.of_daemon(make_config(tmp_path, min_free_gb=0.0), status(**changed)))
    assert len(found) == len(words)
    assert all(reason.what.startswith(word) for reason, word in zip(found, words, strict=True))
    assert all(reason.action for reason in found)


def test_a_start_that_failed_is_the_reason_until_the_daemon_runs(tmp_path: Path) -> None:
    config = make_config(tmp_path, min_free_gb=0.0)
    assert daemon_reasons.failed_start(config) == ("", "")
    before = status(state="stopped")
    daemon_reasons.note_failed_start(config, ConfigError("pipelines.0.class: no class 'mine.Mine': mine.py, line 2"))
    (found,) = daemon_reasons.of_daemon(config, before)
    assert "it did not start at 2" in found.why
    assert found.why.endswith("mine.py, line 2")
    assert found.action.startswith("mend what this names, then start it: obsarchive daemon")
    assert list(daemon_reasons.of_daemon(config, status())) == []
    later = str(utc_now() + timedelta(seconds=1))
    (found,) = daemon_reasons.of_daemon(config, status(state="stopped", updated=later))
    assert found.action.startswith("start it")


def test_a_daemon_that_starts_is_the_reason(tmp_path: Path) -> None:
    config = make_config(tmp_path, min_free_gb=0.0)
    before = status(state="stopped", updated=str(utc_now() - timedelta(seconds=5)))
    with noted_start(Layout(config.paths.archive).start_record):
        (found,) = daemon_reasons.of_daemon(config, before)
        assert found.what == "the daemon is starting"
        assert found.why.startswith("since ")
        assert found.action.startswith("nothing")
    (found,) = daemon_reasons.of_daemon(config, before)
    assert found.action.startswith("start it")


@pytest.mark.parametrize(("state", "mode"), [("stopped", "external"), ("idle", "embedded")])
def test_a_class_that_cannot_be_loaded_is_one_reason_with_one_action(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, mode: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"mine_{state}.py").write_text("import absent_package\n")
    paths = {"raw": ["raw"], "archive": "archive", "tmp": "tmp", "logs": "logs"}
    raw = {"paths": paths, "database": {"mode": mode, "uri": "mongodb://127.0.0.1:9"}}
    raw |= {"daemon": {"min_free_gb": 0.0}, "pipelines": [{"class": f"mine_{state}.Mine"}]}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    said = _reasons(load(tmp_path / "config.json", import_classes=False), status(state=state))
    assert f"No module named 'absent_package' ({tmp_path}/mine_{state}.py, line 1)" in said
    assert said.count("->") == 1
    assert "-> mend what this names" in said
    assert ("then start it: obsarchive daemon" in said) == (state == "stopped")


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path) -> None:
    (found,) = daemon_reasons.of_daemon(make_config(tmp_path, min_free_gb=1e9), status())
    assert str(tmp_path / "archive") in found.why
    assert "daemon.min_free_gb wants 1e+09" in found.why
    assert "free space" in str(found)


def test_failures_of_one_kind_are_one_reason(tmp_path: Path, store: Store) -> None:
    for number in range(3):
        failed = {"state": "failed", "retries": 4, "message": f"not finished after {number} s (parallel.job_timeout_s)"}
        observation(store, number, reduce=failed)
    last = observation(store, 3, reduce={"state": "failed", "retries": 4, "message": "OSError: [Errno 5] a: /x/y"})
    observation(store, 4, reduce={"state": "rejected", "message": "no star brighter than 5 sigma"})
    observation(store, 5, reduce={"state": "done"}, strehl={"state": "lacking", "message": "nothing yet"})
    found = told(make_config(tmp_path), store)
    assert [(reason.count, reason.what) for reason in found] == [
        (3, "failed bright_star.reduce"),
        (1, "failed bright_star.reduce"),
        (1, "lacking bright_star.strehl"),
        (1, "rejected bright_star.reduce"),
    ]
    assert "raise parallel.job_timeout_s" in found[0].action
    assert found[1].example == last
    assert "mounted" in found[1].action
    assert "nothing" in found[2].action


def test_names_and_numbers_tell_no_reasons_apart(tmp_path: Path, store: Store) -> None:
    """Also names of files without a digit, and lists of different length."""
    messages = [
        "red.fits.gz: expected frames of (64, 64), found (48, 31) (y, x)",
        "night_field.fit: expected frames of (8, 8), found (1, 2) (y, x)",
        "M_a.FITS: expected frames of (64, 64, 3), found (48, nan) (y, x)",
    ]
    names = [
        observation(store, number, reduce={"state": "rejected", "message": message})
        for number, message in enumerate(messages)
    ]
    observation(store, 3, reduce={"state": "rejected", "message": "no guide star: brightest source has S/N nan"})
    found = told(make_config(tmp_path), store)
    assert [reason.count for reason in found] == [3, 1]
    assert found[0].why == messages[names.index(found[0].example)], "the numbers are those of the example"
    assert str(found[0]).startswith(f"  3 x rejected bright_star.reduce, such as {found[0].example}: {found[0].why}\n")
    assert str(found[1]).startswith(f"  1 x rejected bright_star.reduce, of {found[1].example}: no guide star")


def test_what_waits_says_for_what(tmp_path: Path, store: Store) -> None:
    config = make_config(tmp_path)
    store.nights.touch(NIGHT)
    name = observation(store, 0)
    (reason,) = told(config, store)
    assert (reason.what, reason.why, reason.count) == (
        "waiting bright_star.reduce",
        "the calibration of its night is not done",
        1,
    )
    calibrated = {f"calib.steps.{step}.state": "done" for step in ("darks", "flats", "preview")}
    store.nights.set_fields(NIGHT, calibrated)
    assert [reason.why for reason in told(config, store)] == ["its turn has not come"]
    record = "pipelined.bright_star.steps.reduce"
    soon = utc_now() + timedelta(hours=1)
    failed = {"state": "failed", "retries": 1, "message": "the step's process died (signal SIGKILL)"}
    store.observations.set_fields(name, {record: {**failed, "not_before": soon}})
    why = {reason.what: reason for reason in told(config, store)}
    assert why["waiting bright_star.reduce"].why.startswith(f"tried again at {soon:%H:%M:%S} UTC: the step's process")
    assert "out of memory" in why["failed bright_star.reduce"].action


def test_without_a_database_that_is_the_reason(tmp_path: Path) -> None:
    def nobody_listens(_: Config) -> Store:
        return Store("mongodb://127.0.0.1:9", "archiver", timeout_s=0.1)

    (reason,) = step_reasons.of_steps(make_config(tmp_path), nobody_listens)
    assert reason.what == "no database"
    assert "127.0.0.1:9" in reason.why


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("no space left for /a/b.fits", "no space"),
        ("not finished after 1800 s (parallel.job_timeout_s)", "time limit"),
        ("3100 MB of memory used, 2 GB allowed (parallel.memory_limit_gb)", "memory limit"),
        ("the step's process died (signal SIGSEGV)", "process died"),
        ("the worker was lost: KilledWorker('step-1')", "worker lost"),
        ("the worker cannot load what it should run: ModuleNotFoundError: No module named 'mine'", "not importable"),
        ("PermissionError: [Errno 13] Permission denied: '/archive/x'", "disk error"),
        ("ZeroDivisionError: division by zero", "bug"),
        ("the catalogue does not answer", "other"),
    ],
)
def test_every_message_has_a_cause(message: str, name: str) -> None:
    assert cause_of(message).name == name


def test_causes_have_names_of_their_own() -> None:
    names = [cause.name for cause in (*CAUSES, OTHER)]
    assert len(names) == len(set(names))
    assert kind_of("/a/b has 0.12 GB free") == kind_of("/c has 3 GB free")

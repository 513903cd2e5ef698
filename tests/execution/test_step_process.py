"""Every ending of a step, in real forked processes that are really killed."""

import json
import multiprocessing as mp
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import bson
import psutil
import pytest

from obsarchive.errors import ArchiveError, NoSpace
from obsarchive.execution.step_process import call_apart, execute, run_step
from obsarchive.io import atomic
from obsarchive.pipeline import Task
from tests.sample_pipelines import Endings, task_values

OBS = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"


@pytest.fixture(scope="module", autouse=True)
def _imports_are_shared():
    """As on a Dask worker: a step costs a fork, not the imports."""
    mp.get_context("forkserver").set_forkserver_preload(["obsarchive.execution.step_process"])


def hang(path: Path) -> None:
    child = subprocess.Popen(["sleep", "100"])
    path.write_text(f"{os.getpid()} {child.pid}")
    child.wait()


def refuse(reason: str) -> None:
    raise NoSpace(reason)


def test_a_call_that_hangs_is_killed_with_what_it_started(tmp_path):
    started = time.monotonic()
    with pytest.raises(ArchiveError, match="hang: not finished after 2 s"):
        call_apart(2.0, hang, tmp_path / "pids")
    assert time.monotonic() - started < 20
    for pid in (tmp_path / "pids").read_text().split():
        assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE


def test_a_call_returns_or_raises_what_the_function_does():
    assert call_apart(20.0, divmod, 7, 3) == (2, 1)
    with pytest.raises(NoSpace, match="full"):
        call_apart(20.0, refuse, "full")
    with pytest.raises(ArchiveError, match="its process died"):
        call_apart(20.0, os._exit, 3)


def task(tmp_path: Path, step: str, **fields: Any) -> Task:
    return Task("task1", Endings, step, **{**task_values(tmp_path, OBS), "time_limit_s": 20.0, **fields})


def is_gone(tmp_path: Path, name: str) -> bool:
    """Whether the process that a step noted down ends within a second."""
    pid = int((tmp_path / "tmp" / name).read_text())
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def leftovers(tmp_path: Path) -> list[Path]:
    return [*tmp_path.rglob("*.part"), *tmp_path.glob("tmp/steps/*")]


def test_success(tmp_path):
    outcome = run_step(task(tmp_path, "succeed", inputs={"science": "ab"}))
    assert (outcome.subject, outcome.event, outcome.message) == ("task1", "succeed", "")
    assert outcome.record["results"] == {"ratio_percent": 12.5}
    assert outcome.record["classified_as"] == "high_flux"
    assert [product["name"] for product in outcome.record["products"]] == ["image.fits"]
    assert outcome.cpu_s > 0
    assert outcome.peak_memory_mb > 10
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("step", "event", "message"),
    [
        ("reject", "reject", "no guide star"),
        ("not_ready", "release", "no master dark yet"),
        ("fail", "fail", "the disk sulks"),
        ("bug", "fail", "ZeroDivisionError: division by zero"),
        ("forget_a_product", "fail", "declares the product table.txt but did not make it"),
        ("kill_itself", "fail", "the step's process died (signal SIGKILL)"),
        ("leave", "fail", "the step's process died (exit code 3)"),
    ],
)
def test_every_other_ending_has_its_reason(tmp_path, step, event, message):
    outcome = run_step(task(tmp_path, step))
    assert outcome.event == event
    assert message in outcome.message
    assert leftovers(tmp_path) == []


def test_a_step_that_hangs_is_killed_whatever_it_ignores(tmp_path):
    started = time.monotonic()
    outcome = run_step(task(tmp_path, "hang", time_limit_s=1.5))
    assert time.monotonic() - started < 6
    assert (outcome.event, outcome.message) == ("fail", "not finished after 1.5 s (parallel.job_timeout_s)")
    assert is_gone(tmp_path, "hanging")
    assert leftovers(tmp_path) == []


def test_a_step_that_eats_memory_is_killed(tmp_path):
    outcome = run_step(task(tmp_path, "eat_memory", memory_limit_gb=0.3))
    assert outcome.event == "fail"
    assert "0.3 GB allowed (parallel.memory_limit_gb)" in outcome.message
    assert 300 < outcome.peak_memory_mb < 2000


def test_programs_that_a_step_leaves_behind_are_killed(tmp_path):
    assert run_step(task(tmp_path, "start_a_program")).event == "succeed"
    assert is_gone(tmp_path, "program")


def test_a_death_is_noticed_though_a_child_lives_on(tmp_path):
    """The child has inherited the pipe of the step: its end does not close."""
    started = time.monotonic()
    outcome = run_step(task(tmp_path, "die_with_a_child_left"))
    assert time.monotonic() - started < 10
    assert outcome.message == "the step's process died (signal SIGKILL)"
    assert is_gone(tmp_path, "child")


def test_progress_is_heard(tmp_path):
    heard = []
    run_step(task(tmp_path, "report"), lambda *told: heard.append(("task1", *told)))
    assert heard == [("task1", number / 3, f"part {number}") for number in range(3)]


def test_the_next_step_runs_after_one_was_killed(tmp_path):
    assert run_step(task(tmp_path, "kill_itself")).event == "fail"
    assert run_step(task(tmp_path, "succeed")).event == "succeed"


def test_the_step_s_own_log_is_kept(tmp_path):
    outcome = run_step(task(tmp_path, "bug"))
    [line] = outcome.record["log"]
    assert f"{OBS} endings.bug | unexpected" in line
    assert "ZeroDivisionError" in line


# ------------------------------------------------------------------------------------- the boundary itself


def test_a_rejection_is_kept_in_the_tree(tmp_path):
    outcome = execute(task(tmp_path, "reject"))
    assert outcome.record["state"] == "rejected"
    assert outcome.record["message"] == "no guide star"
    assert outcome.record["classified_as"] == "zero_flux"
    assert (tmp_path / "archive" / "20160925" / OBS / "endings" / ".reject.json").exists()


def test_a_full_disk_makes_a_step_wait_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_synchronise", no_space)
    outcome = execute(task(tmp_path, "succeed"))
    assert outcome.event == "release"  # no fault of the step: it costs no attempt
    assert "no space left" in outcome.message
    assert leftovers(tmp_path) == []


def test_a_rejection_removes_what_the_step_made_before(tmp_path):
    folder = tmp_path / "archive" / "20160925" / OBS / "endings"
    folder.mkdir(parents=True)
    outside = folder.parent / "outside.fits"
    for path in (folder / "old.fits", folder / "of_another_step.fits", outside):
        path.write_text("x")
    products = [{"name": name, "bytes": 1} for name in ("old.fits", "gone.fits", "../outside.fits")]
    (folder / ".reject.json").write_text(json.dumps({"products": products}))
    (folder / ".another.json").write_text(json.dumps({"products": [{"name": "of_another_step.fits"}]}))
    outcome = execute(task(tmp_path, "fail"))
    assert (outcome.event, (folder / "old.fits").exists()) == ("fail", True)
    assert execute(task(tmp_path, "reject")).record["products"] == []
    assert sorted(path.name for path in folder.iterdir()) == [".another.json", ".reject.json", "of_another_step.fits"]
    assert outside.exists()


def test_a_step_that_makes_less_than_before_keeps_no_older_product(tmp_path):
    folder = tmp_path / "archive" / "20160925" / OBS / "endings"
    folder.mkdir(parents=True)
    (folder / "preview_of_before.png").write_text("x")
    products = [{"name": "preview_of_before.png", "bytes": 1}]
    (folder / ".succeed.json").write_text(json.dumps({"products": products}))
    assert execute(task(tmp_path, "succeed")).record["state"] == "done"
    assert sorted(path.name for path in folder.iterdir()) == [".succeed.json", "image.fits"]


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"products": 3}', '{"products": [{}]}'])
def test_a_rejection_bears_a_damaged_manifest_of_an_earlier_attempt(tmp_path, manifest):
    folder = tmp_path / "archive" / "20160925" / OBS / "endings"
    folder.mkdir(parents=True)
    (folder / ".reject.json").write_text(manifest)
    assert execute(task(tmp_path, "reject")).record["state"] == "rejected"


def test_a_rejection_survives_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_synchronise", no_space)
    outcome = execute(task(tmp_path, "reject"))
    assert (outcome.event, outcome.message) == ("reject", "no guide star")


def no_space(path: Path) -> None:
    raise OSError(28, os.strerror(28), str(path))


def test_what_a_bug_says_can_always_be_kept(tmp_path):
    outcome = run_step(task(tmp_path, "bug_with_a_hostile_message"))
    assert outcome.event == "fail"
    assert outcome.message.startswith("ValueError: ")
    assert len(outcome.message) < 3000
    assert len(bson.encode({"message": outcome.message, **outcome.record})) < 2**20

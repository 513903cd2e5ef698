"""Faults 1 to 4, 20 and 27: workers, schedulers and daemons that die, are stopped, or meet."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from obsarchive.core.documents import utc_now
from tests.daemon.conftest import PROJECT, wait_for
from tests.faults.archives import TARGETS, FaultSite, assert_nothing_is_lost

PATIENCE_S = 200.0
"""For tests whose workers start new interpreters [s]."""


def workers_of(pid: int) -> list[psutil.Process]:
    """Return the Dask workers of a daemon."""
    return [child for child in psutil.Process(pid).children(recursive=True) if child.name() == "archive-worker"]


@pytest.mark.slow
def test_01_worker_killed_in_the_middle_of_a_step(lone: FaultSite, clean: FaultSite) -> None:
    lone.order("Vega", "add", "hold")
    with lone.running() as daemon:
        held = lone.held(seconds=PATIENCE_S)
        (worker,) = workers_of(daemon.pid)
        lone.release()
        worker.kill()
        lone.waits_until_settled(seconds=PATIENCE_S)
        assert not psutil.pid_exists(held)
        records = [lone.step(target) for target in TARGETS]
    assert [record["retries"] for record in records] == [0, 0, 0]
    assert "worker was lost" in lone.said
    assert_nothing_is_lost(lone, clean)


@pytest.mark.slow
def test_02_step_that_kills_its_worker_each_time(lone: FaultSite, clean: FaultSite) -> None:
    lone.order("Vega", "add", "kill the worker")
    lone.order("KOI-2", "add", "die")
    with lone.running():
        lone.waits_until_settled(seconds=PATIENCE_S)
    assert "3 workers were lost while they ran this step" in lone.step("Vega")["message"]
    assert lone.step("KOI-2")["message"] == "the step's process died (signal SIGKILL)"
    assert lone.step("HD_3")["state"] == "done"
    assert_nothing_is_lost(lone, clean, failed=("Vega", "KOI-2"))


@contextmanager
def dask_processes(folder: Path, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scheduler and a worker, as an operator starts them; the address and the scheduler's process."""
    file = folder / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--no-nanny"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": folder}
    started = [
        subprocess.Popen([*command, "--no-dashboard", "--scheduler-file", str(file)], **quiet)  # type: ignore[call-overload]
    ]
    try:
        wait_for(file.exists)
        worker += ["--nthreads", "1", "--no-dashboard", "--death-timeout", "20", "--local-directory", str(folder)]
        started.append(subprocess.Popen(worker, **quiet))  # type: ignore[call-overload]
        yield json.loads(file.read_text())["address"], started[0]
    finally:
        file.unlink(missing_ok=True)
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_03_scheduler_killed_in_the_middle_of_a_step(site: FaultSite, clean: FaultSite) -> None:
    site.first = None
    with dask_processes(site.folder, 0) as (address, scheduler):
        site.change(parallel={"scheduler": address})
        site.order("Vega", "add", "hold")
        daemon = site.start()
        site.held(seconds=PATIENCE_S)
        scheduler.kill()
        site.waits_for_words("lost its scheduler")
    site.release()
    with dask_processes(site.folder, int(address.rpartition(":")[2])):
        site.waits_until_settled(seconds=PATIENCE_S)
        os.kill(daemon.pid, signal.SIGTERM)
        daemon.communicate()
    assert daemon.returncode == 0
    assert site.step("Vega")["retries"] == 0
    assert_nothing_is_lost(site, clean)


def test_04_daemon_killed_at_ten_moments(site: FaultSite, clean: FaultSite) -> None:
    moments = random.Random(4)
    for target in TARGETS[1:]:
        site.order(target, "note", "hold")  # or all would be done before the second moment
    for moment in range(10):
        daemon = site.start()
        time.sleep(moments.uniform(0.0, 0.6))
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.communicate()
        if moment in (5, 8):
            site.release(TARGETS[1 + moment // 8], "note")
    with site.running():
        site.waits_until_settled()
    with site.store() as store:
        jobs = store.jobs.recent(limit=1000)
        retries = [document["pipelined"]["sum"]["status"]["retries"] for document in store.database["objects"].find()]
    assert retries == [0, 0, 0]
    done = [(job["subject"], job["step"]) for job in jobs if job["state"] == "done"]
    assert len(done) == len(set(done))  # what was done is not done again
    assert {job["state"] for job in jobs} <= {"done", "released"}
    assert_nothing_is_lost(site, clean)


def test_20_two_daemons(site: FaultSite, clean: FaultSite) -> None:
    site.order("Vega", "add", "hold")
    first = site.start()
    site.held()
    assert f"process {first.pid}" in site.run("--once", expect=4)
    os.kill(first.pid, signal.SIGSTOP)
    assert f"process {first.pid}" in site.run("--once", expect=4)
    with site.store() as store:  # a daemon on another host takes over when the lease has run out
        lease = store.database["lease"]
        lease.update_one({"_id": "master"}, {"$set": {"expires": utc_now() - timedelta(seconds=1)}})
        assert store.lease.take(
            "other", replace(store.lease.archive(), host="elsewhere"), "elsewhere, process 1", 600.0
        )
        taken_over = lease.find_one({"_id": "master"})
        site.release()
        os.kill(first.pid, signal.SIGCONT)
        first.communicate()
        assert first.returncode == 4
        assert "another daemon took over the archive: elsewhere" in site.said
        assert lease.find_one({"_id": "master"}) == taken_over
        store.lease.give_back("other")
    site.run()
    assert_nothing_is_lost(site, clean)


def test_27_terminated_while_products_are_written(site: FaultSite, clean: FaultSite) -> None:
    moments = random.Random(27)
    for number in range(6):
        said = len(site.said)
        daemon = site.start()
        time.sleep(moments.uniform(0.2, 1.0))
        asked = time.monotonic()
        os.kill(daemon.pid, signal.SIGTERM if number % 2 else signal.SIGINT)
        daemon.communicate(90)
        before_it_listens = () if len(site.said) > said else (1, -signal.SIGTERM)
        assert daemon.returncode in (0, 128 + signal.SIGTERM, *before_it_listens), site.said
        assert time.monotonic() - asked < 75  # cut short after 60 s
        with site.store() as store:
            states = [
                record["state"]
                for document in store.database["objects"].find()
                for record in document.get("pipelined", {}).get("sum", {}).get("steps", {}).values()
            ]
        assert "enqueued" not in states
        for path in site.layout.root.rglob("*_sum.fits"):
            assert path.stat().st_size % 2880 == 0
    assert "Traceback" not in site.said
    n_looks = site.said.count("PSF library")
    with site.running():
        wait_for(lambda: site.said.count("PSF library") > n_looks)  # all may be done already
        site.waits_until_settled()
    assert_nothing_is_lost(site, clean)

"""What the daemon must survive: its workers, its database and its cluster are taken from it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from .conftest import PROJECT, Site
from .test_runs import EVERY_STEP_DONE


def wait_for_line(daemon: subprocess.Popen, word: str) -> None:
    """Read what the daemon says until a word appears."""
    for line in daemon.stdout:  # type: ignore[union-attr]
        if word in line:
            return
    pytest.fail(f"the daemon ended without saying {word!r}")


def test_a_killed_database_comes_back_and_nothing_is_lost(site: Site) -> None:
    daemon = site.start("--once")
    wait_for_line(daemon, "calib.darks: enqueued")
    mongod = int((site.folder / "archive/.db/data/mongod.lock").read_text())
    os.kill(mongod, signal.SIGKILL)
    said, _ = daemon.communicate(timeout=100)
    assert daemon.returncode == 0, said
    assert site.states() == EVERY_STEP_DONE


def test_killed_workers_cost_an_attempt_not_the_night(site: Site) -> None:
    site.change(parallel={"n_workers": 2})
    daemon = site.start("--once")
    wait_for_line(daemon, "calib.darks: enqueued")
    workers = [p for p in psutil.Process(daemon.pid).children() if "spawn_main" in " ".join(p.cmdline())]
    assert workers
    for worker in workers:
        worker.kill()
    said, _ = daemon.communicate(timeout=100)
    assert daemon.returncode == 0, said
    assert site.states() == EVERY_STEP_DONE


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """A Dask cluster that somebody else started: its scheduler's address."""
    file = tmp_path / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    command += ["--no-dashboard", "--scheduler-file", str(file)]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file)]
    worker += ["--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": tmp_path}
    processes = [subprocess.Popen(command, **quiet)]  # type: ignore[call-overload]
    deadline = time.monotonic() + 30
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    processes.append(subprocess.Popen(worker, **quiet))  # type: ignore[call-overload]
    yield json.loads(file.read_text())["address"]
    for process in reversed(processes):
        process.terminate()
        process.wait(20)


def test_an_existing_cluster_is_joined_by_its_address(new_site: Callable, raw_night: Path, scheduler: str) -> None:
    site = new_site(raw_night)
    site.change(parallel={"scheduler": scheduler})
    site.run()
    assert site.states() == EVERY_STEP_DONE

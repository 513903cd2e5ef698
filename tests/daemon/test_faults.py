"""What the daemon must survive: its workers, its database and its cluster are taken from it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from obsarchive.config.model import Parallel
from obsarchive.execution import cluster
from tests.daemon.conftest import PROJECT, Site, wait_for

from .test_runs import EVERY_STEP_DONE


def test_what_workers_cannot_import_costs_a_step_not_the_workers(lone_site: Site) -> None:
    chain = json.loads(lone_site.config_file.read_text())["pipelines"]
    lone_site.change(pipelines=[*chain, {"class": "tests.daemon.homebound.Homebound"}], daemon={"max_retries": 0})
    lone_site.run()
    states = lone_site.states()
    assert states.items() >= EVERY_STEP_DONE.items()
    assert {state for step, state in states.items() if "homebound" in step} == {"failed"}
    with lone_site.store() as store:
        (document,) = store.database["objects"].find({"name": "HIP_1"})
    message = document["pipelined"]["homebound"]["steps"]["stay"]["message"]
    assert message.startswith("the worker cannot load what it should run: ImportError: not installed on this machine")


def test_a_cluster_without_workers_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WORKERLESS_S", 0.2)
    with cluster.Cluster(Parallel(n_workers=1), tmp_path) as ours:
        assert ours.capacity == 1
        assert ours.alive
        ours._cluster.scale(0)
        wait_for(lambda: ours.describe() == [] and not ours.alive)
        ours.restart()
        ours.submit("t", os.getpid)
        event = ours.events.get(timeout=30)
        assert isinstance(event, cluster.TaskFinished)
        assert event.value != os.getpid()
        assert ours.alive


@pytest.fixture
def foreign_scheduler(tmp_path: Path) -> Iterator[str]:
    """A Dask cluster that somebody else started: its scheduler's address."""
    file = tmp_path / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    command += ["--no-dashboard", "--scheduler-file", str(file)]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file)]
    worker += ["--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": tmp_path}
    processes = [subprocess.Popen(command, **quiet)]  # type: ignore[call-overload]
    wait_for(file.exists)
    processes.append(subprocess.Popen(worker, **quiet))  # type: ignore[call-overload]
    yield json.loads(file.read_text())["address"]
    for process in reversed(processes):
        process.terminate()
        process.wait(20)


def test_an_existing_cluster_is_joined_by_its_address(site: Site, foreign_scheduler: str) -> None:
    site.change(parallel={"scheduler": foreign_scheduler})
    site.run()
    assert site.states() == EVERY_STEP_DONE

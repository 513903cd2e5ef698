"""What the daemon must survive: its workers, its database and its cluster are taken from it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from obsarchive.config.model import Parallel
from obsarchive.execution import cluster
from tests.daemon.conftest import PROJECT, Site, tree, wait_for
from tests.forked import Forked

from .test_runs import EVERY_STEP_DONE


def wait_for_line(daemon: Forked, word: str) -> None:
    """Read what the daemon says until a word appears."""
    for line in daemon.stdout:
        if word in line:
            return
    pytest.fail(f"the daemon ended without saying {word!r}")


def test_a_killed_database_comes_back_and_nothing_is_lost(lone_site: Site, scheduler: str) -> None:
    lone_site.change(parallel={"scheduler": scheduler})
    daemon = lone_site.start("--once")
    wait_for_line(daemon, "calib.darks: enqueued")
    mongod = int((lone_site.folder / "archive/.db/data/mongod.lock").read_text())
    os.kill(mongod, signal.SIGKILL)
    said, _ = daemon.communicate(timeout=100)
    assert daemon.returncode == 0, said
    assert lone_site.states() == EVERY_STEP_DONE


def test_a_database_that_is_dropped_is_rebuilt_while_the_daemon_runs(copied: Site, reduced: Site) -> None:
    copied.run()
    daemon = copied.start()
    journal = copied.config.database_folder / "people.jsonl"
    try:
        with copied.store() as store:
            store.users.add("ana", {"programs": ["4"]})
            wait_for(lambda: journal.exists() and "ana" in journal.read_text())
            wait_for(lambda: (store.jobs.daemon() or {}).get("state") == "idle")
            store.database.client.drop_database(store.database.name)
        wait_for_line(daemon, "the database was emptied")
        wait_for(lambda: copied.states() == EVERY_STEP_DONE)
        assert daemon.poll() is None
        with copied.store() as store:
            wait_for(
                lambda: {found["raw_data"].get("missing") for found in store.database["objects"].find()} == {False}
            )
            wait_for(lambda: {found["distributed"]["status"] for found in store.database["objects"].find()} == {True})
            assert store.users.find("ana")["programs"] == ["4"]
            assert store.database["jobs"].count_documents({}) == 0
    finally:
        os.kill(daemon.pid, signal.SIGTERM)
        daemon.communicate(timeout=60)
    assert daemon.returncode == 0
    assert tree(copied) == tree(reduced)


def test_killed_workers_cost_an_attempt_not_the_night(lone_site: Site) -> None:
    lone_site.change(parallel={"n_workers": 2}, daemon={"retry_delay_s": 2.0})
    daemon = lone_site.start("--once")
    wait_for_line(daemon, "calib.darks: enqueued")
    workers = [p for p in psutil.Process(daemon.pid).children() if "spawn_main" in " ".join(p.cmdline())]
    assert workers
    for worker in workers:
        worker.kill()
    said, _ = daemon.communicate(timeout=100)
    assert daemon.returncode == 0, said
    assert lone_site.states() == EVERY_STEP_DONE


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

"""Runs of a project that are killed at random moments, and runs side by side, end like an undisturbed one."""

import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from uuid import uuid4

import pytest
from pymongo import MongoClient

from obsarchive.cli.main import surveys as main
from obsarchive.database.embedded_mongod import Server
from obsarchive.store import Store
from surveys import dataset
from tests.forked import forkserver
from tests.surveys.survey_contents import everything

SOURCES = int(os.environ.get("KILLED_SOURCES", "120"))
KILLS = int(os.environ.get("KILLS", "5"))

PROJECT = f"""
project: {{name: killed, obs_names: [DEMO], batch_size: 60}}
catalog: {{test_size: {SOURCES}}}
observatories:
  DEMO: {{wait_time: 0.002, event_fraction: 0.1, empty_fraction: 0.05, download_batch_size: 20}}
analysis: {{save_processed: true}}
"""

Place = tuple[Path, Store]


@pytest.fixture
def place(mongo_server: Server, tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    """Make folders with a project and a database of its own."""
    stores: list[Store] = []

    def make(name: str) -> Place:
        folder = tmp_path / name
        folder.mkdir()
        database = f"test_{uuid4().hex}"
        config = {
            "paths": {"raw": ["raw"], "archive": "archive", "tmp": "tmp", "logs": "logs"},
            "database": {"mode": "external", "uri": mongo_server.uri, "db": database},
            "surveys": {"data": "data"},
            "pipelines": [],
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "p.yaml").write_text(PROJECT)
        stores.append(Store(mongo_server.uri, database))
        return folder, stores[-1]

    yield make
    with MongoClient(mongo_server.uri) as client:
        for store in stores:
            client.drop_database(store.database.name)
            store.close()


def run(folder: Path, told: Path) -> None:
    """Do in a process of its own what the command does."""
    os.chdir(folder)
    for name in dataset.ENVIRONMENT:
        os.environ.pop(name, None)
    with told.open("w") as file, redirect_stdout(file):
        code = main(["run", "p.yaml", "--workers", "0"])
    sys.exit(code)


class Process:
    """A run of the project of a folder; forked from a process that has imported everything already."""

    def __init__(self, folder: Path) -> None:
        self.told = folder / f"told {uuid4().hex}"
        self.process = forkserver().Process(target=run, args=(folder, self.told))
        self.process.start()

    def kill(self) -> int | None:
        self.process.kill()
        self.process.join()
        return self.process.exitcode

    def finish(self) -> tuple[int, int]:
        """Wait for its end; returns how many sources it fetched and analysed."""
        self.process.join(240)
        assert self.process.exitcode == 0
        numbers = re.match(r"(\d+) fetched(?: \(of which \d+ empty\))?, (\d+) analysed", self.told.read_text())
        assert numbers is not None
        return int(numbers[1]), int(numbers[2])


def _done(store: Store) -> int:
    return store.surveys.count("raw_photometry", {}) + store.surveys.count("properties", {})


def test_killed_runs_and_runs_side_by_side_end_the_same(place: Callable[[str], Place]) -> None:
    folder, store = place("undisturbed")
    assert Process(folder).finish() == (SOURCES, SOURCES)
    wanted = everything(store, folder / "data")

    folder, store = place("killed")
    rng = random.Random(5)
    ends = []
    for kill in range(KILLS):
        process = Process(folder)
        # somewhere in this part of the work: downloads and results are counted
        goal = (kill + rng.random()) / (KILLS + 1) * 2 * SOURCES
        while process.process.is_alive() and _done(store) < goal:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        ends.append(process.kill())
    assert ends == [-signal.SIGKILL] * KILLS
    assert store.surveys.run("KILLED")["state"] == "failed"  # not "running" for ever
    Process(folder).finish()
    assert everything(store, folder / "data") == wanted
    assert Process(folder).finish() == (0, 0)

    folder, store = place("together")
    both = [Process(folder), Process(folder)]
    done = [process.finish() for process in both]
    # nothing is asked for twice, and nothing is left out
    assert [sum(numbers) for numbers in zip(*done, strict=True)] == [SOURCES, SOURCES]
    assert all(fetched > 0 for fetched, _ in done)
    assert everything(store, folder / "data") == wanted

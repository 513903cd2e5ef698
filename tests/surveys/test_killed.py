"""Runs of a project that are killed at random moments, and runs side by side, end like an undisturbed one."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from pymongo import MongoClient

from obsarchive.mongod import Server
from obsarchive.store import Store
from tests.surveys.survey_contents import everything

SOURCES = int(os.environ.get("KILLED_SOURCES", "240"))
KILLS = int(os.environ.get("KILLS", "5"))
ROOT = Path(__file__).parents[2]

PROJECT = f"""
project: {{name: killed, obs_names: [DEMO], batch_size: 60}}
catalog: {{test_size: {SOURCES}}}
observatories:
  DEMO: {{wait_time: 0.004, event_fraction: 0.1, empty_fraction: 0.05, download_batch_size: 20}}
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


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("RETRIEVER_DATA", "VO_DATA")}
    command = [sys.executable, "-m", "surveys", "run", "p.yaml", "--workers", "0", *more]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Wait for a run; returns how many sources it fetched and analysed."""
    told, _ = process.communicate(timeout=240)
    assert process.returncode == 0, told
    numbers = re.match(r"(\d+) fetched, (\d+) analysed", told)
    assert numbers is not None
    return int(numbers[1]), int(numbers[2])


def _done(store: Store) -> int:
    return store.surveys.count("raw_photometry", {}) + store.surveys.count("properties", {})


def test_killed_runs_and_runs_side_by_side_end_the_same(place: Callable[[str], Place]) -> None:
    folder, store = place("undisturbed")
    assert finish(start(folder)) == (SOURCES, SOURCES)
    wanted = everything(store, folder / "data")

    folder, store = place("killed")
    rng = random.Random(5)
    ends = []
    for kill in range(KILLS):
        process = start(folder)
        # somewhere in this part of the work: downloads and results are counted
        goal = (kill + rng.random()) / (KILLS + 1) * 2 * SOURCES
        while process.poll() is None and _done(store) < goal:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.communicate()
        ends.append(process.returncode)
    assert ends == [-signal.SIGKILL] * KILLS
    finish(start(folder))
    assert everything(store, folder / "data") == wanted
    assert finish(start(folder)) == (0, 0)

    folder, store = place("together")
    both = [start(folder), start(folder)]
    done = [finish(process) for process in both]
    # nothing is asked for twice, and nothing is left out
    assert [sum(numbers) for numbers in zip(*done, strict=True)] == [SOURCES, SOURCES]
    assert all(fetched > 0 for fetched, _ in done)
    assert everything(store, folder / "data") == wanted

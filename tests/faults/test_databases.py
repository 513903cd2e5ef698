"""Faults 5, 6, 28 and 32: a database that is killed, steps down, is emptied, or is away."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from pymongo import MongoClient

from obsarchive.database.embedded_mongod import EmbeddedMongod
from tests.daemon.conftest import PROJECT, wait_for
from tests.faults.archives import FaultSite, assert_nothing_is_lost
from tests.forked import Forked


@dataclass(frozen=True)
class OwnServer:
    """A database server of one test."""

    folder: Path
    uri: str
    start_again: Callable[[], object]

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(pid_of(self.folder))


@pytest.fixture
def mongod(tmp_path: Path) -> Iterator[OwnServer]:
    """A database server of this test."""
    server = EmbeddedMongod(tmp_path / "mongod")
    with server as found:
        yield OwnServer(tmp_path / "mongod", found.admin_uri.partition("&w=")[0], server.ensure)


def pid_of(folder: Path) -> int:
    """Return the process of a database server."""
    return int((folder / "data" / "mongod.lock").read_text())


def test_05_database_killed_in_the_middle_of_a_run(lone: FaultSite, clean: FaultSite) -> None:
    lone.change(parallel={"scheduler": lone.room.scheduler})
    lone.first = lone.room.enter()
    lone.order("Vega", "add", "hold")
    with lone.running():
        lone.held()
        os.kill(pid_of(lone.config.database_folder), signal.SIGKILL)
        lone.release()
        wait_for(lambda: lone.said.count(": packed") == 3)
    assert_nothing_is_lost(lone, clean)


def test_06_primary_steps_down(site: FaultSite, clean: FaultSite, mongod: OwnServer) -> None:
    site.change(database={"uri": mongod.uri})
    site.order("Vega", "add", "hold")
    with site.running():
        site.held()
        with MongoClient(mongod.uri) as client:
            client.admin.command("replSetStepDown", 1, force=True)
        site.release()
        site.waits_until_settled()
    assert "failed" not in site.said
    assert_nothing_is_lost(site, clean)


def test_28_database_emptied_while_the_daemon_runs(reduced: FaultSite, clean: FaultSite) -> None:
    made = {path: path.stat().st_mtime_ns for path in reduced.layout.root.rglob("*.fits")}
    journal = reduced.config.database_folder / "people.jsonl"
    with reduced.running():
        with reduced.store() as store:
            store.users.add("ana", {"programs": ["4"]})
            wait_for(lambda: journal.exists() and "ana" in journal.read_text())
            wait_for(lambda: (store.jobs.daemon() or {}).get("state") == "idle")
            store.database.client.drop_database(store.database.name)
        reduced.waits_for_words("the database was emptied")
        with reduced.store() as store:
            # the observations may have been entered again before the loss was noticed, and then be settled already
            wait_for(lambda: store.users.find("ana"))
            assert store.users.find("ana")["programs"] == ["4"]
        reduced.waits_until_settled()
        with reduced.store() as store:
            assert store.database["jobs"].count_documents({}) == 0
    assert {path: path.stat().st_mtime_ns for path in reduced.layout.root.rglob("*.fits")} == made
    assert_nothing_is_lost(reduced, clean)


def test_32_portal_and_daemon_without_their_database(
    site: FaultSite, clean: FaultSite, mongod: OwnServer, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    site.change(database={"uri": mongod.uri}, server={"port": port})
    site.order("Vega", "add", "hold")
    portal = Forked("portal", [str(site.config_file)], site.folder, {"PYTHONPATH": str(PROJECT)}, log=tmp_path / "web")
    try:
        with site.running():
            site.held()
            wait_for(lambda: status_of(port) == 200)
            mongod.process.kill()
            site.release()
            began = time.monotonic()
            assert status_of(port) == 503
            assert time.monotonic() - began < 9
            product = site.layout.root / "20260314"
            wait_for(lambda: list(product.glob("*Vega*/sum/*_sum.fits")))  # the step itself needs no database
            site.waits_for_words("the database went away")
            mongod.start_again()
            wait_for(lambda: status_of(port) == 200)
            site.waits_until_settled()
    finally:
        portal.kill()
        portal.communicate()
    assert_nothing_is_lost(site, clean)


def status_of(port: int) -> int:
    """Return how the portal answers; 0 when it does not."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/login", timeout=60).status_code
    except httpx.TransportError:
        return 0

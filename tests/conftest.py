"""What several folders of tests need."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from pymongo import MongoClient
from xdist.scheduler import LoadScopeScheduling

from obsarchive.database.embedded_mongod import EmbeddedMongod, Server
from obsarchive.store import Store
from tests.once import session_folder
from tests.services import dask_cluster

# How fast a busy machine draws examples says nothing about the code.
settings.register_profile("archiver", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("archiver")

IN_MEMORY, ROOM_GB = Path("/dev/shm"), 6  # noqa: S108 - pytest makes a folder there that nobody else may read
if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ROOM_GB * 1e9:
    # There a write that waits for the disk, as databases and products do all the time, waits for nothing.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))

TOGETHER = {
    "timeseries/test_whole_run.py": "tom",
    "timeseries/test_tom.py": "tom",
    "cli/test_wheel.py": "wheel",
    "web/test_tasks.py": "tasks",
    "web/test_browser.py": "browser",
    "pipelines/test_whole_night.py": "whole night",
    "daemon/test_faults.py": "faults",
    "deploy/test_machines.py": "machines",
    "daemon/test_runs.py": "daemons",
    "daemon/test_commands.py": "daemons",
    "science/test_subtraction.py": "subtraction",
    "real/test_real_nights.py": "real nights",
    "real/test_lowell.py": "lowell",
    "timeseries/test_accuracy.py": "accuracy",
    "pipelines/test_simulated_night.py": "simulated night",
    "pipelines/test_high_contrast.py": "high contrast",
    "science/test_registration.py": "registration",
    "docs/test_adapting.py": "adapting",
    "pipelines/test_astrometry_step.py": "astrometry",
    "pipelines/test_planes_and_amplifiers.py": "planes and amplifiers",
}
"""Files whose tests share something that takes long to make: one process runs all of a name, the longest first."""


class ByCost(LoadScopeScheduling):
    """Hands out tests one by one, but for those that stay together."""

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER.get("/".join(nodeid.partition("::")[0].split("/")[-2:]), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # in the order of `pytest_collection_modifyitems`
    return ByCost(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start what takes long first, so that no process works on it alone in the end."""
    order = {file: place for place, file in enumerate(TOGETHER)}

    def turn(item: pytest.Item) -> tuple[int, bool]:
        return order.get("/".join(item.path.parts[-2:]), len(order)), item.get_closest_marker("slow") is None

    items.sort(key=turn)


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real MongoDB, shared by all processes of the test session; the user of its ``uri`` may do everything."""
    with EmbeddedMongod(session_folder(tmp_path_factory) / "mongod") as server:
        with MongoClient(server.admin_uri) as client:
            # Files of dropped databases stay open for as long as snapshots may be read: thousands are too many.
            client.admin.command("setParameter", 1, minSnapshotHistoryWindowInSeconds=5)
        yield replace(server, uri=server.admin_uri)


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """Address of a Dask cluster of this process."""
    with dask_cluster() as address:
        yield address


@pytest.fixture
def database_name(mongo_server: Server) -> Iterator[str]:
    """Return the name of an empty database of this test, dropped afterwards."""
    name = f"test_{uuid4().hex}"
    yield name
    with MongoClient(mongo_server.uri) as client:
        client.drop_database(name)


@pytest.fixture
def store(mongo_server: Server, database_name: str) -> Iterator[Store]:
    """Return the store on an empty database of this test."""
    found = Store(mongo_server.uri, database_name)
    yield found
    found.close()

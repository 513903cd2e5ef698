"""What several folders of tests need."""

from collections.abc import Iterator
from dataclasses import replace
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

TOGETHER = (
    "pipelines/test_whole_night.py",
    "pipelines/test_simulated_night.py",
    "pipelines/test_high_contrast.py",
    "pipelines/test_astrometry_step.py",
    "real/test_lowell.py",
    "real/test_real_nights.py",
    "science/test_registration.py",
    "science/test_subtraction.py",
    "daemon/test_commands.py",
    "docs/test_adapting.py",
    "timeseries/test_accuracy.py",
    "timeseries/test_tom.py",
    "web/test_browser.py",
    "web/test_tasks.py",
)
"""Files whose tests share something that takes long to make: one process runs them all."""


class ByCost(LoadScopeScheduling):
    """Hands out tests one by one, but for those of some files, which stay together and come first."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file.endswith(TOGETHER) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    return ByCost(config, log)


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real MongoDB, shared by all processes of the test session; the user of its ``uri`` may do everything."""
    with EmbeddedMongod(session_folder(tmp_path_factory) / "mongod") as server:
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

"""Archives for the tests of faults: a raw night, the same reduced without any fault, and a room to run in."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from obsarchive.database.embedded_mongod import Server
from tests.daemon.conftest import stop_database
from tests.faults.archives import FaultSite, copy_tree, make_site, write_raw_night
from tests.faults.rooms import Room, open_room
from tests.once import made_once
from tests.services import running_services


@pytest.fixture(scope="session")
def room() -> Iterator[Room]:
    """A room with a Dask cluster, of this process."""
    with open_room() as found:
        yield found


@pytest.fixture(scope="session")
def raw_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw night of these tests: three observations, darks and flats."""
    return made_once(tmp_path_factory, "raw night of faults", write_raw_night)


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory, raw_night: Path, room: Room, mongo_server: Server) -> FaultSite:
    """An archive that was reduced without any fault; to be copied, not changed."""
    database = "clean_run"

    def make(folder: Path) -> None:
        folder.rmdir()
        site = make_site(folder, room, running_services(mongo_server, room.scheduler, database))
        shutil.copytree(raw_night, site.night)
        site.run()
        with MongoClient(mongo_server.uri) as client:
            client.drop_database(database)

    return FaultSite(made_once(tmp_path_factory, "clean", make), room, room.enter())


@pytest.fixture
def services(mongo_server: Server, database_name: str, room: Room) -> dict[str, Any]:
    """Sections of a configuration: an empty database of this test, and workers that run in the room."""
    return running_services(mongo_server, room.scheduler, database_name)


@pytest.fixture
def site(tmp_path: Path, room: Room, services: dict[str, Any], raw_night: Path) -> Iterator[FaultSite]:
    """An archive with the raw night, of which nothing is reduced."""
    made = make_site(tmp_path / "site", room, services)
    shutil.copytree(raw_night, made.night)
    yield made
    made.close()


@pytest.fixture
def empty(tmp_path: Path, room: Room, services: dict[str, Any]) -> Iterator[FaultSite]:
    """An archive without raw files."""
    made = make_site(tmp_path / "site", room, services)
    made.night.mkdir()
    yield made
    made.close()


@pytest.fixture
def reduced(tmp_path: Path, room: Room, services: dict[str, Any], clean: FaultSite) -> Iterator[FaultSite]:
    """An archive with the raw night that was reduced before; its database is empty."""
    made = copy_tree(clean, tmp_path / "site", room, services)
    yield made
    made.close()


@pytest.fixture
def lone(tmp_path: Path, room: Room, raw_night: Path) -> Iterator[FaultSite]:
    """An archive with the raw night, whose daemon starts a database and workers of its own."""
    made = make_site(tmp_path / "site", room, {"parallel": {"n_workers": 1}})
    made.first = None
    shutil.copytree(raw_night, made.night)
    yield made
    made.close()
    stop_database(made)

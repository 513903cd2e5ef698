"""The store on a real database."""

from collections.abc import Iterator

import pytest

from obsarchive.mongod import Server
from obsarchive.store import Store


@pytest.fixture
def store(mongo_server: Server, database_name: str) -> Iterator[Store]:
    found = Store(mongo_server.uri, database_name)
    yield found
    found.close()

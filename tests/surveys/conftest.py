"""What tests of surveys need: a database and a data folder of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from obsarchive.database.embedded_mongod import Server
from obsarchive.store import Store
from surveys import database, dataset


@pytest.fixture
def survey_store(mongo_server: Server, database_name: str) -> Iterator[Store]:
    """An empty database, which surveys work with during this test."""
    store = Store(mongo_server.uri, database_name)
    store.surveys.ensure_indexes()
    database.use(store)
    yield store
    database.use(None)
    store.close()


@pytest.fixture
def survey_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that survey data lie in during this test."""
    for name in dataset.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(dataset, "DATA_ROOT", tmp_path)
    return tmp_path

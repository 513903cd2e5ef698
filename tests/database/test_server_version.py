"""Releases of MongoDB: what is said about them, and how data go from one to the next, on real servers."""

from datetime import date
from pathlib import Path

import pytest
from pymongo import MongoClient

from obsarchive.database.embedded_mongod import EmbeddedMongod
from obsarchive.database.server_version import SUPPORT_ENDS, format_hint, release_of, support_of


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("6.0.5", "its support ended 2025-07-31"),
        ("7.0.28", ""),
        ("8.0.17", ""),
        ("8.2.1", ""),
        ("9.0.0-rc1", ""),
        ("5.0.32", "the archive needs 6.0 or later"),
    ],
)
def test_the_end_of_support_is_told(version: str, said: str) -> None:
    assert support_of(version, date(2026, 11, 27)) == said
    assert support_of("6.0.5", date(2025, 7, 31)) == ""


def test_only_a_foreign_format_gets_its_hint() -> None:
    assert "one release at a time" in format_hint(62)
    assert format_hint(1) == ""


def test_data_of_the_release_before_become_those_of_this_one(tmp_path: Path) -> None:
    """Data that stayed those of an earlier release could not be read by the next one."""
    folder = tmp_path / "db"
    with EmbeddedMongod(folder, database="book") as server, MongoClient(server.admin_uri) as client:
        running = release_of(client.server_info()["version"])
        earlier = max(release for release in SUPPORT_ENDS if release < running)
        confirmed = {"confirm": True} if running >= (7, 0) else {}
        client.book.stars.insert_one({"_id": 1})
        client.admin.command("setFeatureCompatibilityVersion", f"{earlier[0]}.{earlier[1]}", **confirmed)
    with EmbeddedMongod(folder, database="book") as server, MongoClient(server.admin_uri) as client:
        parameter = client.admin.command("getParameter", 1, featureCompatibilityVersion=1)
        assert parameter["featureCompatibilityVersion"]["version"] == f"{running[0]}.{running[1]}"
        assert client.book.stars.count_documents({}) == 1


def test_an_archive_whose_data_are_gone_gets_new_ones(tmp_path: Path) -> None:
    """Any distance between releases: the data are put aside, users and passwords of the server are made anew."""
    folder = tmp_path / "db"
    with EmbeddedMongod(folder, database="book"):
        pass
    (folder / "data").rename(folder / "data.old")
    with EmbeddedMongod(folder, database="book") as server, MongoClient(server.uri) as client:
        assert client.book.stars.insert_one({"_id": 1}).acknowledged

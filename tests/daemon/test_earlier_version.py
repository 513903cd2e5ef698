"""An archive and a database written by an earlier version are taken over; nothing is reduced again."""

import tarfile
from pathlib import Path

import pytest
from bson import json_util

from .conftest import NIGHT, Site, states, tree

STORED = Path(__file__).parent / "earlier" / "archive_0.1.0.tar.xz"
"""Two observations of 64x64 pixels and their calibration, the tree they became, and ``database.json``: every document
of the database in MongoDB's extended JSON. Pictures and tarballs are zeros of the same length."""


@pytest.fixture
def earlier(tmp_path, services):
    """A site as it was left by the earlier version, its database not yet loaded."""
    site = Site(tmp_path / "site")
    with tarfile.open(STORED) as stored:
        stored.extractall(site.folder, filter="data")
    site.change(**services)
    return site


def load_database(site: Site) -> None:
    """Fill the database with the documents of the earlier version."""
    documents = json_util.loads((site.folder / "database.json").read_text())
    with site.store() as store:
        for name, of_collection in documents.items():
            store.database[name].delete_many({})
            if of_collection:
                store.database[name].insert_many(of_collection)


def test_archive_and_database_are_taken_over(earlier):
    load_database(earlier)
    with earlier.store() as store:
        states_before = states(store)
    tree_before = tree(earlier)
    assert "steps of this run: none" in earlier.run()
    with earlier.store() as store:
        assert states(store) == states_before
    assert tree(earlier) == tree_before
    assert list(states_before.values()).count("done") == 8


def test_the_tree_alone_is_taken_over(earlier):
    tree_before = tree(earlier)
    assert "steps of this run: none" in earlier.run()
    assert tree(earlier) == tree_before
    assert earlier.states()["HIP_1 bright_star.reduce"] == "done"


def test_raw_files_are_found_where_they_are_now(earlier):
    """The archive of the earlier version had its raw files in another folder."""
    load_database(earlier)
    name = earlier.observation("HIP_1")
    product = earlier.layout.observation(NIGHT, name) / "bright_star" / "20p.fits"
    product.unlink()
    earlier.run()
    assert product.exists()
    with earlier.store() as store:
        location = store.observations.find(name)["raw_data"]["location"]
    assert location[1] == str(earlier.night)

"""Which nights changed is known without reading them."""

import pytest
from pymongo.errors import OperationFailure

from obsarchive.store import Store
from obsarchive.store.changes import Changes

FIRST, SECOND = "20260314", "20260315"


def test_only_what_changed_is_read_again(store: Store) -> None:
    for night in (FIRST, SECOND):
        store.nights.touch(night)
    everything = store.nights.all_again({})
    assert [night.id for night in everything.values()] == [SECOND, FIRST]
    everything = store.nights.all_again(everything)  # this one may still hear of what was written before
    assert store.nights.all_again(everything) is everything
    before = {night.id: night for night in everything.values()}
    store.nights.set_fields(FIRST, {"science": "changed"})
    changed = store.nights.all_again(everything)
    after = {night.id: night for night in changed.values()}
    assert list(after) == [SECOND, FIRST]
    assert after[SECOND] is before[SECOND]
    assert after[FIRST].document["science"] == "changed"
    store.nights.collection.delete_one({"_id": SECOND})
    assert [night.id for night in store.nights.all_again(changed).values()] == [FIRST]


def test_a_collection_that_was_dropped_is_read_anew(store: Store) -> None:
    store.nights.touch(FIRST)
    everything = store.nights.all_again({})
    store.nights.collection.drop()
    everything = store.nights.all_again(everything)
    assert not everything
    store.nights.touch(SECOND)
    everything = store.nights.all_again(everything)
    assert [night.id for night in store.nights.all_again(everything).values()] == [SECOND]


def test_where_nothing_can_be_followed_nothing_is_known(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OperationFailure("The $changeStream stage is only supported on replica sets", 40573)

    monkeypatch.setattr(type(store.nights.collection), "watch", refused)
    changes = Changes(store.nights.collection)
    assert [changes.names() for _ in range(3)] == [None] * 3

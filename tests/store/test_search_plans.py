"""Searches read what they show, however many observations there are: by what MongoDB says of its plans."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.collection import Collection

from obsarchive.core.target_names import target_fields
from obsarchive.store import Store, portal_queries
from obsarchive.store.search import Criteria, Order
from obsarchive.store.visibility import visible_where

COUNT, PAGE = 3000, 50
ADMIN, PI = {"_id": "admin", "programs": "all"}, {"_id": "ana", "programs": ["3"]}


@pytest.fixture
def filled(store: Store) -> Store:
    """Return an archive of which a third is one standard star, and a tenth belongs to programme 3."""
    store.ensure_indexes([("bright_star", "strehl")])
    documents = []
    for number in range(COUNT):
        name = "HD_1" if number % 3 == 0 else f"HIP_{number}"
        documents.append(
            {
                "_id": f"{number:05d}",
                "name": name,
                "target": target_fields({"name": name}),
                "science_program": {"program_id": str(number % 10), "program_PI": ["ben"]},
                "date_utc": datetime(2016, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
                "night": "20160101",
                "filter": "Si",
            }
        )
    store.database["objects"].insert_many(documents)
    return store


def work(store: Store, user: dict[str, Any], criteria: Criteria) -> tuple[int, int, int]:
    """Return how many keys and documents the first page of a search reads, and how many it shows."""
    planned = store.browse._planned(criteria)
    query, order = visible_where(user, planned.query(), planned.is_selective), Order()
    found = store.database["objects"].find(query).sort(order.keys).limit(PAGE + 1)
    stats = found.explain()["executionStats"]
    return stats["totalKeysExamined"], stats["totalDocsExamined"], stats["nReturned"]


def test_pages_of_a_frequent_name_are_read_in_their_order(filled) -> None:
    keys, documents, shown = work(filled, ADMIN, Criteria(name="hd 1", exact=True))
    assert (keys <= 2 * PAGE, documents, shown) == (True, PAGE + 1, PAGE + 1)


@pytest.mark.parametrize(("user", "most_keys"), [(ADMIN, 4 * PAGE), (PI, 8 * PAGE)])
def test_parts_of_frequent_names_are_found_in_the_index(filled, monkeypatch, user, most_keys: int) -> None:
    monkeypatch.setattr(portal_queries, "RARE", 100)
    keys, documents, shown = work(filled, user, Criteria(name="hd"))
    assert shown == PAGE + 1
    assert keys <= most_keys
    assert documents <= 2 * (PAGE + 1), "no document is read in vain"


@pytest.mark.parametrize("user", [ADMIN, PI])
def test_parts_of_rare_names_cost_what_they_find(filled, user) -> None:
    keys, documents, shown = work(filled, user, Criteria(name="p 100"))
    assert shown <= 11
    assert keys <= 60
    assert documents <= 40


def test_counting_a_frequent_name_reads_no_document(filled, monkeypatch) -> None:
    """Whatever other index begins with the programme."""
    monkeypatch.setattr(portal_queries, "RARE", 100)
    filled.database["objects"].create_index([("science_program.program_id", 1), ("magnitude", 1)])
    counted: list[tuple[dict[str, Any], dict[str, Any]]] = []
    count = Collection.count_documents

    def watched(self: Collection[Any], query: dict[str, Any], **options: Any) -> int:
        counted.append((query, options))
        return count(self, query, **options)

    monkeypatch.setattr(Collection, "count_documents", watched)
    assert filled.browse.search(PI, Criteria(name="hd"), Order(), PAGE).count == 100
    read = 0
    for query, options in counted[1:]:  # the first one says that the name is frequent
        stages = [{"$match": query}, {"$group": {"_id": 1, "n": {"$sum": 1}}}]
        asked = {"aggregate": "objects", "pipeline": stages, "cursor": {}}
        asked |= {"hint": options["hint"]} if "hint" in options else {}
        explained = filled.database.command("explain", asked, verbosity="executionStats")
        stats = explained["stages"][0]["$cursor"]["executionStats"] if "stages" in explained else explained
        read += stats.get("executionStats", stats)["totalDocsExamined"]
    assert len(counted) == 3
    assert read == 0


def test_what_a_user_sees_twice_is_counted_once(filled, monkeypatch) -> None:
    """Programme 3 is the user's, and every observation names them as its PI."""
    monkeypatch.setattr(portal_queries, "RARE", 100)
    user = {"_id": "ben", "programs": ["3"], "left": ["4"]}
    expected = sum(number % 3 == 0 and number % 10 != 4 for number in range(COUNT))
    assert filled.browse.search(user, Criteria(name="hd"), Order(), PAGE).count == expected
    since = datetime(2016, 1, 1, tzinfo=UTC)
    found = filled.browse.search(user, Criteria(since=since), Order(), PAGE)
    assert found.count == sum(number % 10 != 4 for number in range(COUNT))


@pytest.mark.parametrize("user", [ADMIN, PI])
def test_a_name_that_there_is_not_costs_nothing(filled, user) -> None:
    assert work(filled, user, Criteria(name="nothing")) == (1, 0, 0)


def test_programmes_that_name_a_user_are_looked_up_one_by_one(filled) -> None:
    assert filled.browse.programs({"_id": "ben", "programs": ["12"]}) == [*"0123456789", "12"]
    assert filled.browse.programs({"_id": "ben", "programs": [], "left": ["4", "9"]}) == [*"0123", *"5678"]
    assert filled.browse.programs({"_id": "zoe", "programs": []}) == []
    query = {"science_program.program_PI": "ben", "science_program.program_id": {"$gt": "4"}}
    found = filled.database["objects"].find(query).sort("science_program.program_id", 1).limit(1)
    assert found.explain()["executionStats"]["totalKeysExamined"] <= 2


def test_filters_and_cameras_of_a_user_are_read_from_an_index(filled) -> None:
    objects = filled.database["objects"]
    objects.update_many({"science_program.program_id": "4"}, {"$set": {"filter": "Sz", "camera": "IR"}})
    assert filled.browse.values(PI, "filter") == ["Si"]
    assert filled.browse.values({"_id": "ana", "programs": ["3", "4"]}, "filter") == ["Si", "Sz"]
    assert filled.browse.values({"_id": "ben", "programs": []}, "camera") == ["IR"]
    for field in ("filter", "camera"):
        query = {"$and": [{"science_program.program_id": "4"}, {field: {"$gt": ""}}]}
        stats = objects.find(query, {field: 1}).sort(field, 1).limit(1).explain()["executionStats"]
        assert (stats["totalKeysExamined"] <= 2, stats["totalDocsExamined"] <= 1) == (True, True)

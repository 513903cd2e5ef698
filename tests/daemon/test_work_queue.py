"""Which observations the daemon looks at when its pipelines change, on a real MongoDB."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from obsarchive.core.documents import Observation
from obsarchive.core.rules import compile_rule
from obsarchive.daemon.work_queue import WorkQueue
from obsarchive.pipeline import Pipeline
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.store import Store
from tests.leases import archive_on
from tests.sample_pipelines import Other, Toy

NIGHT = "20260314"
BRIGHT, FAINT = (f"3_{name}_VIC_Si_o_20260314_0{i}0000.000000" for i, name in enumerate(("bright", "faint")))
DONE = {name: {"state": "done"} for name in Toy.steps}


def entry(kind: type[Pipeline], when: str = "True") -> ChainEntry:
    return ChainEntry(kind(), compile_rule(when), {}, {}, when)


@pytest.fixture
def archive(store: Store) -> Store:
    """Two packed observations for which nothing is due, and the lease of a daemon."""
    store.lease.take("run", archive_on("host"), "host", 60.0)
    for name, magnitude in ((BRIGHT, 9.0), (FAINT, 15.0)):
        document: dict[str, Any] = {"_id": name, "night": NIGHT, "magnitude": magnitude}
        document |= {"pipelined": {"toy": {"steps": DONE}}, "distributed": {"status": True}, "look_again": False}
        store.observations.insert(document)  # type: ignore[arg-type]
    return store


def looked_at(store: Store, *chain: ChainEntry, max_retries: int = 3) -> set[str]:
    """Start a daemon with a decision chain; return what it looks at, and look at it."""
    WorkQueue(store, chain, [], max_retries).take_up_chain()
    found = {observation.id for observation in store.observations.open(["toy", "other"])}
    for name in found:
        assert store.observations.find(name)["distributed"]["status"] is True
        store.observations.set_fields(name, {"look_again": False})
    return found


def test_a_database_without_a_digest_reopens_only_what_is_due(archive: Store) -> None:
    assert looked_at(archive, entry(Toy)) == set()


def test_a_pipeline_added_with_the_new_version_is_due_at_once(archive: Store) -> None:
    assert looked_at(archive, entry(Toy), entry(Other, "magnitude < 12")) == {BRIGHT}


def test_the_same_chain_reopens_nothing(archive: Store) -> None:
    looked_at(archive, entry(Toy))
    assert looked_at(archive, entry(Toy)) == set()


def test_every_change_of_the_chain_reopens_everything_once(archive: Store) -> None:
    looked_at(archive, entry(Toy))
    both = {BRIGHT, FAINT}
    assert looked_at(archive, entry(Toy), entry(Other, "magnitude < 12")) == both
    assert looked_at(archive, entry(Toy), entry(Other, "magnitude < 16")) == both
    assert looked_at(archive, entry(Toy), entry(Other, "magnitude < 16"), max_retries=4) == both
    assert looked_at(archive, entry(Toy), entry(Other, "magnitude < 16"), max_retries=4) == set()
    assert looked_at(archive, entry(Toy)) == both


def test_the_lease_keeps_the_digest_when_another_run_takes_it(archive: Store) -> None:
    looked_at(archive, entry(Toy))
    archive.lease.give_back("run")
    archive.lease.take("another", archive_on("host"), "host", 60.0)
    assert looked_at(archive, entry(Toy)) == set()


NIGHTS = ("20260314", "20260313")


@pytest.fixture
def queue(store: Store) -> WorkQueue:
    """A queue over two nights for which nothing is due."""
    found = WorkQueue(store, [entry(Toy)], [], 3)
    for name in NIGHTS:
        store.nights.touch(name)
    for night, _ in found.subjects():
        found.rest(night)  # type: ignore[arg-type]
    return found


def nights_of(queue: WorkQueue) -> list[str]:
    return [subject.id for subject, _ in queue.subjects()]


def test_a_night_at_rest_is_not_looked_at_again(queue: WorkQueue) -> None:
    assert nights_of(queue) == []


def test_whoever_changes_the_document_of_a_night_wakes_it(store: Store, queue: WorkQueue) -> None:
    store.database["aux"].update_one({"_id": NIGHTS[1]}, {"$set": {"calib.status.force_redo": True}})
    assert nights_of(queue) == [NIGHTS[1]]
    assert nights_of(queue) == [NIGHTS[1]], "until nothing is due for it"


def test_a_new_master_of_one_night_wakes_all(store: Store, queue: WorkQueue) -> None:
    master = {"kind": "dark", "key": "6", "shape": [8, 8], "signature": "a", "origin": "own"}
    store.nights.set_fields(NIGHTS[0], {"calib.steps.darks": {"state": "done", "results": {"masters": [master]}}})
    assert nights_of(queue) == list(NIGHTS)


def test_a_borrowed_master_wakes_only_its_night(store: Store, queue: WorkQueue) -> None:
    master = {"kind": "dark", "key": "6", "shape": [8, 8], "signature": "a", "origin": "copied from 20260101"}
    store.nights.set_fields(NIGHTS[0], {"calib.steps.darks": {"state": "done", "results": {"masters": [master]}}})
    assert nights_of(queue) == [NIGHTS[0]]


@pytest.mark.parametrize("giving", [False, True])
def test_of_many_observations_only_those_are_read_that_are_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch, giving: bool
) -> None:
    """A look at a night with a hundred thousand must not read them all to hand out four steps."""
    queue = WorkQueue(store, [entry(Toy)], [], 3)
    if giving:
        queue._giving = [entry(Other)]
    for night in NIGHTS:
        store.nights.touch(night)
        store.database["objects"].insert_many(
            [
                {"_id": f"3_s{n:03d}_VIC_Si_o_{night}_030000.000000", "night": night, "pipelined": {}, "magnitude": 9.0}
                for n in range(50)
            ]
        )
    read: list[str] = []
    opened = store.observations.open

    def counted(*arguments: Any) -> Iterator[Observation]:
        for observation in opened(*arguments):
            read.append(observation.id)
            yield observation

    monkeypatch.setattr(store.observations, "open", counted)
    looked_at = [subject.id for subject, _ in itertools.islice(queue.subjects(), len(NIGHTS) + 4)]
    assert looked_at == [*NIGHTS, *read[:4]]
    assert len(read) == 4
    read.clear()
    every = [subject.id for subject, _ in queue.subjects() if subject.id not in NIGHTS]
    assert every == read
    assert [name.split("_")[5] for name in every] == [NIGHTS[0]] * 50 + [NIGHTS[1]] * 50


def test_the_open_observations_of_a_night_come_by_an_index(store: Store) -> None:
    store.observations.ensure_indexes([("toy", step) for step in Toy.steps])
    query = store.observations._open_query(["toy"]) | {"night": {"$in": [NIGHT]}}
    plan = store.database["objects"].find(query).sort([("night", -1), ("_id", 1)]).explain()
    assert "SORT" not in str(plan["queryPlanner"]["winningPlan"]).replace("SORT_MERGE", "")

"""Going through events, on a real database: pages hold what plain Python finds, decisions are kept as versions."""

from collections.abc import Iterator
from uuid import uuid4

import numpy as np
import pytest

from obsarchive.database.embedded_mongod import Server
from obsarchive.store import CursorError, Decision, Store, TriageCriteria, triage

N = 300
RUNS = ("A", "B", "C")
SEEN = ("A", "B")


@pytest.fixture(scope="module")
def events(mongo_server: Server) -> Iterator[tuple[Store, list[dict]]]:
    """Events of three projects; of every source up to three, many of the same strength."""
    store, rng = Store(mongo_server.uri, f"test_{uuid4().hex}"), np.random.default_rng(1)
    store.surveys.ensure_indexes()
    store.decisions.ensure_indexes()
    documents = [
        {
            "_id": f"{run}/S{i:03d}/{k}",
            "run": run,
            "source_name": f"S{i:03d}",
            "simulated": k == 3,
            "strength": float(rng.integers(5, 40)),
            "mjd_start": 58000.0 + i,
            "mjd_peak": 58001.0 + i,
            "mjd_stop": 58002.0 + i,
        }
        for run in RUNS
        for i in range(N)
        for k in range(4)
        if rng.random() < 0.5
    ]
    store.surveys.save("detections", documents)
    store.surveys.save(
        "properties",
        [
            {"_id": f"A/{i}", "run": "A", "source_name": f"S{i:03d}", "extra": {"period": {"period_d": i / 10}}}
            for i in range(0, N, 3)
        ],
    )
    store.surveys.register([{"_id": "S007", "aliases": ["Gaia 7"]}], "A")
    for i in range(0, N, 4):
        store.decisions.write("A", f"S{i:03d}", Decision(("keep", "reject", "undecided")[i % 3], "why", "ana"))
    yield store, [one for one in documents if not one["simulated"]]
    store.client.drop_database(store.database.name)
    store.close()


def expected(store: Store, documents: list[dict], keep=lambda _name, _run, _strength: True, runs=SEEN) -> list[tuple]:
    strongest: dict[tuple, float] = {}
    for one in documents:
        pair = one["run"], one["source_name"]
        strongest[pair] = max(strongest.get(pair, 0.0), one["strength"])
    found = [
        (-strength, name, run)
        for (run, name), strength in strongest.items()
        if run in runs and keep(name, run, strength)
    ]
    return [(run, name) for _, name, run in sorted(found)]


def walked(store: Store, wanted: TriageCriteria, runs=SEEN, limit: int = 17) -> list[tuple[str, str]]:
    found, cursor = [], ""
    while True:
        page = store.triage.page(runs, wanted, limit, cursor)
        found += [row.pair for row in page.rows]
        cursor = page.following
        if not cursor:
            return found


def test_pages_hold_every_source_once_the_strongest_first(events) -> None:
    store, documents = events
    assert walked(store, TriageCriteria()) == expected(store, documents)
    assert walked(store, TriageCriteria(), None, 500) == expected(store, documents, runs=RUNS)
    assert walked(store, TriageCriteria(), []) == []
    row = store.triage.page(SEEN, TriageCriteria(name="S007"), 1).rows[0]
    own = [one for one in documents if (one["run"], one["source_name"]) == row.pair]
    assert (row.n_events, row.event["strength"]) == (len(own), max(one["strength"] for one in own))


def test_criteria_restrict(events) -> None:
    store, documents = events
    verdicts = {f"S{i:03d}": ("keep", "reject", "undecided")[i % 3] for i in range(0, N, 4)}

    def state(name: str, run: str) -> str:
        return verdicts.get(name, "undecided") if run == "A" else "undecided"

    for wanted in ("keep", "reject", "undecided"):
        right = expected(store, documents, lambda name, run, _, wanted=wanted: state(name, run) == wanted)
        assert right
        assert walked(store, TriageCriteria(state=wanted)) == right
    right = expected(store, documents, lambda _name, _run, strength: 20 <= strength <= 30)
    assert walked(store, TriageCriteria(score=(20, 30))) == right
    right = expected(
        store, documents, lambda name, run, _: run == "A" and int(name[1:]) % 3 == 0 and 5 <= int(name[1:]) / 10 <= 9
    )
    assert walked(store, TriageCriteria(period_d=(5, 9))) == right
    assert {name for _, name in walked(store, TriageCriteria(name="Gaia 7"))} <= {"S007"}
    assert {name[:3] for _, name in walked(store, TriageCriteria(name="S01"))} == {"S01"}


def test_a_search_that_reads_much_goes_on_from_where_it_stopped(events, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = events
    right = walked(store, TriageCriteria(period_d=(29, None)))
    monkeypatch.setattr(triage, "MOST_READ", 50)
    assert store.triage.page(SEEN, TriageCriteria(period_d=(29, None)), 10).following
    assert walked(store, TriageCriteria(period_d=(29, None))) == right


@pytest.mark.parametrize("cursor", ["x", "5", "nan\nS001\nA", "5\n\nA"])
def test_what_is_no_mark_is_refused(events, cursor: str) -> None:
    with pytest.raises(CursorError):
        events[0].triage.page(SEEN, TriageCriteria(), 10, cursor)


def test_counts_are_those_of_the_projects(events) -> None:
    store, documents = events
    assert store.triage.count(["A"]) == len(expected(store, documents, runs=("A",)))
    assert store.decisions.counts(["A"]) == {"keep": 25, "reject": 25}
    assert store.decisions.counts(["C"]) == {"keep": 0, "reject": 0}


def test_a_decision_is_never_overwritten_unseen_and_keeps_what_was(events) -> None:
    decisions = events[0].decisions
    first = decisions.write("B", "S001", Decision("keep", "$pretty", "ana", (58002.0,)))
    assert (first.verdict, first.text, first.version, first.peaks) == ("keep", "$pretty", 1, (58002.0,))
    assert decisions.write("B", "S001", Decision("reject", "no", "ben")) is None
    second = decisions.write("B", "S001", Decision("reject", "artefact", "ben", (58002.0,), version=1))
    assert [(one.verdict, one.author) for one in second.earlier] == [("keep", "ana")]
    assert decisions.of([("B", "S001"), ("A", "S001")])["B", "S001"].text == "artefact"


def test_an_event_that_came_later_was_not_known() -> None:
    event = {"mjd_start": 58000.0, "mjd_peak": 58004.0, "mjd_stop": 58010.0}
    assert Decision(peaks=(58010.0,)).knew(event)
    assert not Decision(peaks=(58040.0,)).knew(event)
    assert not Decision(peaks=()).knew(event)


def test_a_page_reads_little(events) -> None:
    store, _ = events
    query = {"$and": [{"run": "A"}, {"simulated": False}, {"strength": {"$lte": 30.0}}]}
    found = store.database["detections"].find(query).sort([("strength", -1), ("source_name", 1)]).limit(50)
    stats = found.explain()["executionStats"]
    assert (stats["totalKeysExamined"] <= 52, stats["totalDocsExamined"]) == (True, 50)

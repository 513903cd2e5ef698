"""When the reference stars of a night are chosen, and what waits for them, on a real MongoDB."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from obsarchive.core.documents import Night, utc_now
from obsarchive.core.rules import compile_rule
from obsarchive.core.step_state import State
from obsarchive.daemon import planner, step_inputs
from obsarchive.daemon.night_context import Library
from obsarchive.daemon.planner import RetryPolicy
from obsarchive.daemon.work_queue import WorkQueue
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.store import StepUpdate, Store, carried_over

NIGHT = "20260314"
FIRST, SECOND = (f"3_{name}_VIC_Si_o_20260314_0{i}0000.000000" for i, name in enumerate(("first", "second")))
CHOICE, SUMMARY = ("psflib", "candidates"), ("summary", "plot")
REDUCE, SUBTRACT = ("imaging", "reduce"), ("imaging", "subtract")


class Imaging(Pipeline):
    name = "imaging"

    @step(makes=["image.fits"], uses=["science"])
    def reduce(self, work: Workspace) -> dict[str, Any]:
        return {}

    @step(makes=["residual.fits"], after=["reduce"], uses=["library"])
    def subtract(self, work: Workspace) -> dict[str, Any]:
        return {}


class Choice(Pipeline):
    name = "psflib"
    scope = "night"
    follows_science = True

    @step(makes=[], uses=["observations"], gives=["library"])
    def candidates(self, work: Workspace) -> dict[str, Any]:
        return {}


class Summary(Pipeline):
    name = "summary"
    scope = "night"
    follows_science = True

    @step(makes=[], uses=["observations"])
    def plot(self, work: Workspace) -> dict[str, Any]:
        return {}


def entry(kind: type[Pipeline]) -> ChainEntry:
    return ChainEntry(kind(), compile_rule("True"), {}, {})


class Daemon:
    """What the scheduler does with a night, without running anything."""

    def __init__(self, store: Store, arrives_within: timedelta = timedelta()) -> None:
        self.store = store
        night_chain = [entry(Choice), entry(Summary)]
        self.queue = WorkQueue(store, [entry(Imaging)], night_chain, max_retries=3, arrives_within=arrives_within)

    def due(self) -> dict[str, str]:
        """Look thrice, as what one look changes shows in the next; return what can run by subject."""
        for _ in range(3):
            found = {}
            for subject, context in self.queue.subjects():
                chain = self.queue.chain_now(subject)
                for pipeline, declared in planner.stale(subject, chain, context):
                    self.queue.step_store_of(subject).invalidate(subject.id, (pipeline.name, declared.name))
                due = planner.next_step(subject, chain, RetryPolicy(utc_now(), 3), context)
                if due is not None:
                    found[subject.id] = due[1].name
        return found

    def run(self, subject: str, path: tuple[str, str], state: State = State.DONE, **results: Any) -> None:
        """Let a step end."""
        for found, context in self.queue.subjects():
            if found.id == subject:
                records, link = self.queue.step_store_of(found), self.queue.chain_of(found)
                declared = next(one.pipeline.steps[path[1]] for one in link if one.pipeline.name == path[0])
                inputs = step_inputs.inputs_of(found, declared, context)
                assert records.claim(subject, path, "task", "run")
                records.finish(subject, path, "task", StepUpdate(state, "", {"results": results, "inputs": inputs}))
                break
        if subject != NIGHT:
            self.store.nights.unsettle(NIGHT, path not in self.queue.library_steps)


def observe(store: Store, name: str, **fields: Any) -> None:
    document = {"_id": name, "night": NIGHT, "raw_data": {"signature": "raw"}, "pipelined": {}, **fields}
    store.observations.insert({**document, "distributed": {"status": False}})


@pytest.fixture
def night(store: Store) -> Store:
    store.nights.touch(NIGHT)
    for name in (FIRST, SECOND):
        observe(store, name)
    return store


def test_subtractions_wait_for_all_that_may_be_references_and_for_the_choice(night: Store) -> None:
    daemon = Daemon(night)
    assert daemon.due() == {FIRST: "reduce", SECOND: "reduce"}
    daemon.run(FIRST, REDUCE, fwhm=1.0)
    assert daemon.due() == {SECOND: "reduce"}
    daemon.run(SECOND, REDUCE, State.REJECTED)
    assert daemon.due() == {NIGHT: "candidates"}
    daemon.run(NIGHT, CHOICE)
    assert daemon.due() == {FIRST: "subtract"}
    daemon.run(FIRST, SUBTRACT, n_references=1)
    assert daemon.due() == {}


def test_one_that_fails_again_and_again_does_not_hold_up_the_night(night: Store) -> None:
    daemon = Daemon(night)
    daemon.run(FIRST, REDUCE)
    daemon.run(SECOND, REDUCE, State.FAILED)
    assert daemon.due()[NIGHT] == "candidates"


def test_a_choice_that_failed_for_good_is_not_waited_for(night: Store) -> None:
    daemon = Daemon(night)
    daemon.run(FIRST, REDUCE)
    daemon.run(SECOND, REDUCE)
    daemon.due()
    daemon.run(NIGHT, CHOICE, State.FAILED)
    assert FIRST not in daemon.due()
    night.nights.set_fields(NIGHT, {"psflib.steps.candidates.retries": 4})
    assert daemon.due() == {FIRST: "subtract", SECOND: "subtract"}


def test_the_same_results_again_change_no_choice_and_other_results_do(night: Store) -> None:
    daemon = Daemon(night)
    for name in (FIRST, SECOND):
        daemon.run(name, REDUCE, fwhm=1.0)
    daemon.due()
    daemon.run(NIGHT, CHOICE)
    for fwhm, wanted in ((1.0, {FIRST: "subtract", SECOND: "subtract"}), (1.1, {NIGHT: "candidates"})):
        night.observations.invalidate(FIRST, REDUCE)
        assert daemon.due()[FIRST] == "reduce"
        daemon.run(FIRST, REDUCE, fwhm=fwhm)
        assert daemon.due() == wanted


@pytest.mark.parametrize("path", [CHOICE, SUMMARY])
def test_a_night_reads_no_observations_that_are_made_again_since(night: Store, path: tuple[str, str]) -> None:
    """The signature would be that of what they were, and what was read meanwhile would stand for it for good."""
    daemon = Daemon(night)
    (declared,) = (link.pipeline.steps[path[1]] for link in daemon.queue.night_chain if link.pipeline.name == path[0])

    def has_settled() -> bool:
        return daemon.queue.has_settled(Night(night.nights.find(NIGHT) or {}), declared)

    for name in (FIRST, SECOND):
        daemon.run(name, REDUCE, fwhm=1.0)
    if path == SUMMARY:
        daemon.due()
        daemon.run(NIGHT, CHOICE)
        for name in (FIRST, SECOND):
            daemon.run(name, SUBTRACT)
        rest(night)
    assert daemon.due()[NIGHT] == path[1]
    assert has_settled()
    night.observations.invalidate(FIRST, REDUCE)  # its product vanished
    assert not has_settled()
    assert daemon.due() == {FIRST: "reduce"}
    daemon.run(FIRST, REDUCE, fwhm=1.0)
    if path == SUMMARY:
        rest(night)
    assert daemon.due()[NIGHT] == path[1]
    assert has_settled()


def test_without_results_the_content_of_products_counts_or_why_there_are_none(night: Store) -> None:
    def signature(hour: int, state: str, message: str = "", content: str = "") -> str:
        products = [{"name": "image.fits", "content": content}] if content else []
        record = {
            "state": state,
            "message": message,
            "products": products,
            "finished": datetime(2026, 3, 14, hour, tzinfo=UTC),
        }
        night.observations.set_fields(FIRST, {"pipelined.imaging.steps.reduce": record})
        return night.observations.findings(NIGHT)

    assert signature(1, "done", content="a") == signature(2, "done", content="a") != signature(2, "done", content="b")
    assert signature(1, "rejected", "dark") == signature(2, "rejected", "dark") != signature(2, "rejected", "no star")


def test_companions_found_later_count_together_where_the_library_knows_the_star(night: Store) -> None:
    daemon = Daemon(night)
    for name in (FIRST, SECOND):
        daemon.run(name, REDUCE, fwhm=1.0)
    daemon.due()
    daemon.run(NIGHT, CHOICE)
    daemon.queue.library = Library(known=frozenset({FIRST}))
    daemon.run(FIRST, SUBTRACT, detections=[{"snr": 9.0}])
    assert daemon.due() == {SECOND: "subtract"}  # it may speak against a star, too
    daemon.run(SECOND, SUBTRACT, detections=[{"snr": 9.0}])
    rest(night)
    assert daemon.due() == {NIGHT: "candidates"}  # before summaries of what may change
    daemon.run(NIGHT, CHOICE)
    assert daemon.due() == {NIGHT: "plot"}


def test_a_companion_of_a_star_that_the_library_does_not_know_changes_no_choice(night: Store) -> None:
    daemon = Daemon(night)
    for name in (FIRST, SECOND):
        daemon.run(name, REDUCE, fwhm=1.0)
    daemon.due()
    daemon.run(NIGHT, CHOICE)
    daemon.queue.library = Library(known=frozenset({FIRST}))
    daemon.run(FIRST, SUBTRACT)
    daemon.run(SECOND, SUBTRACT, detections=[{"snr": 9.0}])
    rest(night)
    assert daemon.due() == {NIGHT: "plot"}


def test_nothing_is_packed_that_other_references_would_soon_change(night: Store) -> None:
    daemon = Daemon(night)

    def packable(*running: str) -> set[str]:
        found = daemon.queue.subjects(running)
        return {subject.id for subject, context in found if subject.id != NIGHT and context.may_pack}

    assert packable() == {FIRST, SECOND}  # before the choice nothing speaks against it
    for name in (FIRST, SECOND):
        daemon.run(name, REDUCE, fwhm=1.0)
    daemon.due()
    daemon.run(NIGHT, CHOICE)
    daemon.queue.library = Library(known=frozenset({FIRST}))
    daemon.run(FIRST, SUBTRACT, detections=[{"snr": 9.0}])
    assert packable(SECOND) == set()
    assert packable() == {FIRST, SECOND}  # one that waits to be tried again does not hold up the others
    daemon.run(SECOND, SUBTRACT)
    assert packable() == set()  # the companion speaks against the first star
    assert daemon.due() == {NIGHT: "candidates"}
    assert packable(NIGHT) == set()
    daemon.run(NIGHT, CHOICE)
    assert packable() == {FIRST, SECOND}


def rest(store: Store) -> None:
    """Pack all observations."""
    store.observations.collection.update_many({}, {"$set": {"distributed.status": True, "look_again": False}})


def test_while_observations_may_follow_no_references_are_chosen(night: Store) -> None:
    daemon, impatient = Daemon(night, timedelta(hours=2)), Daemon(night)
    for name in (FIRST, SECOND):
        daemon.run(name, REDUCE)
    night.observations.set_fields(SECOND, {"date_utc": utc_now() - timedelta(hours=1)})
    assert daemon.due() == {}
    assert daemon.queue.pending(set())  # neither is it packed yet
    night.observations.set_fields(SECOND, {"date_utc": utc_now() - timedelta(hours=3)})
    assert daemon.due() == {NIGHT: "candidates"}
    night.nights.unsettle(NIGHT, reductions=True)
    night.observations.set_fields(SECOND, {"date_utc": utc_now()})
    assert impatient.due() == {NIGHT: "candidates"}


def test_a_late_observation_is_a_late_reference(night: Store) -> None:
    daemon = Daemon(night)
    for name in (FIRST, SECOND):
        daemon.run(name, REDUCE)
    daemon.due()
    daemon.run(NIGHT, CHOICE)
    for name in (FIRST, SECOND):
        daemon.run(name, SUBTRACT, State.LACKING, lacks_references="any")
    night.observations.collection.update_many({}, {"$set": {"distributed.status": True, "look_again": False}})
    daemon.due()
    daemon.run(NIGHT, ("summary", "plot"))
    assert daemon.due() == {}
    late = FIRST.replace("first", "late")
    observe(night, late)
    assert daemon.due() == {late: "reduce"}
    daemon.run(late, REDUCE)
    assert daemon.due() == {NIGHT: "candidates"}
    daemon.run(NIGHT, CHOICE)
    daemon.queue.library = Library({("", ""): "late"})
    night.observations.reopen_lacking([SUBTRACT], [])
    assert daemon.due() == {FIRST: "subtract", SECOND: "subtract", late: "subtract"}


# ------------------------------------------------------------------------------------- what an earlier version wrote

EARLIER = {
    "references": {"message": "no references: none", "results": {"lacks_references": "any"}},
    "calibration": {
        "message": "no master dark of mode 6 for frames of 8x8: neither night 20260314 nor another has one"
    },
    "flat files": {"message": "no master flat: Si: 1 good files, 5 needed (calibration.min_flats), and no other night"},
}
REJECTED_FOR_GOOD = (
    {"message": "no guide star: S/N 4.1"},
    {"message": "no master dark: 6: 1 good files, 9 bad (the last: truncated), 10 needed (calibration.min_darks)"},
)


@pytest.mark.parametrize("lacks", EARLIER)
def test_rejections_for_want_of_something_are_carried_over(store: Store, lacks: str) -> None:
    record = {"state": "rejected", **EARLIER[lacks]}
    pipelined = {"imaging": {"steps": {"reduce": {"state": "done"}, "subtract": record}, "status": {"done": False}}}
    observe(store, FIRST, pipelined=pipelined)
    store.observations.carry_over("imaging", ["reduce", "subtract"])
    block = store.observations.find(FIRST)["pipelined"]["imaging"]
    assert (block["steps"]["subtract"]["state"], block["steps"]["subtract"]["lacks"]) == ("lacking", lacks)
    assert block["status"]["done"] is True
    manifest = carried_over(record)
    assert (manifest["state"], manifest["lacks"]) == ("lacking", lacks)


@pytest.mark.parametrize("record", REJECTED_FOR_GOOD)
def test_other_rejections_stay(store: Store, record: dict[str, Any]) -> None:
    observe(store, FIRST, pipelined={"imaging": {"steps": {"reduce": {"state": "rejected", **record}}}})
    store.observations.carry_over("imaging", ["reduce", "subtract"])
    assert store.observations.find(FIRST)["pipelined"]["imaging"]["steps"]["reduce"]["state"] == "rejected"
    assert carried_over({"state": "rejected", **record})["state"] == "rejected"


@pytest.mark.parametrize("where", ["message", "results"])
def test_nights_that_an_earlier_version_found_short_of_files_are_counted_again(store: Store, where: str) -> None:
    reason = "6: 1 good files, 10 needed (calibration.min_darks)"
    said = {"message": reason, "results": {"short": [{"key": "6", "reason": reason}]}}
    store.nights.touch(NIGHT)
    record = {"state": "lacking", where: said[where]}
    store.nights.set_fields(NIGHT, {"calib.steps.darks": record, "calib.steps.flats": {"state": "done"}})
    store.nights.count_again([("calib", "darks"), ("calib", "flats")])
    steps = store.nights.find(NIGHT)["calib"]["steps"]
    assert [steps[name]["state"] for name in ("darks", "flats")] == ["waiting", "done"]


def test_a_tree_of_an_earlier_version_alone_makes_nothing_due(night: Store) -> None:
    """Without the database there is no signature of the night, only what its steps were made from."""
    daemon = Daemon(night)
    for name in (FIRST, SECOND):
        daemon.run(name, REDUCE, fwhm=1.0)
        daemon.run(name, SUBTRACT, State.LACKING)
    done = {"state": "done", "inputs": {"observations": night.observations.former_findings(NIGHT)}}
    night.nights.set_fields(NIGHT, {"science": {}, "summary.steps.plot": done, "psflib.steps.candidates": done})
    night.observations.collection.update_many({}, {"$set": {"distributed.status": True, "look_again": False}})
    assert daemon.due() == {}
    night.observations.invalidate(FIRST, REDUCE)
    daemon.run(FIRST, REDUCE, fwhm=1.1)
    night.observations.collection.update_many({}, {"$set": {"distributed.status": True, "look_again": False}})
    assert daemon.due() == {NIGHT: "candidates"}


def test_nights_that_an_earlier_version_settled_keep_their_choice(night: Store) -> None:
    daemon = Daemon(night)
    done = {"state": "done", "inputs": {"observations": "old"}}
    night.nights.set_fields(NIGHT, {"science.signature": "old", "psflib.steps.candidates": done})
    for name in (FIRST, SECOND):
        daemon.run(name, REDUCE)
        daemon.run(name, SUBTRACT)
    night.nights.set_fields(NIGHT, {"science": {"signature": "old"}, "summary.steps.plot": done})
    night.observations.collection.update_many({}, {"$set": {"distributed.status": True, "look_again": False}})
    night.nights.carry_over_choices(daemon.queue.giving_steps)
    assert daemon.due() == {}

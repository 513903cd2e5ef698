"""What the database knows of the PSF library, and what the end of a night's science means, on a real MongoDB."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Night, Observation, utc_now
from obsarchive.core.rules import compile_rule
from obsarchive.core.step_state import State
from obsarchive.daemon.psf_library_sync import PsfLibrarySync
from obsarchive.daemon.step_effects import StepEffects
from obsarchive.daemon.tasks import ActiveTask
from obsarchive.daemon.work_queue import WorkQueue
from obsarchive.execution.work import ResultState, StepResult
from obsarchive.io.psf_library import Entry, PsfLibrary, changed
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.store import StepUpdate, Store
from tests.leases import archive_on

NIGHT = "20260314"
STAR, TARGET, OTHER = (f"3_{name}_VIC_Si_o_20260314_0{i}0000.000000" for i, name in enumerate(("star", "aim", "far")))


class Subtracting(Pipeline):
    name = "subtracting"

    @step(makes=["residual.fits"], uses=["library"])
    def subtract(self, work: Workspace) -> dict[str, Any]:
        return {}


class Summary(Pipeline):
    name = "psflib"
    scope = "night"
    folder = "summary"
    follows_science = True

    @step(makes=[], uses=["observations"])
    def candidates(self, work: Workspace) -> dict[str, Any]:
        return {}


CHAIN = [ChainEntry(Subtracting(), compile_rule("True"), {}, {})]
NIGHT_CHAIN = [ChainEntry(Summary(), compile_rule("True"), {}, {})]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def library_sync(store: Store, layout: Layout) -> PsfLibrarySync:
    store.nights.touch(NIGHT)
    for name, results in ((TARGET, {"lacks_references": "any"}), (OTHER, {"references": [STAR]}), (STAR, {})):
        record = {"state": "done", "results": results, "finished": utc_now()}
        pipelined = {"subtracting": {"steps": {"subtract": record}}}
        document = {"_id": name, "night": NIGHT, "pipelined": pipelined, "distributed": {"status": True}}
        document |= {"telescope": "KPNO", "filter": "Si"}
        store.observations.insert(document)
    found = PsfLibrarySync(store, layout, CHAIN)
    found.look()
    settle(store)
    return found


def settle(store: Store) -> None:
    store.database["objects"].update_many({}, {"$set": {"look_again": False}})


def add(layout: Layout, name: str, band: str = "Si") -> None:
    with changed(layout) as library:
        library.add(Entry(name, NIGHT, "KPNO", band, "100p", 0.017), np.ones((3, 3), np.float32), "auto")


def remove(layout: Layout, name: str) -> None:
    with changed(layout) as library:
        library.remove(name, "administrator")


def looked_at(store: Store) -> set[str]:
    return {observation.id for observation in store.observations.open(["subtracting"])}


def psf_lib(store: Store) -> list[dict[str, Any]] | None:
    return store.nights.find(NIGHT).get("psf_lib")


def offer(store: Store, *names: str) -> None:
    candidates = [{"observation": name, "filter": "Si", "reason": "", "added": True} for name in names]
    assert store.nights.claim(NIGHT, ("psflib", "candidates"), "task", "run")
    manifest = {"results": {"candidates": candidates}}
    store.nights.finish(NIGHT, ("psflib", "candidates"), "task", StepUpdate(State.DONE, "", manifest))


def test_those_who_lacked_references_are_looked_at_when_the_library_changes(store, layout, library_sync):
    add(layout, STAR)
    library_sync.look()
    assert looked_at(store) == {TARGET}
    assert library_sync.library.members == {STAR}
    settle(store)
    library_sync.look()
    assert looked_at(store) == set()


def test_a_star_of_another_filter_is_no_news_for_them(store, layout, library_sync):
    add(layout, STAR, "Sz")
    library_sync.look()
    assert looked_at(store) == set()


def test_a_start_looks_again_only_if_the_library_changed_since_the_last_run(store, layout, library_sync):
    store.lease.take("run", archive_on("host"), "host", 60.0)
    add(layout, STAR)
    library_sync.look()
    settle(store)
    PsfLibrarySync(store, layout, CHAIN).look()
    assert looked_at(store) == set()
    remove(layout, STAR)
    PsfLibrarySync(store, layout, CHAIN).look()
    assert looked_at(store) == {TARGET, OTHER}


def test_those_who_used_a_star_that_was_removed_are_looked_at(store, layout, library_sync):
    add(layout, STAR)
    library_sync.look()
    settle(store)
    remove(layout, STAR)
    library_sync.look()
    assert looked_at(store) == {TARGET, OTHER}


def test_a_star_removed_while_nobody_watched_counts_too(store, layout, library_sync):
    add(layout, STAR)
    remove(layout, STAR)
    PsfLibrarySync(store, layout, CHAIN).look()
    assert looked_at(store) == {TARGET, OTHER}


def test_a_night_says_what_became_of_its_stars(store, layout, library_sync):
    add(layout, STAR)
    offer(store, STAR, TARGET)
    library_sync.look()
    assert [(line["observation"], line["state"], line["added_by"]) for line in psf_lib(store)] == [
        (STAR, "in library", "auto"),
        (TARGET, "not in library", None),
    ]
    remove(layout, STAR)
    library_sync.look()
    assert [line["state"] for line in psf_lib(store)] == ["removed", "not in library"]


def test_psf_lib_may_be_unset_at_any_time(store, layout, library_sync):
    add(layout, STAR)
    offer(store, STAR)
    library_sync.look()
    before = psf_lib(store)
    store.database["aux"].update_many({}, {"$unset": {"psf_lib": ""}})
    library_sync.look()
    assert psf_lib(store) == before
    assert store.nights.find(NIGHT)["psflib"]["steps"]["candidates"]["state"] == "done"


def test_a_lost_library_is_made_again(store, layout, library_sync):
    add(layout, STAR)
    offer(store, STAR)
    library_sync.look()
    layout.psf_library.unlink()
    library_sync.look()
    assert store.nights.find(NIGHT)["psflib"]["steps"]["candidates"]["state"] == "waiting"


def test_stars_that_were_removed_stay_away_from_a_library_that_was_lost(store, layout, library_sync):
    add(layout, STAR)
    add(layout, OTHER)
    remove(layout, OTHER)
    before = PsfLibrary.read(layout)
    layout.psf_library.unlink()
    for name in (OTHER, STAR):
        add(layout, name)
    again = PsfLibrary.read(layout)
    assert str(again.removed) == str(before.removed)  # not a number is never equal
    assert [entry.observation for entry in again.entries] == [STAR]


def test_stars_that_a_night_has_just_given_are_not_taken_for_lost(store, layout, library_sync):
    """The first night of an archive makes the library: it is read again before anything is concluded from it."""
    add(layout, STAR)
    offer(store, STAR)
    effects = StepEffects(store, library_sync)
    night, link = Night(store.nights.find(NIGHT)), NIGHT_CHAIN[0]
    running = ActiveTask(Night({"_id": NIGHT}), store.nights, link, link.pipeline.steps["candidates"])
    effects.after(running, link, night, StepResult("task", ResultState.DONE, "", {}))
    assert [line["state"] for line in psf_lib(store)] == ["in library"]
    assert store.nights.find(NIGHT)["psflib"]["steps"]["candidates"]["state"] == "done"
    assert looked_at(store) == {TARGET}


def test_references_are_counted_without_the_star_itself(store, layout, library_sync):
    add(layout, STAR)
    add(layout, OTHER)
    remove(layout, OTHER)
    library_sync.look()
    library = library_sync.library
    fields = {"telescope": "KPNO", "filter": "Si", "night": NIGHT}
    star, target = (Observation({"_id": name, **fields}) for name in (STAR, TARGET))
    assert (library.count(star), library.count(target)) == (0, 1)
    assert library.signature(star) == "none none"
    assert library.signature(target) == library.former_signature(star) != "none none"
    assert library.known == {STAR, OTHER}


def test_a_damaged_library_does_not_stop_the_daemon(store, layout, library_sync, caplog):
    layout.psf_library.write_bytes(b"nonsense")
    library_sync.look()
    library_sync.look()
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


# ------------------------------------------------------------------------------------- when science has come to an end


def due(queue: WorkQueue) -> bool:
    """Whether the turn of the night's summary has come."""
    nights = [subject for subject, _ in queue.subjects() if subject.id == NIGHT]
    return bool(queue.chain_now(nights[0]))


def test_summaries_wait_until_nothing_is_due_for_the_observations(store, layout, library_sync):
    queue = WorkQueue(store, CHAIN, NIGHT_CHAIN, max_retries=3)
    store.observations.set_fields(TARGET, {"distributed.status": False})
    assert not due(queue)
    store.observations.set_fields(TARGET, {"distributed.status": True})
    assert due(queue)
    found = store.nights.find(NIGHT)["science"]["signature"]
    store.nights.unsettle(NIGHT)
    store.observations.set_fields(TARGET, {"look_again": True})
    assert not due(queue)
    settle(store)
    assert due(queue)
    assert store.nights.find(NIGHT)["science"]["signature"] == found  # nothing new was found
    store.observations.set_fields(TARGET, {"pipelined.subtracting.steps.subtract.finished": utc_now()})
    store.nights.unsettle(NIGHT)
    assert due(queue)
    assert store.nights.find(NIGHT)["science"]["signature"] == found  # the same results again are no news
    store.observations.set_fields(TARGET, {"pipelined.subtracting.steps.subtract.results.references": [STAR]})
    store.nights.unsettle(NIGHT)
    assert due(queue)
    assert store.nights.find(NIGHT)["science"]["signature"] != found


def test_an_amended_product_is_known_by_its_new_size(store, library_sync):
    products = "pipelined.subtracting.steps.subtract.products"
    store.observations.set_fields(TARGET, {products: [{"name": "a.fits", "bytes": 1}, {"name": "b.fits", "bytes": 2}]})
    amended = {"pipeline": "subtracting", "step": "subtract", "name": "b.fits", "bytes": 5, "sha256": "abc"}
    store.observations.amend_product(TARGET, amended)
    found = store.observations.find(TARGET)["pipelined"]["subtracting"]["steps"]["subtract"]["products"]
    assert found == [{"name": "a.fits", "bytes": 1}, {"name": "b.fits", "bytes": 5, "sha256": "abc"}]

"""The contract of the database, on a real MongoDB: who may change what, and what survives."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obsarchive.core.documents import Observation, utc_now
from obsarchive.core.step_state import MOVES, State, after
from obsarchive.database.embedded_mongod import Server
from obsarchive.errors import ServiceUnavailable
from obsarchive.store import Observations, StepUpdate, Store, outage_as_error, redacted
from tests.leases import archive_on
from tests.sample_pipelines import Toy

OBS = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
OTHER = OBS.replace("Yrsa", "Ida")
NIGHT = "20160925"
WRITE, COPY = ("toy", "write"), ("toy", "copy")
DONE = StepUpdate(State.DONE)


@pytest.fixture
def records(store: Store) -> Observations:
    for name in (OBS, OTHER):
        document = {"_id": name, "night": NIGHT, "science_program": {"program_id": "4", "program_PI": ["admin"]}}
        store.observations.insert(document)
    return store.observations


def read(records: Observations, name: str = OBS) -> Observation:
    return Observation(records.find(name))


def state(records: Observations, path: tuple[str, str] = WRITE) -> State:
    return read(records).pipeline(path[0]).step(path[1]).state


def status(records: Observations, pipeline: str = "toy") -> dict[str, Any]:
    return read(records).document["pipelined"][pipeline]["status"]


def in_threads(action: Callable[[int], Any], times: int = 8) -> list[Any]:
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(action, range(times)))


# ------------------------------------------------------------------------------------- claims and endings


def test_a_claim_is_given_once_whoever_asks(records):
    claims = in_threads(lambda n: records.claim(OBS, WRITE, f"t{n}", "run"))
    assert sum(claims) == 1
    assert read(records).pipeline("toy").step("write").task == f"t{claims.index(True)}"
    assert status(records) == {"enqueued": True, "done": False}


def test_one_step_of_a_pipeline_at_a_time(records):
    claims = in_threads(lambda n: records.claim(OBS, (WRITE, COPY)[n % 2], f"t{n}", "run"))
    assert sum(claims) == 1
    assert records.claim(OTHER, WRITE, "other", "run")


def test_an_unknown_observation_cannot_be_claimed(records):
    assert not records.claim("nothing", WRITE, "t", "run")
    assert records.find("nothing") is None


def test_the_ending_of_a_claim(records):
    records.claim(OBS, WRITE, "t1", "run")
    manifest = {
        "results": {"ratio_percent": 12.5},
        "products": [{"name": "a", "bytes": 1}],
        "inputs": {"science": "ab"},
        "version": "1",
        "classified_as": "faint",
        "log": ["not kept here"],
        "started": "2016-09-25T11:00:00.123+00:00",
        "finished": "2016-09-25T11:01:00.456+00:00",
    }
    document = records.finish(OBS, WRITE, "t1", StepUpdate(State.DONE, "", manifest))
    step = Observation(document).pipeline("toy").step("write")
    assert (step.state, step.task, step.results) == (State.DONE, None, {"ratio_percent": 12.5})
    assert step.finished.isoformat(timespec="milliseconds") == manifest["finished"]
    assert read(records).pipeline("toy").classified_as == "faint"
    stored = document["pipelined"]["toy"]["steps"]["write"]
    assert {"log", "run", "claimed", "task"}.isdisjoint(stored)
    assert status(records)["enqueued"] is False


def test_a_superseded_task_changes_nothing(records):
    records.claim(OBS, WRITE, "old", "dead")
    records.release([WRITE], not_run="new run")
    records.claim(OBS, WRITE, "new", "new run")
    before = records.find(OBS)
    assert records.finish(OBS, WRITE, "old", StepUpdate(State.FAILED, "late")) is None
    assert records.find(OBS) == before
    assert records.finish(OBS, WRITE, "new", DONE) is not None
    assert records.finish(OBS, WRITE, "new", StepUpdate(State.FAILED, "again")) is None
    assert state(records) is State.DONE


def test_failures_are_counted_until_something_ends_well(records):
    for wanted in (1, 2):
        records.claim(OBS, WRITE, f"t{wanted}", "run")
        later = utc_now() + timedelta(seconds=30)
        records.finish(OBS, WRITE, f"t{wanted}", StepUpdate(State.FAILED, "the disk sulks", {}, later))
        step = read(records).pipeline("toy").step("write")
        assert (step.state, step.retries, step.message, step.not_before) == (
            State.FAILED,
            wanted,
            "the disk sulks",
            later,
        )
    records.claim(OBS, WRITE, "t3", "run")
    records.finish(OBS, WRITE, "t3", DONE)
    step = read(records).pipeline("toy").step("write")
    assert (step.retries, step.message, step.not_before) == (0, "", None)
    assert status(records)["retries"] == 0


def test_a_release_is_no_attempt(records):
    records.claim(OBS, WRITE, "t1", "run")
    records.finish(OBS, WRITE, "t1", StepUpdate(State.WAITING, "no master dark yet"))
    step = read(records).pipeline("toy").step("write")
    assert (step.state, step.retries, step.message) == (State.WAITING, 0, "no master dark yet")


@pytest.mark.parametrize("ended", [State.DONE, State.FAILED, State.REJECTED])
def test_what_ended_can_wait_again(records, ended):
    assert not records.invalidate(OBS, WRITE)
    records.claim(OBS, WRITE, "t1", "run")
    assert not records.invalidate(OBS, WRITE)
    records.finish(OBS, WRITE, "t1", StepUpdate(ended, "why"))
    assert sum(in_threads(lambda _: records.invalidate(OBS, WRITE), 4)) == 1
    assert (state(records), read(records).pipeline("toy").step("write").retries) == (State.WAITING, 0)


events = st.sampled_from(["claim", "succeed", "fail", "reject", "release", "invalidate"])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(events, max_size=12))
def test_the_book_moves_as_the_table_of_states_says(store, sequence):
    name = f"observation {utc_now().timestamp()} {id(sequence)}"
    records = store.observations
    records.insert({"_id": name})
    truth = State.WAITING
    for event in sequence:
        if event == "claim":
            moved = records.claim(name, WRITE, "t", "run")
        elif event == "invalidate":
            moved = records.invalidate(name, WRITE)
        else:
            ending = StepUpdate(MOVES[State.ENQUEUED, event])
            moved = records.finish(name, WRITE, "t", ending) is not None
            records.effects_applied(name)
        assert moved == ((truth, event) in MOVES)
        truth = after(truth, event) if moved else truth
        document = Observation(records.find(name))
        assert document.pipeline("toy").step("write").state is truth
        assert document.document.get("pipelined", {}).get("toy", {}).get("status", {}).get("enqueued", False) == (
            truth is State.ENQUEUED
        )


def test_release_gives_back_the_claims_of_one_run_or_of_all_others(records):
    records.claim(OBS, WRITE, "t1", "mine")
    records.claim(OTHER, WRITE, "t2", "dead")
    assert records.release([WRITE, COPY], run="nobody's") == 0
    assert records.release([WRITE, COPY], not_run="mine") == 1
    assert state(records) is State.ENQUEUED
    assert read(records, OTHER).pipeline("toy").step("write").state is State.WAITING
    assert records.claim(OTHER, WRITE, "t3", "mine")
    assert records.release([WRITE, COPY], run="mine") == 2
    assert records.claim(OBS, COPY, "t4", "mine")


# ------------------------------------------------------------------------------------- people's wishes


def test_a_wish_made_during_a_run_survives_it(records):
    records.claim(OBS, WRITE, "t1", "run")
    assert records.request_redo(OBS, "toy")
    assert not records.apply_redo(OBS, "toy", Toy.steps)
    records.finish(OBS, WRITE, "t1", DONE)
    records.set_done(OBS, "toy", True)
    assert read(records).pipeline("toy").force_redo
    assert [granted for granted in in_threads(lambda _: records.apply_redo(OBS, "toy", Toy.steps), 4) if granted] == [
        True
    ]
    assert not read(records).pipeline("toy").force_redo
    assert status(records)["done"] is False
    assert all(step.state is State.WAITING for step in read(records).pipeline("toy").steps().values())


TRUE_BY_HAND = (True, 1, 1.0, "true", "Yes")
FALSE_BY_HAND = (False, 0, "false", "", None, 2, {})


@pytest.mark.parametrize(
    ("typed", "is_request"), [*((value, True) for value in TRUE_BY_HAND), *((value, False) for value in FALSE_BY_HAND)]
)
def test_a_request_counts_alike_wherever_it_is_read(records, typed, is_request):
    """What people type by hand, or a graphical client makes of it."""
    records.set_fields(OBS, {"pipelined.toy.status.force_redo": typed, "distributed.status": True})
    assert read(records).pipeline("toy").force_redo is is_request
    assert (OBS in [found.id for found in records.open(["toy"])]) is is_request
    assert records.apply_redo(OBS, "toy", Toy.steps) is is_request
    assert not read(records).pipeline("toy").force_redo


@pytest.mark.parametrize("typed", [False, 0, "false", "true", None])
def test_only_what_the_daemon_writes_means_packed(records, typed):
    records.set_fields(OBS, {"distributed.status": typed})
    assert not read(records).packed
    assert OBS in [found.id for found in records.open(["toy"])]


def test_a_wish_for_a_pipeline_that_never_ran(records):
    assert records.request_redo(OBS, "faint_star")
    assert records.apply_redo(OBS, "faint_star", ["reduce", "strehl"])
    assert records.claim(OBS, ("faint_star", "reduce"), "t", "run")


def test_wishes_for_what_there_is_not_are_refused(records):
    assert not records.request_redo("nothing", "toy")
    assert not records.request_step_redo(OBS, WRITE)
    assert not records.apply_redo(OBS, "toy", Toy.steps)


def test_a_wish_for_one_step(records):
    records.claim(OBS, WRITE, "t1", "run")
    assert not records.request_step_redo(OBS, WRITE)
    records.finish(OBS, WRITE, "t1", StepUpdate(State.REJECTED, "no guide star"))
    assert records.request_step_redo(OBS, WRITE)
    assert read(records).pipeline("toy").step("write").redo
    assert OBS in [found.id for found in records.open(["toy"])]
    assert records.invalidate(OBS, WRITE)
    assert not read(records).pipeline("toy").step("write").redo


def test_a_redo_of_everything_includes_the_one_step_asked_for(records):
    """Otherwise that step would run twice."""
    records.claim(OBS, WRITE, "t1", "run")
    records.finish(OBS, WRITE, "t1", DONE)
    records.request_step_redo(OBS, WRITE)
    records.request_redo(OBS, "toy")
    records.apply_redo(OBS, "toy", Toy.steps)
    assert not read(records).pipeline("toy").step("write").redo


# ------------------------------------------------------------------------------------- packing


def test_packed_unless_somebody_asked_again_meanwhile(records):
    asked = utc_now()
    records.set_fields(OBS, {"distributed": {"status": False, "last_modified": asked}})
    records.set_fields(OBS, {"distributed.last_modified": asked + timedelta(milliseconds=1)})
    assert not records.set_packed(OBS, asked, {"distributed.bytes": 3})
    assert not read(records).packed
    assert records.set_packed(OBS, asked + timedelta(milliseconds=1), {"distributed.bytes": 3})
    assert read(records).packed


def test_packed_where_nobody_ever_asked(records):
    assert records.set_packed(OBS, None, {})
    assert read(records).packed


def test_a_wish_made_while_packing_is_still_looked_at(records):
    records.claim(OBS, WRITE, "t1", "run")
    records.finish(OBS, WRITE, "t1", DONE)
    records.set_fields(OBS, {"look_again": False})
    records.request_step_redo(OBS, WRITE)
    assert records.set_packed(OBS, None, {})
    assert OBS in [found.id for found in records.open(["toy"])]


def test_products_made_again_are_packed_again(records):
    records.set_packed(OBS, None, {})
    records.claim(OBS, WRITE, "t1", "run")
    records.finish(OBS, WRITE, "t1", DONE)
    assert not read(records).packed


def test_what_is_packed_and_settled_is_not_looked_at(records):
    for name in (OBS, OTHER):
        records.set_packed(name, None, {})
        records.set_fields(name, {"look_again": False})
    assert list(records.open(["toy"])) == []
    records.reopen_night(NIGHT)
    assert [found.id for found in records.open(["toy"], [NIGHT])] == sorted([OBS, OTHER])
    assert list(records.open(["toy"], ["20160924"])) == []


# ------------------------------------------------------------------------------------- the documented shell commands


def test_mark_all_observations_as_not_distributed(records):
    for name in (OBS, OTHER):
        records.set_packed(name, None, {})
    records.collection.update_many({}, {"$set": {"distributed.status": False, "distributed.last_modified": utc_now()}})
    assert {found.id for found in records.open(["toy"])} == {OBS, OTHER}
    assert not records.set_packed(OBS, None, {})  # a packing that had begun before


def test_force_a_pipeline_on_a_target(records):
    records.set_packed(OBS, None, {})
    records.collection.update_one(
        {"_id": OBS},
        {"$set": {"pipelined.toy.status.force_redo": True, "pipelined.toy.last_modified": utc_now()}},
    )
    found = [found for found in records.open(["toy"]) if found.id == OBS]
    assert found[0].pipeline("toy").force_redo
    assert records.apply_redo(OBS, "toy", Toy.steps)


def test_change_the_owner_of_a_programme(records):
    records.collection.update_many(
        {"science_program.program_id": "4"}, {"$set": {"science_program.program_PI": "asteroids"}}
    )
    records.claim(OBS, WRITE, "t", "run")
    document = records.finish(OBS, WRITE, "t", DONE)
    assert document["science_program"] == {"program_id": "4", "program_PI": "asteroids"}


def test_remove_the_psf_library(store):
    store.nights.touch(NIGHT)
    store.nights.set_fields(NIGHT, {"psf_lib": [{"observation": OBS}], "calib": {"steps": {}}})
    store.nights.collection.update_many({}, {"$unset": {"psf_lib": ""}})
    [night] = store.nights.all()
    assert "psf_lib" not in night.document
    assert night.pipeline("calib").steps() == {}


# ------------------------------------------------------------------------------------- nights, jobs, the lease


def test_a_night_is_a_book_of_its_own(store):
    store.nights.touch(NIGHT)
    store.nights.set_fields(NIGHT, {"comment": "clouds"})
    store.nights.touch(NIGHT)
    assert store.nights.claim(NIGHT, ("calib", "darks"), "t", "run")
    document = store.nights.finish(NIGHT, ("calib", "darks"), "t", DONE)
    assert document["calib"]["steps"]["darks"]["state"] == "done"
    assert (document["comment"], "distributed" in document) == ("clouds", False)


def test_inserting_twice_keeps_the_first(records):
    assert not records.insert({"_id": OBS, "night": "20000101"})
    assert read(records).night == NIGHT


def test_owners_of_a_programme(store):
    assert store.users.owners("4") == ["admin"]
    store.users.save("ida", {"programs": ["4", "5"]})
    assert store.users.owners("4") == ["ida"]


def test_attempts_of_dead_runs_are_closed(store):
    for task, run in (("t1", "dead"), ("t2", "mine")):
        store.jobs.start({"_id": task, "run": run})
    store.jobs.close_run(not_run="mine")
    assert {job["_id"]: job["state"] for job in store.jobs.recent()} == {"t1": "released", "t2": "enqueued"}
    assert [job["_id"] for job in store.jobs.recent("released")] == ["t1"]


def test_telemetry_is_the_last_one(store):
    assert store.jobs.daemon() is None
    store.jobs.report({"state": "working", "running": [1]})
    store.jobs.report({"state": "idle"})
    assert store.jobs.daemon() == {"_id": "daemon", "state": "idle"}


def test_the_lease_has_one_holder(store):
    fences = in_threads(lambda n: store.lease.take(f"run{n}", archive_on(f"host{n}"), f"host{n}, process 1", 60.0))
    [fence] = [fence for fence in fences if fence is not None]
    winner = fences.index(fence)
    assert store.lease.holder() == f"host{winner}, process 1"
    assert store.lease.renew(f"run{winner}", 60.0)
    assert not store.lease.renew("another", 60.0)


def test_an_expired_lease_is_taken_over_and_its_holder_notices(store):
    first = store.lease.take("one", archive_on("here"), "here, process 1", -1.0)
    second = store.lease.take("two", archive_on("there"), "there, process 2", 60.0)
    assert second == first + 1
    assert not store.lease.renew("one", 60.0)
    store.lease.give_back("one")  # too late: it is not its own any more
    assert store.lease.take("three", archive_on("elsewhere"), "elsewhere, process 3", 60.0) is None


def test_a_lease_given_back_is_free_and_the_same_host_may_follow_itself(store):
    store.lease.take("one", archive_on("here"), "", 60.0)
    assert store.lease.take("two", archive_on("here"), "", 60.0) is not None
    store.lease.give_back("two")
    assert store.lease.take("three", archive_on("there"), "", 60.0) is not None


def test_a_database_is_that_of_one_archive(store):
    """Each archive is locked by its own daemon, so on one host only that says whether a holder of the lease lives."""
    lease = store.lease
    assert lease.archive() is None
    lease.take("one", archive_on("here"), "", 60.0)
    assert lease.archive() == archive_on("here")
    assert lease.take("copy", archive_on("here", "/copy"), "", 60.0) is None
    lease.give_back("one")
    assert lease.take("other", archive_on("here", "/other", "other"), "", 60.0) is None
    assert lease.take("moved", archive_on("there", "/moved"), "", 60.0) is not None
    assert lease.archive() == archive_on("there", "/moved")


# ------------------------------------------------------------------------------------- the whole


def test_indexes_can_be_made_again_and_serve_the_sky(store, records):
    for _ in range(2):
        store.ensure_indexes([("toy", "reduce"), ("faint_star", "reduce")])
    point = {"type": "Point", "coordinates": [-53.9, -8.5]}
    records.set_fields(OBS, {"coordinates": {"geojson": point}})
    near = {"coordinates.geojson": {"$geoWithin": {"$centerSphere": [[-54.0, -8.5], 0.01]}}}
    assert [found["_id"] for found in records.collection.find(near)] == [OBS]


def test_a_database_that_is_not_there():
    with pytest.raises(ServiceUnavailable, match=r"mongodb://127\.0\.0\.1:1 cannot be used") as failure:
        Store("mongodb://dome:azimuth@127.0.0.1:1", "archiver", timeout_s=0.2)
    assert "azimuth" not in str(failure.value)


def test_wrong_credentials(mongo_server: Server):
    _, _, address = mongo_server.uri.rpartition("@")
    with pytest.raises(ServiceUnavailable, match="Authentication failed"):
        Store(f"mongodb://dome:azimuth@{address}", "archiver", timeout_s=5.0)


def test_addresses_are_told_without_passwords():
    assert redacted("mongodb://a:b@c:1/?x=y") == "mongodb://c:1/?x=y"
    assert redacted("mongodb+srv://host") == "mongodb+srv://host"


def test_what_takes_the_server_too_long_is_an_outage(store):
    store.database["objects"].insert_many([{"n": n} for n in range(200)])
    endless = {"$where": "for (let i = 0; i < 1e7; i++) {} return true"}
    with pytest.raises(ServiceUnavailable, match="broke off"), outage_as_error():
        list(store.database["objects"].find(endless).max_time_ms(20))

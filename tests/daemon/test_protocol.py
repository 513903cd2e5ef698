"""Outages between the parts of one act of the daemon: nothing is stuck, nothing is half done."""

import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Observation, utc_now
from obsarchive.daemon import active_tasks, scheduler
from obsarchive.daemon.leader import LEASE_S, LeaderLock
from obsarchive.daemon.requests import Requests
from obsarchive.daemon.scheduler import Options, Scheduler
from obsarchive.database.connect import open_database
from obsarchive.errors import ConfigError, NotLeader, ServiceUnavailable
from obsarchive.execution.cluster import Cluster
from obsarchive.execution.step_process import ResultState, StepResult
from obsarchive.pipeline.chain import decision_chain
from obsarchive.store import StepUpdate, Store
from tests.daemon.conftest import NIGHT, Site, states
from tests.leases import archive_on

PATIENCE_S = 240.0  # of a busy machine
EVERY_STEP = {"write": "done", "copy": "done", "look": "done"}


@pytest.fixture
def daemon(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scheduler]:
    """A daemon of this process, with a plain pipeline, on a database and workers that run already."""
    monkeypatch.setattr(scheduler, "OUTAGE_PAUSE_S", 0.05)
    site.change(pipelines=[{"class": "tests.sample_pipelines.Toy"}])
    with open_database(site.config) as opened:
        cluster = Cluster(site.config.parallel, site.config.paths.tmp)
        yield Scheduler(site.config, opened, cluster, Options(once=True))


def run(daemon: Scheduler) -> None:
    """Let it work until nothing is due; that must come."""
    watchdog = threading.Timer(PATIENCE_S, daemon.stop)
    watchdog.start()
    try:
        daemon.run()
        assert not daemon.stopping.is_set(), "a step is stuck"
    finally:
        watchdog.cancel()


def all_is_done(daemon: Scheduler) -> None:
    for observation in daemon.store.observations.of_night(NIGHT):
        toy = observation.pipeline("toy")
        assert {name: str(record.state) for name, record in toy.steps().items()} == EVERY_STEP
        assert toy.document["status"]["done"] is True
        assert observation.packed
        assert "effects_due" not in observation.document


def failing(act: Callable[..., Any], numbers: set[int], *, after: bool) -> Callable[..., Any]:
    """Return an act during which the database goes away, some of the times: before it, or before its answer came."""
    calls = iter(range(1, 10**6))

    def act_in_an_outage(*arguments: Any, **options: Any) -> Any:
        number = next(calls)
        if number in numbers and not after:
            raise AutoReconnect("connection closed")
        answer = act(*arguments, **options)
        if number in numbers:
            raise AutoReconnect("connection closed")
        return answer

    return act_in_an_outage


@pytest.mark.parametrize("after", [False, True], ids=["before it", "before its answer"])
def test_outages_within_every_act(daemon: Scheduler, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    acts = {
        daemon.store.observations: ("claim", "finish", "effects_applied", "set_done", "set_packed"),
        daemon.store.jobs: ("start", "update"),
    }
    numbers = cycle([1, 2, 3, 5])
    for place, names in acts.items():
        for name in names:
            often = {next(numbers), next(numbers), 7}
            monkeypatch.setattr(place, name, failing(getattr(place, name), often, after=after))
    run(daemon)
    all_is_done(daemon)


def test_a_document_that_makes_no_task_keeps_no_claim(daemon: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure between the claim and the submission gives the claim back: the next look tries again."""
    make_task, failures = active_tasks.make_task, iter([ValueError("odd"), OSError("no descriptor left")])

    def odd_at_first(*arguments: Any) -> Any:
        if (failure := next(failures, None)) is not None:
            raise failure
        return make_task(*arguments)

    monkeypatch.setattr(active_tasks, "make_task", odd_at_first)
    run(daemon)
    all_is_done(daemon)


def test_effects_of_a_result_are_completed_by_the_next_run(daemon: Scheduler) -> None:
    """A daemon was killed after the end of a pipeline's last step was recorded, and before anything followed."""
    run(daemon)
    store = daemon.store
    observation = next(iter(store.observations.of_night(NIGHT)))
    store.observations.set_done(observation.id, "toy", False)
    store.observations.invalidate(observation.id, ("toy", "look"))
    assert store.observations.claim(observation.id, ("toy", "look"), "task", "former run")
    result = StepResult("task", ResultState.DONE, "", {})
    assert store.observations.finish(observation.id, ("toy", "look"), "task", StepUpdate(result.state, "", {}))
    store.nights.set_fields(NIGHT, {"science.signature": "made from what was before"})
    daemon._take_up()
    found = Observation(store.observations.find(observation.id))
    assert found.pipeline("toy").document["status"]["done"] is True
    assert "effects_due" not in found.document
    assert store.nights.find(NIGHT)["science"]["signature"] == ""
    assert set(states(store).values()) == {"done"}


def test_owners_that_change_while_a_request_is_applied_are_not_lost(
    store: Store, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = site.observation("HIP_1")
    store.observations.insert({"_id": name, "science_program": {"program_id": "3", "program_PI": ["ana"]}})
    requests = Requests(store, Layout(site.config.paths.archive), decision_chain(site.config))
    store.users.add("ana", {"programs": ["3"]})
    assert store.requests.ask("owners", "grace", {"program": "3"})
    owners = store.users.owners

    def change_after_they_were_read(program: str) -> list[str]:
        read = owners(program)
        monkeypatch.setattr(store.users, "owners", owners)
        store.users.add("ben", {"programs": ["3"]})
        store.requests.ask("owners", "grace", {"program": "3"})
        return read

    monkeypatch.setattr(store.users, "owners", change_after_they_were_read)
    requests.apply()
    requests.apply()
    assert store.requests.waiting() == []
    assert store.observations.find(name)["science_program"]["program_PI"] == ["ana", "ben"]


def test_a_leader_that_was_frozen_claims_nothing_before_it_knows(
    store: Store, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LeaderLock(Layout(site.config.paths.archive), store, "run") as leader:
        assert leader.is_certain
        now = leader._renewed
        monkeypatch.setattr("obsarchive.daemon.leader.time.monotonic", lambda: now + LEASE_S)
        assert not leader.is_certain
        leader.confirm()
        assert leader.is_certain
        assert not leader.has_lost_database


def test_an_archive_with_the_database_of_another_one_is_refused(store: Store, tmp_path: Path) -> None:
    """As where a configuration was copied and its database forgotten: one's nights would be taken for the other's."""
    one, other = Layout(tmp_path / "one"), Layout(tmp_path / "other")
    with LeaderLock(one, store, "run"):
        pass
    for _ in range(2):  # also with an identifier of its own
        with pytest.raises(ConfigError, match=f"that of the archive {one.root} on .*database.db") as refused:
            LeaderLock(other, store, "another run").__enter__()
    assert f"write {one.identifier.read_text().strip()} into {other.identifier}" in str(refused.value)
    other.identifier.write_text(one.identifier.read_text())
    with LeaderLock(other, store, "another run"), pytest.raises(NotLeader, match="another daemon holds"):
        LeaderLock(one, store, "run").__enter__()


def test_an_archive_that_was_moved_or_emptied_keeps_its_database(store: Store, tmp_path: Path) -> None:
    former, moved = Layout(tmp_path / "former"), Layout(tmp_path / "moved")
    with LeaderLock(former, store, "run"):
        identifier = former.identifier.read_text()
    former.root.rename(moved.root)
    with LeaderLock(moved, store, "run"):
        pass
    shutil.rmtree(moved.root)
    with LeaderLock(moved, store, "run"):
        assert moved.identifier.read_text() == identifier


def test_the_clock_of_the_server_decides_when_a_lease_runs_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of a host may be wrong by hours: it takes no lease that is held, and holds none for ever."""
    assert store.lease.take("a", archive_on("host a"), "a", 60.0) == 1
    monkeypatch.setattr("obsarchive.store.jobs.utc_now", lambda: utc_now() + timedelta(hours=5))
    assert store.lease.take("b", archive_on("host b"), "b", 0.0) is None
    monkeypatch.setattr("obsarchive.store.jobs.utc_now", lambda: utc_now() - timedelta(hours=5))
    assert store.lease.renew("a", 0.001)
    deadline = threading.Event()
    deadline.wait(0.1)
    assert store.lease.take("b", archive_on("host b"), "b", 60.0) == 2
    assert store.lease.holder() == "b"


def test_steps_begun_before_the_loss_of_the_database_is_noticed_are_done(daemon, monkeypatch) -> None:
    """The emptied database is filled again by raw files that arrive; what was claimed then is this run's own."""
    cycle, begun = daemon.cycle, []

    def noticed_late() -> None:
        cycle()
        if not begun and daemon.tasks:
            begun.extend(daemon.tasks.subjects())
            daemon._start_over()

    monkeypatch.setattr(daemon, "cycle", noticed_late)
    run(daemon)
    assert begun
    all_is_done(daemon)


def test_a_lost_database_is_rebuilt_although_the_first_attempt_fails(daemon, monkeypatch) -> None:
    start_over, attempts = daemon._start_over, []

    def fails_once() -> None:
        attempts.append(daemon.store.users.find("ana"))
        if len(attempts) == 1:
            raise ServiceUnavailable("the Dask cluster did not start")
        start_over()

    def drops_once() -> None:
        if not attempts:
            daemon.people.catch_up()
            daemon.store.database.client.drop_database(daemon.store.database.name)
        cycle()

    cycle = daemon.cycle
    daemon.store.users.add("ana", {"programs": ["4"]})
    monkeypatch.setattr("obsarchive.daemon.leader.RENEW_S", 0.0)
    monkeypatch.setattr(daemon, "_start_over", fails_once)
    monkeypatch.setattr(daemon, "cycle", drops_once)
    run(daemon)
    assert attempts == [None, None]
    assert daemon.store.users.find("ana")["programs"] == ["4"]
    all_is_done(daemon)

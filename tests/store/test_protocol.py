"""The protocol of claims, results, wishes and the lease on a real MongoDB, through random sequences of faults.

The moves are those of :mod:`tests.store.protocol_model`; here the database makes them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from obsarchive.core.documents import Observation, utc_now
from obsarchive.core.step_state import State
from obsarchive.store import StepUpdate, Store
from tests.leases import archive_on
from tests.sample_pipelines import Toy

WRITE = ("toy", "write")
STEPS = [WRITE, ("toy", "copy"), ("toy", "look")]
LEASE_S = 60.0
NUMBERS = count()


@dataclass
class Run:
    """A run of the daemon, with what it remembers."""

    host: str
    id: str = field(default_factory=lambda: f"run {next(NUMBERS)}")
    tasks: dict[str, int] = field(default_factory=dict)
    is_frozen: bool = False
    is_certain: bool = True


class Protocol(RuleBasedStateMachine):
    """One observation, daemons on two hosts."""

    store: Store

    @initialize()
    def begin(self) -> None:
        self.name = f"observation {next(NUMBERS)}"
        self.records, self.lease = self.store.observations, self.store.lease
        self.store.database["lease"].delete_many({})
        self.records.insert({"_id": self.name, "night": "20260314"})
        self.runs: dict[str, Run] = {}
        self.wishes = self.granted = 0
        self.recorded: dict[str, int] = {}
        self.effects: list[str] = []

    @property
    def step(self) -> dict:
        return Observation(self.records.find(self.name)).document.get("pipelined", {}).get("toy", {})

    # -- people ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.wishes < 4)
    @rule()
    def wish(self) -> None:
        assert self.records.request_redo(self.name, "toy")
        self.wishes += 1

    # -- daemons --------------------------------------------------------------------------------------------------

    @rule(host=st.sampled_from(["a", "b"]))
    def start(self, host: str) -> None:
        if host in self.runs:
            return  # the lock on the archive
        run = Run(host)
        holder = next((other for other in self.runs.values() if other.is_certain), None)
        taken = self.lease.take(run.id, archive_on(host), host, LEASE_S)
        assert (taken is None) == (holder is not None), "two masters"
        if taken is None:
            return
        self.runs[host] = run
        self.records.release(STEPS, not_run=run.id)
        for document in self.records.with_effects_due():
            if document["_id"] == self.name:
                self.apply_effects(document["effects_due"]["task"])

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), what=st.sampled_from(["freeze", "thaw", "expire", "kill", "confirm"]))
    def disturb(self, data: st.DataObject, what: str) -> None:
        run = data.draw(st.sampled_from(list(self.runs.values())))
        if what == "kill":
            del self.runs[run.host]
            self.store.database["lease"].update_one({"run": run.id}, {"$set": {"expires": utc_now() - timedelta(9)}})
        elif what == "expire" and run.is_frozen:
            run.is_certain = False
            self.store.database["lease"].update_one({"run": run.id}, {"$set": {"expires": utc_now() - timedelta(9)}})
        elif what == "confirm" and not run.is_frozen:
            run.is_certain = self.lease.renew(run.id, LEASE_S)
            if not run.is_certain:
                self.records.release(STEPS, run=run.id)
                del self.runs[run.host]
        elif what in ("freeze", "thaw"):
            run.is_frozen = what == "freeze"

    def leaders(self) -> list[Run]:
        return [run for run in self.runs.values() if not run.is_frozen and run.is_certain]

    @precondition(lambda self: self.leaders())
    @rule(is_submitted=st.sampled_from([True, True, True, False]))
    def work(self, *, is_submitted: bool) -> None:
        """Grant what is wished, claim what is due."""
        (run,) = self.leaders()
        wishes = self.wishes
        before = self.step.get("status", {})
        if self.records.apply_redo(self.name, "toy", Toy.steps):
            self.granted = wishes
            assert not before.get("enqueued"), "a wish was consumed while a step ran"
        task = f"task {next(NUMBERS)}"
        if self.records.claim(self.name, WRITE, task, run.id) and is_submitted:
            run.tasks[task] = self.granted

    @precondition(lambda self: self.leaders())
    @rule()
    def recover(self) -> None:
        (run,) = self.leaders()
        self.records.release(STEPS, run=run.id, but=list(run.tasks))

    @rule(data=st.data(), n_lost=st.integers(0, 2), state=st.sampled_from([State.DONE, State.FAILED]))
    def harvest(self, data: st.DataObject, n_lost: int, state: State) -> None:
        """A task ends; the first answers of the database are lost. The run may have lost its lease meanwhile."""
        ended = [(run, task) for run in self.runs.values() for task in run.tasks if not run.is_frozen]
        if not ended:
            return
        run, task = data.draw(st.sampled_from(ended))
        grant = run.tasks.pop(task)
        held = self.step["steps"]["write"].get("task") == task
        answers = [self.records.finish(self.name, WRITE, task, StepUpdate(state)) for _ in range(n_lost + 1)]
        assert [answer is not None for answer in answers] == [held] * (n_lost + 1)
        if held:
            assert answers[-1]["pipelined"]["toy"]["steps"]["write"]["retries"] <= len(self.recorded) + 1
            assert task not in self.recorded
            self.recorded[task] = grant
            if data.draw(st.booleans()):
                self.apply_effects(task)
            else:  # killed before them
                self.runs.pop(run.host)
                expired = {"expires": utc_now() - timedelta(9)}
                self.store.database["lease"].update_one({"run": run.id}, {"$set": expired})

    def apply_effects(self, task: str) -> None:
        self.effects.append(task)
        self.records.effects_applied(self.name)

    # -- the end --------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """After some quiet time everything is done, once, and nothing is lost."""
        if not hasattr(self, "name"):
            return
        self.runs.clear()
        self.store.database["lease"].update_one({}, {"$set": {"expires": utc_now() - timedelta(9)}})
        self.start("c")
        for _ in range(3):
            self.work(is_submitted=True)
            run = self.runs["c"]
            for task, grant in list(run.tasks.items()):
                assert self.records.finish(self.name, WRITE, task, StepUpdate(State.DONE))
                self.recorded[task] = grant
                self.apply_effects(task)
                del run.tasks[task]
        found = self.step
        assert found["steps"]["write"]["state"] == "done"
        assert not found["status"]["enqueued"]
        assert not found["status"].get("force_redo")
        assert list(self.recorded.values())[-1] == self.granted == self.wishes, "a wish was lost"
        assert self.effects == list(self.recorded), "effects of a result were lost, or came twice"


@pytest.fixture
def protocol(store: Store) -> Callable[[], Protocol]:
    Protocol.store = store
    return Protocol


def test_random_faults_on_the_real_database(protocol: Callable[[], Protocol]) -> None:
    run_state_machine_as_test(
        protocol,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )

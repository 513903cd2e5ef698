"""Outer causes are waited for with growing pauses; a step that loses its workers again and again is their cause."""

from datetime import timedelta

import pytest

from obsarchive.config.model import Daemon
from obsarchive.core.documents import StepRecord, utc_now
from obsarchive.core.step_state import State
from obsarchive.daemon.endings import LONGEST_WAIT_S, LOSSES_BORNE, PATIENCE, Delays, update_after
from obsarchive.daemon.planner import RetryPolicy
from obsarchive.execution.work import ResultState, StepResult

SETTINGS = Daemon(loop_interval_s=10.0, retry_delay_s=30.0)


def after(state: ResultState, before: StepRecord, has_begun: bool = True) -> StepRecord:
    """Return the record of a step whose task ended so."""
    update = update_after(StepResult("t", state, "why", {}), before, has_begun, {}, SETTINGS)
    return StepRecord(
        update.state, before.retries, update.waits, update.losses, message=update.message, not_before=update.not_before
    )


def test_a_step_is_to_blame_when_it_loses_its_workers_again_and_again():
    record = StepRecord()
    for number in range(LOSSES_BORNE):
        record = after(ResultState.LOST, record)
        assert (record.state, record.losses) == (State.WAITING, number + 1)
    record = after(ResultState.LOST, record)
    assert record.state is State.FAILED
    assert record.message == f"why ({LOSSES_BORNE + 1} workers were lost while they ran this step)"
    assert after(ResultState.LOST, record).state is State.FAILED  # until its retries are used up
    assert after(ResultState.DONE, record).losses == 0


def test_a_step_is_not_to_blame_for_a_worker_that_had_not_begun_with_it():
    record = StepRecord()
    for _ in range(20):
        record = after(ResultState.LOST, record, has_begun=False)
    assert (record.state, record.losses) == (State.WAITING, 0)


def test_pauses_grow_up_to_a_limit_while_an_outer_cause_lasts():
    record, pauses = StepRecord(), []
    for _ in range(40):
        record = after(ResultState.WAITING, record)
        assert record.not_before is not None
        pauses.append((record.not_before - utc_now()).total_seconds())
    assert pauses[:5] == pytest.approx([10.0, 20.0, 40.0, 80.0, 160.0], abs=0.5)
    assert pauses[-1] == pytest.approx(LONGEST_WAIT_S, abs=0.5)
    assert after(ResultState.FAILED, record).waits == 0


class Clock:
    now = 1e6

    def __call__(self) -> float:
        return self.now


def test_subjects_are_left_alone_for_longer_each_time():
    clock = Clock()
    delays = Delays(30.0, clock)
    assert not delays.holds("a")
    for pause_s in (30.0, 60.0, 120.0, 240.0, LONGEST_WAIT_S, LONGEST_WAIT_S):
        delays.delay("a")
        clock.now += pause_s - 1
        assert delays.holds("a")
        assert not delays.holds("b")
        clock.now += 1
        assert not delays.holds("a")
    delays.delay("a")
    delays.clear("a")
    assert not delays.holds("a")


def test_a_disk_that_was_away_for_days_is_tried_again_within_minutes():
    clock = Clock()
    delays = Delays(30.0, clock)
    for _ in range(2000):
        delays.delay("a")
        clock.now += LONGEST_WAIT_S
        assert not delays.holds("a")


def test_a_run_that_ends_by_itself_does_not_wait_for_ever():
    delays = Delays(30.0)
    for _ in range(PATIENCE):
        delays.delay("a")
    assert delays.hopeless == set()
    delays.delay("a")
    assert delays.hopeless == {"a"}
    delays.clear("a")
    assert delays.hopeless == set()


def test_a_time_that_a_wrong_clock_set_holds_nothing_up():
    policy = RetryPolicy(utc_now(), 3, timedelta(seconds=300))
    assert policy.allows(None)
    assert policy.allows(policy.now)
    assert not policy.allows(policy.now + timedelta(seconds=200))
    assert policy.allows(policy.now + timedelta(days=1))

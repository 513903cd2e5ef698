"""Outer causes are waited for with growing pauses; a step that loses its workers again and again is their cause."""

from datetime import timedelta

import pytest

from obsarchive.config.model import Daemon
from obsarchive.core.documents import StepRecord, utc_now
from obsarchive.core.step_state import State
from obsarchive.daemon.endings import LONGEST_WAIT_S, LOSSES_BORNE, Delays, update_after
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


def test_subjects_are_left_alone_for_longer_each_time():
    delays = Delays(1000.0)
    assert not delays.holds("a")
    delays.delay("a")
    assert delays.holds("a")
    assert not delays.holds("b")
    delays.clear("a")
    assert not delays.holds("a")


def test_a_time_that_a_wrong_clock_set_holds_nothing_up():
    policy = RetryPolicy(utc_now(), 3, timedelta(seconds=300))
    assert policy.allows(None)
    assert policy.allows(policy.now)
    assert not policy.allows(policy.now + timedelta(seconds=200))
    assert policy.allows(policy.now + timedelta(days=1))

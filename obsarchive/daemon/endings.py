"""What becomes of a step whose task ended, or of work that a disk hindered: its state, and when it is tried again.

Outer causes are waited for and are no attempts: a full disk, something that is not there yet, a worker that was lost.
A step whose workers are lost again and again is their cause, however: from `LOSSES_BORNE` on, each is an attempt.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta

from obsarchive.config.model import Daemon
from obsarchive.core.documents import StepRecord
from obsarchive.core.step_state import State, after
from obsarchive.execution.step_process import TaskResult
from obsarchive.execution.work import ResultState
from obsarchive.store import StepUpdate
from obsarchive.store.jobs import now_plus

LOSSES_BORNE = 2
"""Workers that may be lost while they run a step before that counts as a failure of the step."""
LONGEST_WAIT_S = 300.0
"""Longest pause before something is tried again that waits for an outer cause to end [s]."""
PATIENCE = 6
"""So many pauses are waited for before a run that ends by itself ends."""


def wait_s(base_s: float, times: int) -> float:
    """Return the pause before the next attempt [s], which doubles each time."""
    return min(base_s * 2.0 ** min(times, 30), LONGEST_WAIT_S)


def longest_pause(settings: Daemon) -> timedelta:
    """Return the longest pause before a step is tried again."""
    return timedelta(seconds=max(LONGEST_WAIT_S, settings.retry_delay_s * 2.0 ** min(settings.max_retries, 20)))


class Delays:
    """Growing pauses for subjects whose own files the archive could not write.

    Parameters
    ----------
    base_s : float
        The first pause [s].
    monotonic : callable, optional
        Clock [s].
    """

    def __init__(self, base_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.base_s, self._monotonic = base_s, monotonic
        self._times: Counter[str] = Counter()
        self._until: dict[str, float] = {}

    def delay(self, subject: str) -> None:
        """Leave a subject alone for a while, each time for longer."""
        self._until[subject] = self._monotonic() + wait_s(self.base_s, self._times[subject])
        self._times[subject] += 1

    def clear(self, subject: str) -> None:
        """Forget that something hindered a subject."""
        self._times.pop(subject, None)
        self._until.pop(subject, None)

    def holds(self, subject: str) -> bool:
        """Whether a subject is to be left alone now."""
        return self._monotonic() < self._until.get(subject, -math.inf)

    @property
    def hopeless(self) -> set[str]:
        """Subjects that were hindered so often that a run that ends by itself does not wait for them."""
        return {name for name, times in self._times.items() if times > PATIENCE}


def update_after(
    result: TaskResult, before: StepRecord, has_begun: bool, inputs: Mapping[str, str], settings: Daemon
) -> StepUpdate:
    """Return how a step is recorded after its task ended.

    Parameters
    ----------
    result : StepResult
        How the task ended.
    before : StepRecord
        The step when the task was submitted.
    has_begun : bool
        Whether a worker had begun with it; else a lost worker tells nothing about the step.
    inputs : mapping of str to str
        Signatures of what the step is made from.
    settings : Daemon
        Delays of the configuration.

    Returns
    -------
    StepUpdate
    """
    state, message, losses = after(State.ENQUEUED, result.event), result.message, before.losses
    if result.state is ResultState.LOST:
        losses += has_begun
        if losses > LOSSES_BORNE:
            state, message = State.FAILED, f"{message} ({losses} workers were lost while they ran this step)"
    elif state is not State.WAITING:
        losses = 0
    waits = before.waits + 1 if state is State.WAITING else 0
    not_before = None
    if state is State.FAILED:
        not_before = now_plus(settings.retry_delay_s * 2**before.retries)
    elif state is State.WAITING:
        not_before = now_plus(wait_s(settings.loop_interval_s, before.waits))
    return StepUpdate(state, message, {**result.record, "inputs": inputs}, not_before, waits, losses)

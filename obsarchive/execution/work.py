"""Terms common to all work: steps of nights, reductions of datasets, zones of surveys.

A :data:`Runner` runs a function for each of several items, on the Dask cluster (`Cluster.each`) or in this process
(:func:`run_locally`); a :class:`StepResult` holds how a piece of work ended; a
:data:`~obsarchive.core.progress.ProgressCallback` receives its progress.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from obsarchive.errors import ArchiveError

log = logging.getLogger(__name__)

Record = TypeVar("Record")
Runner = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[tuple[int, Any]]]
"""Runs a function for each item somewhere; yields its number and the result, or the exception that ended it."""


class ResultState(StrEnum):
    """How a piece of work ended."""

    DONE = "done"
    UNCHANGED = "unchanged"
    """The existing products are up to date."""
    FAILED = "failed"
    REJECTED = "rejected"
    """These data can never give the product."""
    LACKING = "lacking"
    """What it needs does not exist yet."""
    WAITING = "waiting"
    """An input is missing."""
    LOCKED = "locked"
    """Another process works on it."""
    STOPPED = "stopped"
    """The next run continues."""
    LOST = "lost"
    """The process that ran it was lost, whatever the cause."""


EVENTS: dict[ResultState, str] = {
    ResultState.DONE: "succeed",
    ResultState.UNCHANGED: "succeed",
    ResultState.FAILED: "fail",
    ResultState.REJECTED: "reject",
    ResultState.LACKING: "lack",
    ResultState.WAITING: "release",
    ResultState.LOCKED: "release",
    ResultState.STOPPED: "release",
    ResultState.LOST: "release",
}
"""What each does to the state of a step (:mod:`obsarchive.core.step_state`)."""


@dataclass
class StepResult(Generic[Record]):
    """How a piece of work ended; the only thing that a worker sends back.

    Parameters
    ----------
    subject : str
        Identifier of the task, folder of the dataset, or RA zone.
    state : ResultState
        How it ended.
    message : str
        Why it is not done.
    record : mapping or dataclass
        What is recorded of it: the manifest of a step, the measurements of a dataset, the documents of a zone.
    cpu_s : float
        CPU time [s], where it was measured.
    peak_memory_mb : float
        Largest memory [MB], where it was measured.
    """

    subject: str
    state: ResultState
    message: str
    record: Record
    cpu_s: float = 0.0
    peak_memory_mb: float = 0.0

    @property
    def event(self) -> str:
        """Event of the state of a step that it stands for."""
        return EVENTS[self.state]

    @property
    def succeeded(self) -> bool:
        """Whether all products exist now."""
        return self.event == "succeed"


def run_locally(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Run a function for each item in this process, one after the other.

    Parameters
    ----------
    function : callable
        Takes one item.
    items : sequence
        What it is called with.

    Yields
    ------
    (int, object)
        Number of the item, and what the function returned, or the exception that it raised, as a worker returns it.
    """
    for i, item in enumerate(items):
        try:
            yield i, function(item)
        except Exception as err:  # one item must not stop the others
            if not isinstance(err, ArchiveError | OSError):
                log.exception("one item failed")
            yield i, err

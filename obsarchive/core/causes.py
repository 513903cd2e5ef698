"""Causes of failures, put together from the messages of steps; each with what an operator does about it."""

import re
from dataclasses import dataclass
from datetime import timedelta

from obsarchive.core.step_state import State

SILENCE = timedelta(seconds=60)
"""A daemon that reported nothing for this long does not run."""
_VARYING = re.compile(
    r"'[^']*'|\"[^\"]*\"|/\S+|\S*\d\S*"
    r"|\S+\.fi?ts?(?:\.\w+)?\b:?"  # names of files without a digit
    r"|\b(?:nan|inf)\b[^\w\s]*",
    re.IGNORECASE,
)
"""What differs between messages of one kind: names, paths, numbers."""
_LISTED = re.compile(r"…(?:[ ,]+…)+")
"""Several of them in turn: lists of names, pairs of numbers."""


@dataclass(frozen=True)
class Cause:
    """A cause of failures.

    Parameters
    ----------
    name : str
        Two words at most; a label of the metrics.
    pattern : str
        Finds the messages that it covers.
    action : str
        What an operator does about it.
    """

    name: str
    pattern: str
    action: str


CAUSES = (
    Cause(
        "no space",
        r"no space left|No space left|[Dd]isk quota",
        "free space on the disk that it names",
    ),
    Cause(
        "time limit",
        r"not finished after .*job_timeout_s",
        "raise parallel.job_timeout_s, or look in the step's log for where it hangs",
    ),
    Cause(
        "memory limit",
        r"of memory used|MemoryError",
        "raise parallel.memory_limit_gb; the machine needs it n_workers times",
    ),
    Cause(
        "process died",
        r"process died",
        "look in the system's log: SIGKILL is mostly the kernel out of memory, SIGSEGV a broken library",
    ),
    Cause("worker lost", r"worker was lost|was cancelled|KilledWorker", "see that workers run and reach the daemon"),
    Cause(
        "not importable",
        r"worker cannot load|ModuleNotFoundError|ImportError",
        "install the project and your pipelines in the same version on every worker",
    ),
    Cause(
        "disk error",
        r"OSError|PermissionError|FileNotFoundError|FileExistsError|NotADirectoryError|TimeoutError|BlockingIOError",
        "see that the disk is mounted, healthy and writable for the daemon's user",
    ),
    Cause("bug", r"^\w*(Error|Exception|Warning|Interrupt): ", "report the traceback that the step's log holds"),
)
OTHER = Cause("other", "", "read the message; ask for a redo when its reason is gone")

AFTER: dict[State, str] = {
    State.REJECTED: "these data cannot give the product; it is made when they change, a redo tries once more",
    State.LACKING: "nothing: it is made when what it lacks arrives",
}
"""What an operator does about steps that ended without a failure."""


def cause_of(message: str) -> Cause:
    """Return the cause that the message of a failed step names."""
    return next((cause for cause in CAUSES if re.search(cause.pattern, message)), OTHER)


def kind_of(message: str) -> str:
    """Return a message without what differs between messages of its kind: names, paths and numbers."""
    return _LISTED.sub("…", _VARYING.sub("…", message))

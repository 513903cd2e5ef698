"""Every exception this project raises on purpose.

``event`` is what the exception does to the step that raised it (see :mod:`obsarchive.core.step_state`);
``exit_code`` is what it does to a command that cannot go on.

::

    ArchiveError            fail     tried again until daemon.max_retries
    ├── NotReady            release  cannot run just now; not an attempt
    ├── NoSpace             release  a disk is full; not an attempt
    ├── OtherVersion        release  the worker has another version of Archiver; not an attempt
    ├── Superseded          release  the daemon gave the task up; its result is not heard any more
    ├── DiskTrouble         release  a file is away or cannot be read or written; not an attempt
    ├── WorkerLost          release  the worker died or the cluster was closed; an attempt only if it goes on so
    ├── Lacking             lack     what it needs does not exist yet; due again when that comes
    ├── Unprocessable       reject   these data can never give this product
    │   └── BadRawData      reject   until the raw file itself changes
    ├── ConfigError         exit 2   wrong use or configuration
    ├── ServiceUnavailable  exit 3   a service cannot be reached or started
    └── NotLeader           exit 4   another daemon holds the archive
"""

import errno
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

OF_DISKS = frozenset(
    (
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN),
        *(errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENXIO, errno.ENODEV, errno.EREMOTEIO),
    )
)
"""Codes of errors of a disk, its network or its permissions, which no other content of a file would avoid."""
MALFORMED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What goes wrong with documents and headers of unforeseen shapes."""


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the end of a message about an unknown word: the known one that resembles it most.

    Parameters
    ----------
    word : str
        The unknown word.
    known : iterable of str
        The known ones.
    cutoff : float, optional
        Least similarity, 0 to 1.

    Returns
    -------
    str
        Such as ``"; did you mean 'filter'?"``; empty if none is similar.
    """
    near = get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


class ArchiveError(Exception):
    """Anything the archive can explain."""

    event = "fail"
    exit_code = 1


class NotReady(ArchiveError):
    """An input is still missing (no master dark yet): ask again next cycle, not an attempt."""

    event = "release"


class NoSpace(ArchiveError):
    """A disk is full: no fault of the step, which waits for space."""

    event = "release"


class DiskTrouble(ArchiveError):
    """A file is not there, or its disk does not answer or forbids: waited for until people have looked after it."""

    event = "release"


class WorkerLost(ArchiveError):
    """The process on the cluster that ran something is gone: not known to be a fault of what it ran."""

    event = "release"


DISK_ERRORS = (OSError, NoSpace)
"""What a disk that fails or is full does to the archive's own writing."""


class OtherVersion(ArchiveError):
    """A worker has another version of Archiver than the daemon.

    Parameters
    ----------
    worker : str
        Its address.
    host : str
        Its machine.
    theirs, ours : str
        Versions of the worker and of the daemon.
    """

    event = "release"

    def __init__(self, worker: str, host: str, theirs: str, ours: str) -> None:
        super().__init__(worker, host, theirs, ours)  # all of them, or it could not travel from the worker
        self.worker, self.host, self.theirs, self.ours = worker, host, theirs, ours

    def __str__(self) -> str:
        return (
            f"worker {self.worker} on {self.host} refused: it has Archiver {self.theirs}, the daemon has {self.ours}; "
            "install the daemon's version there and start the worker again"
        )


class Superseded(ArchiveError):
    """The daemon gave a task up, such as when its worker or scheduler seemed lost: it publishes nothing more."""

    event = "release"


class Lacking(ArchiveError):
    """What a step needs does not exist yet (no reference star, no master dark): due again when that comes.

    Parameters
    ----------
    lacks : str
        What is lacking, in the plural, such as ``references``: the step waits for it.
    message : str
        Why.
    results : mapping, optional
        What was measured all the same.
    """

    event = "lack"

    def __init__(self, lacks: str, message: str, results: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.lacks = lacks
        self.results = dict(results or {})


class Unprocessable(ArchiveError):
    """These data can never give this product (no guide star): say why, never retry.

    Parameters
    ----------
    message : str
        Why.
    classified_as : str, optional
        The pipeline's verdict on the data, such as ``zero_flux``.
    results : mapping, optional
        What was measured all the same.
    """

    event = "reject"

    def __init__(
        self, message: str, classified_as: str | None = None, results: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.classified_as = classified_as
        self.results = dict(results or {})


class BadRawData(Unprocessable):
    """A raw file is truncated or unreadable; looked at again only when the file changes."""


class ConfigError(ArchiveError):
    """The configuration or the command line is wrong: do not start."""

    exit_code = 2


class ServiceUnavailable(ArchiveError):
    """A service (database, cluster) cannot be reached or started."""

    exit_code = 3


class NotLeader(ArchiveError):
    """Another daemon is the leader of this archive."""

    exit_code = 4

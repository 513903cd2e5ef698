"""What keeps the daemon from working, as its status file, the disks and the configuration show."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from obsarchive.config.disk_guard import lacks_space
from obsarchive.config.model import Config
from obsarchive.core.archive_paths import Layout
from obsarchive.core.causes import SILENCE
from obsarchive.core.documents import utc_now
from obsarchive.errors import ArchiveError

NOT_STARTED = "not_started.txt"
"""File in ``paths.logs``: why the daemon did not start when it was tried last."""


@dataclass
class Reason:
    """Something that keeps work from being done.

    Parameters
    ----------
    what : str
        What is kept, such as ``failed bright_star.reduce``.
    why : str
        The reason; where it concerns several that differ in names and numbers, that of the example.
    action : str
        What an operator does about it.
    count : int, optional
        How many observations and nights it concerns; 0 if all.
    example : str, optional
        One of them.
    """

    what: str
    why: str
    action: str
    count: int = 0
    example: str = ""

    def __str__(self) -> str:
        concerned = f"{self.count} x " if self.count else ""
        such_as = f", {'such as' if self.count > 1 else 'of'} {self.example}" if self.example else ""
        return f"  {concerned}{self.what}{such_as}: {self.why}\n    -> {self.action}\n"


def of_daemon(config: Config, status: Mapping[str, Any]) -> Iterator[Reason]:
    """Yield what keeps the daemon from working at all.

    Parameters
    ----------
    config : Config
        The configuration.
    status : mapping
        Content of ``status.json``.
    """
    alive = is_alive(status)
    if not alive:
        yield _not_alive(config, status)
    if alive and status.get("configuration"):
        action = "mend what this names, or restart the daemon if it says so; it goes on with what it read before"
        yield Reason("the changed configuration is not used", str(status["configuration"]), action)
    if space := lacks_space(config):
        yield Reason("no space", space, "free space or lower daemon.min_free_gb; the daemon goes on by itself")
    if alive and status.get("state") == "napping":
        yield Reason("napping", "daemon.quiet_hours", "nothing: work goes on when they end")
    if alive and status.get("state") == "reloading":
        yield Reason(
            "reloading", "a changed configuration waits for running steps", "nothing: it is used when they end"
        )
    if alive and not status.get("workers") and status.get("state") != "starting":
        yield Reason("no workers", "the Dask cluster has none", "start them, or see why they ended: docs/operations.md")


def _not_alive(config: Config, status: Mapping[str, Any]) -> Reason:
    """Return why no daemon works: it starts, or could not, as it said since the last report, or the time of that."""
    if since := starting(config, status):
        return Reason("the daemon is starting", since, "nothing: work begins when it has started")
    when, why = failed_start(config)
    if why and when >= str(status.get("updated")):
        return not_startable(config, f"it did not start at {when}: {why}")
    why = f"its last report is of {status.get('updated')}"
    return Reason("no daemon runs", why, f"start it: obsarchive daemon {config.source}")


def starting(config: Config, status: Mapping[str, Any] | None = None) -> str:
    """Return since when a daemon is starting that has not reported after a status; empty if none is."""
    note = Layout(config.paths.archive).start_record
    if not note.exists():
        return ""
    from obsarchive.io.start_record import starting_since  # late: mostly there is none, and no module is needed

    since = starting_since(note, _last_report(status or {}))
    return f"since {since:%H:%M:%S} UTC" if since else ""


def not_startable(config: Config, why: str) -> Reason:
    """Return the reason that no daemon runs where it cannot start."""
    return Reason("no daemon runs", why, f"mend what this names, then start it: obsarchive daemon {config.source}")


def note_failed_start(config: Config, err: ArchiveError) -> None:
    """Keep for `status` why the daemon did not start; errors of the disk are ignored."""
    with suppress(OSError):
        config.paths.logs.mkdir(parents=True, exist_ok=True)
        (config.paths.logs / NOT_STARTED).write_text(f"{utc_now()}\n{err}\n")


def failed_start(config: Config) -> tuple[str, str]:
    """Return when, and why, the daemon did not start when it was tried last; empty texts if it is not known."""
    try:
        when, _, why = (config.paths.logs / NOT_STARTED).read_text(errors="replace").partition("\n")
    except OSError:
        return "", ""
    return when, why.strip()


def is_alive(status: Mapping[str, Any]) -> bool:
    """Whether the daemon that wrote a status runs, as far as can be seen from here."""
    if status.get("state") == "stopped":
        return False
    if status.get("host") == socket.gethostname() and not Path("/proc", str(status.get("pid"))).exists():
        return False
    last = _last_report(status)
    return last is not None and utc_now() - last < SILENCE


def _last_report(status: Mapping[str, Any]) -> datetime | None:
    """Return when the daemon wrote a status; None if that does not say."""
    try:
        found = datetime.fromisoformat(str(status.get("updated")))
    except ValueError:
        return None
    return found if found.tzinfo else None

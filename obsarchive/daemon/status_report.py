"""Status of the daemon: a small JSON file, and a copy in the database for the portal."""

import json
import logging
import os
import shutil
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psutil

from obsarchive import __version__
from obsarchive.config.model import Config
from obsarchive.core.causes import cause_of
from obsarchive.core.documents import utc_now
from obsarchive.core.processes import start_of, this_process
from obsarchive.core.step_state import State
from obsarchive.errors import ArchiveError
from obsarchive.io.atomic import atomic_write
from obsarchive.store import Jobs

log = logging.getLogger(__name__)

ERRORS_KEPT = 20
SAMPLE_EVERY = timedelta(hours=1)
"""How often the free space of the disks is recorded, for the pace at which it shrinks."""


class StatusReport:
    """Counts ended steps and writes the status.

    Parameters
    ----------
    config : Config
        The configuration.
    jobs : Jobs
        Where the copy is kept.
    run : str
        Identifier of the run of the daemon.

    Attributes
    ----------
    last_cycle : datetime or None
        When the last whole cycle ended.
    """

    def __init__(self, config: Config, jobs: Jobs, run: str) -> None:
        self.config, self.jobs, self.run = config, jobs, run
        self.file = config.paths.logs / "status.json"
        self.started = start_of(this_process())
        self.endings: deque[tuple[Any, str]] = deque(maxlen=100_000)
        self.totals: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.retries = 0
        self.last_cycle: datetime | None = None
        self.errors: deque[dict[str, Any]] = deque(maxlen=ERRORS_KEPT)
        self._next_sample = self.started
        self._process = psutil.Process()

    def count(self, state: str, subject: str, step: str, message: str) -> None:
        """Count a step that ended.

        Parameters
        ----------
        state : str
            How it ended.
        subject : str
            Name of the observation or night.
        step : str
            Pipeline and step, ``pipeline.step``.
        message : str
            Why it failed, was rejected, or waits.
        """
        self.endings.append((utc_now(), state))
        self.totals[state] += 1
        if state == State.FAILED:
            self.causes[cause_of(message).name] += 1
        if state in ("failed", "rejected") or (state == "waiting" and message):
            self.errors.appendleft({"when": utc_now(), "subject": subject, "step": step, "message": message})

    def report(self, state: str, running: list[dict[str, Any]], extra: Mapping[str, Any]) -> None:
        """Write the status file and its copy in the database; an error of the file is only logged.

        Parameters
        ----------
        state : str
            What the daemon does.
        running : list of dict
            Running tasks.
        extra : mapping
            Further fields.
        """
        hour_ago = utc_now() - timedelta(hours=1)
        recent = [name for when, name in self.endings if when > hour_ago]
        status = {
            "updated": utc_now(),
            "state": state,
            "run": self.run,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "started": self.started,
            "running": running,
            "rates": {f"{name}_last_hour": recent.count(name) for name in ("done", "failed", "rejected")},
            "totals": self.totals,
            "retries": self.retries,
            "causes": self.causes,
            "last_cycle": self.last_cycle,
            "cpu_percent": psutil.cpu_percent(),
            "memory_mb": round(self._process.memory_info().rss / 1e6),
            "disks": self.disks(),
            "last_errors": list(self.errors),
            **extra,
        }
        self.jobs.report(status)
        self._note_space(status["disks"])
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self.file, json.dumps(status, indent=1, default=str).encode())
        except (OSError, ArchiveError) as err:
            log.warning("the status file cannot be written: %s", err)

    def _note_space(self, disks: Iterable[Mapping[str, Any]]) -> None:
        if self._next_sample <= utc_now():
            self._next_sample = utc_now() + SAMPLE_EVERY
            self.jobs.note_space({str(disk["path"]): float(disk["free_gb"]) for disk in disks})

    def disks(self) -> list[dict[str, Any]]:
        """Return free and total space [GB] of every configured path."""
        paths = self.config.paths
        folders = {root.path for root in paths.raw} | {paths.archive, paths.tmp, paths.logs}
        found = []
        for folder in sorted(folders):
            try:
                usage = shutil.disk_usage(folder)
            except OSError:
                continue
            found.append({"path": str(folder), "free_gb": usage.free / 1e9, "total_gb": usage.total / 1e9})
        return found


@contextmanager
def repeated(function: Callable[[], None], interval_s: float) -> Iterator[None]:
    """Call a function at once and at intervals, in a thread of its own, until the block has ended.

    Parameters
    ----------
    function : callable
        What is called; it raises nothing.
    interval_s : float
        Time between two calls [s].
    """
    ended = threading.Event()

    def run() -> None:
        function()
        while not ended.wait(interval_s):
            function()

    thread = threading.Thread(target=run, name=getattr(function, "__name__", "repeated"), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

"""The file ``dataset.lock``: one reduction at a time in a dataset, on any number of machines."""

import fcntl
import json
import logging
import os
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from obsarchive.errors import ArchiveError, Superseded
from obsarchive.io.file_locks import FileLock

log = logging.getLogger(__name__)

LOCK = "dataset.lock"
BEAT_S = 30.0
"""The holder touches the file so often."""
STALE_S = 600.0
"""A lock of another machine that was not touched for so long is stale."""
GUARD_WAIT_S = 10.0


class DatasetLockedError(ArchiveError):
    """Another reduction works in the dataset."""

    event = "release"


@dataclass(frozen=True)
class Holder:
    """Process that locked a dataset."""

    host: str
    pid: int
    started: float
    """When that process started [s since 1970]; process numbers are used again."""
    since: str
    run: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since} (run {self.run})"

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; True for other machines, whose processes cannot be checked."""
        if self.host != socket.gethostname():
            return True
        try:
            return bool(abs(psutil.Process(self.pid).create_time() - self.started) < 2.0)
        except psutil.Error:
            return False


def holder(folder: Path) -> Holder | None:
    """Return the process that works in a dataset; None without one, also when a process died and its lock remained."""
    path = folder / LOCK
    try:
        text, age = path.read_text(), time.time() - path.stat().st_mtime
    except OSError:
        return None
    try:
        found = Holder(**json.loads(text))
    except (ValueError, TypeError):
        since = text.strip().partition("\n")[0][:40] or "an unknown time"
        found = Holder("an unknown host", 0, 0.0, since, "of another program")
    return found if found.is_alive and age < STALE_S else None


def require_run(folder: Path, run: str) -> None:
    """Refuse to write into a dataset for a run that does not hold it any more: a worker may come back late.

    Parameters
    ----------
    folder : Path
        The dataset.
    run : str
        Name of the run; empty if none is needed.

    Raises
    ------
    Superseded
        Another run works in the dataset, or none.
    """
    if not run:
        return
    try:
        held = json.loads((folder / LOCK).read_text())["run"]
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        held = ""
    if held != run:
        raise Superseded(f"{folder}: the run {run} was given up: nothing more is written for it")


class DatasetLock:
    """Keeps other reductions out of a dataset.

    Parameters
    ----------
    folder : Path
        The dataset.
    run : str
        Name of the run, for messages.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.path, self.folder = folder / LOCK, folder
        since = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
        process = psutil.Process()
        self.me = Holder(socket.gethostname(), process.pid, process.create_time(), since, run)
        self._released = threading.Event()
        self._text = json.dumps(asdict(self.me))

    def __enter__(self) -> Self:
        self._released.clear()
        guard = FileLock(self.folder / f".{LOCK}.guard")
        guard.acquire(fcntl.LOCK_EX, GUARD_WAIT_S)
        try:
            self._take()
        finally:
            guard.release()
        threading.Thread(target=self._beat, name=f"lock of {self.folder.name}", daemon=True).start()
        return self

    def _take(self) -> None:
        other = holder(self.folder)
        if other is not None:
            raise DatasetLockedError(f"{self.folder} is locked by {other}; it is left alone")
        if self.path.exists():
            log.warning("%s: a stale lock is taken over", self.path)
        part = self.path.with_name(f".{LOCK}.{secrets.token_hex(4)}")
        part.write_text(self._text)
        part.replace(self.path)

    def _beat(self) -> None:
        while not self._released.wait(BEAT_S):
            try:
                os.utime(self.path)
            except OSError as err:
                log.warning("%s cannot be kept fresh: %s", self.path, err)

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        if holder(self.folder) == self.me:
            self.path.unlink(missing_ok=True)

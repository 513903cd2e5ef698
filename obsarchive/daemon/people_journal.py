"""Journal of what people said, beside the database: a dropped database loses no account, token, request or audit entry.

``people.jsonl`` holds the last state of every account, token and request, ``audit.jsonl`` the audit log. Both are
private, like the database's own files: they hold hashes of passwords and tokens. Edits of observations go to their
sidecar files at once, and to a journal of their own (:mod:`obsarchive.daemon.observation_edits`).
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from obsarchive.core.logs import last_lines
from obsarchive.errors import DISK_ERRORS, ServiceUnavailable
from obsarchive.io.atomic import append_private, atomic_write
from obsarchive.store import Act, People, outage_as_error

log = logging.getLogger(__name__)

PEOPLE, AUDIT = "people.jsonl", "audit.jsonl"
MOST_SUPERSEDED = 10_000
"""Lines that newer ones replaced before the journal is written anew."""
POLL_S = 30.0
"""Interval at which a database that cannot be followed is compared with the journal [s]."""
PAUSE_S = 2.0


class PeopleJournal:
    """Writes the acts of people to disk as they happen, and brings them back.

    Parameters
    ----------
    people : People
        What people said, in the database.
    folder : Path
        Where the journal is kept.
    keep_up : callable
        Called with the name of an observation or night that people edited.
    """

    def __init__(self, people: People, folder: Path, keep_up: Callable[[str], None]) -> None:
        self.people, self.folder, self.keep_up = people, folder, keep_up
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._caught_up: frozenset[str] = frozenset()
        """Entries of the audit log that were compared last, and that may come once more from the database."""

    def start(self) -> None:
        """Follow the database from now on."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="people", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following."""
        self._stopping.set()
        if self._thread is not None:
            with suppress(ServiceUnavailable), outage_as_error():
                self.people.wake()
            self._thread.join(10.0)

    def take_up(self) -> int:
        """Insert what the journal holds into a database that was wiped; return the number of documents."""
        if not self.people.is_wiped():
            return 0
        acts = [*_by_document(self._read(PEOPLE)).values(), *self._read(AUDIT)]
        restored = self.people.restore(acts)
        self.people.mark()
        if restored:
            log.warning("the database was wiped: %d documents of people were restored from %s", restored, self.folder)
            self.catch_up()  # what was added to the empty database
        return restored

    def catch_up(self) -> None:
        """Write what differs from the journal: acts of the time when nothing followed the database."""
        acts, present = list(self._read(PEOPLE)), _by_document(self.people.state())
        known = _by_document(acts)
        if not known:
            self.people.mark()
        if not known or not self.people.is_wiped():  # a database that was dropped is no act of people
            gone = [Act(*key) for key, act in known.items() if act.line and key not in present]
            new = [*(act for key, act in present.items() if known.get(key) != act), *gone]
            if len(acts) + len(new) > MOST_SUPERSEDED + 2 * len(present):
                atomic_write(self.folder / PEOPLE, "".join(act.to_line() for act in present.values()).encode())
                (self.folder / PEOPLE).chmod(0o600)
            else:
                self._append(PEOPLE, new)
        entries = list(self.people.audit_since(self._newest_audit()))
        self._append(AUDIT, entries)
        self._caught_up = frozenset(entry.key for entry in entries)

    def _newest_audit(self) -> str:
        """Return the key of the last entry of the audit log; empty without one. The log is long: its end is read."""
        with suppress(FileNotFoundError):
            for line in reversed(last_lines(self.folder / AUDIT)):
                with suppress(ValueError):
                    return Act.from_line(line).key
        return ""

    # -- following --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with outage_as_error():
                    self._follow()
            except ServiceUnavailable as err:
                log.debug("the journal of people waits: %s", err)
            except DISK_ERRORS as err:
                log.warning("acts of people cannot be written to %s: %s", self.folder, err)
            self._stopping.wait(PAUSE_S)

    def _follow(self) -> None:
        """Write acts as they happen; where the database cannot be followed, compare it with the journal."""
        is_ours = False  # for as long as the stream lasts, which ends when the database is dropped
        for number, act in enumerate(self.people.follow()):
            if number == 0:
                self.catch_up()  # what happens from now on is in the stream
            is_ours = is_ours or not self.people.is_wiped()
            if self._stopping.is_set():
                return
            if act is not None and act.edited:
                self.keep_up(act.edited)
            elif act is not None and is_ours and not (act.is_audit and act.key in self._caught_up):
                self._append(AUDIT if act.is_audit else PEOPLE, [act])
        self.catch_up()
        self._stopping.wait(POLL_S)

    # -- files ------------------------------------------------------------------------------------------------

    def _read(self, name: str) -> Iterator[Act]:
        try:
            with (self.folder / name).open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    try:
                        yield Act.from_line(line)
                    except ValueError as err:  # a line that was cut off, as a power failure does
                        log.warning("%s: a line cannot be read: %s", self.folder / name, err)
        except FileNotFoundError:
            return

    def _append(self, name: str, acts: Iterable[Act]) -> None:
        """Add lines; they are on the disk when this returns."""
        text = "".join(act.to_line() for act in acts).encode()
        if text:
            append_private(self.folder / name, text)


def _by_document(acts: Iterable[Act]) -> dict[tuple[str, str], Act]:
    """Return the last state of each document."""
    return {(act.collection, act.key): act for act in acts}

"""One daemon per archive: a lock on its folder for daemons of this host, a lease in the database for other hosts.

And one archive per database: the lease belongs to the archive whose daemon took it first.
"""

import fcntl
import os
import socket
import time
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self
from uuid import uuid4

from obsarchive.core.archive_paths import Layout
from obsarchive.errors import ConfigError, NotLeader
from obsarchive.store import Store
from obsarchive.store.jobs import Archive

LEASE_S = 120.0
RENEW_S = 10.0
"""Interval at which the lease is renewed; also how soon a dropped database is noticed [s]."""


class LeaderLock:
    """Context in which this process is the only daemon of an archive.

    Parameters
    ----------
    layout : Layout
        The archive.
    store : Store
        Its database.
    run : str
        Identifier of this run of the daemon.

    Raises
    ------
    NotLeader
        On entering, when another daemon holds the lock or the lease.
    ConfigError
        On entering, when the archive cannot be written, or the database is that of another archive.
    """

    def __init__(self, layout: Layout, store: Store, run: str) -> None:
        self.layout, self.store, self.run = layout, store, run
        self.has_lost_database = False
        """Whether the database was dropped; who rebuilt it takes that back."""
        self._lock: int | None = None
        self._renewed = 0.0

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            lock = lock_archive(self.layout)
            opened.callback(os.close, lock)
            if not self._take():
                raise NotLeader(f"another daemon holds the archive {self.layout.root}: {self.store.lease.holder()}")
            opened.pop_all()
        self._lock = lock
        return self

    def _take(self) -> bool:
        self._renewed = time.monotonic()
        former = check_database(self.layout, self.store)
        identifier = archive_identifier(self.layout)
        if not identifier:  # a new archive, or one that was emptied
            identifier = give_identifier(self.layout, former.identifier if former else uuid4().hex)
        archive = Archive(identifier, *_place(self.layout))
        # This process has the lock, so a holder of the lease in this folder of this host is dead.
        return self.store.lease.take(self.run, archive, f"{archive.host}, process {os.getpid()}", LEASE_S) is not None

    @property
    def is_certain(self) -> bool:
        """Whether the lease cannot have run out since it was renewed last."""
        return time.monotonic() - self._renewed < LEASE_S - RENEW_S

    def confirm(self) -> None:
        """Renew the lease from time to time; one that is gone, with the database that held it, is taken anew.

        Raises
        ------
        NotLeader
            When another run took it over.
        """
        asked = time.monotonic()
        if asked - self._renewed < RENEW_S:
            return
        if self.store.lease.renew(self.run, LEASE_S):
            self._renewed = asked
            return
        self.has_lost_database = True  # also when it goes away once more before it is rebuilt
        if not self._take():
            raise NotLeader(f"another daemon took over the archive: {self.store.lease.holder()}")

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(err, NotLeader):
            self.store.lease.give_back(self.run)
        if self._lock is not None:
            os.close(self._lock)


def lock_archive(layout: Layout) -> int:
    """Lock the archive for this process; the kernel releases the lock when the process ends.

    Returns
    -------
    int
        Descriptor of the lock file.

    Raises
    ------
    ConfigError
        When the archive cannot be written.
    NotLeader
        When another process holds the lock.
    """
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        lock = os.open(layout.master_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as err:
        raise ConfigError(f"paths.archive {layout.root} cannot be written: {err.strerror}") from err
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise NotLeader(f"another daemon holds the archive {layout.root}: process {holder}") from err
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def check_database(layout: Layout, store: Store) -> Archive | None:
    """Refuse the database of another archive, whose nights the daemon would take for its own.

    Returns
    -------
    Archive or None
        What the database says of this archive; None before its first daemon.

    Raises
    ------
    ConfigError
        When a daemon of another archive has worked on it.
    """
    former, identifier = store.lease.archive(), archive_identifier(layout)
    if former is None or former.identifier == identifier:
        return former
    if identifier or (former.host, former.path) != _place(layout):
        raise ConfigError(
            f"the database {store.database.name} is that of the archive {former.path} on {former.host}, not of "
            f"{layout.root}: give each archive a database of its own (database.db); if {layout.root} takes the place "
            f"of that archive, write {former.identifier} into {layout.identifier}"
        )
    return former


def _place(layout: Layout) -> tuple[str, str]:
    """Return host and folder of an archive."""
    return socket.gethostname(), str(layout.root.resolve())


def archive_identifier(layout: Layout) -> str:
    """Return the identifier of an archive tree; empty if it has none."""
    with suppress(OSError):
        return layout.identifier.read_text().strip()
    return ""


def give_identifier(layout: Layout, identifier: str) -> str:
    """Give an archive tree without one an identifier, which it keeps wherever it is moved or copied to.

    Parameters
    ----------
    layout : Layout
        The archive.
    identifier : str
        The identifier.

    Returns
    -------
    str
        The identifier of the tree: another one, when another process was faster.

    Raises
    ------
    ConfigError
        When the archive cannot be written.
    """
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), layout.identifier.open("x") as file:
            file.write(f"{identifier}\n")
    except OSError as err:
        raise ConfigError(f"paths.archive {layout.root} cannot be written: {err.strerror}") from err
    return archive_identifier(layout)

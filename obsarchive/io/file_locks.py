"""Locks on files that die with their process."""

import fcntl
import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path

from obsarchive.errors import ServiceUnavailable

POLL_S = 0.02


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait until a condition is true.

    Parameters
    ----------
    condition : callable
        Takes nothing, returns a bool; called every `POLL_S` seconds.
    timeout_s : float
        Longest wait [s].
    what : str
        What is waited for, for the message of the exception.

    Raises
    ------
    ServiceUnavailable
        The condition was false all the time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise ServiceUnavailable(f"waited {timeout_s:g} s for {what}")
        time.sleep(POLL_S)


class FileLock:
    """An flock on a file, released by the kernel however its process dies, and never passed on to children.

    A forked child shares the open file description and with it the lock: a worker that outlives its killed
    parent would hold it on.  So the copy in the child is closed right after the fork (closing does not unlock
    the parent's).  Programs started by exec never see the descriptor: it is close-on-exec.

    Parameters
    ----------
    path : Path
        The file; made when it is locked first, never removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        _LOCKS.add(self)

    @property
    def held(self) -> bool:
        """Whether this process holds the lock."""
        return self._descriptor is not None

    def try_acquire(self, mode: int) -> bool:
        """Lock the file, or change the mode of the lock; if that cannot be, hold nothing.

        Parameters
        ----------
        mode : int
            ``fcntl.LOCK_SH`` or ``fcntl.LOCK_EX``.
        """
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        return True

    def acquire(self, mode: int, timeout_s: float) -> None:
        """Lock the file, waiting for other processes.

        Parameters
        ----------
        mode : int
            ``fcntl.LOCK_SH`` or ``fcntl.LOCK_EX``.
        timeout_s : float
            Longest wait [s].

        Raises
        ------
        ServiceUnavailable
            Other processes held the lock all the time.
        """
        wait_until(lambda: self.try_acquire(mode), timeout_s, f"another process to unlock {self.path}")

    def release(self) -> None:
        """Unlock the file, also when a child just started and not yet in exec still has the descriptor."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self.forget()

    def forget(self) -> None:
        """Close the file without unlocking it for those who share it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_LOCKS: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _forget_locks() -> None:
    for lock in list(_LOCKS):
        lock.forget()


os.register_at_fork(after_in_child=_forget_locks)

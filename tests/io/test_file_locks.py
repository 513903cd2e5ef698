"""Locks on files: who holds them, and until when."""

import fcntl
import os
import subprocess
import sys

import pytest

from obsarchive.errors import ServiceUnavailable
from obsarchive.io.file_locks import FileLock, wait_until


@pytest.fixture
def locks(tmp_path):
    pair = FileLock(tmp_path / "a.lock"), FileLock(tmp_path / "a.lock")
    yield pair
    for lock in pair:
        lock.release()


def test_many_share_one_excludes(locks):
    first, second = locks
    assert first.try_acquire(fcntl.LOCK_SH)
    assert second.try_acquire(fcntl.LOCK_SH)
    assert not second.try_acquire(fcntl.LOCK_EX)
    assert not second.held
    assert first.try_acquire(fcntl.LOCK_EX)  # the only one left
    assert not second.try_acquire(fcntl.LOCK_SH)
    first.release()
    assert not first.held
    assert second.try_acquire(fcntl.LOCK_SH)


def test_waiting_ends(locks):
    first, second = locks
    first.acquire(fcntl.LOCK_EX, timeout_s=0)
    with pytest.raises(ServiceUnavailable, match=r"waited 0\.1 s for another process to unlock .*a\.lock"):
        second.acquire(fcntl.LOCK_EX, timeout_s=0.1)


def test_files_are_private_and_close_on_exec(locks):
    locks[0].acquire(fcntl.LOCK_EX, timeout_s=0)
    assert locks[0].path.stat().st_mode & 0o777 == 0o600
    sleeper = subprocess.Popen(["sleep", "60"], close_fds=False)
    locks[0].forget()  # as the kernel does for a killed process
    try:
        assert locks[1].try_acquire(fcntl.LOCK_EX)
    finally:
        sleeper.kill()
        sleeper.wait()


FORK_AND_BE_KILLED = """
import fcntl, os, signal, sys
from pathlib import Path
from obsarchive.io.file_locks import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire(fcntl.LOCK_EX, timeout_s=0)
child = os.fork()
if child == 0:
    print(lock.held, flush=True)
    sys.stdin.read()
    os._exit(0)
signal.pause()
"""


def test_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(locks):
    parent = subprocess.Popen(
        [sys.executable, "-c", FORK_AND_BE_KILLED, locks[0].path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout.readline() == "False\n"  # the child, alive until its standard input ends
        assert not locks[0].try_acquire(fcntl.LOCK_EX)
        parent.kill()
        os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)
        assert locks[0].try_acquire(fcntl.LOCK_EX)


def test_wait_until_asks_again():
    answers = iter([False, False, True])
    wait_until(lambda: next(answers), timeout_s=10, what="the third answer")
    assert next(answers, None) is None

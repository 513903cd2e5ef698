"""What takes long to make is made once a session, by whichever test process needs it first."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from obsarchive.io.file_locks import FileLock

PATIENCE_S = 250.0


def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the temporary folder that all test processes of a session have in common."""
    folder = tmp_path_factory.getbasetemp()
    # each process has a folder of its own below that of the session
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that is filled by one process of the session; others wait for it, and only read it.

    Parameters
    ----------
    tmp_path_factory : pytest.TempPathFactory
        Pytest's fixture.
    name : str
        Name of the folder.
    make : callable
        Fills the folder it is given, which is there and empty.
    """
    place = session_folder(tmp_path_factory) / "once"
    place.mkdir(exist_ok=True)
    folder, finished = place / name, place / f"{name}.finished"
    lock = FileLock(place / f"{name}.lock")
    lock.acquire(fcntl.LOCK_EX, PATIENCE_S)
    try:
        if not finished.exists():
            folder.mkdir()
            make(folder)
            finished.touch()
    finally:
        lock.release()
    return folder

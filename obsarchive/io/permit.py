"""Permits: the right of one task to publish, as a folder that its products pass through and that only the daemon makes.

A task writes each file into the folder of its permit and renames it from there. Removing the folder therefore ends the
right at once, on every machine that shares the disk and however late a worker comes back: a file that is gone
cannot be renamed, and none can be made in a folder that was removed.
"""

import errno
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from obsarchive.errors import Superseded, WorkerLost

log = logging.getLogger(__name__)

TAKEN = "taken"
"""Folder within a permit, made by the worker that begins with the task: a scheduler may give a task to a second one."""
ATTEMPTS = 5
GONE = (errno.ENOENT, errno.ESTALE)


def take(permit: Path) -> None:
    """Begin with a task on a worker.

    Parameters
    ----------
    permit : Path
        Folder of its permit.

    Raises
    ------
    Superseded
        The permit was withdrawn.
    WorkerLost
        Another worker began with the task before.
    """
    try:
        (permit / TAKEN).mkdir()
    except FileExistsError:
        raise WorkerLost("the worker that had begun with it was lost") from None
    except FileNotFoundError:
        raise Superseded("the daemon gave this task up before it began") from None


def withdraw(folder: Path) -> None:
    """Remove a permit, or the folder of all permits; what their tasks still write does not reach its place.

    Parameters
    ----------
    folder : Path
        It need not exist.
    """
    for _ in range(ATTEMPTS):  # a file may be made between the listing of the folder and its removal
        if is_withdrawn(folder):
            return
        shutil.rmtree(folder, ignore_errors=True)
    if not is_withdrawn(folder):
        log.warning("%s cannot be removed: a task that was given up might still publish", folder)


def is_withdrawn(permit: Path | None) -> bool:
    """Whether a permit that is needed is gone; not when the disk does not answer."""
    if permit is None:
        return False
    try:
        permit.stat()
    except OSError as err:
        return err.errno in GONE
    return False


def discard(path: Path, permit: Path | None) -> None:
    """Remove a file that an earlier attempt published.

    Parameters
    ----------
    path : Path
        The file; it need not exist.
    permit : Path, optional
        Folder of the permit, which takes the file in: if it was withdrawn, the file stays. None if none is needed.
    """
    if permit is None or not path.exists():
        path.unlink(missing_ok=True)
        return
    try:
        path.replace(permit / path.name)
    except OSError as err:
        if err.errno != errno.EXDEV:
            raise
        path.unlink(missing_ok=True)


@contextmanager
def required(permit: Path | None) -> Iterator[None]:
    """Turn errors of a disk into `Superseded` when they come from a permit that was withdrawn.

    Parameters
    ----------
    permit : Path, optional
        Folder of the permit; None if none is needed.
    """
    try:
        yield
    except OSError as err:
        if is_withdrawn(permit) or _is_being_withdrawn(permit, err):
            raise Superseded("the daemon gave this task up while it ran: nothing more is published") from err
        raise


def _is_being_withdrawn(permit: Path | None, err: OSError) -> bool:
    """Whether an error says that a file was gone from its permit: its folder follows."""
    return permit is not None and err.errno in GONE and Path(str(err.filename)).parent == permit

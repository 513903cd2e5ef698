"""Atomic writes: a file is whole or absent, whatever happens while it is written."""

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from obsarchive.errors import NoSpace


@contextmanager
def atomic_path(path: Path, permit: Path | None = None) -> Iterator[Path]:
    """Yield a path to write to; on success it takes the place of `path`, for good and at once.

    The folder is made when absent.  After any error, `path` is unchanged and no temporary file remains.

    Parameters
    ----------
    path : Path
        The file; one that exists is replaced.
    permit : Path, optional
        Folder without which nothing may be written (:mod:`obsarchive.io.permit`): the file is written there and moved
        to its place. To another disk nothing can be moved: there the permit is looked at just before.

    Raises
    ------
    NoSpace
        No space left.
    """
    part = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if permit is not None and permit.stat().st_dev == path.parent.stat().st_dev:
            part = permit / part.name
        yield part
        _synchronise(part)
        if permit is not None:
            permit.stat()
        part.replace(path)
        _synchronise(path.parent)
    except OSError as err:
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"no space left for {path}") from err
        raise
    finally:
        with suppress(OSError):  # the first error tells what happened
            part.unlink(missing_ok=True)


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path: Path, data: bytes | memoryview, permit: Path | None = None) -> None:
    """Write a whole file or none.

    Parameters
    ----------
    path : Path
        The file; one that exists is replaced.
    data : bytes or memoryview
        Its content.
    permit : Path, optional
        Folder without which nothing may be written: see `atomic_path`.

    Raises
    ------
    NoSpace
        There is no space left.
    """
    with atomic_path(path, permit) as part:
        part.write_bytes(data)


def append_private(path: Path, text: bytes) -> None:
    """Add lines to a file that only its owner may read; they are on the disk when this returns.

    Parameters
    ----------
    path : Path
        The file; it and its folder are made when absent. A last line that was cut off is ended first.
    text : bytes
        Whole lines.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        file.write((b"\n" if is_cut else b"") + text)
        file.flush()
        os.fsync(descriptor)


def sweep_unfinished(folder: Path) -> None:
    """Remove below a folder what killed writers left; only for who knows that nobody writes there now."""
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Checksum of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Backup files: one compressed text, private, whole or absent, with a checksum at its end.

The first line says what it is, each further line is one document, the last line counts and checks them.
"""

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from obsarchive.core.json_text import parse_json
from obsarchive.errors import ArchiveError
from obsarchive.io.atomic import atomic_path

FORMAT = "archiver backup"
VERSION = 1
_DAMAGES = (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError)


def write_backup(path: Path, about: Mapping[str, Any], lines: Iterable[str]) -> None:
    """Write a backup that only this user may read.

    Parameters
    ----------
    path : Path
        The file; one that exists is replaced when the new one is complete.
    about : mapping
        What is said of it in its first line.
    lines : iterable of str
        Its documents, each with a line break at the end.
    """
    first = json.dumps({"format": FORMAT, "version": VERSION, **about})
    digest, count = hashlib.sha256(), -1  # the first line is no document
    with (
        atomic_path(path) as part,
        os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw) as file,
    ):
        for line in chain([f"{first}\n"], lines):
            file.write(line.encode())
            digest.update(line.encode())
            count += 1
        file.write(json.dumps({"documents": count, "sha256": digest.hexdigest()}).encode() + b"\n")


def check_backup(path: Path) -> dict[str, Any]:
    """Read a whole backup; return what its first line says.

    Raises
    ------
    ArchiveError
        It is no backup, not complete, or damaged.
    """
    digest, previous, count = hashlib.sha256(), b"", 0
    try:
        with gzip.open(path, "rb") as file:
            about = dict(parse_json(first := file.readline()))
            if about.get("format") != FORMAT:
                raise ValueError("its first line is another one")
            if about["version"] > VERSION:
                raise ArchiveError(f"{path} was written by a later version of the archive: {about.get('by')}")
            previous = first
            for line in file:
                digest.update(previous)
                previous, count = line, count + 1
        end = parse_json(previous)
        if (end["documents"], end["sha256"]) != (count - 1, digest.hexdigest()):
            raise ValueError("its checksum differs")
    except FileNotFoundError:
        raise ArchiveError(f"{path}: there is no such file") from None
    except _DAMAGES as err:
        raise ArchiveError(f"{path} is no complete backup of an archive: {err}") from err
    return about


def read_backup(path: Path) -> Iterator[str]:
    """Yield the documents of a backup that was checked, one a line."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        next(file)
        previous = next(file)
        for line in file:
            yield previous
            previous = line

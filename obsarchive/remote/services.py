"""Single questions to services outside, for pages: with limits of time and size, never led elsewhere, answers kept."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from obsarchive.errors import ArchiveError
from obsarchive.io.atomic import atomic_write
from obsarchive.remote.http import AGENT


class Unanswered(ArchiveError):
    """A service has no answer now; says why."""


def ask(name: str, url: str, limit_s: float, most_bytes: int) -> bytes:
    """Return what a service answers; redirections are not followed.

    Parameters
    ----------
    name : str
        What the service is called in messages.
    url : str
        The question.
    limit_s : float
        Longest time that it may take [s].
    most_bytes : int
        Largest answer.

    Raises
    ------
    Unanswered
        It cannot be reached, is too slow, refuses or sends too much.
    """
    until = time.monotonic() + limit_s
    try:
        with httpx.stream("GET", url, timeout=limit_s, headers={"User-Agent": AGENT}) as answer:
            if answer.status_code != httpx.codes.OK:
                raise Unanswered(f"{name} answered {answer.status_code}")
            return b"".join(_limited(name, answer.iter_bytes(), until, most_bytes))
    except (httpx.HTTPError, httpx.InvalidURL) as err:
        raise Unanswered(f"{name} cannot be reached: {type(err).__name__}") from err


def _limited(name: str, chunks: Iterator[bytes], until: float, most_bytes: int) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > most_bytes:
            raise Unanswered(f"{name} sent more than {most_bytes} bytes")
        if time.monotonic() > until:
            raise Unanswered(f"{name} is too slow")
        yield chunk


def kept(path: Path, make: Callable[[], bytes], most: int) -> Path:
    """Return a file with an answer, made now unless it is there; of its kind the folder keeps those used last.

    Parameters
    ----------
    path : Path
        The file.
    make : callable
        Gives its content; what it raises leaves nothing behind.
    most : int
        Files of this suffix that the folder keeps.
    """
    if path.exists():
        path.touch()
        return path
    atomic_write(path, make())
    files = sorted(path.parent.glob(f"*{path.suffix}"), key=lambda found: found.stat().st_mtime)
    for old in files[:-most]:
        old.unlink(missing_ok=True)
    return path

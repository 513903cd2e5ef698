"""Raw files of the same name below several raw folders: copies count once, and different contents are reported.

Of different contents, those of the folder that the configuration lists first count.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from obsarchive.core.document_types.nights import NightRawFile
from obsarchive.core.documents import Observation, utc_now
from obsarchive.core.raw_problems import RawProblem
from obsarchive.daemon.raw_scanner import Listing
from obsarchive.io.atomic import sha256

WRONG = "remove the wrong one"


def differing_observation(known: Observation, mine: Sequence[Path], folders: Sequence[Path]) -> list[RawProblem]:
    """Report the raw files of an observation that do not count, where two folders hold it with different contents.

    Parameters
    ----------
    known : Observation
        As the database has it, in another folder.
    mine : sequence of Path
        The files of the folder that is looked at.
    folders : sequence of Path
        The night's raw folders.

    Returns
    -------
    list of RawProblem
        Of the files that do not count; empty for copies.

    Raises
    ------
    OSError
        A file cannot be read.
    """
    same_names = [path.name for path in mine] == [path.name for path in known.raw_files]
    if same_names and all(map(is_same_content, mine, known.raw_files)):
        return []
    order = {folder: number for number, folder in enumerate(folders)}
    winning, losing = sorted((known.raw_files, mine), key=lambda files: order.get(files[0].parent, len(order)))
    reason = f"{winning[0].parent} holds the same observation with other contents, which count: {WRONG}"
    return [_problem(path, reason) for path in losing]


def differing_listings(listings: Sequence[Listing]) -> list[str]:
    """Return in words which raw files lie in two folders of a night with different contents.

    Parameters
    ----------
    listings : sequence of Listing
        Of all raw folders, in the order of the configuration.

    Returns
    -------
    list of str
        A line for each file that does not count.
    """
    first: dict[tuple[str, str], Path] = {}
    lines = []
    for listing in listings:
        for found in listing.files:
            counting = first.setdefault((listing.night, found.raw.name), found.path)
            try:
                if counting != found.path and not is_same_content(found.path, counting):
                    lines.append(f"{found.path}: {counting} has other contents and counts: {WRONG}")
            except OSError as err:
                lines.append(f"{found.path}: cannot be compared with {counting}: {err.strerror}")
    return lines


def differing_files(entries: Iterable[Mapping[str, Any]], chosen: Iterable[NightRawFile]) -> list[RawProblem]:
    """Report darks, flats and seeing files of which another raw folder's, with other contents, are used.

    Parameters
    ----------
    entries : iterable of mapping
        Name and folder of the files of all folders.
    chosen : iterable of NightRawFile
        Those that are used.

    Returns
    -------
    list of RawProblem

    Raises
    ------
    OSError
        A file cannot be read.
    """
    used = {file["name"]: Path(file["folder"]) / file["name"] for file in chosen if not file["missing"]}
    paths = {Path(entry["folder"]) / entry["name"] for entry in entries if "folder" in entry}
    return [
        _problem(path, f"{used[path.name]} has other contents and counts: {WRONG}")
        for path in sorted(paths)
        if used.get(path.name, path) != path and path.exists() and not is_same_content(path, used[path.name])
    ]


def _problem(path: Path, reason: str) -> RawProblem:
    return RawProblem(path.name, str(path.parent), reason, utc_now())


def is_same_content(one: Path, other: Path) -> bool:
    """Whether two files hold the same; their bytes are read only if they have the same size at different times.

    Raises
    ------
    OSError
        When one cannot be read.
    """
    first, second = one.stat(), other.stat()
    if first.st_size != second.st_size or first.st_mtime_ns == second.st_mtime_ns:
        return first.st_size == second.st_size
    return _digest(one, first.st_size, first.st_mtime_ns) == _digest(other, second.st_size, second.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 - they tell versions of the file apart
    return sha256(path)

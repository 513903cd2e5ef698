"""Raw data on disk: nights and files, which files are complete, and what changed since the last scan.

A night that did not change costs one ``stat``: its listing is kept until the modification time of its folder
changes. Files that are rewritten in place leave that as it is: their sizes and times are compared in turn, of as many
nights as a short time allows. A folder that cannot be read is an error, never an empty night.
"""

import errno
import hashlib
import itertools
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISDIR, S_ISLNK

from obsarchive.config.field_types import import_class
from obsarchive.config.model import RawRoot
from obsarchive.core.raw_problems import RawProblem, listed
from obsarchive.core.values import plain_text
from obsarchive.errors import ConfigError
from obsarchive.instruments import Instrument, RawFile
from obsarchive.instruments.base import stem
from obsarchive.names import is_night

log = logging.getLogger(__name__)

FULL_LOOK_S = 1800.0
"""Interval at which a night is listed even if nothing of it seems to have changed [s]."""
COMPARED_S, MOST_COMPARED = 0.05, 5000
"""Time [s] that one look spends on comparing sizes and times of known files, and the most of one night."""
RETRY_S = 10.0
"""Interval after the second failure to enter a night; it doubles with each, up to `FULL_LOOK_S` [s]."""
SOON = 3
"""So many failures are waited for before a run that ends by itself ends."""


@dataclass(frozen=True)
class Found:
    """A raw file on disk."""

    raw: RawFile
    path: Path
    size: int
    mtime_ns: int


@dataclass
class Listing:
    """Content of a night's raw folder."""

    night: str
    folder: Path
    instrument: Instrument
    files: list[Found] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    problems: list[RawProblem] = field(default_factory=list)
    growing: list[str] = field(default_factory=list)
    incomplete: bool = field(default=False, compare=False)
    """Whether something of it could not be read or entered, by no fault of its own: it is looked at again."""

    def of_kind(self, kind: str) -> list[Found]:
        """Return the complete files of a kind, by name."""
        growing = set(self.growing)
        return [found for found in self.files if found.raw.kind == kind and found.raw.name not in growing]

    def defaults(self) -> dict[str, int]:
        """Return how many files of a kind lack a keyword: ``science frame(s) without keyword FILTER: filter none``."""
        return Counter(
            f"{found.raw.kind} frame(s) without {text}" for found in self.files for text in found.raw.defaults
        )

    def observations(self) -> dict[str, list[Found]]:
        """Return the files of every observation, in the order of their frames, unless it still grows."""
        groups: dict[str, list[Found]] = {}
        for found in self.files:
            if found.raw.kind == "science":
                groups.setdefault(found.raw.observation, []).append(found)
        growing = set(self.growing)
        return {
            name: sorted(group, key=lambda found: found.raw.part)
            for name, group in groups.items()
            if growing.isdisjoint(found.raw.name for found in group)
        }


def signature(files: Iterable[Found]) -> str:
    """Return 16 hex digits over the names, sizes and times of raw files; empty without files."""
    return signature_of((found.raw.name, found.size, found.mtime_ns) for found in files)


def signature_of(versions: Iterable[tuple[str, int, int]]) -> str:
    """Return the signature of files from their names, sizes and times [ns]."""
    text = "|".join(sorted(f"{name}:{size}:{mtime_ns}" for name, size, mtime_ns in versions))
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


@dataclass
class _Seen:
    """State of a night at the last scan."""

    folder_mtime_ns: int
    looked: float
    sizes: dict[str, tuple[int, int, float]]
    listing: Listing


def open_instrument(root: RawRoot) -> Instrument:
    """Return the adapter of a raw root.

    Raises
    ------
    ConfigError
        When a setting is wrong.
    """
    try:
        instrument: Instrument = import_class(root.instrument)(root.settings)
    except (TypeError, ValueError) as err:
        raise ConfigError(f"paths.raw, {root.path}: {root.instrument}: {err}") from err
    return instrument


class Scanner:
    """Scanner of one root of nightly folders.

    Parameters
    ----------
    root : RawRoot
        The folder and its instrument.
    settle_time_s : float
        A file must not have changed for this long to count as complete [s].
    first_night : str
        Earlier nights are ignored.
    monotonic, wall : callable, optional
        Clocks [s].
    """

    def __init__(
        self,
        root: RawRoot,
        settle_time_s: float,
        first_night: str = "",
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.path = root.path
        self.instrument = open_instrument(root)
        self.settle_time_s = settle_time_s
        self.first_night = first_night
        self._monotonic, self._wall = monotonic, wall
        self._seen: dict[str, _Seen] = {}
        self._failures: Counter[str] = Counter()
        self._compared = ""
        """The night whose files were compared last."""
        self._compared_of: Counter[str] = Counter()
        """How many files of a large night were compared: the next look goes on with the others."""

    def nights(self) -> list[str]:
        """Return the nights on disk, newest first.

        Raises
        ------
        OSError
            When the root cannot be read.
        """
        with os.scandir(self.path) as entries:
            names = [entry.name for entry in entries if is_night(entry.name) and _is_true(entry.is_dir)]
        return sorted((name for name in names if name >= self.first_night), reverse=True)

    def not_looked_at(self) -> list[str]:
        """Return in words what else the root holds: nights too early or no folder, FITS files outside of nights.

        Raises
        ------
        OSError
            When the root cannot be read.
        """
        found = [entry for entry in _entries(self.path) if not entry.name.startswith(".")]
        nights = [entry for entry in found if is_night(entry.name)]
        early = [entry.name for entry in nights if entry.name < self.first_night]
        no_folders = [entry.name for entry in nights if entry.name >= self.first_night and not _is_true(entry.is_dir)]
        others = [entry.name for entry in found if not is_night(entry.name)]
        folders = [name for name in others if holds_fits_files(self.path / name)]
        files = [name for name in others if stem(name) is not None and not (self.path / name).is_dir()]
        count_of = {
            f"night(s) before {self.first_night} not looked at: daemon.archiving_start_date": early,
            "night(s) not looked at, expected a folder, found a file or a link that leads to none": no_folders,
            "folder(s) with FITS files not looked at, expected a night yyyymmdd as name": folders,
            "FITS file(s) not looked at, expected in a folder of their night, yyyymmdd": files,
        }
        return [f"{len(names)} {text} ({listed(map(plain_text, names))})" for text, names in count_of.items() if names]

    def changed(self, only: set[str] | None = None) -> Iterator[Listing]:
        """Yield the nights whose content is new or changed since the last call, newest first."""
        nights = self.nights()
        for gone in self._seen.keys() - set(nights):
            self.forget(gone)
            self.entered(gone)
        nights = [night for night in nights if not only or night in only]
        rewritten = set(self._rewritten(nights))
        for night in nights:
            try:
                listing = self._look(night, night in rewritten)
            except OSError as err:
                log.warning("night %s in %s cannot be read, looked at again later: %s", night, self.path, err)
                continue
            if listing is not None:
                yield listing

    @property
    def unsettled(self) -> bool:
        """Whether a file of the last scan may still be growing, or a night is soon to be tried again."""
        soon = any(failures <= SOON for failures in self._failures.values())
        return soon or any(seen.listing.growing for seen in self._seen.values())

    @property
    def problems_count(self) -> int:
        """Number of files of the last scan that are not understood."""
        return sum(len(seen.listing.problems) for seen in self._seen.values())

    def forget(self, night: str) -> None:
        """Have a night reported as changed by the next call."""
        self._seen.pop(night, None)

    def forget_all(self) -> None:
        """Have all nights reported as changed by the next call."""
        self._seen.clear()

    def failed(self, night: str) -> None:
        """Have a night reported again that could not be entered whole: by the next call, then at growing intervals."""
        self._failures[night] += 1

    def entered(self, night: str) -> None:
        """Note that a night was entered whole."""
        self._failures.pop(night, None)

    def _rewritten(self, nights: list[str]) -> Iterator[str]:
        """Yield nights with known files of another size or time: of the newest one, and of others in turn."""
        until = self._monotonic() + COMPARED_S
        older = [night for night in nights[1:] if night < self._compared]
        in_turn = [*nights[:1], *older, *(night for night in nights[1:] if night >= self._compared)]
        for night in in_turn:
            if night in self._seen and self._differs(night, self._seen[night].sizes):
                yield night
            if night != nights[0]:
                self._compared = night
            if self._monotonic() > until:
                return

    def _differs(self, night: str, known: Mapping[str, tuple[int, int, float]]) -> bool:
        begin = self._compared_of.pop(night, 0)
        if begin + MOST_COMPARED < len(known):
            self._compared_of[night] = begin + MOST_COMPARED
        return _differ(self.path / night, itertools.islice(known.items(), begin, begin + MOST_COMPARED))

    def _look(self, night: str, is_rewritten: bool) -> Listing | None:
        folder = self.path / night
        mtime_ns = folder.stat().st_mtime_ns
        seen = self._seen.get(night)
        now = self._monotonic()
        failures = self._failures[night]
        interval = min(RETRY_S * (2 ** (failures - 1) - 1), FULL_LOOK_S) if failures else FULL_LOOK_S
        fresh = seen is not None and now - seen.looked < interval
        if seen and fresh and seen.folder_mtime_ns == mtime_ns and not seen.listing.growing and not is_rewritten:
            return None
        listing, sizes = self._list(night, folder, seen.sizes if seen else {})
        self._seen[night] = _Seen(mtime_ns, now, sizes, listing)
        return None if seen and seen.listing == listing and not failures else listing

    def _list(
        self, night: str, folder: Path, before: dict[str, tuple[int, int, float]]
    ) -> tuple[Listing, dict[str, tuple[int, int, float]]]:
        listing = Listing(night, folder, self.instrument)
        sizes: dict[str, tuple[int, int, float]] = {}
        now, wall = self._monotonic(), self._wall()
        for entry in _entries(folder):
            path = folder / entry.name
            is_plain = _is_true(entry.is_file)
            raw = self.instrument.identify(path) if is_plain else _no_file(path)
            kept = raw.kind != "ignored"
            if not kept:
                listing.ignored.append(entry.name)
                if not raw.problem and stem(entry.name) is None:
                    continue  # a young raw file may be one whose header is not there yet
            stat = entry.stat() if is_plain else _stat(path)
            found = Found(raw, path, stat.st_size, stat.st_mtime_ns)
            since = _unchanged_since(found, before.get(entry.name), now, wall)
            sizes[entry.name] = (found.size, found.mtime_ns, since)
            if now - since < self.settle_time_s:
                listing.growing.append(entry.name)
            elif raw.problem and not entry.name.startswith("."):
                listing.problems.append(problem_of(listing, found, found.raw.problem))
                listing.incomplete |= raw.is_unread
            if kept:
                listing.files.append(found)
        if not listing.files and not listing.growing:
            others = [folder / name for name in listing.ignored if stem(name) is None]
            inner = [path for path in others if holds_fits_files(path)]
            listing.problems += map(_problem_of_folder, inner)
        return listing, sizes


def _differ(folder: Path, known: Iterable[tuple[str, tuple[int, int, float]]]) -> bool:
    """Whether a known file of a night has another size or time, or is gone."""
    for name, (size, mtime_ns, _) in known:
        try:
            stat = _stat(f"{folder}/{name}")
        except FileNotFoundError:
            return True
        except OSError:
            return False  # the look at the night says so
        if (stat.st_size, stat.st_mtime_ns) != (size, mtime_ns):
            return True
    return False


def problem_of(listing: Listing, found: Found, reason: str) -> RawProblem:
    """Return what is wrong with a file of a night."""
    changed = datetime.fromtimestamp(found.mtime_ns // 10**6 / 1e3, tz=UTC)
    return RawProblem(plain_text(found.path.name), str(listing.folder), plain_text(reason), changed)


def _problem_of_folder(path: Path) -> RawProblem:
    changed = datetime.fromtimestamp(path.stat().st_mtime_ns // 10**6 / 1e3, tz=UTC)
    reason = "a folder with FITS files: they are expected in the folder of the night itself"
    return RawProblem(plain_text(path.name), str(path.parent), reason, changed)


def holds_fits_files(folder: Path) -> bool:
    """Whether a path is a folder with FITS files; those of folders in it do not count."""
    try:
        with os.scandir(folder) as entries:
            return any(stem(entry.name) is not None for entry in entries)
    except OSError:  # no folder, or none that can be read
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what a folder holds, by name."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""Errors of links whose target does not exist, or is the link itself; any other one is that of a disk."""


def _is_true(test: Callable[[], bool]) -> bool:
    """Whether an entry of a folder is a file or a folder, as its method says; a link that leads nowhere is neither."""
    try:
        return test()
    except OSError as err:
        if err.errno in _LEADS_NOWHERE:
            return False
        raise


def _stat(path: str | Path) -> os.stat_result:
    """Return what a path leads to; of a link that leads nowhere, the link itself."""
    try:
        return os.stat(path)  # noqa: PTH116 - of very many
    except OSError as err:
        if err.errno not in _LEADS_NOWHERE:
            raise
        return os.lstat(path)


def _no_file(path: Path) -> RawFile:
    """Return what is no file, a problem if it is called like one; to open a pipe may block for ever."""
    problem = ""
    if stem(path.name) is not None:
        mode = _stat(path).st_mode
        if S_ISLNK(mode):
            problem = "a link that leads to no file: mend or remove it"
        elif S_ISDIR(mode):
            problem = "a folder that is called like a file: FITS files are expected in the folder of the night itself"
        else:
            problem = "no file, but a pipe, a socket or a device: remove it"
    return RawFile(path.name, "ignored", problem=problem)


def _unchanged_since(found: Found, before: tuple[int, int, float] | None, now: float, wall: float) -> float:
    """Return the monotonic time since which a file has kept its size and time [s].

    A file seen for the first time is taken to be as old as its time, unless that is in the future.
    """
    if before is not None and before[:2] == (found.size, found.mtime_ns):
        return before[2]
    age = wall - found.mtime_ns / 1e9
    return now - max(age, 0.0) if before is None else now

"""The PSF library of an archive: reference stars of all nights in one FITS file, ``psf_library.fits``.

The file is authoritative: a cube of stamps and a table of their facts. Decisions of administrators are rows of the
table, too, so that a removed star is not added again; nights give lost stamps again, but not these, so that they also
lie in a file beside it. A writer locks the library, reads it and replaces the file as a whole; readers never lock.
"""

import fcntl
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from obsarchive import __version__
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Observation
from obsarchive.core.json_text import json_with_checksum, parse_with_checksum
from obsarchive.core.target_names import folded, folded_names
from obsarchive.errors import ArchiveError, Unprocessable
from obsarchive.io import fits_products
from obsarchive.io.atomic import atomic_write
from obsarchive.io.file_locks import FileLock
from obsarchive.names import ObservationName, target_of
from obsarchive.science.arrays import Float32Array

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 120.0
REMOVED = -1
"""Plane of a removed entry."""
SAME_SCALE = 0.01
"""Relative difference of plate scales below which stamps fit each other."""
_TEXTS = ("observation", "night", "telescope", "filter", "stack", "added_by", "added")
_NUMBERS = ("pixel_arcsec", "strehl_percent", "fwhm_arcsec")

AddedBy = Literal["auto", "administrator"]


@dataclass(frozen=True)
class Entry:
    """A reference star, or a removed one.

    Parameters
    ----------
    observation, night, telescope, filter : str
        Where it comes from.
    stack : str
        Which stack of the observation: ``100p`` or ``20p``.
    pixel_arcsec : float
        Plate scale of the stamp [arcsec/pixel].
    strehl_percent, fwhm_arcsec : float
        Quality of the star.
    added_by, added : str
        Who decided on it (``auto``, ``administrator``), and when [ISO 8601, UTC].
    plane : int
        Its plane in the cube; -1 when it was removed.
    """

    observation: str
    night: str
    telescope: str
    filter: str
    stack: str
    pixel_arcsec: float
    strehl_percent: float = float("nan")
    fwhm_arcsec: float = float("nan")
    added_by: str = "auto"
    added: str = ""
    plane: int = REMOVED

    @property
    def key(self) -> tuple[str, str]:
        """Which stack of which observation."""
        return self.observation, self.stack

    @property
    def target(self) -> str:
        """Star that was observed; the observation itself when its name does not say."""
        return target_of(self.observation)

    @property
    def is_removed(self) -> bool:
        """Whether it stays away from the library."""
        return self.plane == REMOVED

    @property
    def date_utc(self) -> datetime:
        """Start of the observation."""
        return ObservationName.parse(self.observation).date_utc


@dataclass(frozen=True)
class PsfLibrary:
    """Content of the library; stamps are read on demand.

    Parameters
    ----------
    path : Path
        The file.
    entries : tuple of Entry
        Reference stars, in the order of their planes.
    removed : tuple of Entry
        Removed stars.
    version : int
        Counts the changes; 0 when there is no library yet.
    """

    path: Path
    entries: tuple[Entry, ...] = ()
    removed: tuple[Entry, ...] = ()
    version: int = 0

    @classmethod
    def read(cls, layout: Layout) -> Self:
        """Read the table; a missing file is an empty library, from which stars were removed as before it was lost.

        Parameters
        ----------
        layout : Layout
            The archive tree.

        Returns
        -------
        PsfLibrary

        Raises
        ------
        ArchiveError
            The file is damaged.
        """
        path = layout.psf_library
        try:
            with fits.open(path, memmap=True) as hdus:
                rows = hdus["ENTRIES"].data
                version = int(hdus[0].header["VERSION"])
                found = [_entry(row) for row in rows]
        except FileNotFoundError:
            return cls(path, removed=_removed(layout.psf_library_removals))
        except (OSError, ValueError, TypeError, LookupError, AttributeError, fits.VerifyError) as err:
            raise ArchiveError(
                f"{path} cannot be read: {err}; move it away: it is made again from the nights' summary/psflib folders"
            ) from err
        members = tuple(entry for entry in found if not entry.is_removed)
        return cls(path, members, tuple(entry for entry in found if entry.is_removed), version)

    def select(self, *, telescope: str, filter: str, stack: str, pixel_arcsec: float, but: Observation) -> Self:
        """Return the stars that may serve as references of an observation: same optics, another star.

        Parameters
        ----------
        telescope : str
            Name of the telescope.
        filter : str
            Name of the filter.
        stack : str
            Name of the stack that the stamps are cut from.
        pixel_arcsec : float
            Plate scale of the stack [arcsec/pixel].
        but : Observation
            The observation, whose star is excluded under all its names.

        Returns
        -------
        PsfLibrary
            The library with these entries only.
        """
        names = {folded(target_of(but.id)), *folded_names(but.document)}
        chosen = tuple(
            entry
            for entry in self.entries
            if (entry.telescope, entry.filter, entry.stack) == (telescope, filter, stack)
            and abs(entry.pixel_arcsec / pixel_arcsec - 1) < SAME_SCALE
            and entry.observation != but.id
            and folded(entry.target) not in names
        )
        return replace(self, entries=chosen)

    @property
    def stamps(self) -> NDArray[np.float32]:
        """Stamps of the entries, shape (n, side, side): the star on the central pixel, flux 1.

        Raises
        ------
        ArchiveError
            The file is damaged, or was replaced since the table was read.
        """
        if not self.entries:
            return np.empty((0, 0, 0), np.float32)
        with fits.open(self.path, memmap=True) as hdus:
            if int(hdus[0].header["VERSION"]) != self.version:
                raise ArchiveError(f"{self.path} changed while it was read: version {self.version} is gone")
            planes = hdus["STAMPS"].data
            stamps = np.empty((len(self.entries), *planes.shape[1:]), np.float32)
            for stamp, entry in zip(stamps, self.entries, strict=True):
                stamp[...] = planes[entry.plane]
            return stamps

    def find(self, observation: str) -> tuple[Entry, ...]:
        """Entries of an observation, removed or not."""
        return tuple(entry for entry in (*self.entries, *self.removed) if entry.observation == observation)


def _entry(row: Any) -> Entry:
    fields: dict[str, Any] = {name: str(row[name]).strip() for name in _TEXTS}
    fields |= {name: float(row[name]) for name in _NUMBERS}
    return Entry(**fields, plane=int(row["plane"]))


@dataclass
class Change:
    """A change of the library that is being made.

    Parameters
    ----------
    before : PsfLibrary
        What there was.
    """

    before: PsfLibrary
    entries: dict[tuple[str, str], tuple[Entry, NDArray[np.float32] | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stamps = self.before.stamps
        self.entries = {entry.key: (entry, stamp) for entry, stamp in zip(self.before.entries, stamps, strict=True)} | {
            entry.key: (entry, None) for entry in self.before.removed
        }

    def add(self, entry: Entry, stamp: NDArray[np.floating], added_by: AddedBy) -> bool:
        """Add a star.

        A star that was removed is not added again automatically: two stars that spoil each other's subtraction would
        be added and removed for ever.

        Parameters
        ----------
        entry : Entry
            Facts of the star; its plane and date of addition are set here.
        stamp : (n, n) ndarray of float
            Image of the star.
        added_by : {"auto", "administrator"}
            Who adds it.

        Returns
        -------
        bool
            False when the same stamp is there already, or the star was removed and `added_by` is ``"auto"``.

        Raises
        ------
        Unprocessable
            Its stamp has another size than those of the library.
        """
        known, kept = self.entries.get(entry.key, (None, None))
        if known is not None and known.is_removed and added_by == "auto":
            return False
        stamp = np.ascontiguousarray(stamp, np.float32)
        if kept is not None and np.array_equal(kept, stamp, equal_nan=True):
            return False
        self._check_shape(entry, stamp)
        who = added_by if known is None or known.is_removed else known.added_by
        self.entries[entry.key] = (replace(entry, added_by=who, added=_now(), plane=0), stamp)
        return True

    def _check_shape(self, entry: Entry, stamp: Float32Array) -> None:
        shapes = {other.shape for _, other in self.entries.values() if other is not None} - {stamp.shape}
        if shapes:
            raise Unprocessable(
                f"the stamp of {entry.observation} is {stamp.shape}, those of {self.before.path} are {shapes.pop()}: "
                "move the library away, it is made again from the nights' summary/psflib folders"
            )

    def remove(self, observation: str, removed_by: AddedBy) -> bool:
        """Remove all stamps of a star; the library keeps who removed it.

        Parameters
        ----------
        observation : str
            Id of its observation.
        removed_by : {"auto", "administrator"}
            Who removes it.

        Returns
        -------
        bool
            False when there are none.
        """
        found = [key for key, (entry, _) in self.entries.items() if key[0] == observation and not entry.is_removed]
        for key in found:
            entry = replace(self.entries[key][0], added_by=removed_by, added=_now(), plane=REMOVED)
            self.entries[key] = (entry, None)
        return bool(found)

    def holds(self, observation: str) -> bool:
        """Whether a star is in the library."""
        return any(key[0] == observation and not entry.is_removed for key, (entry, _) in self.entries.items())

    def removable(self, observation: str) -> bool:
        """Whether a star is in the library that no administrator added."""
        entries = [entry for key, (entry, _) in self.entries.items() if key[0] == observation]
        return any(not entry.is_removed and entry.added_by == "auto" for entry in entries)

    def limit(self, per_group: int) -> None:
        """Keep at most `per_group` stars of a telescope, filter and stack; the oldest automatically added go first."""
        groups: dict[tuple[str, str, str], list[Entry]] = {}
        for entry, stamp in self.entries.values():
            if stamp is not None:
                groups.setdefault((entry.telescope, entry.filter, entry.stack), []).append(entry)
        for members in groups.values():
            members.sort(key=lambda entry: (entry.added_by == "administrator", entry.night, entry.observation))
            for entry in members[: max(0, len(members) - per_group)]:
                del self.entries[entry.key]


@contextmanager
def changed(layout: Layout) -> Iterator[Change]:
    """Lock the library, let the caller change it, and write it, with a new version, if it is not what it was.

    Raises
    ------
    ServiceUnavailable
        Another process holds the lock all the time.
    ArchiveError
        The library is damaged, or there is no space left.
    """
    lock = FileLock(layout.psf_library_lock)
    lock.acquire(fcntl.LOCK_EX, LOCK_TIMEOUT_S)
    try:
        change = Change(PsfLibrary.read(layout))
        before = dict(change.entries)
        yield change
        if _identities(before) != _identities(change.entries):
            _write(change, layout)
    finally:
        lock.release()


def _identities(entries: Mapping[tuple[str, str], tuple[Entry, Any]]) -> set[tuple[Entry, int]]:
    return {(replace(entry, plane=0 if stamp is not None else REMOVED), id(stamp)) for entry, stamp in entries.values()}


def _write(change: Change, layout: Layout) -> None:
    kept = sorted(change.entries.values(), key=lambda item: (item[1] is None, item[0].night, item[0].key))
    stamps = [stamp for _, stamp in kept if stamp is not None]
    rows = [replace(entry, plane=REMOVED if stamp is None else i) for i, (entry, stamp) in enumerate(kept)]
    cube = np.stack(stamps) if stamps else np.zeros((1, 1, 1), np.float32)
    header = {
        "VERSION": (change.before.version + 1, "counts the changes of this library"),
        "NSTARS": (len(stamps), "reference stars"),
        "NREMOVED": (len(kept) - len(stamps), "stars that were removed and stay away"),
    }
    provenance = fits_products.Provenance(__version__, "psflib", "library", config_hash="")
    images = {"": np.zeros((1, 1), np.float32), "STAMPS": cube, "ENTRIES": _table(rows)}
    fits_products.write_fits(layout.psf_library, images, header, provenance)
    removed = {"removed": [asdict(row) for row in rows if row.is_removed]}
    atomic_write(layout.psf_library_removals, json_with_checksum(removed))


def _removed(path: Path) -> tuple[Entry, ...]:
    """Return the stars that were removed from a library that is lost, from the file beside it."""
    try:
        return tuple(Entry(**row) for row in parse_with_checksum(path.read_bytes())["removed"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, LookupError) as err:
        log.warning("%s is not used: stars that were removed from the library may come back: %s", path, err)
        return ()


def _table(rows: Sequence[Entry]) -> NDArray[Any]:
    columns: list[tuple[str, NDArray[Any]]] = [(name, _texts(getattr(row, name) for row in rows)) for name in _TEXTS]
    columns += [(name, np.array([getattr(row, name) for row in rows], np.float64)) for name in _NUMBERS]
    columns.append(("plane", np.array([row.plane for row in rows], np.int32)))
    table = np.empty(len(rows), dtype=[(name, values.dtype) for name, values in columns])
    for name, values in columns:
        table[name] = values
    return table


def _texts(values: Iterable[str]) -> NDArray[Any]:
    texts = [value.encode("ascii", "replace") for value in values]
    return np.array(texts, dtype=f"S{max([1, *map(len, texts)])}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

"""HDF5 files of light curves: compact, replaced as a whole, with checksums, safe with many writers.

A file is never changed in place: a writer copies it, changes the copy and renames that, under a lock beside the file.
Readers see the file before or after, and a killed writer leaves it unchanged. A file holds the sources of one RA zone
(1° of right ascension), so that a batch of sources costs the copy of few files. A key is an HDF5 dataset with named
columns; its attribute ``altdata`` (JSON) has the metadata and a checksum of both. Keys are percent-escaped
(:mod:`surveys.formats.hdf5_keys`) in files with the attribute ``keys``, and as they are in older ones.
"""

import fcntl
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5p, h5s, h5t
from numpy.typing import NDArray

from obsarchive.errors import ArchiveError
from obsarchive.io.atomic import atomic_path
from obsarchive.io.file_locks import FileLock
from surveys.formats.hdf5_keys import FOREIGN, escape, unescape

log = logging.getLogger(__name__)

ALTDATA = b"altdata"
MARK = re.compile(r'{"_checksum":"([0-9a-f]{16})",?')
LOCK_WAIT_S = 120.0
ESCAPING = "keys", "percent-escaped"
"""Attribute of a file whose keys are escaped, and its value."""
LEVEL = 1
"""Compression level: higher ones take time and save little in so small datasets."""

ONE = h5s.create(h5s.SCALAR)

Columns = dict[str, NDArray[Any]]


class CorruptFileError(ArchiveError):
    """A file or a record in it is not what was written."""


class MissingDataError(ArchiveError, KeyError):
    """There is no such file or key."""

    def __str__(self) -> str:
        return ArchiveError.__str__(self)


@dataclass(frozen=True)
class Record:
    """Data of one key.

    Parameters
    ----------
    columns : dict of str to ndarray (n,)
        Columns of equal length.
    altdata : dict
        Metadata; any types of JSON.
    """

    columns: Columns
    altdata: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0


def ra_zone(ra_deg: float) -> int:
    """Return the RA zone of a right ascension [deg]: whole degrees, 0 to 359."""
    return int(ra_deg % 360.0) % 360


def checksum(record: Record) -> str:
    """Return the checksum of a record."""
    table, text = _table(record.columns), _json(record.altdata)
    return _digest(table, text)


def _digest(table: NDArray[Any] | None, text: str) -> str:
    found = hashlib.blake2b(text.encode(), digest_size=8)
    if table is not None:
        # not the dtype's own description: h5py adds metadata to the types that it reads
        found.update(_described(table.dtype))
        found.update(table.tobytes())
    return found.hexdigest()


@lru_cache(maxsize=256)
def _described(dtype: np.dtype[Any]) -> bytes:
    return repr([(name, dtype[name].str) for name in dtype.names or ()]).encode()


def _marked(text: str, digest: str) -> str:
    """Return JSON of a mapping with its checksum as the first key."""
    return f'{{"_checksum":"{digest}"{"," if len(text) > 2 else ""}{text[1:]}'


def _unmarked(text: str) -> tuple[str, str]:
    """Return the checksum in a JSON text, and the text without it."""
    found = MARK.match(text)
    if found is None:
        raise ValueError("no checksum")
    return found.group(1), "{" + text[found.end() :]


def _json(altdata: Mapping[str, Any]) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, np.generic | np.ndarray):
            return value.tolist()
        return str(value)

    return json.dumps(altdata, default=plain, sort_keys=True, separators=(",", ":"))


def _table(columns: Columns) -> NDArray[Any] | None:
    """Return columns as one structured array, text as UTF-8 bytes."""
    if not columns:
        return None
    parts = {name: _storable(name, np.asarray(values)) for name, values in columns.items()}
    lengths = {len(part) for part in parts.values()}
    if len(lengths) != 1:
        raise ArchiveError(f"columns of unequal lengths {sorted(lengths)} cannot be one light curve")
    table = np.empty(lengths.pop(), _row_type(tuple((name, part.dtype) for name, part in parts.items())))
    for name, part in parts.items():
        table[name] = part
    return table


@lru_cache(maxsize=256)
def _row_type(columns: tuple[tuple[str, np.dtype[Any]], ...]) -> np.dtype[Any]:
    return np.dtype(list(columns))


def _storable(name: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim != 1:
        raise ArchiveError(f"column {name!r} of a light curve has one dimension, found {values.ndim}")
    if values.dtype.kind == "O":
        import pandas as pd  # late: it is large

        values = np.array(["" if pd.isna(value) else str(value) for value in values], "U")
    if values.dtype.kind == "M":
        values = np.datetime_as_string(values)  # as text, since numbers would lose their unit
    if values.dtype.kind == "U":
        values = np.char.encode(values, "utf-8", FOREIGN) if values.size else values.astype("S1")
    if values.dtype.kind == "S":
        return values if values.dtype.itemsize else values.astype("S1")
    if values.dtype.kind not in "biuf":
        raise ArchiveError(f"column {name!r} of a light curve holds numbers or text, found {values.dtype}")
    return values


class PhotometryFile:
    """A file of light curves.

    Parameters
    ----------
    path : Path
        The file; made by the first `write`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the file against other writers, in this and other processes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        lock.acquire(fcntl.LOCK_EX, LOCK_WAIT_S)
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _opened(self) -> Iterator[h5py.File]:
        try:
            # without HDF5's own locks, which fail on some network file systems: files are only replaced as a whole
            file = h5py.File(self.path, "r", locking=False)
        except FileNotFoundError as err:
            raise MissingDataError(f"{self.path}: no such file") from err
        except OSError as err:
            raise self._damaged(err) from err
        with file:
            try:
                yield file
            except RuntimeError as err:  # raised by HDF5 for damaged metadata
                raise self._damaged(err) from err

    def _damaged(self, err: Exception) -> CorruptFileError:
        return CorruptFileError(f"{self.path} is no readable HDF5 file ({err}): restore it, or fetch its sources again")

    def keys(self) -> list[str]:
        """Return all keys, sorted; none if there is no file."""
        try:
            with self._opened() as file:
                return sorted(map(unescape, file) if _is_escaped(file) else file)
        except MissingDataError:
            return []

    def read(self, key: str) -> Record:
        """Return the record of a key.

        Raises
        ------
        MissingDataError
            No such file or key.
        CorruptFileError
            It is not what was written.
        """
        with self._opened() as file:
            return self._record(file, key, _is_escaped(file))

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, Record | ArchiveError]]:
        """Yield the records of several keys, or the errors of those that cannot be read."""
        with self._opened() as file:
            is_escaped = _is_escaped(file)
            for key in keys:
                try:
                    yield key, self._record(file, key, is_escaped)
                except ArchiveError as err:
                    yield key, err

    def _record(self, file: h5py.File, key: str, is_escaped: bool) -> Record:
        stored = _stored_key(key, is_escaped)
        try:
            dataset = h5d.open(file.id, stored) if stored else None
        except (KeyError, RuntimeError) as err:
            # whether it is there is asked only now: the question takes as long as opening it
            if stored in file:
                raise CorruptFileError(f"{self.path}: {key!r} cannot be read: {err}") from err
            dataset = None
        if dataset is None:
            raise MissingDataError(f"{self.path} holds no {key!r}")
        try:
            table, text = _read(dataset)
            wanted, plain = _unmarked(text)
            altdata = json.loads(plain)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as err:
            raise CorruptFileError(f"{self.path}: {key!r} cannot be read: {err}") from err
        if _digest(table, plain) != wanted:
            raise CorruptFileError(f"{self.path}: {key!r} is not what was written: its checksum differs")
        columns: Columns = {}
        for name in () if table is None else table.dtype.names or ():
            values = table[name]  # type: ignore[index]
            columns[name] = (
                np.char.decode(values, "utf-8", FOREIGN) if values.dtype.kind == "S" else np.ascontiguousarray(values)
            )
        return Record(columns, altdata)

    def write(self, records: Mapping[str, Record], remove: Iterable[str] = ()) -> None:
        """Add or replace records, all of them or none.

        Parameters
        ----------
        records : mapping of str to Record
            Records by key, which may be any text.
        remove : iterable of str
            Keys to remove.

        Raises
        ------
        ArchiveError
            Columns that cannot be stored, or the file cannot be written.
        """
        with self.locked(), atomic_path(self.path) as part:
            self._sweep(part)
            known, is_escaped = self._keys_or_aside()
            gone = {*records, *remove}.intersection(known)
            if gone or any(escape(key) != key for key in known if not is_escaped):
                self._copy_others(part, gone)
            elif self.path.exists():
                shutil.copyfile(self.path, part)
            try:
                with h5py.File(part, "a", libver="latest", locking=False) as file:
                    file.attrs[ESCAPING[0]] = ESCAPING[1]
                    for key, record in records.items():
                        _write(file, key, record)
            except (RuntimeError, ValueError) as err:  # raised by HDF5 where the disk is full
                raise ArchiveError(f"{self.path} cannot be written: {err}") from err

    def remove(self, keys: Iterable[str]) -> None:
        """Remove keys, and the file if none is left."""
        gone = set(keys)
        if not gone.intersection(self.keys()):
            return
        self.write({}, gone)
        with self.locked():
            if not self.keys():
                self.path.unlink(missing_ok=True)

    def _keys_or_aside(self) -> tuple[list[str], bool]:
        """Return all keys, and whether they are escaped; a damaged file is renamed, so that it can be written again."""
        try:
            with self._opened() as file:
                return self.keys(), _is_escaped(file)
        except MissingDataError:
            return [], True
        except CorruptFileError as err:
            aside = self.path.with_name(f"{self.path.name}.damaged_{datetime.now(UTC):%Y%m%d_%H%M%S}")
            self.path.replace(aside)
            log.error("%s; it is kept as %s", err, aside.name)  # noqa: TRY400 - the message is complete
            return [], True

    def _sweep(self, mine: Path) -> None:
        """Remove temporary files of killed writers: no writer is active while this process holds the lock."""
        for left in self.path.parent.glob(f".{self.path.name}.*.part"):
            if left != mine:
                left.unlink(missing_ok=True)

    def _copy_others(self, part: Path, gone: set[str]) -> None:
        """Copy the remaining keys: HDF5 does not free the space of deleted datasets."""
        with self._opened() as old, h5py.File(part, "w", libver="latest", locking=False) as new:
            is_escaped = _is_escaped(old)
            for stored in old:
                key = unescape(stored) if is_escaped else stored
                if key not in gone:
                    old.copy(stored, new, escape(key))


def _is_escaped(file: h5py.File) -> bool:
    try:
        return ESCAPING[0] in file.attrs
    except KeyError as err:
        raise RuntimeError(f"its attributes cannot be read: {err}") from err


def _stored_key(key: str, is_escaped: bool) -> bytes:
    """Return how a key is written in a file; empty if no file has such a key."""
    stored = escape(key) if is_escaped else key
    # a slash or a dot would lead HDF5 elsewhere, and only older files have keys with them as they are
    is_key = bool(stored) and "/" not in stored and "\0" not in stored and stored not in (".", "..")
    return stored.encode(errors=FOREIGN) if is_key else b""


def check_storable(record: Record) -> None:
    """Raise an error if a record cannot be stored.

    Raises
    ------
    ArchiveError
        Columns of unequal lengths, of several dimensions, or of other types than numbers and text.
    """
    _table(record.columns)
    _json(record.altdata)


def _write(file: h5py.File, key: str, record: Record) -> None:
    """Write a dataset by the low-level interface of h5py, which takes half the time for so small ones."""
    table, text = _table(record.columns), _json(record.altdata)
    marked = _marked(text, _digest(table, text)).encode()
    name = escape(key).encode()
    if table is None or not len(table):
        kind = _type_of(np.dtype("u1") if table is None else table.dtype)
        made = h5d.create(file.id, name, kind, h5s.create(h5s.NULL) if table is None else h5s.create_simple((0,)))
    else:
        kind = _type_of(table.dtype)
        made = h5d.create(file.id, name, kind, *_layout(len(table)))
        made.write(h5s.ALL, h5s.ALL, table, kind)
    kind = _text_of_length(len(marked))
    attribute = h5a.create(made, ALTDATA, kind, ONE)
    attribute.write(np.array(marked), mtype=kind)


# Cached: making a type of HDF5 takes longer than writing the data, and most light curves have the same one.


@lru_cache(maxsize=256)
def _layout(n: int) -> tuple[Any, Any]:
    """Return the shape of a dataset of so many rows, and how it is stored: as one compressed chunk."""
    settings = h5p.create(h5p.DATASET_CREATE)
    settings.set_chunk((n,))
    settings.set_shuffle()
    settings.set_deflate(LEVEL)
    return h5s.create_simple((n,)), settings


@lru_cache(maxsize=256)
def _text_of_length(n: int) -> Any:
    kind = h5t.C_S1.copy()
    kind.set_size(n)
    return kind


@lru_cache(maxsize=256)
def _type_of(dtype: np.dtype[Any]) -> Any:
    return h5t.py_create(dtype, logical=True)


@lru_cache(maxsize=256)
def _dtype_of(encoded: bytes) -> np.dtype[Any]:
    plain: np.dtype[Any] = np.dtype(h5t.decode(encoded).dtype)
    return plain


def _read(dataset: Any) -> tuple[NDArray[Any] | None, str]:
    attribute = h5a.open(dataset, ALTDATA)
    kind = attribute.get_type()
    text = np.empty((), f"S{kind.get_size()}")
    attribute.read(text, mtype=kind)
    if dataset.get_space().get_simple_extent_type() == h5s.NULL:
        return None, text.item().decode()
    kind = dataset.get_type()
    table = np.empty(dataset.shape, _dtype_of(kind.encode()))
    if table.size:
        dataset.read(h5s.ALL, h5s.ALL, table, kind)
    return table, text.item().decode()

"""Catalogue files, read column by column and written as a whole: FITS, text, HDF5, VOTable, parquet.

A column has the same values in every format: numbers in native byte order, missing ones NaN, or text without trailing
blanks, missing ones empty. Columns with several values in a row are ignored.
"""

import gzip
import io
import math
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import pyarrow as pa
from astropy.io import fits, votable
from astropy.table import Table
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from obsarchive.errors import OF_DISKS, ArchiveError, ConfigError, DiskTrouble
from obsarchive.io import table_readers
from obsarchive.io.atomic import atomic_write
from obsarchive.io.hdf5_tables import open_hdf5
from obsarchive.io.position_columns import with_joined_positions, with_split_positions
from obsarchive.io.table_readers import Source, native
from obsarchive.io.text_tables import BARE, Opener, open_text

_TEXT = (".csv", ".tsv", ".txt", ".ecsv", ".dat", ".tbl", ".cat", ".asc", ".mrt")
_FITS = (".fits", ".fit")
_VOTABLE = (".xml", ".vot", ".votable")
_OTHER_FITS = (".fts", ".ldac")
_PACKED = (*_FITS, *_TEXT, *_VOTABLE, *_OTHER_FITS)
_STARTS = {b"SIMPLE  =": ".fits", b"\x89HDF\r\n": ".h5", b"PAR1": ".parquet"}
_IS_VOTABLE = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*|<!DOCTYPE[^>]*>\s*)*<(\w+:)?VOTABLE\b", re.DOTALL
)
_NAMED_TABLE = re.compile(r"(?P<file>.+)\[(?P<table>[^\[\]]+)\]")
_NOT_UCS2 = re.compile(r"[\ud800-\udfff\U00010000-\U0010ffff]")
_OF_VOTABLE = {"i1": "i2", "u2": "i4", "u4": "i8"}
_Maker = TypeVar("_Maker")
_Writer = Callable[[io.BytesIO, dict[str, NDArray[Any]]], None]


@dataclass(frozen=True, eq=False)
class ColumnTable:
    """Table of a catalogue file; only columns that are requested are read.

    Attributes
    ----------
    path : Path
        The file.
    source : Source
        Its contents.
    """

    path: Path
    source: Source

    @property
    def names(self) -> list[str]:
        """Names of the columns, as in the file."""
        return self.source.names

    def unit(self, name: str) -> str:
        """Return the unit of a column as the file declares it; empty if it declares none."""
        return self.source.units.get(name, "")

    def __len__(self) -> int:
        return self.source.n_rows

    def column(self, name: str) -> NDArray[Any]:
        """Return a column (n,).

        Missing numbers are NaN, so that integers become float64 if some are missing; text if digits of an identifier
        would be lost.

        Raises
        ------
        ConfigError
            There is no such column, or the file is damaged.
        """
        if name not in self.names:
            near = get_close_matches(name, self.names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.names)}"
            raise ConfigError(f"{self.path}: expected a column {name!r}, found none; {hint}")
        with _explained(self.path):
            [(values, missing)] = self.source.read([name], slice(None))
        return _filled(values, missing)

    def row(self, i: int) -> dict[str, Any]:
        """Return a row as plain Python values by column name, None where missing.

        Raises
        ------
        IndexError
            There is no such row.
        ConfigError
            The file is damaged.
        """
        index = range(len(self))[i]
        with _explained(self.path):
            found = self.source.read(self.names, slice(index, index + 1))
        return {name: _plain(*raw) for name, raw in zip(self.names, found, strict=True)}


def open_table(path: Path, table: str | int | None = None) -> ColumnTable:
    """Return the table of a catalogue file; its contents, else its suffix determine the format.

    FITS (``.fits``, ``.fit``, ``.fts``, ``.ldac``): the first table with columns of positions, else the first. Text
    with a line of names (``.csv``, ``.tsv``, ``.txt``, ``.dat``, ``.ecsv``, ``.tbl``, ``.cat``, ``.mrt``) between
    commas, semicolons, tabs, bars or blanks, after any number of lines that begin with ``#``; also of VizieR with lines
    of units and dashes, ECSV, IPAC, SExtractor and CDS; a column is text if its values are quoted and others are not.
    HDF5 (``.h5``, ``.hdf5``): the first compound dataset, also of pandas or astropy, else the first group of
    one-dimensional datasets of equal length. VOTable (``.xml``, ``.vot``, ``.votable``): the first table. Parquet
    (``.parquet``). FITS, text and VOTables may be compressed (``.gz``).

    Parameters
    ----------
    path : Path
        The file; ``file.fits[2]`` names a table in it.
    table : str or int, optional
        Number or name of a table: an HDU of FITS (the primary one is 0), a TABLE of a VOTable (from 1), a dataset or
        group of HDF5.

    Returns
    -------
    ColumnTable

    Raises
    ------
    ConfigError
        The file is missing, damaged, of unknown format or without a table.
    DiskTrouble
        The disk does not answer, or forbids it.
    """
    path, inside = named_table(path)
    wanted = inside if table is None else str(table)
    read = _format(path, _OPENERS)
    if not path.is_file():
        raise ConfigError(f"{path}: expected a table, found no such file")
    if path.stat().st_size == 0:
        raise ConfigError(f"{path}: expected a table with names of columns, found none: the file is empty")
    with _explained(path):
        read = _OPENERS.get(_suffix_of_contents(path), read)
        return ColumnTable(path, with_split_positions(with_joined_positions(read(path, wanted))))


def named_table(path: Path) -> tuple[Path, str | None]:
    """Return the file and the table of a name such as ``file.fits[2]``; no table if the file has such a name."""
    found = None if path.exists() else _NAMED_TABLE.fullmatch(str(path))
    return (Path(found["file"]), found["table"]) if found else (path, None)


def _suffix_of_contents(path: Path) -> str:
    """Return the suffix of the format that the first bytes of a file tell; empty for text."""
    with table_readers.unpacked(path) as file:
        start = file.read(2000)
    if _IS_VOTABLE.match(start):
        return ".vot"
    return next((suffix for first, suffix in _STARTS.items() if start.startswith(first)), "")


def write_table(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write a table as a whole; `open_table` returns the same values.

    Parameters
    ----------
    path : Path
        Its suffix determines the format: ``.fits``, ``.csv``, ``.h5``, ``.xml``, ``.vot``, ``.parquet`` and the like.
    columns : mapping of ndarray (n,)
        Numbers of at most 64 bits, or text, which loses trailing blanks; may be masked.

    Raises
    ------
    ConfigError
        The format is unknown or cannot store such columns.
    ArchiveError
        No space left.
    """
    write = _format(path, _WRITERS)
    ready = {name: _writable(path, name, values) for name, values in columns.items()}
    lengths = sorted({len(values) for values in ready.values()})
    if len(lengths) != 1:
        raise ConfigError(f"{path}: expected columns of one length, found {lengths or 'none'}")
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(action="ignore"):  # about column names that are no identifiers of VOTable
            write(buffer, ready)
    except (ValueError, TypeError, pa.ArrowException) as err:
        raise ConfigError(f"{path}: expected columns that this format can hold, found {err}; try .parquet") from err
    packed = path.suffix.lower() == ".gz"
    atomic_write(path, gzip.compress(buffer.getbuffer(), mtime=0) if packed else buffer.getbuffer())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings(action="ignore"):  # of astropy, about units and truncated files
            yield
    except ArchiveError:
        raise
    except Exception as err:  # damaged files make the libraries that read them raise anything
        if isinstance(err, OSError) and err.errno in OF_DISKS:
            raise DiskTrouble(f"{path} cannot be read: {err.strerror}") from err
        if isinstance(err, EOFError | zlib.error) or "truncated" in str(err).lower():
            advice = "the file is not complete: copy or fetch it again"
        else:
            advice = "its suffix must be that of its format; write it anew from where it came, for example as FITS"
        raise ConfigError(
            f"{path}: expected a table of the format of its suffix, found a damaged file or another format "
            f"({type(err).__name__}: {err}); {advice}"
        ) from err


def _format(path: Path, makers: Mapping[str, _Maker]) -> _Maker:
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix not in makers or (name.endswith(".gz") and suffix not in _PACKED):
        raise ConfigError(f"{path}: expected a table in {', '.join(makers)}, found {''.join(path.suffixes) or 'none'}")
    return makers[suffix]


def _filled(values: NDArray[Any], missing: NDArray[np.bool_] | None) -> NDArray[Any]:
    if missing is None or not missing.any():
        return values
    if values.dtype.kind == "U":
        return np.where(missing, "", values)
    numbers = values if values.dtype.kind == "f" else values.astype(np.float64)
    if values.dtype.kind in "iu":
        with np.errstate(invalid="ignore"):  # the largest integers overflow, and differ as they should
            loses_digits = numbers.astype(values.dtype) != values
        if (loses_digits & ~missing).any():
            return np.where(missing, "", values.astype("U"))
    return np.where(missing, numbers.dtype.type(np.nan), numbers)


def _plain(values: NDArray[Any], missing: NDArray[np.bool_] | None) -> Any:
    value = values[0].item()
    is_nan = isinstance(value, float) and math.isnan(value)
    return None if (missing is not None and missing[0]) or is_nan or value == "" else value


def _writable(path: Path, name: str, values: NDArray[Any]) -> NDArray[Any]:
    stored = np.ma.getdata(values)
    kind, is_named = stored.dtype.kind, name.isprintable() and name == name.strip() != ""
    is_text = kind in "SU" or (kind == "O" and all(isinstance(value, str | None) for value in stored.tolist()))
    if stored.ndim != 1 or not is_named or not (is_text or (kind in "biuf" and stored.dtype.itemsize <= 8)):
        raise ConfigError(
            f"{path}: column {name!r}: expected a printable name and numbers of at most 64 bits or text in one "
            f"dimension, found {stored.dtype} of shape {stored.shape}"
        )
    if stored.dtype == np.float16:
        stored = stored.astype(np.float32)  # not all formats have 16 bits
    ready = native(stored)
    if is_text and any("\0" in text for text in ready.tolist()):
        raise ConfigError(
            f"{path}: column {name!r}: expected text, found a NUL character, which ends it in most formats"
        )
    return _filled(ready, np.ma.getmaskarray(values) if np.ma.isMaskedArray(values) else None)


def _write_fits(file: io.BytesIO, columns: dict[str, NDArray[Any]]) -> None:
    if any("'" in name for name in columns):
        raise ValueError("a name with a quote")  # some readers of FITS headers fail on it
    rows = _rows(
        {name: values.astype(np.int16) if values.dtype == np.int8 else values for name, values in columns.items()}
    )
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(rows)]).writeto(file)


def _write_csv(file: io.BytesIO, columns: dict[str, NDArray[Any]]) -> None:
    quoted = (name if BARE.fullmatch(name) else '"' + name.replace('"', '""') + '"' for name in columns)
    file.write((",".join(quoted) + "\n").encode())
    # the shortest digits of a 32-bit float read back as another 64-bit one
    exact = [values.astype(np.float64) if values.dtype == np.float32 else values for values in columns.values()]
    options = arrow_csv.WriteOptions(include_header=False, quoting_style="needed")  # text is always quoted
    arrow_csv.write_csv(pa.table(exact, names=list(columns)), file, options)


def _write_hdf5(file: io.BytesIO, columns: dict[str, NDArray[Any]]) -> None:
    rows = _rows(columns)
    fields = [
        (name, h5py.string_dtype("utf-8", kind.itemsize) if kind.kind == "S" else kind)
        for name, kind in ((name, rows.dtype[name]) for name in columns)
    ]
    with h5py.File(file, "w") as made:
        made["table"] = rows.astype(fields)


def _write_votable(file: io.BytesIO, columns: dict[str, NDArray[Any]]) -> None:
    ready = {}
    for name, values in columns.items():
        ready[name] = values.astype(_OF_VOTABLE.get(values.dtype.str[1:], values.dtype))
        if values.dtype.kind == "U":
            words = values.tolist()
            if any(map(_NOT_UCS2.search, words)):
                raise ValueError(f"a character beyond UCS-2 in column {name!r}")
            ready[name] = _bytes(values) if all(map(str.isascii, words)) else values
    votable.from_table(Table(ready)).to_xml(file, tabledata_format="binary2")


def _write_parquet(file: io.BytesIO, columns: dict[str, NDArray[Any]]) -> None:
    parquet.write_table(pa.table(columns), file)


def _rows(columns: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Return columns as one structured array, text as UTF-8."""
    parts = {name: _bytes(values) if values.dtype.kind == "U" else values for name, values in columns.items()}
    rows = np.empty(len(next(iter(parts.values()))), dtype=[(name, part.dtype) for name, part in parts.items()])
    for name, part in parts.items():
        rows[name] = part
    return rows


def _bytes(text: NDArray[np.str_]) -> NDArray[np.bytes_]:
    encoded = np.char.encode(text, "utf-8")
    return encoded if encoded.dtype.itemsize else encoded.astype("S1")  # no format has text of length zero


_OPENERS: dict[str, Opener] = {
    **dict.fromkeys(_FITS, table_readers.open_fits),
    **dict.fromkeys(_TEXT, open_text),
    **dict.fromkeys((".h5", ".hdf5"), open_hdf5),
    **dict.fromkeys(_VOTABLE, table_readers.open_votable),
    **dict.fromkeys((".parquet", ".pq"), table_readers.open_parquet),
    **dict.fromkeys(_OTHER_FITS, table_readers.open_fits),
}
_WRITERS: dict[str, _Writer] = {
    **dict.fromkeys((".fits", ".fit"), _write_fits),
    ".csv": _write_csv,
    **dict.fromkeys((".h5", ".hdf5"), _write_hdf5),
    **dict.fromkeys((".xml", ".vot", ".votable"), _write_votable),
    ".parquet": _write_parquet,
}

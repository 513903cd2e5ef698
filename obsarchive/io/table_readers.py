"""Readers of catalogue files, one for each format, which read columns on demand."""

import gzip
import io
import pickletools
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy.io import fits, votable
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from obsarchive.errors import ConfigError

Raw = tuple[NDArray[Any], NDArray[np.bool_] | None]
"""Values of a column, and the mask of missing ones or None."""


class Source(NamedTuple):
    """Contents of a file: names of its columns, number of rows, and a function that reads columns of rows."""

    names: list[str]
    n_rows: int
    read: Callable[[list[str], slice], list[Raw]]


BARE = re.compile(r'[^\W\d][^",;\t|]*')
"""Names that need no quotes in a text file; numbers do, else the file would seem to have no names."""
_HEAD_BYTES = 2**20
_MISSING_TEXT = ["", "null", "NULL"]
_NO_NUMBER = pa.array(["", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "None", "none", "-", "--", "..."])
_FITS_SCALARS = "LBIJKEDA"
_VOTABLE_TEXT = ("char", "unicodeChar")
_VOTABLE_NUMBERS = ("boolean", "bit", "unsignedByte", "short", "int", "long", "float", "double")


def native(values: NDArray[Any]) -> NDArray[Any]:
    """Return values in native byte order; text from bytes (UTF-8) or objects, without trailing blanks."""
    return _text(values) if values.dtype.kind in "SUO" else values.astype(values.dtype.newbyteorder("="))


def _text(values: NDArray[Any]) -> NDArray[np.str_]:
    if values.dtype.kind == "O":
        text = np.array([_word(value) for value in values.tolist()], dtype="U")
    else:
        try:
            text = values.astype("U")  # much faster than decoding, but for ASCII only
        except UnicodeDecodeError:
            text = np.char.decode(values, "utf-8", "replace")
    return np.strings.rstrip(text, " ")


def _word(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _unpacked(path: Path) -> io.BufferedIOBase:
    # opened here, since astropy leaves damaged files open
    return gzip.GzipFile(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _no_table(path: Path, expected: str, found: object) -> ConfigError:
    return ConfigError(f"{path}: expected {expected}, found {found}; name another file, or write its table anew")


def _distinct(path: Path, names: Iterable[str]) -> list[str]:
    listed = list(names)
    repeated = sorted({name for name in listed if listed.count(name) > 1})
    if repeated or not listed:
        raise _no_table(path, "columns of different names", f"{', '.join(repeated)} repeated" if repeated else "none")
    return listed


def open_fits(path: Path) -> Source:
    """Return the first binary table of a FITS file; it is memory-mapped."""
    with _unpacked(path) as file, fits.open(file, memmap=not isinstance(file, gzip.GzipFile)) as hdus:
        # not a subclass: compressed images are such
        table = next((hdu for hdu in hdus if type(hdu) is fits.BinTableHDU), None)
        if table is None:
            raise _no_table(path, "a binary table", [type(hdu).__name__ for hdu in hdus])
        rows = table.data.view(np.ndarray)  # without astropy's conversion, which reads a whole column for one row
        names = _distinct(path, (column.name for column in table.columns if _is_scalar(column, rows)))
        columns = {name: table.columns[name] for name in names}

    def read(names: list[str], wanted: slice) -> list[Raw]:
        return [_fits_column(rows[name][wanted], columns[name]) for name in names]

    return Source(names, len(rows), read)


def _is_scalar(column: fits.Column, rows: NDArray[Any]) -> bool:
    return column.format.format in _FITS_SCALARS and rows.dtype[column.name].subdtype is None


def _fits_column(stored: NDArray[Any], column: fits.Column) -> Raw:
    if column.format.format == "L":
        return stored == ord("T"), stored == 0
    values = native(stored)
    if values.dtype.kind not in "iuf":
        return values, None
    missing = values == column.null if column.null is not None and values.dtype.kind != "f" else None
    scale, zero = column.bscale or 1, column.bzero or 0
    if (scale, zero) == (1, 2 ** (8 * values.dtype.itemsize - 1)) and values.dtype.kind == "i":
        unsigned = values.view(f"u{values.dtype.itemsize}")
        return unsigned ^ unsigned.dtype.type(zero), missing
    return (values, missing) if (scale, zero) == (1, 0) else (values * float(scale) + float(zero), missing)


def open_text(path: Path) -> Source:
    """Return the table of a text file with a line of names."""
    skipped, names, quoted, delimiter = _head(path)
    _distinct(path, names)
    table = arrow_csv.read_csv(
        path,
        arrow_csv.ReadOptions(column_names=names, skip_rows=skipped),
        arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=_MISSING_TEXT,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    typed = {name: table[name] if name in quoted else _typed(table[name]) for name in names}

    def read(names: list[str], wanted: slice) -> list[Raw]:
        return [_arrow_column(typed[name][wanted]) for name in names]

    return Source(names, len(table), read)


def _head(path: Path) -> tuple[int, list[str], set[str], str]:
    """Return the lines before the first record, the names, which of them are text for certain, and the delimiter."""
    with _unpacked(path) as file:
        text = file.read(_HEAD_BYTES).decode("utf-8-sig", "replace")
    lines = text.split("\n")
    skipped = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), None)
    if skipped is None:
        raise _no_table(path, "a line with names of columns", "none")
    delimiter = max(",;\t|", key=re.sub('"[^"]*"', "", lines[skipped]).count)
    heads, firsts = (_first_record("\n".join(lines[i:]), delimiter) for i in (skipped, skipped + 1))
    if all(re.fullmatch(r"[-+]?[\d.]+", head) for head in heads):
        raise _no_table(path, "a line with names of columns", heads)
    unquoted = (head[1:-1].replace('""', '"') if head.startswith('"') else head for head in heads)
    names = [name or f"column_{i}" for i, name in enumerate(unquoted, start=1)]
    is_quoted = [first.startswith('"') for first in firsts]
    if all(is_quoted) and any(head.startswith('"') and BARE.fullmatch(head[1:-1]) for head in heads):
        return skipped + 1, names, set(), delimiter  # everything is quoted, so that quotes do not mark text
    return skipped + 1, names, {name for name, is_text in zip(names, is_quoted, strict=False) if is_text}, delimiter


def _first_record(text: str, delimiter: str) -> list[str]:
    """Return the fields of a record, with their quotes."""
    field = re.compile(rf'("(?:[^"]|"")*"|[^\r\n{re.escape(delimiter)}]*)({re.escape(delimiter)}|)')
    found, at, goes_on = [], 0, True
    while goes_on and (match := field.match(text, at)):
        found.append(match[1].strip())
        at, goes_on = match.end(), bool(match[2])
    return found


def _typed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as numbers if all its values are; integers keep their digits."""
    trimmed = pc.utf8_trim_whitespace(column)
    present = pc.if_else(pc.is_in(trimmed, _NO_NUMBER), pa.scalar(None, pa.string()), trimmed)
    for kind in (pa.int64(), pa.uint64(), pa.float64(), pa.bool_()):
        with suppress(pa.ArrowInvalid):
            return pc.cast(present, kind)
    return column


def _arrow_column(column: pa.ChunkedArray) -> Raw:
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    missing = column.is_null().to_numpy() if column.null_count else None
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        column = column.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        column = column.cast(pa.string())
    blank = "" if pa.types.is_string(column.type) else False
    return native(column.fill_null(pa.scalar(blank).cast(column.type)).to_numpy()), missing


def open_parquet(path: Path) -> Source:
    """Return the table of a parquet file; for one row only its row group is read."""
    with parquet.ParquetFile(path) as file:
        names = _distinct(path, (field.name for field in file.schema_arrow if not pa.types.is_nested(field.type)))
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    ends = list(accumulate(groups))

    def read(names: list[str], wanted: slice) -> list[Raw]:
        with parquet.ParquetFile(path) as file:
            if wanted.start is None:
                table = file.read(names)
            else:
                group = next(i for i, end in enumerate(ends) if wanted.start < end)
                table = file.read_row_group(group, names).slice(wanted.start - ends[group] + groups[group], 1)
        return [_arrow_column(table[name]) for name in names]

    return Source(names, sum(groups), read)


def open_votable(path: Path) -> Source:
    """Return the first table of a VOTable, which is read as a whole."""
    with _unpacked(path) as file:
        tree = votable.parse(file, verify="ignore")
    table = next((table for table in tree.iter_tables() if table.fields), None)
    if table is None:
        raise _no_table(path, "a TABLE with FIELDs", "none")
    columns = [
        (field.name or field.ID, column)
        for field, column in zip(table.fields, table.array.dtype.names, strict=True)
        if _is_votable_scalar(field)
    ]
    names, ids = _distinct(path, (name for name, _ in columns)), dict(columns)

    def read(names: list[str], wanted: slice) -> list[Raw]:
        columns = [table.array[ids[name]][wanted] for name in names]
        return [(native(np.ma.getdata(column)), np.ma.getmaskarray(column)) for column in columns]

    return Source(names, len(table.array), read)


def _is_votable_scalar(field: Any) -> bool:
    if field.datatype in _VOTABLE_TEXT:
        return "x" not in (field.arraysize or "")
    return field.datatype in _VOTABLE_NUMBERS and field.arraysize in (None, "1")


@dataclass(frozen=True)
class _Place:
    """Location of a column in an HDF5 file: a dataset, a field of it, or an element of that.

    ``mask`` is the location of its mask, ``blank`` the mark of missing text.
    """

    dataset: str
    field: str = ""
    element: int | None = None
    mask: "_Place | None" = None
    blank: bytes | None = None

    def read(self, file: h5py.File, wanted: slice) -> NDArray[Any]:
        dataset = file[self.dataset]
        values: NDArray[Any] = (dataset.fields(self.field) if self.field else dataset)[wanted]
        return values if self.element is None else values[:, self.element]


def open_hdf5(path: Path) -> Source:
    """Return the first compound dataset of an HDF5 file, or its first group of datasets of equal length."""
    with h5py.File(path) as file:
        places = _places(file, path)
        names = _distinct(path, places)
        n_rows = len(file[places[names[0]].dataset])

    def read(names: list[str], wanted: slice) -> list[Raw]:
        with h5py.File(path) as file:
            return [_hdf5_column(file, places[name], wanted) for name in names]

    return Source(names, n_rows, read)


def _hdf5_column(file: h5py.File, place: _Place, wanted: slice) -> Raw:
    stored = place.read(file, wanted)
    if place.mask:
        return native(stored), place.mask.read(file, wanted).astype(bool)
    return native(stored), None if place.blank is None else stored == place.blank


def _places(file: h5py.File, path: Path) -> dict[str, _Place]:
    items: list[h5py.Group | h5py.Dataset] = [file]
    file.visititems(lambda _, item: items.append(item))
    groups = [item for item in items if isinstance(item, h5py.Group)]
    if any(group.attrs.get("pandas_type", b"") in (b"frame", b"series", "frame", "series") for group in groups):
        raise ConfigError(
            f"{path}: expected a table, found a pandas file of the fixed format, which only pandas reads; "
            'write it with to_hdf(..., format="table")'
        )
    for item in items:
        if isinstance(item, h5py.Dataset) and item.dtype.names and item.ndim == 1:
            return _of_compound(item)
    for group in groups:
        columns = {name: item for name, item in group.items() if _is_hdf5_column(name, item)}
        if columns and len({len(item) for item in columns.values()}) == 1:
            return _with_masks({name: _Place(item.name) for name, item in columns.items()})
    raise _no_table(
        path, "a compound dataset or a group of one-dimensional ones of equal length", list(file) or "nothing"
    )


def _of_compound(dataset: h5py.Dataset) -> dict[str, _Place]:
    places: dict[str, _Place] = {}
    for field in dataset.dtype.names:
        kind, blank = dataset.dtype[field], dataset.attrs.get(f"{field}_nan_rep")
        if kind.shape and f"{field}_kind" in dataset.attrs:
            names = _pandas_names(dataset.attrs[f"{field}_kind"])
            places |= {name: _Place(dataset.name, field, i, blank=blank) for i, name in enumerate(names)}
        elif _is_hdf5_scalar(kind):
            places[field] = _Place(dataset.name, field, blank=blank)
    return _with_masks(places)


def _pandas_names(pickled: bytes) -> list[str]:
    """Return the texts of a pickled list without unpickling it."""
    return [str(text) for operation, text, _ in pickletools.genops(pickled) if "UNICODE" in operation.name]


def _with_masks(places: dict[str, _Place]) -> dict[str, _Place]:
    """Return the columns with astropy's ``x.mask`` as the mask of ``x``."""
    masks = {name: places[f"{name}.mask"] for name in places if f"{name}.mask" in places}
    return {
        name: replace(place, mask=masks.get(name))
        for name, place in places.items()
        if name.removesuffix(".mask") not in masks or name in masks
    }


def _is_hdf5_column(name: str, item: object) -> bool:
    is_flat = isinstance(item, h5py.Dataset) and item.ndim == 1 and _is_hdf5_scalar(item.dtype)
    return is_flat and not name.endswith("__table_column_meta__")  # written by astropy


def _is_hdf5_scalar(kind: np.dtype[Any]) -> bool:
    return kind.kind in "biufS" or h5py.check_string_dtype(kind) is not None

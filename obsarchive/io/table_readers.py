"""Readers of binary catalogue files, one for each format, which read columns on demand, with their units."""

import gzip
import io
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy.io import fits, votable
from astropy.table.meta import get_header_from_yaml
from numpy.typing import NDArray
from pyarrow import parquet

from obsarchive.errors import ConfigError

log = logging.getLogger(__name__)

Raw = tuple[NDArray[Any], NDArray[np.bool_] | None]
"""Values of a column, and the mask of missing ones or None."""


class Source(NamedTuple):
    """Contents of a file: names of its columns, number of rows, a function that reads columns of rows, and units.

    Units are texts as in the file, of the columns that have one.
    """

    names: list[str]
    n_rows: int
    read: Callable[[list[str], slice], list[Raw]]
    units: Mapping[str, str] = MappingProxyType({})


_NO_NUMBER = pa.array(["", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "None", "none", "-", "--", "---", "..."])
LONGEST_NAME = 1000
"""A longer name of a column is no name: the file holds something else."""
_LDAC_HEADER = "LDAC_IMHEAD"
_OF_POSITION = re.compile(r"(?i)_?(ra|de|alpha|delta|coord_ra|right|x_?world|x_?image)")
_FITS_SCALARS = "LBIJKEDA"
_RETYPED = "archiver:number"
_NUMBER_FIELD = re.compile(
    rb"""<(\w+:)?FIELD\s(?![^>]*\sarraysize\s*=\s*["'](?!1["']))"""
    rb"""[^>]*datatype\s*=\s*["'](unsignedByte|short|int|long|float|double)["'][^>]*>"""
)
_VOTABLE_TEXT = ("char", "unicodeChar")
_VOTABLE_NUMBERS = ("boolean", "bit", "unsignedByte", "short", "int", "long", "float", "double")


def native(values: NDArray[Any]) -> NDArray[Any]:
    """Return values in native byte order; text from bytes (UTF-8) or objects, without trailing blanks."""
    return _text(values) if values.dtype.kind in "SUO" else values.astype(values.dtype.newbyteorder("="))


def _text(values: NDArray[Any]) -> NDArray[np.str_]:
    if values.dtype.kind == "O":
        text = np.array([as_word(value) for value in values.tolist()], dtype="U")
    else:
        try:
            text = values.astype("U")  # much faster than decoding, but for ASCII only
        except UnicodeDecodeError:
            text = np.char.decode(values, "utf-8", "replace")
    return np.strings.rstrip(text, " ")


def as_word(value: object) -> str:
    """Return a value of metadata as text; empty for none."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def unpacked(path: Path) -> io.BufferedIOBase:
    """Return an open file, unpacked if it was packed; opened here, since astropy leaves damaged files open."""
    # its first bytes tell: browsers unpack files and keep the suffix, services pack them without one
    file = path.open("rb")
    is_packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not is_packed:
        return file
    file.close()
    return gzip.GzipFile(path)


def no_table(path: Path, expected: str, found: object) -> ConfigError:
    """Return the error of a file without a table that can be read."""
    return ConfigError(f"{path}: expected {expected}, found {found}; name another file, or write its table anew")


def distinct(path: Path, names: Iterable[str]) -> list[str]:
    """Return the names of columns; an error if there are none, or two of the same name."""
    listed = list(names)
    if any(len(name) > LONGEST_NAME for name in listed):
        raise no_table(path, f"names of columns of at most {LONGEST_NAME} characters", "longer ones")
    repeated = sorted(name for name, count in Counter(listed).items() if count > 1)
    if repeated or not listed:
        raise no_table(path, "columns of different names", f"{', '.join(repeated)} repeated" if repeated else "none")
    return listed


def only_table(path: Path, wanted: str | None) -> None:
    """Raise an error if a table is named in a file of a format with one table alone."""
    if wanted is not None:
        raise ConfigError(f"{path}: expected no name of a table, as this format holds one alone, found {wanted!r}")


def open_fits(path: Path, wanted: str | None = None) -> Source:
    """Return a table of a FITS file: the one that is named, or the first with positions; it is memory-mapped."""
    with unpacked(path) as file, fits.open(file, memmap=not isinstance(file, gzip.GzipFile)) as hdus:
        table = _table_hdu(path, hdus, wanted)
        if isinstance(table, fits.BinTableHDU):
            # without astropy's conversion, which reads a whole column for one row
            rows = table.data.view(np.ndarray)
            names = distinct(path, (column.name for column in table.columns if _is_scalar(column, rows)))
        else:
            rows = None
            names = distinct(path, table.columns.names)
            text_table = in_memory({name: np.array(table.data[name]) for name in names})
        columns = {name: table.columns[name] for name in names}
    units = {name: column.unit for name, column in columns.items() if column.unit}
    if rows is None:
        return text_table._replace(units=units)

    def read(names: list[str], wanted: slice) -> list[Raw]:
        return [_fits_column(rows[name][wanted], columns[name]) for name in names]

    return Source(names, len(rows), read, units)


def _table_hdu(path: Path, hdus: fits.HDUList, wanted: str | None) -> fits.BinTableHDU | fits.TableHDU:
    # not subclasses: compressed images are such
    tables = {i: hdu for i, hdu in enumerate(hdus) if type(hdu) in (fits.BinTableHDU, fits.TableHDU)}
    listed = ", ".join(f"{i} {hdu.name}".strip() for i, hdu in tables.items())
    if wanted is not None:
        named = [hdu for i, hdu in tables.items() if wanted.lower() in (str(i), hdu.name.lower())]
        if not named:
            raise ConfigError(f"{path}: expected a table {wanted}, found {listed or 'no table'}")
        return named[0]
    if not tables:
        raise no_table(path, "a binary table", [type(hdu).__name__ for hdu in hdus])
    # SExtractor keeps the header of the image in a table of its own, before that of the objects
    likely = [hdu for hdu in tables.values() if hdu.name != _LDAC_HEADER] or list(tables.values())
    placed = [hdu for hdu in likely if any(_OF_POSITION.match(name) for name in hdu.columns.names)]
    if len(placed) > 1:
        log.warning(
            "%s has several tables (%s): %s is read; name another as %s[NUMBER]",
            path,
            listed,
            hdus.index(placed[0]),
            path.name,
        )
    return (placed or likely)[0]


def in_memory(columns: Mapping[str, NDArray[Any]], units: Mapping[str, str] | None = None) -> Source:
    """Return a table of arrays (n,), which may be masked."""
    stored = {name: native(np.ma.getdata(values)) for name, values in columns.items()}
    masks = {name: np.ma.getmaskarray(values) for name, values in columns.items() if np.ma.isMaskedArray(values)}

    def read(names: list[str], wanted: slice) -> list[Raw]:
        return [(stored[name][wanted], masks[name][wanted] if name in masks else None) for name in names]

    return Source(list(stored), len(next(iter(stored.values()), ())), read, units or {})


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


def typed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of text as numbers if all its values are; integers keep their digits."""
    trimmed = pc.utf8_trim_whitespace(column)
    present = pc.if_else(pc.is_in(trimmed, _NO_NUMBER), pa.scalar(None, pa.string()), trimmed)
    for kind in (pa.int64(), pa.uint64(), pa.float64(), pa.bool_()):
        with suppress(pa.ArrowInvalid):
            return pc.cast(present, kind)
    return column


def arrow_column(column: pa.ChunkedArray) -> Raw:
    """Return the values of a column of arrow, and the mask of missing ones."""
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


def open_parquet(path: Path, wanted: str | None = None) -> Source:
    """Return the table of a parquet file; for one row only its row group is read."""
    only_table(path, wanted)
    with parquet.ParquetFile(path) as file:
        names = distinct(path, (field.name for field in file.schema_arrow if not pa.types.is_nested(field.type)))
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        units = _parquet_units(file.schema_arrow)
    ends = list(accumulate(groups))

    def read(names: list[str], wanted: slice) -> list[Raw]:
        with parquet.ParquetFile(path) as file:
            if wanted.start is None:
                table = file.read(names)
            else:
                group = next(i for i, end in enumerate(ends) if wanted.start < end)
                table = file.read_row_group(group, names).slice(wanted.start - ends[group] + groups[group], 1)
        return [arrow_column(table[name]) for name in names]

    return Source(names, sum(groups), read, units)


def _parquet_units(schema: pa.Schema) -> dict[str, str]:
    units = {}
    for field in schema:
        stated = (field.metadata or {}).get(b"unit", (field.metadata or {}).get(b"units"))
        if stated:
            units[field.name] = stated.decode("utf-8", "replace")
    described = (schema.metadata or {}).get(b"table_meta_yaml", b"").decode("utf-8", "replace")
    return units | units_of_yaml(described.splitlines())


def open_votable(path: Path, wanted: str | None = None) -> Source:
    """Return a table of a VOTable, by its name or number from 1, else the first; the file is read as a whole."""
    with unpacked(path) as file:
        content = file.read()
    if re.search(rb"<(\w+:)?FITS[\s>]", content):
        raise no_table(path, "a VOTable with TABLEDATA, BINARY or BINARY2", "FITS inside it, which is not read")
    tree = _parsed_votable(content)
    tables = [table for table in tree.iter_tables() if table.fields]
    if not tables:
        refused = [str(info.content or info.value) for info in _infos(tree) if info.value == "ERROR"]
        raise no_table(path, "a TABLE with FIELDs", f"an error of the service: {refused[0]}" if refused else "none")
    named = [
        table for i, table in enumerate(tables, start=1) if wanted is None or wanted in (str(i), table.name, table.ID)
    ]
    if not named:
        listed = ", ".join(f"{i} {table.name or table.ID or ''}".strip() for i, table in enumerate(tables, start=1))
        raise ConfigError(f"{path}: expected a table {wanted}, found {listed}")
    if wanted is None and len(tables) > 1:
        log.warning("%s has %d tables: the first is read; name another as %s[NUMBER]", path, len(tables), path.name)
    return _votable_source(path, named[0], _of_other_frames(path, tree, named[0]))


def _of_other_frames(path: Path, tree: Any, table: Any) -> set[str]:
    """Return the right ascensions and declinations of other systems than ICRS and FK5, which are not read."""
    systems = {system.ID: system.system for system in tree.iter_coosys()}
    frames = {str(field.name): systems.get(field.ref) for field in table.fields if _OF_POSITION.match(str(field.name))}
    others = {name: system for name, system in frames.items() if system in ("eq_FK4", "ecl_FK4", "galactic")}
    if others:
        log.warning("%s: columns %s are not read: positions of %s", path, ", ".join(others), set(others.values()))
    return set(others)


def _votable_source(path: Path, table: Any, excluded: set[str]) -> Source:
    used = [
        (field.name or field.ID, field, column)
        for field, column in zip(table.fields, table.array.dtype.names, strict=True)
        if _is_votable_scalar(field) and field.name not in excluded
    ]
    names, fields = distinct(path, (name for name, *_ in used)), {name: pair for name, *pair in used}

    def read(names: list[str], wanted: slice) -> list[Raw]:
        columns = [table.array[fields[name][1]][wanted] for name in names]
        return [(native(np.ma.getdata(column)), np.ma.getmaskarray(column)) for column in columns]

    units = {name: str(field.unit) for name, (field, _) in fields.items() if field.unit is not None}
    found = Source(names, len(table.array), read, units)
    if all(field.utype != _RETYPED for field, _ in fields.values()):
        return found
    return in_memory({name: _as_numbers(field, table.array[column]) for name, (field, column) in fields.items()}, units)


def _as_numbers(field: Any, column: Any) -> NDArray[Any]:
    """Return a column that was read as text, as numbers if all its values are; missing ones masked."""
    text = native(np.ma.getdata(column))
    if field.utype == _RETYPED:
        null = getattr(field.values, "null", None)
        text = np.where(np.isin(text, ["" if null is None else str(null), "NULL", "null"]), "", text)
        values, missing = arrow_column(typed(pa.chunked_array([text])))
        return np.ma.array(values, mask=False if missing is None else missing)
    return np.ma.array(text, mask=np.ma.getmaskarray(column))


def _infos(tree: Any) -> Iterator[Any]:
    for part in (tree, *tree.resources):
        yield from part.infos


def _parsed_votable(content: bytes) -> Any:
    try:
        return votable.parse(io.BytesIO(content), verify="ignore")
    except (ValueError, TypeError, OverflowError) as err:
        # a value such as NULL that is no number: such columns are read as text first
        marked = _NUMBER_FIELD.sub(_as_text_field, content)
        if marked == content or b"<TABLEDATA" not in content.upper():
            raise
        log.info("VOTable with values that its datatypes do not allow: %s", err)
        return votable.parse(io.BytesIO(marked), verify="ignore")


def _as_text_field(found: re.Match[bytes]) -> bytes:
    head = re.sub(rb"""\s(utype|arraysize|datatype)\s*=\s*("[^"]*"|'[^']*')""", b"", found[0])
    return head.replace(b"FIELD", b'FIELD datatype="char" arraysize="*" utype="' + _RETYPED.encode() + b'"', 1)


def _is_votable_scalar(field: Any) -> bool:
    if field.datatype in _VOTABLE_TEXT:
        return "x" not in (field.arraysize or "")
    return field.datatype in _VOTABLE_NUMBERS and field.arraysize in (None, "1")


def units_of_yaml(lines: Sequence[str]) -> dict[str, str]:
    """Return the units of columns in astropy's description of a table as YAML."""
    if not lines:
        return {}
    columns = get_header_from_yaml(list(lines)).get("datatype", [])
    return {column["name"]: str(column["unit"]) for column in columns if column.get("unit")}

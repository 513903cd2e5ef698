"""Files of light curves: text of any layout, IPAC tables, FITS, VOTables, ECSV, parquet and HDF5.

Text may have its names in a line of their own, in the last comment (``###MJD m dm``, ``#NAME,DATE,MAG``), or none at
all if its format is named; comments may hold ``#KEY=VALUE``.
"""

import csv
import gzip
import re
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.coordinates import Angle
from astropy.table import Table
from numpy.typing import NDArray

from obsarchive.errors import OF_DISKS, ConfigError, DiskTrouble, Unprocessable
from obsarchive.io.catalog_tables import open_table
from surveys.formats.astropy_tables import columns_of_table
from surveys.formats.brightness import parsed_unit
from surveys.formats.cell_values import numbers_of, simplify
from surveys.formats.epochs import is_time_name
from surveys.formats.hdf5_light_curves import Columns
from surveys.formats.photometry_columns import map_columns, standard_photometry
from surveys.formats.photometry_formats import FORMATS, PhotometryFormat, format_named

_ASTROPY = {
    ".fits": "fits",
    ".fit": "fits",
    ".ecsv": "ascii.ecsv",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
}
_COLUMNAR = (".parquet", ".h5", ".hdf5")
_MISSING = {"", "nan", "null", "none", "na", "n/a", "--", "-", "..."}
_DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|", "space": " ", "bar": "|", "\\t": "\t"}
_SEEN_AHEAD = 50
_DECIMAL_COMMA = re.compile(r"^([-+]?\d+),(\d+)$")


class RawTable(NamedTuple):
    """Contents of a file: its columns as they are named there, and metadata as of `standard_photometry`."""

    columns: Columns
    altdata: dict[str, Any]


def read_light_curve(path: str | Path, format: str | None = None, **facts: Any) -> pd.DataFrame:
    """Return the light curve of a file in uniform columns.

    Parameters
    ----------
    path : str or Path
        The file.
    format : str, optional
        Name of its format (`photometry_formats.FORMATS`); None: recognised by its columns.
    **facts
        What the file does not tell: ``ra``, ``dec`` [deg], ``filter``, ``units``, ``time_scale``, ``time_offset`` [d],
        ``zero_point`` [mag], ``good_flags``; ``columns``: a mapping of meaning to name, or the names of all columns of
        a file that has none.

    Returns
    -------
    DataFrame
        mjd [d, UTC], exptime [s], ra, dec [deg], flux, flux_err [µJy], mag, mag_err [mag], flag, filter, by time;
        ``attrs`` holds the units, the format, and remarks that a person should read.

    Raises
    ------
    Unprocessable
        The file has no light curve that is understood.
    ConfigError
        There is no such file or format.
    DiskTrouble
        The disk does not answer, or forbids it.
    """
    raw = read_raw_light_curve(Path(path), format or "", facts)
    altdata = raw.altdata
    remarks: list[str] = []
    try:
        table = pd.DataFrame(standard_photometry(raw.columns, altdata, remarks=remarks))
    except Unprocessable as err:
        raise Unprocessable(f"{path}: {err}") from err
    made = map_columns(list(raw.columns), altdata).format
    units = {"mjd": "d", "exptime": "s", "ra": "deg", "dec": "deg", "mag": "mag", "mag_err": "mag"}
    table.attrs = {
        "format": made.name if made else "",
        "remarks": remarks,
        "units": {**units, "flux": "uJy", "flux_err": "uJy"},
    }
    return table


def read_raw_light_curve(path: Path, name: str = "", facts: Mapping[str, Any] | None = None) -> RawTable:
    """Return the columns of a file as they are, and what is known of them.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        Name of its format; empty: recognised.
    facts : mapping, optional
        As of `read_light_curve`; they win over what the file tells.

    Returns
    -------
    RawTable

    Raises
    ------
    Unprocessable
        It has no table, or columns without names.
    ConfigError
        There is no such file or format.
    DiskTrouble
        The disk does not answer, or forbids it.
    """
    made = format_named(name) if name else None
    told = {key: value for key, value in (facts or {}).items() if value not in (None, "", {}, [])}
    names = [] if isinstance(told.get("columns"), Mapping) else list(told.pop("columns", []))
    if not path.is_file():
        raise ConfigError(f"{path}: expected a light curve, found no such file")
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix in _ASTROPY:
        raw = _of_astropy(path, _ASTROPY[suffix])
    elif suffix in _COLUMNAR:
        table = open_table(path)
        stated = {column: unit for column in table.names if (unit := table.unit(column))}
        raw = RawTable({column: table.column(column) for column in table.names}, {"units": stated})
    else:
        raw = _of_text(path, made or _format_of_file(path), names)
    units = {**raw.altdata.get("units", {}), **told.get("units", {})}
    return RawTable(raw.columns, {**raw.altdata, **({"format": made.name} if made else {}), **told, "units": units})


def _format_of_file(path: Path) -> PhotometryFormat | None:
    name = path.name.lower()
    return next((made for made in FORMATS.values() if name.endswith(tuple(made.suffixes))), None)


def _of_astropy(path: Path, kind: str) -> RawTable:
    with warnings.catch_warnings(action="ignore"):  # about units and what a standard does not like
        try:
            table = Table.read(path, format=kind)
            if kind == "fits" and any(table[name].shape[1:] == (2,) for name in table.colnames):
                table = Table.read(path, format=kind, astropy_native=True)  # times of astropy, in two numbers each
        except Exception as err:  # damaged files make the libraries that read them raise anything
            if isinstance(err, OSError) and err.errno in OF_DISKS:
                raise DiskTrouble(f"{path} cannot be read: {err.strerror}") from err
            raise Unprocessable(f"{path}: expected a table, found {type(err).__name__}: {err}") from err
    columns, units = columns_of_table(table)
    facts = {"units": units, **_facts_of_header({str(k): str(v) for k, v in table.meta.items()})}
    if "time_bjd_tdb" in columns and "zero_point" in table.meta:  # one of our own
        facts["zero_point"] = float(table.meta["zero_point"])
    return RawTable(columns, facts)


# -------------------------------------------------------------------------------------------------------- text


def _of_text(path: Path, made: PhotometryFormat | None, given: Sequence[str] = ()) -> RawTable:
    stored = path.read_bytes()
    if stored[:2] == b"\x1f\x8b":
        stored = gzip.decompress(stored)
    try:
        text = stored.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = stored.decode("latin-1")
    lines = [line for line in text.splitlines() if line.strip()]
    comments = [line for line in lines if line.lstrip()[0] in "#\\"]
    rows = [line for line in lines if line.lstrip()[0] not in "#\\"]
    header = _header_of(comments)
    made = made or FORMATS.get(f"aavso_{header.get('TYPE', '').lower()}")
    if _is_ipac(rows, comments):
        return _of_ipac(path, rows, header)
    if not rows:
        raise Unprocessable(f"{path}: expected a light curve, found no rows")
    delimiter = _DELIMITERS.get(header.get("DELIM", "").lower(), header.get("DELIM", "")) or _semicolon(rows)
    if given:
        names = [*given, *(f"column_{i}" for i in range(len(given) + 1, len(_fields(rows[0], delimiter)) + 1))]
    else:
        names, rows = _names_of(path, rows, comments, delimiter, made)
    units, rows = _units_of(names, rows, comments, delimiter)
    fields = [_split(row, names, delimiter) for row in rows]
    wrong = next((i for i, found in enumerate(fields) if len(found) != len(names)), None)
    if wrong is not None:
        raise Unprocessable(
            f"{path}: expected {len(names)} values in a row ({', '.join(names)}), found {len(fields[wrong])} in "
            f"{rows[wrong][:80]!r}{_about_commas(rows[wrong])}"
        )
    columns = {name: _typed([found[i] for found in fields]) for i, name in enumerate(names)}
    return RawTable(columns, {"units": {k: v for k, v in units.items() if v}, **_facts_of_header(header, made)})


def _is_ipac(rows: Sequence[str], comments: Sequence[str]) -> bool:
    """Return whether names stand between bars, and values below them do not."""
    if any(line.startswith("\\") for line in comments):
        return any(line.startswith("|") for line in rows[:_SEEN_AHEAD])
    return bool(rows) and rows[0].startswith("|") and not rows[-1].startswith("|")


def _units_of(
    names: Sequence[str], rows: list[str], comments: Sequence[str], delimiter: str
) -> tuple[dict[str, str], list[str]]:
    """Return the units that a line under the names states, also under dashes or in a comment, and the other rows."""
    if len(rows) > 2 and set(rows[1]) <= set("-\t ;,|") and "-" in rows[1]:  # VizieR
        return dict(zip(names, _fields(rows[0], delimiter), strict=False)), rows[2:]
    words = _split(rows[0], names, delimiter) if rows else []
    if len(rows) > 1 and _are_units(words) and any(map(_is_number, _fields(rows[1], delimiter))):
        return dict(zip(names, words, strict=False)), rows[1:]
    last = _fields(comments[-1].lstrip("#\\ \t"), delimiter) if comments else []
    stated = last if len(last) == len(names) and list(names) != last and _are_units(last) else []
    return dict(zip(names, stated, strict=False)), rows


def _are_units(words: Sequence[str]) -> bool:
    """Return whether words are units, or kinds of dates, but for missing ones."""
    stated = [word for word in words if word.lower() not in _MISSING]
    return bool(stated) and not any(map(_is_number, stated)) and all(map(_is_unit, stated))


def _is_unit(word: str) -> bool:
    plain = word.strip("'\"[]()")
    return parsed_unit(plain) is not None or is_time_name(simplify(plain))


def _header_of(comments: Sequence[str]) -> dict[str, str]:
    r"""Return what comments such as ``#DATE=JD`` and ``\FILTER = "R"`` hold, by key in upper case."""
    found = (re.match(r"[#\\\s]*([A-Za-z][\w ]*?)\s*=\s*(.*)", line) for line in comments)
    return {match[1].upper(): match[2].strip().strip("\"'").strip() or match[2] for match in found if match}


def _facts_of_header(header: Mapping[str, str], made: PhotometryFormat | None = None) -> dict[str, Any]:
    """Return the metadata that well-known keys of headers hold."""
    facts: dict[str, Any] = {"format": made.name} if made else {}
    date = header.get("DATE", "").upper()
    if date in ("JD", "HJD", "BJD", "MJD"):
        facts["time_scale"] = date.lower()
    elif date == "EXCEL":
        facts["time_scale"] = "excel"
    frame = header.get("TIME_REFERENCE_FRAME", "").lower()
    for word, kind in (("helio", "hjd"), ("bary", "bjd")):
        if word in frame:
            facts["time_scale"] = kind
    if _is_number(header.get("BJDREFI", "")):  # TESS, Kepler
        facts |= {"time_scale": "bjd", "time_offset": float(header["BJDREFI"]) + float(header.get("BJDREFF") or 0)}
    if header.get("TIME_SERIES_DATA_FILTER"):
        facts["filter"] = header["TIME_SERIES_DATA_FILTER"]
    if "RA_UNITS" in header:
        with warnings.catch_warnings(action="ignore"):
            facts |= {"ra": float(Angle(header["RA"], u.hourangle).deg), "dec": float(Angle(header["DEC"], u.deg).deg)}
    return facts


def _names_of(
    path: Path, rows: list[str], comments: Sequence[str], delimiter: str, made: PhotometryFormat | None
) -> tuple[list[str], list[str]]:
    """Return the names of the columns, and the rows below them."""
    first = _fields(rows[0], delimiter)
    if not any(_is_number(word) for word in first):
        return _distinct(first), rows[1:]
    found = [
        names
        for comment in comments
        if "=" not in comment
        and len(names := _fields(comment.lstrip("#\\ \t"), delimiter)) == len(first)
        and not any(_is_number(word) for word in names)
    ]
    if len(found) > 1 and _are_units(found[-1]) and not _are_units(found[-2]):
        found = found[:-1]  # units stand under the names
    if found:
        return _distinct(found[-1]), rows
    if made is not None and made.headerless:
        fitting = next((names for names in made.headerless if len(names) <= len(first)), None)
        if fitting is not None:
            return [*fitting, *(f"column_{i}" for i in range(len(fitting) + 1, len(first) + 1))], rows
    known = ", ".join(sorted(name for name, one in FORMATS.items() if one.headerless))
    raise Unprocessable(
        f"{path}: {len(first)} columns without names (the first row: {rows[0].strip()[:80]!r}): name the format "
        f"({known}), or the columns: [hjd, mag, mag_err]"
    )


def _distinct(names: Sequence[str]) -> list[str]:
    seen: list[str] = []
    for i, name in enumerate(names, 1):
        plain = name or f"column_{i}"
        seen.append(plain if plain not in seen else f"{plain}_{i}")
    return seen


def _fields(line: str, delimiter: str) -> list[str]:
    """Return the words of a line, between its delimiter, or the most frequent one of it, or blanks."""
    most = delimiter or max(",;\t|", key=line.count)
    if not most.strip() and most != "\t":
        return line.split()
    if most not in line:
        return line.split()
    return [word.strip() for word in next(csv.reader([line], delimiter=most))]


def _semicolon(rows: Sequence[str]) -> str:
    """Return a semicolon if it is in all of the first rows alike: commas may then be those of decimals."""
    found = {row.count(";") for row in rows[:_SEEN_AHEAD]}
    return ";" if len(found) == 1 and found != {0} else ""


def _about_commas(row: str) -> str:
    is_decimal = re.search(r"\d,\d", row) and re.search(r"[;\t|]|\d \s*\d", row)
    return ": write numbers with decimal points" if is_decimal else ""


def _split(row: str, names: Sequence[str], delimiter: str) -> list[str]:
    """Return the values of a row: between delimiters, or between blanks if these give as many as there are names."""
    found = _fields(row, delimiter)
    if delimiter == ";":
        found = [_DECIMAL_COMMA.sub(r"\1.\2", word) for word in found]
    if len(found) == len(names) + 1 and not found[-1]:
        return found[:-1]  # a delimiter at the end
    if len(found) != len(names) and len(row.split()) == len(names):
        return row.split()
    return found


def _is_number(word: str) -> bool:
    try:
        float(word.lstrip("<>"))
    except ValueError:
        return False
    return True


def _typed(words: list[str]) -> NDArray[Any]:
    """Return a column as numbers if all its values are; text stays as it is."""
    missing = [word.lower() in _MISSING for word in words]
    values = np.array(["" if lacks else word for word, lacks in zip(words, missing, strict=True)], dtype="U")
    numbers = numbers_of(values)
    if not np.isnan(numbers[~np.array(missing, bool)]).any():
        whole = all(word.lstrip("+-").isdigit() for word in words)
        return values.astype(np.int64) if whole and all(len(word) < 18 for word in words) else numbers
    return np.array(words, dtype="U")


def _of_ipac(path: Path, lines: Sequence[str], header: Mapping[str, str]) -> RawTable:
    """Return an IPAC table: names, types and units between bars, and values below them."""
    heads = [line for line in lines if line.startswith("|")]
    rows = [line for line in lines if not line.startswith("|")]
    edges = [i for i, sign in enumerate(heads[0]) if sign == "|"]
    cells = [[line[low + 1 : high].strip() for low, high in pairwise(edges)] for line in heads]
    names = _distinct(cells[0])
    units = dict(zip(names, cells[2], strict=True)) if len(heads) > 2 else {}
    values = [[row[low : high + 1].strip() for low, high in pairwise(edges)] for row in rows]
    if not rows:
        raise Unprocessable(f"{path}: expected a light curve, found no rows")
    columns = {name: _typed([found[i] for found in values]) for i, name in enumerate(names)}
    return RawTable(columns, {"units": {k: v for k, v in units.items() if v}, **_facts_of_header(header)})

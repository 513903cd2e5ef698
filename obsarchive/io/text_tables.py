"""Readers of catalogues as text: between delimiters or blanks, of VizieR, ECSV, IPAC, SExtractor, CDS."""

import csv
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy.io import ascii as astropy_ascii
from astropy.table import Table
from pyarrow import csv as arrow_csv

from obsarchive.errors import ConfigError
from obsarchive.io.column_units import is_angle_word
from obsarchive.io.position_columns import SIGN
from obsarchive.io.table_readers import (
    Raw,
    Source,
    arrow_column,
    distinct,
    in_memory,
    no_table,
    only_table,
    typed,
    units_of_yaml,
    unpacked,
)

log = logging.getLogger(__name__)

_HEAD_CHARACTERS = 2**20
_MISSING_TEXT = ["", "null", "NULL"]
_IDENTIFIER = re.compile(r"(?i).*(name|id|identifier|object|obj|source|star|num|number|designation)")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?")
_DECIMAL = re.compile(r"[-+]?\d+\.\d+([eE][-+]?\d+)?")
_DASHES = re.compile(r"[-=]{2,}|-|=")
_COMMENT = re.compile(rb"^#[^\n]*\n?", re.MULTILINE)
_NEXT_TABLE = re.compile(rb"^#\s?(RESOURCE|Table\s|Table\t)", re.MULTILINE)
_SEXTRACTOR = re.compile(r"#\s+\d+\s+[A-Z]\w+")
_OF_POSITIONS = re.compile(r"(?i)(^|\W)(ra|coord|right)")
"""In the line of names of a table of sources."""
_CDS = "Byte-by-byte Description"


@dataclass(frozen=True)
class _Layout:
    """Layout of a text file.

    Attributes
    ----------
    names : list of str
        Names of the columns.
    first : int
        Number of lines before the first row.
    delimiter : str
        Between the columns; a blank: any number of blanks.
    texts : set of str
        Columns that are text for certain.
    units : dict of str to str
        Units of columns.
    spans : list of (int, int)
        Places of the columns in each line, where they are aligned.
    """

    names: list[str]
    first: int
    delimiter: str
    texts: set[str] = field(default_factory=set)
    units: Mapping[str, str] = field(default_factory=dict)
    spans: Sequence[tuple[int, int]] = ()


def open_text(path: Path, wanted: str | None = None) -> Source:
    """Return the table of a text file with a line of names."""
    only_table(path, wanted)
    text = _decoded(path)
    lines = text[:_HEAD_CHARACTERS].split("\n")
    known = _known_format(lines)
    if known is not None:
        return _of_astropy(path, text, known)
    text = _without_page(text)
    lines = text[:_HEAD_CHARACTERS].split("\n")
    is_ecsv = re.match(r"#\s*%ECSV", lines[0]) and any(re.match(r"#\s*datatype:", line) for line in lines)
    layout = _ecsv(lines) if is_ecsv else _layout(path, lines)
    distinct(path, layout.names)
    start = sum(len(line) + 1 for line in lines[: layout.first])
    table = _parsed(path, layout, _body(path, text[start:].encode()))
    texts = layout.texts | {name for name in layout.names if name.lower() == SIGN}  # a minus is no missing number
    texts |= {name for name in layout.names if _IDENTIFIER.fullmatch(name) and _has_leading_zeros(table[name])}
    columns = {name: table[name] if name in texts else typed(table[name]) for name in layout.names}

    def read(names: list[str], wanted: slice) -> list[Raw]:
        return [arrow_column(columns[name][wanted]) for name in names]

    return Source(layout.names, len(table), read, layout.units)


def _has_leading_zeros(values: pa.ChunkedArray) -> bool:
    """Return whether digits would be lost if texts were read as numbers: 007 is a name."""
    return bool(pc.any(pc.match_substring_regex(values, r"^\s*0\d")).as_py())


def _decoded(path: Path) -> str:
    """Return the text of a file: UTF-8, UTF-16 with its mark, else Latin-1 (Windows)."""
    with unpacked(path) as file:
        content = file.read()
    if not content or content.isspace():
        raise no_table(path, "a line with names of columns", "none: the file is empty")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        break
    else:
        text = content.decode("latin-1")
    if re.match(r"\s*<(!doctype\s+)?html", text[:200], re.IGNORECASE):
        raise no_table(path, "a table", "a web page, such as the error message of a service")
    return text if "\n" in text else text.replace("\r", "\n")


def _without_page(text: str) -> str:
    """Return the lines of a table between bars or tabs without the page around it, as SIMBAD and NED write one."""
    first = next(
        (line for line in text[:_HEAD_CHARACTERS].split("\n") if line.strip() and not line.startswith("# ")), ""
    )
    for delimiter in "|\t":
        if delimiter in first:
            return text
        rows = [line for line in text.split("\n") if line.count(delimiter) > 1 and line.strip("-=|\t ")]
        if len(rows) > 1 and len({row.count(delimiter) for row in rows}) == 1 and _OF_POSITIONS.search(rows[0]):
            return "\n".join([rows[0].replace("#", "number", 1) if rows[0][0] == "#" else rows[0], *rows[1:], ""])
    return text


def _known_format(lines: Sequence[str]) -> str | None:
    """Return the name that astropy has for a layout of its own; None for the usual ones."""
    rows = [line.rstrip() for line in lines if line.strip() and not line.startswith("\\")]
    if rows and rows[0].startswith("|") and rows[0].endswith("|"):
        return "ipac"
    if any(_CDS in line for line in lines[:200]):
        return "mrt"
    comments = [line for line in rows if line.startswith("#")]
    return "sextractor" if comments and _SEXTRACTOR.match(comments[0]) else None


def _of_astropy(path: Path, text: str, known: str) -> Source:
    with warnings.catch_warnings(action="ignore"):  # about units and names
        try:
            table = astropy_ascii.read(text, format=known, guess=False)
        except (ValueError, IndexError, KeyError, astropy_ascii.InconsistentTableError) as err:
            raise no_table(path, f"a table in the layout {known!r} of astropy", str(err)) from err
    return of_astropy(path, table)


def of_astropy(path: Path, table: Table) -> Source:
    """Return a table of astropy; columns with several values in a row are ignored."""
    columns = {name: table[name] for name in table.colnames if getattr(table[name], "ndim", 2) == 1}
    distinct(path, columns)
    units = {name: str(column.unit) for name, column in columns.items() if getattr(column, "unit", None) is not None}
    values = {name: getattr(column, "value", column) for name, column in columns.items()}
    return in_memory({name: np.ma.asarray(column) for name, column in values.items()}, units)


def _ecsv(lines: Sequence[str]) -> _Layout:
    first = next(i for i, line in enumerate(lines) if line.strip() and not line.startswith("#"))
    described = [line[1:].removeprefix(" ") for line in lines[1:first]]
    stated = next((line for line in described if line.startswith("delimiter:")), "")
    delimiter = "," if "," in stated else " "
    names = [_unquoted(name) for name in _first_record(lines[first], delimiter)]
    texts = {
        found[1].strip("'\"") for line in described if (found := re.search(r"name: (.*?),.*datatype: string", line))
    }
    return _Layout(names, first + 1, delimiter, texts & set(names), units_of_yaml(described))


def _layout(path: Path, lines: Sequence[str]) -> _Layout:
    head = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), None)
    if head is None:
        raise no_table(path, "a line with names of columns", "none")
    delimiter = _delimiter(lines, head)
    commented = _commented_names(lines, head, delimiter)
    if commented:
        return _Layout(commented, head, delimiter)
    heads = _first_record("\n".join(lines[head:]), delimiter)
    if all(re.fullmatch(r"[-+]?[\d.]+", name) for name in heads) or any(map(_DECIMAL.fullmatch, heads)):
        raise no_table(path, "a line with names of columns", heads)
    names = [_unquoted(name) or f"column_{i}" for i, name in enumerate(heads, start=1)]
    return _with_units(_Layout(names, head + 1, delimiter), lines, heads)


def _delimiter(lines: Sequence[str], head: int) -> str:
    plain = re.sub('"[^"]*"', "", lines[head])
    found = max(",;\t|", key=plain.count)
    if plain.count(found):
        return found
    n_names = len(_fields(lines[head]))
    following = next((line for line in lines[head + 1 :] if line.strip() and not line.startswith("#")), "")
    is_ruled = all(_DASHES.fullmatch(word) for word in following.split()) and following.strip() != ""
    return " " if n_names > 1 and (is_ruled or len(_fields(following)) > 1 or _later_rule(lines, head)) else ","


def _later_rule(lines: Sequence[str], head: int) -> bool:
    ruled = lines[head + 2].split() if len(lines) > head + 2 else []
    return bool(ruled) and all(_DASHES.fullmatch(word) for word in ruled)


def _fields(line: str) -> list[str]:
    """Return the fields of a line between blanks, which may be quoted."""
    return next(csv.reader([line.strip()], delimiter=" ", skipinitialspace=True), [])


def _commented_names(lines: Sequence[str], head: int, delimiter: str) -> list[str]:
    """Return the names of a line of comment before the rows; none if the first line without ``#`` has them."""
    above = lines[head - 1].lstrip("#").strip() if head and lines[head - 1].startswith("#") else ""
    first = [word.strip() for word in _first_record(lines[head], delimiter)]
    if not any(_NUMBER.fullmatch(word) for word in first):
        return []
    for found in (_first_record(above, delimiter), _fields(above.expandtabs())):
        if len(found) == len(first) and not any(_NUMBER.fullmatch(word.strip()) for word in found):
            return [_unquoted(word.strip()) for word in found]
    return []


def _with_units(layout: _Layout, lines: Sequence[str], heads: Sequence[str]) -> _Layout:
    """Return the layout with the units of the line under the names, behind a line of dashes if there is one."""
    after = [_first_record(line, layout.delimiter) for line in lines[layout.first : layout.first + 2]]
    ruled = next((i for i, words in enumerate(after) if _is_rule(words, len(layout.names))), None)
    if ruled is not None and layout.delimiter in (" ", ","):
        layout = _aligned(layout, lines, ruled)
        stated = [lines[layout.first][a:b].strip() for a, b in layout.spans] if layout.spans and ruled else []
    else:
        stated = [_unquoted(word) for word in after[0]] if after else []
    if ruled is None and not _are_units(layout.names, after[0] if after else []):
        return replace(layout, texts=_quoted_texts(layout.names, heads, after[0] if after else []))
    if ruled == 0:
        stated = []
    units = {name: unit for name, unit in zip(layout.names, stated, strict=False) if unit.strip("- ")}
    return replace(layout, first=layout.first + (1 if ruled is None else ruled + 1), units=units)


def _are_units(names: Sequence[str], words: Sequence[str]) -> bool:
    """Return whether a line without dashes under it is one of units: of angle for positions, and no numbers."""
    of_positions = [
        is_angle_word(word)
        for name, word in zip(names, words, strict=False)
        if re.match(r"(?i)_?(ra|de|alpha|delta|right)", name) and not word.startswith('"')
    ]
    return any(of_positions) and not any(map(_NUMBER.fullmatch, words))


def _is_rule(words: Sequence[str], n_names: int) -> bool:
    return (
        len(words) >= min(2, n_names)
        and all(_DASHES.fullmatch(word.strip()) for word in words)
        and any(len(word.strip()) > 1 for word in words)
    )


def _aligned(layout: _Layout, lines: Sequence[str], ruled: int) -> _Layout:
    """Return the layout of columns that lie under the dashes of a line."""
    rule = lines[layout.first + ruled]
    if layout.delimiter != " ":
        return layout
    spans = [found.span() for found in re.finditer(r"\S+", rule)]
    # a value may be wider than its dashes to the left of the next column, never beyond it
    spans = [(a, spans[i + 1][0] if i + 1 < len(spans) else 10**6) for i, (a, _) in enumerate(spans)]
    names = [lines[layout.first - 1][a:b].strip() for a, b in spans]
    return replace(layout, names=names, spans=spans)


def _quoted_texts(names: Sequence[str], heads: Sequence[str], firsts: Sequence[str]) -> set[str]:
    """Return the columns whose values are quoted, and text for certain."""
    is_quoted = [first.startswith('"') for first in firsts]
    if all(is_quoted) and any(head.startswith('"') and BARE.fullmatch(head[1:-1]) for head in heads):
        return set()  # everything is quoted, so that quotes do not mark text
    return {name for name, is_text in zip(names, is_quoted, strict=False) if is_text}


BARE = re.compile(r'[^\W\d][^",;\t|]*')
"""Names that need no quotes in a text file; numbers do, else the file would seem to have no names."""


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') and name.endswith('"') and len(name) > 1 else name


def _first_record(text: str, delimiter: str) -> list[str]:
    """Return the fields of a record, with their quotes."""
    if delimiter == " ":
        return re.findall(r'"(?:[^"]|"")*"|\S+', text.partition("\n")[0])
    one = re.compile(rf'("(?:[^"]|"")*"|[^\r\n{re.escape(delimiter)}]*)({re.escape(delimiter)}|)')
    found, at, goes_on = [], 0, True
    while goes_on and (match := one.match(text, at)):
        found.append(match[1].strip())
        at, goes_on = match.end(), bool(match[2])
    return found


def _body(path: Path, body: bytes) -> bytes:
    """Return the rows of the first table, without lines of comment."""
    if b"#" not in body:
        return body
    following = next(_outside_quotes(_NEXT_TABLE, body), None)
    if following is not None:
        log.warning("%s has several tables: the first is read; write the others to files of their own", path)
        body = body[: following.start()]
    parts, last = [], 0
    for found in _outside_quotes(_COMMENT, body):
        parts.append(body[last : found.start()])
        last = found.end()
    return b"".join([*parts, body[last:]])


def _outside_quotes(pattern: re.Pattern[bytes], body: bytes) -> Iterator[re.Match[bytes]]:
    """Yield the matches of a pattern that do not begin within a quoted value."""
    n_quotes, last = 0, 0
    for found in pattern.finditer(body):
        n_quotes += body.count(b'"', last, found.start())
        last = found.start()
        if n_quotes % 2 == 0:
            yield found


def _parsed(path: Path, layout: _Layout, body: bytes) -> pa.Table:
    """Return the rows as columns of text; missing ones null."""
    if layout.spans:
        return _of_rows(path, layout, [[line[a:b].strip() for a, b in layout.spans] for line in _lines(body)])
    if layout.delimiter == " " and b'"' not in body:
        body = b"\n".join(b"\t".join(line.split()) for line in body.split(b"\n"))
    delimiter = "\t" if layout.delimiter == " " and b'"' not in body else layout.delimiter
    try:
        return arrow_csv.read_csv(
            pa.BufferReader(body),
            arrow_csv.ReadOptions(column_names=layout.names),
            arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(layout.names, pa.string()),
                null_values=_MISSING_TEXT,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        pass  # of another number of values somewhere, or empty: read line by line
    text = io.StringIO(body.decode(), newline="")
    rows = csv.reader(text, delimiter=delimiter, skipinitialspace=delimiter == " ")
    return _of_rows(path, layout, list(rows))


def _lines(body: bytes) -> list[str]:
    return body.decode().split("\n")


def _of_rows(path: Path, layout: _Layout, rows: Sequence[list[str]]) -> pa.Table:
    """Return rows as columns; further values are accepted if they are empty, as of a delimiter at the end."""
    n, good = len(layout.names), []
    for i, row in enumerate(rows, start=1):
        if not any(value.strip() for value in row):
            continue
        if len(row) < n or any(value.strip() for value in row[n:]):
            raise ConfigError(
                f"{path}: row {i}: Expected {n} columns, got {len(row)}: {' | '.join(row)[:80]!r}; correct this row: "
                "a value with a delimiter in it needs quotes, numbers need decimal points"
            )
        good.append(row[:n])
    columns = zip(*good, strict=True) if good else ([] for _ in layout.names)
    made = [
        pa.array([None if value in _MISSING_TEXT else value for value in column], pa.string()) for column in columns
    ]
    return pa.table(made, names=layout.names)


Opener = Callable[[Path, str | None], Source]

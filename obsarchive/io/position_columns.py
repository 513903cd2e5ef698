"""Positions in columns of tables: parts of them, as hours and minutes, and both angles in one."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.io.column_units import unit_in_name
from obsarchive.io.table_readers import Raw, Source

_POSITION = re.compile(r"(?i)coords?\d?|coordinates?|position|radec|ra_?dec(_?j2000)?|skycoord")
"""Names of columns that hold right ascension and declination in one."""
_OTHER_FRAME = re.compile(r"(?i)1950|fk4|gal|ecl")
SIGN = "de-"
"""Name of the column with the sign of a declination in parts."""
_JOINED: Mapping[str, tuple[str, str, str, str]] = {"RA": ("", "rah", "ram", "ras"), "DE": (SIGN, "ded", "dem", "des")}


def with_joined_positions(source: Source) -> Source:
    """Return a table with columns RA and DE [deg] in place of columns of hours, minutes and so on, as of the CDS."""
    lower = {name.lower(): name for name in source.names}
    parts = {made: [lower.get(name, "") for name in names] for made, names in _JOINED.items()}
    others = set(source.names).difference(*parts.values())
    known = {unit_in_name(name)[0].lower() for name in others}
    if not all(found[1] and found[2] for found in parts.values()) or known & {"ra", "de", "dec"}:
        return source

    def read(names: list[str], wanted: slice) -> list[Raw]:
        return [
            _joined(source, parts[name], wanted) if name in parts else source.read([name], wanted)[0] for name in names
        ]

    kept = [name for name in source.names if name in others]
    return Source([*kept, *parts], source.n_rows, read, {**source.units, "RA": "deg", "DE": "deg"})


def with_split_positions(source: Source) -> Source:
    """Return a table with columns RA and DE in place of one with both, as ``06 45 08.9 -16 42 58`` of SIMBAD."""
    bare = {name: re.split(r"\s*[(\[]", name.strip())[0] for name in source.names}
    known = {unit_in_name(name)[0].lower() for name in source.names}
    found = next(
        (name for name, word in bare.items() if _POSITION.fullmatch(word) and not _OTHER_FRAME.search(name)), None
    )
    if found is None or known & {"ra", "de", "dec"}:
        return source

    def read(names: list[str], wanted: slice) -> list[Raw]:
        return [
            _half(source, found, name, wanted) if name in _JOINED else source.read([name], wanted)[0] for name in names
        ]

    kept = [name for name in source.names if name != found]
    return Source(
        [*kept, *_JOINED], source.n_rows, read, {key: unit for key, unit in source.units.items() if key != found}
    )


def _half(source: Source, name: str, half: str, wanted: slice) -> Raw:
    values, missing = source.read([name], wanted)[0]
    words = values.astype("U") if missing is None else np.where(missing, "", values.astype("U"))
    at = [*_JOINED].index(half)
    return np.array([_two_angles(word)[at] for word in words.tolist()], "U"), None


def _two_angles(text: str) -> tuple[str, str]:
    """Return right ascension and declination: apart by a comma or the sign, else in the middle; empty without any."""
    words = text.replace(",", " , ").replace(";", " , ").split()
    if len(words) < 2 or not words[0][0].isdigit():
        return "", ""
    if words.count(",") == 1:
        at = words.index(",")
        return " ".join(words[:at]), " ".join(words[at + 1 :])
    at = next((i for i, word in enumerate(words) if i and word[0] in "+-\N{MINUS SIGN}"), len(words) // 2)
    return " ".join(words[:at]), " ".join(words[at:])


def _joined(source: Source, parts: Sequence[str], wanted: slice) -> Raw:
    sign, *rest = parts
    columns = [_floats(*source.read([name], wanted)[0]) if name else 0.0 for name in rest]
    size = sum(column / 60.0**i for i, column in enumerate(columns)) * (1.0 if sign else 15.0)
    if sign:
        minus = np.char.strip(source.read([sign], wanted)[0][0].astype("U")) == "-"
        size = np.where(minus, -size, size)
    return np.asarray(size, np.float64), None


def _floats(values: NDArray[Any], missing: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    numbers = values.astype(np.float64)
    return numbers if missing is None else np.where(missing, np.nan, numbers)

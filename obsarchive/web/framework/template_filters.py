"""How numbers, times, coordinates and results are written on pages."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from obsarchive.core.significant_digits import decimals_of, fixed, is_number, significant, with_error
from obsarchive.web.framework.result_names import in_words

NOTHING = "–"

_UNITS = {
    "percent": "%",
    "arcsec": "″",
    "mas": "mas",
    "deg": "°",
    "s": "s",
    "px": "px",
    "adu": "ADU",
    "mag": "mag",
    "nm": "nm",
    "mb": "MB",
    "gb": "GB",
    "m": "m",
}


_LABELS = {
    "ratio": "Strehl ratio",
    "fwhm": "FWHM",
    "snr": "S/N",
    "core": "core FWHM",
    "halo": "halo FWHM",
    "crop": "cut-out side",
    "crop centre": "cut-out centre",
    "lock position": "guide-star position",
    "pixfrac": "drizzle drop size",
    "frame snr": "S/N per frame",
    "shift rms": "image motion (rms)",
    "shift": "image motion",
    "n references": "reference stars",
    "lacks references": "more reference stars wanted",
    "left out": "frames rejected",
}
"""Names of measured values that are not what an astronomer would write."""


def number(value: Any, digits: int = 2) -> str:
    """Return a number with fixed decimals.

    Parameters
    ----------
    value : object
        The number.
    digits : int, optional
        Decimals.

    Returns
    -------
    str
        The text; a dash when `value` is no finite number.
    """
    return fixed(value, digits) if is_number(value) else NOTHING


def utc(value: Any, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time in UTC.

    Parameters
    ----------
    value : object
        An aware time.
    form : str, optional
        Format as for ``strftime``.

    Returns
    -------
    str
        The text; a dash when `value` is no time.
    """
    return value.astimezone(UTC).strftime(form) if isinstance(value, datetime) else NOTHING


def ago(value: Any, now: datetime) -> str:
    """Return how long ago a time was.

    Parameters
    ----------
    value : object
        An aware time.
    now : datetime
        Present time.

    Returns
    -------
    str
        Such as ``3 h ago``; a dash when `value` is no time.
    """
    return f"{duration((now - value).total_seconds())} ago" if isinstance(value, datetime) else NOTHING


def duration(seconds: Any) -> str:
    """Write a time span with the two units that matter."""
    if not isinstance(seconds, int | float):
        return NOTHING
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(n_bytes: Any) -> str:
    """Write a file size; its unit stays on the same line."""
    if not isinstance(n_bytes, int | float):
        return NOTHING
    amount = float(n_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.2f} GB"


def night_date(night: str) -> str:
    """Write a night ``yyyymmdd`` as a date."""
    return f"{night[:4]}-{night[4:6]}-{night[6:]}"


def right_ascension(degrees: Any) -> str:
    """Write a right ascension [deg] in hours, minutes, seconds."""
    if not isinstance(degrees, int | float):
        return NOTHING
    return _sexagesimal(round(degrees % 360 / 15 * 360000) % (24 * 360000) / 360000, 2)  # no 24:00:00.00


def declination(degrees: Any) -> str:
    """Write a declination [deg] in degrees, minutes, seconds."""
    if not isinstance(degrees, int | float):
        return NOTHING
    return ("−" if degrees < 0 else "+") + _sexagesimal(abs(degrees), 1)


def _sexagesimal(value: float, digits: int) -> str:
    units = round(value * 3600 * 10**digits)  # rounded first: no 60.00 seconds
    whole, fraction = divmod(units, 10**digits)
    minutes, seconds = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{fraction:0{digits}d}"


@dataclass(frozen=True)
class Row:
    """One measured value: its name in words, the value and its unit; or a table of several."""

    label: str
    text: str
    unit: str = ""
    table: tuple[Mapping[str, Any], ...] = ()

    @property
    def keys(self) -> list[str]:
        """Names of the columns of the table; what was not measured of one entry may have been of another."""
        return list(dict.fromkeys(key for entry in self.table for key in entry))


def result_rows(results: Mapping[str, Any]) -> Iterator[Row]:
    """Write the measured values of a step, each with its error, the single ones first."""
    errors = {key: name for key in results for name in _error_names(key) if name in results}
    rows = [
        _row(key, value) if key not in errors else _row_with_error(key, value, results[errors[key]])
        for key, value in results.items()
        if key not in errors.values() and value != ""
    ]
    yield from (row for row in rows if not row.table)
    yield from (row for row in rows if row.table)


def _error_names(key: str) -> tuple[str, ...]:
    """Names under which the error of a measured value may stand."""
    words, _, unit = key.rpartition("_")
    return (f"{words}_error_{unit}", f"{key}_error") if words and unit in _UNITS else (f"{key}_error",)


def _row_with_error(key: str, value: Any, error: Any) -> Row:
    row = _row(key, value)
    if isinstance(value, list) and isinstance(error, list) and len(value) == len(error):
        pairs = zip(value, error, strict=True)
        return replace(
            row, text=", ".join(with_error(*pair) if is_number(pair[0]) else plain(pair[0]) for pair in pairs)
        )
    return replace(row, text=with_error(value, error)) if is_number(value) else row


def _row(key: str, value: Any) -> Row:
    words, _, last = key.rpartition("_")
    label, unit = (words, _UNITS[last]) if words and last in _UNITS else (key, "")
    label = in_words(label, _UNITS)
    label = _LABELS.get(label, label)
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return Row(label, f"{len(value)}", table=tuple(value))
    return Row(label, plain(value), unit)


LONGEST_LIST = 24
_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$")


def plain(value: Any) -> str:
    """Write a value of a result in words."""
    match value:
        case None:
            text = NOTHING
        case bool():
            text = "yes" if value else "no"
        case float():
            text = significant(value) if math.isfinite(value) else NOTHING
        case datetime():
            text = utc(value)
        case list():
            text = _listed(value)
        case Mapping():
            text = ", ".join(f"{key} {plain(inner)}" for key, inner in value.items())
        case _:
            text = str(value)
    return utc(datetime.fromisoformat(text)) if _ISO_TIME.match(text) else text


def _listed(values: list[Any]) -> str:
    if len(values) > LONGEST_LIST:
        return f"{len(values)} entries, see the table among the products"
    return ", ".join(plain(item) for item in values) or "none"


def measured(value: Any, error: Any = None, digits: int | None = None) -> str:
    """Write a value with its error, both with the digits that the error allows.

    Parameters
    ----------
    value, error : object
        The numbers; `error` is no positive number where it is not known.
    digits : int, optional
        Decimals of a value whose error is not known; four significant digits if they are not given.

    Returns
    -------
    str
        The text; a dash when `value` is no finite number.
    """
    if not is_number(value):
        return NOTHING
    if digits is not None and not (is_number(error) and error > 0):
        return fixed(float(value), digits)
    return with_error(float(value), float(error) if is_number(error) else None)


def as_exact_as(value: Any, error: Any) -> str:
    """Write a value with the digits that an error allows, without the error; a dash when it is no number."""
    if not is_number(value):
        return NOTHING
    return fixed(float(value), decimals_of(float(error))) if is_number(error) else significant(float(value))


def per_dof(chi2: Any, dof: Any) -> str:
    """Write chi-square for each degree of freedom, with the digits that its own scatter allows."""
    if not is_number(chi2) or not is_number(dof) or dof <= 0:
        return NOTHING
    reduced = chi2 / dof
    return as_exact_as(reduced, reduced * math.sqrt(2 / dof))


_LONG_WORD = re.compile(r"\S{16,}")
_AFTER_MARK = re.compile(r"(?<=[_./-])(?=[^_./-])")


def breakable(text: Any) -> Markup:
    """Return a text whose long words, such as names of files, a browser may break behind ``_ . / -`` first."""
    found, place = Markup(), 0
    for word in _LONG_WORD.finditer(str(text)):
        found += escape(str(text)[place : word.start()]) + Markup("<wbr>").join(_AFTER_MARK.split(word[0]))
        place = word.end()
    return found + escape(str(text)[place:])


FILTERS = {
    "breakable": breakable,
    "number": number,
    "measured": measured,
    "as_exact_as": as_exact_as,
    "per_dof": per_dof,
    "utc": utc,
    "ago": ago,
    "duration": duration,
    "filesize": size,
    "night_date": night_date,
    "ra": right_ascension,
    "dec": declination,
    "result_rows": result_rows,
    "plain": plain,
}

"""How numbers, times, coordinates and results are written on pages."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

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


_LABELS = {"ratio": "Strehl ratio", "ratio error": "Strehl ratio, error", "fwhm": "FWHM", "snr": "S/N"}
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
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return NOTHING
    return f"{value:.{digits}f}".replace("-", "−")


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
    """Write a file size."""
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


def result_rows(results: Mapping[str, Any]) -> Iterator[Row]:
    """Write the measured values of a step, the single ones first."""
    rows = [_row(key, value) for key, value in results.items()]
    yield from (row for row in rows if not row.table)
    yield from (row for row in rows if row.table)


def _row(key: str, value: Any) -> Row:
    words, _, last = key.rpartition("_")
    label, unit = (words, _UNITS[last]) if words and last in _UNITS else (key, "")
    label = in_words(label, _UNITS)
    label = _LABELS.get(label, label)
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return Row(label, f"{len(value)}", table=tuple(value))
    return Row(label, plain(value), unit)


def plain(value: Any) -> str:
    """Write a value of a result in words."""
    match value:
        case None:
            text = NOTHING
        case bool():
            text = "yes" if value else "no"
        case float() if value.is_integer() and abs(value) < 1e9:
            text = f"{value:.0f}".replace("-", "−")
        case float():
            text = f"{value:.4g}".replace("-", "−")
        case datetime():
            text = utc(value)
        case list():
            text = ", ".join(plain(item) for item in value) or "none"
        case Mapping():
            text = ", ".join(f"{key} {plain(inner)}" for key, inner in value.items())
        case _:
            text = str(value)
    return text


FILTERS = {
    "number": number,
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

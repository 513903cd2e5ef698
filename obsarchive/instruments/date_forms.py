"""Forms in which cameras write dates and times of day."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

SCALES = {
    **dict.fromkeys(("Z", "UTC", "UT", "GMT"), "utc"),
    **dict.fromkeys(("TAI", "IAT"), "tai"),
    **dict.fromkeys(("TT", "TDT", "ET"), "tt"),
    **{name: name.lower() for name in ("TDB", "TCB", "TCG", "UT1", "GPS")},
}
"""Astropy's names of time scales, and ``gps``, by those of FITS."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_YMD = re.compile(r"(\d{4})([-/.:])(\d{1,2})\2(\d{1,2})(?!\d)")
_COMPACT_YMD = re.compile(r"(\d{4})(\d\d)(\d\d)(?=\D|\d{6}(?:\D|$)|$)")
_DMY = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d\d)(?!\d)")
_DAY_MONTH_YEAR = re.compile(r"(\d{1,2})[- ]([A-Za-z]{3,9})[-, ]+(\d{4})(?!\d)")
_YEAR_MONTH_DAY = re.compile(r"(\d{4})[- ]([A-Za-z]{3,9})[- ](\d{1,2})(?!\d)")
_DAY_MONTH_OLD_YEAR = re.compile(r"(\d{1,2})-([A-Za-z]{3})-(3[2-9]|[4-9]\d)(?!\d)")
_MONTH_DAY_YEAR = re.compile(r"([A-Za-z]{3,9})\.? +(\d{1,2}),? +(\d{4})(?!\d)")
_ORDINAL = re.compile(r"(\d{4})[-:](\d{3})(?!\d)")
_WEEKDAY = re.compile(r"(?i)(mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,? +")
_YEAR_AT_END = re.compile(r"([A-Za-z]{3} +\d{1,2}) +(\d{1,2}:\d\d:\d\d(?:\.\d*)?)((?: +[A-Z]{1,3})?) +(\d{4})")
"""As the programs ``date`` and ``ctime`` of Unix write it, behind the day of the week."""
_OLD_FITS = re.compile(r"\d{1,2}/\d{1,2}/\d\d")
_CLOCK = re.compile(r"(\d{1,2})\s*[:h ]\s*(\d{1,2})\s*(?:[:m ]\s*(?:(\d{1,2}(?:[.,]\d*)?)\s*s?)?)?")
_COMPACT_CLOCK = re.compile(r"(\d\d)(\d\d)(\d\d(?:[.,]\d*)?)")
_HALF_OF_DAY = re.compile(r"(?i)(.*\d)\s*([ap])\.?m\.?")
_ZONE = re.compile(r"(.*\d\.?[hms]?)\s*[(\[]?\s*(?:([A-Za-z]+1?)|([+-])(\d\d):?(\d\d)?)\s*[)\]]?")


class FormError(ValueError):
    """A text is no date or time; the message continues a sentence that names the text."""


@dataclass(frozen=True)
class Moment:
    """A date and time as it is written.

    Parameters
    ----------
    minute : datetime
        Start of the minute; its zone is UTC, whatever the scale is.
    seconds : float
        Seconds from there: 60 and more in a leap second, or where a clock rounds up.
    scale : str
        One of the values of `SCALES`.
    """

    minute: datetime
    seconds: float
    scale: str


def is_day(text: str) -> bool:
    """Whether a text begins with year, month and day in figures."""
    return bool(_YMD.match(text) or _COMPACT_YMD.match(text))


def is_old_fits_date(text: str) -> bool:
    """Whether a text is ``dd/mm/yy``, as FITS wrote dates before 1999."""
    return _OLD_FITS.fullmatch(text) is not None


def read_day(text: str) -> tuple[date, str]:
    """Read the day at the beginning of a text.

    Parameters
    ----------
    text : str
        ``2026-03-14``, also with ``/``, ``.`` or ``:``, with figures left out or without signs; ``14/03/26`` of old
        FITS files; ``14.03.2026``, ``14/03/2026``, ``14-Mar-2026``, ``Mar 14, 2026``; ``2026-073`` (day of the year); a
        time of day may follow.

    Returns
    -------
    (date, str)
        The day, and what follows it.

    Raises
    ------
    FormError
        It is no day, or one that can be read in two ways.
    """
    text = _WEEKDAY.sub("", text, count=1) if _WEEKDAY.match(text) else text
    at_end = _YEAR_AT_END.fullmatch(text)
    text = "{0} {3} {1}{2}".format(*at_end.groups()) if at_end else text
    for pattern, read in _DAYS:
        match = pattern.match(text)
        if match is not None:
            try:
                return date(*read(match)), text[match.end() :].lstrip(" Tt_,;:")
            except FormError:
                raise
            except ValueError as err:
                raise FormError("which is no day of the calendar") from err
    raise FormError("expected a date such as 2026-03-14T21:30:00")


def _of_ymd(match: re.Match[str]) -> tuple[int, int, int]:
    return int(match[1]), int(match[3]), int(match[4])


def _of_compact(match: re.Match[str]) -> tuple[int, int, int]:
    return int(match[1]), int(match[2]), int(match[3])


def _of_dmy(match: re.Match[str]) -> tuple[int, int, int]:
    one, joint, two, year = int(match[1]), match[2], int(match[3]), int(match[4])
    if len(match[4]) == 2:
        if joint != "/":
            raise FormError("whose year is not plain: expected yyyy-mm-dd or dd/mm/yy")
        return year + (2000 if year < 70 else 1900), two, one
    if joint != "." and one != two and max(one, two) <= 12:
        raise FormError("which may mean dd/mm/yyyy or mm/dd/yyyy: expected yyyy-mm-dd")
    return (year, one, two) if joint != "." and two > 12 else (year, two, one)


def _of_day_month_year(match: re.Match[str]) -> tuple[int, int, int]:
    return int(match[3]), _MONTHS.index(match[2][:3].lower()) + 1, int(match[1])


def _of_day_month_old_year(match: re.Match[str]) -> tuple[int, int, int]:
    return 1900 + int(match[3]), _MONTHS.index(match[2].lower()) + 1, int(match[1])


def _of_month_day_year(match: re.Match[str]) -> tuple[int, int, int]:
    return int(match[3]), _MONTHS.index(match[1][:3].lower()) + 1, int(match[2])


def _of_ordinal(match: re.Match[str]) -> tuple[int, int, int]:
    day = datetime.strptime(f"{match[1]} {match[2]}", "%Y %j").replace(tzinfo=UTC)
    return day.year, day.month, day.day


def _of_year_month_day(match: re.Match[str]) -> tuple[int, int, int]:
    return int(match[1]), _MONTHS.index(match[2][:3].lower()) + 1, int(match[3])


_DAYS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], tuple[int, int, int]]], ...] = (
    (_YMD, _of_ymd),
    (_COMPACT_YMD, _of_compact),
    (_DMY, _of_dmy),
    (_DAY_MONTH_YEAR, _of_day_month_year),
    (_DAY_MONTH_OLD_YEAR, _of_day_month_old_year),
    (_YEAR_MONTH_DAY, _of_year_month_day),
    (_MONTH_DAY_YEAR, _of_month_day_year),
    (_ORDINAL, _of_ordinal),
)


def read_time(day: date, text: str, scale: str) -> Moment:
    """Read a time of day.

    Parameters
    ----------
    day : date
        Its day.
    text : str
        ``21:30:05.5``, also with blanks, with ``h m s``, without signs, with figures left out or without seconds; a
        zone (``Z``, ``UTC``, ``+02:00``) or a scale (``TT``) may follow. Minutes and seconds may be 60.
    scale : str
        Scale of a time without one of its own.

    Returns
    -------
    Moment

    Raises
    ------
    FormError
        It is no time of day, or its zone is not known.
    """
    half = _HALF_OF_DAY.fullmatch(text.strip())
    clock, scale, offset = _read_zone(half[1] if half else text.strip(), scale)
    match = _CLOCK.fullmatch(clock) or _COMPACT_CLOCK.fullmatch(clock)
    if match is None:
        raise FormError("expected a time such as 21:30:00" + (" after the date" if is_day(text) else ""))
    hours, minutes, seconds = int(match[1]), int(match[2]), float((match[3] or "0").replace(",", "."))
    if half:
        if not 1 <= hours <= 12:
            raise FormError("which is no time of day")
        hours = hours % 12 + (12 if half[2].lower() == "p" else 0)
    is_midnight = (hours, minutes, seconds) == (24, 0, 0.0)
    if (hours > 23 and not is_midnight) or minutes > 60 or seconds >= 61:
        raise FormError("which is no time of day")
    minute = datetime.combine(day, time(tzinfo=UTC)) + timedelta(hours=hours, minutes=minutes)
    return Moment(minute - offset, seconds, scale)


def _read_zone(clock: str, scale: str) -> tuple[str, str, timedelta]:
    """Cut the zone or scale off a time; return the time, its scale and its offset from UTC."""
    match = _ZONE.fullmatch(clock)
    if match is None or (match[2] or "").lower() in ("h", "m", "s"):
        return clock, scale, timedelta()
    left, word, sign, hours, minutes = match.groups()
    if word is None:
        offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
        return left, "utc", -offset if sign == "-" else offset
    if word.upper() not in SCALES:
        raise FormError(f"whose zone {word} is not known: expected UTC")
    return left, SCALES[word.upper()], timedelta()

"""Dates and times as people write them: a day, a month, a year, a moment, a Julian date."""

import re
from datetime import UTC, datetime, timedelta

from astropy.time import Time

from obsarchive.names import is_night

HOW = "2016-09-25, 2016-09-25T03:30 (UTC), 2016-09, 2016, an MJD or a JD"
_MONTH = re.compile(r"(\d{4})-(\d\d?)")
_YEAR = re.compile(r"(?:19|20)\d\d")
_JULIAN = re.compile(r"\d{5}(?:\.\d*)?|2\d{6}(?:\.\d*)?")
_MJD_FROM_JD = 2_400_000.5
_LAST = timedelta(milliseconds=1)


def read_period(text: str) -> tuple[datetime, datetime]:
    """Read a date or time.

    Parameters
    ----------
    text : str
        What the user wrote; UTC unless it names a time zone.

    Returns
    -------
    (datetime, datetime)
        First and last moment of what it means, to the millisecond [UTC]: of a day, a month, a year, a minute, or the
        moment itself twice.

    Raises
    ------
    ValueError
        It is no date.
    """
    plain = text.strip().replace("/", "-").removesuffix("Z")
    if is_night(plain):
        plain = f"{plain[:4]}-{plain[4:6]}-{plain[6:]}"
    if _YEAR.fullmatch(plain):
        return _whole(datetime(int(plain), 1, 1, tzinfo=UTC), datetime(int(plain) + 1, 1, 1, tzinfo=UTC))
    if found := _MONTH.fullmatch(plain):
        year, month = int(found[1]), int(found[2])
        return _whole(datetime(year, month, 1, tzinfo=UTC), datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC))
    if _JULIAN.fullmatch(plain):
        return _julian(float(plain), "." not in plain)
    found_time = datetime.fromisoformat(plain)
    start = found_time.astimezone(UTC) if found_time.tzinfo else found_time.replace(tzinfo=UTC)
    inside = timedelta(days=1) if len(plain) <= 10 else timedelta(minutes=1) if len(plain) <= 16 else _LAST
    return _whole(start, start + inside)


def _whole(start: datetime, following: datetime) -> tuple[datetime, datetime]:
    return start, following - _LAST


def _julian(number: float, is_day: bool) -> tuple[datetime, datetime]:
    """Return a Julian date, or a modified one; whole numbers of MJD mean the day."""
    mjd = number if number < 1e6 else number - _MJD_FROM_JD
    start = Time(mjd, format="mjd", scale="utc").to_datetime(timezone=UTC)
    start = start.replace(microsecond=start.microsecond // 1000 * 1000)
    return _whole(start, start + (timedelta(days=1) if is_day else _LAST))

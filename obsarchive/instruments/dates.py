"""Start of an exposure, from the many forms in which headers state it, as UTC.

Local times are never taken for UTC, and neither a date that can be read in two ways nor that of a clock that was not
set is believed.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

import erfa
from astropy.io.fits.card import Undefined
from astropy.time import Time
from astropy.utils import iers

from obsarchive.instruments.date_forms import SCALES, FormError, Moment, is_day, is_old_fits_date, read_day, read_time
from obsarchive.science.astrometry.times import JD_OF_MJD, mjd_of

DATES = (
    "DATE-OBS DATE_OBS DATE-BEG UTDATE UT-DATE UTC-DATE MJD-OBS MJD-BEG MJD_OBS JD-OBS DATE-AVG MJD-AVG MJD-MID JD MJD"
)
"""Keywords of the date, or of date and time in one; those of the middle of an exposure end in ``AVG`` or ``MID``."""
TIMES = "TIME-OBS TIME_OBS UTSTART UTC-OBS UT-OBS UTC-BEG UTCSTART TIME-BEG UTC UT UTC-TIME UT-TIME"
"""Keywords of the time of day, where the date has none."""
LOCAL_TIMES = ("LT", "LTIME", "LOCALTIM", "LOCTIME", "LT-OBS", "DATE-LOC", "TIME-LOC", "DATE-LT", "TIME-LT")
EXPOSURES = ("EXPTIME", "EXPOSURE", "XPOSURE")

_CLOCK_NAMES = re.compile(r"TIM|CLOCK|^[UL]TC?|[UL]TC?$")
"""Keywords under which a time of day may be."""
_UNIT = re.compile(r"\b(s|sec|secs|seconds?|h|hr|hours?)\b")
_GPS_TO_TAI_S = 19.0
_MJD_0 = datetime(1858, 11, 17, tzinfo=UTC)
_MJD_RANGE = -3000.0, 110_000.0
_FIRST_YEAR = 1850
_ROUNDED_H = 0.25
"""A time of day that is nearer to midnight than this is that of a start at midnight [h]."""
_SAME_TIME_D = 0.05
"""Within this a Julian date tells the day of a time of day; it may be of the middle of the exposure [d]."""
_CLOCKS_BEGIN = frozenset(
    date(*day)
    for day in (
        *((1858, 11, 17), (1899, 12, 30), (1899, 12, 31), (1900, 1, 1), (1904, 1, 1)),
        *((1970, 1, 1), (1980, 1, 1), (1980, 1, 6)),
    )
)
"""Days from which clocks and number formats count: the date of a clock that was not set."""


class DateError(ValueError):
    """A header does not say when its exposure began; the message says what it holds instead."""


@dataclass(frozen=True)
class Start:
    """Start of an exposure.

    Parameters
    ----------
    utc : datetime
        Aware, UTC; within a leap second, which a datetime cannot hold, the last microsecond before it.
    leap_s : float
        Time since the leap second began; 0 outside of one [s].
    """

    utc: datetime
    leap_s: float = 0.0

    @property
    def mjd(self) -> float:
        """Modified Julian date [d, UTC]; a day with a leap second is divided into 86401 seconds, as ERFA does."""
        if self.utc.date() not in _leap_days():
            return mjd_of(self.utc)
        midnight = datetime.combine(self.utc.date(), time(tzinfo=UTC))
        seconds = 86400 + self.leap_s if self.leap_s else (self.utc - midnight).total_seconds()
        return mjd_of(midnight) + seconds / 86401


def exposure_start(header: Mapping[str, Any], dates: str = DATES, times: str = TIMES) -> Start:
    """Read when an exposure began.

    Parameters
    ----------
    header : mapping
        Header of a frame. ``TIMESYS`` is the scale of its times (UTC by default), ``EXPTIME`` or ``EXPOSURE`` the
        exposure time [s], which leads from the middle of an exposure to its start.
    dates : str, optional
        Keywords of the date, or of date and time in one, separated by blanks; the first that gives a start counts.
    times : str, optional
        Keywords of the time of day, where a date has none.

    Returns
    -------
    Start

    Raises
    ------
    DateError
        None of the keywords gives a start, or it cannot be true.
    """
    reasons = []
    for key in dates.split():
        value = header.get(key)
        if is_empty(value):
            continue
        try:
            _refuse_local(header, key)
            start = _plain_start(header, value) or _start_under(header, key, value, times)
            start = _with_clock(header, start, times) if start.utc.time() == time() else start
            return _believed(_before_middle(header, start) if key.endswith(("AVG", "MID")) else start)
        except FormError as err:
            reasons.append(f"{key} is {value!r}, {err}")
        except DateError as err:
            reasons.append(str(err))
        except OverflowError:
            reasons.append(f"{key} is {value!r}, out of all bounds")
    reason = reasons[0] if reasons else f"none of {_listed(dates)} has a value"
    local = next((key for key in LOCAL_TIMES if not is_empty(header.get(key))), None)
    raise DateError(f"{reason}; {local} is local time, which is not used" if local else reason)


def _listed(keywords: str) -> str:
    """Return the first of some keywords, and dots if there are more."""
    first = keywords.split()[:4]
    return ", ".join(first) + (", …" if len(first) < len(keywords.split()) else "")


def is_empty(value: Any) -> bool:
    """Whether a keyword is absent, has no value, or a blank one."""
    return value is None or isinstance(value, Undefined) or not str(value).strip()


def _refuse_local(header: Mapping[str, Any], key: str) -> None:
    """Raise FormError if the comment of a card says that its time is local."""
    comments = getattr(header, "comments", None)
    comment = str(comments[key]).lower() if comments is not None else ""
    if re.search(r"\blocal\b", comment) and not re.search(r"\b(ut|utc|gmt)\b", comment):
        raise FormError("local time by its comment, which is not used")


def _plain_start(header: Mapping[str, Any], value: Any) -> Start | None:
    """Return the start in the form that nearly all cameras write; None for any other one."""
    if isinstance(value, str) and value[4:5] == "-" and value[10:11] == "T" and is_empty(header.get("TIMESYS")):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:  # seconds of 60, among others
            return None
        return Start(found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC))
    return None


def _start_under(header: Mapping[str, Any], key: str, value: Any, times: str) -> Start:
    """Read the start from the value of one keyword of the date."""
    scale = _scale_of(header.get("TIMESYS"))
    is_apart = "MJD" in key and isinstance(value, int) and any(not is_empty(header.get(name)) for name in times.split())
    moment = _read_number(key, float(value) if is_apart else value, scale)
    if moment is not None:
        return _utc(moment)
    text = str(value).strip()
    day, rest = read_day(text)
    if rest:
        return _utc(read_time(day, rest, scale))
    return _on_day_of_number(header, _utc(_time_apart(header, text, day, times, scale)))


def _with_clock(header: Mapping[str, Any], midnight: Start, times: str) -> Start:
    """Return the start at the time of day under a keyword of its own, where the date was written with zeros for it."""
    try:
        found = _utc(_time_apart(header, "", midnight.utc.date(), times, _scale_of(header.get("TIMESYS"))))
    except (FormError, DateError):
        return midnight
    hours = (found.utc - midnight.utc) / timedelta(hours=1)
    return found if _ROUNDED_H < hours < 24 - _ROUNDED_H else midnight


def _on_day_of_number(header: Mapping[str, Any], start: Start) -> Start:
    """Return the start a day later or earlier where a Julian date says so: the date was that of the evening."""
    for key in DATES.split():
        try:
            found = None if "JD" not in key else _read_number(key, header.get(key), "utc")
        except (FormError, OverflowError):
            continue
        if found is not None and not (2 * float(header[key])).is_integer():  # of the exposure, not of its day
            days = (found.minute - start.utc) / timedelta(days=1)
            is_off = abs(round(days)) == 1 and abs(days - round(days)) < _SAME_TIME_D
            return Start(start.utc + timedelta(days=round(days))) if is_off else start
    return start


def _scale_of(system: Any) -> str:
    """Return the time scale that ``TIMESYS`` names."""
    if is_empty(system):
        return "utc"
    word = re.split(r"[\s(]", str(system).strip().upper())[0]
    if word not in SCALES:
        raise DateError(f"TIMESYS is {str(system)!r}, expected UTC, TAI, TT, TDB, TCB, TCG, UT1 or GPS")
    return SCALES[word]


def _read_number(key: str, value: Any, scale: str) -> Moment | None:
    """Read a Julian or modified Julian date; None if the value is text."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if is_day(str(value).strip()):  # yyyymmdd
        return None
    mjd = number if "MJD" in key else number - JD_OF_MJD
    if isinstance(value, bool) or "JD" not in key or "HJD" in key or "BJD" in key:
        raise FormError("expected a date such as 2026-03-14T21:30:00")
    if not _MJD_RANGE[0] < mjd < _MJD_RANGE[1]:
        raise FormError(f"expected a {'modified ' if 'MJD' in key else ''}Julian date")
    if isinstance(value, int):
        raise FormError("a whole day without a time: expected a fraction")
    days, fraction = divmod(mjd, 1.0)
    return _moment_of(_MJD_0 + timedelta(days=days), fraction, scale)


def _moment_of(midnight: datetime, fraction: float, scale: str) -> Moment:
    """Return the moment at a fraction of a day, which is a second longer where one was inserted."""
    seconds = fraction * (86401 if scale == "utc" and midnight.date() in _leap_days() else 86400)
    minute = min(int(seconds // 60), 1439)
    return Moment(midnight + timedelta(minutes=minute), seconds - 60 * minute, scale)


def _time_apart(header: Mapping[str, Any], text: str, day: date, times: str, scale: str) -> Moment:
    """Add the time of day under a keyword of its own to a date."""
    for key in times.split():
        value = header.get(key)
        if is_empty(value):
            continue
        try:
            clock = str(value).strip() if isinstance(value, str) else _clock_of_number(header, key, value)
            if len(clock) > 10 and is_day(clock):
                day, clock = read_day(clock)
            return read_time(day, clock, "utc" if key.startswith("UT") else scale)
        except FormError as err:
            raise DateError(f"{key} is {value!r}, {err}") from err
    others = [f"{key} {value!r}" for key, value in header.items() if _CLOCK_NAMES.search(key) and _is_clock(value)]
    if not others and is_old_fits_date(text):
        return Moment(datetime.combine(day, time(tzinfo=UTC)), 0.0, scale)  # all that FITS had before 1999
    found_too = f" (found {', '.join(others)})" if others else ""
    raise FormError(f"without a time of day, and none of {_listed(times)} has one{found_too}")


def _is_clock(value: Any) -> bool:
    return isinstance(value, str) and re.match(r"\s*\d{1,2}:\d{1,2}", value) is not None


def _clock_of_number(header: Mapping[str, Any], key: str, value: Any) -> str:
    """Convert a number of seconds or hours, as the comment of its card says, to a time of day."""
    comments = getattr(header, "comments", None)
    unit = _UNIT.search(str(comments[key]).lower()) if comments is not None else None
    seconds = float(value) * (3600.0 if unit and unit[1].startswith("h") else 1.0)
    if unit is None or not 0 <= seconds < 86400:
        raise FormError("a number: expected HH:MM:SS, or [s] or [h] in its comment")
    minutes, seconds = divmod(seconds, 60.0)
    return f"{int(minutes // 60)}:{int(minutes % 60)}:{seconds:.6f}"


def _utc(moment: Moment) -> Start:
    """Convert a moment to UTC; seconds of 60 are a leap second where there was one, else the next minute."""
    minute, seconds = moment.minute, moment.seconds
    if moment.scale != "utc":
        minute, seconds = _converted(minute + timedelta(seconds=seconds), moment.scale)
    if seconds >= 60 and (minute.hour, minute.minute) == (23, 59) and minute.date() in _leap_days():
        return Start(minute + timedelta(seconds=60, microseconds=-1), max(seconds - 60, 1e-9))
    return Start(minute + timedelta(seconds=seconds))


def _converted(moment: datetime, scale: str) -> tuple[datetime, float]:
    """Convert a time of another scale to UTC: the start of its minute, and the seconds from there."""
    if scale == "gps":
        moment, scale = moment + timedelta(seconds=_GPS_TO_TAI_S), "tai"
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # of years whose leap seconds are not known yet
            iers.conf.set_temp("auto_download", False),
            iers.conf.set_temp("auto_max_age", None),
        ):
            found = Time(moment.replace(tzinfo=None), scale=scale).utc
    except (ValueError, iers.IERSRangeError) as err:
        raise FormError(f"which cannot be converted from {scale.upper()} to UTC: {err}") from err
    days, fraction = divmod((found.jd1 - JD_OF_MJD) + found.jd2, 1.0)
    converted = _moment_of(_MJD_0 + timedelta(days=days), fraction, "utc")
    return converted.minute, converted.seconds


def _before_middle(header: Mapping[str, Any], middle: Start) -> Start:
    """Go from the middle of an exposure to its start."""
    for name in EXPOSURES:
        try:
            exposure = float(header.get(name, "nan"))
        except (TypeError, ValueError):
            continue
        if 0 <= exposure < 1e7:
            return Start(middle.utc - timedelta(seconds=exposure / 2))
    raise FormError(f"the middle of the exposure, whose length is not under {' or '.join(EXPOSURES)}")


def _believed(start: Start) -> Start:
    """Refuse the date of a clock that was not set, and one that is still to come."""
    day = start.utc.date()
    if day.year < _FIRST_YEAR or day in _CLOCKS_BEGIN:
        raise FormError("the date of a clock that was not set")
    if start.utc > datetime.now(UTC) + timedelta(days=1):
        raise FormError("which is in the future")
    return start


@cache
def _leap_days() -> frozenset[date]:
    """Return the days at whose end a second was inserted."""
    return frozenset(
        date(int(after["year"]), int(after["month"]), 1) - timedelta(days=1)
        for before, after in pairwise(erfa.leap_seconds.get())
        if after["tai_utc"] - before["tai_utc"] == 1.0
    )

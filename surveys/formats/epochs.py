"""Times of epochs, whatever they are called and counted from, as modified Julian dates [d, UTC].

What is known of a time is used: its scale (UTC, TAI, TT, TDB, TCB) and whether it is that of the Sun or the barycentre.
Heliocentric dates are taken as UTC and barycentric ones as TDB unless their name tells another scale. Without the
position of the source the light travel time (8 minutes at most) cannot be removed, and stays.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import Unprocessable
from obsarchive.science.astrometry.times import JD_OF_MJD, MJD_1970, light_curve_times, utc_of
from surveys.formats.cell_values import simplify, words_of

EARLIEST, LATEST = 7_715.0, 88_069.0
"""Dates of astronomical photometry lie within 1880 and 2100 [MJD]."""
SECONDS = {"unix": 1.0, "unix_ms": 1e-3, "unix_us": 1e-6, "unix_ns": 1e-9}
"""Units of times since 1970 [s]."""
SHORTEST_UNIX = 1e8
"""Seconds since 1970 in early 1973; fewer are counted from the begin of something else."""
DATE_NAMES = (
    "datetime",
    "date",
    "dateob",
    "obsdate",
    "utdate",
    "dateut",
    "utc",
    "utctime",
    "timeutc",
    "dateutc",
    "isot",
)
_OFFSET = re.compile(r"-\s*(\d+(?:\.\d+)?)")
_JULIAN_NAME = re.compile(
    r"(?:obs|mid|midpoint|midtime|exp)?([bh]?m?jd|m[bh]jd)(?:obs?|mid|start)?(utc|tai|tt|tdb|tcb)?"
)
_KIND = {"mhjd": "hmjd", "mbjd": "bmjd"}
_REDUCED = {"btjd": ("bjd", 2_457_000.0), "bkjd": ("bjd", 2_454_833.0), "rjd": ("jd", 2_400_000.0)}
"""Reduced dates with a name of their own: TESS, Kepler, and RJD of the IAU."""
_DAY_OR_MONTH = re.compile(r"(\d{1,2})[/.](\d{1,2})[/.]\d{2,4}\b")
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d*)?)?")
_DATE_ALONE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{8}")
_EXCEL = (36_000.0, 48_000.0)
"""Days of spreadsheets in 1998 to 2031, which are MJDs of 1957 to 1990."""


@dataclass(frozen=True)
class TimeScale:
    """Meaning of times.

    Parameters
    ----------
    kind : str
        ``mjd``, ``jd``, ``hjd``, ``hmjd``, ``bjd``, ``bmjd``, ``unix``, ``date``, ``excel`` (dates that begin with the
        month); empty: inferred from the values.
    offset : float
        Added to the values [d].
    system : str
        ``utc``, ``tai``, ``tt``, ``tdb``, ``tcb``; empty: TDB for barycentric dates, else UTC.
    """

    kind: str = ""
    offset: float = 0.0
    system: str = ""

    @property
    def is_modified(self) -> bool:
        """Whether days are counted from 1858-11-17 at midnight."""
        return "m" in self.kind


def is_time_name(simplified: str) -> bool:
    """Return whether a simplified name is that of a kind of date."""
    return bool(_scale_of(simplified).kind)


def scale_of(name: str, simplified: str, unit: str = "") -> TimeScale:
    """Return what the name and the declared unit of a column tell of its times.

    Parameters
    ----------
    name, simplified : str
        Name of the column, as it is and simplified.
    unit : str
        Its declared unit, such as ``BJD - 2457000, days``.

    Returns
    -------
    TimeScale
    """
    found = _scale_of(simplified)
    declared = _scale_of(re.sub(r"[^a-z]", "", re.split("[-,(]", unit.lower())[0]))
    if not found.kind and declared.kind:
        found = declared
    offset = _OFFSET.search(name) or (_OFFSET.search(unit) if declared.kind else None)
    if offset and not found.offset:
        found = replace(found, offset=float(offset.group(1)))
    if not found.kind and unit.strip().lower() in ("s", "sec", "second", "seconds", "ms", "ns", "us"):
        plain = unit.strip().lower()
        return TimeScale(f"unix_{plain}" if plain in ("ms", "us", "ns") else "unix")
    return found


def _scale_of(simplified: str) -> TimeScale:
    if simplified in ("timestamp", "unixtime", "unix"):
        return TimeScale("unix")
    if simplified in DATE_NAMES:
        return TimeScale("date")
    if simplified in _REDUCED:
        return TimeScale(*_REDUCED[simplified])
    found = _JULIAN_NAME.fullmatch(simplified)
    return TimeScale(_KIND.get(found[1], found[1]), 0.0, found[2] or "") if found else TimeScale()


def with_times_of_day(columns: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    """Return a column of times; dates and times of day that have a column each are joined.

    Parameters
    ----------
    columns : mapping of str to ndarray (n,)
        All columns.
    name : str
        Name of the column of times.

    Returns
    -------
    ndarray (n,)

    Raises
    ------
    Unprocessable
        There are times of day without a date, or several columns with the missing part.
    """
    values = columns[name]
    is_time = _all_match(values, _TIME_OF_DAY)
    if not is_time and not _all_match(values, _DATE_ALONE):
        return values
    wanted = _DATE_ALONE if is_time else _TIME_OF_DAY
    others = [
        other
        for other, found in columns.items()
        if other != name and _all_match(found, wanted) and (is_time or not _is_position(other))
    ]
    if len(others) == 1:
        pair = (columns[others[0]], values) if is_time else (values, columns[others[0]])
        days, times = (words_of(part) for part in pair)
        return np.where((days == "") | (times == ""), "", np.strings.add(np.strings.add(days, " "), times))
    if is_time or others:
        found = f"found {' and '.join(map(repr, others))}" if others else "found none"
        raise Unprocessable(
            f"column {name!r} holds {'times of day' if is_time else 'dates'}: expected one column with their "
            f"{'dates' if is_time else 'times of day'}, {found}; write both as 2018-06-13T12:00:00 into one column"
        )
    return values


def _all_match(values: NDArray[Any], pattern: re.Pattern[str]) -> bool:
    if values.dtype.kind not in "OSU" or not (values.dtype.kind in "SU" or _is_text(values)):
        return False
    words = [word for word in words_of(values).tolist() if word]
    return bool(words) and all(map(pattern.fullmatch, words))


def _is_position(name: str) -> bool:
    return simplify(name) in ("ra", "raj", "dec", "dej", "rightascension", "declination", "de")


def mjd_of_times(
    values: NDArray[Any], scale: TimeScale, name: str, position: tuple[Any, Any], remarks: list[str]
) -> NDArray[np.float64]:
    """Return times as modified Julian dates.

    Parameters
    ----------
    values : ndarray (n,)
        Numbers, text or datetimes.
    scale : TimeScale
        Their meaning.
    name : str
        Name of the column, for messages.
    position : (float or None, float or None)
        Right ascension and declination of the source [deg].
    remarks : list of str
        What a person should know is appended.

    Returns
    -------
    ndarray (n,)
        MJD [d, UTC]; NaN where there is no time.

    Raises
    ------
    Unprocessable
        The times make no sense, or cannot be understood.
    """
    numbers = _times_as_numbers(values)
    if numbers is None:
        return _sensible(_mjd_of_dates(values, name, scale.kind), name, scale, remarks)
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return np.full(len(numbers), np.nan)
    time = numbers + (0.0 if scale.kind.startswith("unix") else scale.offset)
    kind = scale.kind if scale.kind not in ("", "date", "excel", "unix") else _guessed(time, scale.kind, name)
    time = np.where(numbers == 0, np.nan, time) if (finite != 0).any() and scale.offset == 0 else time
    known = replace(scale, kind=kind)
    if kind in SECONDS:
        return _sensible(MJD_1970 + time * SECONDS[kind] / 86400, name, known, remarks)
    if kind == "yyyymmdd":
        return _sensible(_mjd_of_calendar_numbers(time), name, known, remarks)
    if kind not in ("mjd", "jd", "hjd", "hmjd", "bjd", "bmjd"):
        raise Unprocessable(_neither(name, time))
    mjd = _sensible(time - (0.0 if known.is_modified else JD_OF_MJD), name, known, remarks)
    if kind in ("mjd", "jd"):
        return _in_utc(mjd, scale.system)
    if None in position:
        remarks.append(
            f"times in {name!r} are those of the {'Sun' if kind[0] == 'h' else 'barycentre'} and the position is "
            "unknown: the light travel time stays, 8 minutes at most"
        )
    return _geocentric(mjd, known, position)


def _neither(name: str, time: NDArray[np.float64]) -> str:
    return (
        f"times make no sense: times of {name!r} are neither JD nor MJD (median {np.nanmedian(time):g}): set "
        "time_scale and time_offset (often 2450000 in microlensing, 2457000 TESS, 2454833 Kepler)"
    )


def _times_as_numbers(values: NDArray[Any]) -> NDArray[np.float64] | None:
    """Return times that are numbers, also those written as text; None for calendar dates."""
    if values.dtype.kind not in "OSUM":
        return values.astype(np.float64)
    import pandas as pd  # late: it is large

    inferred = pd.Series(values if values.dtype.kind != "S" else values.astype("U")).infer_objects()
    if pd.api.types.is_datetime64_any_dtype(inferred):
        return None
    numbers = pd.to_numeric(inferred, errors="coerce").to_numpy(np.float64)
    return numbers if np.isfinite(numbers).any() or inferred.isna().all() else None


def _mjd_of_dates(values: NDArray[Any], name: str, kind: str) -> NDArray[np.float64]:
    """Return the MJDs of calendar dates; texts that are none are missing if others are dates."""
    import pandas as pd  # late: it is large

    series, is_text = pd.Series(values), values.dtype.kind in "SU" or _is_text(values)
    words = words_of(values) if is_text else np.empty(0, "U1")
    fractions = _fractions_of_days(words)
    if fractions is not None:
        return fractions
    begins_with_day = kind != "excel" and _begins_with_day(words, name)
    if is_text:
        series = pd.Series(words)
    when = pd.to_datetime(series, utc=True, format="mixed", dayfirst=begins_with_day, errors="coerce")
    if is_text and when.isna().all() and any(words.tolist()):
        raise Unprocessable(
            f"times of {name!r} such as {str(words[words != ''][0])!r} are no dates: write 2018-06-13T12:00:00, or "
            "numbers with decimal points"
        )
    elapsed = (when - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    seconds: NDArray[np.float64] = elapsed.to_numpy(np.float64)
    return MJD_1970 + np.where(seconds == 0, np.nan if (seconds != 0).any() else 0.0, seconds) / 86400


def _is_text(values: NDArray[Any]) -> bool:
    import pandas as pd  # late: it is large

    return values.dtype.kind == "O" and all(isinstance(value, str) or pd.isna(value) for value in values.tolist())


def _begins_with_day(words: NDArray[np.str_], name: str) -> bool:
    """Return whether dates such as 13/06/2018 begin with the day; False for dates that begin with the year.

    Raises
    ------
    Unprocessable
        No number above 12 tells which is the month.
    """
    found = [match for word in words.tolist() if (match := _DAY_OR_MONTH.match(word))]
    if not found:
        return False
    first, second = max(int(match[1]) for match in found), max(int(match[2]) for match in found)
    if (first > 12) == (second > 12):
        raise Unprocessable(
            f"times of {name!r} such as {found[0].string!r} may begin with the day or the month: "
            "write 2018-06-13T12:00:00, or set time_scale: excel if it is the month"
        )
    return first > 12


def _fractions_of_days(words: NDArray[np.str_]) -> NDArray[np.float64] | None:
    """Return the MJDs of dates such as 2018-06-13.52; None if they are others."""
    parts = [re.fullmatch(r"(\d{4}-\d{1,2}-\d{1,2})(\.\d+)", word) for word in words.tolist()]
    if not any(parts):
        return None
    import pandas as pd  # late: it is large

    days = pd.to_datetime(pd.Series([part[1] if part else None for part in parts]), utc=True, errors="coerce")
    whole = ((days - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(np.float64)
    mjd: NDArray[np.float64] = MJD_1970 + whole + np.array([float(part[2]) if part else np.nan for part in parts])
    return mjd


def _mjd_of_calendar_numbers(time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the MJDs of numbers such as 20180613.52."""
    import pandas as pd  # late: it is large

    days = [f"{value:.0f}" if np.isfinite(value) else None for value in np.floor(time)]
    when = pd.to_datetime(pd.Series(days), format="%Y%m%d", errors="coerce", utc=True)
    whole = ((when - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(np.float64)
    mjd: NDArray[np.float64] = MJD_1970 + whole + time % 1
    return mjd


def _guessed(time: NDArray[np.float64], declared: str, name: str) -> str:
    """Return the kind of numbers whose name tells none, a date, or seconds; empty if it cannot be known."""
    middle = float(np.median(time[np.isfinite(time)]))
    ranges = {
        "mjd": (3e4, 1e5),
        "jd": (2.3e6, 2.6e6),
        "yyyymmdd": (18_800_101, 21_000_101),
        "unix": (3e8, 5e9),
        "unix_ms": (3e11, 5e12),
        "unix_us": (3e14, 5e15),
        "unix_ns": (3e17, 5e18),
    }
    if declared == "date" and _EXCEL[0] < middle < _EXCEL[1]:
        raise Unprocessable(
            f"times of {name!r} (median {middle:g}) may be MJD or days of a spreadsheet: set time_scale, to mjd or jd"
        )
    found = next((kind for kind, (low, high) in ranges.items() if low < middle < high), "")
    if not found and declared == "unix" and middle < SHORTEST_UNIX:
        raise Unprocessable(
            f"times of {name!r} (median {middle:g} s) are no seconds since 1970: expected JD, MJD or dates"
        )
    return found or ("unix" if declared == "unix" else "")


def _sensible(mjd: NDArray[np.float64], name: str, scale: TimeScale, remarks: list[str]) -> NDArray[np.float64]:
    """Return dates without those that cannot be; most of them must make sense."""
    finite = np.isfinite(mjd)
    outside = finite & ((mjd < EARLIEST) | (mjd > LATEST))
    if scale.kind in ("", "date", "excel", *SECONDS):
        # where a number was taken for nanoseconds, or nothing was given, all dates are those of the first day
        outside |= finite & (np.abs(mjd - MJD_1970) < 1)
    n_outside, n = int(outside.sum()), int(finite.sum())
    if 2 * n_outside > n:
        raise Unprocessable(f"times make no sense: {_span(mjd[outside])} in {name!r}; {_hint(mjd[outside], scale)}")
    if n_outside:
        remarks.append(
            f"{n_outside} of {n} times in {name!r} make no sense ({_span(mjd[outside])}): epochs without a time"
        )
    return np.where(outside, np.nan, mjd)


def _span(mjd: NDArray[np.float64]) -> str:
    years = 1858.876 + np.array([mjd.min(), mjd.max()]) / 365.25
    return f"years {years[0]:.0f} to {years[1]:.0f}"


def _hint(mjd: NDArray[np.float64], scale: TimeScale) -> str:
    """Return what the times may be instead."""
    if scale.kind in ("", "date", "excel", *SECONDS):
        return "set time_scale and time_offset"
    middle = float(np.median(mjd)) + (0.0 if scale.is_modified else JD_OF_MJD)
    other = "jd" if 2.3e6 < middle < 2.6e6 else "mjd" if 3e4 < middle < 1e5 else ""
    looks = f"; they look like {other.upper()} (time_scale: {scale.kind.strip('mjd')}{other})" if other else ""
    return f"they are no {scale.kind.upper()}: days may be missing; set time_offset{looks}"


def _in_utc(mjd: NDArray[np.float64], system: str) -> NDArray[np.float64]:
    if system in ("", "utc"):
        return mjd
    known = np.isfinite(mjd)
    made = np.full_like(mjd, np.nan)
    with warnings.catch_warnings(action="ignore"):  # about years before the first and after the last known leap second
        made[known] = utc_of(mjd[known], system)
    return made


def _geocentric(mjd: NDArray[np.float64], scale: TimeScale, position: tuple[Any, Any]) -> NDArray[np.float64]:
    """Return times without the light travel time to the Sun or barycentre; unchanged if the position is unknown."""
    ra, dec = position
    if ra is None or dec is None:
        return mjd
    is_heliocentric = scale.kind.startswith("h")
    # both in UTC: the travel time alone is then removed
    there = _in_utc(mjd, scale.system or ("utc" if is_heliocentric else "tdb"))
    known = np.isfinite(there)
    observed = there[known]
    with warnings.catch_warnings(action="ignore"):  # as above
        for _ in range(2):  # two iterations: the correction varies by only 1e-4 of itself within its own length
            dates = light_curve_times(observed, float(ra), float(dec))
            arrived = dates.hjd_utc - JD_OF_MJD if is_heliocentric else utc_of(dates.bjd_tdb - JD_OF_MJD, "tdb")
            observed = observed + (there[known] - arrived)
    made = np.full_like(mjd, np.nan)
    made[known] = observed
    return made

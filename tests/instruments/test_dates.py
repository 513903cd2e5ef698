"""When an exposure began: forms of dates with values of the FITS standard, of ERFA, or worked out by hand."""

import warnings
from datetime import UTC, datetime, timedelta

import pytest
from astropy.io import fits
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from obsarchive.instruments import DateError, exposure_start

EVENING = "2026-03-14T21:30:05.500000"
DAYS = ("{0:%Y-%m-%d}", "{0:%Y/%m/%d}", "{0:%Y%m%d}", "{0:%d.%m.%Y}", "{0:%d-%b-%Y}", "{0:%Y-%b-%d}", "{0:%d/%m/%y}")
JOINTS = ("T", " ", "  ", "t", "_")
CLOCKS = ("{0:%H:%M:%S.%f}", "{0:%H %M %S.%f}", "{0:%Hh%Mm%S.%fs}", "{0:%H%M%S.%f}", "{0.hour}:{0.minute}:{1}")
MOMENTS = st.datetimes(datetime.fromisoformat("1981-01-01"), datetime.fromisoformat("2026-03-01"))
ZONES = ("", "Z", " UTC", "UT", "+00:00", " (UTC)")


def header(**keys: object) -> dict[str, object]:
    """Return a header; two underscores stand for a hyphen."""
    return {key.replace("__", "-"): value for key, value in keys.items()}


@pytest.mark.parametrize(
    "keys",
    [
        {"DATE__OBS": "2026-03-14T21:30:05.5"},
        {"DATE__OBS": "2026-03-14 21:30:05.5 "},
        {"DATE__OBS": "2026-03-14T21:30:05.5Z"},
        {"DATE__OBS": "2026-03-14T23:30:05.5+02:00"},
        {"DATE__OBS": "2026-03-14T14:30:05.5-0700"},
        {"DATE__OBS": "2026-3-14T21:30:5.5"},
        {"DATE__OBS": "2026/03/14 21h30m05.5s UTC"},
        {"DATE__OBS": "20260314T213005,5"},
        {"DATE__OBS": 20260314, "UT": "21 30 5.5"},
        {"DATE__OBS": "14/03/26", "TIME__OBS": "21:30:05.5"},
        {"DATE__OBS": "14/03/2026", "UTC": "21:30:05.5"},
        {"DATE__OBS": "03/14/2026", "UTC": "21:30:05.5"},
        {"DATE__OBS": "2026-03-14", "UTSTART": "2026-03-14T21:30:05.5"},
        {"DATE__OBS": "2026-03-14", "UT": "21:29:65.5", "MJD__OBS": 61113.89589699074},
        {"DATE__OBS": "yesterday", "DATE__BEG": "14 Mar 2026 21:30:05.5"},
        {"DATE__OBS": "2026-03-14T21:30:42.5", "TIMESYS": "TAI"},
        {"DATE__OBS": "2026-03-14T21:31:14.684 TT"},
        {"DATE__OBS": "2026-03-14T21:30:23.5", "TIMESYS": "GPS"},
        {"DATE__OBS": "2026-03-14", "UT": "21:30:05.5", "TIMESYS": "TT"},
        {"UTC__DATE": "2026-03-14", "UTC__TIME": "21:30:05.500"},
        {"DATE__AVG": "2026-03-14T21:31:05.5", "EXPTIME": 120},
        {"MJD__OBS": "61113.89589699074"},
        {"JD": 2461114.39589699074},
        {"DATE__OBS": "Sat Mar 14 21:30:05.5 2026"},
        {"DATE__OBS": "Sat, 14 Mar 2026 21:30:05.5 GMT"},
        {"DATE__OBS": "March 14, 2026", "UT": "9:30:05.5 PM"},
        {"DATE__OBS": "2026-073T21:30:05.5"},
        {"DATE__OBS": "2026:073:21:30:05.5"},
        {"DATE__OBS": "2026-03-14T00:00:00.000", "TIME__OBS": "21:30:05.5"},
        {"MJD__OBS": 61113, "UT": "21:30:05.5"},
        {"MJD__OBS": 61113.0, "UT": "21:30:05.5"},
        {"DATE__OBS": "2026-03-13", "UT": "21:30:05.5", "MJD__OBS": 61113.89589699074},
        {"DATE__OBS": "2026-03-15", "UT": "21:30:05.5", "JD": 2461114.3965},
    ],
)
def test_forms_of_one_moment(keys: dict[str, object]) -> None:
    found = exposure_start(header(**keys))
    assert abs(found.utc - datetime.fromisoformat(EVENING + "+00:00")) < timedelta(milliseconds=0.1)
    assert found.mjd == pytest.approx(61113.89589699074, abs=1e-9)


@pytest.mark.parametrize(
    ("keys", "mjd"),
    [
        ({"DATE__OBS": "2016-12-31T23:59:60.5"}, 57753.99999421),
        ({"DATE__OBS": "2017-01-01T01:59:60.5+02:00"}, 57753.99999421),
        ({"DATE__OBS": "2016-12-31T12:00:00"}, 57753 + 43200 / 86401),
        ({"DATE__OBS": "2017-01-01T00:00:36.5", "TIMESYS": "TAI"}, 57753.99999421),
        ({"MJD__OBS": 57753.99999421}, 57753.99999421),
        ({"DATE__OBS": "2026-03-14T12:34:60.0"}, 61113 + (12 * 60 + 35) / 1440),
        ({"DATE__OBS": "2026-03-14T12:60:00"}, 61113 + 13 / 24),
        ({"DATE__OBS": "2026-02-28T23:59:60.0"}, 61100.0),
        ({"DATE__OBS": "2026-02-28T24:00:00"}, 61100.0),
        ({"DATE__OBS": "01/03/98"}, 50873.0),
        ({"DATE__OBS": "2026-03-01T00:00:00", "TIMESYS": "TT"}, 61099.99919926),
        ({"MJD__OBS": 61100.0, "TIMESYS": "tt "}, 61099.99919926),
        ({"DATE__OBS": "2026-03-01T00:00:00", "TIMESYS": "TDB"}, 61099.99919924),
        ({"DATE__OBS": "2026-03-01T00:00:00", "TIMESYS": "UTC approximate"}, 61100.0),
        (
            {"DATE__OBS": "2016-12-31T23:59:59.9", "TIMESYS": "UT1"},
            57753.999991995,
        ),  # UT1 - UTC = -0.408 s before the leap second
    ],
)
def test_values_known_from_elsewhere(keys: dict[str, object], mjd: float) -> None:
    assert exposure_start(header(**keys)).mjd == pytest.approx(mjd, abs=1.2e-8)


@pytest.mark.parametrize(
    ("keys", "start"),
    [
        ({"DATE__OBS": "2026-03-15T00:00:00", "UT": "23:59:59.7"}, "2026-03-15T00:00:00"),  # rounded, no other time
        ({"DATE__OBS": "2026-03-15T00:00:00", "UT": "00:00:30"}, "2026-03-15T00:00:00"),
        ({"DATE__OBS": "2026-03-15T00:00:00", "UT": "unknown"}, "2026-03-15T00:00:00"),
        ({"DATE__OBS": "2026-03-14", "UT": "23:30:00", "MJD__OBS": 61113.0}, "2026-03-14T23:30:00"),
        ({"DATE__OBS": "2026-03-14", "UT": "01:30:00", "MJD__OBS": 61113.9}, "2026-03-14T01:30:00"),
        ({"DATE__OBS": "14-Mar-95", "UT": "21:30:00"}, "1995-03-14T21:30:00"),
        ({"DATE__OBS": "2025-03-14 12:30:00 AM"}, "2025-03-14T00:30:00"),
    ],
)
def test_what_other_keywords_say(keys: dict[str, object], start: str) -> None:
    assert exposure_start(header(**keys)).utc == datetime.fromisoformat(start + "+00:00")


def test_a_comment_may_call_a_time_local() -> None:
    cards = fits.Header([("DATE-OBS", "2026-03-14T22:30:05.5", "local time"), ("MJD-OBS", 61113.89589699074)])
    assert abs(exposure_start(cards).mjd - 61113.89589699074) < 1e-9
    del cards["MJD-OBS"]
    with pytest.raises(DateError, match="local time by its comment"):
        exposure_start(cards)
    cards.comments["DATE-OBS"] = "UTC, local time is an hour more"
    assert exposure_start(cards).utc.hour == 22


def test_leap_seconds_keep_the_order() -> None:
    texts = ("2016-12-31T23:59:59.9", "2016-12-31T23:59:60", "2016-12-31T23:59:60.9", "2017-01-01T00:00:00")
    starts = [exposure_start({"DATE-OBS": text}) for text in texts]
    assert [start.mjd for start in starts] == sorted({start.mjd for start in starts})
    assert [start.utc for start in starts] == sorted(start.utc for start in starts)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "none of DATE-OBS, DATE_OBS, DATE-BEG, UTDATE, … has a value"),
        ({"DATE__OBS": " "}, "none of DATE-OBS, "),
        ({"DATE__OBS": "yesterday"}, "DATE-OBS is 'yesterday', expected a date such as 2026-03-14T21:30:00"),
        ({"DATE__OBS": "2026-02-30T00:00:00"}, "which is no day of the calendar"),
        ({"DATE__OBS": "2026-03-14T25:00:00"}, "which is no time of day"),
        ({"DATE__OBS": "2026-03-14T21:30:61"}, "which is no time of day"),
        ({"DATE__OBS": "2026-03-14"}, "DATE-OBS is '2026-03-14', without a time of day"),
        ({"DATE__OBS": "14/03/26", "ZEITUT": "21:30:00"}, r"without a time of day, .* \(found ZEITUT '21:30:00'\)"),
        ({"DATE__OBS": "03/04/2026 21:30:00"}, "which may mean dd/mm/yyyy or mm/dd/yyyy"),
        ({"DATE__OBS": "26-03-14T21:30:00"}, "whose year is not plain"),
        ({"DATE__OBS": "03/14/98", "UT": "21:30:00"}, "which is no day of the calendar"),
        ({"DATE__OBS": "14-Mar-26", "UT": "21:30:00"}, "expected a date such as"),
        ({"DATE__OBS": "2026-03-14 21:30:00 PM"}, "which is no time of day"),
        ({"DATE__OBS": "2026-367T21:30:00"}, "which is no day of the calendar"),
        ({"DATE__OBS": "2026-03-14T21:30:00 CET"}, "whose zone CET is not known"),
        ({"DATE__OBS": "2026-03-14T21:30:00", "TIMESYS": "LOCAL"}, "TIMESYS is 'LOCAL'"),
        ({"DATE__OBS": "2026-03-14", "LT": "22:30:00"}, "LT is local time, which is not used"),
        ({"DATE__OBS": "1970-01-01T00:12:34"}, "the date of a clock that was not set"),
        ({"MJD__OBS": 0.0}, "the date of a clock that was not set"),
        ({"DATE__OBS": "0001-01-01T00:00:00+14:00"}, "out of all bounds"),
        ({"DATE__OBS": "9999-12-31T23:59:60"}, "out of all bounds"),
        ({"DATE__OBS": f"{datetime.now(UTC).year + 2}-01-01T00:00:00"}, "which is in the future"),
        ({"DATE__OBS": "2026-03-14", "UT": 21.5}, "UT is 21.5, a number"),
        ({"MJD__OBS": 2461100.75}, "expected a modified Julian date"),
        ({"JD": 61100.25}, "expected a Julian date"),
        ({"MJD__OBS": 61100}, "a whole day without a time"),
        ({"MJD__OBS": True}, "expected a date"),
        ({"MJD__OBS": 10**400}, "out of all bounds"),
        ({"DATE__AVG": "2026-03-14T21:30:00"}, "the middle of the exposure, whose length is not under EXPTIME"),
    ],
)
def test_what_is_no_start_is_explained(keys: dict[str, object], words: str) -> None:
    with pytest.raises(DateError, match=words):
        exposure_start(header(**keys))


def test_the_unit_of_a_number_is_in_the_comment() -> None:
    cards = fits.Header([("DATE-OBS", "2026-03-14"), ("UTC", 77405.5, "[s] 21:30:05.500")])
    assert exposure_start(cards).utc.isoformat() == EVENING + "+00:00"
    cards["UTC"] = (21.5, "[h] start")
    assert exposure_start(cards).utc.isoformat() == "2026-03-14T21:30:00+00:00"


def test_keywords_of_an_observatory() -> None:
    assert exposure_start(header(DAY="2026-03-14", CLOCK="21:30:05.5"), "DAY", "CLOCK").utc.microsecond == 500000


@settings(max_examples=300, deadline=None)
@given(
    moment=MOMENTS,
    day=st.sampled_from(DAYS),
    joint=st.sampled_from(JOINTS),
    clock=st.sampled_from(CLOCKS),
    zone=st.sampled_from(ZONES),
    apart=st.booleans(),
)
def test_whatever_the_form_it_is_the_moment_of_astropy(
    moment: datetime, day: str, joint: str, clock: str, zone: str, apart: bool
) -> None:
    date, time = day.format(moment), clock.format(moment, f"{moment.second + moment.microsecond / 1e6:.6f}") + zone
    found = exposure_start({"DATE-OBS": date, "UT": time} if apart else {"DATE-OBS": f"{date}{joint}{time}"})
    with warnings.catch_warnings(action="ignore"):
        expected = Time(moment, scale="utc").mjd
    assert found.utc == moment.replace(tzinfo=UTC)
    assert found.mjd == pytest.approx(expected, abs=1e-10)


@settings(max_examples=200, deadline=None)
@given(
    moment=MOMENTS,
    scale=st.sampled_from(["tai", "tt", "tdb", "tcg"]),
    as_number=st.booleans(),
)
def test_scales_are_those_of_astropy(moment: datetime, scale: str, as_number: bool) -> None:
    with warnings.catch_warnings(action="ignore"):
        time = Time(moment, scale=scale)
        expected = time.utc.mjd
    keys = {"MJD-OBS": float(time.mjd)} if as_number else {"DATE-OBS": moment.isoformat(timespec="microseconds")}
    assert exposure_start({**keys, "TIMESYS": scale.upper()}).mjd == pytest.approx(expected, abs=2e-10)


@settings(max_examples=300, deadline=None)
@given(value=st.one_of(st.text(), st.text("0123456789-/:. TZ+h", max_size=25), st.floats(), st.integers()))
def test_anything_is_a_date_or_explained(value: object) -> None:
    for key in ("DATE-OBS", "MJD-OBS", "JD"):
        try:
            assert exposure_start({key: value, "UT": "01:02:03"}).utc.tzinfo is UTC
        except DateError as err:
            assert str(err)

"""The day on which an observation becomes public, by two ways that must agree."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.core.release import NEVER, Programme, Release, add_months, released_before

TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - as hypothesis wants bounds


@pytest.mark.parametrize(
    ("day", "months", "later"),
    [
        (date(2026, 3, 14), 12, date(2027, 3, 14)),
        (date(2024, 2, 29), 12, date(2025, 2, 28)),
        (date(2024, 2, 29), 48, date(2028, 2, 29)),
        (date(2026, 1, 31), 1, date(2026, 2, 28)),
        (date(2026, 12, 1), 0, date(2026, 12, 1)),
        (date(2026, 1, 15), -1, date(2025, 12, 15)),
    ],
)
def test_months_are_those_of_the_calendar(day: date, months: int, later: date) -> None:
    assert add_months(day, months) == later


@given(observed=TIMES, months=st.integers(0, 240), shift=st.integers(-40, 40))
def test_the_query_and_the_day_agree(observed: datetime, months: int, shift: int) -> None:
    day = Release(months).day("3", observed)
    now = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=shift)
    for moment in (now, now - timedelta(seconds=1)):
        assert (observed < released_before(moment, months)) == (moment.date() >= day)


def test_a_programme_of_its_own_period() -> None:
    rule = Release(12, {"3": 24, "4": NEVER})
    when = datetime(2026, 3, 14, 23, 59, tzinfo=UTC)
    days = [rule.day(program, when) for program in ("3", "4", "5", "")]
    assert days == [date(2028, 3, 14), None, date(2027, 3, 14), None]
    assert Release().day("3", when) is None


@pytest.mark.parametrize("value", ["soon", -1, 1.5, True, [], 10**6])
def test_a_damaged_period_keeps_data_private(value: object) -> None:
    assert Programme.from_document("3", {"period": value}).period == NEVER


def test_a_programme_without_an_entry_is_empty() -> None:
    assert Programme.from_document("3", None) == Programme("3")
    assert Programme.from_document("3", {"title": 7, "pi": "Doe, J."}) == Programme("3", pi="Doe, J.")

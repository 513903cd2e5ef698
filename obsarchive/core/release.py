"""When observations become public: the proprietary period of their programme, in calendar months, has passed."""

import calendar
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

from obsarchive.core.values import as_mapping

NEVER: Literal["never"] = "never"
Period = int | Literal["never"]
"""Proprietary period [calendar months]; ``"never"``: observations stay private."""
MOST_MONTHS = 1200


@dataclass(frozen=True)
class Programme:
    """A programme as its page and its citations describe it.

    Parameters
    ----------
    id : str
        Its identifier.
    title, pi : str
        Title and principal investigator, in the words of people.
    period : int, "never" or None
        Its proprietary period; None: that of the archive.
    doi : str
        Identifier of its data.
    licence, acknowledgement : str
        Licence of its public data, and what publications should say; empty: those of the archive.
    """

    id: str
    title: str = ""
    pi: str = ""
    period: Period | None = None
    doi: str = ""
    licence: str = ""
    acknowledgement: str = ""

    @property
    def doi_url(self) -> str:
        """Address behind the DOI; empty without one."""
        return f"https://doi.org/{self.doi}" if self.doi else ""

    @classmethod
    def from_document(cls, program: str, document: Mapping[str, Any] | None) -> "Programme":
        """Read the entry of a programme; fields that are missing or of the wrong type are empty.

        Parameters
        ----------
        program : str
            Identifier of the programme.
        document : mapping or None
            Its entry in the database, if there is one.

        Returns
        -------
        Programme
        """
        found = as_mapping(document)
        texts = {key: found.get(key) for key in ("title", "pi", "doi", "licence", "acknowledgement")}
        kept = {key: value for key, value in texts.items() if isinstance(value, str)}
        return cls(program, period=_period(found.get("period")), **kept)


def _period(value: Any) -> Period | None:
    """Read a period; what cannot be understood keeps data private."""
    if value is None:
        return None
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_MONTHS
    return value if is_number else NEVER


@dataclass(frozen=True)
class Release:
    """The rule by which observations of an archive become public.

    Parameters
    ----------
    default : int or "never"
        Proprietary period of programmes without one of their own.
    periods : mapping
        Those of programmes that have one, by programme.
    """

    default: Period = NEVER
    periods: Mapping[str, Period] = field(default_factory=dict)

    def period(self, program: str) -> Period:
        """Return the proprietary period of a programme."""
        return self.periods.get(program, self.default) if program else NEVER

    def day(self, program: str, observed: datetime) -> date | None:
        """Return the day at whose beginning, 00:00 UTC, an observation becomes public.

        Parameters
        ----------
        program : str
            Its programme.
        observed : datetime
            Its start.

        Returns
        -------
        date or None
            None if it stays private.
        """
        period = self.period(program)
        return None if period == NEVER else add_months(observed.astimezone(UTC).date(), period)


def add_months(day: date, months: int) -> date:
    """Return the same day some months later; the last day of the month where that month is shorter.

    Parameters
    ----------
    day : date
        The day.
    months : int
        Number of months.

    Returns
    -------
    date
    """
    count = 12 * day.year + day.month - 1 + months
    year, month = min(count // 12, date.max.year), count % 12 + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def released_before(now: datetime, months: int) -> datetime:
    """Return the time before which an observation must have started to be public.

    Parameters
    ----------
    now : datetime
        The present time.
    months : int
        Proprietary period.

    Returns
    -------
    datetime
        The beginning of a day, UTC.
    """
    today = now.astimezone(UTC).date()
    earliest = add_months(today, -months) if 12 * today.year - months > 12 else date(1, 1, 1)
    last = earliest + timedelta(days=4)  # days at the end of longer months end on the same day
    while last > date.min and add_months(last, months) > today:
        last -= timedelta(days=1)
    return datetime.combine(last + timedelta(days=1), time(), UTC)

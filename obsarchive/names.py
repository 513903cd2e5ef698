"""Names of observations and nights, parsed and printed (round trip).

An observation is named ``programID_objectName_camera_filter_mark_yyyymmdd_HHMMSS.SSSSSS``. The object name may
hold ``_ + - .`` and the programme a dot, so a name is read from its right end. Only this alphabet is accepted:
whatever passes :meth:`ObservationName.parse` is safe as a folder name, a URL segment and a database key.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from typing import Self

MAX_LENGTH = 200
"""Longest accepted name: product suffixes must still fit into the 255 bytes of a file name."""

SHORTEST_NAME = len("1_a_b_c_d_20160925_030000.000000")
"""Length of the shortest name of an observation."""
_WORD = r"[A-Za-z0-9+.-]+"
_STAMP = r"\d{8}_\d{6}\.\d{6}"
_OBSERVATION = re.compile(
    rf"(?P<program>[A-Za-z0-9][A-Za-z0-9.]*)_(?P<target>[A-Za-z0-9_+.-]+)_(?P<camera>{_WORD})"
    rf"_(?P<filter>{_WORD})_(?P<marker>{_WORD})_(?P<date>{_STAMP})",
    re.ASCII,
)
_WHOLE_STAMP = re.compile(_STAMP, re.ASCII)
_STAMP_WITHIN = re.compile(rf"_{_STAMP}", re.ASCII)
_WITHIN_TEXT = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_+.-]*?_{_STAMP}", re.ASCII)
"""What may be the name of an observation, up to its time."""
_NIGHT = re.compile(r"\d{8}", re.ASCII)


def parse_stamp(text: str) -> datetime:
    """Read ``yyyymmdd_HHMMSS.SSSSSS`` as an aware UTC time; ValueError when it is no time."""
    if _WHOLE_STAMP.fullmatch(text) is None:
        raise ValueError(f"not yyyymmdd_HHMMSS.SSSSSS: {text[:MAX_LENGTH]!r}")
    # of each of very many files: strptime takes ten times as long
    day, clock = (int(text[:4]), int(text[4:6]), int(text[6:8])), (int(text[9:11]), int(text[11:13]), int(text[13:15]))
    return datetime(*day, *clock, int(text[16:]), tzinfo=UTC)


def is_night(text: str) -> bool:
    """Whether `text` is a calendar date written ``yyyymmdd``."""
    if _NIGHT.fullmatch(text) is None:
        return False
    try:
        datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return False
    return True


def is_observation(text: str) -> bool:
    """Whether `text` is the name of an observation."""
    try:
        ObservationName.parse(text)
    except ValueError:
        return False
    return True


def observations_in(text: str) -> list[str]:
    """Return the names of observations that a text holds, as those of files and paths do."""
    if len(text) < SHORTEST_NAME or _STAMP_WITHIN.search(text) is None:  # nearly all texts
        return []
    return [found for found in _WITHIN_TEXT.findall(text) if _OBSERVATION.fullmatch(found)]


def replace_observations(text: str, replacement: Callable[[str], str]) -> str:
    """Return a text in which each name of an observation is replaced.

    Parameters
    ----------
    text : str
        The text.
    replacement : callable
        Returns what stands for a name.

    Returns
    -------
    str
    """
    return _WITHIN_TEXT.sub(lambda found: replacement(found[0]) if _OBSERVATION.fullmatch(found[0]) else found[0], text)


def target_of(observation: str) -> str:
    """Return the name of the star that was observed; the observation itself when its name does not say."""
    return ObservationName.parse(observation).target if is_observation(observation) else observation


@dataclass(frozen=True)
class ObservationName:
    """An observation's name, taken apart."""

    program: str
    target: str
    camera: str
    filter: str
    marker: str
    date_utc: datetime

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take `text` apart.

        Raises
        ------
        ValueError
            When `text` is not an observation name.
        """
        match = _OBSERVATION.fullmatch(text)
        if match is None or len(text) > MAX_LENGTH:
            raise ValueError(f"not an observation name: {text[:MAX_LENGTH]!r}")
        parts = match.groupdict()
        return cls(date_utc=parse_stamp(parts.pop("date")), **parts)

    def __str__(self) -> str:
        # %Y does not fill up years before 1000 with zeros everywhere.
        stamp = f"{self.date_utc.year:04d}{self.date_utc:%m%d_%H%M%S.%f}"
        return f"{self.program}_{self.target}_{self.camera}_{self.filter}_{self.marker}_{stamp}"


def program_of(observation: str) -> str:
    """Return the programme that the name of an observation holds.

    Raises
    ------
    ValueError
        It is no name of an observation.
    """
    return ObservationName.parse(observation).program


def days_apart(one: str, other: str) -> int:
    """Return the number of days between two nights."""
    return abs(_day(one) - _day(other))


@cache
def _day(night: str) -> int:
    return date.fromisoformat(night).toordinal()

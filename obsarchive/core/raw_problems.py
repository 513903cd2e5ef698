"""Raw files that are not understood, put together by their reasons."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Self

from obsarchive.core.values import as_time

NAMES_SHOWN = 3
"""Names of files that are listed for a reason."""
_VALUES = re.compile(r"b'[^']*'|b\"[^\"]*\"|\d+(?:\.\d+)?")


@dataclass(frozen=True)
class RawProblem:
    """A FITS file that is not understood, and why.

    Parameters
    ----------
    name, folder : str
        The file, and the raw folder of its night.
    reason : str
        What was found and what to do.
    changed : datetime, optional
        Time of change of the file.
    """

    name: str
    folder: str
    reason: str
    changed: datetime | None = None

    @property
    def kind(self) -> str:
        """The reason without numbers and bytes, which differ from file to file."""
        return _VALUES.sub("…", self.reason)

    @classmethod
    def from_document(cls, found: Mapping[str, Any]) -> Self:
        """Read an entry of the document of a night."""
        name, folder, reason = (str(found.get(key, "")) for key in ("name", "folder", "reason"))
        return cls(name, folder, reason, as_time(found.get("changed")))


@dataclass(frozen=True)
class ProblemGroup:
    """Files that are not understood for the same kind of reason; the reason given is that of the first one."""

    problems: tuple[RawProblem, ...]

    @property
    def kind(self) -> str:
        """The reason without numbers and bytes."""
        return self.problems[0].kind

    @property
    def reason(self) -> str:
        """Reason of the first file."""
        return self.problems[0].reason

    @property
    def names(self) -> str:
        """The first names, and dots if there are more."""
        return listed(problem.name for problem in self.problems)

    def __str__(self) -> str:
        return f"{len(self.problems)} raw file(s) not understood ({self.names}): {self.reason}"


def listed(names: Iterable[str]) -> str:
    """Return the first names, and dots if there are more."""
    first = list(islice(names, NAMES_SHOWN + 1))
    return ", ".join([*first[:NAMES_SHOWN], "…"] if len(first) > NAMES_SHOWN else first)


def by_kind(problems: Iterable[RawProblem]) -> list[ProblemGroup]:
    """Put problems together whose reasons differ in numbers only, in the order of their first files."""
    groups: dict[str, list[RawProblem]] = {}
    for problem in problems:
        groups.setdefault(problem.kind, []).append(problem)
    return [ProblemGroup(tuple(group)) for group in groups.values()]

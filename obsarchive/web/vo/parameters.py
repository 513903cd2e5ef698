"""Parameters of the protocols: names in any case, several values, intervals with infinite ends."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from flask import request

from obsarchive.science.astrometry.sky_regions import Range, Region, parse_numbers, region_of
from obsarchive.web.vo.adql_parser import QueryError
from obsarchive.web.vo.query_runner import DEFAULT_ROWS

COMMON = frozenset({"REQUEST", "VERSION", "RUNID", "RESPONSEFORMAT", "MAXREC"})
MOST_VALUES = 500
"""Values of a parameter."""


@dataclass(frozen=True)
class Parameters:
    """Parameters of a request, by their names in capitals."""

    values: Mapping[str, tuple[str, ...]]

    @classmethod
    def of_request(cls) -> "Parameters":
        """Return those of the address and of the form."""
        found: dict[str, tuple[str, ...]] = {}
        for sent in (request.args, request.form):
            for name, text in sent.items(multi=True):
                if text.strip():
                    found[name.upper()] = (*found.get(name.upper(), ()), text.strip())
        too_many = next((name for name, values in found.items() if len(values) > MOST_VALUES), None)
        if too_many:
            raise QueryError(f"{too_many[:40]}: {MOST_VALUES} values at most")
        return cls(found)

    def all(self, name: str) -> tuple[str, ...]:
        """Return all values of a parameter."""
        return self.values.get(name, ())

    def one(self, name: str, default: str = "") -> str:
        """Return the value of a parameter; QueryError if there are several."""
        values = self.all(name)
        if len(values) > 1:
            raise QueryError(f"{name}: one value is needed, not {len(values)}")
        return values[0] if values else default

    def number(self, name: str) -> float:
        """Return a finite number; QueryError if it is none."""
        try:
            [found] = parse_numbers([self.one(name)])
        except ValueError as err:
            raise QueryError(f"{name}: a number is needed") from err
        return found

    def most_rows(self) -> int:
        """Return how many rows the client wants at most."""
        text = self.one("MAXREC", str(DEFAULT_ROWS))
        if not text.isascii() or not text.isdigit():
            raise QueryError("MAXREC: a whole number is needed")
        return min(int(text[:9]), 10**9)

    def response_format(self) -> str:
        """Return the format of the answer; empty: VOTable."""
        return self.one("RESPONSEFORMAT") or self.one("FORMAT")

    def unknown(self, known: frozenset[str]) -> dict[str, str]:
        """Return the parameters that a service does not know, as the answer names them."""
        names = sorted(name[:60] for name in self.values.keys() - known - COMMON)
        return {f"IGNORED_PARAMETER_{number}": name for number, name in enumerate(names, 1)}


def read_interval(name: str, text: str) -> tuple[float, float]:
    """Return the ends of an interval.

    Parameters
    ----------
    name : str
        Name of the parameter.
    text : str
        ``low high``, either may be infinite, or one number.

    Returns
    -------
    (float, float)

    Raises
    ------
    QueryError
        It is none.
    """
    try:
        ends = [float(word) for word in text.split()]
    except ValueError:
        ends = []
    if (
        len(ends) not in (1, 2)
        or any(map(math.isnan, ends))
        or ends[0] > ends[-1]
        or (len(ends) == 1 and math.isinf(ends[0]))
    ):
        raise QueryError(f"{name}: a number, or two that rise, are needed, not {text[:30]!r}")
    return ends[0], ends[-1]


def read_region_parameter(name: str, text: str, shape: str = "") -> Region:
    """Return a region.

    Parameters
    ----------
    name : str
        Name of the parameter.
    text : str
        Shape and numbers.
    shape : str
        The shape, where the text holds numbers alone.

    Returns
    -------
    Circle, Polygon or Range

    Raises
    ------
    QueryError
        It is none.
    """
    kind, *words = [shape, *text.split()] if shape else text.split() or [""]
    try:
        if kind.upper() == "RANGE":
            return _range(words)
        if kind.upper() not in ("CIRCLE", "POLYGON"):
            raise ValueError("CIRCLE ra dec radius, RANGE ra ra dec dec, or POLYGON ra dec ra dec ra dec")  # noqa: TRY301
        return region_of(kind, parse_numbers(words))
    except ValueError as err:
        raise QueryError(f"{name}: {text[:60]!r} is no region: {err}") from err


def _range(words: list[str]) -> Region:
    numbers = [float(word) for word in words]
    if len(numbers) != 4 or any(map(math.isnan, numbers)):
        raise ValueError("RANGE ra ra dec dec")
    first, last = max(numbers[0], -360.0), min(numbers[1], 720.0)
    if math.isinf(numbers[0]) or math.isinf(numbers[1]):
        first, last = max(numbers[0], 0.0), min(numbers[1], 360.0)
    found = region_of("RANGE", [first, last, *numbers[2:]])
    if isinstance(found, Range) and last < first:
        raise ValueError("a range rises")
    return found

"""Functions of ADQL: arithmetic, texts, and regions on the sky. A missing value makes the result missing."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from obsarchive.science.astrometry.sky_regions import (
    Circle,
    Polygon,
    Region,
    contains,
    intersects,
    parse_numbers,
    position_of,
    region_of,
    separation_deg,
    vector_of,
)
from obsarchive.web.vo.adql_parser import QueryError

ValueKind: TypeAlias = Literal["number", "text", "region", "condition", "any"]


@dataclass(frozen=True)
class Function:
    """A function: how many arguments it takes, of what kind, and what it returns."""

    compute: Callable[..., Any]
    least: int
    most: int
    takes: ValueKind = "number"
    gives: ValueKind = "number"


@lru_cache(maxsize=4096)
def read_region(text: str) -> Region:
    """Return a region written as text, ``CIRCLE ICRS 10 20 0.5``; QueryError if it is none."""
    shape, *words = text.replace(",", " ").split() or [""]
    if words and not words[0].lstrip("+-.")[:1].isdigit():
        words = words[1:]  # the frame; all positions are ICRS
    try:
        return region_of(shape, parse_numbers(words))
    except ValueError as err:
        raise QueryError(f"{text[:60]!r} is no region: {err}") from err


def write_region(region: Region) -> str:
    """Return a region as text."""
    match region:
        case Circle(radius_deg=0):
            return f"POSITION ICRS {region.ra_deg!r} {region.dec_deg!r}"
        case Circle():
            return f"CIRCLE ICRS {region.ra_deg!r} {region.dec_deg!r} {region.radius_deg!r}"
        case Polygon():
            return "POLYGON ICRS " + " ".join(f"{value!r}" for corner in region.corners_deg for value in corner)
        case _:
            return f"RANGE ICRS {' '.join(map(repr, (*region.ra_deg, *region.dec_deg)))}"


def _as_region(value: Region | str) -> Region:
    return read_region(value) if isinstance(value, str) else value


def _made(shape: str) -> Callable[..., Region]:
    def make(*values: Any) -> Region:
        if values and isinstance(values[0], Circle):  # CIRCLE(POINT(…), 1), POLYGON(POINT(…), …)
            parts = [(v.ra_deg, v.dec_deg) if isinstance(v, Circle) else (v,) for v in values]
            values = tuple(number for part in parts for number in part)
        try:
            return region_of(shape, values)
        except (ValueError, TypeError) as err:
            raise QueryError(f"{shape}: {err}") from err

    return make


def _contains(inner: Region | str, outer: Region | str) -> int:
    one, other = _as_region(inner), _as_region(outer)
    if isinstance(one, Circle) and one.radius_deg == 0:
        return int(other.holds(one.centre))
    return int(contains(other, one))


def _intersects(one: Region | str, other: Region | str) -> int:
    return int(intersects(_as_region(one), _as_region(other)))


def _distance(*values: Any) -> float:
    if len(values) == 4:
        return separation_deg(vector_of(values[0], values[1]), vector_of(values[2], values[3]))
    if len(values) != 2:
        raise QueryError("DISTANCE takes two positions, or four numbers")
    one, other = map(_as_region, values)
    return separation_deg(one.bounding.centre, other.bounding.centre)


def _round(value: float, digits: float = 0) -> float:
    return round(value, int(digits))


def _coordinate(number: int) -> Callable[[Region | str], float]:
    return lambda region: position_of(_as_region(region).bounding.centre)[number]


def _mod(value: float, by: float) -> float:
    return math.fmod(value, by)


FUNCTIONS: dict[str, Function] = {
    **{name: Function(getattr(math, name.lower()), 1, 1) for name in ("EXP", "SIN", "COS", "TAN", "ASIN", "ACOS")},
    **{name: Function(getattr(math, name.lower()), 1, 1) for name in ("ATAN", "SQRT", "LOG10", "DEGREES", "RADIANS")},
    "ABS": Function(abs, 1, 1),
    "ATAN2": Function(math.atan2, 2, 2),
    "CEILING": Function(math.ceil, 1, 1),
    "FLOOR": Function(math.floor, 1, 1),
    "LOG": Function(math.log, 1, 1),
    "MOD": Function(_mod, 2, 2),
    "PI": Function(lambda: math.pi, 0, 0),
    "POWER": Function(math.pow, 2, 2),
    "ROUND": Function(_round, 1, 2),
    "LOWER": Function(str.lower, 1, 1, "text", "text"),
    "UPPER": Function(str.upper, 1, 1, "text", "text"),
    "POINT": Function(_made("POINT"), 2, 2, "number", "region"),
    "CIRCLE": Function(_made("CIRCLE"), 2, 3, "any", "region"),
    "POLYGON": Function(_made("POLYGON"), 3, 400, "any", "region"),
    "CONTAINS": Function(_contains, 2, 2, "region"),
    "INTERSECTS": Function(_intersects, 2, 2, "region"),
    "DISTANCE": Function(_distance, 2, 4, "any"),
    "COORD1": Function(_coordinate(0), 1, 1, "region"),
    "COORD2": Function(_coordinate(1), 1, 1, "region"),
}
WITH_FRAME = frozenset({"POINT", "CIRCLE", "POLYGON"})
"""Functions whose first argument may be the name of a frame, as ADQL 2.0 wants it."""
GEOMETRY = WITH_FRAME | {"CONTAINS", "INTERSECTS", "DISTANCE", "COORD1", "COORD2"}
"""Functions of regions on the sky."""

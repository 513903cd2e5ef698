"""Regions on the sky: circles, polygons and ranges of coordinates; which positions lie in them, and which overlap.

The edges of polygons are great circles. Positions are unit vectors, plain tuples, since regions have few corners.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

Vector: TypeAlias = tuple[float, float, float]

_STEPS = 32
"""Parts of the edges of a region on which overlap with a range of coordinates is looked for."""
_TOLERANCE = 1e-15


def vector_of(ra_deg: float, dec_deg: float) -> Vector:
    """Return the unit vector of a position [deg]."""
    ra, dec = math.radians(ra_deg), math.radians(dec_deg)
    return math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)


def position_of(vector: Vector) -> tuple[float, float]:
    """Return right ascension (0 to 360) and declination [deg] of a vector of any length."""
    x, y, z = vector
    return math.degrees(math.atan2(y, x)) % 360.0, math.degrees(math.atan2(z, math.hypot(x, y)))


def separation_deg(one: Vector, other: Vector) -> float:
    """Return the angle between two unit vectors [deg]."""
    return math.degrees(math.atan2(_length(_cross(one, other)), _dot(one, other)))


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _length(a: Vector) -> float:
    return math.sqrt(_dot(a, a))


@dataclass(frozen=True)
class Circle:
    """A circle on the sky.

    Parameters
    ----------
    ra_deg, dec_deg, radius_deg : float
        Its centre and radius [deg]; a radius of 0 is a position.
    """

    ra_deg: float
    dec_deg: float
    radius_deg: float = 0.0

    @cached_property
    def centre(self) -> Vector:
        """Its centre."""
        return vector_of(self.ra_deg, self.dec_deg)

    @property
    def bounding(self) -> "Circle":
        """A circle that holds it: itself."""
        return self

    def holds(self, position: Vector) -> bool:
        """Return whether a position lies in it."""
        return separation_deg(self.centre, position) <= self.radius_deg + 1e-12

    def outline(self) -> list[Vector]:
        """Return positions on its edge, and its centre."""
        if self.radius_deg == 0:
            return [self.centre]
        pole = (0.0, 0.0, 1.0) if abs(self.dec_deg) < 80 else (1.0, 0.0, 0.0)
        east = _cross(pole, self.centre)
        east = _scaled(east, 1 / _length(east))
        north, radius = _cross(self.centre, east), math.radians(self.radius_deg)
        turns = (2 * math.pi * step / (4 * _STEPS) for step in range(4 * _STEPS))
        middle = _scaled(self.centre, math.cos(radius))
        around = (
            _sum(_scaled(east, math.sin(radius) * math.cos(turn)), _scaled(north, math.sin(radius) * math.sin(turn)))
            for turn in turns
        )
        return [self.centre, *(_sum(middle, offset) for offset in around)]


@dataclass(frozen=True)
class Polygon:
    """A polygon on the sky, smaller than a hemisphere.

    Parameters
    ----------
    corners_deg : tuple of (float, float)
        Right ascension and declination of its corners [deg], in either direction.

    Raises
    ------
    ValueError
        There are fewer than three corners, or no hemisphere holds them.
    """

    corners_deg: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if len(self.corners_deg) < 3:
            raise ValueError("a polygon has three corners or more")
        if _length(self._sum_of_corners) < 1e-9 or min(_dot(self.middle, corner) for corner in self.corners) < 1e-9:
            raise ValueError("a polygon must be smaller than a hemisphere")

    @cached_property
    def corners(self) -> tuple[Vector, ...]:
        """Its corners."""
        return tuple(vector_of(*corner) for corner in self.corners_deg)

    @cached_property
    def _sum_of_corners(self) -> Vector:
        total = (0.0, 0.0, 0.0)
        for corner in self.corners:
            total = _sum(total, corner)
        return total

    @cached_property
    def middle(self) -> Vector:
        """A position between its corners."""
        return _scaled(self._sum_of_corners, 1 / _length(self._sum_of_corners))

    @cached_property
    def bounding(self) -> Circle:
        """A circle that holds it."""
        radius = max(separation_deg(self.middle, corner) for corner in self.corners)
        return Circle(*position_of(self.middle), radius)

    @cached_property
    def edges(self) -> tuple[tuple[Vector, Vector], ...]:
        """Its edges, from corner to corner."""
        return tuple(zip(self.corners, (*self.corners[1:], self.corners[0]), strict=True))

    @cached_property
    def _plane(self) -> tuple[Vector, Vector]:
        pole = (0.0, 0.0, 1.0) if abs(self.middle[2]) < 0.9 else (1.0, 0.0, 0.0)
        east = _cross(pole, self.middle)
        east = _scaled(east, 1 / _length(east))
        return east, _cross(self.middle, east)

    def _projected(self, position: Vector) -> tuple[float, float]:
        """Gnomonic projection, in which great circles are straight lines."""
        east, north = self._plane
        depth = _dot(position, self.middle)
        return _dot(position, east) / depth, _dot(position, north) / depth

    @cached_property
    def _flat(self) -> list[tuple[float, float]]:
        return [self._projected(corner) for corner in self.corners]

    def holds(self, position: Vector) -> bool:
        """Return whether a position lies in it."""
        if _dot(position, self.middle) <= 0:
            return False
        x, y = self._projected(position)
        inside = False
        for (x1, y1), (x2, y2) in zip(self._flat, (*self._flat[1:], self._flat[0]), strict=True):
            if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
                inside = not inside
        return inside

    def outline(self) -> list[Vector]:
        """Return positions on its edges, and its middle."""
        points = [self.middle]
        for start, end in self.edges:
            for step in range(_STEPS):
                part = step / _STEPS
                between = _sum(_scaled(start, 1 - part), _scaled(end, part))
                points.append(_scaled(between, 1 / _length(between)))
        return points


@dataclass(frozen=True)
class Range:
    """A range of right ascension and declination; one that begins east of its end goes across 0 h.

    Parameters
    ----------
    ra_deg, dec_deg : tuple of float
        First and last value [deg].
    """

    ra_deg: tuple[float, float]
    dec_deg: tuple[float, float]

    @property
    def width_deg(self) -> float:
        """Width in right ascension [deg], 0 to 360."""
        first, last = self.ra_deg
        return min(last - first, 360.0) if last >= first else (last - first) % 360.0

    @cached_property
    def bounding(self) -> Circle:
        """A circle that holds it; the whole sky if it is wide."""
        middle = self.ra_deg[0] + self.width_deg / 2, sum(self.dec_deg) / 2
        if self.width_deg > 90:
            return Circle(*middle, 180.0)
        centre = vector_of(*middle)
        return Circle(*middle, max(separation_deg(centre, point) for point in self.outline()))

    def holds(self, position: Vector) -> bool:
        """Return whether a position lies in it."""
        ra, dec = position_of(position)
        low, high = self.dec_deg
        return low <= dec <= high and (self.width_deg >= 360.0 or (ra - self.ra_deg[0]) % 360.0 <= self.width_deg)

    def outline(self) -> list[Vector]:
        """Return positions on its edges, and its middle."""
        (first, _), (low, high), width = self.ra_deg, self.dec_deg, self.width_deg
        parts = [step / _STEPS for step in range(_STEPS + 1)]
        around = [(first + part * width, dec) for part in parts for dec in (low, high)]
        sides = [(ra, low + part * (high - low)) for part in parts for ra in (first, first + width)]
        return [vector_of(*place) for place in [(first + width / 2, (low + high) / 2), *around, *sides]]


Region: TypeAlias = Circle | Polygon | Range


def intersects(one: Region, other: Region) -> bool:
    """Return whether two regions overlap.

    Exact between circles and polygons; the edges of a range of coordinates, and of what is compared with it, are
    compared at 32 places of each.

    Parameters
    ----------
    one, other : Circle, Polygon or Range
        The regions.

    Returns
    -------
    bool
    """
    a, b = one.bounding, other.bounding
    if separation_deg(a.centre, b.centre) > a.radius_deg + b.radius_deg + 1e-9:
        return False
    match one, other:
        case Circle(), Circle():
            return True
        case (Circle() as circle, Polygon() as polygon) | (Polygon() as polygon, Circle() as circle):
            return polygon.holds(circle.centre) or any(
                _distance_deg(circle.centre, edge) <= circle.radius_deg for edge in polygon.edges
            )
        case Polygon(), Polygon():
            return _overlap(one, other)
        case _:
            return any(map(one.holds, other.outline())) or any(map(other.holds, one.outline()))


def contains(outer: Region, inner: Region) -> bool:
    """Return whether one region lies in another, judged by the edge of the inner one.

    Parameters
    ----------
    outer, inner : Circle, Polygon or Range
        The regions.

    Returns
    -------
    bool
    """
    return all(map(outer.holds, inner.outline()))


def _overlap(one: Polygon, other: Polygon) -> bool:
    if any(map(one.holds, other.corners)) or any(map(other.holds, one.corners)):
        return True
    return any(_crosses(edge, another) for edge in one.edges for another in other.edges)


def _distance_deg(position: Vector, edge: tuple[Vector, Vector]) -> float:
    """Angle between a position and a part of a great circle [deg]."""
    start, end = edge
    normal = _cross(start, end)
    length = _length(normal)
    if length > _TOLERANCE and _lies_between(_perpendicular_foot(position, normal, length), edge, normal):
        return math.degrees(math.asin(min(1.0, abs(_dot(position, normal)) / length)))
    return min(separation_deg(position, start), separation_deg(position, end))


def _perpendicular_foot(position: Vector, normal: Vector, length: float) -> Vector:
    return _sum(position, _scaled(normal, -_dot(position, normal) / length**2))


def _lies_between(point: Vector, edge: tuple[Vector, Vector], normal: Vector) -> bool:
    start, end = edge
    return _dot(_cross(start, point), normal) >= 0 and _dot(_cross(point, end), normal) >= 0


def _crosses(one: tuple[Vector, Vector], other: tuple[Vector, Vector]) -> bool:
    normals = _cross(*one), _cross(*other)
    line = _cross(*normals)
    if _length(line) < _TOLERANCE:
        return False
    candidates = line, _scaled(line, -1.0)
    return any(_lies_between(c, one, normals[0]) and _lies_between(c, other, normals[1]) for c in candidates)


def _scaled(a: Vector, factor: float) -> Vector:
    return a[0] * factor, a[1] * factor, a[2] * factor


def _sum(a: Vector, b: Vector) -> Vector:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def parse_numbers(words: Iterable[str]) -> list[float]:
    """Return finite numbers; ValueError if a word is none."""
    numbers = [float(word) for word in words]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a finite number is needed")
    return numbers


def region_of(shape: str, numbers: Sequence[float]) -> Region:
    """Return a region of its name and its numbers [deg].

    Parameters
    ----------
    shape : str
        ``CIRCLE`` (ra dec radius), ``RANGE`` (ra ra dec dec), ``POLYGON`` (ra dec for each corner), ``POINT`` or
        ``POSITION`` (ra dec); in any case.
    numbers : sequence of float
        The numbers.

    Returns
    -------
    Circle, Polygon or Range

    Raises
    ------
    ValueError
        It is no region on the sky.
    """
    match shape.upper(), len(numbers):
        case "CIRCLE", 3:
            _check(numbers[1:2], 0 <= numbers[2] <= 180)
            return Circle(numbers[0] % 360, *numbers[1:])
        case "POINT" | "POSITION", 2:
            _check(numbers[1:], True)
            return Circle(numbers[0] % 360, numbers[1])
        case "RANGE", 4:
            low, high = max(numbers[2], -90.0), min(numbers[3], 90.0)
            _check((low, high), low <= high)
            return Range((max(numbers[0], -360.0), min(numbers[1], 720.0)), (low, high))
        case "POLYGON", n if n >= 6 and n % 2 == 0:
            _check(numbers[1::2], True)
            corners = tuple(zip((ra % 360 for ra in numbers[::2]), numbers[1::2], strict=True))
            return Polygon(corners[:-1] if corners[0] == corners[-1] and len(corners) > 3 else corners)
        case _:
            raise ValueError(f"{shape[:20]} with {len(numbers)} numbers is no region")


def _check(declinations: Iterable[float], other: bool) -> None:
    if not other or not all(-90 <= dec <= 90 for dec in declinations):
        raise ValueError("declinations lie within -90 and 90 degrees, radii within 0 and 180, ranges rise")

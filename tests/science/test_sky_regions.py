"""Regions on the sky against plane geometry, random positions and the definitions."""

import math
import random

import pytest

from obsarchive.science.astrometry.sky_regions import (
    Circle,
    Polygon,
    Range,
    contains,
    intersects,
    region_of,
    separation_deg,
    vector_of,
)


def square(ra: float, dec: float, side: float) -> Polygon:
    half = side / 2
    width = half / math.cos(math.radians(dec))
    corners = ((ra - width, dec - half), (ra + width, dec - half), (ra + width, dec + half), (ra - width, dec + half))
    return Polygon(tuple((x % 360, y) for x, y in corners))


def test_a_square_holds_what_lies_in_it_across_0_h_too():
    for ra in (0.0, 123.4, 359.999):
        field = square(ra, 30.0, 0.01)
        assert field.holds(vector_of(ra, 30.0))
        assert field.holds(vector_of(ra + 0.0049 / math.cos(math.radians(30)), 30.0049))
        assert not field.holds(vector_of(ra + 0.0051 / math.cos(math.radians(30)), 30.0))
        assert not field.holds(vector_of(ra + 180, -30.0))


@pytest.mark.parametrize("dec", [-89.999, -45.0, 0.0, 60.0, 90.0])
def test_a_circle_touches_a_square_exactly_where_its_edge_is(dec):
    """Circles north of a small square: they overlap when their radius reaches its upper edge."""
    field, distance = Polygon(tuple((90.0 * k, 89.995) for k in range(4))) if dec == 90 else square(50, dec, 0.001), 0.1
    centre = (0.0, 89.995 - distance) if dec == 90 else (50.0, dec - 0.0005 - distance)
    if dec == -89.999:
        centre = (230.0, -90 - (dec - 0.0005 - distance + 90)) if dec - 0.0005 - distance < -90 else centre
    edge = distance
    assert intersects(Circle(*centre, edge + 1e-5), field)
    assert not intersects(Circle(*centre, edge - 1e-4), field)


def test_overlap_of_polygons_agrees_with_random_positions():
    rng = random.Random(3)
    for _ in range(300):
        place = rng.uniform(0, 360), rng.uniform(-80, 80)
        one = square(*place, 1.0)
        apart = rng.uniform(-1.6, 1.6) / math.cos(math.radians(place[1])), rng.uniform(-1.6, 1.6)
        other = square(place[0] + apart[0], place[1] + apart[1], 1.0)
        common = [
            point
            for point in (
                vector_of(place[0] + rng.uniform(-3, 3), place[1] + rng.uniform(-0.5, 0.5)) for _ in range(300)
            )
            if one.holds(point) and other.holds(point)
        ]
        assert intersects(one, other) or not common
        assert intersects(one, other) == intersects(other, one)
        centres = math.hypot(apart[0] * math.cos(math.radians(place[1])), apart[1])
        assert intersects(one, other) or centres > 0.9
        assert not intersects(one, other) or centres < 1.6


def test_squares_that_cross_without_a_corner_in_the_other():
    wide, high = (
        Polygon(((10, -0.1), (12, -0.1), (12, 0.1), (10, 0.1))),
        Polygon(((10.9, -1), (11.1, -1), (11.1, 1), (10.9, 1))),
    )
    assert intersects(wide, high)
    assert not contains(wide, high)
    assert contains(Circle(11, 0, 2), wide)
    assert not contains(Circle(11, 0, 0.5), wide)


def test_ranges_go_across_0_h_and_over_poles():
    across = Range((350, 10), (-10, 10))
    assert across.holds(vector_of(0, 0))
    assert across.holds(vector_of(355, 5))
    assert not across.holds(vector_of(180, 0))
    assert intersects(across, square(10.001, 0, 0.01))
    assert not intersects(across, square(10.1, 0, 0.01))
    assert intersects(Range((0, 360), (-90, 90)), square(77, 5, 0.01))
    assert intersects(Range((0, 360), (89, 90)), Circle(40, 88.5, 0.6))
    assert not intersects(Range((0, 360), (89, 90)), Circle(40, 88.5, 0.4))
    assert intersects(Range((100, 101), (5, 5)), Circle(100.5, 5.0, 0.01))


@pytest.mark.parametrize(
    ("shape", "numbers"),
    [
        ("CIRCLE", [0, 91, 1]),
        ("CIRCLE", [0, 0, -1]),
        ("CIRCLE", [0, 0]),
        ("POLYGON", [0, 0, 1, 1]),
        ("POLYGON", [0, 0, 180, 0, 90, 0]),
        ("RANGE", [0, 1, 2, 1]),
        ("BOX", [0, 0, 1, 1]),
    ],
)
def test_what_is_no_region(shape, numbers):
    with pytest.raises(ValueError, match=r"polygon|region|degrees"):
        region_of(shape, numbers)


def test_separations_are_accurate_for_small_and_large_angles():
    assert separation_deg(vector_of(10, 20), vector_of(10, 20 + 1e-9)) == pytest.approx(1e-9, rel=1e-6)
    assert separation_deg(vector_of(0, 0), vector_of(180, 0)) == pytest.approx(180)

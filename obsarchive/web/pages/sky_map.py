"""A map of the whole sky (Mollweide, equal area) with the positions of observations or sources."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 200.0, 100.0
"""Axes of the ellipse, in the units of the drawing; its middle is the origin."""
STEP_DEG = 5.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """A mark at a position [deg], its link and its label."""

    ra_deg: float | None
    dec_deg: float | None
    address: str
    title: str


def mollweide(ra_deg: float, dec_deg: float) -> Point:
    """Return the point of the map of a position: right ascension 0 in the middle, growing to the left.

    Snyder (1987), Map Projections: A Working Manual, p. 249; the auxiliary angle by Newton's method.

    Parameters
    ----------
    ra_deg, dec_deg : float
        The position [deg].

    Returns
    -------
    x, y : float
        Units of the SVG, from the middle; north is negative y.
    """
    longitude = math.radians((ra_deg + 180.0) % 360.0 - 180.0)
    latitude = math.radians(dec_deg)
    theta = 2 * math.asin(max(-1.0, min(1.0, 2 * latitude / math.pi)))
    for _ in range(60):
        slope = 1 + math.cos(theta)
        if slope < 1e-9:
            break
        step = (theta + math.sin(theta) - math.pi * math.sin(latitude)) / slope
        theta -= step
        if abs(step) < 1e-9:
            break
    half = theta / 2
    return -WIDTH / 2 * longitude / math.pi * math.cos(half), -HEIGHT / 2 * math.sin(half)


def sky_map(marks: Iterable[Mark]) -> dict[str, Any] | None:
    """Return the content of the drawing, or None if no position is known."""
    points = []
    for mark in marks:
        if mark.ra_deg is not None and mark.dec_deg is not None and abs(mark.dec_deg) <= 90:
            x, y = mollweide(mark.ra_deg, mark.dec_deg)
            points.append({"x": round(x, 2), "y": round(y, 2), "mark": mark})
    return {"points": points, "lines": _graticule()} if points else None


def _graticule() -> list[str]:
    """Meridians every 2 h and parallels every 30 degrees, as paths."""
    latitudes = [STEP_DEG * i for i in range(-18, 19)]
    meridians = [[mollweide(ra, dec) for dec in latitudes] for ra in [*range(0, 180, 30), *range(210, 360, 30)]]
    edges = [[mollweide(edge, dec) for dec in latitudes] for edge in (179.999, 180.0)]
    parallels = [[mollweide(ra, dec) for ra in (179.999, 180.0)] for dec in (-60, -30, 0, 30, 60)]
    return ["M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in line) for line in (*meridians, *edges, *parallels)]

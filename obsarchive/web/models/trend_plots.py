"""Small plots of a quantity against date, with errors, as SVG that needs no script."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from obsarchive.web.models.filter_marks import shape_of, style_of

WIDTH, HEIGHT = 360.0, 170.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 8.0, 22.0
"""Margins of the plot, for its numbers."""
OUTLINES = {
    "circle": "m-4.5,0 a4.5,4.5 0 1 0 9,0 a4.5,4.5 0 1 0 -9,0z",
    "square": "m-4,-4 h8 v8 h-8z",
    "diamond": "m0,-5.5 l5.5,5.5 -5.5,5.5 -5.5,-5.5z",
    "triangle": "m0,-5.2 l5.2,9 h-10.4z",
    "valley": "m0,5.2 l5.2,-9 h-10.4z",
    "cross": "m-1.8,-5.5 h3.6 v3.7 h3.7 v3.6 h-3.7 v3.7 h-3.6 v-3.7 h-3.7 v-3.6 h3.7z",
}
"""Paths of the marks around their middle."""


@dataclass(frozen=True)
class Point:
    """A measured value.

    Parameters
    ----------
    when : datetime
        Date of the observation.
    value : float
        Its value.
    error : float or None
        Its error, one sigma.
    filter : str
        Its filter, which decides about the mark.
    text : str
        The value in words.
    address : str
        Page of the observation.
    label : str
        Letter beside the mark: of a companion where there are several.
    """

    when: datetime
    value: float
    error: float | None
    filter: str
    text: str
    address: str
    label: str = ""


@dataclass(frozen=True)
class PlottedPoint:
    """A point in the coordinates of the plot."""

    x: float
    y: float
    low: float | None
    high: float | None
    style: str
    point: Point

    @property
    def outline(self) -> str:
        """Path of the mark."""
        return f"M{self.x:.1f},{self.y:.1f} {OUTLINES[shape_of(self.point.filter)]}"


@dataclass(frozen=True)
class TrendPlot:
    """A plot of one quantity.

    Parameters
    ----------
    title, unit : str
        What it shows.
    points : tuple of PlottedPoint
        Its points.
    x_ticks, y_ticks : tuple of (float, str)
        Places and texts of the ticks.
    filters : tuple of (str, str, str)
        Classes, marks and names of the filters.
    """

    title: str
    unit: str
    points: tuple[PlottedPoint, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    filters: tuple[tuple[str, str, str], ...]


def trend_plot(
    title: str,
    unit: str,
    points: Iterable[Point],
    dates: Sequence[datetime],
    others: list[str],
    *,
    upside_down: bool = False,
) -> TrendPlot | None:
    """Return the plot of a quantity.

    Parameters
    ----------
    title, unit : str
        What it is.
    points : iterable of Point
        Its values; those that are not finite are omitted.
    dates : sequence of datetime
        Dates of all epochs, so that plots of different quantities have the same axis.
    others : list of str
        Filters without a colour of their own that the page had before; those of the points are added.
    upside_down : bool
        Whether small values are at the top, as of magnitudes.

    Returns
    -------
    TrendPlot or None
        None without any value.
    """
    known = [point for point in points if math.isfinite(point.value)]
    if not known or not dates:
        return None
    first, last = min(dates), max(dates)
    margin = max((last - first) * 0.06, timedelta(minutes=30))
    span_s = (last - first + 2 * margin).total_seconds()
    low, high = _range(known)

    def across(when: datetime) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (when - first + margin).total_seconds() / span_s

    def up(value: float) -> float:
        share = (value - low) / (high - low)
        return TOP + (HEIGHT - TOP - BOTTOM) * (share if upside_down else 1 - share)

    plotted = tuple(
        PlottedPoint(
            across(point.when),
            up(point.value),
            up(point.value - point.error) if point.error else None,
            up(point.value + point.error) if point.error else None,
            style_of(point.filter, others),
            point,
        )
        for point in known
    )
    names = [name for name in dict.fromkeys(point.filter for point in known) if name]
    filters = tuple((style_of(name, others), f"M0,0 {OUTLINES[shape_of(name)]}", name) for name in names)
    x_ticks = tuple((across(when), text) for when, text in _dates(first, last))
    return TrendPlot(title, unit, plotted, x_ticks, tuple((up(v), text) for v, text in _numbers(low, high)), filters)


def _range(points: Sequence[Point]) -> tuple[float, float]:
    ends = [point.value + sign * (point.error or 0.0) for point in points for sign in (-1, 1)]
    low, high = min(ends), max(ends)
    room = 0.12 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _numbers(low: float, high: float) -> list[tuple[float, str]]:
    """Return round numbers of a range, three to seven, with their texts."""
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.ceil(low / step)
    return [(n * step, f"{n * step + 0.0:.{digits}f}") for n in range(first, math.floor(high / step) + 1)]


def _dates(first: datetime, last: datetime) -> list[tuple[datetime, str]]:
    """Return at most three dates from the first to the last, with their texts."""
    span = last - first
    if span < timedelta(minutes=1):
        return [(first, f"{first:%Y-%m-%d %H:%M}")]
    is_short = span < timedelta(days=2)
    places = (0, 1) if span < timedelta(days=1) or span > timedelta(days=20000) else (0, 0.5, 1)
    form = "%m-%d %H:%M" if is_short else "%Y-%m-%d"
    return [(first + share * span, (first + share * span).strftime(form)) for share in places]

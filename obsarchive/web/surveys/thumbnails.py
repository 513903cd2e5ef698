"""Small pictures of light curves, drawn by the portal as SVG: filters differ in colour and shape, events are marked."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.store import Document
from obsarchive.web.models import filter_marks
from surveys.dataset import Lightcurve

WIDTH, HEIGHT, MARGIN = 260, 120, 7
MOST_POINTS = 400
"""Epochs that are drawn; of more, those of the events and every second, third, … of the others."""
GROUND, BAND, TABLE_INK = "#15171a", "#3a4149", "#d5dae0"
COLOURS = {"g": "#43d6ba", "r": "#e64b52", "i": "#d99a3a", "z": "#f0f3f6", "c": "#8a949e"}
OTHERS = ("#5aa9ea", "#9d7fd1", "#cf7bae", "#a3b04a")
OUTLINES = {
    "circle": "m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0z",
    "diamond": "m0-2.5 2.5 2.5-2.5 2.5-2.5-2.5z",
    "triangle": "m0-2.5 2.3 4.3h-4.6z",
    "valley": "m0 2.5 2.3-4.3h-4.6z",
    "square": "m-1.9-1.9h3.8v3.8h-3.8z",
    "cross": "m-.7-2.4h1.4v1.7h1.7v1.4h-1.7v1.7h-1.4v-1.7h-1.7v-1.4h1.7z",
}
Floats = NDArray[Any]


def digest(curves: Iterable[Document], events: Iterable[Document]) -> str:
    """Return what a picture is made from, as a short text.

    Parameters
    ----------
    curves, events : iterable of dict
        Documents of the light curves and of the events.

    Returns
    -------
    str
    """
    made_from = [str((one.get("_id"), one.get("checksum"))) for one in curves]
    made_from += [str([one.get(f"mjd_{end}") for end in ("start", "peak", "stop")]) for one in events]
    return hashlib.sha256("\n".join(sorted(made_from)).encode()).hexdigest()[:16]


def light_curve_svg(curves: Sequence[Lightcurve], events: Sequence[Document]) -> bytes:
    """Draw light curves, brighter upwards, with the times of events behind them.

    Parameters
    ----------
    curves : sequence of Lightcurve
        The curves; without one, only the ground is drawn.
    events : sequence of dict
        Documents of the events.

    Returns
    -------
    bytes
        The picture.
    """
    spans = [(float(one["mjd_start"]), float(one["mjd_stop"])) for one in events if _has_times(one)]
    drawn = [(curve.filter, *_epochs(curve.columns)) for curve in curves]
    drawn = [one for one in drawn if len(one[1])]
    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{GROUND}"/>']
    if drawn:
        parts += _panel(drawn, spans)
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>'.encode()


def _has_times(event: Document) -> bool:
    return all(isinstance(event.get(f"mjd_{end}"), int | float) for end in ("start", "stop"))


def _epochs(columns: Mapping[str, Floats]) -> tuple[Floats, Floats, Floats]:
    time, mag, error = (np.asarray(columns[name], np.float64) for name in ("mjd", "mag", "mag_err"))
    good = np.isfinite(time) & np.isfinite(mag)
    return time[good], mag[good], np.where(np.isfinite(error[good]), error[good], 0.0)


def _panel(drawn: Sequence[tuple[str, Floats, Floats, Floats]], spans: Sequence[tuple[float, float]]) -> list[str]:
    times, mags = (np.concatenate([one[number] for one in drawn]) for number in (1, 2))
    x = _scale(float(times.min()), float(times.max()), WIDTH)
    y = _scale(float(mags.min()), float(mags.max()), HEIGHT)  # small magnitudes, hence bright ones, at the top
    parts = []
    for start, stop in spans:
        left, right = sorted((float(x(np.float64(start))), float(x(np.float64(stop)))))
        parts.append(f'<path fill="{BAND}" d="M{left - 1:.1f} 0H{right + 1:.1f}V{HEIGHT}H{left - 1:.1f}z"/>')
    step = max(1, -(-len(times) // MOST_POINTS))
    others: dict[str, str] = {}
    for band, time, mag, error in drawn:
        shown = np.zeros(len(time), bool)
        shown[::step] = True
        for start, stop in spans:
            shown |= (time >= start) & (time <= stop)
        points = x(time[shown]), y(mag[shown]), y(mag[shown] - error[shown]), y(mag[shown] + error[shown])
        colour, outline = _look(band, others)
        bars = "".join(f"M{a:.1f} {b:.1f}V{c:.1f}" for a, _, b, c in zip(*points, strict=True))
        marks = "".join(f"M{a:.1f} {b:.1f}{outline}" for a, b, *_ in zip(*points, strict=True))
        parts.append(f'<path stroke="{colour}" stroke-opacity=".55" d="{bars}"/><path fill="{colour}" d="{marks}"/>')
    return parts


def _scale(low: float, high: float, length: int) -> Any:
    wide = (high - low) or 1.0
    return lambda values: MARGIN + (values - low) / wide * (length - 2 * MARGIN)


def _look(band: str, others: dict[str, str]) -> tuple[str, str]:
    """Return colour and outline of a filter: those of the plots."""
    key = filter_marks.band(band)
    colour = COLOURS.get(key) or others.setdefault(key, OTHERS[len(others) % len(OTHERS)])
    return colour, OUTLINES[filter_marks.shape_of(band)]

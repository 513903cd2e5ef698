"""Events of a source: an event that several light curves show, or two seasons, counts once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from surveys.dataset import Lightcurve
from surveys.detection import Detection

Span = tuple[float, float]
SEEN = ("observatory", "filter", "series_number", "method", "score", "mjd_start", "mjd_peak", "mjd_stop", "peak_mag")
"""What is kept of the weaker detections of an event."""


@dataclass
class _Group:
    span: Span
    members: list[Detection]


def one_per_event(detections: Sequence[Any], curves: Sequence[Lightcurve]) -> list[Any]:
    """Return one detection for each event, the strongest first.

    Detections of one class and sign whose times overlap are one event, in whatever filter, light curve or by whatever
    method they were made. One that reaches the end of a season continues in the next season of the same filter if
    another one begins there.

    Parameters
    ----------
    detections : sequence of Detection
        Detections in the light curves of one source; objects of other classes are returned as they are.
    curves : sequence of Lightcurve
        These light curves.

    Returns
    -------
    list of Detection
        The strongest of each event, with the times and the number of epochs of all, and the others in ``also_seen``.
    """
    ours = [found for found in detections if isinstance(found, Detection)]
    if len(ours) < 2:
        return list(detections)
    seasons = _seasons(curves)
    alike: dict[tuple[type, bool], list[tuple[Span, Detection]]] = {}
    for found in ours:
        alike.setdefault((type(found), found.score >= 0), []).append((_extended(found, seasons), found))
    events = [_strongest(group.members) for own in alike.values() for group in _overlapping(own)]
    others = [found for found in detections if not isinstance(found, Detection)]
    return sorted(events, key=lambda event: -abs(event.score)) + others


def _overlapping(detections: Sequence[tuple[Span, Detection]]) -> list[_Group]:
    """Return detections in groups whose spans overlap."""
    groups: list[_Group] = []
    for span, found in sorted(detections, key=lambda item: item[0]):
        last = groups[-1] if groups else None
        if last is not None and span[0] <= last.span[1]:
            last.members.append(found)
            last.span = last.span[0], max(last.span[1], span[1])
        else:
            groups.append(_Group(span, [found]))
    return groups


def _seasons(curves: Sequence[Lightcurve]) -> Mapping[tuple[str, str], list[Span]]:
    """Return first and last epoch of the light curves of each observatory and filter, in the order of time."""
    found: dict[tuple[str, str], list[Span]] = {}
    for curve in curves:
        mjd = curve.columns["mjd"]
        if len(mjd):
            found.setdefault((curve.observatory, curve.filter), []).append((float(mjd.min()), float(mjd.max())))
    return {key: sorted(spans) for key, spans in found.items()}


def _extended(found: Detection, seasons: Mapping[tuple[str, str], list[Span]]) -> Span:
    """Return the times of a detection; up to the next season where it reaches the end of its own."""
    start, stop = found.mjd_start, found.mjd_stop
    nearby = (stop - start) / 2
    for before, after in pairwise(seasons.get((found.observatory, found.filter), [])):
        if before[0] <= found.mjd_peak <= before[1] and before[1] - found.mjd_stop <= nearby:
            stop = max(stop, after[0])
        if after[0] <= found.mjd_peak <= after[1] and found.mjd_start - after[0] <= nearby:
            start = min(start, before[1])
    return start, stop


def _strongest(members: Sequence[Detection]) -> Detection:
    first, *others = sorted(members, key=lambda found: -abs(found.score))
    if not others:
        return first
    return replace(
        first,
        mjd_start=min(found.mjd_start for found in members),
        mjd_stop=max(found.mjd_stop for found in members),
        n_epochs=sum(found.n_epochs for found in members),
        quality=any(found.quality for found in members),
        also_seen=[{name: getattr(found, name) for name in SEEN} for found in others],
    )

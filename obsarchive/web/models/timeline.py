"""A night as a line of time: darkness, exposures by programme, gaps, and how long reductions took."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from obsarchive.core.documents import Night
from obsarchive.core.natural_order import natural
from obsarchive.core.values import as_time
from obsarchive.science.astrometry.sun import DARK_DEG, SUNSET_DEG, below
from obsarchive.web.models.pipeline_views import DisplayState
from obsarchive.web.models.view_models import Card

GAP_S = 600.0
"""Pauses between exposures that are longer are gaps."""
MARGIN_S = 600.0
UNDER_WAY = (DisplayState.WAITING, DisplayState.STALE, DisplayState.QUEUED, DisplayState.RUNNING)

Place = tuple[float, float]
Facts = dict[str, Any]


@dataclass(frozen=True)
class Gap:
    """A pause of the observations, in seconds since 1970."""

    start: float
    stop: float

    @property
    def minutes(self) -> int:
        """Its length."""
        return round((self.stop - self.start) / 60)

    @property
    def words(self) -> str:
        """Its beginning and end, UTC."""
        return " to ".join(f"{datetime.fromtimestamp(when, UTC):%H:%M}" for when in (self.start, self.stop))


def exposures_of(cards: Iterable[Card]) -> list[Facts]:
    """Return the exposures of observations, in the order of time."""
    found = []
    for card in cards:
        start = card.observation.date_utc
        if start is None:
            continue
        length = max(card.observation.number("exposure_s") or 0.0, 0.0)
        begun = start.timestamp()
        found.append(
            {
                "id": card.id,
                "program": card.program or "unknown",
                "filter": card.observation.filter,
                "start": begun,
                "stop": begun + length,
                "text": f"{start:%H:%M:%S}  {card.name}  {card.observation.filter}  {length:.0f} s  {card.word}",
            }
        )
    return sorted(found, key=lambda exposure: exposure["start"])


def gaps_of(exposures: Iterable[Facts], night: Night | None, dark: tuple[float, float] | None, now: float) -> list[Gap]:
    """Return the gaps between exposures, those of seeing frames among them, and between them and the darkness.

    Parameters
    ----------
    exposures : iterable of dict
        Exposures of all programmes.
    night : Night or None
        The night, for its seeing frames.
    dark : (float, float) or None
        When it was dark [s since 1970].
    now : float
        Present time [s since 1970]: what is still to come is no gap.

    Returns
    -------
    list of Gap
    """
    busy = [(exposure["start"], exposure["stop"]) for exposure in exposures]
    for frame in night.seeing_frames() if night else ():
        start = _moment(frame.get("date_utc"))
        if start is not None:
            busy.append((start.timestamp(), start.timestamp() + float(frame.get("exposure_s") or 0.0)))
    if not busy:
        return []
    first, last = dark or (min(busy)[0], max(stop for _, stop in busy))
    gaps, end = [], first
    for start, stop in [*sorted(busy), (min(max(last, first), now), 0.0)]:
        if start - end > GAP_S:
            gaps.append(Gap(end, start))
        end = max(end, stop)
    return gaps


def _moment(value: Any) -> datetime | None:
    """Return a time that may be kept as text."""
    if isinstance(value, str):
        with suppress(ValueError):
            return as_time(datetime.fromisoformat(value))
    return as_time(value)


def lags_of(cards: Iterable[Card], now: datetime) -> list[Facts]:
    """Return how long each observation took from its arrival to its last result, or waits since then.

    A step that lacks something, such as calibration, has no result yet.
    """
    found = []
    for card in cards:
        start, came = card.observation.date_utc, as_time(card.observation.document.get("date_added"))
        if start is None or came is None:
            continue
        steps = [step for view in card.pipelines for step in view.steps if step.state is not DisplayState.LACKING]
        ended = [step.record.finished for step in steps if step.record.finished]
        is_open = card.state in UNDER_WAY or not ended
        minutes = max(0.0, ((now if is_open else max(ended)) - came).total_seconds() / 60)
        word = "waits since" if is_open else "reduced after"
        text = f"{card.name}  {word} {minutes:.0f} min"
        found.append({"id": card.id, "time": start.timestamp(), "minutes": minutes, "open": is_open, "text": text})
    return found


def timeline(exposures: Sequence[Facts], gaps: Sequence[Gap], lags: Sequence[Facts], place: Place | None) -> Facts:
    """Return what the plot of a night shows.

    Parameters
    ----------
    exposures : sequence of dict
        Exposures that the user may see, in the order of time.
    gaps : sequence of Gap
        Gaps between exposures.
    lags : sequence of dict
        How long the reductions took.
    place : (float, float) or None
        Latitude and longitude of the telescope [deg].

    Returns
    -------
    dict
        Times in seconds since 1970.
    """
    start, stop = exposures[0]["start"], max(exposure["stop"] for exposure in exposures)
    middle = (start + stop) / 2
    night, dark = (below(height, middle, place) if place else None for height in (SUNSET_DEG, DARK_DEG))
    window = [min(start - MARGIN_S, *(night or (start,))), max(stop + MARGIN_S, *(night or (stop,)))]
    return {
        "window": window,
        "night": night,
        "dark": dark,
        "programs": sorted({exposure["program"] for exposure in exposures}, key=natural),
        "exposures": list(exposures),
        "gaps": [
            {"start": gap.start, "stop": gap.stop, "text": f"{gap.words}: no exposure for {gap.minutes} min"}
            for gap in gaps
        ],
        "lags": list(lags),
    }


def darkness(exposures: Sequence[Facts], place: Place | None) -> tuple[float, float] | None:
    """Return when the night of some exposures was dark [s since 1970]; None if that is not known."""
    if place is None or not exposures:
        return None
    return below(DARK_DEG, (exposures[0]["start"] + exposures[-1]["stop"]) / 2, place)

"""A target with its epochs: what its page and the interface for programs show."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from flask import url_for

from obsarchive.core import document_paths as paths
from obsarchive.core.significant_digits import with_error
from obsarchive.core.target_names import folded
from obsarchive.core.values import as_mappings
from obsarchive.web.models.pipeline_views import PipelineView
from obsarchive.web.models.trend_plots import Point, TrendPlot, trend_plot
from obsarchive.web.models.view_models import Card

MOST_BLINKED = 8
_SAME_COMPANION_ARCSEC = 0.25
"""How far a companion may move between two epochs, as far as its label goes."""
_LABELS = "bcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Measure:
    """A measured value and its error; None where it was not measured."""

    value: float | None
    error: float | None = None

    @classmethod
    def of(cls, found: Mapping[str, Any], key: str, error: str = "") -> "Measure":
        """Return a value of measured results, and its error."""
        return cls(_number(found.get(key)), _number(found.get(error)))

    @property
    def text(self) -> str:
        """The value with the digits that its error allows, as on other pages."""
        return "–" if self.value is None else with_error(self.value, self.error)


@dataclass(frozen=True)
class Companion:
    """A companion as it was seen at one epoch."""

    label: str
    separation: Measure
    angle: Measure
    delta_mag: Measure


@dataclass(frozen=True)
class Epoch:
    """One observation of a target."""

    card: Card
    strehl: Measure
    fwhm: Measure
    companions: tuple[Companion, ...] = ()

    @property
    def when(self) -> datetime:
        """Start of the observation."""
        return self.card.observation.date_utc

    @cached_property
    def image(self) -> tuple[PipelineView, str] | None:
        """Pipeline and name of the image of which close-ups are made."""
        views = sorted(self.card.pipelines, key=lambda view: view is not self.card.best)
        named = ((view, name) for view in views for name in sorted(view.products, key=_preference))
        return next(((view, name) for view, name in named if _preference(name) < _NO_IMAGE), None)


_NO_IMAGE = 9


def _preference(name: str) -> int:
    """Return how well a product serves for a close-up; `_NO_IMAGE` for none at all."""
    if not name.endswith(".fits") or "/" in name:
        return _NO_IMAGE
    return ("20p.fits", "100p.fits").index(name) if name in ("20p.fits", "100p.fits") else 2


@dataclass(frozen=True)
class Target:
    """A target with its epochs, the newest first."""

    epochs: tuple[Epoch, ...]
    asked: str = ""
    """Name by which it was found."""

    @cached_property
    def names(self) -> list[str]:
        """Its names as they were entered, the one that was asked for first, then the most frequent."""
        found = [name for name, _ in Counter(epoch.card.name for epoch in self.epochs).most_common()]
        return sorted(found, key=lambda name: (folded(name) != folded(self.asked), name != self.asked))

    @property
    def name(self) -> str:
        """The name that was asked for, as it was entered, else its most frequent one."""
        return self.names[0]

    @cached_property
    def position(self) -> tuple[float, float] | None:
        """Right ascension and declination at the newest epoch that has them [deg]."""
        for epoch in self.epochs:
            ra, dec = (epoch.card.observation.number(path) for path in (paths.RA_DEG, paths.DEC_DEG))
            if ra is not None and dec is not None:
                return ra, dec
        return None

    @property
    def nights(self) -> int:
        """Number of its nights."""
        return len({epoch.card.observation.night for epoch in self.epochs})

    def blinked(self, chosen: Sequence[str]) -> list[Epoch]:
        """Return the epochs to be blinked, the oldest first: the chosen ones, else the newest."""
        shown = [epoch for epoch in self.epochs if epoch.image is not None]
        wanted = [epoch for epoch in shown if epoch.card.id in chosen] or shown
        return wanted[:MOST_BLINKED][::-1]

    @cached_property
    def half_arcsec(self) -> float:
        """Half side of close-ups that show its companions [arcsec]."""
        seen = [found.separation.value or 0.0 for epoch in self.epochs for found in epoch.companions]
        return min(8.0, max(1.0, round(1.4 * max(seen, default=0.7), 1)))

    @cached_property
    def plots(self) -> list[TrendPlot]:
        """Plots of what changes from epoch to epoch."""
        dates = [epoch.when for epoch in self.epochs]
        others: list[str] = []
        found = [
            trend_plot("Strehl ratio", "%", _points(self.epochs, lambda epoch: epoch.strehl, "%"), dates, others),
            trend_plot("FWHM", "″", _points(self.epochs, lambda epoch: epoch.fwhm, "″"), dates, others),
            trend_plot("Companion: separation", "″", self._of_companions("separation", "″"), dates, others),
            trend_plot("Companion: position angle", "°", self._of_companions("angle", "°"), dates, others),
            trend_plot(
                "Companion: Δ magnitude",
                "mag",
                self._of_companions("delta_mag", " mag"),
                dates,
                others,
                upside_down=True,
            ),
        ]
        return [plot for plot in found if plot is not None]

    def _of_companions(self, what: str, unit: str) -> list[Point]:
        seen = [(epoch, companion) for epoch in reversed(self.epochs) for companion in epoch.companions]
        points: list[Point] = []
        last: dict[str, float] = {}
        for epoch, companion in seen:
            measured: Measure = getattr(companion, what)
            if measured.value is None:
                continue
            value = measured.value
            if what == "angle" and companion.label in last:  # a companion does not jump at north
                value += 360 * round((last[companion.label] - value) / 360)
            last[companion.label] = value
            shown = Measure(value, measured.error)
            label = companion.label if len(self.labels) > 1 else ""
            points.append(_point(epoch, shown, label, unit, label))
        return points

    @cached_property
    def labels(self) -> list[str]:
        """Labels of its companions."""
        return sorted({found.label for epoch in self.epochs for found in epoch.companions})


def target_of(cards: Iterable[Card], asked: str = "") -> Target:
    """Return the target of observations, which are sorted, the newest first; `asked` is the name it was found by."""
    known: dict[str, tuple[float, float]] = {}
    epochs = [_epoch(card, known) for card in reversed(list(cards))]
    return Target(tuple(reversed(epochs)), asked)


def _epoch(card: Card, known: dict[str, tuple[float, float]]) -> Epoch:
    measured = next(
        (view for view in card.pipelines if _number(view.result("strehl", "ratio_percent")) is not None), None
    )
    results = measured.record.step("strehl").results if measured else {}
    strehl = Measure.of(results, "ratio_percent", "ratio_error_percent")
    fwhm = Measure.of(results, "fwhm_arcsec", "fwhm_error_arcsec")
    found = next(
        (view.result("pca", "detections") for view in card.pipelines if view.result("pca", "detections")), None
    )
    companions = [
        Companion(
            "",
            Measure.of(item, "separation_arcsec", "separation_error_arcsec"),
            Measure.of(item, "position_angle_deg", "position_angle_error_deg"),
            Measure.of(item, "delta_mag", "delta_mag_error"),
        )
        for item in as_mappings(found)
    ]
    return Epoch(card, strehl, fwhm, tuple(_labelled(companions, known)))


def _labelled(seen: Sequence[Companion], known: dict[str, tuple[float, float]]) -> Iterable[Companion]:
    """Give companions the labels that they had at the epochs before, the brightest first; `known` takes new places."""
    free = dict(known)
    for companion in sorted(seen, key=lambda found: found.delta_mag.value or 0.0):
        place = _offset(companion)
        near = sorted((_distance(place, other), label) for label, other in free.items())
        if place is not None and near and near[0][0] < _SAME_COMPANION_ARCSEC:
            label = near[0][1]
            del free[label]
        else:
            label = _LABELS[min(len(known), len(_LABELS) - 1)]
        if place is not None:
            known[label] = place
        yield Companion(label, companion.separation, companion.angle, companion.delta_mag)


def _offset(companion: Companion) -> tuple[float, float] | None:
    """Return the place of a companion north and east of the star [arcsec]; None if its angle is not known."""
    separation, angle = companion.separation.value, companion.angle.value
    if separation is None or angle is None:
        return None
    return separation * math.cos(math.radians(angle)), separation * math.sin(math.radians(angle))


def _distance(place: tuple[float, float] | None, other: tuple[float, float]) -> float:
    return math.inf if place is None else math.dist(place, other)


def _points(epochs: Iterable[Epoch], measure: Callable[[Epoch], Measure], unit: str) -> list[Point]:
    measured = [(epoch, measure(epoch)) for epoch in reversed(list(epochs))]
    return [
        _point(epoch, found, epoch.card.observation.filter, unit, "")
        for epoch, found in measured
        if found.value is not None
    ]


def _point(epoch: Epoch, found: Measure, words: str, unit: str, label: str) -> Point:
    """Return a point of a plot; the words tell it apart in its text."""
    value = found.value if found.value is not None else math.nan
    text = f"{' '.join((f'{epoch.when:%Y-%m-%d}', words)).strip()}: {found.text}{unit}"
    address = url_for("observations.observation", obs_id=epoch.card.id)
    return Point(epoch.when, value, found.error, epoch.card.observation.filter, text, address, label)


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None

"""Search criteria, read from the parameters of an address; invalid ones are reported, not guessed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Generic, TypeVar

from werkzeug.datastructures import MultiDict

from obsarchive.core.step_state import State
from obsarchive.names import is_night
from obsarchive.store.decisions import STATES as DECIDED
from obsarchive.store.notes import QUALITIES
from obsarchive.store.search import NUMBERS, SORTS, Cone, Criteria, Order, strehl_paths
from obsarchive.store.survey_queries import SourceCriteria
from obsarchive.store.triage import TriageCriteria
from obsarchive.web.framework.parameters import YES_OR_NO, unknown_parameters, unknown_values
from obsarchive.web.models import moments
from obsarchive.web.models.positions import UNITS, PositionError, read_angle, read_place
from obsarchive.web.models.target_list import MAX_TARGETS, TargetLine, read_lines

MAX_TEXT = 200
PAGE, LARGEST_PAGE = 50, 500
STATES = {
    "done": State.DONE,
    "failed": State.FAILED,
    "rejected": State.REJECTED,
    "lacking": State.LACKING,
    "running or queued": State.ENQUEUED,
}
DEFAULT_RADIUS, DEFAULT_UNIT = 30.0, "arcsec"
LARGEST_CONE_DEG = 30.0
"""Of sources, which are sorted by their distances."""
ASKED_QUALITIES = (*QUALITIES, "unmarked")
OF_A_PAGE = ("sort", "limit", "cursor")
PARAMETERS = (
    *("name", "id", "match", "ra", "dec", "radius", "unit", "targets", "program", "camera", "night", "filter"),
    *("date_from", "date_to", "flag", "classified", "done", "state", "quality", *OF_A_PAGE, "columns", "view", "raw"),
)
"""What a search takes, beside the ranges of numbers."""
OF_A_CONE = {"unit": tuple(UNITS)}
VALUES = {**OF_A_CONE, "match": ("exact",), "view": ("table", "thumbnails"), "raw": YES_OR_NO}
"""Parameters that take no other values."""
OF_EVENTS = ("name", "project", "state", "score_min", "score_max", "period_min", "period_max", "limit", "cursor")
OF_SOURCES = ("name", "ra", "dec", "radius", "unit", "project", "state", "limit", "cursor")

Steps = Sequence[tuple[str, str]]


@dataclass
class SearchForm:
    """A search of an address.

    Parameters
    ----------
    criteria : Criteria
        What to look for.
    order : Order
        How the answers are sorted.
    sort : str
        The same, as in the address.
    limit : int
        Answers on a page.
    cursor : str
        Mark of the page.
    problems : dict of str to str
        Messages about invalid parameters, by parameter.
    remarks : list of str
        How parameters were understood, where that may surprise.
    lines : list of TargetLine
        The list of targets.
    quality : str
        What people say of the observations; empty: anything.
    """

    criteria: Criteria
    order: Order
    sort: str
    limit: int
    cursor: str
    problems: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    lines: list[TargetLine] = field(default_factory=list)
    quality: str = ""


Wanted = TypeVar("Wanted")


@dataclass
class SurveySearchForm(Generic[Wanted]):
    """A search for sources of surveys.

    Parameters
    ----------
    criteria : SourceCriteria or TriageCriteria
        What to look for.
    project : str
        The one project whose sources are meant; empty: all.
    limit : int
        Sources on a page.
    cursor : str
        Mark of the page.
    problems : dict of str to str
        Messages about invalid parameters, by parameter.
    """

    criteria: Wanted
    project: str
    limit: int
    cursor: str
    problems: dict[str, str] = field(default_factory=dict)


SourceSearchForm = SurveySearchForm[SourceCriteria]
EventSearchForm = SurveySearchForm[TriageCriteria]
"""A search for sources with events."""


def number_fields(steps: Steps) -> dict[str, str]:
    """Numbers that are looked for by a range: parameter and path; the Strehl ratio of each pipeline among them."""
    return {**NUMBERS, **{f"strehl_{pipeline}": path for pipeline, path in strehl_paths(steps).items()}}


def sort_fields(steps: Steps) -> dict[str, str]:
    """Orders of the results: parameter and path."""
    return {**SORTS, **number_fields(steps)}


def read(arguments: MultiDict[str, str], steps: Steps) -> SearchForm:
    """Read the parameters of a search.

    Of a parameter that is given twice, the first counts; of filters and steps all count.

    Parameters
    ----------
    arguments : MultiDict
        Parameters of the address.
    steps : sequence of (pipeline, step)
        All steps of the configuration.

    Returns
    -------
    SearchForm
        The criteria, and what is wrong with the parameters.
    """
    return _Reader(arguments, steps).read()


def read_sources(arguments: MultiDict[str, str]) -> SourceSearchForm:
    """Read the parameters of a search for sources."""
    return _Reader(arguments, ()).read_sources()


def read_events(arguments: MultiDict[str, str]) -> EventSearchForm:
    """Read the parameters of a search for sources with events."""
    return _Reader(arguments, ()).read_events()


class _Reader:
    def __init__(self, arguments: MultiDict[str, str], steps: Steps) -> None:
        self.arguments, self.steps = arguments, steps
        self.problems: dict[str, str] = {}
        self.remarks: list[str] = []

    def read(self) -> SearchForm:
        ranges = [f"{name}_{end}" for name in number_fields(self.steps) for end in ("min", "max")]
        self.problems |= unknown_parameters(self.arguments, (*PARAMETERS, *ranges))
        self.problems |= unknown_values(self.arguments, VALUES)
        sort, order = self._order()
        lines = self._lines()
        first, last = self._period("date_from"), self._period("date_to")
        criteria = Criteria(
            name=self._text("name"),
            id=self._text("id"),
            exact=self._text("match") == "exact",
            cone=self._cone(),
            targets=[target for line in lines for target in line.targets],
            program=self._text("program"),
            camera=self._text("camera"),
            night=self._night(),
            filters=[text[:MAX_TEXT] for text in self.arguments.getlist("filter") if text][:20],
            since=first and first[0],
            until=last and last[1],
            ranges={path: self._range(name) for name, path in number_fields(self.steps).items()},
            flag=self._text("flag"),
            classified=self._text("classified"),
            steps=self._done(),
            state=self._state(),
            known_steps=self.steps,
        )
        self._check_order(criteria)
        page = self._limit(), self.arguments.get("cursor", "")
        return SearchForm(criteria, order, sort, *page, self.problems, self.remarks, lines, self._quality())

    def _night(self) -> str:
        night = self._text("night").replace("-", "")
        if night and not is_night(night):
            self.problems["night"] = "a night is a date, YYYY-MM-DD or YYYYMMDD"
            return ""
        return night

    def _quality(self) -> str:
        asked = self._text("quality").lower()
        if asked and asked not in ASKED_QUALITIES:
            self.problems["quality"] = f"one of {', '.join(ASKED_QUALITIES)}"
            return ""
        return asked

    def _check_order(self, criteria: Criteria) -> None:
        """Note dates in the wrong order, and a radius around nothing."""
        if criteria.since and criteria.until and criteria.since > criteria.until:
            self.problems["date_to"] = "the end lies before the beginning: exchange the two dates"
        if self._text("radius") and not (criteria.cone or criteria.targets or {"ra", "dec"} & set(self.problems)):
            self.problems["radius"] = "a radius needs a centre: RA and Dec, or a list of targets"

    def read_sources(self) -> SourceSearchForm:
        self.problems |= unknown_parameters(self.arguments, OF_SOURCES)
        self.problems |= unknown_values(self.arguments, OF_A_CONE)
        cone, which = self._cone(), self._text("state")
        if cone is not None and cone.radius_deg > LARGEST_CONE_DEG:
            self.problems["radius"] = f"at most {LARGEST_CONE_DEG:g} deg"
        criteria = SourceCriteria(self._text("name"), cone)
        match which:
            case "detected" | "failed":
                criteria = replace(criteria, which=which)
            case text if text:
                self.problems["state"] = "detected or failed"
        return self._of_surveys(criteria)

    def read_events(self) -> EventSearchForm:
        self.problems |= unknown_parameters(self.arguments, OF_EVENTS)
        state = self._text("state").lower()
        if state and state not in DECIDED:
            self.problems["state"] = f"one of {', '.join(DECIDED)}"
            state = ""
        criteria = TriageCriteria(state, self._text("name"), self._range("score"), self._range("period", 0.0))
        return self._of_surveys(criteria)

    def _of_surveys(self, criteria: Wanted) -> SurveySearchForm[Wanted]:
        page = self._limit(), self.arguments.get("cursor", "")
        return SurveySearchForm(criteria, self._text("project"), *page, self.problems)

    def _text(self, name: str) -> str:
        found = self.arguments.get(name, "").strip()
        if len(found) > MAX_TEXT or "\0" in found:
            is_long = len(found) > MAX_TEXT
            self.problems[name] = f"at most {MAX_TEXT} characters" if is_long else "no text: it holds a NUL character"
            return ""
        return found

    def _order(self) -> tuple[str, Order]:
        known, asked = sort_fields(self.steps), self._text("sort") or "-date"
        name = asked.lstrip("-+")
        if name not in known:
            self.problems["sort"] = f"one of {', '.join(known)}; a minus before it for descending order"
            asked, name = "-date", "date"
        return asked, Order(known[name], asked.startswith("-"))

    def _limit(self) -> int:
        found = self._number("limit", 1, LARGEST_PAGE)
        return PAGE if found is None else int(found)

    def _number(self, name: str, least: float = -math.inf, most: float = math.inf) -> float | None:
        text = self._text(name)
        if not text:
            return None
        try:
            value = float(text.replace(",", ".").replace("−", "-"))
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            between = f" from {least:g} to {most:g}" if math.isfinite(most) else f" from {least:g}"
            between = between if math.isfinite(least) else ""
            self.problems[name] = f"a number{between} is needed, not {text[:30]!r}"
            return None
        return value

    def _range(self, name: str, least: float = -math.inf) -> tuple[float | None, float | None]:
        low, high = (self._number(f"{name}_{end}", least) for end in ("min", "max"))
        if low is not None and high is not None and low > high:
            self.problems[f"{name}_max"] = f"the range is reversed: {low:g} is more than {high:g}"
        return low, high

    def _cone(self) -> Cone | None:
        texts = self._text("ra"), self._text("dec")
        if not any(texts):
            return None
        try:
            found = read_place(*texts)
        except PositionError as err:
            self.problems[err.field] = str(err)
            return None
        self.remarks += [found.remark] if found.remark else []
        return Cone(found.ra_deg, found.dec_deg, self._radius())

    def _radius(self) -> float:
        text, unit = self._text("radius"), self._text("unit") or DEFAULT_UNIT
        unit = unit if unit in UNITS else DEFAULT_UNIT
        radius = read_angle(text, unit) if text else DEFAULT_RADIUS * UNITS[unit]
        if radius is None or not 0 <= radius <= 180:
            self.problems["radius"] = f"an angle from 0 to 180° is needed, such as 30, 1' or 0.5 deg, not {text[:30]!r}"
            return 0.0
        return radius

    def _lines(self) -> list[TargetLine]:
        text = self.arguments.get("targets", "")
        if not text.strip():
            return []
        lines = read_lines(text, self._radius())
        if len(lines) > MAX_TARGETS:
            self.problems["targets"] = f"at most {MAX_TARGETS} targets at a time, not {len(lines)}"
        return lines[:MAX_TARGETS]

    def _period(self, name: str) -> tuple[datetime, datetime] | None:
        text = self._text(name)
        if not text:
            return None
        try:
            return moments.read_period(text)
        except (ValueError, OverflowError):
            self.problems[name] = f"a date is needed, such as {moments.HOW}, not {text[:30]!r}"
            return None

    def _done(self) -> list[tuple[str, str]]:
        asked = [tuple(text.split(".", 1)) for text in self.arguments.getlist("done") if text]
        known = [(pipeline, step) for pipeline, step in self.steps if (pipeline, step) in asked]
        if len(known) < len(set(asked)):
            self.problems["done"] = "a step of the configuration is needed, such as bright_star.strehl"
        return known

    def _state(self) -> State | None:
        asked = self._text("state")
        if asked and asked not in STATES:
            self.problems["state"] = f"one of {', '.join(STATES)}"
        return STATES.get(asked)


def query_parameters(arguments: MultiDict[str, str], *but: str) -> dict[str, list[str]]:
    """Return the parameters of an address that have a value, to build another address.

    Parameters
    ----------
    arguments : MultiDict
        Parameters of the address.
    *but : str
        Names to omit.

    Returns
    -------
    dict of str to list of str
        Values by name.
    """
    lists = {name: [value for value in values if value] for name, values in arguments.lists() if name not in but}
    return {name: values for name, values in lists.items() if values}

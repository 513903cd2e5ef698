"""Search criteria, read from the parameters of an address; invalid ones are reported, not guessed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from astropy import units as u
from werkzeug.datastructures import MultiDict

from obsarchive.core.step_state import State
from obsarchive.instruments.base import degrees
from obsarchive.names import is_night
from obsarchive.store.search import NUMBERS, SORTS, Cone, Criteria, Order, strehl_paths
from obsarchive.store.survey_queries import SourceCriteria

MAX_TEXT = 200
MAX_TARGETS = 200
PAGE, LARGEST_PAGE = 50, 500
UNITS = {"arcsec": 1 / 3600, "arcmin": 1 / 60, "deg": 1.0, "rad": 180 / math.pi}
"""Degrees in a unit of the cone's radius."""
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
    """

    criteria: Criteria
    order: Order
    sort: str
    limit: int
    cursor: str
    problems: dict[str, str] = field(default_factory=dict)


@dataclass
class SourceSearchForm:
    """A search for sources of surveys.

    Parameters
    ----------
    criteria : SourceCriteria
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

    criteria: SourceCriteria
    project: str
    limit: int
    cursor: str
    problems: dict[str, str] = field(default_factory=dict)


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


class _Reader:
    def __init__(self, arguments: MultiDict[str, str], steps: Steps) -> None:
        self.arguments, self.steps = arguments, steps
        self.problems: dict[str, str] = {}

    def read(self) -> SearchForm:
        sort, order = self._order()
        criteria = Criteria(
            name=self._text("name"),
            id=self._text("id"),
            exact=self._text("match") == "exact",
            cone=self._cone(),
            targets=self._targets(),
            program=self._text("program"),
            camera=self._text("camera"),
            night=self._text("night").replace("-", ""),
            filters=[text[:MAX_TEXT] for text in self.arguments.getlist("filter") if text][:20],
            since=self._time("date_from"),
            until=self._time("date_to", end=True),
            ranges={
                path: (self._number(f"{name}_min"), self._number(f"{name}_max"))
                for name, path in number_fields(self.steps).items()
            },
            flag=self._text("flag"),
            classified=self._text("classified"),
            steps=self._done(),
            state=self._state(),
            known_steps=self.steps,
        )
        return SearchForm(criteria, order, sort, self._limit(), self.arguments.get("cursor", ""), self.problems)

    def read_sources(self) -> SourceSearchForm:
        cone, which = self._cone(), self._text("state")
        if cone is not None and cone.radius_deg > LARGEST_CONE_DEG:
            self.problems["radius"] = f"at most {LARGEST_CONE_DEG:g} deg"
        criteria = SourceCriteria(self._text("name"), cone)
        match which:
            case "detected" | "failed":
                criteria = replace(criteria, which=which)
            case text if text:
                self.problems["state"] = "detected or failed"
        page = self._limit(), self.arguments.get("cursor", "")
        return SourceSearchForm(criteria, self._text("project"), *page, self.problems)

    def _text(self, name: str) -> str:
        found = self.arguments.get(name, "").strip()
        if len(found) > MAX_TEXT or "\0" in found:
            self.problems[name] = f"at most {MAX_TEXT} characters"
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
            between = f" from {least:g} to {most:g}" if math.isfinite(most) else ""
            self.problems[name] = f"a number{between} is needed, not {text[:30]!r}"
            return None
        return value

    def _cone(self) -> Cone | None:
        texts = self._text("ra"), self._text("dec")
        if not any(texts):
            return None
        centre = position(*texts)
        if centre is None:
            self.problems["ra" if not texts[0] else "dec" if not texts[1] else "ra"] = (
                "both RA and Dec, as 10:20:30.5 +12:34:56, 10h20m30.5s, or degrees"
            )
            return None
        return Cone(*centre, self._radius())

    def _radius(self) -> float:
        unit = self._text("unit") or DEFAULT_UNIT
        if unit not in UNITS:
            self.problems["unit"] = f"one of {', '.join(UNITS)}"
            unit = DEFAULT_UNIT
        radius = self._number("radius", 0.0, 180.0 / UNITS[unit])
        return (DEFAULT_RADIUS if radius is None else radius) * UNITS[unit]

    def _targets(self) -> list[str | Cone]:
        lines = [line.strip() for line in self.arguments.get("targets", "").replace(";", "\n").splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        if len(lines) > MAX_TARGETS:
            self.problems["targets"] = f"at most {MAX_TARGETS} targets at a time, not {len(lines)}"
            lines = lines[:MAX_TARGETS]
        radius = self._radius() if lines else 0.0
        return [_target(line[:MAX_TEXT], radius) for line in lines]

    def _time(self, name: str, end: bool = False) -> datetime | None:
        text = self._text(name)
        if not text:
            return None
        plain = text.replace("/", "-").removesuffix("Z")
        try:
            if is_night(plain):
                plain = f"{plain[:4]}-{plain[4:6]}-{plain[6:]}"
            found = datetime.fromisoformat(plain)
        except ValueError:
            self.problems[name] = f"a date such as 2016-09-25 or 2016-09-25T03:30 (UTC) is needed, not {text[:30]!r}"
            return None
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        if not end:
            return found
        inside = timedelta(days=1) if len(plain) <= 10 else timedelta(minutes=1) if len(plain) <= 16 else timedelta()
        return found + inside - (timedelta(milliseconds=1) if inside else timedelta())

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


def position(ra: str, dec: str) -> tuple[float, float] | None:
    """Read a position on the sky.

    Parameters
    ----------
    ra : str
        Right ascension: in hours if sexagesimal, a plain number is in degrees.
    dec : str
        Declination [deg].

    Returns
    -------
    tuple of float or None
        Right ascension (0 to 360) and declination [deg]; None when they are no position.
    """
    found = degrees(ra.replace("−", "-"), u.hourangle), degrees(dec.replace("−", "-"), u.deg)
    if found[0] is None or found[1] is None or abs(found[1]) > 90 or not -360 <= found[0] <= 360:
        return None
    return found[0] % 360.0, found[1]


def _target(line: str, radius_deg: float) -> str | Cone:
    """Read a line of a list: a position if it can be one, else a name."""
    words = line.replace(",", " ").split()
    half = len(words) // 2
    centre = position(" ".join(words[:half]), " ".join(words[half:])) if len(words) in (2, 6) else None
    return line if centre is None else Cone(*centre, radius_deg)


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

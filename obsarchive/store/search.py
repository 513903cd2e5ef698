"""Search for observations: criteria as typed values, and pages of results.

No text of a user reaches the database as an operator: names are escaped, numbers are numbers, and every query has
a time limit and a largest number of results.
"""

import base64
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bson import MinKey

from obsarchive.core import document_paths as paths
from obsarchive.core.documents import Observation
from obsarchive.core.json_text import parse_json
from obsarchive.core.step_state import State
from obsarchive.core.target_names import PART, folded
from obsarchive.names import is_observation
from obsarchive.store.step_records import Document

COUNT_CAP = 10_001
"""Results are counted up to here; the portal shows more of them as "more than 10 000"."""
MAX_PAGE = 1000
TIME_LIMIT_MS = 5000
"""Longest duration of a query of the portal [ms]."""

NUMBERS = {
    "exposure": "exposure_s",
    "magnitude": "magnitude",
    "azimuth": paths.AZ_DEG,
    "elevation": paths.EL_DEG,
    "seeing_median": paths.SEEING_MEDIAN_ARCSEC,
    "seeing_nearest": paths.SEEING_NEAREST_ARCSEC,
}
"""Fields of an observation that are searched by a range, by the name of the parameter."""
SORTS = {
    "date": "date_utc",
    "name": "name",
    "id": "_id",
    "ra": paths.RA_DEG,
    "dec": paths.DEC_DEG,
    "filter": "filter",
    "program": paths.PROGRAM_ID,
    **NUMBERS,
}


def strehl_paths(steps: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the path of the Strehl ratio, by the pipelines that measure it."""
    return {
        pipeline: paths.result_path(pipeline, step, "ratio_percent") for pipeline, step in steps if step == "strehl"
    }


_ALWAYS: Document = {"date_utc": {"$gte": MinKey()}}
"""True of all: lets an index by date look at the names, without reading a document."""


LOOK_UP = f"look-up {paths.PROGRAM_ID} date_utc"
"""Index of the observations of a programme by date, with what searches ask for most."""


class CursorError(ValueError):
    """A text that is not the mark of a page."""


@dataclass(frozen=True)
class Cone:
    """A circle on the sky.

    Parameters
    ----------
    ra_deg, dec_deg : float
        Its centre [deg].
    radius_deg : float
        Its radius [deg].
    """

    ra_deg: float
    dec_deg: float
    radius_deg: float

    def query(self) -> Document:
        """Return the filter of observations that lie in it."""
        return {paths.GEOJSON: self.sphere()}

    def sphere(self) -> Document:
        """Return the filter of positions in it, correct also across 0 h and at the poles."""
        longitude = (self.ra_deg + 180.0) % 360.0 - 180.0
        return {"$geoWithin": {"$centerSphere": [[longitude, self.dec_deg], math.radians(self.radius_deg)]}}


@dataclass(frozen=True)
class Criteria:
    """Search criteria of observations; empty ones do not restrict.

    Parameters
    ----------
    name : str
        Part of a name of the target, folded as `folded` does; the whole of it if `exact`.
    id : str
        Part of the name of the observation, in any case; the whole of it if `exact`.
    exact : bool
        Whether names must be equal.
    cone : Cone, optional
        Region of the sky.
    targets : sequence of str or Cone
        Any of these names or regions.
    program, camera, flag, classified, night : str
        Equal to these.
    filters : sequence of str
        Any of these.
    since, until : datetime, optional
        Start of the observation, both included [UTC].
    ranges : mapping of str to (float or None, float or None)
        By the path of a field of the document.
    steps : sequence of (pipeline, step), optional
        Steps that must be done.
    state : State, optional
        Some step of `known_steps` must be in this state.
    known_steps : sequence of (pipeline, step)
        All steps of the configuration.
    marked : dict, optional
        Filter of the observations of a quality, see :meth:`obsarchive.store.notes.Notes.query`.
    is_frequent : bool
        Whether so many targets hold the part of a name that they are found faster one after the other.
    """

    name: str = ""
    id: str = ""
    exact: bool = False
    cone: Cone | None = None
    targets: Sequence[str | Cone] = ()
    program: str = ""
    camera: str = ""
    night: str = ""
    filters: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    flag: str = ""
    classified: str = ""
    steps: Sequence[tuple[str, str]] = ()
    state: State | None = None
    known_steps: Sequence[tuple[str, str]] = ()
    marked: Document | None = None
    is_frequent: bool = False

    @property
    def is_selective(self) -> bool:
        """Whether a name finds few observations by itself."""
        return bool(self.name) and not self.is_frequent

    @property
    def is_looked_up(self) -> bool:
        """Whether the index of a programme's observations by date answers it without their documents."""
        in_documents = (self.id, self.cone, self.targets, self._ranges(), self.steps, self.flag, self.classified)
        return not (self.exact or any(in_documents) or self.state is not None or self.marked is not None)

    def query(self) -> list[Document]:
        """Return the filters that must all hold."""
        found = [*self._texts(), *self._places(), *self._times(), *self._ranges(), *self._pipelines()]
        return [condition for condition in found if condition]

    def _texts(self) -> list[Document]:
        equal = {paths.PROGRAM_ID: self.program, "camera": self.camera, "night": self.night}
        found: list[Document] = [{path: value} for path, value in equal.items() if value]
        if self.name:
            found += self._named(folded(self.name))
        if self.id and (self.exact or is_observation(self.id)):
            found.append({"_id": self.id})
        elif self.id:
            found.append({"_id": {"$regex": re.escape(self.id), "$options": "i"}})
            found.append(_ALWAYS)
        if self.filters:
            found.append({"filter": {"$in": list(self.filters)}})
        return found

    def _named(self, key: str) -> list[Document]:
        """Return the filters of targets with a name, or a part of one."""
        if self.exact or not key:
            return [{paths.TARGET_KEYS: key or None}]
        is_part = {paths.TARGET_TEXT: {"$regex": re.escape(key)}}
        if self.is_frequent:
            return [is_part, _ALWAYS]
        return [self.rare_part(), *([is_part] if len(key) > PART else [])]

    def rare_part(self) -> Document:
        """Return the filter of targets whose names hold the first letters of the part, by an index that knows where."""
        return {paths.TARGET_PARTS: {"$regex": f"^{re.escape(folded(self.name)[:PART])}"}}

    def _places(self) -> list[Document]:
        names = [folded(target) for target in self.targets if isinstance(target, str)]
        cones = [target.query() for target in self.targets if isinstance(target, Cone)]
        any_of = [*([{paths.TARGET_KEYS: {"$in": names}}] if names else []), *cones]
        return [self.cone.query() if self.cone else {}, {"$or": any_of} if any_of else {}, self.marked or {}]

    def _times(self) -> list[Document]:
        bounds = {"$gte": self.since, "$lte": self.until}
        known = {key: value for key, value in bounds.items() if value is not None}
        return [{"date_utc": known} if known else {}]

    def _ranges(self) -> list[Document]:
        bounds = {
            path: {key: value for key, value in (("$gte", low), ("$lte", high)) if value is not None}
            for path, (low, high) in self.ranges.items()
        }
        return [{path: bound} for path, bound in bounds.items() if bound]

    def _pipelines(self) -> list[Document]:
        found: list[Document] = [{paths.step_path(*path, "state"): str(State.DONE)} for path in self.steps]
        pipelines = dict.fromkeys(pipeline for pipeline, _ in self.known_steps)
        if self.flag:
            flagged = [{paths.result_path(*path, "flag"): self.flag} for path in self.known_steps]
            found.append({"$or": flagged} if flagged else {"_id": None})
        if self.classified:
            verdicts = [{paths.PipelinePaths.of_observation(name).classified_as: self.classified} for name in pipelines]
            found.append({"$or": verdicts} if verdicts else {"_id": None})
        if self.state is not None:
            states = [{paths.step_path(*path, "state"): str(self.state)} for path in self.known_steps]
            found.append({"$or": states} if states else {"_id": None})
        return found


@dataclass(frozen=True)
class Order:
    """Sort order of results; the observation's name decides between equals, so that no page repeats another.

    Parameters
    ----------
    key : str
        Path of a field.
    descending : bool
        Whether the largest value comes first.
    """

    key: str = "date_utc"
    descending: bool = True

    @property
    def keys(self) -> list[tuple[str, int]]:
        """Sort keys for MongoDB."""
        direction = -1 if self.descending else 1
        return [(self.key, direction)] if self.key == "_id" else [(self.key, direction), ("_id", direction)]

    def after(self, cursor: str) -> Document:
        """Return the filter of what follows the last result of a page; missing values count as the smallest."""
        value, name = _read_cursor(cursor)
        beyond = "$lt" if self.descending else "$gt"
        if self.key == "_id":
            return {"_id": {beyond: name}}
        same: Document = {self.key: value, "_id": {beyond: name}}
        if value is None:
            return same if self.descending else {"$or": [same, {self.key: {"$ne": None}}]}
        others: list[Document] = [{self.key: {beyond: value}}]
        if self.descending:
            others.append({self.key: None})
        return {"$or": [same, *others]}

    def cursor(self, last: Mapping[str, Any]) -> str:
        """Return the mark of a page that ends with a document."""
        value: Any = last
        for part in self.key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, datetime):
            value = {"time": value.astimezone(UTC).isoformat()}
        text = json.dumps([value, last["_id"]], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[Any, str]:
    try:
        value, name = parse_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if isinstance(value, dict):
            value = datetime.fromisoformat(value["time"])
    except (ValueError, TypeError, KeyError) as err:
        raise CursorError(f"{cursor[:40]!r} is no mark of a page") from err
    if not isinstance(name, str) or not isinstance(value, str | int | float | datetime | None):
        raise CursorError(f"{cursor[:40]!r} is no mark of a page")
    return value, name


@dataclass(frozen=True)
class Page:
    """One page of results."""

    observations: tuple[Observation, ...]
    count: int
    """Number of all results, up to `COUNT_CAP`."""
    following: str = ""
    """Mark of the next page; empty on the last one."""

    @property
    def is_capped(self) -> bool:
        """Whether there are more results than were counted."""
        return self.count >= COUNT_CAP

"""Looking for the sources of surveys: by name, place, events, failures, as far as somebody may see them.

No text of a person reaches the database as an operator, and every query has a time limit and a largest number of
answers. Most of what is asked can be read from indexes in the order of the names; a cone is sorted by distance.
"""

import math
from collections.abc import Collection as Container
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby, islice
from typing import Any, Literal

from pymongo.collection import Collection
from pymongo.database import Database

from obsarchive.store.book import Document
from obsarchive.store.search import COUNT_CAP, MAX_PAGE, BadCursor, Cone

CHUNK = 1000
"""Names that are looked up together."""
MOST_GATHERED = 5001
"""Sources of a cone, or with events, or that failed, are gathered up to here."""
TIME_LIMIT_MS = 5000
EARTH_M = 6378100.0
"""The radius by which MongoDB turns metres into angles."""

Which = Literal["", "detected", "failed"]
Runs = Sequence[str] | None
"""Projects of which somebody may see the sources; None: all there are, and sources of none."""


@dataclass(frozen=True)
class SourceCriteria:
    """What a source must fulfil; what is empty is not asked for.

    Parameters
    ----------
    name : str
        How its name begins, or one of its other names.
    cone : Cone, optional
        Where it must lie.
    which : str
        ``detected``: with real events; ``failed``: whose photometry or analysis failed.
    """

    name: str = ""
    cone: Cone | None = None
    which: Which = ""

    def conditions(self, runs: Runs) -> list[Document]:
        """Return the filters on sources, but for the cone and the events."""
        found: list[Document] = [] if runs is None else [{"projects": {"$in": list(runs)}}]
        if self.name:
            found.append({"$or": [{"_id": _beginning(self.name)}, {"aliases": self.name}]})
        return found


def _beginning(text: str) -> Document:
    return {"$gte": text, "$lt": f"{text}\U0010ffff"}


@dataclass(frozen=True)
class SourcePage:
    """One page of sources."""

    sources: tuple[Document, ...]
    count: int
    """All answers there are, up to a cap."""
    is_capped: bool = False
    """Whether there are more answers than were counted."""
    following: str = ""
    """Mark of the next page; empty on the last one."""


@dataclass(frozen=True)
class Events:
    """Real events of a source: how many, and the S/N of the strongest."""

    count: int
    strongest: float


class Sources:
    """Reads the collections of surveys for those who look for something in them."""

    def __init__(self, database: Database) -> None:
        self.sources: Collection = database["sources"]
        self.raw: Collection = database["raw_photometry"]
        self.detections: Collection = database["detections"]
        self.properties: Collection = database["properties"]

    def find(self, name: str, runs: Runs) -> Document | None:
        """Return a source that is in one of the projects."""
        return self.sources.find_one(_all_of([{"_id": name}, *SourceCriteria().conditions(runs)]))

    def page(self, runs: Runs, wanted: SourceCriteria, limit: int, cursor: str = "") -> SourcePage:
        """Return a page of sources, in the order of their names, or of their distances if there is a cone.

        Parameters
        ----------
        runs : sequence of str or None
            Projects that may be seen.
        wanted : SourceCriteria
            What is looked for.
        limit : int
            Sources on a page.
        cursor : str
            Mark of the page; empty: the first.

        Raises
        ------
        BadCursor
            `cursor` is not the mark of a page.
        """
        limit = max(1, min(limit, MAX_PAGE))
        if wanted.cone is not None:
            return self._around(runs, wanted, limit, cursor)
        if wanted.which:
            return self._chosen(runs, wanted, limit, cursor)
        conditions = wanted.conditions(runs)
        beyond: list[Document] = [{"_id": {"$gt": cursor}}] if cursor else []
        query = _all_of([*conditions, *beyond])
        found = list(self.sources.find(query).sort("_id", 1).limit(limit + 1).max_time_ms(TIME_LIMIT_MS))
        count = len(found)
        if cursor or count > limit:
            count = self.sources.count_documents(_all_of(conditions), limit=COUNT_CAP, maxTimeMS=TIME_LIMIT_MS)
        return _page(found, limit, count, COUNT_CAP)

    def near(self, runs: Runs, cone: Cone, most: int) -> list[Document]:
        """Return the sources within a cone, the nearest first."""
        return list(self._sorted_by_distance(SourceCriteria(cone=cone), runs, most, None))

    def _sorted_by_distance(
        self, wanted: SourceCriteria, runs: Runs, most: int, fields: Document | None
    ) -> Iterator[Document]:
        cone = wanted.cone or Cone(0.0, 0.0, 0.0)
        longitude = (cone.ra_deg + 180.0) % 360.0 - 180.0
        centre = {"type": "Point", "coordinates": [longitude, cone.dec_deg]}
        reach = math.radians(cone.radius_deg) * EARTH_M
        place: Document = {"geojson": {"$nearSphere": {"$geometry": centre, "$maxDistance": reach}}}
        query = _all_of([place, *wanted.conditions(runs)])
        return iter(self.sources.find(query, fields).limit(most).max_time_ms(TIME_LIMIT_MS))

    def _around(self, runs: Runs, wanted: SourceCriteria, limit: int, cursor: str) -> SourcePage:
        if cursor and not (cursor.isascii() and cursor.isdecimal() and int(cursor) < MOST_GATHERED):
            raise BadCursor(f"{cursor[:40]!r} is no mark of a page")
        start = int(cursor or 0)
        names = [found["_id"] for found in self._sorted_by_distance(wanted, runs, MOST_GATHERED, {"_id": 1})]
        is_capped = len(names) >= MOST_GATHERED
        if wanted.which:
            having = self._having(wanted.which, names, runs)
            names = [name for name in names if name in having]
        shown = names[start : start + limit]
        known = {found["_id"]: found for found in self.sources.find({"_id": {"$in": shown}})}
        following = str(start + limit) if start + limit < len(names) else ""
        return SourcePage(tuple(known[name] for name in shown if name in known), len(names), is_capped, following)

    def _chosen(self, runs: Runs, wanted: SourceCriteria, limit: int, cursor: str) -> SourcePage:
        conditions = wanted.conditions(runs)
        found = list(islice(self._of_names(self._names(wanted, runs, cursor), conditions), limit + 1))
        count = len(found)
        if cursor or count > limit:
            names = list(islice(self._names(wanted, runs, ""), MOST_GATHERED))
            count = sum(
                self.sources.count_documents(_all_of([{"_id": {"$in": chunk}}, *conditions]), maxTimeMS=TIME_LIMIT_MS)
                for chunk in _chunks(names)
            )
        return _page(found, limit, count, MOST_GATHERED)

    def _of_names(self, names: Iterable[str], conditions: list[Document]) -> Iterator[Document]:
        """Yield the sources of these names that fulfil conditions, in the order of the names."""
        for chunk in _chunks(names):
            query = _all_of([{"_id": {"$in": chunk}}, *conditions])
            yield from self.sources.find(query).sort("_id", 1).max_time_ms(TIME_LIMIT_MS)

    def _names(self, wanted: SourceCriteria, runs: Runs, after: str) -> Iterator[str]:
        """Yield names of sources with events or failures, each once, in their order."""
        bounds: list[Document] = [{"source_name": {"$gt": after}}] if after else []
        if wanted.name:
            others = [found["_id"] for found in self.sources.find({"aliases": wanted.name}, {"_id": 1}).limit(CHUNK)]
            named: list[Document] = [{"source_name": _beginning(wanted.name)}]
            bounds.append({"$or": [*named, {"source_name": {"$in": others}}]} if others else named[0])
        streams = [
            self._sorted_names(collection, [of_runs, *bounds])
            for collection, of_runs in self._places_of(wanted.which, runs)
        ]
        for name, _ in groupby(merge(*streams)):
            yield name

    def _places_of(self, which: Which, runs: Runs) -> list[tuple[Collection, Document]]:
        """Return where events or failures are noted, with the filters that find them."""
        if which == "detected":
            known = list(runs) if runs is not None else self.detections.distinct("run")
            return [(self.detections, {"run": {"$in": known}, "simulated": False})]
        known = list(runs) if runs is not None else self.properties.distinct("run")
        return [(self.properties, {"run": {"$in": known}, "state": "failed"}), (self.raw, {"state": "failed"})]

    def _sorted_names(self, collection: Collection, conditions: list[Document]) -> Iterator[str]:
        shown = {"_id": 0, "source_name": 1}
        found = collection.find(_all_of(conditions), shown).sort("source_name", 1).max_time_ms(TIME_LIMIT_MS)
        return (str(document["source_name"]) for document in found)

    def _having(self, which: Which, names: Sequence[str], runs: Runs) -> set[str]:
        """Return which of some sources have events, or failed."""
        return {
            name
            for collection, of_runs in self._places_of(which, runs)
            for chunk in _chunks(names)
            for name in self._sorted_names(collection, [of_runs, {"source_name": {"$in": chunk}}])
        }

    def events(self, names: Container[str], runs: Runs) -> dict[str, Events]:
        """Return the real events of some sources, by their names."""
        own: Document = {} if runs is None else {"run": {"$in": list(runs)}}
        chosen = {"$match": {"source_name": {"$in": list(names)}, "simulated": False, **own}}
        summed = {"$group": {"_id": "$source_name", "count": {"$sum": 1}, "strongest": {"$max": "$strength"}}}
        found = self.detections.aggregate([chosen, summed], maxTimeMS=TIME_LIMIT_MS)
        return {document["_id"]: Events(document["count"], document["strongest"]) for document in found}

    def failures(self, names: Container[str], runs: Runs) -> dict[str, list[tuple[str, str]]]:
        """Return what failed with some sources: project or observatory, and the reason; by their names."""
        found: dict[str, list[tuple[str, str]]] = {}
        for collection, of_runs in self._places_of("failed", runs):
            query = _all_of([of_runs, {"source_name": {"$in": list(names)}}])
            for document in collection.find(query).sort("_id", 1).max_time_ms(TIME_LIMIT_MS):
                where = str(document.get("run") or document.get("observatory") or "")
                found.setdefault(document["source_name"], []).append((where, str(document.get("reason") or "")))
        return found


def _all_of(conditions: Sequence[Document]) -> dict[str, Any]:
    return {"$and": list(conditions)} if conditions else {}


def _chunks(names: Iterable[str]) -> Iterator[list[str]]:
    names = iter(names)
    while chunk := list(islice(names, CHUNK)):
        yield chunk


def _page(found: Sequence[Document], limit: int, count: int, cap: int) -> SourcePage:
    shown = found[:limit]
    return SourcePage(tuple(shown), count, count >= cap, shown[-1]["_id"] if len(found) > limit else "")

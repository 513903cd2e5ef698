"""Search for survey sources by name, position, detections and failures, among those that a user may see.

No text of a user reaches the database as an operator, and every query has a time limit and a largest number of results.
Sources in a cone are sorted by distance, those with detections by S/N, all others by name, as the indexes provide.
"""

import math
from collections.abc import Collection as Container
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Literal

from pymongo.collection import Collection
from pymongo.database import Database

from obsarchive.store.search import COUNT_CAP, MAX_PAGE, TIME_LIMIT_MS, Cone, CursorError
from obsarchive.store.step_records import Document

CHUNK = 1000
"""Largest number of sources that share an alias."""
MOST_GATHERED = 5001
"""Largest number of results of a search by cone, events or failures."""
NAME_ONLY = {"_id": 0, "source_name": 1}
EARTH_M = 6378100.0
"""Radius of the Earth by which MongoDB converts metres to angles [m]."""

Which = Literal["", "detected", "failed"]
Runs = Sequence[str] | None
"""Projects whose sources the user may see; None: all, and sources without a project."""


@dataclass(frozen=True)
class SourceCriteria:
    """Search criteria; empty ones do not restrict.

    Parameters
    ----------
    name : str
        Beginning of the name, or an alias.
    cone : Cone, optional
        Region of the sky.
    which : str
        ``detected``: with real events; ``failed``: whose photometry or analysis failed.
    """

    name: str = ""
    cone: Cone | None = None
    which: Which = ""

    def conditions(self, runs: Runs) -> list[Document]:
        """Return the filters on sources, without those of the cone and of the events."""
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
    """Number of all results, up to a cap."""
    is_capped: bool = False
    """Whether there are more results than were counted."""
    following: str = ""
    """Mark of the next page; empty on the last one."""


@dataclass(frozen=True)
class Events:
    """Number of real events of a source, and the S/N of the strongest."""

    count: int
    strongest: float


class Sources:
    """Read access to the sources of surveys, for searches."""

    def __init__(self, database: Database[Document]) -> None:
        self.sources: Collection[Document] = database["sources"]
        self.raw: Collection[Document] = database["raw_photometry"]
        self.detections: Collection[Document] = database["detections"]
        self.properties: Collection[Document] = database["properties"]

    def find(self, name: str, runs: Runs) -> Document | None:
        """Return a source that belongs to a visible project.

        Parameters
        ----------
        name : str
            Name of the source.
        runs : sequence of str or None
            Projects that the user may see; None: all.

        Returns
        -------
        dict or None
        """
        return self.sources.find_one(_all_of([{"_id": name}, *SourceCriteria().conditions(runs)]))

    def page(self, runs: Runs, wanted: SourceCriteria, limit: int, cursor: str = "") -> SourcePage:
        """Return a page of sources: in a cone by distance, with events the strongest first, else by name.

        Parameters
        ----------
        runs : sequence of str or None
            Projects that the user may see; None: all.
        wanted : SourceCriteria
            Search criteria.
        limit : int
            Number of sources on a page.
        cursor : str
            Mark of the page; empty: the first.

        Returns
        -------
        SourcePage

        Raises
        ------
        CursorError
            `cursor` is not the mark of a page.
        """
        limit = max(1, min(limit, MAX_PAGE))
        if wanted.cone is None and not wanted.which:
            return self._by_name(runs, wanted, limit, cursor)
        if cursor and not (cursor.isascii() and cursor.isdecimal() and int(cursor) < MOST_GATHERED):
            raise CursorError(f"{cursor[:40]!r} is no mark of a page")
        start = int(cursor or 0)
        names, is_capped = self._gathered(runs, wanted)
        shown = names[start : start + limit]
        known = {found["_id"]: found for found in self.sources.find({"_id": {"$in": shown}})}
        following = str(start + limit) if start + limit < len(names) else ""
        return SourcePage(tuple(known[name] for name in shown if name in known), len(names), is_capped, following)

    def _by_name(self, runs: Runs, wanted: SourceCriteria, limit: int, cursor: str) -> SourcePage:
        conditions = wanted.conditions(runs)
        beyond: list[Document] = [{"_id": {"$gt": cursor}}] if cursor else []
        query = _all_of([*conditions, *beyond])
        found = list(self.sources.find(query).sort("_id", 1).limit(limit + 1).max_time_ms(TIME_LIMIT_MS))
        count, shown = len(found), found[:limit]
        if cursor or count > limit:
            count = self.sources.count_documents(_all_of(conditions), limit=COUNT_CAP, maxTimeMS=TIME_LIMIT_MS)
        return SourcePage(tuple(shown), count, count >= COUNT_CAP, shown[-1]["_id"] if len(found) > limit else "")

    def _gathered(self, runs: Runs, wanted: SourceCriteria) -> tuple[list[str], bool]:
        """Return the names of sources in their order, and whether there may be more."""
        if wanted.cone is not None:
            names = [found["_id"] for found in self._by_distance(wanted, runs, MOST_GATHERED, {"_id": 1})]
            having = self._having(wanted.which, names, runs) if wanted.which else set(names)
        else:
            stream = self._by_strength if wanted.which == "detected" else self._failed
            names = list(islice(stream(wanted, runs), MOST_GATHERED))
            query = _all_of([{"_id": {"$in": names}}, *wanted.conditions(runs)])
            having = {found["_id"] for found in self.sources.find(query, {"_id": 1}).max_time_ms(TIME_LIMIT_MS)}
        return [name for name in names if name in having], len(names) >= MOST_GATHERED

    def near(self, runs: Runs, cone: Cone, most: int) -> list[Document]:
        """Return the sources within a cone, by distance.

        Parameters
        ----------
        runs : sequence of str or None
            Projects that the user may see; None: all.
        cone : Cone
            Region of the sky.
        most : int
            Largest number of sources.

        Returns
        -------
        list of dict
        """
        return list(self._by_distance(SourceCriteria(cone=cone), runs, most, None))

    def _by_distance(
        self, wanted: SourceCriteria, runs: Runs, most: int, fields: Document | None
    ) -> Iterator[Document]:
        cone = wanted.cone or Cone(0.0, 0.0, 0.0)
        longitude = (cone.ra_deg + 180.0) % 360.0 - 180.0
        centre = {"type": "Point", "coordinates": [longitude, cone.dec_deg]}
        reach = math.radians(cone.radius_deg) * EARTH_M
        place: Document = {"geojson": {"$nearSphere": {"$geometry": centre, "$maxDistance": reach}}}
        query = _all_of([place, *wanted.conditions(runs)])
        return iter(self.sources.find(query, fields).limit(most).max_time_ms(TIME_LIMIT_MS))

    def _by_strength(self, wanted: SourceCriteria, runs: Runs) -> Iterator[str]:
        """Yield names of sources with events, that with the strongest first."""
        query = _all_of([*self._of_runs(self.detections, runs), {"simulated": False}, *self._named(wanted)])
        found = self.detections.find(query, NAME_ONLY).sort([("strength", -1), ("source_name", 1)])
        seen: set[str] = set()
        for document in found.max_time_ms(TIME_LIMIT_MS):
            if document["source_name"] not in seen:
                seen.add(document["source_name"])
                yield document["source_name"]

    def _failed(self, wanted: SourceCriteria, runs: Runs) -> Iterator[str]:
        """Yield names of failed sources, in their order."""
        streams = []
        for collection, conditions in self._failures(runs):
            query = _all_of([*conditions, *self._named(wanted)])
            found = collection.find(query, NAME_ONLY).sort("source_name", 1).max_time_ms(TIME_LIMIT_MS)
            streams.append(map(itemgetter("source_name"), found))
        for name, _ in groupby(merge(*streams)):
            yield name

    def _named(self, wanted: SourceCriteria) -> list[Document]:
        """Return the filter on the names of sources in collections of results."""
        if not wanted.name:
            return []
        return [source_names(self.sources, wanted.name)]

    @staticmethod
    def _of_runs(collection: Collection[Document], runs: Runs) -> list[Document]:
        # with all runs named, as the index begins with the run
        return [{"run": {"$in": collection.distinct("run") if runs is None else list(runs)}}]

    def _failures(self, runs: Runs) -> list[tuple[Collection[Document], list[Document]]]:
        """Return the collections that record failures, with the filters that find them."""
        failed: Document = {"state": "failed"}
        return [(self.properties, [*self._of_runs(self.properties, runs), failed]), (self.raw, [failed])]

    def _having(self, which: Which, names: Sequence[str], runs: Runs) -> set[str]:
        """Return which of some sources have events, or failed."""
        if which == "detected":
            return self.events(names, runs).keys() & set(names)
        return self.failures(names, runs).keys() & set(names)

    def events(self, names: Container[str], runs: Runs) -> dict[str, Events]:
        """Return the real events of some sources.

        Parameters
        ----------
        names : collection of str
            Names of the sources.
        runs : sequence of str or None
            Projects that the user may see; None: all.

        Returns
        -------
        dict of str to Events
            By the name of the source; without events there is no entry.
        """
        own: Document = {} if runs is None else {"run": {"$in": list(runs)}}
        chosen = {"$match": {"source_name": {"$in": list(names)}, "simulated": False, **own}}
        summed = {"$group": {"_id": "$source_name", "count": {"$sum": 1}, "strongest": {"$max": "$strength"}}}
        found = self.detections.aggregate([chosen, summed], maxTimeMS=TIME_LIMIT_MS)
        return {document["_id"]: Events(document["count"], document["strongest"]) for document in found}

    def failures(self, names: Container[str], runs: Runs) -> dict[str, list[tuple[str, str]]]:
        """Return the failures of some sources.

        Parameters
        ----------
        names : collection of str
            Names of the sources.
        runs : sequence of str or None
            Projects that the user may see; None: all.

        Returns
        -------
        dict of str to list of (str, str)
            Project or observatory, and the reason; by the name of the source.
        """
        found: dict[str, list[tuple[str, str]]] = {}
        for collection, conditions in self._failures(runs):
            query = _all_of([*conditions, {"source_name": {"$in": list(names)}}])
            for document in collection.find(query).sort("_id", 1).max_time_ms(TIME_LIMIT_MS):
                where = str(document.get("run") or document.get("observatory") or "")
                found.setdefault(document["source_name"], []).append((where, str(document.get("reason") or "")))
        return found


def source_names(sources: Collection[Document], name: str) -> Document:
    """Return the filter of results of the sources whose name begins so, or that have another name.

    Parameters
    ----------
    sources : Collection
        The collection ``sources``.
    name : str
        The beginning of a name, or an alias.

    Returns
    -------
    dict
    """
    others = sources.find({"aliases": name}, {"_id": 1}).limit(CHUNK)
    other_names: Document = {"source_name": {"$in": [found["_id"] for found in others]}}
    return {"$or": [{"source_name": _beginning(name)}, other_names]}


def _all_of(conditions: Sequence[Document]) -> dict[str, Any]:
    return {"$and": list(conditions)} if conditions else {}

"""Observations and nights for tables of files: restrictions as typed values, and streams of what a user may see.

A restriction may let too much pass, never too little: who asks evaluates the rest on what comes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, TypeAlias

from bson import MinKey
from pymongo.collection import Collection

from obsarchive.core import document_paths as paths
from obsarchive.core.document_paths import PipelinePaths
from obsarchive.core.documents import Night, Observation
from obsarchive.store.portal_queries import Browse
from obsarchive.store.search import Cone
from obsarchive.store.step_records import Document
from obsarchive.store.visibility import visible_where

_OF_OBSERVATIONS = {"fits_header": 0, "remembered": 0, paths.GEOJSON: 0}
_MASTERS = PipelinePaths.of_night("calib").steps
_OF_NIGHTS = {_MASTERS: 1}
_BATCH = 40
"""Observations that the database sends at once: few rows are often all that is wanted."""
_MOST_NIGHTS_AT_ONCE = 200
POLE_DEG = 80.0
"""Beyond this declination right ascensions do not restrict: a small field may have any."""


@dataclass(frozen=True)
class AnyOf:
    """Values that a field may have."""

    path: str
    values: tuple[str | None, ...]

    def query(self) -> Document:
        """Return the filter."""
        return {self.path: {"$in": list(self.values)}}


@dataclass(frozen=True)
class Within:
    """Limits of a field, both included; None: no limit."""

    path: str
    low: float | datetime | None
    high: float | datetime | None

    def query(self) -> Document:
        """Return the filter."""
        bounds = {"$gte": self.low, "$lte": self.high}
        return {self.path: {key: value for key, value in bounds.items() if value is not None}}


@dataclass(frozen=True)
class RightAscension:
    """Limits of right ascensions [deg], with a margin that goes across 0 h."""

    low: float
    high: float
    margin_deg: float

    def query(self) -> Document:
        """Return the filter."""
        margin = self.margin_deg / 0.17  # cosine of `POLE_DEG`
        inside = {paths.RA_DEG: {"$gte": self.low - margin, "$lte": self.high + margin}}
        beyond: list[Document] = [{paths.DEC_DEG: {"$gt": POLE_DEG}}, {paths.DEC_DEG: {"$lt": -POLE_DEG}}]
        if self.high > 360 - margin:
            beyond.append({paths.RA_DEG: {"$lte": margin}})
        if self.low < margin:
            beyond.append({paths.RA_DEG: {"$gte": 360 - margin}})
        return {"$or": [inside, *beyond]}


@dataclass(frozen=True)
class Containing:
    """A text that a field contains, or begins with."""

    path: str
    text: str
    at_start: bool
    ignore_case: bool = False

    def query(self) -> Document:
        """Return the filter; the date is true of all and lets the index of searches look at names."""
        pattern = {"$regex": ("^" if self.at_start else "") + re.escape(self.text)}
        options = {"$options": "i"} if self.ignore_case else {}
        return {self.path: {**pattern, **options}, "date_utc": {"$gte": MinKey()}}


@dataclass(frozen=True)
class AllParts:
    """Restrictions that must all hold."""

    parts: "tuple[Restriction, ...]"

    def query(self) -> Document:
        """Return the filter."""
        return {"$and": [part.query() for part in self.parts]}


@dataclass(frozen=True)
class AnyPart:
    """Restrictions of which one must hold."""

    parts: "tuple[Restriction, ...]"

    def query(self) -> Document:
        """Return the filter."""
        return {"$or": [part.query() for part in self.parts]}


Restriction: TypeAlias = AnyOf | Within | RightAscension | Containing | Cone | AllParts | AnyPart

NOTHING = AnyOf("_id", ())
"""What no observation fulfils."""


class FileQueries:
    """Streams of observations and nights.

    Parameters
    ----------
    observations : Collection
        The collection ``objects``.
    nights : Collection
        The collection ``aux``.
    browse : Browse
        Says in which nights a user has data.
    """

    def __init__(self, observations: Collection[Document], nights: Collection[Document], browse: Browse) -> None:
        self._observations, self._nights, self._browse = observations, nights, browse

    def observations(
        self,
        user: Mapping[str, Any],
        restriction: Restriction | None,
        order: Sequence[tuple[str, int]],
        time_limit_ms: int,
    ) -> Iterator[Observation]:
        """Yield the observations that a user may see.

        Parameters
        ----------
        user : mapping
            Document of the user.
        restriction : Restriction, optional
            What they must fulfil.
        order : sequence of (str, int)
            Fields to sort by, and 1 or -1 for descending; empty: any order.
        time_limit_ms : int
            Longest time that the database may work on it [ms].

        Yields
        ------
        Observation
        """
        query = visible_where(user, [restriction.query()] if restriction else [])
        found = self._observations.find(query, _OF_OBSERVATIONS).max_time_ms(time_limit_ms).batch_size(_BATCH)
        for document in found.sort(list(order)) if order else found:
            yield Observation(document)

    def observation(self, user: Mapping[str, Any], obs_id: str) -> Observation | None:
        """Return an observation that a user may see, or None."""
        return next(self.observations(user, AnyOf("_id", (obs_id,)), (), 5000), None)

    def nights(self, user: Mapping[str, Any], descending: bool) -> Iterator[Night]:
        """Yield the nights in which a user has data, with their master darks and flats.

        Parameters
        ----------
        user : mapping
            Document of the user.
        descending : bool
            Whether the newest comes first.

        Yields
        ------
        Night
        """
        found = iter(self._nights.find({_MASTERS: {"$exists": True}}, _OF_NIGHTS).sort("_id", -1 if descending else 1))
        size = 2  # the first nights are often all that is wanted
        while batch := list(islice(found, size)):
            yield from self._visible(user, batch)
            size = min(4 * size, _MOST_NIGHTS_AT_ONCE)

    def _visible(self, user: Mapping[str, Any], batch: Sequence[Document]) -> Iterator[Night]:
        visible = self._browse.nights_of(user, [str(document["_id"]) for document in batch])
        yield from (Night(document) for document in batch if document["_id"] in visible)

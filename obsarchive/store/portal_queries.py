"""Queries of the portal; every query starts from what the user may see."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import ExecutionTimeout, OperationFailure

from obsarchive.core import document_paths as paths
from obsarchive.core.documents import Night, Observation
from obsarchive.core.natural_order import natural
from obsarchive.core.target_names import folded
from obsarchive.store.foreign_names import observations_with, only_visible
from obsarchive.store.search import COUNT_CAP, LOOK_UP, MAX_PAGE, TIME_LIMIT_MS, Criteria, Order, Page
from obsarchive.store.step_records import Document
from obsarchive.store.visibility import is_admin, naming, programs_of, visible_to, visible_where
from obsarchive.store.visible_values import programs_naming, visible_values

RARE = 1000
"""Observations that are read to find the newest of them; of more, the index by date is followed."""
BATCH = 500
"""Documents of an export whose names of observations are looked up at once."""

_OF_RAW_FILES = {paths.RAW_DATA: 0, paths.RAW_LOCATION: 0, paths.RAW_SIGNATURE: 0, paths.RAW_CHANGED: 0}
_NOT_LISTED = {"fits_header": 0, paths.GEOJSON: 0, **_OF_RAW_FILES}
"""Parts of an observation that a list never shows."""


class Browse:
    """Observations and nights as one user sees them.

    Parameters
    ----------
    observations : Collection
        The collection ``objects``.
    nights : Collection
        The collection ``aux``.
    """

    def __init__(self, observations: Collection[Document], nights: Collection[Document]) -> None:
        self.observations = observations
        self.nights = nights

    def _first_night(self, user: Mapping[str, Any], order: int, **bound: Any) -> str | None:
        query = {"$and": [visible_to(user), {"night": {"$type": "string", **bound}}]}
        found = self.observations.find(query, {"night": 1}).sort("night", order).limit(1).max_time_ms(TIME_LIMIT_MS)
        return next((document["night"] for document in found), None)

    def last_night(self, user: Mapping[str, Any]) -> str | None:
        """Return the newest night with data that `user` may see."""
        return self._first_night(user, -1)

    def neighbours(self, user: Mapping[str, Any], night: str) -> tuple[str | None, str | None]:
        """Return the nights before and after a night with data that a user may see.

        Parameters
        ----------
        user : mapping
            Document of the user.
        night : str
            The night, ``yyyymmdd``.

        Returns
        -------
        (str or None, str or None)
        """
        return self._first_night(user, -1, **{"$lt": night}), self._first_night(user, 1, **{"$gt": night})

    def of_night(self, user: Mapping[str, Any], night: str, without: Iterable[str] = ()) -> list[Observation]:
        """Return the observations of a night that a user may see, in the order of time.

        Parameters
        ----------
        user : mapping
            Document of the user.
        night : str
            The night, ``yyyymmdd``.
        without : iterable of str, optional
            Paths of parts of the documents that need not be read.

        Returns
        -------
        list of Observation
        """
        query, omitted = {"$and": [visible_to(user), {"night": night}]}, {**_NOT_LISTED, **dict.fromkeys(without, 0)}
        found = self.observations.find(query, omitted).sort("date_utc", 1).max_time_ms(TIME_LIMIT_MS)
        return self._without_others(user, list(found))

    def without_others(self, user: Mapping[str, Any], value: Any) -> Any:
        """Return a value without names of observations that a user may not see.

        Parameters
        ----------
        user : mapping
            Document of the user.
        value : any
            Documents, lists and plain values, such as the manifest of a step.

        Returns
        -------
        any
            The same where nothing is hidden.
        """
        if is_admin(user):
            return value
        return only_visible(value, partial(self.visible, user))

    def _without_others(self, user: Mapping[str, Any], documents: list[Document]) -> list[Observation]:
        """Return observations as a user may see them."""
        return observations_with(documents, partial(self.without_others, user))

    def search(self, user: Mapping[str, Any], criteria: Criteria, order: Order, limit: int, cursor: str = "") -> Page:
        """Return a page of the observations that fulfil criteria and that a user may see.

        Parameters
        ----------
        user : mapping
            Document of the user.
        criteria : Criteria
            What the observations must fulfil.
        order : Order
            How they are sorted.
        limit : int
            Observations on the page, at most `MAX_PAGE`.
        cursor : str
            Mark of the page; empty for the first.

        Returns
        -------
        Page

        Raises
        ------
        CursorError
            `cursor` is not the mark of a page.
        """
        criteria = self._planned(criteria)
        wanted = criteria.query()
        query = visible_where(user, [*wanted, order.after(cursor)] if cursor else wanted, criteria.is_selective)
        limit = max(1, min(limit, MAX_PAGE))
        found = list(
            self.observations.find(query, _NOT_LISTED).sort(order.keys).limit(limit + 1).max_time_ms(TIME_LIMIT_MS)
        )
        more = len(found) > limit
        count = self._count(user, criteria) if cursor or more else len(found)
        shown = found[:limit]
        observations = self._without_others(user, shown)
        return Page(tuple(observations), count, order.cursor(shown[-1]) if more else "")

    def _count(self, user: Mapping[str, Any], criteria: Criteria) -> int:
        """Count the results of a search, up to `COUNT_CAP`.

        The database cannot foresee that one of its indexes answers without reading documents. It is named, and what
        users see as members of programmes and as PIs elsewhere is counted separately.
        """
        if criteria.is_looked_up and not criteria.is_selective and programs_of(user):
            try:
                return self._count_looked_up(user, criteria)
            except ExecutionTimeout:
                raise
            except OperationFailure:
                pass  # the daemon has not made the index yet
        query = visible_where(user, criteria.query(), criteria.is_selective)
        return self.observations.count_documents(query, limit=COUNT_CAP, maxTimeMS=TIME_LIMIT_MS)

    def _count_looked_up(self, user: Mapping[str, Any], criteria: Criteria) -> int:
        """Count the results that the index of programmes by date knows, then those elsewhere."""
        wanted, known = criteria.query(), programs_of(user)
        members: Document = {paths.PROGRAM_ID: {"$in": known}}
        elsewhere = [naming(user), {paths.PROGRAM_ID: {"$nin": known}}]
        count = self.observations.count_documents(
            {"$and": [members, *wanted]}, limit=COUNT_CAP, hint=LOOK_UP, maxTimeMS=TIME_LIMIT_MS
        )
        if count < COUNT_CAP:
            rest = {"$and": [*elsewhere, *wanted]}
            count += self.observations.count_documents(rest, limit=COUNT_CAP - count, maxTimeMS=TIME_LIMIT_MS)
        return count

    def _planned(self, criteria: Criteria) -> Criteria:
        """Return criteria that say whether many targets hold the part of a name."""
        if criteria.exact or not folded(criteria.name):
            return criteria
        found = self.observations.count_documents(criteria.rare_part(), limit=RARE + 1, maxTimeMS=TIME_LIMIT_MS)
        return replace(criteria, is_frequent=found > RARE)

    def finds_something(self, user: Mapping[str, Any], criteria: Criteria) -> bool:
        """Whether an observation that a user may see fulfils criteria."""
        criteria = self._planned(criteria)
        query = visible_where(user, criteria.query(), criteria.is_selective)
        return self.observations.find_one(query, {"_id": 1}, max_time_ms=TIME_LIMIT_MS) is not None

    def stream(
        self,
        user: Mapping[str, Any],
        criteria: Criteria,
        order: Order,
        limit: int,
        *,
        with_raw: bool = False,
        time_ms: int | None = None,
    ) -> Iterator[Observation]:
        """Yield observations one after the other, for exports.

        Parameters
        ----------
        user : mapping
            Document of the user.
        criteria : Criteria
            What the observations must fulfil.
        order : Order
            How they are sorted.
        limit : int
            At most so many.
        with_raw : bool, optional
            Also what is known of their raw files.
        time_ms : int, optional
            Longest time that the database may take [ms].

        Yields
        ------
        Observation
        """
        criteria = self._planned(criteria)
        query = visible_where(user, criteria.query(), criteria.is_selective)
        omitted = {key: 0 for key in _NOT_LISTED if not with_raw or key not in _OF_RAW_FILES}
        cursor = self.observations.find(query, omitted).sort(order.keys).limit(limit)
        found = iter(cursor if time_ms is None else cursor.max_time_ms(time_ms))
        while documents := list(islice(found, BATCH)):
            yield from self._without_others(user, documents)

    def values(self, user: Mapping[str, Any], field: str) -> list[str]:
        """Return the different values of an indexed text field of the observations that a user may see."""
        return visible_values(self.observations, user, field)

    def programs(self, user: Mapping[str, Any]) -> list[str]:
        """Return the programmes of which `user` may see observations, in their natural order."""
        if is_admin(user):
            return sorted(self.values(user, paths.PROGRAM_ID), key=natural)
        return sorted({*programs_of(user), *programs_naming(self.observations, user)}, key=natural)

    def calendar(self, user: Mapping[str, Any]) -> dict[str, int]:
        """Return the number of observations that `user` may see, by night."""
        counted = self.observations.aggregate(
            [
                {"$match": {"$and": [visible_to(user), {"night": {"$type": "string"}}]}},
                {"$group": {"_id": "$night", "count": {"$sum": 1}}},
                {"$sort": {"_id": 1}},
            ],
            maxTimeMS=TIME_LIMIT_MS,
        )
        return {entry["_id"]: entry["count"] for entry in counted}

    def ids_of_night(self, user: Mapping[str, Any], night: str) -> list[str]:
        """Return the names of the observations of a night that a user may see.

        Parameters
        ----------
        user : mapping
            Document of the user.
        night : str
            The night, ``yyyymmdd``.

        Returns
        -------
        list of str
        """
        query = {"$and": [visible_to(user), {"night": night}]}
        return [found["_id"] for found in self.observations.find(query, {"_id": 1}).max_time_ms(TIME_LIMIT_MS)]

    def observation(self, user: Mapping[str, Any], obs_id: str) -> Observation | None:
        """Return the whole document of an observation.

        Parameters
        ----------
        user : mapping
            Document of the user.
        obs_id : str
            Name of the observation.

        Returns
        -------
        Observation or None
            None if there is none or the user may not see it.
        """
        query = {"$and": [visible_to(user), {"_id": obs_id}]}
        document = self.observations.find_one(query, max_time_ms=TIME_LIMIT_MS)
        return self._without_others(user, [document])[0] if document else None

    def night(self, user: Mapping[str, Any], night: str) -> Night | None:
        """Return the document of a night in which a user has data (administrators: of any night).

        Parameters
        ----------
        user : mapping
            Document of the user.
        night : str
            The night, ``yyyymmdd``.

        Returns
        -------
        Night or None
            None if there is none or the user may not see it.
        """
        query = {"$and": [visible_to(user), {"night": night}]}
        if not is_admin(user) and self.observations.find_one(query, {"_id": 1}, max_time_ms=TIME_LIMIT_MS) is None:
            return None
        document = self.nights.find_one({"_id": night}, {paths.SEEING_FRAMES: 0}, max_time_ms=TIME_LIMIT_MS)
        return Night(self.without_others(user, document)) if document else None

    def sees_all_of(self, user: Mapping[str, Any], night: str) -> bool:
        """Return whether a user may see every observation of a night, hence what was made from all of them.

        Parameters
        ----------
        user : mapping
            Document of the user.
        night : str
            The night, ``yyyymmdd``.

        Returns
        -------
        bool
        """
        if is_admin(user):
            return True
        foreign = {"$and": [{"night": night}, {"$nor": [visible_to(user)]}]}
        return self.observations.find_one(foreign, {"_id": 1}, max_time_ms=TIME_LIMIT_MS) is None

    def visible(self, user: Mapping[str, Any], ids: Iterable[str]) -> set[str]:
        """Return those of some observations that a user may see.

        Parameters
        ----------
        user : mapping
            Document of the user.
        ids : iterable of str
            Names of observations.

        Returns
        -------
        set of str
        """
        query = {"$and": [visible_to(user), {"_id": {"$in": list(ids)}}]}
        return {document["_id"] for document in self.observations.find(query, {"_id": 1}).max_time_ms(TIME_LIMIT_MS)}

    def nights_by_id(self, user: Mapping[str, Any], ids: Iterable[str]) -> dict[str, str]:
        """Return the nights of those of some observations that a user may see, by their names.

        Parameters
        ----------
        user : mapping
            Document of the user.
        ids : iterable of str
            Names of observations.

        Returns
        -------
        dict of str to str
        """
        query = {"$and": [visible_to(user), {"_id": {"$in": list(ids)}}]}
        found = self.observations.find(query, {"night": 1}).max_time_ms(TIME_LIMIT_MS)
        return {observation.id: observation.night for observation in map(Observation, found)}

    def nights_of(self, user: Mapping[str, Any], nights: Iterable[str]) -> set[str]:
        """Return those of some nights in which a user may see data.

        Parameters
        ----------
        user : mapping
            Document of the user.
        nights : iterable of str
            Nights, ``yyyymmdd``.

        Returns
        -------
        set of str
        """
        query = {"$and": [visible_to(user), {"night": {"$in": list(nights)}}]}
        return set(self.observations.distinct("night", query, maxTimeMS=TIME_LIMIT_MS))

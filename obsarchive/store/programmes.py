"""Programmes: what administrators say of them, and which of their observations are public."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo.collection import Collection

from obsarchive.core import document_paths as paths
from obsarchive.core.documents import Observation, utc_now
from obsarchive.core.release import NEVER, Period, Programme, Release, released_before
from obsarchive.store.foreign_names import observations_with, only_visible
from obsarchive.store.search import COUNT_CAP, MAX_PAGE, TIME_LIMIT_MS, Order, Page
from obsarchive.store.step_records import Document
from obsarchive.store.visibility import visible_to
from obsarchive.store.visible_values import of_program


@dataclass(frozen=True)
class Overview:
    """What a user may see of a programme: observations, counted up to a cap, and the newest night; empty without."""

    observations: int
    is_capped: bool
    last_night: str


class Programmes:
    """The collection ``programmes``, and counts of the observations of programmes.

    Parameters
    ----------
    collection : Collection
        The collection.
    observations : Collection
        The collection ``objects``.
    """

    def __init__(self, collection: Collection[Document], observations: Collection[Document]) -> None:
        self.collection, self.observations = collection, observations

    def find(self, program: str) -> Programme:
        """Return a programme; one without an entry has empty fields."""
        return Programme.from_document(program, self.collection.find_one({"_id": program}))

    def all(self) -> dict[str, Programme]:
        """Return the programmes with an entry, by their identifiers."""
        return {found["_id"]: Programme.from_document(found["_id"], found) for found in self.collection.find({})}

    def is_known(self, program: str) -> bool:
        """Whether a programme has an entry or an observation."""
        query = {paths.PROGRAM_ID: program}
        return (
            self.collection.find_one({"_id": program}, {"_id": 1}) is not None
            or self.observations.find_one(query, {"_id": 1}, max_time_ms=TIME_LIMIT_MS) is not None
        )

    def save(self, program: str, fields: Mapping[str, Any], who: str) -> None:
        """Set fields of a programme; create its entry if there is none.

        Parameters
        ----------
        program : str
            Identifier of the programme.
        fields : mapping
            Values by the names of the fields.
        who : str
            User who changes them.
        """
        about = {"last_modified": utc_now(), "changed_by": who}
        self.collection.update_one({"_id": program}, {"$set": {**fields, **about}}, upsert=True)

    def release(self, default: Period | None) -> Release:
        """Return the rule by which observations become public.

        Parameters
        ----------
        default : int, "never" or None
            Proprietary period of programmes without one of their own; None: they stay private.

        Returns
        -------
        Release
        """
        own = {program: found.period for program, found in self.all().items() if found.period is not None}
        return Release(NEVER if default is None else default, own)

    def overview(self, user: Mapping[str, Any], program: str) -> Overview:
        """Count what a user may see of a programme."""
        query = {**of_program(user, program), "night": {"$type": "string"}}
        last = self.observations.find_one(query, {"night": 1}, sort=[("date_utc", -1)], max_time_ms=TIME_LIMIT_MS)
        count = self.observations.count_documents(of_program(user, program), limit=COUNT_CAP, maxTimeMS=TIME_LIMIT_MS)
        return Overview(count, count >= COUNT_CAP, last["night"] if last else "")

    def months(self, user: Mapping[str, Any], program: str) -> list[Document]:
        """Return what a user may see of a programme, month by month, the newest first.

        Parameters
        ----------
        user : mapping
            Document of the user.
        program : str
            Identifier of the programme.

        Returns
        -------
        list of dict
            ``month`` (``yyyymm``), numbers of ``observations`` and ``nights``, ``exposure_s`` [s], ``first`` and
            ``last`` night.
        """
        stages: list[Document] = [
            {"$match": {"$and": [visible_to(user), {paths.PROGRAM_ID: program, "night": {"$type": "string"}}]}},
            {
                "$group": {
                    "_id": "$night",
                    "observations": {"$sum": 1},
                    "exposure_s": {"$sum": "$exposure_s"},
                }
            },
            {
                "$group": {
                    "_id": {"$substrCP": ["$_id", 0, 6]},
                    "observations": {"$sum": "$observations"},
                    "exposure_s": {"$sum": "$exposure_s"},
                    "nights": {"$sum": 1},
                    "first": {"$min": "$_id"},
                    "last": {"$max": "$_id"},
                }
            },
            {"$sort": {"_id": -1}},
        ]
        found = self.observations.aggregate(stages, maxTimeMS=TIME_LIMIT_MS)
        return [{"month": entry["_id"], **entry} for entry in found]


class PublicObservations:
    """Observations that anybody may see.

    Parameters
    ----------
    observations : Collection
        The collection ``objects``.
    """

    def __init__(self, observations: Collection[Document]) -> None:
        self.observations = observations

    def find(self, release: Release, obs_id: str, now: datetime) -> Observation | None:
        """Return an observation.

        Parameters
        ----------
        release : Release
            The rule by which observations become public.
        obs_id : str
            Name of the observation.
        now : datetime
            The present time.

        Returns
        -------
        Observation or None
            None if there is none, or it is not public.
        """
        query = {"$and": [{"_id": obs_id}, public(release, now)]}
        document = self.observations.find_one(query, max_time_ms=TIME_LIMIT_MS)
        return self._without_private([document], release, now)[0] if document else None

    def page(self, release: Release, now: datetime, limit: int, cursor: str = "", program: str = "") -> Page:
        """Return a page of the public observations, the newest first.

        Parameters
        ----------
        release : Release
            The rule by which observations become public.
        now : datetime
            The present time.
        limit : int
            Observations on the page.
        cursor : str, optional
            Mark of the page; empty for the first.
        program : str, optional
            Only those of this programme.

        Returns
        -------
        Page
            Its count is that of the page.

        Raises
        ------
        CursorError
            `cursor` is not the mark of a page.
        """
        order, limit = Order(), min(limit, MAX_PAGE)
        conditions = [public(release, now), *([order.after(cursor)] if cursor else [])]
        conditions += [{paths.PROGRAM_ID: program}] if program else []
        fields = {"fits_header": 0, "raw_data": 0, "pipelined": 0}
        found = list(
            self.observations.find({"$and": conditions}, fields)
            .sort(order.keys)
            .limit(limit + 1)
            .max_time_ms(TIME_LIMIT_MS)
        )
        shown = found[:limit]
        following = order.cursor(shown[-1]) if len(found) > limit else ""
        return Page(tuple(map(Observation, shown)), len(shown), following)

    def count(self, release: Release, now: datetime, program: str) -> int:
        """Count the public observations of a programme.

        Parameters
        ----------
        release : Release
            The rule by which observations become public.
        now : datetime
            The present time.
        program : str
            Identifier of the programme.

        Returns
        -------
        int
        """
        query = {"$and": [{paths.PROGRAM_ID: program}, public(release, now)]}
        return self.observations.count_documents(query, maxTimeMS=TIME_LIMIT_MS)

    def _without_private(self, documents: Sequence[Document], release: Release, now: datetime) -> list[Observation]:
        """Return observations without names of those that are not public."""

        def visible_of(named: Set[str]) -> Set[str]:
            query = {"$and": [{"_id": {"$in": list(named)}}, public(release, now)]}
            return {found["_id"] for found in self.observations.find(query, {"_id": 1}).max_time_ms(TIME_LIMIT_MS)}

        return observations_with(documents, lambda value: only_visible(value, visible_of))


def public(release: Release, now: datetime) -> Document:
    """Return the filter of the observations that are public.

    Parameters
    ----------
    release : Release
        The rule by which observations become public.
    now : datetime
        The present time.

    Returns
    -------
    dict
    """
    allowed: list[Document] = [
        {paths.PROGRAM_ID: program, "date_utc": {"$lt": released_before(now, period)}}
        for program, period in release.periods.items()
        if period != NEVER
    ]
    if release.default != NEVER:
        others = {"$type": "string", "$nin": ["", *release.periods]}
        allowed.append({paths.PROGRAM_ID: others, "date_utc": {"$lt": released_before(now, release.default)}})
    return {"$or": allowed} if allowed else {"_id": {"$in": []}}

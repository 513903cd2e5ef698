"""Steps that have no products now, as one user sees them: the present, not what attempts once ended with."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo.collection import Collection

from obsarchive.core.document_paths import RAW_MISSING, PipelinePaths
from obsarchive.core.documents import Night, Observation, StepRecord
from obsarchive.core.step_state import State
from obsarchive.store.portal_queries import Browse
from obsarchive.store.search import TIME_LIMIT_MS
from obsarchive.store.step_records import Document, StepPath
from obsarchive.store.visibility import is_admin, visible_to

MOST_SUBJECTS = 5000
"""Observations, and nights, that are looked at."""
ENDED = (State.FAILED, State.REJECTED, State.LACKING)


@dataclass(frozen=True)
class StepProblem:
    """A step that ended without products, and what it belongs to."""

    subject: str
    name: str
    night: str
    path: StepPath
    record: StepRecord


class Problems:
    """Finds the steps that have failed, were rejected, or lack something.

    Parameters
    ----------
    browse : Browse
        What a user may see.
    """

    def __init__(self, browse: Browse) -> None:
        self.browse = browse
        self.observations, self.nights = browse.observations, browse.nights

    def of_observations(
        self, user: Mapping[str, Any], steps: Iterable[StepPath], since: datetime
    ) -> Iterator[StepProblem]:
        """Yield the problems of the observations that a user may see, the newest first.

        Parameters
        ----------
        user : mapping
            Document of the user.
        steps : iterable of (str, str)
            Pipelines of observations and their steps.
        since : datetime
            Rejected steps, and those that lack something, count if they ended after this; failed ones always.

        Yields
        ------
        StepProblem
        """
        paths = {path: PipelinePaths.of_observation(path[0]) for path in steps}
        query = {"$and": [visible_to(user), _any_of(paths, since)]}
        for document in self.browse.without_others(user, list(_found(self.observations, query, paths))):
            found = Observation(document)
            if found.raw_missing and not any(found.pipeline(p).step(s).state is State.DONE for p, s in paths):
                continue  # nothing was made of files that are gone: nobody can mend that
            name = str(document.get("name") or found.id)
            yield from _problems(found, name, found.night, paths, since)

    def of_nights(self, user: Mapping[str, Any], steps: Iterable[StepPath], since: datetime) -> Iterator[StepProblem]:
        """Yield the problems of the nights in which a user has data, the newest first; arguments as above."""
        paths = {path: PipelinePaths.of_night(path[0]) for path in steps}
        found = self.browse.without_others(user, list(_found(self.nights, _any_of(paths, since), paths)))
        nights = [Night(document) for document in found]
        if not is_admin(user):
            query = {"$and": [visible_to(user), {"night": {"$in": [night.id for night in nights]}}]}
            mine = set(self.observations.distinct("night", query, maxTimeMS=TIME_LIMIT_MS))
            nights = [night for night in nights if night.id in mine]
        for night in nights:
            yield from _problems(night, night.id, night.id, paths, since)


def _any_of(paths: Mapping[StepPath, PipelinePaths], since: datetime) -> Document:
    """Return the condition that some step has a problem; it names the bound of the partial indexes of the states."""
    alternatives: list[Document] = []
    for (_, step), at in paths.items():
        state, finished = at.step(step, "state"), at.step(step, "finished")
        bound = {"$gt": str(State.DONE)}
        alternatives.append({state: {**bound, "$eq": str(State.FAILED)}})
        given_up = [str(State.REJECTED), str(State.LACKING)]
        alternatives.append({state: {**bound, "$in": given_up}, finished: {"$not": {"$lt": since}}})
    return {"$or": alternatives} if alternatives else {"_id": None}


def _found(
    collection: Collection[Document], query: Mapping[str, Any], paths: Mapping[StepPath, PipelinePaths]
) -> list[Document]:
    fields = {"name": 1, "night": 1, "date_utc": 1, RAW_MISSING: 1}
    for (_, step), at in paths.items():
        fields |= {at.step(step, key): 1 for key in ("state", "message", "finished", "retries", "lacks")}
    found = collection.find(query, fields).limit(MOST_SUBJECTS).max_time_ms(TIME_LIMIT_MS)
    return sorted(found, key=lambda document: (str(document.get("night", "")), str(document["_id"])), reverse=True)


def _problems(
    subject: Observation | Night, name: str, night: str, paths: Iterable[StepPath], since: datetime
) -> Iterator[StepProblem]:
    for path in paths:
        record = subject.pipeline(path[0]).step(path[1])
        is_old = record.finished is not None and record.finished < since
        if record.state is State.FAILED or (record.state in ENDED and not is_old):
            yield StepProblem(subject.id, name, night, path, record)

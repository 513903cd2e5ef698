"""Numbers for monitoring: counts and times only, no name of an observation or a person."""

from collections.abc import Iterable
from datetime import datetime

from pymongo import timeout
from pymongo.collection import Collection

from obsarchive.core import document_paths as paths
from obsarchive.core.document_paths import PipelinePaths
from obsarchive.core.step_state import State
from obsarchive.core.values import as_time
from obsarchive.store.step_records import Document, StepPath

TIME_LIMIT_MS = 4000
COUNT_LIMIT_S = 60.0
"""Counting steps takes 3 s for 100 000 observations."""


class Monitoring:
    """What the collections hold, in numbers.

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

    def count_observations(self) -> int:
        """Return the number of observations."""
        return self.observations.estimated_document_count(maxTimeMS=TIME_LIMIT_MS)

    def count_nights(self) -> int:
        """Return the number of nights."""
        return self.nights.estimated_document_count(maxTimeMS=TIME_LIMIT_MS)

    def count_problems(self) -> int:
        """Return the number of raw files that are not understood."""
        counted = self.nights.aggregate(
            [
                {"$match": {paths.NIGHT_PROBLEMS_COUNT: {"$gt": 0}}},
                {"$group": {"_id": None, "count": {"$sum": f"${paths.NIGHT_PROBLEMS_COUNT}"}}},
            ],
            maxTimeMS=TIME_LIMIT_MS,
        )
        return sum(int(entry["count"]) for entry in counted)

    def count_states(self, scope: str, steps: Iterable[StepPath]) -> dict[tuple[StepPath, State], int]:
        """Return in how many documents a step is in each state.

        Parameters
        ----------
        scope : str
            ``observation`` or ``night``.
        steps : iterable of (str, str)
            Pipelines and steps.

        Returns
        -------
        dict of int
            By step and state; steps that have not begun and have no record are not counted.
        """
        by_text = {f"{pipeline}.{step}": (pipeline, step) for pipeline, step in steps}
        if not by_text:
            return {}
        collection, at = (
            (self.observations, PipelinePaths.of_observation)
            if scope == "observation"
            else (self.nights, PipelinePaths.of_night)
        )
        states = [_labelled(text, f"${at(path[0]).step(path[1], 'state')}") for text, path in by_text.items()]
        stages: list[Document] = [
            {"$project": {"_id": 0, "found": states}},
            {"$unwind": "$found"},
            {"$sortByCount": "$found"},
        ]
        with timeout(COUNT_LIMIT_S):
            counted = {str(entry["_id"]): int(entry["count"]) for entry in collection.aggregate(stages)}
        of_all = {(path, state): counted.get(f"{text} {state}") for text, path in by_text.items() for state in State}
        return {key: count for key, count in of_all.items() if count}

    def newest_raw_file(self) -> datetime | None:
        """Return when the newest raw file of the newest observation was written."""
        found = self.observations.find_one(
            {"date_utc": {"$type": "date"}}, {paths.RAW_CHANGED: 1}, sort=[("date_utc", -1)], max_time_ms=TIME_LIMIT_MS
        )
        return as_time(((found or {}).get("raw_data") or {}).get("last_modified"))

    def waits_longest(self) -> datetime | None:
        """Return since when the observation waits that waits longest to be complete: since it came or was asked for."""
        since = {"$max": ["$date_added", f"${paths.RAW_CHANGED}", f"${paths.PACKING_ASKED}"]}
        stages: list[Document] = [
            {"$match": {paths.PACKED: False}},
            {"$group": {"_id": None, "since": {"$min": since}}},
        ]
        found: Document = next(iter(self.observations.aggregate(stages, maxTimeMS=TIME_LIMIT_MS)), {})
        return as_time(found.get("since"))


def _labelled(text: str, field: str) -> Document:
    """Return the expression that puts a text before the state of a step; null where there is none."""
    return {"$cond": [{"$eq": [{"$type": field}, "string"]}, {"$concat": [text, " ", field]}, None]}

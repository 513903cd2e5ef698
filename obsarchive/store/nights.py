"""The collection ``aux`` (nights)."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property

import bson
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS as RAW_BSON_OPTIONS
from pymongo.errors import PyMongoError

from obsarchive.core import document_paths as paths
from obsarchive.core.documents import SCHEMA, Night, utc_now
from obsarchive.store.changes import Changes
from obsarchive.store.step_records import Document, StepPath, StepStore

_WITHOUT_LISTS = dict.fromkeys(
    (paths.SEEING_FRAMES, paths.SEEING_RESULTS, "psf_lib", paths.NIGHT_FILES, paths.NIGHT_PROBLEMS), 0
)
"""Projection of the documents of nights without their long lists."""
_TOO_FEW_FILES = re.compile(r"\d+ good files.*, \d+ needed \(calibration\.min_")
"""Reason of an earlier version for which a night has no master of its own."""


class Nights(StepStore):
    """The collection ``aux``: one document per night."""

    @cached_property
    def _changes(self) -> Changes:
        return Changes(self.collection)

    def all(self, nights: Sequence[str] | None = None) -> list[Night]:
        """Return the nights, newest first, without the long lists of seeing frames."""
        query: Document = {"_id": {"$in": list(nights)}} if nights else {}
        return [Night(document) for document in self.collection.find(query, _WITHOUT_LISTS).sort("_id", -1)]

    def all_again(self, known: Mapping[bytes, Night]) -> Mapping[bytes, Night]:
        """Return what :meth:`all` does, by the encoded documents; those that did not change are the same objects.

        Parameters
        ----------
        known : mapping of bytes to Night
            What the last call returned; this very mapping is returned if no document changed.
        """
        changed = self._changes.names()
        if changed is not None and not changed:
            return known
        try:
            query: Document = {} if changed is None else {"_id": {"$in": list(changed)}}
            encoded = self.collection.with_options(RAW_BSON_OPTIONS).find(query, _WITHOUT_LISTS)
            raw = [bytes(found.raw) for found in encoded]
        except PyMongoError:
            self._changes.forget()
            raise
        options = self.collection.codec_options
        kept = {} if changed is None else {text: night for text, night in known.items() if night.id not in changed}
        nights = kept | {text: known.get(text) or Night(bson.decode(text, options)) for text in raw}
        return dict(sorted(nights.items(), key=lambda item: item[1].id, reverse=True))

    def names(self, having: Sequence[str] = ()) -> set[str]:
        """Return all nights, ``yyyymmdd``, or those whose documents have some fields."""
        query: Document = {field: {"$exists": True} for field in having}
        return {str(document["_id"]) for document in self.collection.find(query, {"_id": 1})}

    def having(self, field: str, without: str | None = None) -> Iterator[Night]:
        """Yield nights whose documents have a field.

        Parameters
        ----------
        field : str
            Path of the field.
        without : str, optional
            Path of a field that they must not have.

        Yields
        ------
        Night
        """
        query: Document = {field: {"$exists": True}}
        if without is not None:
            query[without] = {"$exists": False}
        yield from map(Night, self.collection.find(query))

    def offered_stars(self) -> list[tuple[str, list[Document]]]:
        """Return the stars that each night offers to the PSF library, the newest night first."""
        found = self.collection.find({"psf_lib": {"$exists": True}}, {"psf_lib": 1}).sort("_id", -1)
        return [(night["_id"], [star for star in night["psf_lib"] or () if isinstance(star, dict)]) for night in found]

    def with_problems(self, limit: int) -> list[Night]:
        """Return the newest nights with raw files that are not understood; of each, only what is known of these.

        Parameters
        ----------
        limit : int
            Largest number of nights.

        Returns
        -------
        list of Night
        """
        fields = {paths.NIGHT_PROBLEMS: 1, paths.NIGHT_PROBLEMS_COUNT: 1}
        found = self.collection.find({paths.NIGHT_PROBLEMS_COUNT: {"$gt": 0}}, fields)
        return [Night(document) for document in found.sort("_id", -1).limit(limit)]

    def ensure_indexes(self) -> None:
        """Create the index that finds the nights with raw files that are not understood."""
        some = {paths.NIGHT_PROBLEMS_COUNT: {"$gt": 0}}
        self.collection.create_index([("_id", -1), (paths.NIGHT_PROBLEMS_COUNT, 1)], partialFilterExpression=some)

    def unsettle(self, night: str, reductions: bool = False) -> None:
        """Clear the signature of a night's results, because one of its steps ended: summaries wait until all have.

        Parameters
        ----------
        night : str
            The night, ``yyyymmdd``.
        reductions : bool
            Whether its reference stars may become others, so that they are chosen again.
        """
        cleared = (paths.SCIENCE_SIGNATURE, *([paths.REDUCTIONS_SIGNATURE] if reductions else []))
        self.set_fields(night, dict.fromkeys(cleared, ""))

    def carry_over_choices(self, steps: Iterable[StepPath]) -> None:
        """Keep the choice of reference stars of nights that an earlier version settled, until their results change.

        Parameters
        ----------
        steps : iterable of (str, str)
            Pipelines and steps of nights that choose them.
        """
        for pipeline, step in steps:
            made_from = self.made_from((pipeline, step))
            self.collection.update_many(
                {
                    paths.REDUCTIONS_SIGNATURE: {"$exists": False},
                    paths.SCIENCE_SIGNATURE: {"$gt": ""},
                    made_from: {"$gt": ""},
                },
                [{"$set": {paths.REDUCTIONS_SIGNATURE: f"${made_from}"}}],
            )

    def made_from(self, path: StepPath) -> str:
        """Return the path of the signature of the observations that a step of a night was made from."""
        return f"{self.pipeline_paths(path[0]).step(path[1], 'inputs')}.observations"

    def count_again(self, steps: Iterable[StepPath]) -> None:
        """Set calibration steps to waiting for which an earlier version counted files, but not the frames in them.

        Parameters
        ----------
        steps : iterable of (str, str)
            Pipelines and steps of nights that make masters.
        """
        for pipeline, step in steps:
            at = self.pipeline_paths(pipeline)
            reasons = [{at.step(step, "message"): _TOO_FEW_FILES}, {at.result(step, "short.reason"): _TOO_FEW_FILES}]
            for night in self.collection.find({"$or": reasons}, {"_id": 1}):
                self.invalidate(night["_id"], (pipeline, step))

    def touch(self, night: str) -> None:
        """Insert the document of a night if there is none."""
        now = utc_now()
        new = {"schema": SCHEMA, "date_added": now, "last_modified": now, "checked": now}
        self.collection.update_one({"_id": night}, {"$setOnInsert": new}, upsert=True)

    def least_checked(self, before: datetime) -> str | None:
        """Return the night whose checksums were compared longest ago, before a time; None if there is none."""
        # a clock that was put back, or a person, may have left a time that never comes
        wrong = [{"checked": {"$gt": utc_now()}}, {"checked": {"$not": {"$type": "date"}}}]
        due = {"$or": [{"checked": {"$lt": before}}, *wrong]}
        found = self.collection.find_one(due, {"_id": 1}, sort=[("checked", 1)])
        return str(found["_id"]) if found else None

"""The collection ``objects`` (observations)."""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from pymongo import ASCENDING, GEOSPHERE

from obsarchive.core import document_paths as paths
from obsarchive.core.document_paths import PipelinePaths
from obsarchive.core.document_types.observations import NewObservation
from obsarchive.core.documents import Observation, StepRecord
from obsarchive.core.step_state import State
from obsarchive.core.target_names import target_fields
from obsarchive.store.search import SORTS, strehl_paths
from obsarchive.store.step_records import Document, StepPath, StepStore
from obsarchive.store.target_index import NAMES, ensure_target_indexes, fold_names

BY_RESULTS = "results:"
"""How signatures of a night's results begin; those of earlier versions have no such beginning."""
MOST_STATE_INDEXES = 20
"""A collection has 64 indexes at most; states of further steps are found more slowly."""


class Observations(StepStore):
    """The collection ``objects``: one document per observation."""

    def pipeline_paths(self, pipeline: str) -> PipelinePaths:
        """Return the paths of a pipeline's block."""
        return PipelinePaths.of_observation(pipeline)

    def insert(self, document: NewObservation) -> bool:
        """Insert a document, with the names by which its target is found; return False if there is one of that name."""
        return super().insert(cast(NewObservation, {**document, "target": target_fields(document)}))

    def set_fields(self, subject: str, fields: Mapping[str, Any]) -> None:
        """Set fields of a document; with a name of the target, also those by which it is found.

        Parameters
        ----------
        subject : str
            Name of the observation.
        fields : mapping
            Values by their dotted paths.
        """
        super().set_fields(subject, fields)
        if not NAMES.isdisjoint(fields):
            self.fold_names([subject])

    def fold_names(self, subjects: Sequence[str] | None = None) -> int:
        """Index names of targets as :func:`fold_names` does; return the number of observations."""
        return fold_names(self.collection, subjects)

    def open(self, pipelines: Iterable[str], nights: Sequence[str] | None = None) -> Iterator[Observation]:
        """Yield observations that the daemon must look at: a step is due or requested, or the tarball is out of date.

        Parameters
        ----------
        pipelines : iterable of str
            Pipelines of observations.
        nights : sequence of str, optional
            Only these nights.

        Yields
        ------
        Observation
            Newest night first, without the FITS header.
        """
        query = self._open_query(pipelines)
        if nights:
            query["night"] = {"$in": list(nights)}  # an index gives those of one night in order
        for document in self.collection.find(query, {"fits_header": 0}).sort([("night", -1), ("_id", 1)]):
            yield Observation(document)

    def _open_query(self, pipelines: Iterable[str]) -> Document:
        return {"$or": [{paths.PACKED: {"$ne": True}}, {"look_again": True}, *self.redo_queries(pipelines)]}

    def open_nights(self, pipelines: Iterable[str]) -> set[str]:
        """Return the nights that have observations the daemon must look at."""
        return set(self.collection.distinct("night", self._open_query(pipelines)))

    def findings(self, night: str) -> str:
        """Return a signature of the results of a night's observations: how each step ended, and with what."""
        text = hashlib.sha256()
        for observation in self._with_results(night):
            text.update(f"{observation.id} {observation.number(paths.SEEING_NEAREST_ARCSEC)}".encode())
            for (pipeline, name), record in _records(observation):
                text.update(f" {pipeline}.{name} {_outcome(record)}".encode())
        return f"{BY_RESULTS}{text.hexdigest()[:16]}"

    def former_findings(self, night: str) -> str:
        """Return the signature that earlier versions recorded: how and when each step ended, 16 hex digits."""
        text = hashlib.sha256()
        for observation in self._with_results(night):
            text.update(f"{observation.id} {observation.number(paths.SEEING_NEAREST_ARCSEC)}".encode())
            for (pipeline, name), record in _records(observation):
                state = State.REJECTED if record.state is State.LACKING else record.state
                text.update(f" {pipeline}.{name} {state} {record.finished}".encode())
        return text.hexdigest()[:16]

    def reductions(self, night: str, library_steps: Collection[StepPath], known: Collection[str]) -> str:
        """Return a signature of what a night's reference stars are chosen from.

        Parameters
        ----------
        night : str
            The night, ``yyyymmdd``.
        library_steps : collection of (str, str)
            Pipelines and steps that depend on the PSF library. Of their results only companions of stars that the
            library knows count: they speak against these stars.
        known : collection of str
            Observations that the library holds, or that were removed from it.

        Returns
        -------
        str
        """
        text = hashlib.sha256()
        for observation in self._with_results(night):
            text.update(observation.id.encode())
            for path, record in _records(observation):
                if path not in library_steps:
                    text.update(f" {path[0]}.{path[1]} {_outcome(record)}".encode())
                elif observation.id in known and record.results.get("detections"):
                    text.update(f" {path[0]}.{path[1]} companion".encode())
        return f"{BY_RESULTS}{text.hexdigest()[:16]}"

    def _with_results(self, night: str) -> Iterator[Observation]:
        fields = {"pipelined": 1, "seeing": 1}
        yield from map(Observation, self.collection.find({"night": night}, fields).sort("_id", 1))

    def newest(self, night: str) -> datetime | None:
        """Return when the last observation of a night began; None if there is none."""
        found = self.collection.find_one({"night": night}, {"date_utc": 1}, sort=[("date_utc", -1)])
        return Observation(found).date_utc if found else None

    def reopen_lacking(
        self, steps: Iterable[StepPath], gone: Sequence[str], filters: Collection[str] | None = None
    ) -> None:
        """Reopen observations that lacked reference stars, or used some that are gone.

        Parameters
        ----------
        steps : iterable of (str, str)
            Pipelines and steps that use the PSF library.
        gone : sequence of str
            Observations whose stars left the library.
        filters : collection of str, optional
            Only observations that lacked them in these filters; by default in all.
        """
        of_filters: Document = {} if filters is None else {"filter": {"$in": [*filters, *([None] * ("" in filters))]}}
        for pipeline, step in steps:
            lacks = paths.result_path(pipeline, step, "lacks_references")
            wanted: list[Document] = [{lacks: {"$in": ["any", "own night"]}, **of_filters}]
            if gone:
                wanted.append({paths.result_path(pipeline, step, "references"): {"$in": list(gone)}})
            self.collection.update_many({"$or": wanted}, {"$set": self.reopened()})

    def amend_product(self, subject: str, amended: Mapping[str, Any]) -> None:
        """Record the new size, checksum and outline of a product whose header another pipeline changed.

        Parameters
        ----------
        subject : str
            Name of the observation.
        amended : mapping
            The entry of the product, with the ``pipeline`` and ``step`` that made it.
        """
        products = paths.step_path(amended["pipeline"], amended["step"], "products")
        changed = {key: amended[key] for key in ("bytes", "sha256", "cards_of", "image") if key in amended}
        self.collection.update_one(
            {"_id": subject, products: {"$elemMatch": {"name": amended["name"]}}},
            {"$set": paths.element_fields(products, changed)},
        )

    def count_unpacked(self) -> int:
        """Return the number of observations whose tarball is out of date."""
        return self.collection.count_documents({paths.PACKED: {"$ne": True}})

    def of_night(self, night: str) -> list[Observation]:
        """Return all observations of a night, without their headers."""
        return [Observation(d) for d in self.collection.find({"night": night}, {"fits_header": 0})]

    def found(self, night: str) -> Iterator[Document]:
        """Yield the documents of a night's observations, in the order of time, without headers and lists of files."""
        hidden = {"fits_header": 0, "raw_data": 0, "remembered": 0}
        yield from self.collection.find({"night": night}, hidden).sort([("date_utc", 1), ("_id", 1)])

    def raw_data_of(self, night: str) -> dict[str, Observation]:
        """Return the observations of a night by their names; read is what is known of their raw files."""
        found = self.collection.find(
            {"night": night}, {"raw_data": 1, "night": 1, "unread": 1, "fits_header": {"$slice": 1}}
        )
        return {document["_id"]: Observation(document) for document in found}

    def known(self, names: Iterable[str]) -> set[str]:
        """Return those of some names that observations have; no document is read for it."""
        return {document["_id"] for document in self.collection.find({"_id": {"$in": list(names)}}, {"_id": 1})}

    def set_night(self, names: Iterable[str], night: str) -> None:
        """Set the night of observations in whose documents stands another one."""
        self.collection.update_many({"_id": {"$in": list(names)}}, {"$set": {"night": night, **self.reopened()}})

    def without_night(self) -> list[Document]:
        """Return the documents without a night: those of the published Robo-AO archiver."""
        return list(self.collection.find({"night": {"$exists": False}}))

    def reopen_night(self, night: str) -> None:
        """Reopen a night's observations, because their calibration changed."""
        self.collection.update_many({"night": night}, {"$set": self.reopened()})

    def looked_at(self, subjects: Sequence[str]) -> None:
        """Record that the daemon looked at packed observations, and that nothing is due for them."""
        self.collection.update_many({"_id": {"$in": list(subjects)}}, {"$set": {"look_again": False}})

    def packed(self) -> Iterator[Observation]:
        """Yield the observations whose tarball is up to date, without the FITS header."""
        for document in self.collection.find({paths.PACKED: True}, {"fits_header": 0}):
            yield Observation(document)

    def reopen_packed(self) -> None:
        """Reopen all observations whose tarball is up to date; it stays so unless a step is done."""
        self.collection.update_many({paths.PACKED: True}, {"$set": self.reopened()})

    def remade(self) -> Document:
        """Return the fields that mark the tarball as out of date."""
        return {paths.PACKED: False}

    def set_packed(self, subject: str, asked: datetime | None, fields: Mapping[str, Any]) -> bool:
        """Mark the tarball as up to date, unless another one was requested meanwhile.

        Parameters
        ----------
        subject : str
            Name of the observation.
        asked : datetime or None
            ``distributed.last_modified`` when the packing began.
        fields : mapping
            Further fields to set, by their paths.

        Returns
        -------
        bool
            Whether it was marked.
        """
        packed = self._update(
            {"_id": subject, paths.PACKING_ASKED: asked},
            {"$set": {paths.PACKED: True, **fields}},
        )
        return packed.modified_count == 1

    def set_owners(self, program: str, owners: list[str]) -> None:
        """Set the owners of all observations of a programme.

        Parameters
        ----------
        program : str
            The programme.
        owners : list of str
            Names of users.
        """
        self.collection.update_many({paths.PROGRAM_ID: program}, {"$set": {paths.PROGRAM_PI: owners}})

    def ensure_indexes(self, steps: Iterable[StepPath], lacking: Iterable[StepPath] = ()) -> None:
        """Create the indexes that the daemon's and the portal's queries use.

        Parameters
        ----------
        steps : iterable of (str, str)
            All pipelines of observations with their steps.
        lacking : iterable of (str, str), optional
            Steps that may lack references of the PSF library.
        """
        for key in ("night", paths.PROGRAM_PI, paths.PACKED, "look_again", "camera", "telescope"):
            self.collection.create_index([(key, ASCENDING)])
        self.collection.create_index([("night", ASCENDING), ("_id", ASCENDING)])
        ensure_target_indexes(self.collection)
        self.collection.create_index([(paths.PROGRAM_PI, ASCENDING), (paths.PROGRAM_ID, ASCENDING)])
        self._ensure_search_indexes(steps)
        self.collection.create_index([(paths.EFFECTS_OF_TASK, ASCENDING)], sparse=True)
        pipelines = dict.fromkeys(pipeline for pipeline, _ in steps)
        self.collection.create_index([(paths.GEOJSON, GEOSPHERE)], sparse=True)
        for name in pipelines:
            self.collection.create_index([(self.pipeline_paths(name).status("force_redo"), ASCENDING)], sparse=True)
        for pipeline, step in lacking:
            key = paths.result_path(pipeline, step, "lacks_references")
            self.collection.create_index([(key, ASCENDING)], sparse=True)

    def _ensure_search_indexes(self, steps: Iterable[StepPath]) -> None:
        """Create indexes of every sort order, of common combinations and of rare states."""
        steps = list(steps)
        strehl = list(strehl_paths(steps).values())
        for key in (*dict.fromkeys(SORTS.values()), *strehl):
            if key not in ("_id", "date_utc"):  # the next one serves the date
                self.collection.create_index([(key, ASCENDING), ("_id", ASCENDING)])
        owners = (paths.PROGRAM_ID, paths.PROGRAM_PI)
        by_date = ("date_utc", "_id", paths.TARGET_TEXT, "filter", "camera", "night")
        for keys in (
            (*by_date, owners[0]),
            *((owner, *by_date) for owner in owners),
            (owners[0], "filter", "date_utc", "_id"),
            (owners[0], "camera"),
            *((owner, ratio, "_id") for owner in owners for ratio in strehl),
        ):
            self.collection.create_index([(key, ASCENDING) for key in keys], name=f"look-up {keys[0]} {keys[1]}"[:100])
        for pipeline, step in steps[:MOST_STATE_INDEXES]:
            state = paths.step_path(pipeline, step, "state")
            unusual = {state: {"$gt": str(State.DONE)}}
            self.collection.create_index([(state, ASCENDING)], partialFilterExpression=unusual)


def _records(observation: Observation) -> Iterator[tuple[StepPath, StepRecord]]:
    """Yield the records of all steps, in the order of their names."""
    for pipeline in sorted(observation.document.get("pipelined") or {}):
        for name, record in sorted(observation.pipeline(pipeline).steps().items()):
            yield (pipeline, name), record


def _outcome(record: StepRecord) -> str:
    """Return how a step ended: with which results, if it has none with which products. The same again are no news."""
    if record.results:
        return f"{record.state} {json.dumps(record.results, sort_keys=True, default=str)}"
    made = [record.content_of(str(entry.get("name"))) for entry in record.products]
    return f"{record.state} {' '.join(made) or record.message}"

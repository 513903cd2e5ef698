"""The collections ``objects`` (observations) and ``aux`` (nights)."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, GEOSPHERE

from obsarchive.core import document_paths as paths
from obsarchive.core.document_paths import PipelinePaths
from obsarchive.core.documents import SCHEMA, Night, Observation, utc_now
from obsarchive.core.step_state import State
from obsarchive.store.search import SORTS, strehl_paths
from obsarchive.store.step_records import Document, StepPath, StepStore

MOST_STATE_INDEXES = 24
"""A collection has 64 indexes at most; states of further steps are found more slowly."""


class Observations(StepStore):
    """The collection ``objects``: one document an observation."""

    def pipeline_paths(self, pipeline: str) -> PipelinePaths:
        """Return the paths of a pipeline's block."""
        return PipelinePaths.of_observation(pipeline)

    def open(self, pipelines: Iterable[str], nights: Sequence[str] | None = None) -> Iterator[Observation]:
        """Observations that the daemon must look at: something is due, a wish was made, or not packed."""
        query = self._open_query(pipelines)
        if nights:
            query["night"] = {"$in": list(nights)}
        for document in self.collection.find(query, {"fits_header": 0}).sort([("night", -1), ("_id", 1)]):
            yield Observation(document)

    def _open_query(self, pipelines: Iterable[str]) -> Document:
        return {"$or": [{paths.PACKED: {"$ne": True}}, {"look_again": True}, *self.redo_queries(pipelines)]}

    def open_nights(self, pipelines: Iterable[str]) -> set[str]:
        """Nights that have observations the daemon must look at."""
        return set(self.collection.distinct("night", self._open_query(pipelines)))

    def findings(self, night: str) -> str:
        """Signature of what the pipelines found in a night's observations: how and when each step ended."""
        text = hashlib.sha256()
        for document in self.collection.find({"night": night}, {"pipelined": 1, "seeing": 1}).sort("_id", 1):
            observation = Observation(document)
            text.update(f"{observation.id} {observation.number(paths.SEEING_NEAREST_ARCSEC)}".encode())
            for pipeline in sorted(document.get("pipelined") or {}):
                for name, record in sorted(observation.pipeline(pipeline).steps().items()):
                    text.update(f" {pipeline}.{name} {record.state} {record.finished}".encode())
        return text.hexdigest()[:16]

    def reopen_lacking(self, steps: Iterable[StepPath], gone: Sequence[str]) -> None:
        """Let the daemon look again at observations that lacked reference stars, or used some of `gone`."""
        for pipeline, step in steps:
            lacks = paths.result_path(pipeline, step, "lacks_references")
            wanted: list[Document] = [{lacks: {"$in": ["any", "own night"]}}]
            if gone:
                wanted.append({paths.result_path(pipeline, step, "references"): {"$in": list(gone)}})
            self.collection.update_many({"$or": wanted}, {"$set": self.reopened()})

    def amend_product(self, subject: str, amended: Mapping[str, Any]) -> None:
        """Take note that another pipeline's product has another header now."""
        products = paths.step_path(amended["pipeline"], amended["step"], "products")
        changed = {key: amended[key] for key in ("bytes", "sha256")}
        self.collection.update_one(
            {"_id": subject, products: {"$elemMatch": {"name": amended["name"]}}},
            {"$set": paths.element_fields(products, changed)},
        )

    def count_unpacked(self) -> int:
        """Observations for which something is still to be done."""
        return self.collection.count_documents({paths.PACKED: {"$ne": True}})

    def of_night(self, night: str) -> list[Observation]:
        """All observations of a night, without their headers."""
        return [Observation(d) for d in self.collection.find({"night": night}, {"fits_header": 0})]

    def found(self, night: str) -> Iterator[Document]:
        """What is known of a night's observations, in the order of time, without headers and lists of files."""
        hidden = {"fits_header": 0, "raw_data": 0, "remembered": 0}
        yield from self.collection.find({"night": night}, hidden).sort([("date_utc", 1), ("_id", 1)])

    def raw_signatures(self, night: str) -> dict[str, tuple[str, bool]]:
        """Signature of the raw files of every observation of a night, and whether they are missing."""
        wanted = {paths.RAW_SIGNATURE: 1, paths.RAW_MISSING: 1}
        found = self.collection.find({"night": night}, wanted)
        return {
            d["_id"]: (d.get("raw_data", {}).get("signature", ""), bool(d.get("raw_data", {}).get("missing")))
            for d in found
        }

    def reopen_night(self, night: str) -> None:
        """Let the daemon look at a night's observations again: their calibration changed."""
        self.collection.update_many({"night": night}, {"$set": self.reopened()})

    def remade(self) -> Document:
        """Say that the tarball is out of date."""
        return {paths.PACKED: False}

    def set_packed(self, subject: str, asked: datetime | None, fields: Mapping[str, Any]) -> bool:
        """Note that the tarball is up to date, unless somebody asked for another one meanwhile."""
        packed = self.collection.update_one(
            {"_id": subject, paths.PACKING_ASKED: asked},
            {"$set": {paths.PACKED: True, **fields}},
        )
        return packed.modified_count == 1

    def set_owners(self, program: str, owners: list[str]) -> None:
        """Give all observations of a programme to its owners."""
        self.collection.update_many({paths.PROGRAM_ID: program}, {"$set": {paths.PROGRAM_PI: owners}})

    def ensure_indexes(self, steps: Iterable[StepPath], lacking: Iterable[StepPath] = ()) -> None:
        """Create what the daemon's and the portal's queries need."""
        for key in ("night", paths.PROGRAM_PI, paths.PACKED, "look_again", "camera"):
            self.collection.create_index([(key, ASCENDING)])
        self._ensure_search_indexes(steps)
        pipelines = dict.fromkeys(pipeline for pipeline, _ in steps)
        self.collection.create_index([(paths.GEOJSON, GEOSPHERE)], sparse=True)
        for name in pipelines:
            self.collection.create_index([(self.pipeline_paths(name).status("force_redo"), ASCENDING)], sparse=True)
        for pipeline, step in lacking:
            key = paths.result_path(pipeline, step, "lacks_references")
            self.collection.create_index([(key, ASCENDING)], sparse=True)

    def _ensure_search_indexes(self, steps: Iterable[StepPath]) -> None:
        """Every order that can be asked for, what is often asked together, and the states that are rare."""
        steps = list(steps)
        strehl = list(strehl_paths(steps).values())
        for key in (*dict.fromkeys(SORTS.values()), *strehl):
            if key not in ("_id", "date_utc"):  # the next one serves the date
                self.collection.create_index([(key, ASCENDING), ("_id", ASCENDING)])
        owners = (paths.PROGRAM_ID, paths.PROGRAM_PI)
        by_date = ("date_utc", "_id", "name", "filter", "camera", "night")
        for keys in (
            (*by_date, owners[0]),
            *((owner, *by_date) for owner in owners),
            *((owner, ratio, "_id") for owner in owners for ratio in strehl),
        ):
            self.collection.create_index([(key, ASCENDING) for key in keys], name=f"search {keys[0]} {keys[1]}"[:100])
        for pipeline, step in steps[:MOST_STATE_INDEXES]:
            state = paths.step_path(pipeline, step, "state")
            unusual = {state: {"$gt": str(State.DONE)}}
            self.collection.create_index([(state, ASCENDING)], partialFilterExpression=unusual)


class Nights(StepStore):
    """The collection ``aux``: one document a night."""

    def all(self, nights: Sequence[str] | None = None) -> list[Night]:
        """Return the nights, newest first, without the long lists of seeing frames."""
        query: Document = {"_id": {"$in": list(nights)}} if nights else {}
        hidden = dict.fromkeys((paths.SEEING_FRAMES, paths.SEEING_RESULTS, "psf_lib", paths.NIGHT_FILES), 0)
        found = self.collection.find(query, hidden).sort("_id", -1)
        return [Night(document) for document in found]

    def having(self, field: str, without: str | None = None) -> Iterator[Night]:
        """Nights whose documents have a field, and perhaps lack another."""
        query: Document = {field: {"$exists": True}}
        if without is not None:
            query[without] = {"$exists": False}
        yield from map(Night, self.collection.find(query))

    def offered_stars(self) -> list[tuple[str, list[Document]]]:
        """Stars that the nights offer to the PSF library, the newest night first."""
        found = self.collection.find({"psf_lib": {"$exists": True}}, {"psf_lib": 1}).sort("_id", -1)
        return [(night["_id"], [star for star in night["psf_lib"] or () if isinstance(star, dict)]) for night in found]

    def unsettle(self, night: str) -> None:
        """Take note that something was found in a night's observations: its summaries wait until all is done."""
        self.set_fields(night, {paths.SCIENCE_SIGNATURE: ""})

    def touch(self, night: str) -> None:
        """Make sure that a night has a document."""
        self.collection.update_one(
            {"_id": night},
            {"$setOnInsert": {"schema": SCHEMA, "date_added": utc_now(), "last_modified": utc_now()}},
            upsert=True,
        )

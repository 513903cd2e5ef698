"""Survey photometry: sources, their data, what was found in them, and the projects that look for it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from pymongo import DeleteOne, ReplaceOne, UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database

from obsarchive.core.documents import utc_now
from obsarchive.store.datasets import EVERYBODY
from obsarchive.store.step_records import Document

CHUNK = 5000
"""Names in one query: a query is a document, and those have a largest size."""
COUNT_CAP = 100_001
FINISHED = [("run", 1), ("cfg_hash", 1), ("stale", 1), ("state", 1), ("source_name", 1)]
RESULTS = ("lightcurves", "detections", "properties")
"""Kinds of what a project makes, in the order in which they are written."""
KINDS = ("sources", "raw_photometry", *RESULTS)


@dataclass
class Results:
    """What was made of some sources.

    Parameters
    ----------
    names : list of str
        The sources: whatever was known of them before goes.
    lightcurves, detections, properties : list of dict
        Their documents.
    """

    names: list[str] = field(default_factory=list)
    lightcurves: list[Document] = field(default_factory=list)
    detections: list[Document] = field(default_factory=list)
    properties: list[Document] = field(default_factory=list)

    def __iadd__(self, other: Self) -> Self:
        for kind in vars(self):
            getattr(self, kind).extend(getattr(other, kind))
        return self


class Surveys:
    """Documents of sources (by name), of their raw photometry (by observatory and name) and of what projects made.

    A project's results carry ``run``, the name of its folder; ``properties`` are written last, and their presence
    says that a source is finished. ``stale`` marks those whose raw photometry changed since.
    """

    def __init__(self, database: Database) -> None:
        self._of: dict[str, Collection] = {kind: database[kind] for kind in KINDS}
        self.runs: Collection = database["survey_projects"]

    def ensure_indexes(self) -> None:
        """Create what the queries need."""
        self._of["sources"].create_index([("geojson", "2dsphere")])
        self._of["sources"].create_index([("projects", 1), ("_id", 1)])
        self._of["sources"].create_index([("aliases", 1), ("_id", 1)])
        self._of["raw_photometry"].create_index("source_name")
        self._of["raw_photometry"].create_index([("observatory", 1), ("state", 1), ("expires", 1)])
        self._of["raw_photometry"].create_index([("state", 1), ("source_name", 1)])
        for kind in RESULTS:
            self._of[kind].create_index("source_name")
            self._of[kind].create_index([("run", 1), ("source_name", 1)])
        self._of["properties"].create_index(FINISHED)
        self._of["properties"].create_index([("run", 1), ("state", 1), ("source_name", 1)])
        real = [("run", 1), ("simulated", 1)]
        self._of["detections"].create_index([*real, ("source_name", 1), ("strength", -1)])
        self._of["detections"].create_index([*real, ("strength", -1), ("source_name", 1)])

    def find(self, kind: str, query: Mapping[str, Any], limit: int = 0, skip: int = 0) -> Iterator[Document]:
        """Yield documents of a kind, in the order of their identifiers."""
        return iter(self._of[kind].find(query).sort("_id", 1).skip(skip).limit(limit))

    def strongest(self, query: Mapping[str, Any], limit: int) -> list[Document]:
        """Return detections, the strongest first."""
        return list(self._of["detections"].find(query).sort([("strength", -1), ("_id", 1)]).limit(limit))

    def count(self, kind: str, query: Mapping[str, Any]) -> int:
        """Count documents of a kind, up to a cap."""
        return self._of[kind].count_documents(query, limit=COUNT_CAP)

    def save(self, kind: str, documents: Iterable[Document]) -> None:
        """Write documents in place of those with the same identifiers."""
        changes = [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in documents]
        if changes:
            self._of[kind].bulk_write(changes, ordered=False)

    def delete(self, kind: str, identifiers: Iterable[str]) -> None:
        """Remove documents."""
        changes = [DeleteOne({"_id": identifier}) for identifier in identifiers]
        if changes:
            self._of[kind].bulk_write(changes, ordered=False)

    def register(self, sources: Iterable[Document], run: str) -> None:
        """Note the sources of a project, or of none; what other projects know of them stays."""
        joined: Document = {"$addToSet": {"projects": run}} if run else {}
        changes = [UpdateOne({"_id": source["_id"]}, {"$set": source, **joined}, upsert=True) for source in sources]
        if changes:
            self._of["sources"].bulk_write(changes, ordered=False)

    def named(self, kind: str, names: Sequence[str], query: Mapping[str, Any], fields: Sequence[str]) -> list[Document]:
        """Return some fields of the documents of many sources."""
        key = "_id" if kind == "sources" else "source_name"
        shown = dict.fromkeys(fields, 1)
        found: list[Document] = []
        for start in range(0, len(names), CHUNK):
            found += self._of[kind].find({**query, key: {"$in": list(names[start : start + CHUNK])}}, shown)
        return found

    def save_raw(self, documents: Sequence[Document]) -> None:
        """Note raw photometry; results that rest on older data of these sources become stale."""
        names = [document["source_name"] for document in documents]
        known = {found["_id"]: found.get("checksum") for found in self.named("raw_photometry", names, {}, ["checksum"])}
        changed = [
            document["source_name"] for document in documents if known.get(document["_id"]) != document.get("checksum")
        ]
        # stale first: killed in between, a source is only looked at once more
        self._of["properties"].update_many({"source_name": {"$in": changed}}, {"$set": {"stale": True}})
        self.save("raw_photometry", documents)

    def expired(self, observatory: str, now: datetime) -> set[str]:
        """Names of sources that had no data when they were asked for, which is too long ago."""
        query = {"observatory": observatory, "state": "empty", "expires": {"$lt": now}}
        return {found["source_name"] for found in self._of["raw_photometry"].find(query, {"source_name": 1})}

    def failed(self, observatory: str) -> list[Document]:
        """Raw photometry that could not be fetched."""
        return list(self._of["raw_photometry"].find({"observatory": observatory, "state": "failed"}).sort("_id", 1))

    def finished(self, run: str, cfg_hash: str, state: str | None = None) -> set[str]:
        """Names of the sources that a project is through with, as it is configured; read from an index alone.

        Parameters
        ----------
        run, cfg_hash : str
            Folder of the project, and hash of its configuration.
        state : str, optional
            Only those that are ``done``, or ``failed``.
        """
        query = {"run": run, "cfg_hash": cfg_hash, "stale": False, **({"state": state} if state else {})}
        batches = self._of["properties"].find(query, {"_id": 0, "source_name": 1}, batch_size=50_000).hint(FINISHED)
        return {found["source_name"] for found in batches}

    def replace(self, run: str, results: Results, kinds: Sequence[str] = RESULTS) -> None:
        """Put the results of some sources, of all kinds or some, in the place of older ones; the properties last."""
        own = {"run": run, "source_name": {"$in": results.names}}
        for kind in reversed(kinds):
            self._of[kind].delete_many(own)
        for kind in kinds:
            self.save(kind, getattr(results, kind))

    def note_run(self, run: str, facts: Mapping[str, Any]) -> None:
        """Note facts of a project."""
        self.runs.update_one({"_id": run}, {"$set": {**facts, "updated": utc_now()}}, upsert=True)

    def run(self, run: str) -> Document | None:
        """Return what is known of a project."""
        return self.runs.find_one({"_id": run})

    def visible_runs(self, programs: Sequence[str] | str) -> list[Document]:
        """Projects that somebody may see: those of nobody in particular, and those of his programmes."""
        own = [] if programs == EVERYBODY else list(programs)
        query = {} if programs == EVERYBODY else {"$or": [{"programs": []}, {"programs": {"$in": own}}]}
        return list(self.runs.find(query).sort("_id", 1))

    def progress(self, run: str) -> dict[str, int]:
        """Count the sources of a project and what became of them."""
        own: Document = {"run": run}
        return {
            "sources": self._of["sources"].count_documents({"projects": run}),
            "analysed": self._of["properties"].count_documents(own),
            "failed": self._of["properties"].count_documents({**own, "state": "failed"}),
            "stale": self._of["properties"].count_documents({**own, "stale": True}),
            "detections": self._of["detections"].count_documents({**own, "simulated": False}),
        }

    def forget_results(self, run: str, names: Sequence[str] | None = None) -> None:
        """Remove the results of a project, of all or some of its sources."""
        query: Document = {"run": run} if names is None else {"run": run, "source_name": {"$in": list(names)}}
        for kind in reversed(RESULTS):
            self._of[kind].delete_many(query)

    def forget_run(self, run: str) -> None:
        """Remove a project with its results; sources and raw photometry stay, for they are others', too."""
        self.forget_results(run)
        self._of["sources"].update_many({"projects": run}, {"$pull": {"projects": run}})
        self.runs.delete_one({"_id": run})

"""Collections of survey photometry: sources, raw photometry, results of projects, and the projects."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from pymongo import DeleteOne, ReplaceOne, UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database

from obsarchive.core.documents import utc_now
from obsarchive.store.datasets import ALL_PROGRAMS
from obsarchive.store.step_records import Document

CHUNK = 5000
"""Names in one query, as a query is a document of limited size."""
COUNT_CAP = 100_001
FINISHED = [("run", 1), ("cfg_hash", 1), ("stale", 1), ("state", 1), ("source_name", 1)]
RESULTS = ("lightcurves", "detections", "properties")
"""Kinds of results of a project, in the order in which they are written."""
KINDS = ("sources", "raw_photometry", *RESULTS)


@dataclass
class Results:
    """Results of some sources.

    Parameters
    ----------
    names : list of str
        The sources; all their older results are replaced.
    lightcurves, detections, properties : list of dict
        Documents of the results.
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
    """Write access to the documents of sources (by name), raw photometry (by observatory and name) and results.

    Results of a project have ``run``, the name of its folder; ``properties`` are written last, so that a source with
    them is finished. ``stale`` marks those whose raw photometry has changed since.
    """

    def __init__(self, database: Database[Document]) -> None:
        self._of: dict[str, Collection[Document]] = {kind: database[kind] for kind in KINDS}
        self.runs: Collection[Document] = database["survey_projects"]

    def ensure_indexes(self) -> None:
        """Create the indexes that the queries need."""
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
        """Return documents of a kind, in the order of their identifiers.

        Parameters
        ----------
        kind : str
            One of `KINDS`.
        query : mapping
            Filter of MongoDB.
        limit, skip : int
            Largest number of documents (0: all), and how many are skipped before.

        Returns
        -------
        iterator of dict
        """
        return iter(self._of[kind].find(query).sort("_id", 1).skip(skip).limit(limit))

    def strongest(self, query: Mapping[str, Any], limit: int) -> list[Document]:
        """Return detections, the strongest first.

        Parameters
        ----------
        query : mapping
            Filter of MongoDB.
        limit : int
            Largest number of documents; 0: all.

        Returns
        -------
        list of dict
        """
        return list(self._of["detections"].find(query).sort([("strength", -1), ("_id", 1)]).limit(limit))

    def count(self, kind: str, query: Mapping[str, Any]) -> int:
        """Return the number of documents of a kind, at most `COUNT_CAP`.

        Parameters
        ----------
        kind : str
            One of `KINDS`.
        query : mapping
            Filter of MongoDB.

        Returns
        -------
        int
        """
        return self._of[kind].count_documents(query, limit=COUNT_CAP)

    def save(self, kind: str, documents: Iterable[Document]) -> None:
        """Write documents; those with the same identifiers are replaced.

        Parameters
        ----------
        kind : str
            One of `KINDS`.
        documents : iterable of dict
            With their ``_id``.
        """
        changes = [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in documents]
        if changes:
            self._of[kind].bulk_write(changes, ordered=False)

    def delete(self, kind: str, identifiers: Iterable[str]) -> None:
        """Remove documents.

        Parameters
        ----------
        kind : str
            One of `KINDS`.
        identifiers : iterable of str
            Their ``_id``.
        """
        changes = [DeleteOne({"_id": identifier}) for identifier in identifiers]
        if changes:
            self._of[kind].bulk_write(changes, ordered=False)

    def register(self, sources: Iterable[Document], run: str) -> None:
        """Add or update sources; fields and projects that are not given remain.

        Parameters
        ----------
        sources : iterable of dict
            Documents of the sources.
        run : str
            Folder of the project to which they belong; empty: none.
        """
        joined: Document = {"$addToSet": {"projects": run}} if run else {}
        changes = [UpdateOne({"_id": source["_id"]}, {"$set": source, **joined}, upsert=True) for source in sources]
        if changes:
            self._of["sources"].bulk_write(changes, ordered=False)

    def named(self, kind: str, names: Sequence[str], query: Mapping[str, Any], fields: Sequence[str]) -> list[Document]:
        """Return some fields of the documents of many sources.

        Parameters
        ----------
        kind : str
            One of `KINDS`.
        names : sequence of str
            Names of the sources.
        query : mapping
            Further filter of MongoDB.
        fields : sequence of str
            Fields to return, beside ``_id``.

        Returns
        -------
        list of dict
        """
        key = "_id" if kind == "sources" else "source_name"
        shown = dict.fromkeys(fields, 1)
        found: list[Document] = []
        for start in range(0, len(names), CHUNK):
            found += self._of[kind].find({**query, key: {"$in": list(names[start : start + CHUNK])}}, shown)
        return found

    def save_raw(self, documents: Sequence[Document]) -> None:
        """Write documents of raw photometry; results from older data of these sources become stale."""
        names = [document["source_name"] for document in documents]
        known = {found["_id"]: found.get("checksum") for found in self.named("raw_photometry", names, {}, ["checksum"])}
        changed = [
            document["source_name"] for document in documents if known.get(document["_id"]) != document.get("checksum")
        ]
        # stale first: if the process is killed in between, sources are merely checked again
        self._of["properties"].update_many({"source_name": {"$in": changed}}, {"$set": {"stale": True}})
        self.save("raw_photometry", documents)

    def expired(
        self,
        observatory: str,
        empty_before: datetime,
        good_before: datetime | None = None,
        names: Sequence[str] | None = None,
    ) -> set[str]:
        """Return the names of sources whose raw photometry must be requested again.

        Parameters
        ----------
        observatory : str
            Name of the observatory.
        empty_before : datetime
            Sources without data are requested again if they expire before this time (UTC).
        good_before : datetime, optional
            Sources with data are requested again if they were fetched before this time (UTC); None: never.
        names : sequence of str, optional
            Only these sources.

        Returns
        -------
        set of str
        """
        states: list[Document] = [{"state": "empty", "expires": {"$lt": empty_before}}]
        if good_before is not None:
            states.append({"state": "good", "fetched": {"$lt": good_before}})
        query = {"observatory": observatory, "$or": states}
        if names is not None:
            found: Iterable[Document] = self.named("raw_photometry", names, query, ["source_name"])
        else:
            found = self._of["raw_photometry"].find(query, {"source_name": 1})
        return {one["source_name"] for one in found}

    def raw_states(self, observatory: str, names: Sequence[str]) -> Counter[str]:
        """Return the numbers of sources whose raw photometry is ``good``, ``empty`` or ``failed``.

        Parameters
        ----------
        observatory : str
            Name of the observatory.
        names : sequence of str
            Names of the sources.

        Returns
        -------
        Counter
        """
        found = self.named("raw_photometry", names, {"observatory": observatory}, ["state"])
        return Counter(one["state"] for one in found)

    def place_older(self, observatory: str) -> None:
        """Give raw photometry from before positions were stored that of its source in the database."""
        lacking = {"observatory": observatory, "place": None}
        names = [found["source_name"] for found in self._of["raw_photometry"].find(lacking, {"source_name": 1})]
        changes = [
            UpdateOne(
                {**lacking, "source_name": found["_id"]},
                {"$set": {"place": [found["ra_deg"], found["dec_deg"], None, None]}},
            )
            for found in self.named("sources", names, {}, ["ra_deg", "dec_deg"])
        ]
        if changes:
            self._of["raw_photometry"].bulk_write(changes, ordered=False)

    def places(self, observatory: str) -> Iterator[Document]:
        """Return names, positions and files of all raw photometry of an observatory."""
        shown = {"_id": 0, "source_name": 1, "place": 1, "filename": 1}
        return iter(self._of["raw_photometry"].find({"observatory": observatory}, shown, batch_size=10_000))

    def failed(self, observatory: str) -> list[Document]:
        """Return the documents of raw photometry that could not be fetched."""
        return list(self._of["raw_photometry"].find({"observatory": observatory, "state": "failed"}).sort("_id", 1))

    def finished(self, run: str, cfg_hash: str, state: str | None = None) -> set[str]:
        """Return the names of the sources that a project has finished in a configuration, from an index alone.

        Parameters
        ----------
        run, cfg_hash : str
            Folder of the project, and hash of its configuration.
        state : str, optional
            Only those that are ``done``, or ``failed``.

        Returns
        -------
        set of str
        """
        query = {"run": run, "cfg_hash": cfg_hash, "stale": False, **({"state": state} if state else {})}
        batches = self._of["properties"].find(query, {"_id": 0, "source_name": 1}, batch_size=50_000).hint(FINISHED)
        return {found["source_name"] for found in batches}

    def replace(self, run: str, results: Results, kinds: Sequence[str] = RESULTS) -> None:
        """Replace the results of some sources; properties are written last.

        Parameters
        ----------
        run : str
            Folder of the project.
        results : Results
            The new results.
        kinds : sequence of str
            Kinds of results that are replaced.
        """
        own = {"run": run, "source_name": {"$in": results.names}}
        for kind in reversed(kinds):
            self._of[kind].delete_many(own)
        for kind in kinds:
            self.save(kind, getattr(results, kind))

    def note_run(self, run: str, facts: Mapping[str, Any]) -> None:
        """Update the document of a project.

        Parameters
        ----------
        run : str
            Folder of the project.
        facts : mapping
            Fields to set.
        """
        self.runs.update_one({"_id": run}, {"$set": {**facts, "updated": utc_now()}}, upsert=True)

    def run(self, run: str) -> Document | None:
        """Return the document of a project, or None."""
        return self.runs.find_one({"_id": run})

    def visible_runs(self, programs: Sequence[str] | str) -> list[Document]:
        """Return the projects visible to users of some programmes: those without programmes are visible to all."""
        own = [] if programs == ALL_PROGRAMS else list(programs)
        query = {} if programs == ALL_PROGRAMS else {"$or": [{"programs": []}, {"programs": {"$in": own}}]}
        return list(self.runs.find(query).sort("_id", 1))

    def progress(self, run: str) -> dict[str, int]:
        """Return the numbers of sources, analysed, empty, failed and stale ones, and detections of a project."""
        own: Document = {"run": run}
        return {
            "sources": self._of["sources"].count_documents({"projects": run}),
            "analysed": self._of["properties"].count_documents(own),
            "empty": self._of["properties"].count_documents({**own, "state": "done", "has_data": False}),
            "failed": self._of["properties"].count_documents({**own, "state": "failed"}),
            "stale": self._of["properties"].count_documents({**own, "stale": True}),
            "detections": self._of["detections"].count_documents({**own, "simulated": False}),
        }

    def forget_results(self, run: str, names: Sequence[str] | None = None) -> None:
        """Remove results of a project.

        Parameters
        ----------
        run : str
            Folder of the project.
        names : sequence of str, optional
            Only those of these sources.
        """
        query: Document = {"run": run} if names is None else {"run": run, "source_name": {"$in": list(names)}}
        for kind in reversed(RESULTS):
            self._of[kind].delete_many(query)

    def forget_run(self, run: str) -> None:
        """Remove a project with its results; sources and raw photometry remain, as other projects share them."""
        self.forget_results(run)
        self._of["sources"].update_many({"projects": run}, {"$pull": {"projects": run}})
        self.runs.delete_one({"_id": run})

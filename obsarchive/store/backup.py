"""What the archive tree cannot rebuild, read in one consistent view and put back.

Accounts, tokens, requests and the audit log, as the journal of people's acts keeps them; the ledger of frames fetched
from online archives; datasets and their requests; alerts; requests for a redo that the daemon has not applied; nights
that copy the calibration of another one. Everything else comes back from the tree.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any

from bson import json_util
from pymongo import ReplaceOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import BulkWriteError, OperationFailure

from obsarchive.core.document_paths import COPIES_CALIBRATION_FROM
from obsarchive.core.rules import lookup
from obsarchive.errors import NotReady
from obsarchive.store.people import AUDIT, COLLECTIONS, Act
from obsarchive.store.step_records import Document, StepPath, StepStore

WHOLE = (*COLLECTIONS, AUDIT, "frames", "datasets", "alerts")
"""Collections that are kept as they are."""
DUPLICATE_KEY, SNAPSHOT_UNAVAILABLE = 11000, 246
BATCH = 500

Counts = Counter[tuple[str, str]]
"""Number of documents by their collection and by what became of them."""


class Backup:
    """The part of a database that only a backup keeps.

    Parameters
    ----------
    database : Database
        The database.
    records : mapping of StepStore to sequence of (str, str)
        Observations and nights, with the steps that their documents hold.
    """

    def __init__(self, database: Database[Document], records: Mapping[StepStore, Sequence[StepPath]]) -> None:
        self.database = database
        self._records = {store.collection.name: store for store in records}
        self._paths = {store.collection.name: _wish_paths(store, steps) for store, steps in records.items()}

    @property
    def is_consistent(self) -> bool:
        """Whether all is read as it was at one moment: a single server that is no replica set cannot do that."""
        hello = self.database.client.admin.command("hello")
        return "setName" in hello or hello.get("msg") == "isdbgrid"

    def acts(self) -> Iterator[Act]:
        """Yield the documents to be kept, collection by collection.

        Raises
        ------
        NotReady
            A collection or an index was just made: read all again in a moment.
        """
        with self.database.client.start_session(snapshot=self.is_consistent) as session:
            try:
                for name in WHOLE:
                    for document in self.database[name].find({}, session=session):
                        yield Act.of(name, document)
                for name in self._records:
                    yield from self._wishes(name, session)
            except OperationFailure as err:
                if err.code != SNAPSHOT_UNAVAILABLE:
                    raise
                raise NotReady(f"the database cannot be read as it was at one moment: {err}") from err

    def _wishes(self, name: str, session: ClientSession) -> Iterator[Act]:
        """Yield what people asked for in documents of observations or nights, by the paths of the fields."""
        paths = self._paths[name]
        asked = {"$or": [{path: {"$nin": [None, False, 0, ""]}} for path in paths]}
        for document in self.database[name].find(asked, paths, session=session):
            fields = {path: value for path in paths if (value := lookup(document, path))}
            yield Act.of(name, {"_id": document["_id"], **fields})

    def restore(self, acts: Iterable[Act], *, overwrite: bool = False) -> Counts:
        """Put documents back.

        Parameters
        ----------
        acts : iterable of Act
            The documents, collection by collection.
        overwrite : bool, optional
            Replace documents that differ from those in the backup; by default they stay as they are.

        Returns
        -------
        Counter
            Number of documents by collection and by what became of them: ``restored``, ``replaced``, ``kept``,
            ``unknown`` (requests for observations and nights that the tree does not hold).
        """
        counts: Counts = Counter()
        for name, of_collection in groupby(acts, key=lambda act: act.collection):
            documents = (json_util.loads(act.line) for act in of_collection)
            while some := list(islice(documents, BATCH)):
                if name in WHOLE:
                    counts += self._put_back(name, some, overwrite)
                elif name in self._records:
                    counts += self._ask_again(name, some)
        return counts

    def _put_back(self, name: str, documents: Sequence[Document], overwrite: bool) -> Counts:
        collection, total = self.database[name], len(documents)
        if overwrite:
            done = collection.bulk_write([ReplaceOne({"_id": it["_id"]}, it, upsert=True) for it in documents])
            restored, replaced = done.upserted_count, done.modified_count
        else:
            try:
                restored = len(collection.insert_many(documents, ordered=False).inserted_ids)
            except BulkWriteError as err:
                if any(problem["code"] != DUPLICATE_KEY for problem in err.details["writeErrors"]):
                    raise
                restored = err.details["nInserted"]
            replaced = 0
        kept = total - restored - replaced
        return Counter({(name, "restored"): restored, (name, "replaced"): replaced, (name, "kept"): kept})

    def _ask_again(self, name: str, documents: Iterable[Document]) -> Counts:
        """Set requests of people in documents that are there; fields of pipelines that are not used are ignored."""
        records, counts = self._records[name], Counter[tuple[str, str]]()
        for document in documents:
            fields = {path: value for path, value in document.items() if path in self._paths[name]}
            found = records.collection.update_one({"_id": document["_id"]}, {"$set": {**fields, **records.reopened()}})
            counts[name, "restored" if found.matched_count else "unknown"] += 1
        return counts


def _wish_paths(records: StepStore, steps: Iterable[StepPath]) -> list[str]:
    """Return the paths of fields in which people ask for something."""
    paths: dict[str, Any] = {COPIES_CALIBRATION_FROM: None}
    for pipeline, step in steps:
        at = records.pipeline_paths(pipeline)
        paths |= {at.status("force_redo"): None, at.step(step, "redo"): None}
    return list(paths)

"""The collection ``datasets``: datasets ``target/instrument/filter``, and how far the reduction of each is."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pymongo.collection import Collection

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document

EVERYBODY = "all"


class Datasets:
    """One document a dataset.

    States: ``due`` (frames are new or changed), ``running``, ``done``, ``failed`` (with the reason). The leaf
    ``force_redo`` is a wish of people: everything is measured again.
    """

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    @staticmethod
    def key(folder: Path) -> str:
        """Return what stands for a dataset in addresses."""
        return hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]

    def note(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Note facts of a dataset."""
        folder = folder.absolute()
        parts = (*["", "", ""], *folder.parts)[-3:]
        known = {"folder": str(folder), "target": parts[0], "instrument": parts[1], "filter": parts[2]}
        self.collection.update_one(
            {"_id": self.key(folder)},
            {"$set": {**facts, "updated": utc_now()}, "$setOnInsert": {k: known[k] for k in known if k not in facts}},
            upsert=True,
        )

    def set_due(self, folder: Path, proposal: str) -> None:
        """Note that frames of a dataset are new or changed."""
        self.note(folder, {"state": "due"})
        if proposal:
            self.collection.update_one({"_id": self.key(folder)}, {"$addToSet": {"proposals": proposal}})

    def begin(self, folder: Path, run: str) -> bool:
        """Note that a reduction starts; whether people requested that everything is measured again."""
        before = self.collection.find_one_and_update(
            {"_id": self.key(folder)},
            {"$set": {"state": "running", "run": run, "reason": "", "progress": 0.0}, "$unset": {"force_redo": 1}},
        )
        return bool(before and before.get("force_redo"))

    def request_redo(self, key: str) -> bool:
        """Wish that a dataset is reduced again from its frames; whether it is known."""
        return self.collection.update_one({"_id": key}, {"$set": {"force_redo": True}}).matched_count > 0

    def due(self, and_failed: bool = False) -> list[Document]:
        """Datasets that are to be reduced, those whose reduction was killed among them; the longest waiting first."""
        states = ["due", "running", *(["failed"] if and_failed else [])]
        query = {"$or": [{"state": {"$in": states}}, {"force_redo": True}]}
        return list(self.collection.find(query).sort([("updated", 1), ("_id", 1)]))

    def find(self, key: str) -> Document | None:
        """Return a dataset."""
        return self.collection.find_one({"_id": key})

    def visible(self, programs: Sequence[str] | str) -> list[Document]:
        """Datasets of some programmes, or of all, by name."""
        query = {} if programs == EVERYBODY else {"proposals": {"$in": list(programs)}}
        return list(self.collection.find(query).sort([("target", 1), ("instrument", 1), ("filter", 1)]))

    def ensure_indexes(self) -> None:
        """Create what the queries need."""
        self.collection.create_index("state")
        self.collection.create_index("proposals")

"""The collection ``datasets``: datasets ``target/instrument/filter``, and the state of the reduction of each."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pymongo.collection import Collection

from obsarchive.core.documents import utc_now
from obsarchive.core.processes import has_ended, this_process
from obsarchive.core.values import as_flag
from obsarchive.io.dataset_lock import holder
from obsarchive.store.step_records import IS_TRUE, Document

ALL_PROGRAMS = "all"


def _as_it_is(dataset: Document) -> Document:
    """Return a document with the present state: a killed reduction could not write that it ended, and is due again."""
    if dataset.get("state") != "running":
        return dataset
    folder = Path(dataset["folder"])
    is_held = holder(folder) is not None if folder.is_dir() else False
    if is_held or not has_ended(dataset.get("process"), dataset.get("updated")):
        return dataset
    return {**dataset, "state": "due", "reason": "its reduction was stopped before it ended; the next one goes on"}


class Datasets:
    """The collection ``datasets``; one document per dataset.

    States: ``due`` (frames are new or changed), ``running``, ``done``, ``failed`` (with the reason). The field
    ``force_redo`` is a request of a user: everything is measured again.

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    @staticmethod
    def key(folder: Path) -> str:
        """Return the identifier of a dataset, which its addresses contain."""
        return hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]

    def note(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Set fields of a dataset; add the dataset if it is unknown.

        Parameters
        ----------
        folder : Path
            Folder of the dataset, ``target/instrument/filter``.
        facts : mapping
            Values by the names of the fields.
        """
        folder = folder.absolute()
        parts = (*["", "", ""], *folder.parts)[-3:]
        known = {"folder": str(folder), "target": parts[0], "instrument": parts[1], "filter": parts[2]}
        self.collection.update_one(
            {"_id": self.key(folder)},
            {"$set": {**facts, "updated": utc_now()}, "$setOnInsert": {k: known[k] for k in known if k not in facts}},
            upsert=True,
        )

    def set_due(self, folder: Path, proposal: str) -> None:
        """Mark a dataset as due because frames are new or changed.

        Parameters
        ----------
        folder : Path
            Folder of the dataset.
        proposal : str
            Programme of the new frames; empty if unknown.
        """
        self.note(folder, {"state": "due"})
        if proposal:
            self.collection.update_one({"_id": self.key(folder)}, {"$addToSet": {"proposals": proposal}})

    def begin(self, folder: Path, run: str) -> bool:
        """Mark a dataset as running and consume a request for a redo.

        Parameters
        ----------
        folder : Path
            Folder of the dataset.
        run : str
            Identifier of the run that reduces it.

        Returns
        -------
        bool
            Whether a user requested that everything is measured again.
        """
        before = self.collection.find_one_and_update(
            {"_id": self.key(folder)},
            {
                "$set": {"state": "running", "run": run, "reason": "", "progress": 0.0, "process": this_process()},
                "$unset": {"force_redo": 1},
            },
        )
        return before is not None and as_flag(before.get("force_redo"))

    def request_redo(self, key: str) -> bool:
        """Request that a dataset is reduced again from its frames; return whether it is known."""
        return self.collection.update_one({"_id": key}, {"$set": {"force_redo": True}}).matched_count > 0

    def due(self, and_failed: bool = False) -> list[Document]:
        """Return datasets to be reduced, the longest waiting first; those whose reduction was killed among them."""
        states = ["due", "running", *(["failed"] if and_failed else [])]
        query = {"$or": [{"state": {"$in": states}}, {"force_redo": IS_TRUE}]}
        return list(self.collection.find(query).sort([("updated", 1), ("_id", 1)]))

    def find(self, key: str) -> Document | None:
        """Return the document of a dataset, or None."""
        found = self.collection.find_one({"_id": key})
        return found and _as_it_is(found)

    def visible(self, programs: Sequence[str] | str) -> list[Document]:
        """Return datasets of some programmes, or of all (``"all"``), by name."""
        query = {} if programs == ALL_PROGRAMS else {"proposals": {"$in": list(programs)}}
        found = self.collection.find(query).sort([("target", 1), ("instrument", 1), ("filter", 1)])
        return [_as_it_is(dataset) for dataset in found]

    def ensure_indexes(self) -> None:
        """Create the indexes that the queries use."""
        self.collection.create_index("state")
        self.collection.create_index("proposals")

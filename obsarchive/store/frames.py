"""The collection ``frames``: the ledger of what online archives offered and what became of it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo.collection import Collection

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document

LAST_RUN, MOST_PROBLEMS = "last run", 20


class Frames:
    """One document a frame; written as each frame goes on, so that a crash loses nothing.

    States: ``offered`` (still to be fetched), ``fetched`` (in the download folder), ``sorted`` (in its dataset),
    ``failed`` (with the reason; tried again by the next run).
    """

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def offer(self, archive: str, name: str, facts: Mapping[str, Any]) -> str:
        """Note what an archive offers; returns the state of the frame: ``offered`` also when its bytes changed."""
        known = self.collection.find_one({"_id": _key(archive, name)}) or {}
        state = str(known.get("state") or "offered")
        if known.get("md5") != facts["md5"] or state == "failed":
            state = "offered"
        fields = {"archive": archive, "name": name, **facts, "state": state, "updated": utc_now()}
        self.collection.update_one({"_id": _key(archive, name)}, {"$set": fields}, upsert=True)
        return state

    def note(self, archive: str, name: str, state: str, **fields: Any) -> None:
        """Note how far a frame came."""
        change = {"state": state, "problem": "", **fields, "updated": utc_now()}
        self.collection.update_one({"_id": _key(archive, name)}, {"$set": change})

    def in_state(self, state: str) -> list[Document]:
        """Frames in a state, in the order of their times."""
        return list(self.collection.find({"state": state}).sort([("date_utc", 1), ("_id", 1)]))

    def listed(self) -> Iterator[Document]:
        """Every frame that was fetched, in the order of their times."""
        query = {"state": {"$in": ["fetched", "sorted"]}}
        yield from self.collection.find(query).sort([("date_utc", 1), ("_id", 1)])

    def last_success(self, archive: str) -> datetime | None:
        """Return the end of the range of times that was fetched from an archive without a failure last."""
        found = self.collection.find_one({"_id": f"success {archive}"})
        return found["until"] if found else None

    def note_success(self, archive: str, until: datetime) -> None:
        """Note that everything of an archive up to a time was fetched."""
        self.collection.update_one({"_id": f"success {archive}"}, {"$set": {"until": until}}, upsert=True)

    def note_run(self, told: str, problems: Sequence[str]) -> None:
        """Note how the last look at the archives ended."""
        fields = {"when": utc_now(), "told": told, "problems": list(problems)[-MOST_PROBLEMS:]}
        self.collection.update_one({"_id": LAST_RUN}, {"$set": fields}, upsert=True)

    def last_run(self) -> Document | None:
        """Return how the last look at the archives ended: ``when``, ``told``, ``problems``."""
        return self.collection.find_one({"_id": LAST_RUN})

    def ensure_indexes(self) -> None:
        """Create what the queries need."""
        self.collection.create_index([("state", 1), ("date_utc", 1)])


def _key(archive: str, name: str) -> str:
    return f"{archive} {name}"

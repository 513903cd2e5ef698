"""The collection ``requests``: what people asked for in the portal, until the daemon has done it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document

KEEP = timedelta(days=30)
"""How long answered requests are kept."""


class Requests:
    """Requests: the portal adds them, the daemon answers them. The portal changes nothing else of the database."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def ask(self, kind: str, who: str, what: Mapping[str, Any]) -> bool:
        """Add a wish; False when the same one waits already."""
        wish = {"kind": kind, "what": dict(what), "answered": None}
        asked = self.collection.update_one(wish, {"$setOnInsert": {"who": who, "asked": utc_now()}}, upsert=True)
        return asked.upserted_id is not None

    def waiting(self) -> list[Document]:
        """Requests that the daemon has not answered, the oldest first."""
        return list(self.collection.find({"answered": None}).sort([("asked", 1), ("_id", 1)]))

    def about(self, kind: str, **what: Any) -> list[Document]:
        """Wishes of a kind about something, the newest first, answered or not."""
        query = {"kind": kind, **{f"what.{key}": value for key, value in what.items()}}
        return list(self.collection.find(query).sort([("asked", -1), ("_id", -1)]).limit(100))

    def answer(self, wish: ObjectId, problem: str) -> None:
        """Note that a wish was granted (`problem` is empty), or why it cannot be."""
        now = utc_now()
        self.collection.update_one(
            {"_id": wish}, {"$set": {"answered": now, "problem": problem, "expires": now + KEEP}}
        )

    def ensure_indexes(self) -> None:
        """Create what the queries need; answered requests go by themselves."""
        self.collection.create_index("answered")
        self.collection.create_index([("kind", 1), ("asked", -1)])
        self.collection.create_index("expires", expireAfterSeconds=0)

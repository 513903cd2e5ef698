"""The collection ``alerts``: what people are to be told, until they were told it."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document

KEEP = timedelta(days=7)
"""How long an event is kept; whoever could not be told within this time is told no more."""


class Outbox:
    """Events, and who was told of each."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def add(self, key: str, facts: Mapping[str, Any]) -> None:
        """Note an event; one that is known already is left as it is."""
        now = utc_now()
        try:
            self.collection.insert_one({"_id": key, **facts, "when": now, "told": [], "expires": now + KEEP})
        except DuplicateKeyError:
            return

    def untold(self, who: str, query: Mapping[str, Any]) -> list[Document]:
        """Events that fulfil `query` and that `who` was not told, the oldest first."""
        return list(self.collection.find({**query, "told": {"$ne": who}}).sort([("when", 1), ("_id", 1)]).limit(1000))

    def note_told(self, keys: Iterable[str], who: str) -> None:
        """Note that `who` knows these events."""
        self.collection.update_many({"_id": {"$in": list(keys)}}, {"$addToSet": {"told": who}})

    def ensure_indexes(self) -> None:
        """Let old events go by themselves."""
        self.collection.create_index("expires", expireAfterSeconds=0)
        self.collection.create_index("when")

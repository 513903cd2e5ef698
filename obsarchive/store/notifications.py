"""The collection ``alerts``: events, until each receiver was notified of them."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document

KEEP = timedelta(days=7)
"""How long an event is kept; a receiver that cannot be reached within this time is not notified any more."""


class Outbox:
    """Events, and the receivers notified of each (field ``told``).

    Parameters
    ----------
    collection : Collection
        The collection ``alerts``.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def add(self, key: str, facts: Mapping[str, Any]) -> None:
        """Add an event, unless it is known.

        Parameters
        ----------
        key : str
            Identifier of the event.
        facts : mapping
            Its fields.
        """
        now = utc_now()
        try:
            self.collection.insert_one({"_id": key, **facts, "when": now, "told": [], "expires": now + KEEP})
        except DuplicateKeyError:
            return

    def untold(self, who: str, query: Mapping[str, Any]) -> list[Document]:
        """Return events that a receiver was not notified of, the oldest first.

        Parameters
        ----------
        who : str
            Identifier of the receiver.
        query : mapping
            Filter of the events that concern the receiver.

        Returns
        -------
        list of dict
            At most 1000.
        """
        return list(self.collection.find({**query, "told": {"$ne": who}}).sort([("when", 1), ("_id", 1)]).limit(1000))

    def note_told(self, keys: Iterable[str], who: str) -> None:
        """Record that a receiver was notified of events.

        Parameters
        ----------
        keys : iterable of str
            Identifiers of the events.
        who : str
            Identifier of the receiver.
        """
        self.collection.update_many({"_id": {"$in": list(keys)}}, {"$addToSet": {"told": who}})

    def ensure_indexes(self) -> None:
        """Create the indexes that the queries use; old events expire."""
        self.collection.create_index("expires", expireAfterSeconds=0)
        self.collection.create_index("when")

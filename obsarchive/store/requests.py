"""The collection ``requests``: requests of the portal's users, until the daemon has applied them."""

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
    """Requests, added by the portal and answered by the daemon, which alone changes observations and nights.

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def ask(self, kind: str, who: str, what: Mapping[str, Any]) -> bool:
        """Add a request, unless the same one waits already and the daemon has not begun to apply it.

        Parameters
        ----------
        kind : str
            Kind of the request.
        who : str
            Name of the user.
        what : mapping
            What is requested.

        Returns
        -------
        bool
            Whether it was added.
        """
        request = {"kind": kind, "what": dict(what), "answered": None, "begun": None}
        asked = self.collection.update_one(request, {"$setOnInsert": {"who": who, "asked": utc_now()}}, upsert=True)
        return asked.upserted_id is not None

    def waiting(self) -> list[Document]:
        """Return requests that the daemon has not answered, the oldest first."""
        return list(self.collection.find({"answered": None}).sort([("asked", 1), ("_id", 1)]))

    def begin(self, request: ObjectId) -> None:
        """Record that a request is being applied; who asks the same from now on has seen more than it may regard."""
        self.collection.update_one({"_id": request}, {"$set": {"begun": utc_now()}})

    def about(self, kind: str, **what: Any) -> list[Document]:
        """Return the last 100 requests of a kind, answered or not, the newest first.

        Parameters
        ----------
        kind : str
            Kind of the requests.
        **what
            Values that their fields must have.

        Returns
        -------
        list of dict
        """
        query = {"kind": kind, **{f"what.{key}": value for key, value in what.items()}}
        return list(self.collection.find(query).sort([("asked", -1), ("_id", -1)]).limit(100))

    def answer(self, request: ObjectId, problem: str) -> None:
        """Record that a request was applied, or why it cannot be.

        Parameters
        ----------
        request : ObjectId
            Identifier of the request.
        problem : str
            Why it cannot be applied; empty if it was.
        """
        now = utc_now()
        self.collection.update_one(
            {"_id": request}, {"$set": {"answered": now, "problem": problem, "expires": now + KEEP}}
        )

    def ensure_indexes(self) -> None:
        """Create the indexes that the queries use; answered requests expire."""
        self.collection.create_index("answered")
        self.collection.create_index([("kind", 1), ("asked", -1)])
        self.collection.create_index("expires", expireAfterSeconds=0)

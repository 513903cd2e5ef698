"""The collection ``watches``: what users want to be notified of, and where."""

import secrets
from collections.abc import Iterator
from typing import Any

from pymongo.collection import Collection

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document


class Watches:
    """Watches, set by users in the portal and read by the daemon.

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def add(self, user: str, **facts: Any) -> bool:
        """Add a watch of a user, unless the user has the same one.

        Parameters
        ----------
        user : str
            Name of the user.
        **facts
            Its fields: ``kind``, ``value``, and ``email`` or ``webhook``.

        Returns
        -------
        bool
            Whether it was added.
        """
        watch = {"user": user, **facts}
        new = {"_id": secrets.token_hex(8), "created": utc_now()}
        return self.collection.update_one(watch, {"$setOnInsert": new}, upsert=True).upserted_id is not None

    def of_user(self, user: str) -> list[Document]:
        """Return the watches of a user, the oldest first."""
        return list(self.collection.find({"user": user}).sort([("created", 1), ("_id", 1)]))

    def remove(self, user: str, watch: str) -> bool:
        """Remove a watch of a user.

        Parameters
        ----------
        user : str
            Name of the user.
        watch : str
            Identifier of the watch.

        Returns
        -------
        bool
            False if the user has no such watch.
        """
        return self.collection.delete_one({"_id": watch, "user": user}).deleted_count == 1

    def remove_all(self, user: str) -> None:
        """Remove all watches of a user."""
        self.collection.delete_many({"user": user})

    def all(self) -> Iterator[Document]:
        """Yield the watches of all users."""
        yield from self.collection.find({}).sort("_id", 1)

    def any(self) -> bool:
        """Whether there is a watch."""
        return self.collection.find_one({}, {"_id": 1}) is not None

    def ensure_indexes(self) -> None:
        """Create the index that the queries use."""
        self.collection.create_index("user")

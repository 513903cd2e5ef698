"""Open logins of the portal, and access tokens of programs."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from pymongo.collection import Collection

from obsarchive.core.documents import utc_now
from obsarchive.store.audit import one_line
from obsarchive.store.step_records import Document


class Sessions:
    """The collection ``sessions``: open logins. ``_id`` is the hash of what the browser holds.

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def open(self, digest: str, user: str, life: timedelta, about: Mapping[str, str]) -> None:
        """Add a session.

        Parameters
        ----------
        digest : str
            Hash of what the browser holds.
        user : str
            Name of the user.
        life : timedelta
            Longest duration of the session, however it is used.
        about : mapping
            Further fields.
        """
        now = utc_now()
        times = {"created": now, "confirmed": now, "last_seen": now, "expires": now + life}
        self.collection.insert_one({"_id": digest, "user": user, **times, **about})

    def find(self, digest: str, idle: timedelta) -> Document | None:
        """Return an open session.

        Parameters
        ----------
        digest : str
            Hash of what the browser holds.
        idle : timedelta
            Longest time since it was last used.

        Returns
        -------
        dict or None
            None if there is none, or it expired.
        """
        now = utc_now()
        return self.collection.find_one({"_id": digest, "expires": {"$gt": now}, "last_seen": {"$gt": now - idle}})

    def seen(self, digest: str) -> None:
        """Record that a session was used."""
        self.collection.update_one({"_id": digest}, {"$set": {"last_seen": utc_now()}})

    def confirm(self, digest: str) -> None:
        """Record that the user of a session gave the password again."""
        self.collection.update_one({"_id": digest}, {"$set": {"confirmed": utc_now()}})

    def of_user(self, user: str, since: datetime | None, idle: timedelta) -> list[Document]:
        """Return open sessions of a user, the one used last first.

        Parameters
        ----------
        user : str
            Name of the user.
        since : datetime or None
            Only sessions that began then or later.
        idle : timedelta
            Longest time since a session was last used.

        Returns
        -------
        list of dict
        """
        now = utc_now()
        query: Document = {"user": user, "expires": {"$gt": now}, "last_seen": {"$gt": now - idle}}
        if since is not None:
            query["created"] = {"$gte": since}
        return list(self.collection.find(query).sort("last_seen", -1))

    def close(self, digest: str) -> None:
        """End a session."""
        self.collection.delete_one({"_id": digest})

    def close_one(self, user: str, digest: str) -> bool:
        """End a session of a user.

        Parameters
        ----------
        user : str
            Name of the user.
        digest : str
            Hash of what the browser holds.

        Returns
        -------
        bool
            False if the user has no such session.
        """
        return self.collection.delete_one({"_id": digest, "user": user}).deleted_count == 1

    def counts(self, idle: timedelta) -> dict[str, int]:
        """Return the number of open sessions of each user."""
        now = utc_now()
        query = {"expires": {"$gt": now}, "last_seen": {"$gt": now - idle}}
        counted = self.collection.aggregate([{"$match": query}, {"$group": {"_id": "$user", "n": {"$sum": 1}}}])
        return {entry["_id"]: entry["n"] for entry in counted}

    def close_all(self, user: str, but: str | None = None) -> None:
        """End the sessions of a user.

        Parameters
        ----------
        user : str
            Name of the user.
        but : str, optional
            Hash of a session that stays open.
        """
        self.collection.delete_many({"user": user, "_id": {"$ne": but}})

    def ensure_indexes(self) -> None:
        """Create the indexes that the queries use; ended sessions expire."""
        self.collection.create_index("expires", expireAfterSeconds=0)
        self.collection.create_index("user")


class Tokens:
    """The collection ``tokens``: tokens by which programs log in. ``_id`` is the hash of the token.

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def add(self, digest: str, user: str, label: str, scopes: Sequence[str], life: timedelta) -> None:
        """Add a token.

        Parameters
        ----------
        digest : str
            Hash of the token.
        user : str
            Name of the user.
        label : str
            Description by the user.
        scopes : sequence of str
            What the token permits.
        life : timedelta
            Duration of its validity.
        """
        now = utc_now()
        about = {"user": user, "label": one_line(label), "scopes": list(scopes), "created": now, "last_used": None}
        self.collection.insert_one({"_id": digest, **about, "expires": now + life})

    def find(self, digest: str) -> Document | None:
        """Return a token that has not expired, or None."""
        return self.collection.find_one({"_id": digest, "expires": {"$gt": utc_now()}})

    def used(self, digest: str) -> None:
        """Record that a token was used."""
        self.collection.update_one({"_id": digest}, {"$set": {"last_used": utc_now()}})

    def of_user(self, user: str) -> list[Document]:
        """Return the valid tokens of a user, the newest first."""
        return list(self.collection.find({"user": user, "expires": {"$gt": utc_now()}}).sort("created", -1))

    def revoke(self, digest: str, user: str) -> bool:
        """End a token of a user.

        Parameters
        ----------
        digest : str
            Hash of the token.
        user : str
            Name of the user.

        Returns
        -------
        bool
            False if the user has no such token.
        """
        return self.collection.delete_one({"_id": digest, "user": user}).deleted_count == 1

    def revoke_all(self, user: str) -> None:
        """End every token of a user."""
        self.collection.delete_many({"user": user})

    def ensure_indexes(self) -> None:
        """Create the indexes that the queries use; expired tokens are removed."""
        self.collection.create_index("expires", expireAfterSeconds=0)
        self.collection.create_index("user")

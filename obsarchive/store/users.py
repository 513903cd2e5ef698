"""Users of an archive: their accounts, their sessions in the portal, and the log of what they did there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document

_ANY_CASE = {"locale": "en", "strength": 2}
"""Collation by which names are equal that differ in case only."""
TEXT_LIMIT = 500
"""Longest text of a user that an audit entry keeps [characters]."""


class Users:
    """The collection ``users``.

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def find(self, name: str) -> Document | None:
        """Return a user's document, or None."""
        return self.collection.find_one({"_id": name})

    def all(self) -> list[Document]:
        """Return every user, by name, without password hashes and secrets."""
        return list(self.collection.find({}, {"password": 0, "totp.secret": 0}).sort("_id", 1))

    def everything(self) -> Iterator[Document]:
        """Yield every user with all fields; for checks of passwords only."""
        yield from self.collection.find({})

    def any_admin(self) -> bool:
        """Whether some administrator can log in."""
        return self.collection.find_one({"programs": "all", "password": {"$type": "string"}}) is not None

    def add(self, name: str, fields: Mapping[str, Any]) -> bool:
        """Create a user.

        Parameters
        ----------
        name : str
            Name of the user.
        fields : mapping
            Values by the names of the fields.

        Returns
        -------
        bool
            False if there is a user of that name.
        """
        try:
            self.collection.insert_one({"_id": name, **fields, "last_modified": utc_now()})
        except DuplicateKeyError:
            return False
        return True

    def save(self, name: str, fields: Mapping[str, Any]) -> None:
        """Set fields of a user; create the user if there is none.

        Parameters
        ----------
        name : str
            Name of the user.
        fields : mapping
            Values by the names of the fields.
        """
        self.collection.update_one({"_id": name}, {"$set": {**fields, "last_modified": utc_now()}}, upsert=True)

    def unset(self, name: str, fields: Iterable[str]) -> None:
        """Remove fields of a user.

        Parameters
        ----------
        name : str
            Name of the user.
        fields : iterable of str
            Names of the fields.
        """
        self.collection.update_one({"_id": name}, {"$unset": dict.fromkeys(fields, "")})

    def raise_number(self, name: str, field: str, value: int) -> bool:
        """Set a number of a user, unless it is as large already.

        Parameters
        ----------
        name : str
            Name of the user.
        field : str
            Path of the number.
        value : int
            Its new value.

        Returns
        -------
        bool
            Whether it was set.
        """
        raised = self.collection.update_one({"_id": name, field: {"$lt": value}}, {"$set": {field: value}})
        return raised.modified_count == 1

    def remove(self, name: str) -> bool:
        """Remove a user; return False if there is none."""
        return self.collection.delete_one({"_id": name}).deleted_count == 1

    def by_token(self, kind: str, digest: str) -> Document | None:
        """Return the user who holds a one-time link.

        Parameters
        ----------
        kind : str
            Field that keeps the link.
        digest : str
            Hash of its token.

        Returns
        -------
        dict or None
            None if the link is unknown or expired.
        """
        return self.collection.find_one(_holds(kind, digest))

    def redeem(self, kind: str, digest: str, fields: Mapping[str, Any]) -> bool:
        """Use up a one-time link and set fields of its holder.

        Parameters
        ----------
        kind : str
            Field that keeps the link.
        digest : str
            Hash of its token.
        fields : mapping
            Fields to set.

        Returns
        -------
        bool
            False if the link was used or is expired.
        """
        used = self.collection.update_one(
            _holds(kind, digest), {"$set": {**fields, "last_modified": utc_now()}, "$unset": {kind: ""}}
        )
        return used.modified_count == 1

    def forget_left(self, program: str) -> None:
        """Forget which users left a programme, when its observations do not name them any more."""
        self.collection.update_many({"left": program}, {"$pull": {"left": program}})

    def members(self, program: str) -> list[str]:
        """Return the users of a programme, by name."""
        return sorted(found["_id"] for found in self.collection.find({"programs": program}, {"_id": 1}))

    def alike(self, name: str) -> str | None:
        """Return a user whose name differs from another at most in case; None if there is none."""
        found = self.collection.find_one({"_id": name}, {"_id": 1}, collation=_ANY_CASE)
        return str(found["_id"]) if found else None

    def owners(self, program: str) -> list[str]:
        """Return the users of a programme; without any, the administrator."""
        return self.members(program) or ["admin"]


def _holds(kind: str, digest: str) -> Document:
    return {f"{kind}.digest": digest, f"{kind}.expires": {"$gt": utc_now()}}


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


class Slots:
    """The collection ``slots``: limits of costly work that runs at the same time, over all processes.

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def take(self, key: str, limit: int, life: timedelta) -> str | None:
        """Take one of a number of slots.

        Parameters
        ----------
        key : str
            What is limited.
        limit : int
            Number of slots.
        life : timedelta
            Duration after which the slot is free, unless it is kept or given back before.

        Returns
        -------
        str or None
            Name of the slot; None if all are taken.
        """
        now = utc_now()
        for number in range(limit):
            name = f"{key} {number}"
            self.collection.delete_one({"_id": name, "expires": {"$lte": now}})
            try:
                self.collection.insert_one({"_id": name, "expires": now + life})
            except DuplicateKeyError:
                continue
            return name
        return None

    def keep(self, name: str, life: timedelta) -> None:
        """Extend the hold of a slot.

        Parameters
        ----------
        name : str
            Name of the slot.
        life : timedelta
            Duration from now.
        """
        self.collection.update_one({"_id": name}, {"$set": {"expires": utc_now() + life}})

    def give_back(self, name: str) -> None:
        """Free a slot."""
        self.collection.delete_one({"_id": name})


class Throttle:
    """The collection ``throttle``: numbers of attempts within a window of time.

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def count(self, key: str, window_s: float) -> int:
        """Count one more attempt.

        Parameters
        ----------
        key : str
            What is attempted, and by whom.
        window_s : float
            Length of a window [s].

        Returns
        -------
        int
            Attempts in the running window, this one included.
        """
        now = utc_now()
        window = int(now.timestamp() // window_s)
        counted: Any = self.collection.find_one_and_update(
            {"_id": f"{key} {window}"},
            {"$inc": {"attempts": 1}, "$setOnInsert": {"expires": now + timedelta(seconds=window_s)}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return int(counted["attempts"])

    def forget(self, key: str, window_s: float) -> None:
        """Reset the count, after a successful attempt.

        Parameters
        ----------
        key : str
            What is attempted, and by whom.
        window_s : float
            Length of a window [s].
        """
        self.collection.delete_one({"_id": f"{key} {int(utc_now().timestamp() // window_s)}"})

    def ensure_indexes(self) -> None:
        """Create the index by which past windows expire."""
        self.collection.create_index("expires", expireAfterSeconds=0)


class Audit:
    """The collection ``audit``: actions of users in the portal. Entries are only ever added.

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def record(self, action: str, who: str | None, address: str | None = None, **details: str) -> None:
        """Add an entry; texts are cut and their control characters escaped.

        Parameters
        ----------
        action : str
            What was done.
        who : str or None
            Name of the user.
        address : str, optional
            Network address of the user.
        **details
            Further texts.
        """
        entry = {key: one_line(value) for key, value in details.items()}
        entry |= {"who": one_line(who or "-"), "address": one_line(address or "-")}
        self.collection.insert_one({"when": utc_now(), "action": action, **entry})

    def recent(self, limit: int = 100) -> list[Document]:
        """Return the latest entries, newest first."""
        return list(self.collection.find({}, {"_id": 0}).sort("when", -1).limit(limit).max_time_ms(2000))

    def ensure_indexes(self) -> None:
        """Create the indexes that the queries use."""
        self.collection.create_index("when")


def one_line(text: str) -> str:
    """Return text cut to `TEXT_LIMIT`, with everything escaped that could start a new line or a control sequence."""
    kept = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:TEXT_LIMIT])
    return "".join(kept)

"""The people of an archive: their accounts, their sessions in the portal, and what they did there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document

TEXT_LIMIT = 500
"""Longest text an audit entry keeps of anything a person sent."""


class Users:
    """The collection ``users``."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def find(self, name: str) -> Document | None:
        """Return a user's document, or None."""
        return self.collection.find_one({"_id": name})

    def all(self) -> list[Document]:
        """Return every user, by name, without password hashes and secrets."""
        return list(self.collection.find({}, {"password": 0, "totp.secret": 0}).sort("_id", 1))

    def everything(self) -> Iterator[Document]:
        """Every user with all fields; for checks of passwords only."""
        yield from self.collection.find({})

    def any_admin(self) -> bool:
        """Whether some administrator can log in."""
        return self.collection.find_one({"programs": "all", "password": {"$type": "string"}}) is not None

    def add(self, name: str, fields: Mapping[str, Any]) -> bool:
        """Create a user; False when there is one of that name."""
        try:
            self.collection.insert_one({"_id": name, **fields, "last_modified": utc_now()})
        except DuplicateKeyError:
            return False
        return True

    def save(self, name: str, fields: Mapping[str, Any]) -> None:
        """Create a user or change fields of one."""
        self.collection.update_one({"_id": name}, {"$set": {**fields, "last_modified": utc_now()}}, upsert=True)

    def unset(self, name: str, fields: Iterable[str]) -> None:
        """Remove fields of a user."""
        self.collection.update_one({"_id": name}, {"$unset": dict.fromkeys(fields, "")})

    def raise_number(self, name: str, field: str, value: int) -> bool:
        """Set a number of a user if it grows by that; whether it did."""
        raised = self.collection.update_one({"_id": name, field: {"$lt": value}}, {"$set": {field: value}})
        return raised.modified_count == 1

    def remove(self, name: str) -> bool:
        """Remove a user; False when there is none."""
        return self.collection.delete_one({"_id": name}).deleted_count == 1

    def by_token(self, kind: str, digest: str) -> Document | None:
        """Return the user who holds a one-time link (`kind` is the field, `digest` the hash of its token)."""
        return self.collection.find_one(_holds(kind, digest))

    def redeem(self, kind: str, digest: str, fields: Mapping[str, Any]) -> bool:
        """Use up a one-time link and set fields of its holder; False when it was used or is too old."""
        used = self.collection.update_one(
            _holds(kind, digest), {"$set": {**fields, "last_modified": utc_now()}, "$unset": {kind: ""}}
        )
        return used.modified_count == 1

    def forget_left(self, program: str) -> None:
        """Forget who left a programme: its observations name him no more."""
        self.collection.update_many({"left": program}, {"$pull": {"left": program}})

    def owners(self, program: str) -> list[str]:
        """Users of a programme; without any, it belongs to the administrator."""
        found = sorted(d["_id"] for d in self.collection.find({"programs": program}, {"_id": 1}))
        return found or ["admin"]


def _holds(kind: str, digest: str) -> Document:
    return {f"{kind}.digest": digest, f"{kind}.expires": {"$gt": utc_now()}}


class Sessions:
    """The collection ``sessions``: who is logged in. ``_id`` is the hash of what the browser holds."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def open(self, digest: str, user: str, life: timedelta, about: Mapping[str, str]) -> None:
        """Note that `user` logged in; the session ends after `life` whatever happens."""
        now = utc_now()
        times = {"created": now, "confirmed": now, "last_seen": now, "expires": now + life}
        self.collection.insert_one({"_id": digest, "user": user, **times, **about})

    def find(self, digest: str, idle: timedelta) -> Document | None:
        """Return an open session that was used within the last `idle`, or None."""
        now = utc_now()
        return self.collection.find_one({"_id": digest, "expires": {"$gt": now}, "last_seen": {"$gt": now - idle}})

    def seen(self, digest: str) -> None:
        """Note that a session was used."""
        self.collection.update_one({"_id": digest}, {"$set": {"last_seen": utc_now()}})

    def confirm(self, digest: str) -> None:
        """Note that the user of a session gave the password again."""
        self.collection.update_one({"_id": digest}, {"$set": {"confirmed": utc_now()}})

    def of_user(self, user: str, since: datetime | None, idle: timedelta) -> list[Document]:
        """Open sessions of a user that began at `since` or later, the one used last first."""
        now = utc_now()
        query: Document = {"user": user, "expires": {"$gt": now}, "last_seen": {"$gt": now - idle}}
        if since is not None:
            query["created"] = {"$gte": since}
        return list(self.collection.find(query).sort("last_seen", -1))

    def close(self, digest: str) -> None:
        """End a session."""
        self.collection.delete_one({"_id": digest})

    def close_one(self, user: str, digest: str) -> bool:
        """End a session of a user; False when he has none like it."""
        return self.collection.delete_one({"_id": digest, "user": user}).deleted_count == 1

    def counts(self, idle: timedelta) -> dict[str, int]:
        """Return how many open sessions each user has."""
        now = utc_now()
        query = {"expires": {"$gt": now}, "last_seen": {"$gt": now - idle}}
        counted = self.collection.aggregate([{"$match": query}, {"$group": {"_id": "$user", "n": {"$sum": 1}}}])
        return {entry["_id"]: entry["n"] for entry in counted}

    def close_all(self, user: str, but: str | None = None) -> None:
        """End the sessions of a user, but for one."""
        self.collection.delete_many({"user": user, "_id": {"$ne": but}})

    def ensure_indexes(self) -> None:
        """Create what the queries need; ended sessions go by themselves."""
        self.collection.create_index("expires", expireAfterSeconds=0)
        self.collection.create_index("user")


class Tokens:
    """The collection ``tokens``: what programs identify themselves with. ``_id`` is the hash of the token."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def add(self, digest: str, user: str, label: str, scopes: Sequence[str], life: timedelta) -> None:
        """Note a new token of `user`."""
        now = utc_now()
        about = {"user": user, "label": one_line(label), "scopes": list(scopes), "created": now, "last_used": None}
        self.collection.insert_one({"_id": digest, **about, "expires": now + life})

    def find(self, digest: str) -> Document | None:
        """Return a token that has not expired, or None."""
        return self.collection.find_one({"_id": digest, "expires": {"$gt": utc_now()}})

    def used(self, digest: str) -> None:
        """Note that a token was used."""
        self.collection.update_one({"_id": digest}, {"$set": {"last_used": utc_now()}})

    def of_user(self, user: str) -> list[Document]:
        """Tokens of a user, the newest first."""
        return list(self.collection.find({"user": user, "expires": {"$gt": utc_now()}}).sort("created", -1))

    def revoke(self, digest: str, user: str) -> bool:
        """End a token of a user; False when he has none like it."""
        return self.collection.delete_one({"_id": digest, "user": user}).deleted_count == 1

    def revoke_all(self, user: str) -> None:
        """End every token of a user."""
        self.collection.delete_many({"user": user})

    def ensure_indexes(self) -> None:
        """Create what the queries need; expired tokens go by themselves."""
        self.collection.create_index("expires", expireAfterSeconds=0)
        self.collection.create_index("user")


class Slots:
    """The collection ``slots``: how much of something costly one person does at the same time, over all processes."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def take(self, key: str, limit: int, life: timedelta) -> str | None:
        """Take one of `limit` places, for `life` unless it is kept or given back; None when all are taken."""
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
        """Hold a place longer."""
        self.collection.update_one({"_id": name}, {"$set": {"expires": utc_now() + life}})

    def give_back(self, name: str) -> None:
        """Leave a place."""
        self.collection.delete_one({"_id": name})


class Throttle:
    """The collection ``throttle``: how often something was tried within a window of time."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def count(self, key: str, window_s: float) -> int:
        """Count one more attempt; returns how many there were in the running window, this one included."""
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
        """Start anew: the attempt was a good one."""
        self.collection.delete_one({"_id": f"{key} {int(utc_now().timestamp() // window_s)}"})

    def ensure_indexes(self) -> None:
        """Let windows that passed go by themselves."""
        self.collection.create_index("expires", expireAfterSeconds=0)


class Audit:
    """The collection ``audit``: who did what in the portal. Entries are only ever added."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def record(self, action: str, who: str | None, address: str | None = None, **details: str) -> None:
        """Add an entry; texts are cut and their control characters made visible."""
        entry = {key: one_line(value) for key, value in details.items()}
        entry |= {"who": one_line(who or "-"), "address": one_line(address or "-")}
        self.collection.insert_one({"when": utc_now(), "action": action, **entry})

    def recent(self, limit: int = 100) -> list[Document]:
        """Latest entries, newest first."""
        return list(self.collection.find({}, {"_id": 0}).sort("when", -1).limit(limit).max_time_ms(2000))

    def ensure_indexes(self) -> None:
        """Create what the queries need."""
        self.collection.create_index("when")


def one_line(text: str) -> str:
    """Return `text` cut to a sane length, with everything that could start a new line or a control sequence escaped."""
    kept = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:TEXT_LIMIT])
    return "".join(kept)

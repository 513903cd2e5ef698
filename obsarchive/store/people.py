"""The collection ``users``."""

from collections.abc import Iterable, Mapping
from typing import Any

from pymongo.collection import Collection

from obsarchive.observation import utc_now
from obsarchive.store.book import Document


class Users:
    """The collection ``users``."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def find(self, name: str) -> Document | None:
        """Return a user's document, or None."""
        return self.collection.find_one({"_id": name})

    def all(self) -> list[Document]:
        """Return every user, by name, without password hashes."""
        return list(self.collection.find({}, {"password": 0}).sort("_id", 1))

    def any_admin(self) -> bool:
        """Whether some administrator can log in."""
        return self.collection.find_one({"programs": "all", "password": {"$type": "string"}}) is not None

    def save(self, name: str, fields: Mapping[str, Any]) -> None:
        """Create a user or change fields of one."""
        self.collection.update_one({"_id": name}, {"$set": {**fields, "last_modified": utc_now()}}, upsert=True)

    def unset(self, name: str, fields: Iterable[str]) -> None:
        """Remove fields of a user."""
        self.collection.update_one({"_id": name}, {"$unset": dict.fromkeys(fields, "")})

    def remove(self, name: str) -> bool:
        """Remove a user; False when there is none."""
        return self.collection.delete_one({"_id": name}).deleted_count == 1

    def by_token(self, kind: str, digest: str) -> Document | None:
        """Return the user who holds a one-time link (`kind` is the field, `digest` the hash of its token)."""
        return self.collection.find_one({f"{kind}.digest": digest, f"{kind}.expires": {"$gt": utc_now()}})

    def owners(self, program: str) -> list[str]:
        """Users of a programme; without any, it belongs to the administrator."""
        found = sorted(d["_id"] for d in self.collection.find({"programs": program}, {"_id": 1}))
        return found or ["admin"]

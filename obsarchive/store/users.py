"""Users of an archive: their accounts."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document

_ANY_CASE = {"locale": "en", "strength": 2}
"""Collation by which names are equal that differ in case only."""


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

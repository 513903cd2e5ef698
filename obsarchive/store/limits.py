"""Limits that all processes of the portal share: of work at the same time, and of attempts within a time."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document


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

    def take_each(self, limits: Mapping[str, int], life: timedelta) -> list[str]:
        """Take one slot of each kind.

        Parameters
        ----------
        limits : mapping of str to int
            Number of slots, by what is limited.
        life : timedelta
            Duration after which the slots are free, unless they are kept or given back before.

        Returns
        -------
        list of str
            Names of the slots; empty if of one kind all are taken.
        """
        taken: list[str] = []
        for key, limit in limits.items():
            slot = self.take(key, limit, life)
            if slot is None:
                for other in taken:
                    self.give_back(other)
                return []
            taken.append(slot)
        return taken

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

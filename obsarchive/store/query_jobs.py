"""The collection ``tap_jobs``: queries that clients start and whose answers they fetch later."""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pymongo.collection import Collection

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document

KEEP = timedelta(days=2)
"""How long a job is kept."""
MOST_JOBS = 200
"""Jobs of a user; the oldest make place for others."""


class QueryJobs:
    """Jobs of the users of the virtual observatory.

    A job holds a query and its state, no answer: that is made from what its owner may see when it is fetched.

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def add(self, owner: str, parameters: Mapping[str, str], run_id: str) -> str:
        """Add a job that is not started.

        Parameters
        ----------
        owner : str
            Name of the user.
        parameters : mapping of str to str
            The query.
        run_id : str
            What the client calls it.

        Returns
        -------
        str
            Its identifier.
        """
        old = self.collection.find({"owner": owner}, {"_id": 1}).sort("created", -1).skip(MOST_JOBS - 1)
        self.collection.delete_many({"_id": {"$in": [document["_id"] for document in old]}})
        name, now = secrets.token_hex(8), utc_now()
        self.collection.insert_one(
            {
                "_id": name,
                "owner": owner,
                "parameters": dict(parameters),
                "run_id": run_id,
                "phase": "PENDING",
                "created": now,
                "expires": now + KEEP,
            }
        )
        return name

    def find(self, owner: str, name: str) -> Document | None:
        """Return a job of a user, or None."""
        return self.collection.find_one({"_id": name, "owner": owner, "expires": {"$gt": utc_now()}})

    def of_user(self, owner: str) -> list[Document]:
        """Return the jobs of a user, the newest first."""
        return list(self.collection.find({"owner": owner, "expires": {"$gt": utc_now()}}).sort("created", -1))

    def set_fields(self, owner: str, name: str, fields: Mapping[str, Any]) -> None:
        """Set fields of a job.

        Parameters
        ----------
        owner : str
            Name of the user.
        name : str
            Identifier of the job.
        fields : mapping
            Values by the paths of the fields.
        """
        self.collection.update_one({"_id": name, "owner": owner}, {"$set": dict(fields)})

    def delete(self, owner: str, name: str) -> None:
        """Remove a job of a user."""
        self.collection.delete_one({"_id": name, "owner": owner})

    def keep_until(self, owner: str, name: str, wanted: datetime) -> None:
        """Let a job expire at a time, at the latest when jobs expire anyway.

        Parameters
        ----------
        owner : str
            Name of the user.
        name : str
            Identifier of the job.
        wanted : datetime
            The time.
        """
        self.set_fields(owner, name, {"expires": min(wanted, utc_now() + KEEP)})

    def ensure_indexes(self) -> None:
        """Create the indexes that the queries use; jobs expire."""
        self.collection.create_index([("owner", 1), ("created", -1)])
        self.collection.create_index("expires", expireAfterSeconds=0)

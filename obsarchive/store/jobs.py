"""What the daemon is doing: attempts, telemetry, and who is master."""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document

JOBS_KEPT_DAYS = 30
LEASE_ID = "master"


def now_plus(seconds: float) -> datetime:
    """Return the time `seconds` from now, as the database keeps it."""
    return utc_now() + timedelta(seconds=seconds)


class Jobs:
    """The collection ``jobs``: one document an attempt at a step, kept a month, and the daemon's telemetry."""

    def __init__(self, collection: Collection, telemetry: Collection) -> None:
        self.collection = collection
        self.telemetry = telemetry

    def start(self, job: Mapping[str, Any]) -> None:
        """Note an attempt; ``_id`` is its task."""
        self.collection.insert_one({**job, "queued": utc_now(), "state": "enqueued"})

    def update(self, task: str, fields: Mapping[str, Any]) -> None:
        """Set fields of an attempt."""
        self.collection.update_one({"_id": task}, {"$set": dict(fields)})

    def close_run(self, not_run: str) -> None:
        """Note that the attempts of other runs never ended."""
        self.collection.update_many(
            {"state": "enqueued", "run": {"$ne": not_run}},
            {"$set": {"state": "released", "message": "the daemon stopped", "finished": utc_now()}},
        )

    def recent(self, state: str | None = None, limit: int = 50) -> list[Document]:
        """Latest attempts, newest first."""
        query = {} if state is None else {"state": state}
        return list(self.collection.find(query).sort("queued", -1).limit(limit).max_time_ms(2000))

    def change_token(self, **about: str) -> str:
        """Return a text that changes whenever something happens to a ``night`` or a ``subject``."""
        stages: list[Document] = [
            {"$match": about},
            {
                "$group": {
                    "_id": None,
                    "count": {"$sum": 1},
                    "progress": {"$sum": "$fraction"},
                    "ended": {"$max": "$finished"},
                    "queued": {"$max": "$queued"},
                }
            },
        ]
        found: Document = next(iter(self.collection.aggregate(stages, maxTimeMS=2000)), {})
        return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:12]

    def took(self, night: str) -> list[Document]:
        """Return how long the steps of a night took: number, wall and processor time [s], first start and last end."""
        stages: list[Document] = [
            {"$match": {"night": night, "finished": {"$exists": True}}},
            {
                "$group": {
                    "_id": {"pipeline": "$pipeline", "step": "$step"},
                    "count": {"$sum": 1},
                    "duration_s": {"$sum": "$duration_s"},
                    "cpu_s": {"$sum": "$cpu_s"},
                    "finished": {"$max": "$finished"},
                }
            },
            {"$sort": {"duration_s": -1}},
        ]
        return [{**entry["_id"], **entry} for entry in self.collection.aggregate(stages, maxTimeMS=2000)]

    def report(self, telemetry: Mapping[str, Any]) -> None:
        """Keep the daemon's telemetry."""
        self.telemetry.replace_one({"_id": "daemon"}, {"_id": "daemon", **telemetry}, upsert=True)

    def daemon(self) -> Document | None:
        """Return the daemon's last telemetry."""
        return self.telemetry.find_one({"_id": "daemon"})

    def ensure_indexes(self) -> None:
        """Create what the queries need; old attempts go by themselves."""
        self.collection.create_index("queued", expireAfterSeconds=JOBS_KEPT_DAYS * 86400)
        self.collection.create_index("state")
        self.collection.create_index("night")


class Lease:
    """Who is the master of this archive: one document with a fencing number, renewed while the daemon lives."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def take(self, run: str, host: str, holder: str, seconds: float) -> int | None:
        """Become master; returns the fencing number, or None while a run on another host holds the lease."""
        now = utc_now()
        try:
            taken = self.collection.find_one_and_update(
                {"_id": LEASE_ID, "$or": [{"expires": {"$lt": now}}, {"run": None}, {"host": host}]},
                {
                    "$set": {"run": run, "host": host, "holder": holder, "expires": now_plus(seconds), "taken": now},
                    "$inc": {"fence": 1},
                },
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        except DuplicateKeyError:
            return None
        return int(taken["fence"]) if taken else None

    def renew(self, run: str, seconds: float) -> bool:
        """Stay master; False when another run took over."""
        renewed = self.collection.update_one({"_id": LEASE_ID, "run": run}, {"$set": {"expires": now_plus(seconds)}})
        return renewed.matched_count == 1

    def give_back(self, run: str) -> None:
        """Stop being master."""
        self.collection.update_one({"_id": LEASE_ID, "run": run}, {"$set": {"run": None}})

    def holder(self) -> str:
        """Who is master, in words."""
        found = self.collection.find_one({"_id": LEASE_ID}) or {}
        return str(found.get("holder", "nobody"))

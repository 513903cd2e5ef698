"""What the daemon does: attempts at steps, telemetry, and the lease of the leader."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document

JOBS_KEPT_DAYS = 30
LEASE_ID = "master"
MOST_SAMPLES = 7 * 24
"""Samples of free space that are kept: a week of one an hour."""


def now_plus(seconds: float) -> datetime:
    """Return the time `seconds` from now, as the database keeps it."""
    return utc_now() + timedelta(seconds=seconds)


class Jobs:
    """The collection ``jobs``, one document per attempt at a step, kept for a month; and the daemon's telemetry.

    Parameters
    ----------
    collection : Collection
        Of attempts.
    telemetry : Collection
        Of the daemon's status.
    """

    def __init__(self, collection: Collection[Document], telemetry: Collection[Document]) -> None:
        self.collection = collection
        self.telemetry = telemetry

    def start(self, job: Mapping[str, Any]) -> None:
        """Record an attempt; ``_id`` is its task."""
        self.collection.insert_one({**job, "queued": utc_now(), "state": "enqueued"})

    def update(self, task: str, fields: Mapping[str, Any]) -> None:
        """Set fields of an attempt.

        Parameters
        ----------
        task : str
            Identifier of the task.
        fields : mapping
            Values by the names of the fields.
        """
        self.collection.update_one({"_id": task}, {"$set": dict(fields)})

    def close_run(self, not_run: str) -> None:
        """Mark the open attempts of other runs as released."""
        self.collection.update_many(
            {"state": "enqueued", "run": {"$ne": not_run}},
            {"$set": {"state": "released", "message": "the daemon stopped", "finished": utc_now()}},
        )

    def recent(self, state: str | None = None, limit: int = 50) -> list[Document]:
        """Return the latest attempts, newest first.

        Parameters
        ----------
        state : str, optional
            Only those in this state.
        limit : int
            At most so many.

        Returns
        -------
        list of dict
        """
        query = {} if state is None else {"state": state}
        return list(self.collection.find(query).sort("queued", -1).limit(limit).max_time_ms(2000))

    def change_token(self, **about: Any) -> str:
        """Return a text that changes whenever the attempts about a ``night`` or a ``subject`` change."""
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

    def took(self, night: str, observations: Sequence[str]) -> list[Document]:
        """Return the cost of each step of a night: attempts, wall and processor time [s], last end; longest first.

        Parameters
        ----------
        night : str
            The night, ``yyyymmdd``.
        observations : sequence of str
            Observations that count, beside the night itself.

        Returns
        -------
        list of dict
        """
        subjects = {"$in": [night, *observations]}
        stages: list[Document] = [
            {"$match": {"night": night, "subject": subjects, "finished": {"$exists": True}}},
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
        """Replace the daemon's telemetry."""
        self.telemetry.replace_one({"_id": "daemon"}, {"_id": "daemon", **telemetry}, upsert=True)

    def daemon(self) -> Document | None:
        """Return the daemon's last telemetry, or None."""
        return self.telemetry.find_one({"_id": "daemon"})

    def note_space(self, free_gb: Mapping[str, float]) -> None:
        """Record the free space [GB] of folders, for the pace at which it shrinks."""
        sample = {"when": utc_now(), "free_gb": [[path, free] for path, free in free_gb.items()]}
        pushed = {"$push": {"samples": {"$each": [sample], "$slice": -MOST_SAMPLES}}}
        self.telemetry.update_one({"_id": "space"}, pushed, upsert=True)

    def space(self) -> list[Document]:
        """Return the recorded free space, the oldest first: ``when``, and ``free_gb`` by path."""
        found = (self.telemetry.find_one({"_id": "space"}) or {}).get("samples") or []
        return [{"when": sample["when"], "free_gb": dict(sample["free_gb"])} for sample in found]

    def ensure_indexes(self) -> None:
        """Create the indexes that the queries use; old attempts expire."""
        self.collection.create_index("queued", expireAfterSeconds=JOBS_KEPT_DAYS * 86400)
        self.collection.create_index("state")
        self.collection.create_index("night")


@dataclass(frozen=True)
class Archive:
    """The archive that a database belongs to.

    Parameters
    ----------
    identifier : str
        Of its tree.
    host : str
        Where its daemon ran last.
    path : str
        Its folder there.
    """

    identifier: str
    host: str
    path: str


class Lease:
    """The lease of the leader: one document with a fencing number, renewed while the daemon runs.

    Parameters
    ----------
    collection : Collection
        The collection ``lease``.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def take(self, run: str, archive: Archive, holder: str, seconds: float) -> int | None:
        """Take the lease, unless a run elsewhere holds it; the clock of the server decides whether it ran out.

        The database then belongs to that archive.

        Parameters
        ----------
        run : str
            Identifier of the run of the daemon.
        archive : Archive
            The archive, which is locked for this run: another one on this host, in the same folder, has ended.
        holder : str
            Description of the daemon for messages.
        seconds : float
            Duration of the lease [s].

        Returns
        -------
        int or None
            The fencing number; None if a run elsewhere holds the lease, or it is that of another archive.
        """
        with suppress(DuplicateKeyError):
            self.collection.update_one({"_id": LEASE_ID}, {"$setOnInsert": {"run": None}}, upsert=True)
        has_run_out = {"$expr": {"$lt": ["$expires", "$$NOW"]}}
        who = {"run": run, "host": archive.host, "holder": holder, "archive": asdict(archive)}
        fence = {"$add": [{"$ifNull": ["$fence", 0]}, 1]}
        here = {"host": archive.host, "archive.path": {"$in": [None, archive.path]}}
        is_its_own = {"archive.identifier": {"$in": [None, archive.identifier]}}
        set_to = {name: {"$literal": value} for name, value in who.items()}
        taken = self.collection.find_one_and_update(
            {"_id": LEASE_ID, **is_its_own, "$or": [has_run_out, {"run": None}, here]},
            [{"$set": {**set_to, "expires": _from_now(seconds), "taken": "$$NOW", "fence": fence}}],
            return_document=ReturnDocument.AFTER,
        )
        return int(taken["fence"]) if taken else None

    def renew(self, run: str, seconds: float) -> bool:
        """Renew the lease.

        Parameters
        ----------
        run : str
            Identifier of the run of the daemon.
        seconds : float
            Duration of the lease from now [s].

        Returns
        -------
        bool
            False if another run took it over.
        """
        renewed = self.collection.update_one({"_id": LEASE_ID, "run": run}, [{"$set": {"expires": _from_now(seconds)}}])
        return renewed.matched_count == 1

    def give_back(self, run: str) -> None:
        """Give the lease back."""
        self.collection.update_one({"_id": LEASE_ID, "run": run}, {"$set": {"run": None}})

    def chain(self) -> str:
        """Return the digest of the decision chain of the last run; empty if no run has recorded any."""
        return str((self.collection.find_one({"_id": LEASE_ID}) or {}).get("chain", ""))

    def set_chain(self, digest: str) -> None:
        """Record the digest of the decision chain of this run."""
        self.collection.update_one({"_id": LEASE_ID}, {"$set": {"chain": digest}})

    def library(self) -> str:
        """Return the digest of the PSF library as the last run knew it; empty if no run has recorded any."""
        return str((self.collection.find_one({"_id": LEASE_ID}) or {}).get("library", ""))

    def set_library(self, digest: str) -> None:
        """Record the digest of the PSF library after the observations that lack references were reopened."""
        self.collection.update_one({"_id": LEASE_ID}, {"$set": {"library": digest}})

    def archive(self) -> Archive | None:
        """Return the archive that this database belongs to; None if no daemon has worked on it yet."""
        found = (self.collection.find_one({"_id": LEASE_ID}) or {}).get("archive")
        return Archive(**found) if found else None

    def holder(self) -> str:
        """Return a description of the daemon that holds the lease."""
        found = self.collection.find_one({"_id": LEASE_ID}) or {}
        return str(found.get("holder", "unknown"))


def _from_now(seconds: float) -> Document:
    """Return the time of the server `seconds` from now: hosts whose clocks differ see the same end of a lease."""
    return {"$add": ["$$NOW", int(seconds * 1000)]}

"""The collection ``frames``: what online archives offered, and the state of each frame."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo.collection import Collection

from obsarchive import __version__
from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document

LAST_RUN, MOST_PROBLEMS = "last run", 20


class Frames:
    """The collection ``frames``; one document per frame, written at every change of state.

    States: ``offered`` (still to be fetched), ``fetched`` (in the download folder), ``sorted`` (in its dataset),
    ``failed`` (with the reason; tried again by the next run), ``unsortable`` (in the download folder, with the reason;
    fetched again once its bytes change, or by another version of the archive).

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def offer(self, archive: str, name: str, facts: Mapping[str, Any]) -> str:
        """Record a frame that an archive offers.

        Parameters
        ----------
        archive : str
            Name of the archive.
        name : str
            Name of the frame.
        facts : mapping
            Further fields, with its checksum ``md5``.

        Returns
        -------
        str
            State of the frame; ``offered`` also if its checksum changed or it failed before.
        """
        known = self.collection.find_one({"_id": _key(archive, name)}) or {}
        state = str(known.get("state") or "offered")
        is_outdated = state == "unsortable" and known.get("version") != __version__
        if known.get("md5") != facts["md5"] or state == "failed" or is_outdated:
            state = "offered"
        fields = {"archive": archive, "name": name, **facts, "state": state, "updated": utc_now()}
        self.collection.update_one({"_id": _key(archive, name)}, {"$set": fields}, upsert=True)
        return state

    def note(self, archive: str, name: str, state: str, **fields: Any) -> None:
        """Set the state of a frame.

        Parameters
        ----------
        archive : str
            Name of the archive.
        name : str
            Name of the frame.
        state : str
            The new state.
        **fields
            Further fields to set; ``problem`` is emptied unless given.
        """
        change = {"state": state, "problem": "", **fields, "updated": utc_now()}
        self.collection.update_one({"_id": _key(archive, name)}, {"$set": change})

    def in_state(self, state: str) -> list[Document]:
        """Return the frames in a state, in the order of their times."""
        return list(self.collection.find({"state": state}).sort([("date_utc", 1), ("_id", 1)]))

    def listed(self) -> Iterator[Document]:
        """Yield every frame that was fetched, in the order of their times."""
        query = {"state": {"$in": ["fetched", "sorted", "unsortable"]}}
        yield from self.collection.find(query).sort([("date_utc", 1), ("_id", 1)])

    def last_success(self, archive: str) -> datetime | None:
        """Return the end of the last range of times that was fetched from an archive without a failure, or None."""
        found = self.collection.find_one({"_id": f"success {archive}"})
        return found["until"] if found else None

    def note_success(self, archive: str, until: datetime) -> None:
        """Record that everything of an archive up to a time was fetched.

        Parameters
        ----------
        archive : str
            Name of the archive.
        until : datetime
            The end of the range of times.
        """
        self.collection.update_one({"_id": f"success {archive}"}, {"$set": {"until": until}}, upsert=True)

    def note_run(self, summary: str, problems: Sequence[str]) -> None:
        """Record how the last download ended.

        Parameters
        ----------
        summary : str
            Summary of the run.
        problems : sequence of str
            What failed; the last `MOST_PROBLEMS` are kept.
        """
        fields = {"when": utc_now(), "told": summary, "problems": list(problems)[-MOST_PROBLEMS:]}
        self.collection.update_one({"_id": LAST_RUN}, {"$set": fields}, upsert=True)

    def last_run(self) -> Document | None:
        """Return how the last download ended: ``when``, ``told`` (the summary), ``problems``; or None."""
        return self.collection.find_one({"_id": LAST_RUN})

    def ensure_indexes(self) -> None:
        """Create the indexes that the queries use."""
        self.collection.create_index([("state", 1), ("date_utc", 1)])


def _key(archive: str, name: str) -> str:
    return f"{archive} {name}"

"""The collection ``notes``: what people say of the quality of an observation or a night, and why.

A note changes no observation and no product. Earlier versions stay in it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from obsarchive.core.values import as_count, as_mappings, as_time
from obsarchive.store.step_records import Document
from obsarchive.store.versions import literal, new_version

QUALITIES = ("good", "doubtful", "bad")
_NIGHT = "night "


@dataclass(frozen=True)
class Note:
    """What people say of an observation or a night.

    Parameters
    ----------
    quality : str
        One of `QUALITIES`, or empty.
    text : str
        Why, or what else is worth knowing.
    author : str
        Who wrote this version.
    written : datetime or None
        When [UTC].
    version : int
        Number of this version, from 1; 0: there is no note yet.
    earlier : tuple of Note
        Earlier versions, the oldest first.
    """

    quality: str = ""
    text: str = ""
    author: str = ""
    written: datetime | None = None
    version: int = 0
    earlier: tuple["Note", ...] = field(default=())

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Note":
        """Return a note read from a document."""
        return cls(
            str(document.get("quality") or ""),
            str(document.get("text") or ""),
            str(document.get("author") or ""),
            as_time(document.get("written")),
            as_count(document.get("version")),
            tuple(map(cls.of, as_mappings(document.get("earlier")))),
        )


NO_NOTE = Note()
"""What is said where nobody said anything."""


def subject_of_night(night: str) -> str:
    """Return the key of the note on a night."""
    return f"{_NIGHT}{night}"


class Notes:
    """Notes of people, by observation or night.

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def find(self, subject: str) -> Note:
        """Return the note on an observation or a night; an empty one if there is none."""
        return Note.of(self.collection.find_one({"_id": subject}) or {})

    def of(self, subjects: Iterable[str]) -> dict[str, Note]:
        """Return the notes on observations or nights that have one, without earlier versions."""
        found = self.collection.find({"_id": {"$in": list(subjects)}}, {"earlier": 0})
        return {document["_id"]: Note.of(document) for document in found}

    def write(self, subject: str, night: str, note: Note) -> Note | None:
        """Write a note in place of the version that its author has seen.

        Parameters
        ----------
        subject : str
            Name of the observation, or `subject_of_night`.
        night : str
            Its night, ``yyyymmdd``.
        note : Note
            The new quality, text and author; `version` is the one that it replaces, 0 for the first note.

        Returns
        -------
        Note or None
            What is kept now; None if it was written meanwhile.
        """
        query = {"_id": subject, "version": note.version}
        try:
            found = self.collection.find_one_and_update(
                query, _change(night, note), upsert=note.version == 0, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:
            return None
        return Note.of(found) if found else None

    def mark(self, nights: Mapping[str, str], quality: str, text: str, author: str) -> int:
        """Write the same note on many observations, whatever was written before; that stays among earlier versions.

        Parameters
        ----------
        nights : mapping of str to str
            Night of each observation, by its name.
        quality, text, author : str
            The note; an empty text leaves the one that there is.

        Returns
        -------
        int
            Number of observations.
        """
        note = Note(quality, text, author)
        changes = [
            UpdateOne({"_id": name}, _change(night, note, bool(text)), upsert=True) for name, night in nights.items()
        ]
        if changes:
            self.collection.bulk_write(changes, ordered=False)
        return len(changes)

    def query(self, quality: str) -> Document:
        """Return the filter of observations of a quality: their own, else that of their night.

        Parameters
        ----------
        quality : str
            One of `QUALITIES`; ``unmarked``: of none.
        """
        if quality not in QUALITIES:
            marked = list(self._subjects({"quality": {"$in": list(QUALITIES)}}))
            nights = [subject.removeprefix(_NIGHT) for subject in marked if subject.startswith(_NIGHT)]
            return {"_id": {"$nin": marked}, "night": {"$nin": nights}}
        found = list(self._subjects({"quality": quality}))
        nights = [subject.removeprefix(_NIGHT) for subject in found if subject.startswith(_NIGHT)]
        own: Document = {"_id": {"$in": [subject for subject in found if not subject.startswith(_NIGHT)]}}
        if not nights:
            return own
        others = [one for one in QUALITIES if one != quality]
        excepted = self._subjects({"quality": {"$in": others}, "night": {"$in": nights}})
        return {"$or": [own, {"night": {"$in": nights}, "_id": {"$nin": list(excepted)}}]}

    def _subjects(self, query: Document) -> Iterable[str]:
        return (document["_id"] for document in self.collection.find(query, {"_id": 1}))

    def ensure_indexes(self) -> None:
        """Create the index by which notes are searched."""
        self.collection.create_index([("quality", 1), ("night", 1)])


def _change(night: str, note: Note, has_text: bool = True) -> list[Document]:
    """Return the update that replaces a note, and keeps what it was."""
    text = literal(note.text) if has_text else {"$ifNull": ["$text", ""]}
    said = {"quality": literal(note.quality), "text": text, "author": literal(note.author)}
    return new_version(said, {"night": literal(night)})

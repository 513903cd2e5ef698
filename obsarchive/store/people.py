"""Acts of people as text: accounts, tokens, requests and the audit log, to be kept beside the database.

One line is the state of one document after an act, in MongoDB's extended JSON, so that it comes back as it was.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bson import json_util
from bson.errors import BSONError
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, OperationFailure

from obsarchive.core.document_paths import COPIES_CALIBRATION_FROM
from obsarchive.core.documents import utc_now
from obsarchive.core.json_text import json_with_checksum, parse_with_checksum
from obsarchive.store.step_records import Document

USERS, PROGRAMMES = "users", "programmes"
COLLECTIONS = (USERS, "tokens", "requests", "notes", "decisions", "watches", PROGRAMMES)
"""Collections whose present state is kept."""
AUDIT = "audit"
"""The collection to which entries are only added."""
OBSERVATIONS, NIGHTS = "objects", "aux"
JOURNAL, MARK = "journal", "people"
"""Where the database says that it is the one of which the journal tells."""
WAIT_MS = 10_000
"""Time after which a stream of changes is asked for again [ms]: an idle archive costs little."""
NO_REPLICA_SET, NOT_ALLOWED = 40573, 13
_REDO = r"\w+(\.(status(\.force_redo)?|steps\.\w+\.redo))?$"
"""A request for a redo, also as the first field of its block, which is then reported as a whole."""
OF_PEOPLE = rf"^(comment|name|alternative_names|science_program|pipelined\.{_REDO})"
"""Fields of observations that people edit, requests for a redo among them."""
OF_NIGHTS = rf"^(?!last_modified$){_REDO}|^{re.escape(COPIES_CALIBRATION_FROM)}$"
"""Fields of nights that people edit: requests for a redo, and the night whose calibration is copied."""


@dataclass(frozen=True)
class Act:
    """What a document is after an act.

    Parameters
    ----------
    collection : str
        Its collection.
    key : str
        Its ``_id``, as extended JSON.
    line : str
        The document, as one line of extended JSON; empty where it was removed, or is an observation or a night.
    """

    collection: str
    key: str
    line: str = ""

    @property
    def edited(self) -> str:
        """Name of the observation or night that people edited; empty for other documents."""
        return str(json_util.loads(self.key)) if self.collection in (OBSERVATIONS, NIGHTS) else ""

    @property
    def is_audit(self) -> bool:
        """Whether it is an entry of the audit log."""
        return self.collection == AUDIT

    @classmethod
    def of(cls, collection: str, document: Mapping[str, Any]) -> "Act":
        """Return the present state of a document."""
        return cls(collection, _text(document["_id"]), _text(document))

    def to_line(self) -> str:
        """Return the act as one line of JSON."""
        content = {"in": self.collection, "id": json.loads(self.key), "is": json.loads(self.line or "null")}
        return json_with_checksum(content, indent=None).decode() + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Act":
        """Read a line.

        Raises
        ------
        ValueError
            It is damaged.
        """
        try:
            found = json_util.loads(json.dumps(parse_with_checksum(line)))
            document = found["is"]
            return cls(str(found["in"]), _text(found["id"]), "" if document is None else _text(document))
        except (ValueError, LookupError, TypeError, BSONError) as err:
            raise ValueError(f"no act, {err}: {line[:80]!r}") from err


class People:
    """What people said, in the database of an archive.

    Parameters
    ----------
    database : Database
        The database.
    """

    def __init__(self, database: Database[Document]) -> None:
        self.database = database

    def state(self) -> Iterator[Act]:
        """Yield the present state of all documents but those of the audit log."""
        for name in COLLECTIONS:
            for document in self.database[name].find({}):
                yield Act.of(name, document)

    def audit_since(self, key: str) -> Iterator[Act]:
        """Yield the entries of the audit log after the one with a key; all for an empty text."""
        query = {"_id": {"$gt": json_util.loads(key)}} if key else {}
        for document in self.database[AUDIT].find(query).sort("_id", 1):
            yield Act.of(AUDIT, document)

    def is_wiped(self) -> bool:
        """Whether this is not the database that the journal was written from: without the mark, or without users.

        Users alone say nothing: the portal adds an administrator to an empty database.
        """
        has_users = self.database[USERS].find_one({}, {"_id": 1}) is not None
        return not has_users or self.database[JOURNAL].find_one({"_id": MARK}) is None

    def mark(self) -> None:
        """Note in the database that the journal holds its people."""
        self.database[JOURNAL].update_one({"_id": MARK}, {"$setOnInsert": {"begun": utc_now()}}, upsert=True)

    def follow(self) -> Iterator[Act | None]:
        """Yield None as soon as acts can be followed, then acts as they happen, and None where there was none for long.

        Ends at once where the server is no replica set or does not allow it, and when the database is dropped.
        """
        wanted = {"ns.coll": {"$in": [*COLLECTIONS, AUDIT, JOURNAL]}}
        edited = [
            {"ns.coll": name, "operationType": "update", "$expr": _is_edited(fields)}
            for name, fields in ((OBSERVATIONS, OF_PEOPLE), (NIGHTS, OF_NIGHTS))
        ]
        stages = [{"$match": {"$or": [wanted, *edited]}}]
        try:
            stream = self.database.watch(stages, full_document="updateLookup", max_await_time_ms=WAIT_MS)
        except OperationFailure as err:
            if err.code not in (NO_REPLICA_SET, NOT_ALLOWED):
                raise
            return
        with stream:
            yield None
            while stream.alive:
                change = stream.try_next()
                yield None if change is None else _act_of(change)

    def wake(self) -> None:
        """Have what follows the acts go on at once, to see that it is stopped."""
        self.database[JOURNAL].update_one({"_id": "wake"}, {"$set": {"at": utc_now()}}, upsert=True)

    def restore(self, acts: Iterable[Act]) -> int:
        """Insert documents that the database lacks; return their number.

        A user who is there without a password is replaced: an administrator whom the portal added meanwhile.
        """
        restored = 0
        for act in acts:
            if act.line and act.collection in (*COLLECTIONS, AUDIT):
                restored += self._restore(act.collection, json_util.loads(act.line))
        return restored

    def _restore(self, collection: str, document: Document) -> int:
        try:
            self.database[collection].insert_one(document)
        except DuplicateKeyError:
            if collection != USERS:
                return 0
            unset = {"_id": document["_id"], "password": {"$not": {"$type": "string"}}}
            return self.database[USERS].replace_one(unset, document).modified_count
        return 1


def _is_edited(pattern: str) -> Document:
    fields = {"$objectToArray": {"$ifNull": ["$updateDescription.updatedFields", {}]}}
    found = {"$filter": {"input": fields, "cond": {"$regexMatch": {"input": "$$this.k", "regex": pattern}}}}
    return {"$gt": [{"$size": found}, 0]}


def _act_of(change: Mapping[str, Any]) -> Act | None:
    """Return an act of people; None for other changes, and for one whose document went with its database since."""
    if "documentKey" not in change or change["ns"]["coll"] == JOURNAL:
        return None
    collection, document = change["ns"]["coll"], change.get("fullDocument")
    if collection in (OBSERVATIONS, NIGHTS) or change["operationType"] == "delete":
        return Act(collection, _text(change["documentKey"]["_id"]))
    return None if document is None else Act.of(collection, document)


def _text(value: Any) -> str:
    return json_util.dumps(value, json_options=json_util.CANONICAL_JSON_OPTIONS)

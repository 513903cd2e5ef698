"""Steps of pipelines, as documents keep them: claimed once, finished by the claim's holder only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from obsarchive.core.documents import utc_now
from obsarchive.core.step_state import MOVES, State, before

Document = dict[str, Any]
StepPath = tuple[str, str]
"""Names of a pipeline and of one of its steps."""

_KEPT_OF_MANIFEST = ("message", "results", "version", "inputs", "products")


@dataclass(frozen=True)
class StepUpdate:
    """How a step ended, as the database records it."""

    state: State
    message: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    not_before: datetime | None = None

    def leaves(self, prefix: str) -> Document:
        """Fields to set below the step's path."""
        found: Document = {key: self.manifest[key] for key in _KEPT_OF_MANIFEST if key in self.manifest}
        found |= {"state": str(self.state), "message": self.message, "not_before": self.not_before}
        if "finished" in self.manifest:
            found["finished"] = _time(self.manifest["finished"])
            found["started"] = _time(self.manifest["started"])
        else:
            found["finished"] = utc_now()
        return {f"{prefix}.{key}": value for key, value in found.items()}


def _time(value: str | datetime) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


class StepStore:
    """Steps of pipelines in the documents of one collection; `place` says where a pipeline's block lies."""

    prefix = ""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def place(self, pipeline: str) -> str:
        """Path of a pipeline's block in a document."""
        return f"{self.prefix}{pipeline}"

    def find(self, subject: str) -> Document | None:
        """Return one document, or None."""
        return self.collection.find_one({"_id": subject})

    def claim(self, subject: str, path: StepPath, task: str, run: str) -> bool:
        """Take a step for processing; False if somebody else has it or it cannot be taken."""
        block = self.place(path[0])
        step = f"{block}.steps.{path[1]}"
        claimed = self.collection.update_one(
            {
                "_id": subject,
                f"{step}.state": {"$in": [None, *map(str, before("claim"))]},
                f"{block}.status.enqueued": {"$ne": True},
            },
            {
                "$set": {
                    f"{step}.state": str(MOVES[State.WAITING, "claim"]),
                    f"{step}.task": task,
                    f"{step}.run": run,
                    f"{step}.claimed": utc_now(),
                    f"{block}.status.enqueued": True,
                    f"{block}.status.done": False,
                }
            },
        )
        return claimed.modified_count == 1

    def finish(self, subject: str, path: StepPath, task: str, update: StepUpdate) -> Document | None:
        """Record the update of the task that holds the claim; None when it was superseded."""
        block = self.place(path[0])
        step = f"{block}.steps.{path[1]}"
        change: Document = {
            "$set": {
                **update.leaves(step),
                f"{block}.status.enqueued": False,
                f"{block}.last_modified": utc_now(),
                **self.remade(),
            },
            "$unset": {f"{step}.task": "", f"{step}.run": "", f"{step}.claimed": ""},
        }
        if "classified_as" in update.manifest:
            change["$set"][f"{block}.classified_as"] = update.manifest["classified_as"]
        if update.state is State.FAILED:
            change["$inc"] = {f"{step}.retries": 1, f"{block}.status.retries": 1}
        elif update.state in (State.DONE, State.REJECTED):
            change["$set"] |= {f"{step}.retries": 0, f"{block}.status.retries": 0}
        return self.collection.find_one_and_update(
            {"_id": subject, f"{step}.task": task}, change, return_document=ReturnDocument.AFTER
        )

    def set_done(self, subject: str, pipeline: str, done: bool) -> None:
        """Keep the summary that people read in step with the steps."""
        self.collection.update_one({"_id": subject}, {"$set": {f"{self.place(pipeline)}.status.done": done}})

    def invalidate(self, subject: str, path: StepPath) -> bool:
        """Let an ended step wait again; False when it is not one that ended."""
        block = self.place(path[0])
        step = f"{block}.steps.{path[1]}"
        changed = self.collection.update_one(
            {"_id": subject, f"{step}.state": {"$in": [str(state) for state in before("invalidate")]}},
            {
                "$set": {
                    f"{step}.state": str(State.WAITING),
                    f"{step}.retries": 0,
                    f"{step}.not_before": None,
                    f"{block}.status.done": False,
                    **self.reopened(),
                },
                "$unset": {f"{step}.redo": ""},
            },
        )
        return changed.modified_count == 1

    def reopened(self) -> Document:
        """Fields that make the daemon look at a document again."""
        return {"look_again": True}

    def remade(self) -> Document:
        """Fields that say that the products of a document are not what they were."""
        return {}

    def apply_redo(self, subject: str, pipeline: str, steps: Iterable[str]) -> bool:
        """Consume a person's ``force_redo``: all steps wait again. Not while one of them runs."""
        block = self.place(pipeline)
        waiting: Document = {}
        requested: Document = {}
        for step in steps:
            requested[f"{block}.steps.{step}.redo"] = ""
            waiting[f"{block}.steps.{step}.state"] = str(State.WAITING)
            waiting[f"{block}.steps.{step}.retries"] = 0
            waiting[f"{block}.steps.{step}.not_before"] = None
        granted = self.collection.update_one(
            {"_id": subject, f"{block}.status.force_redo": True, f"{block}.status.enqueued": {"$ne": True}},
            {
                "$set": {
                    f"{block}.status.force_redo": False,
                    f"{block}.status.done": False,
                    **waiting,
                    **self.reopened(),
                },
                "$unset": requested,
            },
        )
        return granted.modified_count == 1

    def request_redo(self, subject: str, pipeline: str) -> bool:
        """Set ``force_redo``, as a person does in the Mongo shell; False for an unknown document."""
        block = self.place(pipeline)
        requested = self.collection.update_one(
            {"_id": subject},
            {"$set": {f"{block}.status.force_redo": True, f"{block}.last_modified": utc_now()}},
        )
        return requested.matched_count == 1

    def request_step_redo(self, subject: str, path: StepPath) -> bool:
        """Ask for one step to be done again; False when it has not ended."""
        step = f"{self.place(path[0])}.steps.{path[1]}"
        requested = self.collection.update_one(
            {"_id": subject, f"{step}.state": {"$in": [str(state) for state in before("invalidate")]}},
            {"$set": {f"{step}.redo": True, **self.reopened()}},
        )
        return requested.matched_count == 1

    def release(
        self,
        paths: Iterable[StepPath],
        *,
        run: str | None = None,
        not_run: str | None = None,
        but: Sequence[str] = (),
    ) -> int:
        """Give back the claims of one run, or of every other run, but some tasks; returns how many there were."""
        holder: Any = run if run is not None else {"$ne": not_run}
        released = 0
        for pipeline, step in paths:
            block = self.place(pipeline)
            here = f"{block}.steps.{step}"
            changed = self.collection.update_many(
                {f"{here}.state": str(State.ENQUEUED), f"{here}.run": holder, f"{here}.task": {"$nin": list(but)}},
                {
                    "$set": {
                        f"{here}.state": str(MOVES[State.ENQUEUED, "release"]),
                        f"{block}.status.enqueued": False,
                        **self.reopened(),
                    },
                    "$unset": {f"{here}.task": "", f"{here}.run": "", f"{here}.claimed": ""},
                },
            )
            released += changed.modified_count
        return released

    def set_fields(self, subject: str, fields: Mapping[str, Any]) -> None:
        """Set leaves of a document."""
        self.collection.update_one({"_id": subject}, {"$set": dict(fields)})

    def insert(self, document: Document) -> bool:
        """Insert a document; False when it is there already."""
        try:
            self.collection.insert_one(document)
        except DuplicateKeyError:
            return False
        return True

    def redo_queries(self, pipelines: Iterable[str]) -> list[Document]:
        """Return the queries that find a person's request for a redo."""
        return [{f"{self.place(name)}.status.force_redo": True} for name in pipelines]

"""Steps of pipelines in the database: claimed once, finished only by the task that holds the claim."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError
from pymongo.results import UpdateResult

from obsarchive.core.document_paths import EFFECTS_DUE, EFFECTS_OF_STATE, EFFECTS_OF_TASK, PipelinePaths
from obsarchive.core.document_types.observations import NewObservation
from obsarchive.core.document_types.steps import StepDocument
from obsarchive.core.documents import utc_now
from obsarchive.core.rules import lookup
from obsarchive.core.step_state import MOVES, State, before
from obsarchive.core.values import TRUE_TEXT
from obsarchive.store.blocks import make_way, update_many, update_one, written

Document = dict[str, Any]
StepPath = tuple[str, str]
"""Names of a pipeline and of one of its steps."""

IS_TRUE: Document = {"$in": [True, 1, TRUE_TEXT]}
"""Finds what `obsarchive.core.values.as_flag` reads as true: users type requests in the Mongo shell."""
_LACKING_BEFORE = {
    "references": ("results.lacks_references", re.compile(r"^(any|own night)$")),
    "calibration": ("message", re.compile(r"^no master (dark|flat) .*neither night")),
    "dark files": ("message", re.compile(r"^no master dark: (?!.* bad \()")),
    "flat files": ("message", re.compile(r"^no master flat: (?!.* bad \()")),
}
"""What steps lacked that an earlier version called rejected, and the field of such a step that says so."""
_KEPT_OF_MANIFEST = ("message", "lacks", "results", "version", "inputs", "products", "amended")


@dataclass(frozen=True)
class StepUpdate:
    """How a step ended, as the database records it."""

    state: State
    message: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    not_before: datetime | None = None
    waits: int = 0
    losses: int = 0

    def to_document(self) -> StepDocument:
        """Return the fields to set in the document of the step."""
        manifest = cast(StepDocument, {key: self.manifest[key] for key in _KEPT_OF_MANIFEST if key in self.manifest})
        state: StepDocument = {"state": str(self.state), "message": self.message, "not_before": self.not_before}
        kept: StepDocument = {"lacks": "", **manifest, **state, "waits": self.waits, "losses": self.losses}
        if "finished" in self.manifest:
            kept["finished"] = _time(self.manifest["finished"])
            kept["started"] = _time(self.manifest["started"])
        else:
            kept["finished"] = utc_now()
        return kept


def _time(value: str | datetime) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def carried_over(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a manifest, of an earlier version as if this one had written it: a rejection may have been a lack."""
    if manifest.get("state") != State.REJECTED:
        return manifest
    for lacks, (key, pattern) in _LACKING_BEFORE.items():
        if pattern.search(str(lookup(manifest, key) or "")):
            return {**manifest, "state": str(State.LACKING), "lacks": lacks}
    return manifest


class StepStore:
    """Steps of pipelines in the documents of one collection.

    Parameters
    ----------
    collection : Collection
        Of documents that hold blocks of pipelines.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def pipeline_paths(self, pipeline: str) -> PipelinePaths:
        """Return the paths of a pipeline's block in a document."""
        return PipelinePaths.of_night(pipeline)

    def find(self, subject: str) -> Document | None:
        """Return one document, or None."""
        return self.collection.find_one({"_id": subject})

    def _update(self, query: Document, change: Document) -> UpdateResult:
        return update_one(self.collection, query, change)

    def claim(self, subject: str, path: StepPath, task: str, run: str) -> bool:
        """Claim a step for processing.

        Parameters
        ----------
        subject : str
            Name of the observation or night.
        path : (str, str)
            Pipeline and step.
        task : str
            Identifier of the task that processes it.
        run : str
            Identifier of the run of the daemon.

        Returns
        -------
        bool
            False if another task holds the claim, another step of the pipeline is enqueued, or the step is in a
            state from which it cannot be claimed.
        """
        at, step = self.pipeline_paths(path[0]), path[1]
        query: Document = {
            "_id": subject,
            at.step(step, "state"): {"$in": [None, *map(str, before("claim"))]},
            at.status("enqueued"): {"$ne": True},
        }
        change: Document = {
            "$set": {
                at.step(step, "state"): str(MOVES[State.WAITING, "claim"]),
                at.step(step, "task"): task,
                at.step(step, "run"): run,
                at.step(step, "claimed"): utc_now(),
                at.status("enqueued"): True,
                at.status("done"): False,
            }
        }
        claimed = self._update(query, change)
        if not claimed.modified_count and make_way(self.collection, subject, change):
            # there was a list, in which the query finds nothing missing
            claimed = self._update(query, change)
        return claimed.modified_count == 1

    def finish(self, subject: str, path: StepPath, task: str, update: StepUpdate) -> Document | None:
        """Record how a claimed step ended, once: a call that is repeated because its answer was lost changes nothing.

        The effects of the step on other documents are due from then on until :meth:`effects_applied`.

        Parameters
        ----------
        subject : str
            Name of the observation or night.
        path : (str, str)
            Pipeline and step.
        task : str
            Identifier of the task that ended.
        update : StepUpdate
            How it ended.

        Returns
        -------
        dict or None
            The changed document; None if the task does not hold the claim any more.
        """
        at, step = self.pipeline_paths(path[0]), path[1]
        change: Document = {
            "$set": {
                **at.step_fields(step, update.to_document()),
                at.status("enqueued"): False,
                at.last_modified: utc_now(),
                EFFECTS_DUE: {"task": task, "pipeline": path[0], "step": step, "state": str(update.state)},
                **self.remade(),
            },
            "$unset": _claim_of(at, step),
        }
        if "classified_as" in update.manifest:
            change["$set"][at.classified_as] = update.manifest["classified_as"]
        if update.state is State.FAILED:
            change["$inc"] = {at.step(step, "retries"): 1, at.status("retries"): 1}
        elif update.state in (State.DONE, State.REJECTED, State.LACKING):
            change["$set"] |= {at.step(step, "retries"): 0, at.status("retries"): 0}
        claimed = {"_id": subject, at.step(step, "task"): task}
        finished = written(
            self.collection,
            subject,
            change,
            lambda: self.collection.find_one_and_update(claimed, change, return_document=ReturnDocument.AFTER),
        )
        again = {EFFECTS_OF_TASK: task, EFFECTS_OF_STATE: str(update.state)}
        return finished or self.collection.find_one({"_id": subject, **again})

    def effects_applied(self, subject: str) -> None:
        """Record that the effects of the last step that ended are complete."""
        self._update({"_id": subject}, {"$unset": {EFFECTS_DUE: ""}})

    def with_effects_due(self) -> list[Document]:
        """Return the documents of steps that ended, but whose effects a killed daemon did not complete."""
        return list(self.collection.find({EFFECTS_OF_TASK: {"$exists": True}}))

    def set_done(self, subject: str, pipeline: str, done: bool) -> None:
        """Set ``status.done``, the summary of a pipeline's steps.

        Parameters
        ----------
        subject : str
            Name of the observation or night.
        pipeline : str
            Name of the pipeline.
        done : bool
            Whether it has its products (:func:`obsarchive.core.step_state.is_complete`).
        """
        self._update({"_id": subject}, {"$set": {self.pipeline_paths(pipeline).status("done"): done}})

    def invalidate(self, subject: str, path: StepPath) -> bool:
        """Set a step that ended to waiting.

        Parameters
        ----------
        subject : str
            Name of the observation or night.
        path : (str, str)
            Pipeline and step.

        Returns
        -------
        bool
            False if the step has not ended.
        """
        at, step = self.pipeline_paths(path[0]), path[1]
        changed = self._update(
            {"_id": subject, at.step(step, "state"): _ended()},
            {
                "$set": {**_waiting(at, step), at.status("done"): False, **self.reopened()},
                "$unset": {at.step(step, "redo"): ""},
            },
        )
        return changed.modified_count == 1

    def repeat(self, subject: str, path: StepPath) -> None:
        """Have a step done again: one that ended waits, one that runs does so when it has ended.

        Parameters
        ----------
        subject : str
            Name of the observation or night.
        path : (str, str)
            Pipeline and step.
        """
        at, step = self.pipeline_paths(path[0]), path[1]
        if not self.invalidate(subject, path):
            running = {"_id": subject, at.step(step, "state"): str(State.ENQUEUED)}
            self._update(running, {"$set": {at.step(step, "redo"): True, **self.reopened()}})

    def reopened(self) -> Document:
        """Return the fields that make the daemon look at a document again."""
        return {"look_again": True}

    def remade(self) -> Document:
        """Return the fields that mark the products of a document as changed."""
        return {}

    def apply_redo(self, subject: str, pipeline: str, steps: Iterable[str]) -> bool:
        """Reset ``force_redo`` and set all steps of the pipeline to waiting, unless one of them is enqueued.

        Parameters
        ----------
        subject : str
            Name of the observation or night.
        pipeline : str
            Name of the pipeline.
        steps : iterable of str
            Its steps.

        Returns
        -------
        bool
            False if no redo was requested, or a step is enqueued.
        """
        at = self.pipeline_paths(pipeline)
        waiting: Document = {}
        requested: Document = {}
        for step in steps:
            requested[at.step(step, "redo")] = ""
            waiting |= _waiting(at, step)
        applied = self._update(
            {"_id": subject, at.status("force_redo"): IS_TRUE, at.status("enqueued"): {"$ne": True}},
            {
                "$set": {at.status("force_redo"): False, at.status("done"): False, **waiting, **self.reopened()},
                "$unset": requested,
            },
        )
        return applied.modified_count == 1

    def request_redo(self, subject: str, pipeline: str) -> bool:
        """Set ``force_redo``, as a user does in the Mongo shell.

        Parameters
        ----------
        subject : str
            Name of the observation or night.
        pipeline : str
            Name of the pipeline.

        Returns
        -------
        bool
            False for an unknown document.
        """
        at = self.pipeline_paths(pipeline)
        requested = self._update(
            {"_id": subject}, {"$set": {at.status("force_redo"): True, at.last_modified: utc_now()}}
        )
        return requested.matched_count == 1

    def request_step_redo(self, subject: str, path: StepPath) -> bool:
        """Request that one step be done again.

        Parameters
        ----------
        subject : str
            Name of the observation or night.
        path : (str, str)
            Pipeline and step.

        Returns
        -------
        bool
            False if the step has not ended.
        """
        at, step = self.pipeline_paths(path[0]), path[1]
        requested = self._update(
            {"_id": subject, at.step(step, "state"): _ended()},
            {"$set": {at.step(step, "redo"): True, **self.reopened()}},
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
        """Release the claims of one run, or of every other run.

        Parameters
        ----------
        paths : iterable of (str, str)
            Pipelines and steps.
        run : str, optional
            Identifier of the run whose claims are released.
        not_run : str, optional
            Without `run`: identifier of the run whose claims are kept.
        but : sequence of str
            Identifiers of tasks whose claims are kept.

        Returns
        -------
        int
            Number of claims released.
        """
        holder: Any = run if run is not None else {"$ne": not_run}
        released = 0
        for pipeline, step in paths:
            at = self.pipeline_paths(pipeline)
            released += update_many(
                self.collection,
                {
                    at.step(step, "state"): str(State.ENQUEUED),
                    at.step(step, "run"): holder,
                    at.step(step, "task"): {"$nin": list(but)},
                },
                {
                    "$set": {
                        at.step(step, "state"): str(MOVES[State.ENQUEUED, "release"]),
                        at.status("enqueued"): False,
                        **self.reopened(),
                    },
                    "$unset": _claim_of(at, step),
                },
            )
        return released

    def paused(self, paths: Iterable[StepPath]) -> int:
        """Return the number of steps that wait for an outer cause to end, such as a disk that is away.

        Parameters
        ----------
        paths : iterable of (str, str)
            Pipelines and steps.
        """
        return sum(self.collection.count_documents(self._paused(path)) for path in paths)

    def end_pauses(self, paths: Iterable[StepPath]) -> None:
        """Have steps tried at once that wait for an outer cause to end.

        Parameters
        ----------
        paths : iterable of (str, str)
            Pipelines and steps.
        """
        for path in paths:
            at = self.pipeline_paths(path[0])
            anew = {at.step(path[1], "not_before"): None, at.step(path[1], "waits"): 0}
            update_many(self.collection, self._paused(path), {"$set": {**anew, **self.reopened()}})

    def _paused(self, path: StepPath) -> Document:
        at, step = self.pipeline_paths(path[0]), path[1]
        return {at.step(step, "state"): str(State.WAITING), at.step(step, "waits"): {"$gt": 0}}

    def carry_over(self, pipeline: str, steps: Sequence[str]) -> None:
        """Set to lacking what an earlier version called rejected although it only lacked something.

        Parameters
        ----------
        pipeline : str
            Name of the pipeline.
        steps : sequence of str
            Its steps.
        """
        at, changed = self.pipeline_paths(pipeline), 0
        for step in steps:
            rejected = {at.step(step, "state"): str(State.REJECTED)}
            for lacks, (key, pattern) in _LACKING_BEFORE.items():
                lacking = {at.step(step, "state"): str(State.LACKING), at.step(step, "lacks"): lacks}
                query = {**rejected, f"{at.steps}.{step}.{key}": pattern}
                changed += self.collection.update_many(query, {"$set": lacking}).modified_count
        if changed:
            ended = {"$in": [str(State.DONE), str(State.LACKING)]}
            complete = {at.step(step, "state"): ended for step in steps}
            some_done = {"$or": [{at.step(step, "state"): str(State.DONE)} for step in steps]}
            update_many(self.collection, {**complete, **some_done}, {"$set": {at.status("done"): True}})

    def set_fields(self, subject: str, fields: Mapping[str, Any]) -> None:
        """Set fields of a document.

        Parameters
        ----------
        subject : str
            Name of the observation or night.
        fields : mapping
            Values by the dotted paths of :mod:`obsarchive.core.document_paths`.
        """
        self._update({"_id": subject}, {"$set": dict(fields)})

    def insert(self, document: NewObservation) -> bool:
        """Insert a document; return False if there is one of that name."""
        try:
            self.collection.insert_one({**document})
        except DuplicateKeyError:
            return False
        return True

    def reasons(self, path: StepPath) -> list[Document]:
        """Return why a step has no products where it ended without any.

        Parameters
        ----------
        path : (str, str)
            Pipeline and step.

        Returns
        -------
        list of dict
            For each ``state`` and ``message``, the ``count`` of documents, an ``example`` and the most ``retries``.
        """
        at, step = self.pipeline_paths(path[0]), path[1]
        fields = {key: f"${at.step(step, key)}" for key in ("state", "message", "retries")}
        ended = [str(state) for state in (State.FAILED, State.REJECTED, State.LACKING)]
        stages: list[Document] = [
            {"$match": {at.step(step, "state"): {"$gt": str(State.DONE), "$in": ended}}},  # as the index is partial
            {
                "$group": {
                    "_id": {"state": fields["state"], "message": fields["message"]},
                    "count": {"$sum": 1},
                    "example": {"$max": "$_id"},
                    "retries": {"$max": fields["retries"]},
                }
            },
        ]
        return [{**entry["_id"], **entry} for entry in self.collection.aggregate(stages)]

    def redo_queries(self, pipelines: Iterable[str]) -> list[Document]:
        """Return the queries that find a user's request for a redo."""
        return [{self.pipeline_paths(name).status("force_redo"): IS_TRUE} for name in pipelines]


def _ended() -> Document:
    """Return the condition on the state of a step that has ended."""
    return {"$in": [str(state) for state in before("invalidate")]}


def _waiting(at: PipelinePaths, step: str) -> Document:
    """Return the fields of a step that waits, as if it had not run."""
    anew: StepDocument = {"state": str(State.WAITING), "retries": 0, "waits": 0, "losses": 0, "not_before": None}
    return at.step_fields(step, anew)


def _claim_of(at: PipelinePaths, step: str) -> Document:
    """Return the fields that hold the claim of a step, to be unset."""
    return {at.step(step, "task"): "", at.step(step, "run"): "", at.step(step, "claimed"): ""}

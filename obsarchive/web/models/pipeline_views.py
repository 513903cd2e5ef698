"""Pipelines and their steps as pages show them: states in the one vocabulary of the portal, pictures, products."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Night, Observation, PipelineRecord, StepRecord
from obsarchive.core.step_state import State
from obsarchive.pipeline import Step
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.store import Document

Subject = Observation | Night
ActiveJobs = Mapping[tuple[str, str, str], Document]
"""Attempts under way, by subject, pipeline and step."""


class DisplayState(StrEnum):
    """State of a step or pipeline; the order decides which state sums up several."""

    RUNNING = "running"
    QUEUED = "queued"
    FAILED = "failed"
    REJECTED = "rejected"
    STALE = "stale"
    WAITING = "waiting"
    NOT_RUN = "not run"
    LACKING = "lacking"
    PARTLY_DONE = "partly done"
    DONE = "done"


SUMS_UP = {state: rank for rank, state in enumerate(DisplayState)}
"""Which of several states sums them up: the one of the lowest rank."""

_ENDED = {
    State.DONE: DisplayState.DONE,
    State.FAILED: DisplayState.FAILED,
    State.REJECTED: DisplayState.REJECTED,
    State.LACKING: DisplayState.LACKING,
}


_BESIDE_DONE = {DisplayState.REJECTED: DisplayState.PARTLY_DONE, DisplayState.NOT_RUN: DisplayState.PARTLY_DONE}
"""What the state of a step means for a pipeline of which other steps are done."""


@dataclass(frozen=True)
class StepView:
    """A step and its state."""

    name: str
    state: DisplayState
    record: StepRecord
    job: Document = field(default_factory=dict)
    lacks: str = ""
    """What a lacking step waits for."""

    @property
    def word(self) -> str:
        """Its state as a page writes it."""
        return f"waiting for {self.lacks or 'input'}" if self.state is DisplayState.LACKING else str(self.state)

    @property
    def fraction(self) -> float | None:
        """Part of a running step that is done, 0 to 1."""
        found = self.job.get("fraction")
        return min(max(float(found), 0.0), 1.0) if isinstance(found, int | float) else None

    @property
    def has_ended(self) -> bool:
        """Whether it ran to an end, good or bad."""
        return self.record.state in _ENDED

    @property
    def products(self) -> list[Mapping[str, Any]]:
        """Products with a name."""
        return [product for product in self.record.products if isinstance(product.get("name"), str)]

    @property
    def pictures(self) -> list[str]:
        """Names of the pictures among them, without the thumbnail."""
        names = [product["name"] for product in self.products]
        return [name for name in names if name.endswith(".png") and not name.endswith("_thumb.png")]


@dataclass(frozen=True)
class PipelineView:
    """A pipeline of an observation or a night, with its steps in order."""

    name: str
    folder: Path
    record: PipelineRecord
    steps: tuple[StepView, ...]

    @cached_property
    def state(self) -> DisplayState:
        """The state that sums up its steps: done, when others at most lack what does not exist yet."""
        states = {step.state for step in self.steps}
        ended = states - {DisplayState.LACKING} or states
        if DisplayState.DONE in ended:
            ended = {_BESIDE_DONE.get(state, state) for state in ended}
        return min(ended, key=SUMS_UP.__getitem__, default=DisplayState.WAITING)

    @property
    def word(self) -> str:
        """Its state as a page writes it."""
        return next((step.word for step in self.steps if step.state is self.state), str(self.state))

    @property
    def version(self) -> str:
        """Changes whenever something about the pipeline does."""
        return digest(*((step.name, step.state, step.fraction, step.record) for step in self.steps))

    @cached_property
    def products(self) -> dict[str, Mapping[str, Any]]:
        """Products that the database knows, by name."""
        return {product["name"]: product for step in self.steps for product in step.products}

    def step(self, name: str) -> StepView | None:
        """Return one step, or None."""
        return next((step for step in self.steps if step.name == name), None)

    def mark(self, name: str | None) -> str | None:
        """Text that changes whenever a product does: in its address, it makes a browser fetch the new one."""
        return str(self.products.get(name or "", {}).get("sha256") or "")[:8] or None

    def picture(self, kind: str) -> str | None:
        """Name of the preview of a kind, such as ``thumb``."""
        return next((name for name in self.products if name.endswith(f"_{kind}.png")), None)

    @property
    def marks(self) -> list[dict[str, Any]]:
        """Companions on the cropped preview: offset from its middle in percent of its half side, right and down."""
        half = self.result("preview", "crop_px")
        found = self.result("pca", "detections")
        if not isinstance(half, int | float) or half <= 0 or not isinstance(found, list):
            return []
        marks = []
        for item in found:
            match item:
                case {"dy_px": int() | float() as dy, "dx_px": int() | float() as dx}:
                    marks.append({"x": 200 * dx / half, "y": -200 * dy / half, "found": item})
        return [mark for mark in marks if max(abs(mark["x"]), abs(mark["y"])) < 100]

    def result(self, step: str, key: str) -> Any:
        """Return a measured value.

        Parameters
        ----------
        step : str
            Step that measured it.
        key : str
            Name of the value.

        Returns
        -------
        object
            The value; None when there is none.
        """
        view = self.step(step)
        return (view.record if view else self.record.step(step)).results.get(key)


def troubles_of(views: Iterable[PipelineView]) -> list[tuple[PipelineView, StepView]]:
    """Return the steps that failed or were rejected."""
    bad = (DisplayState.FAILED, DisplayState.REJECTED)
    return [(view, step) for view in views for step in view.steps if step.state in bad]


def lacking_of(views: Iterable[PipelineView]) -> list[tuple[PipelineView, StepView]]:
    """Return the steps that ended for want of what does not exist yet."""
    return [(view, step) for view in views for step in view.steps if step.record.state is State.LACKING]


def digest(*what: Any) -> str:
    """Return a short text that differs for different values."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:12]


def has_begun(job: Document) -> bool:
    """Whether an attempt runs already, rather than being queued."""
    return any(job.get(key) is not None for key in ("started", "fraction", "worker"))


def running(jobs: Iterable[Document]) -> dict[tuple[str, str, str], Document]:
    """Sort attempts that are under way by what they work on."""
    return {
        (str(job.get("subject")), str(job.get("pipeline")), str(job.get("step"))): job
        for job in jobs
        if job.get("state") == State.ENQUEUED
    }


def pipelines_of(subject: Subject, chain: Sequence[ChainEntry], layout: Layout, jobs: ActiveJobs) -> list[PipelineView]:
    """Return the pipelines that apply to an observation or night or have run on it.

    Parameters
    ----------
    subject : Observation or Night
        The observation or night.
    chain : sequence of ChainEntry
        Pipelines of the configuration.
    layout : Layout
        Paths of the archive.
    jobs : ActiveJobs
        What the daemon runs now.

    Returns
    -------
    list of PipelineView
        Those of the configuration in its order, then those that it no longer has.
    """
    scope = "night" if isinstance(subject, Night) else "observation"
    views = []
    for link in (link for link in chain if link.pipeline.scope == scope):
        name, record = link.pipeline.name, subject.pipeline(link.pipeline.name)
        if not (record.document or link.applies(subject.document)):
            continue
        folder, steps = link.pipeline.path(layout, subject.night, subject.id), link.pipeline.steps
        views.append(PipelineView(name, folder, record, tuple(_steps(subject.id, name, record, steps, jobs))))
    return views + _unconfigured(subject, {link.pipeline.name for link in chain}, layout)


def _unconfigured(subject: Subject, known: set[str], layout: Layout) -> list[PipelineView]:
    """Pipelines that ran when the configuration was another one."""
    if isinstance(subject, Night):
        return []
    views = []
    for name in sorted(set(subject.document.get("pipelined") or ()) - known):
        record, folder = subject.pipeline(name), layout.observation(subject.night, subject.id) / name
        steps = tuple(_steps(subject.id, name, record, {step: Step(step, ()) for step in record.steps()}, {}))
        if steps:
            views.append(PipelineView(name, folder, record, steps))
    return views


def _steps(
    subject: str, pipeline: str, record: PipelineRecord, declared: Mapping[str, Step], jobs: ActiveJobs
) -> Iterator[StepView]:
    shown: dict[str, StepView] = {}
    for name, step in declared.items():
        found, job = record.step(name), jobs.get((subject, pipeline, name), {})
        before = [shown[other] for other in step.after]
        state = _shown(found, job, blocked=any(other.state in _STOPPING for other in before))
        lacks = found.lacks
        if state is DisplayState.WAITING:
            lacks = next((other.lacks for other in before if other.state is DisplayState.LACKING), "")
            if not lacks and "library" in step.uses and _has_its_turn(step, shown):
                lacks = "references"  # of its night, which are chosen when nothing else is due
            state = DisplayState.LACKING if lacks else state
        shown[name] = StepView(name, state, found, job, lacks)
    yield from shown.values()


def _has_its_turn(step: Step, shown: Mapping[str, StepView]) -> bool:
    """Whether all steps that a step comes after have ended."""
    return all(shown[name].has_ended for name in (*step.after, *step.follows))


_STOPPING = (DisplayState.FAILED, DisplayState.REJECTED, DisplayState.NOT_RUN)
"""States of a step after which others cannot run."""


def _shown(step: StepRecord, job: Document, blocked: bool) -> DisplayState:
    if step.state in _ENDED:
        return _ENDED[step.state]
    if step.state is State.ENQUEUED:
        return DisplayState.RUNNING if has_begun(job) else DisplayState.QUEUED
    if blocked:
        return DisplayState.NOT_RUN
    return DisplayState.STALE if step.products else DisplayState.WAITING


def find_product(views: Iterable[PipelineView], pipeline: str, name: str) -> tuple[Path, Mapping[str, Any]] | None:
    """Return a product that the database knows.

    Parameters
    ----------
    views : iterable of PipelineView
        Pipelines of an observation or night.
    pipeline : str
        Name of the pipeline.
    name : str
        Name of the product.

    Returns
    -------
    tuple or None
        Path and record of the product; None when there is none.
    """
    for view in views:
        if view.name == pipeline and name in view.products:
            return view.folder / name, view.products[name]
    return None

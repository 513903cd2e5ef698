"""Documents as pages show them: states in the one vocabulary of the portal, pictures, products, cards of a night."""

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
from obsarchive.store import Document, Note
from obsarchive.store.notes import NO_NOTE

Subject = Observation | Night
ActiveJobs = Mapping[tuple[str, str, str], Document]
"""Attempts under way, by subject, pipeline and step."""

PICTURE_KINDS = (
    "cropped",
    "full",
    "comparison",
    "quality",
    "shifts",
    "profile",
    "pca",
    "contrast_curve",
    "astrometry",
)
"""What the pictures of an observation show, in the order of the pages; the end of their names."""


FIRST_LOOKED_AT = (
    "ratio_percent",
    "ratio_error_percent",
    "flag",
    "fwhm_arcsec",
    "fwhm_error_arcsec",
    "contrast_0_5_arcsec_mag",
    "contrast_1_arcsec_mag",
    "n_references",
    "frames_used",
    "frames_total",
    "calibration",
)


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
        return min(ended, key=list(DisplayState).index, default=DisplayState.WAITING)

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
    for link in chain:
        name, record = link.pipeline.name, subject.pipeline(link.pipeline.name)
        if link.pipeline.scope != scope or not (record.document or link.applies(subject.document)):
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


_MISSING = (DisplayState.REJECTED, DisplayState.LACKING)


@dataclass(frozen=True)
class Card:
    """An observation as the night page shows it."""

    observation: Observation
    pipelines: tuple[PipelineView, ...]
    note: Note = NO_NOTE
    note_on_night: Note = NO_NOTE

    @property
    def quality(self) -> str:
        """What people say of it, else of its night; empty if nothing."""
        return self.note.quality or self.note_on_night.quality

    @property
    def remark(self) -> str:
        """Text of the note on it, else of the one on its night."""
        return self.note.text or self.note_on_night.text

    @property
    def id(self) -> str:
        """Name of the observation."""
        return self.observation.id

    @property
    def name(self) -> str:
        """Name of the target."""
        return str(self.observation.document.get("name") or self.id)

    @property
    def program(self) -> str:
        """Programme it belongs to."""
        science = self.observation.document.get("science_program")
        return str(science.get("program_id", "")) if isinstance(science, Mapping) else ""

    @cached_property
    def best(self) -> PipelineView | None:
        """The first pipeline that made pictures."""
        return next((view for view in self.pipelines if view.picture("cropped") or view.picture("thumb")), None)

    @cached_property
    def pictures(self) -> list[tuple[str, PipelineView, str]]:
        """Kind, pipeline and name of the pictures, of each kind one: of the best pipeline that has it."""
        views = sorted(self.pipelines, key=lambda view: view is not self.best)
        found = ((kind, view, view.picture(kind)) for kind in PICTURE_KINDS for view in views)
        first: dict[str, tuple[str, PipelineView, str]] = {}
        for kind, view, name in found:
            if name is not None:
                first.setdefault(kind, (kind, view, name))
        return list(first.values())

    @property
    def other_pictures(self) -> list[tuple[PipelineView, str]]:
        """Pipeline and name of the pictures of no known kind, in the order of the pipelines."""
        known = tuple(f"_{kind}.png" for kind in (*PICTURE_KINDS, "thumb"))
        return [
            (view, name)
            for view in self.pipelines
            for name in view.products
            if name.endswith(".png") and not name.endswith(known)
        ]

    @cached_property
    def state(self) -> DisplayState:
        """State that sums up the observation.

        A pipeline that rejected it counts only where no other accepted it, one that lacks something only where no
        other is done.
        """
        states = {view.state for view in self.pipelines}
        states = states - {DisplayState.REJECTED} or states
        states = states - {DisplayState.LACKING} or states
        return min(states, key=list(DisplayState).index, default=DisplayState.WAITING)

    @cached_property
    def word(self) -> str:
        """Its state as a page writes it."""
        return next((view.word for view in self.pipelines if view.state is self.state), str(self.state))

    @cached_property
    def missing(self) -> str:
        """What is not there although the observation is done, and why, in a few words; empty if nothing is."""
        if self.state not in (DisplayState.DONE, DisplayState.PARTLY_DONE):
            return ""
        views = [view for view in self.pipelines if view.state is not DisplayState.REJECTED]
        steps = [step for view in views for step in view.steps if step.state in _MISSING]
        return ", ".join(dict.fromkeys(f"{step.name}: {step.word}" for step in steps))

    @property
    def version(self) -> str:
        """Changes whenever the night page has something else to show."""
        pictures = [view.products[name].get("sha256") for _, view, name in self.pictures[:1]]
        return digest(self.words, self.strehl, self.reason, self.remark, pictures)

    @property
    def whole_version(self) -> str:
        """Changes whenever something about the observation does."""
        document = {key: self.observation.document.get(key) for key in ("seeing", "comment", "distributed")}
        return digest(self.words, document, *(view.version for view in self.pipelines))

    @property
    def pictures_version(self) -> str:
        """Changes whenever a picture does, or a mark on it."""
        pictures = [view.products[name].get("sha256") for _, view, name in self.pictures]
        return digest(
            pictures, [view.marks for view in self.pipelines], [name for _, name in self.other_pictures], self.reason
        )

    @cached_property
    def measured(self) -> dict[str, Any]:
        """Measured values of the first pipeline with pictures, single values only."""
        steps = self.best.steps if self.best else ()
        return {
            key: value
            for step in steps
            for key, value in step.record.results.items()
            if isinstance(value, str | int | float) and value != ""
        }

    @property
    def highlights(self) -> dict[str, Any]:
        """The most important measured values."""
        return {key: self.measured[key] for key in FIRST_LOOKED_AT if key in self.measured}

    @cached_property
    def strehl(self) -> float | None:
        """Strehl ratio [%] of the first pipeline that measured it."""
        found = (view.result("strehl", "ratio_percent") for view in self.pipelines)
        return next((float(value) for value in found if isinstance(value, int | float)), None)

    @cached_property
    def flag(self) -> str | None:
        """Flag of the Strehl ratio; empty for a good one."""
        found = (view.result("strehl", "flag") for view in self.pipelines)
        return next((str(flag) for flag in found if flag and flag != "OK"), None)

    @cached_property
    def troubles(self) -> list[tuple[PipelineView, StepView]]:
        """Steps that failed or were rejected."""
        bad = (DisplayState.FAILED, DisplayState.REJECTED)
        return [(view, step) for view in self.pipelines for step in view.steps if step.state in bad]

    @property
    def lacking(self) -> list[tuple[PipelineView, StepView]]:
        """Steps that wait for what does not exist yet."""
        return [(view, step) for view in self.pipelines for step in view.steps if step.record.state is State.LACKING]

    @property
    def reason(self) -> str:
        """Why the first of them failed or was rejected."""
        return next((f"{step.name}: {step.record.message}" for _, step in self.troubles), "")

    @cached_property
    def words(self) -> str:
        """Text that the filter box looks at."""
        classified = (view.record.classified_as or "" for view in self.pipelines)
        state = (self.state, self.word, self.missing)
        flags = (self.flag or "", self.quality)
        parts = (self.name, self.id, self.observation.filter, f"p{self.program}", *state, *flags)
        return " ".join((*parts, *classified)).lower()


SORTS = {
    "time": lambda card: card.observation.date_utc,
    "name": lambda card: card.name.lower(),
    "filter": lambda card: card.observation.filter,
    "strehl": lambda card: -1.0 if card.strehl is None else card.strehl,
    "state": lambda card: list(DisplayState).index(card.state),
}


@dataclass(frozen=True)
class Selection:
    """Which observations of a night are shown, and in which order; as in the address of the page."""

    text: str = ""
    sort: str = "time"
    descending: bool = False

    @classmethod
    def of(cls, arguments: Mapping[str, str]) -> "Selection":
        """Read the parameters of an address; invalid ones are ignored."""
        sort = arguments.get("sort", "time")
        return cls(
            arguments.get("q", "")[:100], sort if sort in SORTS else "time", arguments.get("order", "") == "desc"
        )

    @property
    def parameters(self) -> dict[str, str]:
        """Parameters of an address that keeps this selection."""
        found = {"q": self.text, "sort": "" if self.sort == "time" else self.sort}
        return {key: value for key, value in {**found, "order": "desc" if self.descending else ""}.items() if value}

    def apply(self, cards: Iterable[Card]) -> list[Card]:
        """Return the cards that hold every word, in order: by programme, then by the chosen order."""
        words = self.text.lower().split()
        kept = [card for card in cards if all(word in card.words for word in words)]
        ordered = sorted(kept, key=SORTS[self.sort], reverse=self.descending)
        return sorted(ordered, key=lambda card: _natural(card.program))


def _natural(program: str) -> tuple[float, str]:
    return (float(program) if program.replace(".", "", 1).isdecimal() else float("inf"), program)

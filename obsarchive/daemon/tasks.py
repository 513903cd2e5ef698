"""Tasks: all that a worker needs to run a step, from documents and configuration."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from obsarchive.config.model import Config, Telescope
from obsarchive.core.documents import NIGHT_KINDS, Night, Observation
from obsarchive.core.masters import Master
from obsarchive.daemon.night_context import BORROWED, Library, NightContext, Subject, masters_for, substitutes
from obsarchive.daemon.step_inputs import inputs_of
from obsarchive.pipeline import Step, Task
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.store import StepStore, Store


@dataclass
class ActiveTask:
    """A task on the cluster: a step, or (with `asked`) the packing of an observation."""

    subject: Subject
    records: StepStore
    link: ChainEntry | None = None
    step: Step | None = None
    context: NightContext = field(default_factory=NightContext)
    asked: datetime | None = None
    permit: Path | None = None
    started: float = field(default_factory=time.monotonic)
    fraction: float = 0.0
    text: str = "queued"
    has_begun: bool = False

    @property
    def label(self) -> str:
        """Pipeline and step, or ``pack``."""
        return f"{self.link.pipeline.name}.{self.step.name}" if self.link and self.step else "pack"

    @property
    def path(self) -> tuple[str, str]:
        """Names of pipeline and step; empty for packing."""
        return (self.link.pipeline.name, self.step.name) if self.link and self.step else ("", "")

    def status(self, now: float) -> dict[str, Any]:
        """Return the progress for telemetry; `now` is the monotonic time [s]."""
        seconds = round(now - self.started, 1)
        here = {"subject": self.subject.id, "step": self.label}
        return {**here, "fraction": self.fraction, "text": self.text, "seconds": seconds}


def make_task(config: Config, store: Store, task_id: str, running: ActiveTask) -> Task:
    """Return all that a worker needs to run a step.

    Parameters
    ----------
    config : Config
        The configuration.
    store : Store
        The database.
    task_id : str
        Identifier of the task.
    running : ActiveTask
        The step and its subject.

    Returns
    -------
    Task

    Raises
    ------
    TypeError
        When `running` is the packing of an observation.
    """
    link, step, subject = running.link, running.step, running.subject
    if link is None or step is None:
        raise TypeError("packing is no step")
    document = (
        running.records.find(subject.id) or subject.document
    )  # lists of documents come without the names of files
    return Task(
        id=task_id,
        pipeline=type(link.pipeline),
        step=step.name,
        document=document,
        archive=config.paths.archive,
        tmp=config.paths.tmp,
        settings=link.settings,
        step_settings=link.step_settings,
        inputs=inputs_of(subject, step, running.context),
        files=_raw_files(type(subject)(document), step),
        masters=masters_of(subject, step, running.context),
        telescope=_telescope(config, subject),
        telescopes=config.telescope,
        observations=tuple(store.observations.found(subject.night)) if "observations" in step.uses else (),
        calibration=config.calibration,
        raw_roots=tuple(config.paths.raw),
        config_digest=config.digest,
        time_limit_s=config.parallel.job_timeout_s,
        memory_limit_gb=config.parallel.memory_limit_gb,
        permit=running.permit,
    )


def _telescope(config: Config, subject: Subject) -> Telescope | None:
    if isinstance(subject, Night):
        return None
    name = config.telescope_of(subject.camera, subject.date_utc.date())
    return config.telescope[name] if name else None


def own_masters(nights: Iterable[Night]) -> tuple[Master, ...]:
    """Return the masters that nights made from their own files."""
    return tuple(master for night in nights for master in night.masters() if master.own)


def context_of(night: Night, own: tuple[Master, ...], library: Library) -> NightContext:
    """Return the state of a night, as its steps and those of its observations need it.

    Parameters
    ----------
    night : Night
        The night.
    own : tuple of Master
        Masters that any night made from its own files.
    library : Library
        Content of the PSF library.

    Returns
    -------
    NightContext
    """
    return NightContext(
        raw={kind: night.raw_signature(kind) for kind in NIGHT_KINDS},
        masters=tuple(night.masters()),
        elsewhere=tuple(master for master in own if master.night != night.id),
        needs=night.needs(),
        copies_from=night.copies_from,
        library=library,
        science=night.science,
        reductions=night.reductions,
    )


def _raw_files(subject: Subject, step: Step) -> dict[str, tuple[Path, ...]]:
    if isinstance(subject, Observation):
        return {"science": subject.raw_files} if "science" in step.uses else {}
    return {
        kind: tuple(file["path"] for file in subject.raw_files(kind) if not file.get("missing"))
        for kind in NIGHT_KINDS
        if kind in step.uses
    }


def masters_of(subject: Subject, step: Step, context: NightContext) -> tuple[Master, ...]:
    """Return the masters that a step may use: those that fit the observation, or substitutes for what a night lacks.

    Parameters
    ----------
    subject : Observation or Night
        What the step belongs to.
    step : Step
        The step.
    context : NightContext
        State of the night.

    Returns
    -------
    tuple of Master
    """
    if isinstance(subject, Observation):
        if "calibration" not in step.uses:
            return ()
        return tuple(master for master in masters_for(subject.need, context.masters) if master)
    kinds = [kind for use, kind in BORROWED.items() if use in step.uses]
    return tuple(master for kind in kinds for master in substitutes(kind, subject.night, context))

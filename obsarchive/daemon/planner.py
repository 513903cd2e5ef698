"""Decision of what is due: pure functions of documents, pipelines and the content of the disk."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from obsarchive.core.documents import Night, Observation, StepRecord
from obsarchive.core.step_state import State
from obsarchive.daemon.endings import PATIENCE
from obsarchive.daemon.night_context import NightContext, Subject
from obsarchive.daemon.step_inputs import has_lost_cards, has_other_inputs, inputs_of
from obsarchive.pipeline import Pipeline, Step
from obsarchive.pipeline.chain import ChainEntry

NO_RETRIES = -1
"""Number of retries with which no failed step runs again."""


@dataclass(frozen=True)
class RetryPolicy:
    """When a failed step is tried again."""

    now: datetime
    max_retries: int
    longest: timedelta = timedelta.max
    """Longest pause there is: a later time was set by a clock that has been put back since."""

    def allows(self, not_before: datetime | None) -> bool:
        """Whether a step may run that shall not be tried before some time."""
        return not_before is None or not_before <= self.now or not_before - self.now > self.longest


def stale(subject: Subject, chain: Sequence[ChainEntry], context: NightContext) -> Iterator[tuple[Pipeline, Step]]:
    """Yield steps that ended with other inputs than the present ones, or that a user wants again.

    Those of a pipeline whose rule excludes the subject are not: they would wait for good.

    Parameters
    ----------
    subject : Observation or Night
        What the steps belong to.
    chain : sequence of ChainEntry
        Pipelines that apply.
    context : NightContext
        State of the night.

    Yields
    ------
    (Pipeline, Step)
    """
    for link in chain:
        if not link.applies(subject.document):
            continue
        record = subject.pipeline(link.pipeline.name)
        for name, step in link.pipeline.steps.items():
            ended = record.step(name)
            if ended.state in (State.WAITING, State.ENQUEUED):
                continue
            now = inputs_of(subject, step, context)
            if "source" in now and not _has_settled(step.reads, subject, chain, NO_RETRIES):
                now["source"] = ended.inputs.get("source", "")  # it may become what it was
            if (
                ended.redo
                or has_other_inputs(ended, now, subject, step, context)
                or has_lost_cards(ended, link.pipeline.name, subject)
            ):
                yield link.pipeline, step


def requested(subject: Subject, chain: Sequence[ChainEntry]) -> Iterator[tuple[ChainEntry, Step]]:
    """Yield the steps that are done again because a user asks for it, of a pipeline or of a step.

    Parameters
    ----------
    subject : Observation or Night
        What the steps belong to.
    chain : sequence of ChainEntry
        Pipelines that apply.

    Yields
    ------
    (ChainEntry, Step)
        Each once, in the order of its pipeline.
    """
    for link in chain:
        if not link.applies(subject.document):
            continue
        pipeline, record = link.pipeline, subject.pipeline(link.pipeline.name)
        asked = [name for name in pipeline.steps if record.force_redo or _is_asked(record.step(name))]
        names = {*asked, *(other for name in asked for other in dependents(pipeline, name))}
        yield from ((link, step) for name, step in pipeline.steps.items() if name in names)


def _is_asked(ended: StepRecord) -> bool:
    return ended.redo and ended.state not in (State.WAITING, State.ENQUEUED)


def dependents(pipeline: Pipeline, step: str) -> list[str]:
    """Return the steps that show or use what a step makes, directly or through others, in their order.

    Parameters
    ----------
    pipeline : Pipeline
        The pipeline.
    step : str
        Name of the step.

    Returns
    -------
    list of str
    """
    found = {step}
    for name, other in pipeline.steps.items():  # in an order in which none stands before what it needs
        if found.intersection((*other.after, *other.follows)):
            found.add(name)
    return [name for name in pipeline.steps if name in found and name != step]


def next_step(
    subject: Subject, chain: Sequence[ChainEntry], policy: RetryPolicy, context: NightContext | None = None
) -> tuple[ChainEntry, Step] | None:
    """Return the first step of the chain that can run now.

    Parameters
    ----------
    subject : Observation or Night
        What the steps belong to.
    chain : sequence of ChainEntry
        Pipelines that apply.
    policy : RetryPolicy
        The time, and how often failed steps are tried again.
    context : NightContext, optional
        State of the night.

    Returns
    -------
    (ChainEntry, Step) or None
        None while a step runs, or when there is none.
    """
    if is_running(subject, chain):
        return None
    for link, step in open_steps(subject, chain, policy.max_retries):
        if context is not None and is_held(subject, link, step, context):
            continue
        not_before = subject.pipeline(link.pipeline.name).step(step.name).not_before
        if policy.allows(not_before):
            return link, step
    return None


def is_held(subject: Subject, link: ChainEntry, step: Step, context: NightContext) -> bool:
    """Whether a step waits for the reference stars of its night, because the library does not hold enough others.

    Parameters
    ----------
    subject : Observation or Night
        What the step belongs to.
    link : ChainEntry
        Its pipeline.
    step : Step
        The step.
    context : NightContext
        State of the night.

    Returns
    -------
    bool
    """
    if not context.awaits_references or "library" not in step.uses or isinstance(subject, Night):
        return False
    enough = getattr(link.pipeline.step_settings[step.name], "enough_references", None)
    return enough is None or context.library.count(subject) < enough


def library_steps(chain: Sequence[ChainEntry]) -> frozenset[tuple[str, str]]:
    """Return the steps of observations that use the PSF library, and those that use what they make.

    Parameters
    ----------
    chain : sequence of ChainEntry
        Pipelines of observations.

    Returns
    -------
    frozenset of (str, str)
        Names of pipeline and step.
    """
    found: set[tuple[str, str]] = set()
    products: set[str] = set()
    steps = [(link.pipeline, step) for link in chain for step in link.pipeline.steps.values()]
    before = -1
    while len(found) > before:
        before = len(found)
        for pipeline, step in steps:
            if "library" in step.uses or not products.isdisjoint(step.reads):
                found.update((pipeline.name, name) for name in (step.name, *dependents(pipeline, step.name)))
            if (pipeline.name, step.name) in found:
                products.update(f"{pipeline.name}/{product}" for product in step.makes)
    return frozenset(found)


def has_first_attempt(
    subject: Subject,
    chain: Sequence[ChainEntry],
    context: NightContext,
    max_retries: int,
    but: Collection[tuple[str, str]] = (),
) -> bool:
    """Whether a step runs or is due that did not fail before: one that is tried again is not waited for.

    Parameters
    ----------
    subject : Observation or Night
        What the steps belong to.
    chain : sequence of ChainEntry
        Pipelines that apply.
    context : NightContext
        State of the night.
    max_retries : int
        How often a failed step is tried again.
    but : collection of (str, str)
        Pipelines and steps that do not count.

    Returns
    -------
    bool
    """
    links = [link for link in chain if link.applies(subject.document)]
    if any(subject.pipeline(link.pipeline.name).force_redo for link in links):
        return True
    steps = [(link.pipeline.name, name) for link in links for name in link.pipeline.steps]
    running = {path for path in steps if subject.pipeline(path[0]).step(path[1]).state is State.ENQUEUED}
    due = {(link.pipeline.name, step.name) for link, step in open_steps(subject, chain, max_retries)}
    fresh = {path for path in running | due if not _was_tried(subject.pipeline(path[0]).step(path[1]))}
    again = {(pipeline.name, step.name) for pipeline, step in stale(subject, chain, context)}
    return not (fresh | again) <= set(but)


def _was_tried(record: StepRecord) -> bool:
    """Whether a step has failed, or has waited long for something to come back: a lost worker is no attempt."""
    return record.retries > 0 or record.waits > PATIENCE


def is_running(subject: Subject, chain: Sequence[ChainEntry]) -> bool:
    """Whether a step of the chain runs.

    Parameters
    ----------
    subject : Observation or Night
        What the steps belong to.
    chain : sequence of ChainEntry
        Pipelines that apply.

    Returns
    -------
    bool
    """
    records = (subject.pipeline(link.pipeline.name) for link in chain)
    return any(step.state is State.ENQUEUED for record in records for step in record.steps().values())


def open_steps(subject: Subject, chain: Sequence[ChainEntry], max_retries: int) -> Iterator[tuple[ChainEntry, Step]]:
    """Yield the steps that can run now or after a delay, as the documents are; none without the raw files it needs.

    Parameters
    ----------
    subject : Observation or Night
        What the steps belong to.
    chain : sequence of ChainEntry
        Pipelines that apply.
    max_retries : int
        How often a failed step is tried again.

    Yields
    ------
    (ChainEntry, Step)
    """
    is_away = isinstance(subject, Observation) and subject.raw_missing
    for link in chain:
        if not link.applies(subject.document):
            continue
        record = subject.pipeline(link.pipeline.name)
        records = {name: record.step(name) for name in link.pipeline.steps}
        for name, step in link.pipeline.steps.items():
            if is_away and "science" in step.uses:
                continue
            if (
                _may_run(records[name], max_retries)
                and _is_ready(step, link.pipeline, records, max_retries)
                and _has_settled(step.reads, subject, chain, max_retries)
            ):
                yield link, step


def _has_settled(reads: Sequence[str], subject: Subject, chain: Sequence[ChainEntry], max_retries: int) -> bool:
    """Whether no product of other pipelines that a step reads is still to be made."""
    makers = {read.partition("/")[0] for read in reads}
    for link in chain:
        if link.pipeline.name in makers and link.applies(subject.document):
            record = subject.pipeline(link.pipeline.name)
            records = {name: record.step(name) for name in link.pipeline.steps}
            products = {read.partition("/")[2] for read in reads}
            for name, step in link.pipeline.steps.items():
                if products.intersection(step.makes) and _will_run(name, link.pipeline, records, max_retries):
                    return False
    return True


def _may_run(record: StepRecord, max_retries: int) -> bool:
    return record.state is State.WAITING or (record.state is State.FAILED and record.retries <= max_retries)


Records = Mapping[str, StepRecord]


def _is_ready(step: Step, pipeline: Pipeline, records: Records, max_retries: int) -> bool:
    if any(records[name].state is not State.DONE for name in step.after):
        return False
    return not any(_will_run(name, pipeline, records, max_retries) for name in step.follows)


def _will_run(name: str, pipeline: Pipeline, records: Records, max_retries: int) -> bool:
    """Whether a step runs now or later; not if a step that it comes after ended badly."""
    if records[name].state is State.ENQUEUED:
        return True
    return _may_run(records[name], max_retries) and all(
        records[before].state is State.DONE or _will_run(before, pipeline, records, max_retries)
        for before in pipeline.steps[name].after
    )

"""What steps are made from: signatures by which a change is seen, and whether they are those of the last time."""

from collections.abc import Mapping

from obsarchive.core.documents import NIGHT_KINDS, Night, Observation, StepRecord
from obsarchive.core.masters import Master
from obsarchive.core.step_state import State
from obsarchive.daemon.night_context import BORROWED, Library, NightContext, Subject, masters_for, substitutes
from obsarchive.daemon.night_files import OF_WHICH
from obsarchive.pipeline import InputKind, Step

MASTER_DARKS: InputKind = "master_darks"


def inputs_of(subject: Subject, step: Step, context: NightContext) -> dict[str, str]:
    """Return the signatures of everything a step is made from; when they change, the step is due again.

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
    dict of str to str
        Signatures by the kind of input.
    """
    found: dict[str, str] = {use: _signature(subject, use, context) for use in step.uses if use not in BORROWED}
    if step.gives and "observations" in found:
        found["observations"] = context.reductions
    if step.reads and isinstance(subject, Observation):
        found["source"] = _source(subject, step)
    return found


def _source(subject: Observation, step: Step) -> str:
    """Return the product of another pipeline that a step reads, and its content; empty if there is none."""
    found = subject.first_product(step.reads)
    if found is None:
        return ""
    name, maker = found
    return f"{name} {maker.content_of(name.format(id=subject.id).partition('/')[2])}"


def _signature(subject: Subject, use: InputKind, context: NightContext) -> str:
    if isinstance(subject, Night):
        return _signature_of_night(use, context)
    if use == "science":
        return subject.raw_signature
    if use == "library":
        return context.library.signature(subject)
    dark, flat = masters_for(subject.need, context.masters)
    return " ".join(f"{m.label}:{m.signature}" if m else "none" for m in (dark, flat))


def _signature_of_night(use: InputKind, context: NightContext) -> str:
    if use == "observations":
        return context.science
    if use == MASTER_DARKS:
        return " ".join(sorted(f"{m.label}:{m.signature}" for m in context.masters if m.kind == "dark"))
    return context.raw.get(use, "")


def has_other_inputs(
    ended: StepRecord, present: Mapping[str, str], subject: Subject, step: Step, context: NightContext
) -> bool:
    """Whether a step that ended would be made from something else now.

    Parameters
    ----------
    ended : StepRecord
        How it ended.
    present : mapping of str to str
        Its inputs as they are now.
    subject : Observation or Night
        What the step belongs to.
    step : Step
        The step.
    context : NightContext
        State of the night.

    Returns
    -------
    bool
    """
    before, now = dict(ended.inputs), dict(present)
    recorded = before.pop("library", "")
    if "library" in now and _misses_references(ended, recorded, subject, context.library):
        return True
    now.pop("library", None)
    if MASTER_DARKS not in before and (ended.state is State.DONE or not now.get(MASTER_DARKS)):
        now.pop(MASTER_DARKS, None)  # of an earlier version
    if isinstance(subject, Night) and ended.state is State.DONE:
        _leave_out_what_has_gone(before, now)
    if before != now:
        return True
    if ended.state is State.FAILED:
        return False  # a failed step borrowed nothing; its retries are counted as usual
    return _borrowed(ended, step, subject.night) != _to_borrow(step, subject.night, context)


def _leave_out_what_has_gone(before: dict[str, str], now: dict[str, str]) -> None:
    """Take out of the inputs of a night's step what speaks only of files that have gone: they make nothing stale."""
    for use in (*NIGHT_KINDS, MASTER_DARKS):
        if not now.get(use):  # also where a lost database took their list along
            before.pop(use, None)
            now.pop(use, None)
        elif OF_WHICH in now[use]:
            before[use], now[use] = (each.get(use, "").partition(OF_WHICH)[0] for each in (before, now))


def has_lost_cards(ended: StepRecord, pipeline: str, subject: Subject) -> bool:
    """Whether a product in whose header a step set cards was written anew since.

    Parameters
    ----------
    ended : StepRecord
        How the step ended.
    pipeline : str
        Its pipeline.
    subject : Observation or Night
        What it belongs to.

    Returns
    -------
    bool
    """
    for amended in ended.amended:
        maker = subject.pipeline(str(amended.get("pipeline"))).step(str(amended.get("step")))
        present = maker.product(str(amended.get("name")))
        if present and pipeline not in present.get("cards_of", ()):
            return True
    return False


def _misses_references(ended: StepRecord, before: str, subject: Subject, library: Library) -> bool:
    """Whether the PSF library now holds what a step lacked, or does not hold any more what it used."""
    if isinstance(subject, Night):
        return False
    now = library.signature(subject)
    if before in (now, library.former_signature(subject)):
        return False
    if not library.members.issuperset(ended.results.get("references") or ()):
        return True
    lacks = ended.results.get("lacks_references")
    return lacks == "any" or (lacks == "own night" and before.split()[:1] != now.split()[:1])


def _borrowed(ended: StepRecord, step: Step, night: str) -> set[tuple[str, str, str]]:
    """Return the masters that a calibration step took from other nights."""
    if BORROWED.keys().isdisjoint(step.uses):
        return set()
    masters = [Master.from_document(document, night) for document in ended.results.get("masters") or ()]
    return {(m.label, m.signature, m.source_night) for m in masters if not m.own}


def _to_borrow(step: Step, night: str, context: NightContext) -> set[tuple[str, str, str]]:
    """Return the masters that it would take now."""
    kinds = [kind for use, kind in BORROWED.items() if use in step.uses]
    return {(m.label, m.signature, m.night) for kind in kinds for m in substitutes(kind, night, context)}

"""Why steps wait or failed: one reason for each kind, with what to do about it."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from obsarchive.cli.daemon_reasons import Reason
from obsarchive.config.model import Config
from obsarchive.core.causes import AFTER, cause_of, kind_of
from obsarchive.core.documents import Night, Observation, utc_now
from obsarchive.core.step_state import State
from obsarchive.daemon import planner
from obsarchive.daemon.night_context import NightContext
from obsarchive.errors import ServiceUnavailable
from obsarchive.pipeline import Step
from obsarchive.pipeline.chain import ChainEntry, decision_chain, steps_of
from obsarchive.store import Document, StepStore, Store, outage_as_error

MOST_KINDS, MOST_LOOKED_AT = 20, 5000


def of_steps(config: Config, open_store: Callable[[Config], Any]) -> list[Reason]:
    """Return why steps have no products, the failed ones first; or why that cannot be found out.

    Parameters
    ----------
    config : Config
        The configuration, whose classes can be imported.
    open_store : callable
        Opens the database.
    """
    chain = decision_chain(config)
    try:
        with open_store(config) as store, outage_as_error():
            found = [*_ended(store, chain), *_waiting(store, chain, config.daemon.max_retries)]
    except ServiceUnavailable as err:
        return [Reason("no database", str(err), "see that it runs and that the disk of its folder has space")]
    rank = {state: place for place, state in enumerate(("failed", "waiting", "lacking", "rejected"))}
    found.sort(key=lambda reason: (rank[reason.what.partition(" ")[0]], -reason.count))
    rest = sum(reason.count for reason in found[MOST_KINDS:])
    shown = found[:MOST_KINDS]
    if rest:
        shown.append(Reason("further steps", "more kinds of reasons", "obsarchive status CONFIG NIGHT lists all", rest))
    return shown


def _ended(store: Store, chain: Iterable[ChainEntry]) -> Iterator[Reason]:
    """Yield why steps ended without products; messages that differ in names and numbers only are one reason."""
    chain = list(chain)
    stores: tuple[tuple[StepStore, str], ...] = ((store.observations, "observation"), (store.nights, "night"))
    for records, scope in stores:
        for path in steps_of(chain, scope):
            groups: dict[tuple[str, str], Reason] = {}
            for entry in records.reasons(path):
                reason = _of_entry(entry, f"{path[0]}.{path[1]}")
                groups.setdefault((reason.what, kind_of(reason.why)), reason).count += int(entry["count"])
            yield from groups.values()


def _of_entry(entry: Document, step: str) -> Reason:
    state, message = State(entry["state"]), str(entry.get("message") or "no reason was given")
    action = AFTER.get(state) or cause_of(message).action
    return Reason(f"{state} {step}", message, action, example=str(entry["example"]))


def _waiting(store: Store, chain: Iterable[ChainEntry], max_retries: int) -> Iterator[Reason]:
    """Yield what observations wait for that are not complete; failed steps are listed by `_ended`."""
    of_observations = [link for link in chain if link.pipeline.scope == "observation"]
    before = [link for link in chain if link.pipeline.scope == "night" and link.pipeline.precedes_science]
    nights = {night.id: night for night in store.nights.all()}
    groups: dict[tuple[str, str], Reason] = {}
    opened = store.observations.open([link.pipeline.name for link in of_observations])
    for observation in islice(opened, MOST_LOOKED_AT):
        night = nights.get(observation.night, Night({"_id": observation.night}))
        is_before = next(planner.open_steps(night, before, max_retries), None) is not None
        for link, step in islice(planner.open_steps(observation, of_observations, max_retries), 1):
            reason = _why(observation, night, (link, step), is_before)
            groups.setdefault((reason.what, kind_of(reason.why)), reason).count += 1
    yield from groups.values()


def _why(observation: Observation, night: Night, due: tuple[ChainEntry, Step], is_before: bool) -> Reason:
    """Return why the next step of an observation has not run."""
    link, step = due
    record = observation.pipeline(link.pipeline.name).step(step.name)
    if is_before:
        why, action = (
            "the calibration of its night is not done",
            f"nothing; or see: obsarchive status CONFIG {night.id}",
        )
    elif planner.is_held(observation, link, step, NightContext(awaits_references=not night.reductions)):
        why, action = "the reference stars of its night are not chosen yet", "nothing: they come last"
    elif record.not_before is not None and record.not_before > utc_now():
        why = f"tried again at {record.not_before:%H:%M:%S} UTC: {record.message}"
        action = cause_of(record.message).action
    elif record.message and record.state is State.WAITING:
        why, action = record.message, cause_of(record.message).action
    else:
        why, action = "its turn has not come", "nothing, while a daemon runs"
    return Reason(f"waiting {link.pipeline.name}.{step.name}", why, action, example=observation.id)

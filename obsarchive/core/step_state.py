"""States of a step and the transitions between them, as a table.

::

    waiting -claim-> enqueued -succeed-> done
                              -fail----> failed     (claimed again until the retries are used up)
                              -reject--> rejected   (these data can never give the product)
                              -lack----> lacking    (what it needs does not exist yet: no reference star, no master)
                              -release-> waiting    (not an attempt: locked, or the daemon stopped)
    done | failed | rejected | lacking -invalidate-> waiting  (inputs changed, product vanished, a user's request)
"""

from collections.abc import Iterable
from enum import StrEnum


class State(StrEnum):
    """State of a step."""

    WAITING = "waiting"
    ENQUEUED = "enqueued"
    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"
    LACKING = "lacking"
    """What it needs does not exist yet; it is due again when that comes."""


MOVES: dict[tuple[State, str], State] = {
    (State.WAITING, "claim"): State.ENQUEUED,
    (State.FAILED, "claim"): State.ENQUEUED,
    (State.ENQUEUED, "succeed"): State.DONE,
    (State.ENQUEUED, "fail"): State.FAILED,
    (State.ENQUEUED, "reject"): State.REJECTED,
    (State.ENQUEUED, "lack"): State.LACKING,
    (State.ENQUEUED, "release"): State.WAITING,
    (State.DONE, "invalidate"): State.WAITING,
    (State.FAILED, "invalidate"): State.WAITING,
    (State.REJECTED, "invalidate"): State.WAITING,
    (State.LACKING, "invalidate"): State.WAITING,
}


def after(state: str, event: str) -> State:
    """Return the state that follows an event.

    Parameters
    ----------
    state : str
        The present state.
    event : str
        ``claim``, ``succeed``, ``fail``, ``reject``, ``lack``, ``release`` or ``invalidate``.

    Returns
    -------
    State

    Raises
    ------
    ValueError
        When the event cannot happen in this state: an error of the caller.
    """
    try:
        return MOVES[State(state), event]
    except KeyError:
        raise ValueError(f"a step that is {state} cannot {event}") from None


def before(event: str) -> list[State]:
    """Return the states in which `event` can happen."""
    return [state for state, name in MOVES if name == event]


def is_complete(states: Iterable[str]) -> bool:
    """Return whether a pipeline has its products: steps are done, and others at most lack what does not exist yet."""
    found = set(states)
    return State.DONE in found and found <= {State.DONE, State.LACKING}

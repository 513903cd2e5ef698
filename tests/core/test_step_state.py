"""The life of a step, over all states and events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.core.step_state import MOVES, State, after, before, is_complete
from obsarchive.errors import ArchiveError, BadRawData, Lacking, NotReady, Unprocessable

EVENTS = ("claim", "succeed", "fail", "reject", "lack", "release", "invalidate")
ALLOWED = {
    "waiting": {"claim": "enqueued"},
    "enqueued": {
        "succeed": "done",
        "fail": "failed",
        "reject": "rejected",
        "lack": "lacking",
        "release": "waiting",
    },
    "failed": {"claim": "enqueued", "invalidate": "waiting"},
    "done": {"invalidate": "waiting"},
    "rejected": {"invalidate": "waiting"},
    "lacking": {"invalidate": "waiting"},
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", list(State))
def test_every_move(state, event):
    wanted = ALLOWED[state].get(event)
    if wanted is None:
        with pytest.raises(ValueError, match=f"{state}.*{event}"):
            after(state, event)
    else:
        assert after(state, event) == wanted
    assert (state in before(event)) == (wanted is not None)


@given(st.text(), st.text())
def test_unknown_states_and_events_are_bugs(state, event):
    for pair in ((state, "claim"), ("waiting", event)):
        if pair not in MOVES:
            with pytest.raises(ValueError):
                after(*pair)


@given(st.lists(st.sampled_from(EVENTS)))
def test_whatever_happens_a_step_can_still_be_done(events):
    """No sequence of possible events leads into a dead end."""
    state = State.WAITING
    for event in events:
        state = MOVES.get((state, event), state)
    reached = {state}
    for _ in State:
        reached |= {target for (source, _), target in MOVES.items() if source in reached}
    assert State.DONE in reached


@pytest.mark.parametrize("kind", [ArchiveError, NotReady, Unprocessable, BadRawData])
def test_what_a_step_raises_can_happen_to_a_running_step(kind):
    assert after(State.ENQUEUED, kind("why").event) in (State.FAILED, State.WAITING, State.REJECTED)


def test_what_a_step_lacks_is_no_fault_of_the_data():
    assert after(State.ENQUEUED, Lacking("references", "none in Si").event) is State.LACKING


@pytest.mark.parametrize(
    ("states", "complete"),
    [
        ("done done", True),
        ("done lacking", True),
        ("lacking", False),
        ("done rejected", False),
        ("done failed", False),
        ("done waiting", False),
        ("", False),
    ],
)
def test_a_pipeline_has_its_products_when_at_most_some_steps_lack_something(states, complete):
    assert is_complete(states.split()) is complete

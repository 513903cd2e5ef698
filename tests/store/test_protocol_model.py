"""Every order of events of the model of the protocol: what is promised holds, and falls with each mechanism."""

import pytest

from tests.store.protocol_model import GUARDS, Model, Scope, explore


def test_no_order_of_events_breaks_a_promise() -> None:
    worlds, problem = explore(Model(scope=Scope(wishes=2)))
    assert problem == ""
    assert worlds > 50_000


@pytest.mark.parametrize("guard", sorted(GUARDS))
def test_each_mechanism_is_needed(guard: str) -> None:
    assert explore(Model(GUARDS - {guard}))[1]

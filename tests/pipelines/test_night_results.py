"""A night without results says what its observations lack."""

from types import SimpleNamespace

import pytest

from obsarchive.core.documents import Observation
from obsarchive.errors import Lacking, Unprocessable
from pipelines.shared.night_results import nothing_found


def night(**states: dict) -> SimpleNamespace:
    steps = {name: {"state": state, "lacks": lacks} for name, (state, lacks) in states.items()}
    return SimpleNamespace(observations=(Observation({"_id": "x", "pipelined": {"bright_star": {"steps": steps}}}),))


@pytest.mark.parametrize(
    ("states", "kind"),
    [
        ({"reduce": ("done", ""), "pca": ("lacking", "references")}, Lacking),
        ({"reduce": ("rejected", ""), "pca": ("waiting", "")}, Unprocessable),
        ({}, Unprocessable),
    ],
)
def test_what_is_lacking_is_passed_on(states, kind):
    error = nothing_found(night(**states), "no contrast curve")
    assert type(error) is kind
    assert str(error) == "no contrast curve"
    assert getattr(error, "lacks", "references") == "references"

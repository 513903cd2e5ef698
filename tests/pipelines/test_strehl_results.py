"""What the step of the Strehl ratio reads of the results of the step that made the stack."""

from typing import Any, cast

import pytest

from obsarchive.pipeline import Workspace
from obsarchive.science.psf.stack_noise import LIFT_ERROR
from pipelines.shared.strehl_step import stack_noise_of

MEASURED = {"sky_adu2": 1.0, "grain_adu": 0.1, "lift_adu": 0.0, "sampling": 0.01, "offset_px": [0.1, 0.2]}


class Results:
    """A workspace that has results of `reduce` only."""

    def __init__(self, **told: Any) -> None:
        self.told = told

    def results(self, step: str) -> dict[str, Any]:
        assert step == "reduce"
        return {"stack_noise": MEASURED | self.told}


def test_what_an_earlier_version_told_of_coverage_is_not_taken_for_known() -> None:
    """Its peaks were measured otherwise, and of the FWHM it told nothing: errors must be those of unknown places."""
    now = stack_noise_of(cast(Workspace, Results(coverage=-0.05, widening=0.04, n_places=12)))
    assert now is not None
    assert (now.coverage, now.widening, now.n_places) == (-0.05, 0.04, 12)
    before = stack_noise_of(cast(Workspace, Results(coverage=-0.05, n_frames=12)))
    assert before is not None
    assert (before.coverage, before.widening) == (None, 0.0)
    assert before.offset == pytest.approx((0.1, 0.2))


def test_what_an_earlier_version_did_not_tell_of_the_choices_of_noise() -> None:
    told = {"chosen_adu": 0.2, "light_chosen": 0.01, "lift_error": 0.4}
    now = stack_noise_of(cast(Workspace, Results(**told)))
    assert now is not None
    assert (now.chosen, now.light_chosen, now.lift_error) == (0.2, 0.01, 0.4)
    before = stack_noise_of(cast(Workspace, Results()))
    assert before is not None
    assert (before.chosen, before.light_chosen, before.lift_error) == (0.0, 0.0, LIFT_ERROR)

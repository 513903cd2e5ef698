"""What people typed into a document in the place of a block of fields stands in nobody's way."""

from datetime import timedelta
from typing import Any

import pytest

from obsarchive.core.documents import Night, Observation, utc_now
from obsarchive.core.step_state import State
from obsarchive.store import StepUpdate, Store

NAME, NIGHT = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912", "20160925"
PATH = ("bright_star", "strehl")
WRONG = ("yes", True, 7, float("nan"), None, [], ["a"])


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize(
    "where", ["", ".bright_star", ".bright_star.status", ".bright_star.steps", ".bright_star.steps.strehl"]
)
def test_a_step_is_claimed_and_finished_whatever_was_typed_in_its_place(store: Store, where: str, value: Any, caplog):
    store.database["objects"].insert_one({"_id": NAME, "night": NIGHT, "comment": "kept"})
    store.observations.set_fields(NAME, {f"pipelined{where}": value})
    assert store.observations.claim(NAME, PATH, "t", "run")
    assert f"pipelined{where}" in caplog.text
    store.observations.finish(NAME, PATH, "t", StepUpdate(State.DONE))
    document = store.observations.find(NAME) or {}
    assert Observation(document).pipeline(PATH[0]).step(PATH[1]).state is State.DONE
    assert document["comment"] == "kept"


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_a_result_comes_to_its_place_although_somebody_typed_there_meanwhile(store: Store, value: Any):
    store.database["aux"].insert_one({"_id": NIGHT})
    assert store.nights.claim(NIGHT, ("calib", "darks"), "t", "run")
    store.nights.set_fields(NIGHT, {"calib.status": value})
    assert store.nights.finish(NIGHT, ("calib", "darks"), "t", StepUpdate(State.DONE))
    assert Night(store.nights.find(NIGHT) or {}).pipeline("calib").step("darks").state is State.DONE


def test_claims_of_a_dead_run_are_released_although_somebody_typed_there(store: Store):
    for name in (NAME, "another"):
        store.database["objects"].insert_one({"_id": name, "night": NIGHT})
        store.observations.claim(name, PATH, "t", "dead")
    store.observations.set_fields(NAME, {"pipelined.bright_star.status": "stop"})
    assert store.observations.release([PATH], not_run="mine") == 2


@pytest.mark.parametrize("checked", ["yesterday", 3, None, utc_now() + timedelta(days=4000)])
def test_a_night_is_checked_whatever_time_stands_there(store: Store, checked: Any):
    store.database["aux"].insert_one({"_id": NIGHT, "checked": checked})
    assert store.nights.least_checked(utc_now() - timedelta(days=30)) == NIGHT

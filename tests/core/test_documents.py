"""Documents, read with defaults for whatever people left out or wrote in the shell."""

from datetime import UTC, datetime
from pathlib import Path

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.core.documents import Night, Observation, PipelineRecord, StepRecord, utc_now
from obsarchive.core.masters import Master, choose
from obsarchive.core.step_state import State
from obsarchive.names import ObservationName

OBS = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=5) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
step_fields = st.sampled_from(
    ["state", "retries", "task", "message", "inputs", "products", "results", "not_before", "redo", "finished"]
)
masters = st.builds(
    Master,
    kind=st.sampled_from(["dark", "flat"]),
    key=st.text(max_size=5),
    shape=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    signature=st.text(max_size=16),
    origin=st.sampled_from(["own", "copied from 20160924"]),
    night=st.just("20160925"),
)


def test_now_is_what_the_database_gives_back():
    now = utc_now()
    stored = bson.decode(bson.encode({"now": now}), bson.CodecOptions(tz_aware=True))["now"]
    assert stored == now


def test_a_step_that_never_ran_waits():
    record = Observation({"_id": OBS}).pipeline("faint_star").step("reduce")
    assert record == StepRecord()
    assert (record.state, record.retries, record.products) == (State.WAITING, 0, ())


def test_half_a_block_from_the_shell_is_enough():
    observation = Observation({"_id": OBS, "pipelined": {"faint_star": {"status": {"force_redo": True}}}})
    record = observation.pipeline("faint_star")
    assert record.force_redo
    assert record.steps() == {}
    assert not observation.pipeline("bright_star").force_redo


def test_numbers_of_older_databases_stand_one_level_higher():
    record = PipelineRecord({"strehl": {"ratio_percent": 12.5}, "status": {"done": True}})
    assert record.step("strehl").results == {"ratio_percent": 12.5}


@given(st.dictionaries(step_fields, anything))
def test_any_step_document_can_be_read(document):
    """The shell writes numbers as doubles, and people write whatever they like."""
    record = StepRecord.from_document(document)
    assert isinstance(record.state, State)
    assert record.retries >= 0
    assert record.not_before is None or record.not_before <= datetime.max.replace(tzinfo=UTC)
    assert all(isinstance(product, dict) for product in record.products)


@pytest.mark.parametrize("junk", [None, 3, "text", [], [None], {"a": None}, float("nan"), True])
@pytest.mark.parametrize(
    "place", ["pipelined", "raw_data", "distributed", "shape", "filter", "night", "date_utc", "calib", "status"]
)
def test_junk_in_a_document_is_no_error(place, junk):
    observation = Observation({"_id": OBS, place: junk, "steps": {"s": junk}})
    assert observation.pipeline("faint_star").step("reduce").state is State.WAITING
    assert observation.date_utc == ObservationName.parse(OBS).date_utc
    assert observation.shape is None
    assert observation.raw_files == ()
    assert not observation.packed
    assert not observation.raw_missing
    night = Night({"_id": "20160925", place: junk})
    assert night.masters() == []
    assert night.needs() == frozenset()
    assert night.raw_files("dark") == ()


def test_an_observation_in_full():
    observation = Observation(
        {
            "_id": OBS,
            "mode": "6",
            "shape": [256, 256],
            "raw_data": {"location": ["host", "/raw/20160925"], "data": ["a.fits", "a_0.fits"], "signature": "ab"},
            "magnitude": 11.2,
            "comment": "11.2",
            "distributed": {"status": True},
        }
    )
    assert observation.night == "20160925"
    assert observation.date_utc == datetime(2016, 9, 25, 11, 4, 27, 40912, UTC)
    assert observation.raw_files == (Path("/raw/20160925/a.fits"), Path("/raw/20160925/a_0.fits"))
    assert (observation.shape, observation.mode, observation.packed) == ((256, 256), "6", True)
    assert observation.number("magnitude") == 11.2
    assert observation.number("comment") is None
    assert observation.number("distributed.status") is None


@given(masters)
def test_masters_round_trip(master):
    document = bson.decode(bson.encode(master.to_document()))
    assert Master.from_document(document, master.night) == master


def test_masters_of_a_night_and_where_they_come_from():
    own = Master("dark", "6", (10, 10), "s", "own", "20160925")
    borrowed = Master("flat", "Si", (10, 10), "t", "copied from 20160924", "20160925")
    steps = {
        "darks": {"state": "done", "results": {"masters": [own.to_document()]}},
        "flats": {"state": "done", "results": {"masters": [borrowed.to_document()]}},
    }
    night = Night({"_id": "20160925", "calib": {"steps": steps}})
    assert night.masters() == [own, borrowed]
    assert [master.source_night for master in night.masters()] == ["20160925", "20160924"]
    assert [master.label for master in night.masters()] == ["dark_6", "flat_Si"]
    assert choose(night.masters(), "flat", "Si") == borrowed
    assert choose(night.masters(), "dark", "Si") is None


def test_raw_files_of_a_night_by_kind():
    files = [{"name": "dark_6_x.fits", "kind": "dark", "mode": "6"}, {"name": "flat.fits", "kind": "flat"}]
    night = Night({"_id": "20160925", "raw_data": {"location": ["host", "/raw"], "files": files}})
    assert [file["path"] for file in night.raw_files("dark")] == [Path("/raw/dark_6_x.fits")]

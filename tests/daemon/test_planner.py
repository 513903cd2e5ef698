"""What is due: documents, chain and masters in, next step out."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.config.model import Config
from obsarchive.core.documents import Night, Observation
from obsarchive.core.masters import CalibrationNeed, Master
from obsarchive.core.rules import compile_rule
from obsarchive.core.step_state import State
from obsarchive.daemon import planner, step_inputs
from obsarchive.daemon.endings import PATIENCE
from obsarchive.daemon.night_context import Library, NightContext, masters_for, substitutes
from obsarchive.daemon.planner import RetryPolicy, next_step, open_steps, stale
from obsarchive.errors import ConfigError
from obsarchive.pipeline import Pipeline, Workspace
from obsarchive.pipeline import step as declare
from obsarchive.pipeline.chain import ChainEntry, decision_chain
from tests.sample_pipelines import Other, Toy, ToyCalibration

OBS = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
NIGHT = "20160925"
NOW = datetime(2016, 9, 26, tzinfo=UTC)
LIMITS = RetryPolicy(NOW, max_retries=3)
TOY = Toy()
CHAIN = [ChainEntry(TOY, compile_rule("True"), {}, {}), ChainEntry(Other(), compile_rule("magnitude < 12"), {}, {})]
CALIB = [ChainEntry(ToyCalibration(), compile_rule("True"), {}, {})]
FULL, QUARTER = (1024, 1024), (256, 256)


def step(state: str, **fields: Any) -> dict[str, Any]:
    return {"state": state, **fields}


def observation(toy: dict[str, Any] | None = None, other: dict[str, Any] | None = None, **fields: Any) -> Observation:
    pipelined = {"toy": {"steps": toy or {}}, "other": {"steps": other or {}}}
    raw = {"signature": "raw1"}
    document = {"_id": OBS, "mode": "6", "shape": [256, 256], "filter": "lp600", "magnitude": 11.0, "raw_data": raw}
    return Observation(document | fields | {"pipelined": pipelined})


def due(subject: Observation, policy: RetryPolicy = LIMITS) -> str | None:
    found = next_step(subject, CHAIN, policy)
    return None if found is None else f"{found[0].pipeline.name}.{found[1].name}"


# ------------------------------------------------------------------------------------- the next step


@pytest.mark.parametrize(
    ("toy", "other", "wanted"),
    [
        ({}, {}, "toy.write"),
        ({"write": step("done")}, {}, "toy.copy"),
        ({"write": step("enqueued")}, {}, None),
        ({"write": step("done"), "copy": step("enqueued")}, {}, None),
        ({"write": step("done"), "copy": step("done")}, {}, "toy.look"),
        ({"write": step("rejected")}, {}, "toy.look"),
        ({"write": step("done"), "copy": step("rejected")}, {}, "toy.look"),
        ({"write": step("done"), "copy": step("failed", retries=1)}, {}, "toy.copy"),
        ({"write": step("done"), "copy": step("failed", retries=3)}, {}, "toy.copy"),
        ({"write": step("done"), "copy": step("failed", retries=4)}, {}, "toy.look"),
        ({"write": step("done"), "copy": step("done"), "look": step("done")}, {}, "other.write"),
        ({"write": step("rejected"), "look": step("done")}, {"write": step("done")}, None),
        ({}, {"write": step("enqueued")}, None),
    ],
)
def test_one_step_at_a_time_in_the_order_of_the_chain(toy, other, wanted):
    assert due(observation(toy, other)) == wanted


def test_a_failed_step_waits_for_its_time_while_others_go_on():
    later = NOW + timedelta(seconds=30)
    subject = observation({"write": step("failed", retries=1, not_before=later)})
    assert due(subject) == "other.write"
    assert due(subject, replace(LIMITS, now=later)) == "toy.write"
    assert next(open_steps(subject, CHAIN, 3))[1].name == "write"  # still counts as open


def test_a_step_that_follows_waits_for_a_retry_of_what_it_follows():
    later = NOW + timedelta(seconds=30)
    toy = {"write": step("done"), "copy": step("failed", retries=1, not_before=later)}
    assert due(observation(toy, {"write": step("done")})) is None


@pytest.mark.parametrize("magnitude", [12.5, None, "bright"])
def test_only_where_the_rule_says_so(magnitude):
    toy = {name: step("done") for name in TOY.steps}
    assert due(observation(toy, magnitude=magnitude)) is None


states = st.sampled_from(list(State))
records = st.fixed_dictionaries(
    {},
    optional={name: st.fixed_dictionaries({"state": states, "retries": st.integers(0, 5)}) for name in TOY.steps},
)


@given(records, st.fixed_dictionaries({}, optional={"write": st.fixed_dictionaries({"state": states})}))
def test_what_is_due_may_always_be_claimed(toy, other):
    subject = observation(toy, other)
    found = next_step(subject, CHAIN, LIMITS)
    records = [r for link in CHAIN for r in subject.pipeline(link.pipeline.name).steps().values()]
    if found is None:
        return
    link, step_ = found
    record = subject.pipeline(link.pipeline.name)
    assert all(r.state is not State.ENQUEUED for r in records)
    state, retries = record.step(step_.name).state, record.step(step_.name).retries
    assert state is State.WAITING or (state is State.FAILED and retries <= LIMITS.max_retries)
    assert all(record.step(name).state is State.DONE for name in step_.after)


@given(records)
def test_following_the_plan_comes_to_an_end(toy):
    """Whatever a document holds, doing what is due until nothing is ends, with every possible step done."""
    for name in toy:
        if toy[name]["state"] == State.ENQUEUED:  # claims of dead runs are released first
            toy[name] = step("waiting")
    for _ in range(10):
        found = next_step(observation(toy, {"write": step("done")}), CHAIN, LIMITS)
        if found is None:
            break
        toy[found[1].name] = step("done")
    else:
        pytest.fail("the plan goes round in circles")
    assert toy["look"]["state"] != State.WAITING


# ------------------------------------------------------------------------------------- staleness

DARK = Master("dark", "64", QUARTER, "d1", "own", NIGHT)
FLAT = Master("flat", "lp600", FULL, "f1", "own", NIGHT)
WORLD = NightContext(masters=(DARK, FLAT))


def done_with(inputs_of: Observation, context: NightContext, **fields: Any) -> dict[str, Any]:
    return {
        name: step("done", inputs=step_inputs.inputs_of(inputs_of, declared, context), **fields)
        for name, declared in TOY.steps.items()
    }


def stale_steps(subject: Observation, context: NightContext) -> list[str]:
    return [declared.name for _, declared in stale(subject, CHAIN, context)]


def test_nothing_is_stale_when_nothing_changed():
    subject = observation(done_with(observation(), WORLD))
    assert stale_steps(subject, WORLD) == []


def test_new_raw_files_make_every_step_due():
    subject = observation(done_with(observation(), WORLD), raw_data={"signature": "raw2"})
    assert sorted(stale_steps(subject, WORLD)) == ["copy", "look", "write"]


@pytest.mark.parametrize(
    "masters",
    [
        (replace(DARK, signature="d2"), FLAT),
        (DARK, replace(FLAT, signature="f2")),
        (FLAT,),
        (DARK,),
        (),
        (replace(DARK, key="6"), FLAT),
    ],
)
def test_other_masters_make_due_what_used_them(masters):
    """``copy`` declares that it uses the science files alone."""
    subject = observation(done_with(observation(), WORLD))
    assert sorted(stale_steps(subject, NightContext(masters=masters))) == ["look", "write"]


def test_nothing_is_stale_that_its_rule_excludes():
    old = {"write": step("done", inputs={"science": "old"}, redo=True)}
    assert stale_steps(observation(other=old, magnitude=11.0), WORLD) == ["write"]
    assert stale_steps(observation(other=old, magnitude=13.0), WORLD) == []


def test_masters_that_do_not_fit_make_no_difference():
    more = (*WORLD.masters, replace(DARK, key="9"), replace(FLAT, key="Si", signature="new"))
    assert stale_steps(observation(done_with(observation(), WORLD)), NightContext(masters=more)) == []


@pytest.mark.parametrize("state", ["waiting", "enqueued"])
def test_only_what_ended_is_stale(state):
    subject = observation({"write": step(state, inputs={"science": "old"}, redo=True)})
    assert stale_steps(subject, WORLD) == []


@pytest.mark.parametrize("state", ["done", "failed", "rejected", "lacking"])
def test_a_person_s_wish_for_one_step(state):
    toy = done_with(observation(), WORLD)
    toy["copy"] |= {"redo": True, "state": state}
    assert stale_steps(observation(toy), WORLD) == ["copy"]


# ------------------------------------------------------------------------------------- masters


def master(kind: str, key: str, night: str = NIGHT, shape: tuple[int, int] = FULL, **fields: Any) -> Master:
    return Master(kind, key, shape, fields.get("signature", night), fields.get("origin", "own"), night)


@pytest.mark.parametrize(
    ("need", "masters", "labels"),
    [
        (CalibrationNeed("6", FULL, "Si"), [("dark", "6", FULL), ("flat", "Si", FULL)], ("dark_6", "flat_Si")),
        (CalibrationNeed("6", QUARTER, "Si"), [("dark", "64", QUARTER), ("dark", "6", FULL)], ("dark_64", None)),
        (CalibrationNeed("6", QUARTER, "Si"), [("dark", "6", QUARTER), ("flat", "Si", FULL)], ("dark_6", "flat_Si")),
        (CalibrationNeed("6", FULL, "Si"), [("flat", "Si", QUARTER)], (None, None)),  # a flat smaller than the frame
        (CalibrationNeed("6", None, "Si"), [("dark", "6", FULL), ("flat", "Si", FULL)], ("dark_6", "flat_Si")),
        (CalibrationNeed("6", FULL, "Sz"), [("dark", "7", FULL), ("flat", "Si", FULL)], (None, None)),
    ],
)
def test_masters_that_fit(need, masters, labels):
    found = masters_for(need, [master(kind, key, shape=shape) for kind, key, shape in masters])
    assert tuple(m and m.label for m in found) == labels


def test_the_nearest_night_lends_what_is_missing():
    elsewhere = tuple(master("flat", "Si", night) for night in ("20160920", "20160928", "20160924", "20160901"))
    context = NightContext(needs=frozenset({CalibrationNeed("6", FULL, "Si")}), elsewhere=elsewhere)
    assert [m.night for m in substitutes("flat", NIGHT, context)] == ["20160924"]
    assert substitutes("dark", NIGHT, context) == ()


def test_as_near_on_both_sides_the_earlier_night_lends():
    elsewhere = (master("flat", "Si", "20160926"), master("flat", "Si", "20160924"))
    context = NightContext(needs=frozenset({CalibrationNeed("6", FULL, "Si")}), elsewhere=elsewhere)
    assert [m.night for m in substitutes("flat", NIGHT, context)] == ["20160924"]


def test_a_night_with_masters_of_its_own_borrows_nothing():
    context = NightContext(
        needs=frozenset({CalibrationNeed("6", FULL, "Si")}),
        masters=(master("flat", "Si"),),
        elsewhere=(master("flat", "Si", "20160924"),),
    )
    assert substitutes("flat", NIGHT, context) == ()


def calibrated(masters: list[Master], context: NightContext) -> Night:
    inputs = {kind: {use: context.raw.get(use, "") for use in uses} for kind, uses in _RAW_USES.items()}
    steps = {
        f"{kind}s": step(
            "done", inputs=inputs[kind], results={"masters": [m.to_document() for m in masters if m.kind == kind]}
        )
        for kind in ("dark", "flat")
    }
    return Night({"_id": NIGHT, "calib": {"steps": steps}})


_RAW_USES = {"dark": ("dark",), "flat": ("flat", "dark")}
NEED = frozenset({CalibrationNeed("6", FULL, "Si")})


@pytest.mark.parametrize(
    ("made", "elsewhere", "wanted"),
    [
        ([("copied from 20160924", "20160924")], ["20160924"], []),
        ([("copied from 20160920", "20160920")], ["20160920", "20160924"], ["flats"]),  # a nearer night
        ([("copied from 20160924", "old")], ["20160924"], ["flats"]),  # made anew over there
        ([], ["20160924"], ["flats"]),  # the first one to borrow
        ([("copied from 20160924", "20160924")], [], ["flats"]),  # gone over there
        ([("own", NIGHT)], ["20160924"], []),
    ],
)
def test_borrowed_masters_are_due_again_when_there_are_better_ones(made, elsewhere, wanted):
    masters = [master("flat", "Si", signature=signature, origin=origin) for origin, signature in made]
    context = NightContext(
        raw={"dark": "a", "flat": "b"},
        masters=tuple(masters),
        elsewhere=tuple(master("flat", "Si", night) for night in elsewhere),
        needs=NEED,
    )
    found = [declared.name for _, declared in stale(calibrated(masters, context), CALIB, context)]
    assert found == wanted


def test_late_darks_make_darks_and_flats_due():
    context = NightContext(raw={"dark": "a", "flat": "b"})
    night = calibrated([], context)
    later = replace(context, raw={"dark": "a2", "flat": "b"})
    assert [declared.name for _, declared in stale(night, CALIB, later)] == ["darks", "flats"]


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [({}, []), ({"flat": "b"}, []), ({"dark": "a"}, []), ({"flat": "b2"}, ["flats"])],
)
def test_masters_stay_when_nothing_is_left_of_their_files_and_of_the_list(raw, wanted):
    night = calibrated([], NightContext(raw={"dark": "a", "flat": "b"}))
    assert [declared.name for _, declared in stale(night, CALIB, NightContext(raw=raw))] == wanted


# ------------------------------------------------------------------------------------- the chain


def config_of(*entries: dict[str, Any]) -> Config:
    paths = {"raw": ["/raw"], "archive": "/archive", "tmp": "/scratch", "logs": "/logs"}
    return Config.model_validate({"paths": paths, "pipelines": entries})


def test_the_chain_of_a_configuration():
    first = {"class": "tests.sample_pipelines.Toy", "when": "magnitude < 12", "settings": {"text": "x"}}
    chain = decision_chain(config_of(first, {"class": "tests.sample_pipelines.ToyCalibration"}))
    assert [link.pipeline.name for link in chain] == ["toy", "calib"]
    assert chain[0].pipeline.settings.text == "x"
    assert not chain[0].applies({"magnitude": 13})
    assert chain[1].applies({})


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{"class": "pathlib.Path"}], "pipelines.0.class: pathlib.Path is no subclass of Pipeline"),
        ([{"class": "obsarchive.pipeline.Pipeline"}], "no subclass of Pipeline with a name"),
        ([{"class": "tests.sample_pipelines.Toy"}] * 2, "pipelines.1: a pipeline called 'toy' stands before"),
        (
            [{"class": "tests.sample_pipelines.Toy", "settings": {"txet": "x"}}],
            "toy.settings.txet: unknown key; did you",
        ),
        ([{"class": "tests.sample_pipelines.Toy", "steps": {"copy": {"copies": "two"}}}], "toy.steps.copy.copies: "),
        ([{"class": "tests.sample_pipelines.Toy", "steps": {"cpy": {}}}], "toy.steps.cpy: no such step"),
    ],
)
def test_a_wrong_chain_is_explained(entries, words):
    with pytest.raises(ConfigError, match=words.replace(".", r"\.")):
        decision_chain(config_of(*entries))


# ------------------------------------------------------------------------------------- products of others, references


class Reader(Pipeline):
    """Works on what other pipelines made."""

    name = "reader"

    @declare(makes=["solved.txt"], reads=["other/other.txt", "toy/{id}.txt"], uses=[])
    def solve(self, work: Workspace) -> dict[str, Any]:
        return {}


class Subtracting(Pipeline):
    """Uses the PSF library."""

    name = "subtracting"

    @declare(makes=["residual.fits"], uses=["library"])
    def subtract(self, work: Workspace) -> dict[str, Any]:
        return {}


READER = ChainEntry(Reader(), compile_rule("True"), {}, {})
WRITTEN = {"finished": NOW, "products": [{"name": f"{OBS}.txt", "bytes": 1}]}
OTHER_WRITTEN = {"finished": NOW, "products": [{"name": "other.txt", "bytes": 1}]}


def reading(toy: dict[str, Any], other: dict[str, Any], **record: Any) -> Observation:
    document = dict(observation({"write": toy}, {"write": other}).document)
    document["pipelined"] |= {"reader": {"steps": {"solve": record} if record else {}}}
    return Observation(document)


@pytest.mark.parametrize(
    ("toy", "other", "is_ready"),
    [
        (step("waiting"), step("rejected"), False),
        (step("done", **WRITTEN), step("waiting"), False),
        (step("done", **WRITTEN), step("enqueued"), False),
        (step("done", **WRITTEN), step("failed", retries=2), False),
        (step("done", **WRITTEN), step("failed", retries=4), True),
        (step("done", **WRITTEN), step("rejected"), True),
        (step("rejected"), step("rejected"), True),
    ],
)
def test_a_step_that_reads_products_waits_for_their_makers(toy, other, is_ready):
    names = [name for _, declared in open_steps(reading(toy, other), [*CHAIN, READER], 3) for name in [declared.name]]
    assert ("solve" in names) == is_ready


def test_makers_that_do_not_apply_are_not_waited_for():
    subject = reading(step("done", **WRITTEN), step("waiting"))
    faint = Observation({**subject.document, "magnitude": 15.0})
    assert [declared.name for _, declared in open_steps(faint, [*CHAIN, READER], 3)][-1] == "solve"


def test_the_best_product_is_the_source_and_a_newer_one_makes_the_step_due():
    solve = Reader.steps["solve"]
    worst = reading(step("done", **WRITTEN), step("rejected"))
    inputs = step_inputs.inputs_of(worst, solve, NightContext())
    assert inputs["source"].startswith("toy/{id}.txt")
    best = reading(step("done", **WRITTEN), step("done", **OTHER_WRITTEN))
    assert step_inputs.inputs_of(best, solve, NightContext())["source"].startswith("other/other.txt")
    assert step_inputs.inputs_of(reading(step("rejected"), step("rejected")), solve, NightContext()) == {"source": ""}

    def is_stale(toy: dict[str, Any], other: dict[str, Any]) -> bool:
        return any(stale(reading(toy, other, **step("done", inputs=inputs)), [READER], NightContext()))

    assert not is_stale(step("done", **WRITTEN), step("rejected"))
    assert is_stale(step("done", **WRITTEN), step("done", **OTHER_WRITTEN))
    assert is_stale(step("done", **WRITTEN | {"finished": NOW + timedelta(hours=1)}), step("rejected"))


@pytest.mark.parametrize(("content", "due"), [("0123456789abcdef", False), ("fedcba9876543210", True)])
def test_a_source_that_was_made_again_counts_by_its_content(content, due):
    def written(content: str, hours: int) -> dict[str, Any]:
        entry = {"name": f"{OBS}.txt", "bytes": 1, "content": content}
        return step("done", finished=NOW + timedelta(hours=hours), products=[entry])

    before = reading(written("0123456789abcdef", 0), step("rejected"))
    inputs = step_inputs.inputs_of(before, Reader.steps["solve"], NightContext())
    now = reading(written(content, 1), step("rejected"), **step("done", inputs=inputs))
    assert any(stale(now, [READER], NightContext())) == due


@pytest.mark.parametrize(("cards_of", "due"), [(["reader"], False), ([], True)])
def test_a_step_that_set_cards_in_a_product_is_due_when_the_product_was_written_without_them(cards_of, due):
    entry = {"name": f"{OBS}.txt", "bytes": 1, "content": "0123456789abcdef", "cards_of": cards_of}
    made = reading(step("done", products=[entry]), step("rejected"))
    inputs = step_inputs.inputs_of(made, Reader.steps["solve"], NightContext())
    amended = [{**entry, "pipeline": "toy", "step": "write", "cards_of": ["reader"]}]
    now = reading(step("done", products=[entry]), step("rejected"), **step("done", inputs=inputs, amended=amended))
    assert any(stale(now, [READER], NightContext())) == due


@pytest.mark.parametrize(
    ("maker", "is_due"), [("waiting", False), ("enqueued", False), ("failed", True), ("rejected", True)]
)
def test_a_source_is_not_compared_while_it_is_made_again(maker, is_due):
    inputs = step_inputs.inputs_of(
        reading(step("done", **WRITTEN), step("rejected")), Reader.steps["solve"], NightContext()
    )
    now = reading(step(maker, **WRITTEN), step("rejected"), **step("done", inputs=inputs))
    assert ("solve" in [found.name for _, found in stale(now, [*CHAIN, READER], NightContext())]) == is_due


@pytest.mark.parametrize(
    ("before", "results", "is_stale"),
    [
        ("own1 all1", {"lacks_references": "any"}, False),
        ("own1 all0", {"lacks_references": "any"}, True),
        ("own1 all0", {"lacks_references": "own night"}, False),
        ("none all0", {"lacks_references": "own night"}, True),
        ("none none", {"lacks_references": ""}, False),
        ("none none", {}, False),
        ("none none", {"references": ["star"]}, False),
        ("none none", {"references": ["star", "removed"]}, True),
        ("own1 all1", {"references": ["star", "removed"]}, False),
    ],
)
@pytest.mark.parametrize("state", ["done", "lacking"])
def test_a_changed_library_matters_to_those_who_lacked_references(before, results, is_stale, state):
    groups = {("KPNO", "lp600"): "all1", ("KPNO", "lp600", NIGHT): "own1"}
    context = NightContext(library=Library(groups, frozenset({"star"})))
    record = step(state, inputs={"library": before}, results=results)
    document = {"_id": OBS, "night": NIGHT, "telescope": "KPNO", "filter": "lp600"}
    subject = Observation(document | {"pipelined": {"subtracting": {"steps": {"subtract": record}}}})
    chain = [ChainEntry(Subtracting(), compile_rule("True"), {}, {})]
    assert any(stale(subject, chain, context)) == is_stale


# ------------------------------------------------------------------------------------- references of a night


@dataclass(frozen=True)
class EnoughSettings:
    enough_references: int = 3


class Imaging(Pipeline):
    """Reduces, and subtracts with references: three are enough from other nights."""

    name = "imaging"

    @declare(makes=["image.fits"])
    def reduce(self, work: Workspace) -> dict[str, Any]:
        return {}

    @declare(makes=["residual.fits"], after=["reduce"], uses=["library"], settings=EnoughSettings)
    def subtract(self, work: Workspace) -> dict[str, Any]:
        return {}

    @declare(makes=["picture.png"], follows=["subtract"])
    def show(self, work: Workspace) -> dict[str, Any]:
        return {}


class Photometer(Pipeline):
    """Works on what is left."""

    name = "photometer"

    @declare(makes=["table.txt"], reads=["imaging/residual.fits"], uses=[])
    def measure(self, work: Workspace) -> dict[str, Any]:
        return {}


IMAGING = [ChainEntry(kind(), compile_rule("True"), {}, {}) for kind in (Imaging, Photometer)]
LATE = planner.library_steps(IMAGING)
KEY = ("KPNO", "lp600")


def imaged(steps: dict[str, Any], **fields: Any) -> Observation:
    pipelined = {"imaging": {"steps": steps}, "photometer": {"steps": {}}}
    return Observation({"_id": OBS, "telescope": "KPNO", "filter": "lp600"} | fields | {"pipelined": pipelined})


def test_what_depends_on_the_library_is_found_across_pipelines():
    expected = {("imaging", "subtract"), ("imaging", "show"), ("photometer", "measure")}
    assert planner.library_steps(IMAGING) == expected
    assert planner.library_steps(list(reversed(IMAGING))) == expected


@pytest.mark.parametrize(
    ("awaits", "references", "wanted"),
    [(False, 0, "subtract"), (True, 0, None), (True, 2, None), (True, 3, "subtract")],
)
def test_a_subtraction_waits_for_its_night_unless_there_are_references_enough(awaits, references, wanted):
    library = Library({KEY: "all"}, counts={KEY: references})
    context = NightContext(library=library, awaits_references=awaits)
    subject = imaged({"reduce": step("done")})
    found = next_step(subject, IMAGING, LIMITS, context)
    assert (found and found[1].name) == wanted
    assert [declared.name for _, declared in open_steps(subject, IMAGING, 3)] == ["subtract"]  # it is not settled


def test_a_star_is_no_reference_of_its_own():
    own = (*KEY, "without 351_Yrsa")
    library = Library({KEY: "all", own: "others"}, counts={KEY: 3, own: 2})
    assert library.signature(imaged({})) == "none others"
    assert library.count(imaged({})) == 2


@pytest.mark.parametrize(
    ("steps", "fields", "wanted"),
    [
        ({}, {}, True),
        ({"reduce": step("enqueued")}, {}, True),
        ({"reduce": step("failed", retries=1)}, {}, False),  # a bad star does not hold up the night
        ({"reduce": step("enqueued", retries=1)}, {}, False),
        ({"reduce": step("waiting", waits=1)}, {}, True),  # its worker was lost
        ({"reduce": step("waiting", waits=PATIENCE + 1)}, {}, False),
        ({"reduce": step("rejected")}, {}, False),
        ({"reduce": step("done", redo=True)}, {}, True),
    ],
)
def test_references_are_chosen_when_everything_before_was_tried(steps, fields, wanted):
    subject = imaged(steps, **fields)
    for record in steps.values():
        record.setdefault("inputs", step_inputs.inputs_of(subject, Imaging.steps["reduce"], NightContext()))
    assert planner.has_first_attempt(subject, IMAGING, NightContext(), 3, LATE) == wanted


def test_subtractions_do_not_hold_up_the_choice_of_references():
    done = step("done", inputs=step_inputs.inputs_of(imaged({}), Imaging.steps["reduce"], NightContext()))
    assert not planner.has_first_attempt(imaged({"reduce": done}), IMAGING, NightContext(), 3, LATE)
    asked = Observation(imaged({"reduce": done}).document)
    asked.document["pipelined"]["imaging"]["status"] = {"force_redo": True}
    assert planner.has_first_attempt(asked, IMAGING, NightContext(), 3, LATE)


def test_a_summary_is_due_when_other_things_were_found():
    class Summary(Pipeline):
        name = "summary"
        scope = "night"
        follows_science = True

        @declare(makes=["plot.png"], uses=["observations"])
        def plot(self, work: Workspace) -> dict[str, Any]:
            return {}

    chain = [ChainEntry(Summary(), compile_rule("True"), {}, {})]
    night = Night({"_id": NIGHT, "summary": {"steps": {"plot": step("done", inputs={"observations": "found1"})}}})
    assert not any(stale(night, chain, NightContext(science="found1")))
    assert any(stale(night, chain, NightContext(science="found2")))

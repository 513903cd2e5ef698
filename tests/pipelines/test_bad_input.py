"""Whatever lies in a raw file, a step ends as a state with a reason: done, or rejected; never a crash."""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from obsarchive.config.model import Telescope
from obsarchive.execution.step_process import TaskResult, execute
from obsarchive.pipeline import Pipeline, Task
from obsarchive.simulation.night import write_raw
from obsarchive.simulation.scenes import Detector, Instrument, Scene, SimulatedObservation, Star
from pipelines.bright_star import BrightStar
from pipelines.ccd import CcdStack
from pipelines.extended_object import ExtendedObject
from pipelines.faint_star import FaintStar
from pipelines.seeing import Seeing
from pipelines.summary import ContrastSummary, StrehlSummary
from tests.pipelines.bench_of_steps import NIGHT, TELESCOPE, Bench

PIPELINES: list[type[Pipeline]] = [BrightStar, FaintStar, ExtendedObject, CcdStack]
SHAPE = (48, 48)
KINDS = ("nan", "some nan", "infinite", "zero", "constant", "saturated", "noise", "hot pixel", "gradient", "negative")


def frame_of(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A frame that no telescope should write."""
    noise = rng.normal(100, 3, shape).astype(np.float32)
    y, x = np.indices(shape)
    match kind:
        case "nan":
            return np.full(shape, np.nan, np.float32)
        case "some nan":
            return np.where(rng.random(shape) < 0.3, np.nan, noise).astype(np.float32)
        case "infinite":
            return np.where(rng.random(shape) < 0.1, np.inf, noise).astype(np.float32)
        case "zero":
            return np.zeros(shape, np.uint16)
        case "constant":
            return np.full(shape, 1234, np.uint16)
        case "saturated":
            return np.full(shape, 65535, np.uint16)
        case "hot pixel":
            return np.where((y == shape[0] // 3) & (x == shape[1] // 2), 60000, noise).astype(np.float32)
        case "gradient":
            return (noise + 10 * y - 3 * x).astype(np.float32)
        case "negative":
            return -noise
    return noise


def star_frames(n: int, seed: int, shape: tuple[int, int] = SHAPE) -> Iterator[np.ndarray]:
    """A star as it should be."""
    instrument = Instrument(detector=Detector(shape=shape))
    return SimulatedObservation(Scene((Star(),), zero_flux_e=4e4), n, instrument, seed=seed).frames()


def check(outcomes: dict[str, TaskResult]) -> None:
    """Every step ended as it should, and one that was rejected says why."""
    assert outcomes
    for name, outcome in outcomes.items():
        assert outcome.event in ("succeed", "reject", "lack"), f"{name}: {outcome.message}\n{outcome.record.get('log')}"
        assert outcome.event == "succeed" or len(outcome.message) > 15, f"{name}: {outcome.message!r}"


@pytest.mark.parametrize("pipeline", PIPELINES)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=7),
    shape=st.sampled_from([SHAPE, (48, 31), (9, 9), (1, 40), (2, 2)]),
    seed=st.integers(0, 99),
    is_mixed=st.booleans(),
)
@example(kinds=["negative", "infinite", "negative"], shape=SHAPE, seed=0, is_mixed=True)
@settings(max_examples=15)
def test_frames_that_no_telescope_should_write(
    tmp_path_factory: pytest.TempPathFactory,
    pipeline: type[Pipeline],
    kinds: list[str],
    shape: tuple[int, int],
    seed: int,
    is_mixed: bool,
) -> None:
    rng = np.random.default_rng(seed)
    bench = Bench(tmp_path_factory.mktemp("bad"))
    frames = [frame_of(kind, shape, rng).astype(np.float32) for kind in kinds]
    if is_mixed and shape == SHAPE:
        frames += [frame.astype(np.float32) for frame in star_frames(5, seed)]
    bench.expose(frames, len(frames))
    check(bench.run(pipeline))


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("n_frames", [3, 20])
@pytest.mark.parametrize(
    ("kind", "words", "verdict"),
    [
        ("saturated", "saturated: 100 % of the pixels at the limit of 65535 ADU", "failed"),
        ("nan", "without values: no pixel is finite", "zero_flux"),
    ],
)
def test_frames_that_cannot_show_anything_are_called_what_they_are(
    tmp_path: Path, pipeline: type[Pipeline], n_frames: int, kind: str, words: str, verdict: str
) -> None:
    bench = Bench(tmp_path)
    bench.expose([frame_of(kind, SHAPE, np.random.default_rng(0))] * n_frames, n_frames)
    outcome = next(iter(bench.run(pipeline).values()))
    assert (outcome.event, outcome.record["classified_as"]) == ("reject", verdict)
    assert outcome.message == f"{n_frames} of {n_frames} frames {words}"


def test_a_saturated_planet_is_rejected_also_where_the_flat_gives_it_an_edge(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    bench = Bench(tmp_path)
    bench.calibrate(dark=rng.normal(1000, 1, SHAPE), flat=rng.normal(1, 0.01, SHAPE))
    bench.expose([np.full(SHAPE, 65535, np.uint16)] * 4, 4)
    outcome = bench.run(ExtendedObject, only=["reduce"])["reduce"]
    assert (outcome.event, outcome.record["classified_as"]) == ("reject", "failed")
    assert "4 saturated (100 % of the " in outcome.message


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_single_frames_that_cannot_show_anything_have_their_reasons(tmp_path: Path, pipeline: type[Pipeline]) -> None:
    frames = [frame.astype(np.uint16) for frame in star_frames(30, 2)]
    frames[3][:], frames[20][:] = 65535, 0
    bench = Bench(tmp_path)
    bench.expose(frames, len(frames))
    results = next(iter(bench.run(pipeline).values())).record["results"]
    kinds = {item["frame"]: item["reason"].partition(":")[0] for item in results["left_out"]}
    assert (kinds[3], kinds[20]) == ("saturated", "black")


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("n_frames", [1, 2, 3])
def test_very_few_frames(tmp_path: Path, pipeline: type[Pipeline], n_frames: int) -> None:
    bench = Bench(tmp_path)
    bench.expose(star_frames(n_frames, 1), n_frames)
    check(bench.run(pipeline))


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize(
    "lacking",
    [
        {"coordinates": {}},
        {"coordinates": None, "name": None, "telescope": None, "mode": None},
        {"filter": "unheard-of"},
        {"filter": ""},
    ],
)
def test_what_headers_lack(tmp_path: Path, pipeline: type[Pipeline], lacking: dict[str, Any]) -> None:
    bench = Bench(tmp_path, document=lacking)
    bench.expose(star_frames(8, 1), 8)
    check(bench.run(pipeline))


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_missing_calibration_is_named(tmp_path: Path, pipeline: type[Pipeline]) -> None:
    bench = Bench(tmp_path, required=True)
    bench.expose(star_frames(8, 1), 8)
    outcomes = bench.run(pipeline)
    check(outcomes)
    first = next(iter(outcomes.values()))
    assert first.event == "lack"
    assert "no master dark of mode 6 and no master flat in filter Si" in first.message


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_camera_that_no_telescope_has(tmp_path: Path, pipeline: type[Pipeline]) -> None:
    bench = Bench(tmp_path, telescope=None)
    bench.expose(star_frames(8, 1), 8)
    outcomes = bench.run(pipeline)
    check(outcomes)
    assert "no telescope for camera 'VIC'" in next(iter(outcomes.values())).message


@pytest.mark.parametrize("fault", ["cut", "no header", "frames announced", "another shape"])
def test_a_packed_file_is_named_by_its_own_name(tmp_path: Path, fault: str) -> None:
    """Not by that of the plain file it was unpacked to."""
    bench = Bench(tmp_path)
    bench.expose(star_frames(8, 1), 9 if fault == "frames announced" else 8)
    plain = bench.files[0].read_bytes()
    content = {"cut": plain[: len(plain) // 2], "no header": b"x" * 5000}.get(fault, plain)
    packed = bench.files[0].with_suffix(".fits.gz")
    packed.write_bytes(gzip.compress(content))
    bench.files = (packed,)
    if fault == "another shape":
        bench.expose(star_frames(8, 1, (64, 64)), 8)
        bench.files = (bench.files[0].rename(tmp_path / "first.fits"), packed)
    outcome = bench.run(BrightStar, only=["reduce"])["reduce"]
    assert outcome.event == "reject"
    assert outcome.message.startswith(packed.name), outcome.message


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_raw_file_that_vanished_or_is_cut(tmp_path: Path, pipeline: type[Pipeline]) -> None:
    bench = Bench(tmp_path)
    bench.expose(star_frames(8, 1), 8)
    raw = bench.files[0].read_bytes()
    bench.files[0].write_bytes(raw[: len(raw) // 2])
    outcomes = bench.run(pipeline)
    check(outcomes)
    assert bench.files[0].name in next(iter(outcomes.values())).message


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_an_unknown_orientation_claims_no_north(tmp_path: Path, pipeline: type[Pipeline]) -> None:
    bench = Bench(tmp_path, telescope=Telescope.model_validate({**TELESCOPE.model_dump(), "north_angle_deg": None}))
    bench.expose(star_frames(8, 1), 8)
    check(bench.run(pipeline))


def of_a_night(
    folder: Path,
    pipeline: type[Pipeline],
    files: list[str],
    observations: tuple = (),
    before: Any = None,
    present: tuple[Path, ...] = (),
) -> dict[str, TaskResult]:
    """Run the step of a night pipeline, after one that ended with a record."""
    (step,) = pipeline.steps.values()
    raw = [
        {
            "name": name,
            "kind": "seeing",
            "camera": "VIC",
            "filter": "Si",
            "date_utc": datetime(2026, 3, 14, i, tzinfo=UTC),
        }
        for i, name in enumerate(files)
    ]
    document = {"_id": NIGHT, "raw_data": {"location": ["", str(folder)], "files": raw}}
    document[pipeline.name] = {"steps": {step.name: before or {}}}
    task = Task(
        "t",
        pipeline,
        step.name,
        document,
        folder / "archive",
        folder / "tmp",
        telescopes={"KPNO_2.1m": TELESCOPE.model_copy(update={"cameras": ("VIC",)})},
        files={"seeing": present},
        observations=observations,
    )
    (folder / "tmp").mkdir(exist_ok=True)
    return {step.name: execute(task)}


@given(
    kinds=st.lists(st.sampled_from([*KINDS, "star"]), min_size=1, max_size=5),
    shape=st.sampled_from([SHAPE, (48, 31), (9, 9), (1, 40), (2, 2)]),
    exposure=st.one_of(st.none(), st.floats(-10, 1e6), st.text("abc", max_size=4)),
    seed=st.integers(0, 99),
)
@settings(max_examples=15)
def test_seeing_files_that_no_telescope_should_write(
    tmp_path_factory: pytest.TempPathFactory,
    kinds: list[str],
    shape: tuple[int, int],
    exposure: float | str | None,
    seed: int,
) -> None:
    """Each file is measured, or its reason stands in the table; the step is rejected if there is none left."""
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("seeing")
    cards = {} if exposure is None else {"EXPOSURE": exposure}
    for i, kind in enumerate(kinds):
        frames = list(star_frames(2, seed)) if kind == "star" else [frame_of(kind, shape, rng)] * 2
        write_raw(folder / f"{i}.fits", iter(frames), 2, cards)
    (folder / "cut.fits").write_bytes((folder / "0.fits").read_bytes()[:2900])
    outcomes = of_a_night(folder, Seeing, [*(f"{i}.fits" for i in range(len(kinds))), "cut.fits"])
    check(outcomes)
    (outcome,) = outcomes.values()
    if outcome.event == "succeed":
        frames_measured = outcome.record["results"]["frames"]
        assert all(bool(frame["reason"]) != (frame["fwhm_arcsec"] is not None) for frame in frames_measured)
        assert frames_measured[-1]["reason"]


def test_seeing_files_that_cannot_show_anything_are_called_what_they_are(tmp_path: Path) -> None:
    for kind in ("saturated", "nan"):
        write_raw(tmp_path / f"{kind}.fits", iter([frame_of(kind, SHAPE, np.random.default_rng(0))] * 2), 2, {})
    write_raw(tmp_path / "star.fits", star_frames(2, 1), 2, {})
    (outcome,) = of_a_night(tmp_path, Seeing, ["saturated.fits", "nan.fits", "star.fits"]).values()
    assert [file["reason"] for file in outcome.record["results"]["frames"]] == [
        "2 of 2 frames saturated: 100 % of the pixels at the limit of 65535 ADU",
        "2 of 2 frames without values: no pixel is finite",
        "",
    ]


def test_seeing_of_files_that_have_gone_is_kept(tmp_path: Path) -> None:
    for number in range(3):
        write_raw(tmp_path / f"{number}.fits", star_frames(2, number), 2, {"EXPOSURE": 1.0})
    names = [f"{number}.fits" for number in range(3)]
    (first,) = of_a_night(tmp_path, Seeing, names).values()
    (tmp_path / "1.fits").unlink()
    (again,) = of_a_night(tmp_path, Seeing, names, before=first.record).values()
    assert again.event == "succeed"
    assert again.record["results"] == first.record["results"]
    made, kept = ({product["name"] for product in each.record["products"]} for each in (first, again))
    assert made == kept
    (never,) = of_a_night(tmp_path, Seeing, names).values()
    reasons = [frame["reason"] for frame in never.record["results"]["frames"]]
    assert reasons == ["", "the file has gone and was not measured before", ""]
    present = tuple(tmp_path / name for name in names)
    (since,) = of_a_night(tmp_path, Seeing, names, present=present).values()
    assert (since.event, "1.fits has gone since" in since.message) == ("release", True)


def test_a_night_without_seeing_files_waits_for_them(tmp_path: Path) -> None:
    (outcome,) = of_a_night(tmp_path, Seeing, []).values()
    assert (outcome.event, outcome.record["lacks"]) == ("lack", "seeing files")


@pytest.mark.parametrize("pipeline", [StrehlSummary, ContrastSummary])
@pytest.mark.parametrize("observations", [(), ({"_id": "3_HIP_1_VIC_Si_o_20260314_110427.040912", "night": NIGHT},)])
def test_a_night_with_nothing_to_summarise(tmp_path: Path, pipeline: type[Pipeline], observations: tuple) -> None:
    outcomes = of_a_night(tmp_path, pipeline, [], observations)
    check(outcomes)
    assert [outcome.event for outcome in outcomes.values()] == ["reject"]

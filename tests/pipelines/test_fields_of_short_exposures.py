"""Fields of stars in short exposures, whose sharpness changes between frames: none of them contradicts the stack."""

from pathlib import Path

import numpy as np
import pytest

from obsarchive.pipeline import Pipeline
from obsarchive.simulation.scenes import Detector, Instrument, Scene, SimulatedObservation, Star
from pipelines.bright_star import BrightStar
from pipelines.faint_star import FaintStar
from tests.pipelines.bench_of_steps import Bench


def reduced(folder: Path, pipeline: type[Pipeline], seed: int, n_frames: int, flux: float, n_stars: int) -> Bench:
    rng = np.random.default_rng(seed)
    others = [Star(*rng.uniform(-3, 3, 2).tolist(), float(rng.uniform(0, 3))) for _ in range(n_stars - 1)]
    instrument = Instrument(detector=Detector(shape=(200, 200), seed=3))
    seen = SimulatedObservation(Scene((Star(), *others), zero_flux_e=flux), n_frames, instrument, seed=seed)
    bench = Bench(folder)
    bench.expose(seen.frames(), n_frames)
    bench.calibrate(dark=seen.truth.dark_adu, flat=seen.truth.flat)
    outcome = bench.run(pipeline, only=["reduce"])["reduce"]
    assert outcome.event == "succeed", outcome.message
    return bench


@pytest.mark.parametrize("seed", [2, 3, 4, 7])
def test_a_lucky_image_of_few_frames_is_wider_than_its_best_one(tmp_path: Path, seed: int) -> None:
    reduced(tmp_path, BrightStar, seed, 10, 1e4, 8)


@pytest.mark.parametrize("seed", [1, 4])
def test_the_sum_of_a_faint_field_is_wider_than_its_best_frame_and_every_shift_has_an_error(
    tmp_path: Path, seed: int
) -> None:
    bench = reduced(tmp_path, FaintStar, seed, 20, 2000.0, 12)
    rows = [line.split() for line in bench.product("faint_star/shifts.txt").read_text().splitlines()]
    errors = np.array([float(row[3]) for row in rows if row[0] != "#" and row[-1] == "-"])
    assert len(errors) >= 10
    assert (errors > 0).all()

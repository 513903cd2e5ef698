"""Hot pixels that the master dark does not know, through the pipelines: they stay, and the star moves."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from obsarchive.pipeline import Pipeline
from obsarchive.simulation.scenes import Detector, Instrument, Scene, SimulatedObservation, Star
from pipelines.bright_star import BrightStar
from pipelines.faint_star import FaintStar
from tests.pipelines.bench_of_steps import Bench

SIDE, N_FRAMES = 160, 60
Hot = dict[tuple[int, int], int]
"""Excess of pixels (y, x) [ADU]."""


def seen_star(flux: float) -> SimulatedObservation:
    instrument = Instrument(detector=Detector(shape=(SIDE, SIDE), seed=3))
    return SimulatedObservation(Scene((Star(),), zero_flux_e=flux), N_FRAMES, instrument, seed=5)


def reduced(
    folder: Path, pipeline: type[Pipeline], seen: SimulatedObservation, hot: dict[tuple[int, int], int]
) -> Bench:
    def frames() -> Iterator[np.ndarray]:
        for frame in seen.frames():
            hurt = frame.astype(np.int64)
            for place, excess_adu in hot.items():
                hurt[place] += excess_adu
            yield np.minimum(hurt, 65535).astype(np.uint16)

    bench = Bench(folder)
    bench.expose(frames(), N_FRAMES)
    bench.calibrate(dark=seen.truth.dark_adu, flat=seen.truth.flat)
    outcome = bench.run(pipeline, only=["reduce"])["reduce"]
    assert outcome.event == "succeed", outcome.message
    return bench


def shifts(bench: Bench) -> dict[int, np.ndarray]:
    rows = (line.split() for line in bench.product("faint_star/shifts.txt").read_text().splitlines())
    return {int(row[0]): np.array(row[1:3], float) for row in rows if row[0] != "#" and row[-1] == "-"}


@pytest.mark.parametrize("hot", [{(104, 89): 20000}, {(60, 60): 50000, (100, 100): 50000}])
def test_no_frame_of_a_bright_star_is_left_out(tmp_path: Path, hot: Hot) -> None:
    bench = reduced(tmp_path, BrightStar, seen_star(5000.0), hot)
    results = bench.document["pipelined"]["bright_star"]["steps"]["reduce"]["results"]
    assert (results["frames_used"], results["left_out_by_reason"]) == (N_FRAMES, [])
    assert f"{len(hot)} hot pixel" in results["calibration"]


def test_a_faint_star_is_registered_as_without_them(tmp_path: Path) -> None:
    seen = seen_star(3000.0)
    expected = shifts(reduced(tmp_path / "none", FaintStar, seen, {}))
    hot = {(84, 82): 12000, (104, 89): 30000, (50, 63): 30000}
    found = shifts(reduced(tmp_path / "hot", FaintStar, seen, hot))
    common = sorted(expected.keys() & found.keys())
    assert len(common) >= len(expected) - 2
    moved = np.array([found[i] - expected[i] for i in common])
    assert moved.std() < 0.05

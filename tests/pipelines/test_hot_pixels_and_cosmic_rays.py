"""Hot pixels that the master dark does not know, and cosmic rays, through the pipelines."""

from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
import pytest

from obsarchive.io import fits_products
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
    folder: Path, pipeline: type[Pipeline], seen: SimulatedObservation, hot: Hot, hit: Container[int] = range(N_FRAMES)
) -> Bench:
    """Reduce frames of which some have these bright pixels."""

    def frames() -> Iterator[np.ndarray]:
        for i, frame in enumerate(seen.frames()):
            hurt = frame.astype(np.int64)
            for place, excess_adu in hot.items() if i in hit else ():
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


@pytest.mark.parametrize("place", [(94, 88), (104, 92)])
def test_a_cosmic_ray_on_a_few_pixels_of_one_frame_leaves_nothing_in_the_stack(
    tmp_path: Path, place: tuple[int, int]
) -> None:
    seen = seen_star(2e4)
    y, x = place
    block = {(y + dy, x + dx): 20000 for dy in (0, 1) for dx in (0, 1)}
    clean = reduced(tmp_path / "clean", BrightStar, seen, {})
    hit = reduced(tmp_path / "hit", BrightStar, seen, block, hit=[7])
    for stack in ("20p", "100p"):
        images = [fits_products.read_fits(bench.product(f"bright_star/{stack}.fits"))[0] for bench in (clean, hit)]
        # 5 % of the peak of the star
        assert np.nanmax(np.abs(images[1] - images[0])) < 0.01 * np.nanmax(images[0])

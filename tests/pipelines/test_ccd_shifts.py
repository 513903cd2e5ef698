"""Shifts of ordinary CCD exposures: stars of Gaussian profile, 3.7 pixels wide, on a field that drifts."""

from pathlib import Path

import numpy as np

from obsarchive.config.model import Telescope
from obsarchive.execution.step_process import TaskResult
from pipelines.ccd import CcdStack
from tests.pipelines.bench_of_steps import Bench

SHAPE = (256, 256)
TELESCOPE = Telescope.model_validate(
    {
        "primary_m": 0.6,
        "secondary_m": 0.2,
        "plate_scale_arcsec": 0.6,
        "detector_px": list(SHAPE),
        "filters": {"Si": {"wavelength_nm": 600, "width_nm": 100}},
    }
)
Stars = list[tuple[float, float, float]]


def exposed(folder: Path, stars: Stars, positions: np.ndarray, seed: int, sky_e: float = 400.0) -> Bench:
    """Exposures of stars (y, x, electrons) that are moved by each of the positions; without a dark."""
    rng, bench = np.random.default_rng(seed), Bench(folder, telescope=TELESCOPE)
    y, x = np.indices(SHAPE)
    variance = (3.7 / 2.3548) ** 2

    def frame(dy: float, dx: float) -> np.ndarray:
        light = np.full(SHAPE, sky_e)
        for y0, x0, flux in stars:
            squares = (y - y0 - dy) ** 2 + (x - x0 - dx) ** 2
            light += flux * np.exp(-squares / 2 / variance) / (2 * np.pi * variance)
        return np.clip(np.rint((rng.poisson(light) + rng.normal(0, 6, SHAPE)) / 1.5 + 100), 0, 65535).astype(np.uint16)

    bench.expose((frame(*position) for position in positions), len(positions))
    return bench


def stacked(bench: Bench) -> TaskResult:
    return bench.run(CcdStack, only=["stack"])["stack"]


def pulls(bench: Bench, positions: np.ndarray) -> np.ndarray:
    """Errors of the shifts, relative to their mean, over those claimed; of all frames, none of which is rejected."""
    rows = [line.split() for line in bench.product("ccd/shifts.txt").read_text().splitlines()]
    rows = sorted((row for row in rows if row and row[0] != "#"), key=lambda row: int(row[0]))
    assert [row[-1] for row in rows] == ["-"] * len(positions)
    difference = np.array([[float(row[1]), float(row[2])] for row in rows]) + positions
    errors = np.array([float(row[3]) for row in rows])
    return np.asarray((difference - difference.mean(axis=0)) / errors[:, np.newaxis])


def test_a_neighbour_in_the_rim_of_the_window_does_not_pull_at_a_star_that_drifts(tmp_path: Path) -> None:
    """The window is 100 pixels wide; while it stayed where it was, errors were 2 to 8 times too small."""
    found = []
    for seed in range(2):
        rng = np.random.default_rng([77, seed])
        positions = np.linspace(0, 6, 20)[:, np.newaxis] * [1.0, -0.6] + 0.5 * rng.standard_normal((20, 2))
        stars = [(128.0, 128.0, 3e5), (138.0, 175.0, 1.5e5)]
        bench = exposed(tmp_path / str(seed), stars, positions, seed)
        assert stacked(bench).event == "succeed"
        found.append(pulls(bench, positions))
    assert np.std(found) < 1.4


def test_a_star_near_the_edge_that_drifts_is_where_it_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(78)
    positions = np.linspace(0, 6, 20)[:, np.newaxis] * [1.0, -0.6] + 0.5 * rng.standard_normal((20, 2))
    bench = exposed(tmp_path, [(120.0, 28.0, 3e5), (112.0, 58.0, 1e5), (176.0, 27.0, 1.8e5)], positions, 8)
    assert stacked(bench).event == "succeed"
    assert np.std(pulls(bench, positions)) < 1.4


def test_a_frame_that_slipped_is_told_though_windows_follow_the_star(tmp_path: Path) -> None:
    rng = np.random.default_rng(80)
    positions = np.linspace(0, 6, 24)[:, np.newaxis] * [1.0, -0.6] + 0.3 * rng.standard_normal((24, 2))
    positions[11] += (9, 7)
    bench = exposed(tmp_path, [(128.0, 128.0, 3e5)], positions, 9)
    assert stacked(bench).event == "succeed"
    rows = [line.split() for line in bench.product("ccd/shifts.txt").read_text().splitlines()]
    left_out = {row[0]: row[-1].partition(":")[0] for row in rows if row[0] != "#" and row[-1] != "-"}
    assert left_out == {"11": "slipped"}

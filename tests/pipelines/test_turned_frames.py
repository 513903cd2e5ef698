"""Exposures that are turned, mirrored, strangers or empty, through the CCD and faint-star pipelines."""

from pathlib import Path

import numpy as np
import pytest

from obsarchive.config.model import Telescope
from obsarchive.io import fits_products
from obsarchive.science.imaging.resampling import Turn
from pipelines.bright_star import BrightStar
from pipelines.ccd import CcdStack
from pipelines.faint_star import FaintStar
from tests.pipelines.bench_of_steps import Bench
from tests.science.fields import SKY, exposure, sky_of, turn_about_middle, with_cosmic_rays

SIDE = 300
CAMERA = Telescope.model_validate(
    {"primary_m": 0.4, "plate_scale_arcsec": 1.0, "detector_px": [SIDE, SIDE], "filters": {}}
)
HALF = turn_about_middle(SIDE, 180, shift=(2.0, -3.0))


def ccd(folder: Path, frames: list[np.ndarray]) -> tuple[str, str, dict, Bench]:
    """How the stack ended, why, and its results."""
    bench = Bench(folder, telescope=CAMERA)
    bench.expose(frames, len(frames))
    outcome = bench.run(CcdStack, only=["stack"])["stack"]
    return outcome.event, outcome.message or "", outcome.record.get("results", {}), bench


def check_truth(bench: Bench, stars: np.ndarray) -> None:
    """Bright isolated stars stand where the first frame has them, with their flux."""
    image, _ = fits_products.read_fits(bench.product("ccd/{id}_stack.fits"))
    y, x = np.mgrid[:SIDE, :SIDE]
    apart = np.hypot(*(stars[:, np.newaxis, :2] - stars[:, :2]).transpose(2, 0, 1)) + 1e3 * np.eye(len(stars))
    middle = np.hypot(*(stars[:, :2] - SIDE / 2).T) < 120
    chosen = stars[(apart.min(axis=0) > 22) & (stars[:, 2] > 2e4) & middle]
    assert len(chosen) >= 3
    for star_y, star_x, flux in chosen:
        near = np.hypot(y - star_y, x - star_x)
        light = np.where(near < 7, image - np.median(image[(near > 9) & (near < 13)]), 0)
        assert light.sum() == pytest.approx(flux, rel=0.01)
        assert abs((light * y).sum() / light.sum() - star_y) < 0.06
        assert abs((light * x).sum() / light.sum() - star_x) < 0.06


@pytest.mark.parametrize(
    "turns",
    [
        [None, Turn.shift(-2, 3), HALF, HALF.after(Turn.shift(1, 1))],
        [None, HALF, HALF, HALF],
        [None, turn_about_middle(SIDE, 90), turn_about_middle(SIDE, mirror=True), Turn.shift(-5.4, 3.3)],
        [None, *(turn_about_middle(SIDE, angle) for angle in (0.5, 7.0, -1.5))],
        [None, Turn.shift(0.6 * SIDE, 5.0), Turn.shift(-0.6 * SIDE, 0.0), Turn.shift(3.0, 2.0)],
    ],
    ids=["two flipped", "three flipped", "quarter and mirror", "rotated", "large dithers"],
)
def test_frames_are_put_onto_the_first(tmp_path: Path, turns: list) -> None:
    stars = sky_of(120, SIDE, beyond=SIDE // 2)
    frames = [with_cosmic_rays(exposure(stars, SIDE, turn, i), 10, i) for i, turn in enumerate(turns)]
    event, message, results, bench = ccd(tmp_path, frames)
    assert event == "succeed", message
    assert results["frames_used"] == 4
    assert [item["frame"] for item in results["turned"]] == [i for i, t in enumerate(turns) if t and not t.is_shift]
    assert results["check"]["n_new"] <= 1
    check_truth(bench, stars)


def test_a_stranger_is_rejected_with_its_reason(tmp_path: Path) -> None:
    stars = sky_of(40, SIDE)
    frames = [exposure(stars, SIDE, Turn.shift(2 * i, -3 * i), i) for i in range(3)]
    event, _, results, bench = ccd(tmp_path, [*frames, exposure(sky_of(40, SIDE, seed=8), SIDE, seed=8)])
    assert event == "succeed"
    assert results["left_out_by_reason"] == [{"reason": "contradicted", "frames": 1}]
    last = bench.product("ccd/shifts.txt").read_text().splitlines()[-1].split()
    assert last[0] == "3"
    assert last[-1].startswith("contradicted:_")
    assert last[-1].endswith("_stars_agree")


def test_hot_pixels_do_not_lock_the_registration(tmp_path: Path) -> None:
    stars, rng = sky_of(30, SIDE), np.random.default_rng(5)
    hot = tuple(rng.integers(0, SIDE, (2, 300)))
    frames = [exposure(stars, SIDE, Turn.shift(7 * i, -11 * i), i) for i in range(4)]
    for frame in frames:
        frame[hot] += 20000
    event, message, results, _ = ccd(tmp_path, frames)
    assert event == "succeed", message
    assert results["frames_used"] == 4
    assert results["shift_rms_px"] == pytest.approx(np.hypot(7, 11) * np.std(range(4)) / 2**0.5, rel=0.01)


@pytest.mark.parametrize("n_frames", [2, 3, 5])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_cosmic_rays_are_no_field(tmp_path: Path, n_frames: int, width: int) -> None:
    rng = np.random.default_rng(6)
    empty = [rng.normal(SKY, 15, (SIDE, SIDE)).astype(np.float32) for _ in range(n_frames)]
    event, message, _, _ = ccd(tmp_path, [with_cosmic_rays(frame, 25, i, width) for i, frame in enumerate(empty)])
    assert event == "reject"
    assert "no star" in message or "no guide star" in message


def test_two_stars_turned_are_not_believed(tmp_path: Path) -> None:
    stars = np.array([(100.0, 120.0, 60000.0), (200.0, 170.0, 15000.0)])
    frames = [exposure(stars, SIDE, turn, i) for i, turn in enumerate((None, Turn.shift(1, 2), HALF))]
    event, _, results, _ = ccd(tmp_path, frames)
    assert event == "succeed"
    assert [item["frame"] for item in results["left_out"]] == [2]


def test_a_single_star_is_registered(tmp_path: Path) -> None:
    stars = np.array([(150.0, 120.0, 60000.0)])
    frames = [exposure(stars, SIDE, Turn.shift(20.0 * i, -30.0 * i), i) for i in range(3)]
    event, message, results, _ = ccd(tmp_path, [with_cosmic_rays(frame, 15, i) for i, frame in enumerate(frames)])
    assert event == "succeed", message
    assert results["frames_used"] == 3
    assert results["left_out"] == []


TRACK, BLOB = [(138, 160), (139, 160), (140, 161)], [(138, 160), (138, 161), (139, 160), (139, 161)]


@pytest.mark.parametrize("hit", [TRACK, BLOB], ids=["track", "blob"])
@pytest.mark.parametrize("flux", [3e3, 1e5])
@pytest.mark.parametrize("both", [False, True], ids=["in one frame", "in both"])
def test_two_exposures_of_a_star_are_not_aligned_on_a_cosmic_ray(
    tmp_path: Path, hit: list, flux: float, both: bool
) -> None:
    stars = np.array([(150.0, 150.0, flux)])
    frames = [exposure(stars, SIDE, Turn.shift(2.0 * i, -3.0 * i), i) for i in range(2)]
    frames[0][tuple(np.transpose(hit))] += 30000
    if both:
        frames[1][tuple(np.transpose(hit) + np.array([[25], [-15]]))] += 30000
    event, message, results, bench = ccd(tmp_path, frames)
    assert event == "succeed", message
    assert results["frames_used"] == 2
    rows = [line.split() for line in bench.product("ccd/shifts.txt").read_text().splitlines() if line[0] != "#"]
    first, second = (np.array(row[1:3], float) for row in sorted(rows))
    assert np.abs(second - first - (2, -3)).max() < 0.3
    assert all(float(row[3]) < 0.3 for row in rows)


@pytest.mark.parametrize("n_frames", [24, 80])
def test_a_long_sequence_is_turned_too(tmp_path: Path, n_frames: int) -> None:
    side, stars = 200, sky_of(25, 200)
    seen = [exposure(stars, side, turn_about_middle(side, angle), i) for i, angle in enumerate((0, 0, 180, 180))]
    frames = [seen[2 * (i >= n_frames // 3) + i % 2] for i in range(n_frames)]
    bench = Bench(tmp_path, telescope=CAMERA)
    bench.expose(frames, n_frames)
    outcome = bench.run(FaintStar, only=["reduce"])["reduce"]
    assert outcome.event == "succeed", outcome.message
    results = outcome.record["results"]
    assert results["frames_used"] == n_frames
    assert len(results["turned"]) == n_frames - n_frames // 3
    assert results["check"]["n_new"] == results["check"]["n_lost"] == 0


def test_lucky_images_use_the_frames_whose_stars_agree(tmp_path: Path) -> None:
    stars = np.vstack([sky_of(30, SIDE), [(130.0, 140.0, 4e5)]])
    frames = [exposure(stars, SIDE, turn, i) for i, turn in enumerate((None, None, HALF, HALF))]
    bench = Bench(tmp_path, telescope=CAMERA)
    bench.expose(frames, len(frames))
    outcome = bench.run(BrightStar, only=["reduce"])["reduce"]
    assert outcome.event == "succeed", outcome.message
    results = outcome.record["results"]
    assert [item["frame"] for item in results["left_out"]] == [2, 3]
    assert results["left_out"][0]["reason"].startswith("contradicted: turned by")

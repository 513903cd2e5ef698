"""Double stars through the bright-star pipeline: every star of the stack is one of the frames."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from obsarchive.io import fits_products
from obsarchive.simulation.scenes import Detector, Instrument, Scene, SimulatedObservation, Star
from pipelines.bright_star import BrightStar
from tests.pipelines.bench_of_steps import Bench

SHAPE = (160, 160)


def frames(share: float, turned: set[int], n: int = 20) -> list[np.ndarray]:
    """Two stars 19 pixels apart, the second of some share of the light; some frames are turned by 180 degrees."""
    rng = np.random.default_rng(5)
    y, x = np.indices(SHAPE)
    made = []
    for i in range(n):
        sy, sx = 80 + rng.normal(0, 2, 2)
        image = rng.normal(100, 5, SHAPE)
        for dy, dx, light in ((0, 0, 1.0), (16, -10, share)):
            image += light * rng.uniform(0.97, 1.03) * 3000 * np.exp(-((y - sy - dy) ** 2 + (x - sx - dx) ** 2) / 5.8)
        made.append((image[::-1, ::-1] if i in turned else image).astype(np.float32))
    return made


def reduced(folder: Path, images: list[np.ndarray]) -> tuple[list[tuple[int, int]], dict]:
    """Offsets of the stars of the stack from the brightest one [raw pixel], and the results."""
    bench = Bench(folder)
    bench.expose(images, len(images))
    outcome = bench.run(BrightStar, only=["reduce"])["reduce"]
    assert outcome.event == "succeed", outcome.message
    image, _ = fits_products.read_fits(bench.product("bright_star/100p.fits"))
    smooth = ndimage.gaussian_filter(np.nan_to_num(image - np.nanmedian(image)), 2)
    peaks = np.argwhere((smooth == ndimage.maximum_filter(smooth, 15)) & (smooth > 0.05 * smooth.max()))
    peaks = peaks[np.argsort(-smooth[tuple(peaks.T)])]
    return [tuple(np.rint((peak - peaks[0]) / 2).astype(int)) for peak in peaks], outcome.record["results"]


def test_frames_of_two_equal_stars_follow_the_same_one(tmp_path):
    stars, results = reduced(tmp_path, frames(1.0, set()))
    assert results["frames_used"] >= 18
    assert len(stars) == 2
    assert np.abs(np.abs(stars[1]) - (16, 10)).max() <= 1
    assert results["shift_rms_px"] < 4


def test_turned_frames_of_a_double_star_are_rejected(tmp_path):
    stars, results = reduced(tmp_path, frames(0.3, {1, 4, 7, 10, 13}))
    assert len(stars) == 2
    assert results["frames_used"] == 15
    assert {entry["frame"] for entry in results["left_out"]} == {1, 4, 7, 10, 13}
    assert all(entry["reason"].startswith("contradicted") for entry in results["left_out"])


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_double_stars_that_stay_lose_no_frame(tmp_path, share):
    stars, results = reduced(tmp_path, frames(share, set()))
    assert len(stars) == 2
    assert results["frames_used"] == 20


@pytest.mark.parametrize(
    ("separation_arcsec", "mag"), [(0.35, 0.0), (0.5, 0.3), (0.7, 0.0), (0.7, 0.3), (0.7, 0.8), (1.5, 0.0)]
)
def test_every_frame_of_a_pair_behind_the_atmosphere_is_used_and_on_the_same_star(tmp_path, separation_arcsec, mag):
    """In some frames the position was that of one star, in some the centroid of both."""
    other = Star(0.83 * separation_arcsec, -0.55 * separation_arcsec, mag)
    instrument = Instrument(detector=Detector(shape=SHAPE, seed=3))
    seen = SimulatedObservation(Scene((Star(), other), zero_flux_e=3e4), 40, instrument, seed=8)
    bench = Bench(tmp_path)
    bench.expose(seen.frames(), seen.n_frames)
    bench.calibrate(dark=seen.truth.dark_adu, flat=seen.truth.flat)
    results = bench.run(BrightStar, only=["reduce"])["reduce"].record["results"]
    assert results["frames_used"] >= 39
    rows = [line.split() for line in bench.product("bright_star/frames.txt").read_text().splitlines()]
    used = [row for row in rows if row[0] != "#" and row[-1] == "-"]
    places = np.array([[float(row[5]), float(row[4])] for row in used])
    off = places - seen.truth.shifts_px[[int(row[0]) for row in used]]
    off -= np.median(off, axis=0)
    assert np.abs(off).max() < 2.5
    assert off.std() < 0.45

"""Masters of frames with an overscan: what is too bright, without light, or was treated otherwise is found."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from obsarchive.config.model import Telescope
from obsarchive.errors import Unprocessable
from obsarchive.execution.step_process import TaskResult, execute
from obsarchive.io.raw_frames import Frames, Sections
from obsarchive.pipeline import Task
from obsarchive.science.imaging.calibration import Calibration
from obsarchive.science.imaging.master_flats import master_flat, unexposed_flats
from pipelines.ccd import CcdStack
from pipelines.night import Calibration as NightCalibration
from pipelines.photometry import Photometry
from pipelines.shared.calibrator import OVERSCAN, Calibrator, require_same_overscan
from tests.pipelines.bench_of_steps import Bench

TRIM, BIAS = (0, 40, 0, 40), 3000
SECTIONS = Sections(TRIM, (0, 40, 40, 50))


def frames_of(tmp_path: Path, *levels: int) -> Frames:
    cube = np.full((len(levels), 40, 50), BIAS, np.uint16)
    for plane, level in zip(cube, levels, strict=True):
        plane[:, :40] = level
    fits.PrimaryHDU(cube).writeto(tmp_path / "cube.fits")
    return Frames([tmp_path / "cube.fits"], SECTIONS)


def test_saturation_is_known_where_an_overscan_is_subtracted(tmp_path: Path) -> None:
    flat = np.where(np.arange(40) < 20, 1.06, 0.94) * np.ones((40, 1))
    calibration = Calibration.from_masters(np.zeros((40, 40), np.float32), flat)
    with frames_of(tmp_path, 65535, 56000) as frames:
        assert frames.saturation == 65535 - BIAS
        assert frames.above_overscan(50000) == 50000 - BIAS
        level = Calibrator(calibration, (), ()).saturation(frames.saturation)
        assert (calibration.apply(frames.read(0)) >= level).all()
        assert not (calibration.apply(frames.read(1)) >= level).any()


def test_saturation_near_a_star_is_that_of_its_own_pixels() -> None:
    """A frame whose bright peak is not saturated is not lost to what the flat does far from it."""
    flat = np.where(np.arange(400) < 200, 1.25, 1.0) * np.ones((400, 1))
    dark = np.full((400, 400), 1000.0, np.float32)
    calibrator = Calibrator(Calibration.from_masters(dark, flat), (), ())
    for x, value in ((50, 1.25), (350, 1.0)):
        level = calibrator.saturation(65535.0, (200.0, float(x)))
        assert level == pytest.approx(0.97 * 64535 / value, rel=0.02)
    assert calibrator.saturation(65535.0) < calibrator.saturation(65535.0, (200.0, 350.0))


def test_a_level_that_is_not_known_saturates_nothing() -> None:
    assert Calibrator(Calibration(), (), ()).saturation(None) == np.inf


def test_flats_are_counted_that_were_used() -> None:
    noise = np.random.default_rng(1).normal(0, 4, (4, 40, 40))
    cube = np.array([20000.0, 0.5, 64000.0, 21000.0])[:, None, None] + noise
    master = master_flat(lambda y0, y1: cube[:, y0:y1], 4, (40, 40), saturation=58000.0)
    assert master.n_frames == 2
    assert master.used_fraction > 0.9
    assert np.abs(master.image - 1).max() < 0.01


def test_flats_that_are_of_no_use_have_a_reason() -> None:
    levels, noise = np.array([20000.0, 0.5, 64000.0, np.nan]), np.array([150.0, 4.0, 0.0, np.nan])
    reasons = unexposed_flats(levels, noise, 58000.0)
    assert [reason.partition(":")[0] for reason in reasons] == ["", "no light", "too bright", "no light"]
    assert reasons[2] == "too bright: its level is 64000 ADU, expected less than 58000"


@pytest.mark.parametrize(
    ("subtracted", "sections", "words"),
    [(True, Sections(), "the flats has no overscan"), (False, SECTIONS, "the master dark has no overscan")],
)
def test_a_dark_of_another_bias_level_is_refused(subtracted: bool, sections: Sections, words: str) -> None:
    with pytest.raises(Unprocessable, match=words):
        require_same_overscan({OVERSCAN: subtracted}, sections, "the flats")
    require_same_overscan({OVERSCAN: not subtracted}, sections, "the flats")
    require_same_overscan({}, sections, "the flats")


def test_sections_in_messages() -> None:
    assert SECTIONS.text == "[1:40,1:40] and [41:50,1:40]"
    assert Sections().text == "none and none"


def field_of_stars(shape: tuple[int, int] = (120, 120), sky: float = 500.0) -> np.ndarray:
    rng = np.random.default_rng(2)
    y, x = np.indices(shape)
    image = rng.normal(sky, 4, shape)
    for place, flux in zip(rng.uniform(12, 108, (14, 2)), np.geomspace(3e5, 4e3, 14), strict=True):
        image += flux / (2 * np.pi * 4) * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / 8)
    return image


TELESCOPE = Telescope.model_validate({"primary_m": 1.0, "plate_scale_arcsec": 1.0, "detector_px": [120, 120]})


@pytest.mark.parametrize(
    ("cards", "level", "words"),
    [
        ({}, 500.0, "dark_6, flat_Si"),
        ({"RLEVEL": 91}, 1500.0, "dark applied before (RLEVEL = 91), flat applied before (RLEVEL = 91)"),
        ({"ZEROCOR": "done"}, 1500.0, "flat_Si, dark applied before (ZEROCOR = 'done')"),
    ],
)
def test_frames_that_were_reduced_are_not_calibrated_again(tmp_path: Path, cards, level: float, words: str) -> None:
    bench = Bench(tmp_path, telescope=TELESCOPE)
    bench.calibrate(dark=np.full((120, 120), 1000.0), flat=np.ones((120, 120)))
    bench.expose([np.clip(field_of_stars() + 1000, 0, 65535).astype(np.uint16)], 1, **cards)
    outcome = bench.run(CcdStack, only=["stack"])["stack"]
    assert outcome.event == "succeed", outcome.message
    assert outcome.record["results"]["calibration"] == words
    assert np.median(fits.getdata(bench.product("ccd/{id}_stack.fits"))) == pytest.approx(level, abs=2)


def test_saturated_stars_of_a_stack_are_flagged(tmp_path: Path) -> None:
    bench = Bench(tmp_path, telescope=TELESCOPE)
    image = field_of_stars() * 20
    bench.expose([np.clip(image, 0, 65535).astype(np.uint16)], 1)
    bench.run(CcdStack, only=["stack"])
    assert fits.getheader(bench.product("ccd/{id}_stack.fits"))["SATURATE"] == pytest.approx(0.97 * 65535)
    assert bench.run(Photometry)["measure"].event == "succeed"
    stars = fits.getdata(bench.product("photometry/{id}_photometry.fits"), "SOURCES")
    truth = [image[round(star["y_px"]), round(star["x_px"])] > 70000 for star in stars]
    assert any(truth)
    assert all(star["flags"] & 1 for star, is_saturated in zip(stars, truth, strict=True) if is_saturated)
    assert not stars[-1]["flags"] & 1


@pytest.mark.parametrize("n", [1, 2, 5])
def test_bias_frames_that_claim_to_be_exposures_are_rejected(tmp_path: Path, n: int) -> None:
    bench = Bench(tmp_path, telescope=TELESCOPE)
    noise = np.random.default_rng(4).normal(1000, 4, (n, 120, 120)).round().astype(np.uint16)
    bench.expose(noise, n)
    outcome = bench.run(CcdStack, only=["stack"])["stack"]
    assert outcome.event == "reject"
    assert len(outcome.message) > 15


# ------------------------------------------------------------------------------------- how much a master needs


def night_of(tmp_path: Path, kind: str, frames: list[int], levels: float = 20000.0) -> TaskResult:
    """Run the step of a kind on a night whose files of that kind hold so many frames."""
    raw = tmp_path / "raw" / "20260314"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(5)
    names = {"dark": "dark_0_20260314_0{}0000.000000.fits", "flat": "flat_0_Si_20260314_1{}0000.000000.fits"}
    files: list[dict[str, Any]] = []
    wanted = {"dark": frames} if kind == "dark" else {"dark": [100], "flat": frames}
    for name, counts in wanted.items():
        for number, count in enumerate(counts):
            level = 1000.0 + (levels if name == "flat" else 0.0)
            fits.PrimaryHDU(rng.normal(level, 20, (count, 8, 8)).astype(np.uint16)).writeto(
                raw / names[name].format(number)
            )
            files.append({"name": names[name].format(number), "kind": name, "mode": "0", "filter": "Si"})
    document = {"_id": "20260314", "raw_data": {"location": ["host", str(raw)], "files": files}}
    (tmp_path / "tmp").mkdir()
    paths = {use: tuple(raw / file["name"] for file in files if file["kind"] == use) for use in wanted}
    places = {"archive": tmp_path / "archive", "tmp": tmp_path / "tmp"}
    for step in ("darks", "flats")[: len(wanted)]:
        outcome = execute(Task("t", NightCalibration, step, document, files=paths, **places))
    return outcome


@pytest.mark.parametrize(
    ("kind", "frames", "is_made"),
    [
        ("dark", [100], True),  # as many frames as ten files of ten
        ("dark", [99], False),
        ("dark", [60, 40], True),
        ("dark", [1] * 10, True),
        ("dark", [1] * 9, False),
        ("flat", [50], True),
        ("flat", [49], False),
        ("flat", [1] * 5, True),
    ],
)
def test_a_master_needs_so_many_files_or_the_frames_of_as_many(
    tmp_path: Path, kind: str, frames: list[int], is_made: bool
) -> None:
    outcome = night_of(tmp_path, kind, frames)
    if is_made:
        assert outcome.event == "succeed", outcome.message
        assert [(m["kind"], m["frames"], m["origin"]) for m in outcome.record["results"]["masters"]] == [
            (kind, sum(frames), "own")
        ]
        return
    assert (outcome.event, outcome.record["lacks"]) == ("lack", f"{kind} files")
    needed = {"dark": "10 files (calibration.min_darks) or 100", "flat": "5 files (calibration.min_flats) or 50"}[kind]
    counts = f"{len(frames)} good files with {sum(frames)} good frames"
    assert f"{counts}, needed are {needed} frames (times calibration.frames_per_file)" in outcome.message


def test_frames_of_no_use_do_not_count(tmp_path: Path) -> None:
    outcome = night_of(tmp_path, "flat", [50], levels=0.0)
    assert outcome.event == "reject"
    assert "0 good files, 1 bad (the last: no light" in outcome.message

"""Masters of frames with an overscan: what is too bright, without light, or was treated otherwise is found."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from obsarchive.errors import Unprocessable
from obsarchive.io.raw_frames import Frames, Sections
from obsarchive.science.imaging.calibration import Calibration, master_flat, unexposed_flats
from pipelines.shared.calibrator import OVERSCAN, Calibrator, require_same_overscan

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

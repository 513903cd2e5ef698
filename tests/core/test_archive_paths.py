"""Paths of the archive tree: as documented, and never outside it."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from obsarchive.core.archive_paths import Layout
from obsarchive.names import ObservationName, is_night

ROOT = Path("/archive")
LAYOUT = Layout(ROOT)
NIGHT = "20160925"
OBS = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"


def test_the_tree_as_documented():
    folder = ROOT / "20160925" / OBS
    assert LAYOUT.observation("20160925", OBS) == folder
    assert LAYOUT.tarball("20160925", OBS) == folder / f"{OBS}.tar.bz2"
    assert LAYOUT.sidecar("20160925", OBS) == folder / ".observation.json"
    assert LAYOUT.manifest(folder / "bright_star", "strehl") == folder / "bright_star" / ".strehl.json"
    assert LAYOUT.calibration("20160925") == ROOT / "20160925" / "calib"
    assert LAYOUT.summary("20160925") == ROOT / "20160925" / "summary"


@given(st.text("ab/\\.+-_ \n\0", max_size=12), st.just(NIGHT) | st.text("0123456789./", max_size=8))
@example("..", NIGHT)
@example("../../..", NIGHT)
@example("a", "../00101")
def test_what_is_accepted_as_a_name_stays_inside(target, night):
    name = f"{target}_a_VIC_Si_o_20160925_110427.040912"
    try:
        ObservationName.parse(name)
    except ValueError:
        return
    if is_night(night):
        folder = LAYOUT.observation(night, name)
        assert os.path.normpath(folder) == str(folder)
        assert folder.parent.parent == ROOT


def test_no_observation_can_take_the_place_of_the_night_s_own_folders():
    for path in (LAYOUT.calibration("20160925"), LAYOUT.summary("20160925")):
        assert not is_night(path.name)
        with pytest.raises(ValueError, match="not an observation name"):
            ObservationName.parse(path.name)


def test_the_longest_name_leaves_room_for_the_endings_of_products():
    stem = "_VIC_lp600_o_20160925_110427.040912"
    name = "4_" + "x" * (200 - 2 - len(stem)) + stem
    ObservationName.parse(name)
    assert len(f".{name}_contrast_curve.png.12345678.part".encode()) <= 255

"""Cameras whose headers say what a file is: kinds, sequences, sections, and what hostile headers may say."""

import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from obsarchive.errors import BadRawData
from obsarchive.instruments import HeaderDriven
from obsarchive.instruments.base import Sectioned
from obsarchive.io.raw_frames import Frames, Sections
from obsarchive.names import ObservationName

SHAPE = (12, 20)
KEYWORD_OF_EXPOSURE = "keyword EXPTIME or EXPOSURE: exposure 0 s"
TIMES = st.sampled_from(["2026-03-14", "2026-03-14T01:02:03.4", "0001-01-01T00:00:00+14:00", "yesterday", "", "T"])


def put(path: Path, **keys: object) -> Path:
    """Write a frame with header keys; two underscores stand for a hyphen."""
    header = fits.Header({key.replace("__", "-"): value for key, value in keys.items()})
    fits.PrimaryHDU(np.zeros(SHAPE, np.uint16), header).writeto(path, overwrite=True)
    return path


def science(path: Path, time: str, **keys: object) -> Path:
    named = {"IMAGETYP": "Light Frame", "OBJECT": "M 67", "FILTER": "r'", "EXPTIME": 30.0}
    return put(path, **(named | {"DATE__OBS": time} | keys))


def test_exposures_of_one_kind_are_one_observation(tmp_path: Path) -> None:
    camera = HeaderDriven({"camera": "STX", "program": "$PROPID"})
    files = [
        science(tmp_path / "b.fits", "2026-03-14T01:00:00", PROPID="2026A-7"),
        science(tmp_path / "a.fits", "2026-03-14T01:01:00", PROPID="2026A-7"),
    ]
    other = science(tmp_path / "c.fits", "2026-03-14T01:02:00", PROPID="2026A-7", EXPTIME=60.0)
    first, second, apart = map(camera.identify, [*files, other])
    assert first.observation == second.observation == "2026A7_M_67_STX_r_o_20260314_010000.000000"
    assert (first.part, second.part) == (-1, 0)
    assert (apart.observation, apart.part) == ("2026A7_M_67_STX_r_o_20260314_010200.000000", -1)
    earlier = science(tmp_path / "d.fits", "2026-03-14T00:59:00", PROPID="2026A-7")
    assert [camera.identify(path).part for path in (earlier, *files)] == [-1, 0, 1]
    earlier.unlink()
    assert camera.identify(earlier).kind == "ignored"
    assert camera.identify(files[0]).part == -1


@pytest.mark.parametrize("value", [{}, {"PROPID": None}, {"PROPID": "  "}])
def test_a_programme_that_the_header_lacks_is_the_first(tmp_path: Path, value: dict[str, str | None]) -> None:
    """Without the keyword, with the keyword but no value, with a blank value."""
    path = science(tmp_path / "a.fits", "2026-03-14T01:00:00", **value)
    assert HeaderDriven({"program": "$PROPID"}).identify(path).observation.startswith("1_M_67_")


def test_a_keyword_without_a_value_is_absent(tmp_path: Path) -> None:
    camera = HeaderDriven({"filter": "FILTER FILTNAM", "camera": "$DETECTOR"})
    path = science(tmp_path / "a.fits", "2026-03-14T01:00:00", FILTER=None, FILTNAM="V", OBJECT=None, DETECTOR=None)
    assert camera.identify(path).observation == "1_unknown_CCD_V_o_20260314_010000.000000"


@pytest.mark.parametrize(
    ("keys", "lacks"),
    [
        ({}, ()),
        ({"FILTER": None}, ("keyword FILTER: filter none",)),
        ({"OBJECT": " ", "EXPTIME": None}, ("keyword OBJECT: object unknown", KEYWORD_OF_EXPOSURE)),
        ({"IMAGETYP": "flat", "FILTER": None, "EXPTIME": None}, ("keyword FILTER: filter none",)),
        ({"IMAGETYP": "dark", "FILTER": None, "EXPTIME": None}, (KEYWORD_OF_EXPOSURE,)),
        ({"IMAGETYP": "bias", "FILTER": None, "EXPTIME": None}, ()),
        ({"IMAGETYP": "focus", "FILTER": None}, ()),
    ],
)
def test_defaults_that_decide_on_the_use_of_a_file_are_known(tmp_path: Path, keys: dict, lacks: tuple) -> None:
    path = science(tmp_path / "a.fits", "2026-03-14T01:00:00", **keys)
    assert HeaderDriven().identify(path).defaults == lacks


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"filters": "FILT"}, "setting filters: unknown key; did you mean 'filter'?"),
        ({"xyzzy": "FILT"}, "setting xyzzy: unknown key"),
        ({"darks": "none"}, "setting darks: 'bias' or 'exposure' is expected; found 'none'"),
    ],
)
def test_a_wrong_setting_is_explained(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=r"^setting ") as failure:
        HeaderDriven(settings)
    assert str(failure.value) == words


def test_each_file_an_observation(tmp_path: Path) -> None:
    camera = HeaderDriven({"sequence": "file"})
    names = {camera.identify(science(tmp_path / f"{i}.fits", f"2026-03-14T01:00:0{i}")).observation for i in range(3)}
    assert len(names) == 3


def test_a_file_that_grows_is_read_again(tmp_path: Path) -> None:
    camera = HeaderDriven()
    path = tmp_path / "a.fits"
    path.write_bytes(b"SIMPLE")
    assert camera.identify(path).kind == "ignored"
    science(path, "2026-03-14T01:00:00")
    assert camera.identify(path).kind == "science"


@pytest.mark.parametrize(
    ("word", "kind", "mode"),
    [
        ("zero", "dark", "0"),
        ("Bias Frame", "dark", "0"),
        ("DARK", "dark", "30s"),
        ("Flat Field", "flat", "0"),
        ("seeing", "seeing", ""),
        ("focus", "ignored", ""),
        ("", "ignored", ""),
    ],
)
def test_image_types(tmp_path: Path, word: str, kind: str, mode: str) -> None:
    raw = HeaderDriven().identify(science(tmp_path / "a.fits", "2026-03-14T01:00:00", IMAGETYP=word))
    assert (raw.kind, raw.mode) == (kind, mode)


def test_own_keywords_and_values(tmp_path: Path) -> None:
    camera = HeaderDriven({"image_type": "VSTID", "science": ["SKY"], "date": "DAY", "time": "CLOCK", "object": "TGT"})
    path = put(tmp_path / "a.fits", VSTID="sky", DAY="2026-03-14", CLOCK="23:59:59.25", TGT="Vega")
    assert camera.identify(path).observation == "1_Vega_CCD_none_o_20260314_235959.250000"


@pytest.mark.parametrize("wrong", [{"imagetype": "X"}, {"darks": "none"}, {"science": 3}, {"sequence": "night"}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"setting {next(iter(wrong))}"):
        HeaderDriven(wrong)


def test_describe() -> None:
    header = {
        "EXPTIME": "30",
        "EGAIN": 1.4,
        "OBJRA": "12:00:00",
        "OBJDEC": "-30 00 00",
        "NAXIS1": 20,
        "NAXIS2": 12,
        "TRIMSEC": "[3:18,1:12]",
        "BIASSEC": "[19:20,1:12]",
    }
    camera = HeaderDriven({"darks": "exposure"})
    found = camera.describe(header)
    assert (found["exposure_s"], found["gain"], found["mode"], found["shape"]) == (30.0, 1.4, "30s", [12, 16])
    assert (found["coordinates"]["ra_deg"], found["coordinates"]["dec_deg"]) == (pytest.approx(180.0), -30.0)
    assert isinstance(camera, Sectioned)
    assert camera.sections(header) == Sections((0, 12, 2, 18), (0, 12, 18, 20))
    assert not camera.sections({"TRIMSEC": "[0:0,0:0]", "BIASSEC": "none"})
    assert HeaderDriven().describe({}) == {"mode": "0"}


@pytest.mark.parametrize(
    ("text", "section"),
    [
        ("[1:4,1:12]", (0, 12, 0, 4)),
        ("[4:1,12:1]", (0, 12, 0, 4)),
        ("[1:4,*]", (0, 12, 0, 4)),
        ("[*, 2:10]", (1, 10, 0, 20)),
        ("[-*,:]", (0, 12, 0, 20)),
        (" [ 5 : , :3 ] ", (0, 3, 4, 20)),
        ("[20,1:12]", (0, 12, 19, 20)),
        ("(1:4,1:12)", (0, 12, 0, 4)),
        *((text, None) for text in (None, " ", "none", "N/A", "[0:0,0:0]", "[0:0, 0:0]")),
    ],
)
def test_forms_of_sections(text: str | None, section: tuple[int, int, int, int] | None) -> None:
    header = {"NAXIS1": 20, "NAXIS2": 12, "BIASSEC": text}
    assert HeaderDriven().sections(header).overscan == section
    packed = {"ZNAXIS1": 20, "ZNAXIS2": 12, "BIASSEC": text}
    assert HeaderDriven().sections(packed).overscan == section


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1:21,1:12]", r"BIASSEC is '\[1:21,1:12\]', not within the frame \(20 columns and 12 rows\)"),
        ("[0:4,1:12]", "not within the frame"),
        ("[1:4]", "expected"),
        ("[1:4,1:12,1:3]", "expected"),
        ("[1:4:2,1:12]", "expected"),
        ("whole", "expected"),
    ],
)
def test_sections_that_are_none_are_explained(tmp_path: Path, text: str, words: str) -> None:
    camera = HeaderDriven()
    for kind in ("object", "flat"):
        path = science(tmp_path / "a.fits", "2026-03-14T01:00:00", BIASSEC=text, IMAGETYP=kind)
        found = camera.identify(path)
        assert (found.kind, found.observation) == ("ignored", "")
        assert re.search(f"{words}.*; correct the file, or name another one as its keyword", found.problem)
    header = fits.getheader(path)
    with pytest.raises(BadRawData, match=words):
        camera.sections(header)
    assert "shape" not in camera.describe(header)


def test_an_open_section_of_a_frame_of_unknown_size() -> None:
    with pytest.raises(BadRawData, match="an end is left out, and the size of the frame is not known"):
        HeaderDriven().sections({"TRIMSEC": "[1:4,*]"})
    assert HeaderDriven().sections({"TRIMSEC": "[1:4,1:5]"}).trim == (0, 5, 0, 4)


def test_what_is_not_understood_has_a_reason(tmp_path: Path) -> None:
    path = science(tmp_path / "a.fits", "2026-03-14T01:00:00", IMAGETYP="Pointing")
    words = "IMAGETYP is 'Pointing', a kind that no setting names: add it to"
    assert HeaderDriven().identify(path).problem.startswith(words)
    known = HeaderDriven({"ignored": ["pointing"]}).identify(path)
    assert (known.kind, known.problem) == ("ignored", "")
    science(path, "2026-03-14T01:00:00", IMAGETYP=None)
    assert HeaderDriven().identify(path).problem.startswith("keyword IMAGETYP or OBSTYPE has no value")
    science(path, "2026-03-14")
    assert "or name the keywords in the settings date and time" in HeaderDriven().identify(path).problem


@pytest.mark.parametrize(
    ("exposure", "mode"),
    [(30, "30s"), ("30.0", "30s"), ("30 s", "30s"), ("0.5 sec", "0.5s"), (9999.0, "0s"), (None, "0s")],
)
def test_forms_of_exposure_times(tmp_path: Path, exposure: float | str | None, mode: str) -> None:
    path = science(tmp_path / "a.fits", "2026-03-14T01:00:00", IMAGETYP="dark", EXPTIME=exposure)
    assert HeaderDriven().identify(path).mode == mode


@pytest.mark.parametrize("exposure", ["half a minute", "1/30", True])
def test_an_exposure_time_that_is_none_is_explained(tmp_path: Path, exposure: str | bool) -> None:
    path = science(tmp_path / "a.fits", "2026-03-14T01:00:00", EXPTIME=exposure)
    assert HeaderDriven().identify(path).problem.startswith(f"EXPTIME is {exposure!r}, expected a number of seconds")
    science(path, "2026-03-14T01:00:00", EXPTIME=exposure, IMAGETYP="flat")
    assert HeaderDriven().identify(path).kind == "flat", "which needs none"


def test_exposures_of_other_sections_are_another_observation(tmp_path: Path) -> None:
    first = science(tmp_path / "a.fits", "2026-03-14T21:00:00", BIASSEC="[19:20,1:12]")
    lacking = science(tmp_path / "b.fits", "2026-03-14T21:01:00")
    third = science(tmp_path / "c.fits", "2026-03-14T21:02:00", BIASSEC="[19:20,1:12]")
    camera = HeaderDriven()
    names = [camera.identify(path).observation for path in (first, lacking, third)]
    assert names[0] == names[2] != names[1]


def test_reduced_frames_are_not_added_to_raw_ones(tmp_path: Path) -> None:
    raw = science(tmp_path / "a.fits", "2026-03-14T21:00:00", RLEVEL=0)
    reduced = science(tmp_path / "b.fits", "2026-03-14T21:01:00", RLEVEL=91)
    camera = HeaderDriven()
    assert camera.identify(raw).observation != camera.identify(reduced).observation


@pytest.mark.parametrize(
    ("equinox", "ra", "dec"),
    [
        (2000.0, "08:18:30.00", "+25:20:01.0"),
        ("J2000", "08:18:30.00", "+25:20:01.0"),
        (1950.0, "08:15:30.02", "+25:29:25.0"),
        ("B1950", "08:15:30.02", "+25:29:25.0"),
        (2019.23, "08:19:39.11", "+25:16:21.2"),
    ],
)
def test_positions_of_another_equinox_are_precessed(equinox: object, ra: str, dec: str) -> None:
    found = HeaderDriven().describe({"RA": ra, "DEC": dec, "EQUINOX": equinox})["coordinates"]
    assert found["epoch"] == 2000.0
    assert found["ra_deg"] == pytest.approx(124.625, abs=3e-4)
    assert found["dec_deg"] == pytest.approx(25.33361, abs=3e-4)


@pytest.mark.parametrize("settings", [{}, {"sequence": "file"}])
def test_a_copy_of_an_exposure_is_not_taken_for_another_one(tmp_path: Path, settings: dict[str, str]) -> None:
    first = science(tmp_path / "a.fits", "2026-03-14T21:00:00")
    header = fits.getheader(first)
    fits.PrimaryHDU(np.arange(240, dtype=np.uint16).reshape(SHAPE), header).writeto(first, overwrite=True)
    pixels = fits.getdata(first) + 1
    other = tmp_path / "b.fits"  # as short that two begin in one second
    fits.PrimaryHDU(pixels, header).writeto(other)
    copies = [tmp_path / name for name in ("a.fits.gz", "a copy.fits")]
    for copy in copies:
        fits.PrimaryHDU(fits.getdata(first), header).writeto(copy)
    packed = tmp_path / "a1.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(fits.getdata(first), header)]).writeto(packed)
    camera = HeaderDriven(settings)
    assert [camera.identify(path).kind for path in (first, other)] == ["science", "science"]
    assert camera.identify(first).part == -1
    for copy in (*copies, packed):
        found = camera.identify(copy)
        assert found.kind == "ignored"
        assert found.problem.startswith("a copy of a.fits: the same pixels")
    first.unlink()
    assert camera.identify(copies[0]).kind == "science"


def test_frames_are_trimmed_and_freed_of_their_overscan(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = rng.integers(1000, 2000, (3, *SHAPE)).astype(np.uint16)
    frames[:, :, 18:] = np.array([300, 310, 320])[:, np.newaxis, np.newaxis]
    path = tmp_path / "cube.fits"
    fits.PrimaryHDU(frames).writeto(path)
    expected = frames[:, 1:11, 2:18].astype(np.float32) - np.array([300, 310, 320], np.float32)[:, None, None]
    with Frames([path], Sections((1, 11, 2, 18), (0, 12, 18, 20))) as found:
        assert found.shape == (10, 16)
        assert np.array_equal(np.stack([found.read(i) for i in range(3)]), expected)
        assert np.array_equal(found.rows(2, 5), expected[:, 2:5])
        assert np.array_equal(found.window(1, 3, 7, 4, 9), expected[1, 3:7, 4:9])
        with pytest.raises(ValueError, match="rows"):
            found.rows(0, 12)
    with Frames([path], Sections(trim=(1, 11, 2, 18))) as found:
        assert found.dtype == np.uint16
        assert np.array_equal(found.rows(0, 10), frames[:, 1:11, 2:18])
    with pytest.raises(BadRawData, match=r"cube.fits: section rows 0:13"):
        Frames([path], Sections((0, 13, 0, 20)))


@settings(max_examples=60, deadline=None)
@given(
    word=st.sampled_from(["object", "dark", "zero", "flat", "", "x" * 60]),
    target=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=66),
    band=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
    program=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
    exposure=st.one_of(st.floats(-1e30, 1e30), st.text("0123456789.e-", max_size=10), st.booleans()),
    date=TIMES,
)
def test_whatever_a_header_says(
    word: str, target: str, band: str, program: str, exposure: float | str | bool, date: str
) -> None:
    """A file is something, under a name that can be a directory; never an error."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.fits"
        keys = {"IMAGETYP": word, "OBJECT": target, "FILTER": band, "PROP": program, "EXPTIME": exposure}
        put(path, DATE__OBS=date, **keys)
        camera = HeaderDriven({"program": "$PROP"})
        raw = camera.identify(path)
        header = dict(fits.getheader(path))
    assert raw.kind in ("science", "dark", "flat", "ignored")
    if raw.kind == "science":
        assert str(ObservationName.parse(raw.observation)) == raw.observation
        assert os.sep not in raw.observation
    assert "/" not in raw.mode + raw.filter
    camera.describe(header)

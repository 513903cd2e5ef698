"""Detectors read out by several amplifiers: one frame, the stars continuous over the seams; or a refusal by name."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from obsarchive.errors import BadRawData
from obsarchive.instruments import HeaderDriven
from obsarchive.io.amplifiers import parse_section
from obsarchive.io.raw_files import unpack
from obsarchive.io.raw_frames import Frames
from obsarchive.io.raw_headers import read_header

SIDE, HALF = 60, 30
TRUTH = np.random.default_rng(5).integers(100, 60000, (SIDE, SIDE)).astype(np.uint16)
CORNERS = [(0, 0), (0, HALF), (HALF, 0), (HALF, HALF)]
RAW = Path(__file__).parents[3] / "shared/data/calib/lco/mef_raw_test_frame.fits.gz"


def quarters(
    frame: np.ndarray, *, turned: bool = False, key: str = "DETSEC", name: str = "AMP{}"
) -> list[fits.ImageHDU]:
    """Quarters of a frame (or of a cube), each turned so that its corner is read first, if `turned`."""
    made = []
    for k, (y, x) in enumerate(CORNERS):
        part = frame[..., y : y + HALF, x : x + HALF]
        xs, ys = [x + 1, x + HALF], [y + 1, y + HALF]
        if turned and x:
            part, xs = part[..., ::-1], xs[::-1]
        if turned and y:
            part, ys = part[..., ::-1, :], ys[::-1]
        hdu = fits.ImageHDU(np.ascontiguousarray(part), name=name.format(k + 1))
        hdu.header[key] = f"[{xs[0]}:{xs[1]},{ys[0]}:{ys[1]}]"
        made.append(hdu)
    return made


def with_overscan(parts: list[fits.ImageHDU], levels: list[int]) -> list[fits.ImageHDU]:
    for hdu, level in zip(parts, levels, strict=True):
        wide = np.full((HALF + 2, HALF + 9), level, np.uint16)
        wide[:HALF, 4 : 4 + HALF] = hdu.data + level
        hdu.data = wide
        hdu.header["DATASEC"], hdu.header["BIASSEC"] = f"[5:{HALF + 4},1:{HALF}]", f"[{HALF + 6}:{HALF + 9}, 1:{HALF}]"
    return parts


def put(folder: Path, parts: list[fits.ImageHDU], name: str = "a.fits", **cards: object) -> Path:
    path = folder / name
    fits.HDUList([fits.PrimaryHDU(None, fits.Header(cards)), *parts]).writeto(path, overwrite=True)
    return path


def assembled(path: Path) -> np.ndarray:
    with Frames([unpack(path, path.parent / "scratch")]) as frames:
        header = read_header(path)
        assert HeaderDriven().describe(header)["shape"] == list(frames.shape)
        assert not HeaderDriven().sections(header)
        return np.array(list(frames))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("key", ["DETSEC", "CCDSEC"])
def test_amplifiers_make_one_frame(tmp_path, turned, key):
    path = put(tmp_path, quarters(TRUTH, turned=turned, key=key), NEXTEND=4, TRIMSEC="[1:30,1:30]")
    np.testing.assert_array_equal(assembled(path), TRUTH[None])
    with Frames([unpack(path, tmp_path / "scratch")]) as frames:
        assert (frames.dtype, frames.saturation) == (np.dtype(np.uint16), 65535)


@pytest.mark.parametrize("name", ["a.fits.gz", "a.fits.fz"])
def test_in_compressed_files(tmp_path, name):
    parts = quarters(TRUTH, name="SCI")
    if name.endswith("gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(put(tmp_path, parts).read_bytes()))
    else:
        path = put(tmp_path, [fits.CompImageHDU(part.data, part.header, name="IM") for part in parts], name)
    np.testing.assert_array_equal(assembled(path), TRUTH[None])


def test_each_amplifier_has_its_own_overscan_and_gain(tmp_path):
    parts = with_overscan(quarters(TRUTH // 2, turned=True), [1000, 1100, 900, 1050])
    np.testing.assert_array_equal(assembled(put(tmp_path, parts)), TRUTH[None] // 2)
    for hdu, gain in zip(parts, (1.0, 1.2, 1.0, 0.8), strict=True):
        hdu.header["GAIN"] = gain
    found = assembled(path := put(tmp_path, parts))[0]
    np.testing.assert_allclose(found[:HALF, HALF:], 1.2 * (TRUTH // 2)[:HALF, HALF:], rtol=1e-6)
    assert read_header(path)["GAIN"] == pytest.approx(1.0)


def test_binned_with_a_gap_and_a_cube(tmp_path):
    cube = np.stack([TRUTH, TRUTH // 3])
    parts = quarters(cube)
    for hdu, (y, x) in zip(parts, CORNERS, strict=True):  # binned 2 x 2, from pixel 101 on, 10 pixels between columns
        x0, y0 = 101 + 2 * x + (10 if x else 0), 101 + 2 * y
        hdu.header["DETSEC"] = f"[{x0}:{x0 + 2 * HALF - 1},{y0}:{y0 + 2 * HALF - 1}]"
    found = assembled(put(tmp_path, parts))
    assert found.shape == (2, SIDE, SIDE + 5)
    np.testing.assert_array_equal(found[:, :, :HALF], cube[:, :, :HALF])
    np.testing.assert_array_equal(found[:, :, HALF + 5 :], cube[:, :, HALF:])
    assert np.isnan(found[:, :, HALF : HALF + 5]).all()


def test_the_first_amplifier_in_the_primary_hdu(tmp_path):
    first, *others = quarters(TRUTH)
    fits.HDUList([fits.PrimaryHDU(first.data, first.header), *others]).writeto(path := tmp_path / "a.fits")
    np.testing.assert_array_equal(assembled(path), TRUTH[None])


def test_masks_of_amplifiers(tmp_path):
    bad = np.zeros((SIDE, SIDE), np.uint8)
    bad[40, 50] = 4
    parts = quarters(TRUTH, turned=True)
    masks = quarters(bad, turned=True, name="BPM{}")
    found = assembled(put(tmp_path, [*parts, *masks]))
    np.testing.assert_array_equal(found[0], np.where(bad, np.nan, TRUTH))


def changed(at: int = 3, **cards: str) -> list[fits.ImageHDU]:
    parts = quarters(TRUTH)
    for key, value in cards.items():
        parts[at].header[key] = value
    return parts


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        (changed(DETSEC="[21:50,31:60]"), "AMP3 and AMP4 overlap on the detector: DETSEC"),
        (changed(DETSEC="[3001:3030,31:60]"), "AMP1, AMP2, AMP3, AMP4 fill 2 % of the"),
        (changed(DETSEC="[31:90,31:90]"), "binned differently"),
        (changed(DETSEC="[31:62,31:60]", DATASEC="[1:30,1:30]"), "AMP4 .*overlap|AMP4: .* do not fit|binned"),
        (changed(DATASEC="[1:40,1:30]"), r"AMP4: expected DATASEC within its \(30, 30\) pixels"),
        (changed(DETSEC="[a:b]"), r"AMP4: expected DETSEC as \[x1:x2,y1:y2\], found '\[A:B\]'"),
        (changed(DETSEC="unknown"), "parts of a detector .DETSEC., but AMP4 without DETSEC"),
        (changed(BIASSEC="[1:2,1:30]"), "expected BIASSEC in all of"),
        (changed(CCDNAME="north") + changed(0, CCDNAME="south"), "different detectors .CCDNAME differs"),
        (quarters(TRUTH)[:3], "a.fits holds 3 of 4 amplifiers"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(tmp_path, parts, complaint):
    with pytest.raises(BadRawData, match=rf"^a\.fits.*{complaint}|^{complaint}"):
        unpack(put(tmp_path, parts, NEXTEND=4 if len(parts) == 3 else 0), tmp_path / "scratch")
    assert not list((tmp_path / "scratch").glob("*")) if (tmp_path / "scratch").exists() else True


def test_a_plain_file_is_used_as_it_is(tmp_path):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(TRUTH, fits.Header({"DETSEC": "[1:60,1:60]"})).writeto(path)
    assert unpack(path, tmp_path / "scratch") == path


def test_sections_are_read_in_both_directions():
    assert parse_section("[3:5, 2:9]").slices == (slice(1, 9), slice(2, 5))
    turned = parse_section(" [5:3,9:2]")
    assert (turned.slices, turned.flipped) == ((slice(1, 9), slice(2, 5)), (True, True))
    assert parse_section("[5:3,*]", (20, 10)).slices == (slice(0, 20), slice(2, 5))
    assert parse_section("[5:3,*]") is None
    assert parse_section("[0:5,1:2]") is None
    assert parse_section("UNKNOWN") is None


@pytest.mark.skipif(not RAW.exists(), reason="the real frame is not here")
def test_a_real_frame_of_four_amplifiers(tmp_path):
    """The sky is the same on both sides of each seam, within the errors of the gains, and so are the stars on it."""
    image = assembled(put_real(tmp_path))[0]
    assert image.shape == (1024, 1024)
    for lines in (image, image.T):
        sides = [np.median(lines[:, s]) for s in (slice(480, 512), slice(512, 544))]
        assert sides[0] == pytest.approx(sides[1], rel=0.02)
        near, far = (np.clip(lines[:, x] - np.median(lines[:, x]), -100, 300) for x in (511, 512))
        alike = [np.corrcoef(near[8:-8], np.roll(far, shift)[8:-8])[0, 1] for shift in range(-4, 5)]
        assert np.argmax(alike) == 4
        assert alike[4] > 2.5 * alike[0]


def put_real(folder: Path) -> Path:
    path = folder / RAW.name
    path.write_bytes(RAW.read_bytes())
    return path

"""Frames of a dataset as other programs write them: which image is the light, what is bad in it, its errors."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from obsarchive.errors import Unprocessable
from obsarchive.instruments import HeaderDriven
from obsarchive.timeseries.frame_photometry import signature_of
from obsarchive.timeseries.frame_pixels import uncovered
from obsarchive.timeseries.frame_table import Planes, frames_of, read_info, read_planes

SHAPE = (60, 70)
RNG = np.random.default_rng(3)
LIGHT = RNG.poisson(1000, SHAPE).astype(np.float32)
LIGHT[30, 30] = 30000
MASK = np.zeros(SHAPE, np.uint8)
MASK[5, 6] = 1
CARDS = {"DATE-OBS": "2026-03-01T00:00:00", "EXPTIME": 10.0}
needs_swarp = pytest.mark.skipif(shutil.which("SWarp") is None, reason="needs SWarp")


def put(folder: Path, *planes: tuple[str, np.ndarray], primary: np.ndarray | None = None, **cards: object) -> Path:
    path = folder / "a.fits"
    header = fits.Header(list({**CARDS, **cards}.items()))
    hdus = [fits.ImageHDU(data, name=name or None) for name, data in planes]
    fits.HDUList([fits.PrimaryHDU(primary, header), *hdus]).writeto(path, overwrite=True)
    return path


def planes_of(path: Path) -> Planes:
    return read_planes(read_info(path), None)


@pytest.mark.parametrize(
    ("planes", "variance"),
    [
        ([("SCI", LIGHT), ("BPM", MASK), ("ERR", 2 * np.sqrt(LIGHT))], 4 * LIGHT),
        ([("DQ", MASK), ("VAR", LIGHT / 3), ("DATA", LIGHT)], LIGHT / 3),
        ([("flux", LIGHT), ("ivar", np.where(MASK, 0, 2 / LIGHT))], LIGHT / 2),
        ([("IMAGE", LIGHT), ("MASK", MASK.astype(np.int32)), ("VARIANCE", LIGHT / 3)], LIGHT / 3),
        ([("", LIGHT), ("", MASK), ("", np.sqrt(LIGHT))], LIGHT),
    ],
)
def test_masks_and_errors_of_any_name_are_used(tmp_path, planes, variance):
    found = planes_of(put(tmp_path, *planes))
    np.testing.assert_array_equal(found.image, np.where(MASK, np.nan, LIGHT))
    np.testing.assert_allclose(found.variance[MASK == 0], variance[MASK == 0], rtol=1e-5)


def test_an_error_plane_without_errors_is_not_believed(tmp_path):
    found = planes_of(put(tmp_path, ("SCI", LIGHT), ("ERR", np.zeros(SHAPE, np.float32)), GAIN=1.0))
    assert np.median(found.variance) == pytest.approx(1000, rel=0.1)
    holes = np.sqrt(LIGHT)
    holes[3, :5] = 0, np.nan, np.inf, 0, -1
    assert np.isnan(planes_of(put(tmp_path, ("SCI", LIGHT), ("ERR", holes))).image[3, :4]).all()


def test_a_cube_of_one_plane_is_an_image(tmp_path):
    path = put(tmp_path, primary=LIGHT[None])
    np.testing.assert_array_equal(planes_of(path).image, LIGHT)
    deeper = put(tmp_path, ("SCI", LIGHT[None, None]), ("BPM", MASK[None]))
    np.testing.assert_array_equal(planes_of(deeper).image, np.where(MASK, np.nan, LIGHT))


@pytest.mark.parametrize(
    ("planes", "complaint"),
    [
        ([("", np.stack([LIGHT, LIGHT]))], "found a cube of .2, 60, 70.: write each plane"),
        ([("", LIGHT), ("", LIGHT[::-1])], "found exposures: HDU 1, HDU 2: a frame of a dataset is one"),
        ([("SCI", LIGHT), ("SCI2", LIGHT + 1)], "SCI, SCI2 may be detectors or exposures"),
        ([("B", LIGHT), ("V", LIGHT[::-1])], "unknown meaning: B, V"),
        ([("SCI", LIGHT), ("BPM", 1 - MASK)], "BPM marks 100 %"),
        ([("", np.arange(70.0))], "there is no image in it"),
    ],
)
def test_what_is_no_single_image_is_refused_by_name(tmp_path, planes, complaint):
    path = put(tmp_path, *planes)
    with pytest.raises(Unprocessable, match=rf"^a\.fits.*{complaint}"):
        planes_of(path)


@pytest.mark.parametrize("scaling", [{}, {"BZERO": 32768}, {"BSCALE": 0.5, "BZERO": 0}])
@pytest.mark.parametrize("packed", [False, True])
def test_pixels_without_a_value(tmp_path, scaling, packed):
    stored = (LIGHT % 900).astype(">i2")
    stored[5, 6] = -32768
    header = fits.PrimaryHDU(stored.astype(np.int16), fits.Header({**CARDS, "BLANK": -32768})).header
    header.update(scaling)
    path = tmp_path / "a.fits"
    path.write_bytes(header.tostring().encode() + stored.tobytes() + bytes(-stored.nbytes % 2880))
    if packed:
        if shutil.which("fpack") is None:
            pytest.skip("needs fpack (libcfitsio-bin)")
        subprocess.run(["fpack", path], check=True)
        path = tmp_path / "a.fits.fz"
    image = planes_of(path).image
    assert np.argwhere(np.isnan(image)).tolist() == [[5, 6]]
    assert image[0, 0] == float(stored[0, 0]) * scaling.get("BSCALE", 1) + scaling.get("BZERO", 0)


@pytest.mark.parametrize(
    ("cards", "gain"),
    [
        ({"GAIN": 139, "EGAIN": 1.0}, 1.0),
        ({"GAIN": 2.0}, 2.0),
        ({"GAIN": 2.0, "EGAIN": 1.5}, 1.5),
        ({"GAIN": 139}, 1.0),
        ({"GAIN": 0.0, "EGAIN": "unknown"}, 1.0),
    ],
)
def test_the_gain_is_electrons_per_count_and_no_setting(tmp_path, cards, gain):
    if "EGAIN" in cards and gain == cards["EGAIN"]:
        assert HeaderDriven().describe(cards)["gain"] == gain
    found = planes_of(put(tmp_path, primary=LIGHT / np.float32(gain), RDNOISE=3.0, **cards))
    assert found.variance[30, 30] == pytest.approx(30000 / gain**2 + 9 / gain**2, rel=1e-3)


# ------------------------------------------------------------------------------------- stacks


def swarped(folder: Path, *options: str) -> Path:
    """A stack of two images, shifted, by the real SWarp: their corners are not covered."""
    for i in range(2):
        header = fits.Header(CARDS)
        header["CTYPE1"], header["CTYPE2"], header["CRVAL1"], header["CRVAL2"] = "RA---TAN", "DEC--TAN", 150.0, 2.0
        header["CRPIX1"], header["CRPIX2"] = 50 + 30 * i, 50 + 20 * i
        header["CD1_1"], header["CD2_2"] = -1 / 3600, 1 / 3600
        image = np.random.default_rng(i).normal(100, 5, (100, 100))
        yy, xx = np.mgrid[:100, :100]
        image += 60000 * np.exp(-((yy - 60 - 20 * i) ** 2 + (xx - 40 - 30 * i) ** 2) / 8)
        fits.PrimaryHDU(image.astype(np.float32), header).writeto(folder / f"in{i}.fits")
    command = ["SWarp", "in0.fits", "in1.fits", "-SUBTRACT_BACK", "N", "-WRITE_XML", "N", "-IMAGEOUT_NAME", "a.fits"]
    subprocess.run([*command, *options], cwd=folder, check=True, capture_output=True)
    with fits.open(folder / "a.fits", mode="update") as hdus:
        hdus[0].header.update(CARDS)
    for i in range(2):
        (folder / f"in{i}.fits").unlink()
    return folder / "a.fits"


@needs_swarp
def test_a_stack_of_swarp(tmp_path):
    path = swarped(tmp_path, "-WEIGHTOUT_NAME", "a.weight.fits")
    assert frames_of(tmp_path) == [path]
    weight = fits.getdata(tmp_path / "a.weight.fits")
    found = planes_of(path)
    np.testing.assert_array_equal(np.isnan(found.image), weight == 0)
    assert fits.getheader(path)["SATURATE"] < np.nanmax(found.image) < found.saturation
    assert np.nanmedian(found.image) == pytest.approx(100, abs=1)
    (tmp_path / "a.weight.fits").unlink()
    np.testing.assert_array_equal(np.isnan(planes_of(path).image), weight == 0)


def test_the_weight_of_a_raw_file_is_no_exposure(tmp_path):
    other = put(tmp_path, primary=LIGHT + 1, IMAGETYP="light", FILTER="V", OBJECT="M 13")
    other.rename(tmp_path / "b.weight.fits")
    path = put(tmp_path, primary=LIGHT, IMAGETYP="light", FILTER="V", OBJECT="M 13")
    (tmp_path / "a.weight.fits").write_bytes(path.read_bytes())
    kinds = {name: HeaderDriven().identify(tmp_path / f"{name}.fits").kind for name in ("a", "a.weight", "b.weight")}
    assert kinds == {"a": "science", "a.weight": "ignored", "b.weight": "science"}


def test_a_weight_that_does_not_fit_is_told(tmp_path):
    path = put(tmp_path, primary=LIGHT)
    before = signature_of(path, "", "")
    fits.writeto(tmp_path / "a_weight.fits", MASK[:5])
    assert signature_of(path, "", "") != before
    with pytest.raises(Unprocessable, match=r"a_weight\.fits: expected an image of .60, 70. pixels .* as a\.fits"):
        planes_of(path)


def test_a_real_level_of_saturation_is_believed(tmp_path):
    assert planes_of(put(tmp_path, primary=LIGHT, SATURATE=20000.0)).saturation == pytest.approx(19600)
    real = put(tmp_path, primary=LIGHT, SATURATE=20000.0, SOFTNAME="SWarp")
    assert planes_of(real).saturation == pytest.approx(19600)


def test_zeros_of_few_photons_are_counts():
    few = np.random.default_rng(0).poisson(0.8, SHAPE).astype(np.float32)
    assert not uncovered(few).any()
    moved = np.pad(LIGHT, ((7, 0), (0, 3)))
    assert uncovered(moved).sum() == moved.size - LIGHT.size

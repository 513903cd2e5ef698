"""What the images of a file are: layouts as observatories and their pipelines write them, and the frames in them."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from obsarchive.errors import BadRawData
from obsarchive.io.image_headers import ImageHdu, Role, role_of_name
from obsarchive.io.image_roles import assign_roles
from obsarchive.io.raw_files import unpack
from obsarchive.io.raw_frames import Frames
from obsarchive.io.raw_headers import read_header

SHAPE = (40, 50)
SKY = 200.0


def light(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scene = np.full(SHAPE, SKY)
    scene[18:22, 20:24] += 5000
    return rng.poisson(scene).astype(np.float32)


LIGHT = light()
MASK = np.zeros(SHAPE, np.uint8)
MASK[3, 5] = 1
ERROR = np.sqrt(LIGHT)
IVAR = 1 / np.maximum(LIGHT, 1)


def hdu(data: np.ndarray, name: str = "", **cards: object) -> fits.ImageHDU:
    made = fits.ImageHDU(data)
    if name:
        made.header["EXTNAME"] = name
    for key, value in cards.items():
        made.header["MJD-OBS" if key == "MJD_OBS" else key] = value
    return made


def put(folder: Path, *hdus: fits.ImageHDU, primary: np.ndarray | None = None, **cards: object) -> Path:
    path = folder / "a.fits"
    fits.HDUList([fits.PrimaryHDU(primary, fits.Header(cards)), *hdus]).writeto(path, overwrite=True)
    return path


def frames_in(path: Path) -> np.ndarray:
    with Frames([unpack(path, path.parent / "scratch")]) as frames:
        read, rows = np.array(list(frames)), frames.rows(2, 9)
        assert np.array_equal(read[:, 2:9], rows, equal_nan=True)
        assert np.array_equal(frames.window(0, 2, 9, 4, 8), read[0, 2:9, 4:8], equal_nan=True)
        return read


PLANES = {
    "LCO": [hdu(LIGHT, "SCI"), hdu(MASK, "BPM"), hdu(ERROR, "ERR")],
    "DRAGONS": [hdu(LIGHT, "SCI", EXTVER=1), hdu(LIGHT, "VAR", EXTVER=1), hdu(MASK.astype(np.int16), "DQ", EXTVER=1)],
    "another order": [hdu(MASK, "DQ"), hdu(LIGHT, "VAR"), hdu(LIGHT, "DATA")],
    "lower case": [hdu(LIGHT, "sci  "), hdu(ERROR, "err"), hdu(MASK, "mask")],
    "HST": [hdu(LIGHT, "SCI", EXTVER=1), hdu(ERROR, "ERR", EXTVER=1), hdu(MASK.astype(np.int16), "DQ", EXTVER=1)],
    "ESO": [
        hdu(LIGHT, "CHIP1", HDUCLAS1="IMAGE", HDUCLAS2="DATA"),
        hdu(ERROR, "CHIP1.E", HDUCLAS2="ERROR", HDUCLAS3="RMSE"),
        hdu(MASK, "CHIP1.Q", HDUCLAS2="QUALITY"),
    ],
    "types": [hdu(LIGHT, "one", EXTTYPE="IMAGE"), hdu(LIGHT, "two", EXTTYPE="VARIANCE"), hdu(MASK, EXTTYPE="MASK")],
    "units": [hdu(LIGHT, BUNIT="adu"), hdu(LIGHT, BUNIT="adu**2"), hdu(MASK, BUNIT="bit")],
    "preview": [hdu(LIGHT, "SCI"), hdu(LIGHT[::4, ::4], "PREVIEW"), hdu(LIGHT, "GUIDE"), hdu(MASK, "BPM")],
    "background": [hdu(LIGHT, "FLUX"), hdu(IVAR, "INV_VAR"), hdu(LIGHT, "SKY_MODEL"), hdu(MASK, "BAD_PIXEL_MASK")],
    "astropy": [hdu(LIGHT, "SCI"), hdu(MASK, "MASK"), hdu(LIGHT, "UNCERT", UTYPE="VarianceUncertainty")],
    "pictures": [hdu(LIGHT, "SCI"), hdu(LIGHT[::4, ::4]), hdu(LIGHT[::3, ::3], "IMAGE"), hdu(MASK, "DQ")],
    "unnamed": [hdu(LIGHT), hdu(MASK), hdu(ERROR)],
    "unnamed variance": [hdu(LIGHT), hdu(LIGHT / 1.5 + 9), hdu(MASK)],
    "unnamed weight first": [hdu(IVAR), hdu(LIGHT), hdu(MASK)],
    "unnamed error first": [hdu(ERROR), hdu(LIGHT), hdu(MASK)],
    "a spectrum": [hdu(LIGHT, "SCI"), hdu(np.arange(50.0)), hdu(MASK, "DQ")],
}


@pytest.mark.parametrize("layout", PLANES)
def test_only_light_is_a_frame_and_masks_are_used(tmp_path, layout):
    expected = np.where(MASK, np.nan, LIGHT)
    found = frames_in(put(tmp_path, *PLANES[layout], NEXTEND=len(PLANES[layout])))
    assert found.shape == (1, *SHAPE)
    np.testing.assert_array_equal(found[0], expected)
    header = read_header(tmp_path / "a.fits")
    assert (header["NAXIS2"], header["NAXIS1"]) == SHAPE


@pytest.mark.parametrize("plane", [ERROR, IVAR, LIGHT / np.float32(1.5) + 9])
def test_an_unnamed_error_before_light_without_its_sky(tmp_path, plane):
    found = frames_in(put(tmp_path, hdu(plane), hdu(MASK), hdu(LIGHT - np.float32(SKY))))
    np.testing.assert_array_equal(found, np.where(MASK, np.nan, LIGHT - np.float32(SKY))[None])


def test_light_in_the_primary_hdu(tmp_path):
    found = frames_in(put(tmp_path, hdu(ERROR, "UNCERT"), hdu(MASK, "MASK"), primary=LIGHT))
    np.testing.assert_array_equal(found, np.where(MASK, np.nan, LIGHT)[None])


@pytest.mark.parametrize(
    ("name", "plane"), [("WEIGHT", 1.0 - MASK), ("ivar", np.where(MASK, 0, 0.01)), ("wht", 1.0 - MASK)]
)
def test_without_weight_a_pixel_is_bad(tmp_path, name, plane):
    found = frames_in(put(tmp_path, hdu(LIGHT, "flux"), hdu(plane.astype(np.float32), name)))
    np.testing.assert_array_equal(found, np.where(MASK, np.nan, LIGHT)[None])


def test_masks_that_name_their_bits_do_not_exclude_stars(tmp_path):
    mask = np.zeros(SHAPE, np.int32)
    mask[18:22, 20:24] = 1 << 5
    mask[3, 5], mask[4, 6] = 1 | 1 << 5, 1 << 8
    bits = {"MP_BAD": 0, "MP_SAT": 1, "HIERARCH MP_DETECTED": 5, "HIERARCH MP_NO_DATA": 8}
    planes = [hdu(LIGHT, "IMAGE"), hdu(mask, "MASK", **bits), hdu(LIGHT, "VARIANCE")]
    found = frames_in(put(tmp_path, *planes))
    assert np.argwhere(np.isnan(found[0])).tolist() == [[3, 5], [4, 6]]


def test_flags_of_webb_that_are_no_fault(tmp_path):
    flags = np.where(MASK, 1, 4).astype(np.int32)  # 4: a cosmic ray that was corrected
    found = frames_in(put(tmp_path, hdu(LIGHT, "SCI"), hdu(flags, "DQ"), TELESCOP="JWST"))
    np.testing.assert_array_equal(np.isnan(found[0]), MASK > 0)


def test_a_mask_that_excludes_everything_is_refused(tmp_path):
    path = put(tmp_path, hdu(LIGHT, "SCI"), hdu(1 - MASK, "MASK"))
    with pytest.raises(BadRawData, match=r"a\.fits: MASK marks 100 % .* invert it"), Frames([path]) as frames:
        frames.read(0)


def test_each_exposure_has_its_mask(tmp_path):
    other = MASK[::-1].copy()
    planes = [
        *(hdu(LIGHT, "SCI", EXTVER=1, MJD_OBS=60000.0), hdu(MASK, "DQ", EXTVER=1)),
        *(hdu(light(1), "SCI", EXTVER=2, MJD_OBS=60000.1), hdu(other, "DQ", EXTVER=2)),
    ]
    found = frames_in(put(tmp_path, *planes))
    np.testing.assert_array_equal(np.isnan(found), [MASK > 0, other > 0])


def test_one_mask_for_all_planes_of_a_cube(tmp_path):
    found = frames_in(put(tmp_path, hdu(np.stack([LIGHT, light(1)]), "SCI"), hdu(MASK, "BPM")))
    np.testing.assert_array_equal(np.isnan(found), [MASK > 0] * 2)


def test_exposures_without_names_remain_frames(tmp_path):
    counts = [light(i).astype(np.uint16) for i in range(3)]
    assert len(frames_in(put(tmp_path, *map(hdu, counts)))) == 3
    assert len(frames_in(put(tmp_path, *map(hdu, counts), primary=counts[0]))) == 4
    assert len(frames_in(put(tmp_path, *(hdu(light(i)) for i in range(5))))) == 5
    assert len(frames_in(put(tmp_path, *(hdu(data, f"FRAME{i}") for i, data in enumerate(counts))))) == 3
    same = [hdu(data, DETSEC="[1:50,1:40]") for data in counts]
    assert len(frames_in(put(tmp_path, *same))) == 3


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, np.inf, 1e30])
def test_exposures_that_hold_nothing_remain_frames(tmp_path, value):
    empty = np.full(SHAPE, value, np.float32)
    assert len(frames_in(put(tmp_path, hdu(LIGHT), hdu(empty), hdu(empty)))) == 3


CHIPS = {"CRVAL1": 10.0, "CRVAL2": 20.0, "CRPIX2": 20.0}
REFUSED = {
    "chips of HST": ([hdu(LIGHT, "SCI", EXTVER=1), hdu(LIGHT, "SCI", EXTVER=2)], "SCI,1, SCI,2 may be detectors"),
    "chips by number": ([hdu(LIGHT, CCDCHIP=1), hdu(LIGHT, CCDCHIP=2)], "different detectors .CCDCHIP differs"),
    "chips by place": ([hdu(LIGHT, CRPIX1=20.0, **CHIPS), hdu(LIGHT, CRPIX1=-40.0, **CHIPS)], "different detectors"),
    "amplifiers": ([hdu(LIGHT, AMPNAME="A"), hdu(LIGHT, AMPNAME="B")], "amplifiers .AMPNAME differs"),
    "colours": ([hdu(np.stack([LIGHT] * 3), CTYPE3="RGB")], "expected a cube of exposures, found one of RGB"),
    "colours of a camera": ([hdu(np.stack([LIGHT] * 3), BAYERPAT="RGGB")], "found one of RGB .BAYERPAT"),
    "colours by filter": ([hdu(np.stack([LIGHT] * 3), FILTER="RGB")], "found one of RGB .FILTER"),
    "colours of a fourth axis": (
        [hdu(np.stack([LIGHT] * 3)[:, np.newaxis], CTYPE4="FREQ")],
        r"found one of FREQ .CTYPE4",
    ),
    "exposures of colours": (
        [hdu(np.stack([np.stack([LIGHT] * 3)] * 2))],
        r"found 2 x 3 x \d+ x \d+ pixels: .*axes 3 and 4",
    ),
    "wavelengths": ([hdu(np.stack([LIGHT] * 9), "SCI", CTYPE3="WAVE-TAB"), hdu(MASK, "DQ")], "found one of WAVE"),
    "bands": ([hdu(LIGHT, FILTER="B"), hdu(LIGHT, FILTER="V")], "FILTER differs"),
    "bands by name": ([hdu(LIGHT, "SDSS_G"), hdu(LIGHT, "SDSS_R")], "unknown meaning: SDSS_G, SDSS_R: expected names"),
    "a stranger": ([hdu(LIGHT), hdu(LIGHT, "CHIP2")], "unknown meaning: HDU 1, CHIP2"),
    "two of light": ([hdu(LIGHT, "SCI"), hdu(LIGHT)], "SCI beside HDU 2 of the same size without a name"),
    "types": ([hdu(LIGHT), hdu(light(1).astype(np.int16))], "BITPIX differs"),
    "no light": ([hdu(MASK, "BPM"), hdu(LIGHT, "ERR")], "expected an image of the sky, found only BPM, ERR"),
    "lost masks": (
        [hdu(light(i), "FRAME", MJD_OBS=6e4 + i) for i in range(3)] + [hdu(MASK, "DQ"), hdu(MASK, "DQ")],
        "2 masks .DQ, DQ. of 3 images",
    ),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_what_is_not_understood_is_refused_by_name(tmp_path, layout):
    planes, complaint = REFUSED[layout]
    with pytest.raises(BadRawData, match=rf"^a\.fits: .*{complaint}"):
        Frames([put(tmp_path, *planes)])


def test_frames_are_counted_without_their_planes(tmp_path):
    planes = [hdu(LIGHT, "SCI", MJD_OBS=1.0, EXTVER=1), hdu(MASK, "BPM", EXTVER=1), hdu(ERROR, "ERR", EXTVER=1)]
    path = put(tmp_path, *planes, hdu(LIGHT, "SCI", MJD_OBS=2.0, EXTVER=2), NEXTEND=6)
    with pytest.raises(BadRawData, match="holds 2 of 4 frames"):
        Frames([path])


def test_the_work_grows_as_the_number_of_frames(monkeypatch):
    compared = []
    monkeypatch.setattr(ImageHdu, "__eq__", lambda one, other: bool(compared.append(other)) or one is other)
    images = [ImageHdu(number, {}, SHAPE, 16) for number in range(100)]
    assert assign_roles("a.fits", images, lambda _: LIGHT).lights == tuple(range(100))
    assert len(compared) <= len(images)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *(("SCI", Role.LIGHT), ("Data", Role.LIGHT), ("NGC.1.DATA", Role.LIGHT), ("", Role.UNNAMED)),
        *(("ERR", Role.ERROR), ("chip1.noise", Role.ERROR), ("SIGMA2", Role.ERROR), ("STAT", Role.VARIANCE)),
        *(("VAR_POISSON", Role.VARIANCE), ("inverse_variance", Role.INVERSE_VARIANCE), ("IVAR", Role.INVERSE_VARIANCE)),
        *(("DATA_QUALITY", Role.MASK), ("DQ3", Role.MASK), ("obj_weight", Role.WEIGHT), ("SKY_VAR", Role.OTHER)),
        *(("OBJMASK", Role.OTHER), ("AMP1", Role.UNKNOWN), ("THUMBNAIL", Role.OTHER)),
    ],
)
def test_names_of_extensions(name, role):
    assert role_of_name(name) is role

"""Products: whole or absent, explained by their headers, readable by astropy."""

import errno
import hashlib
import os
import subprocess
import sys
import warnings
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from obsarchive.errors import ArchiveError
from obsarchive.io import fits_products
from obsarchive.io.atomic import atomic_path, atomic_write, sha256
from obsarchive.io.fits_products import Provenance, read_fits, tan_wcs, write_fits
from obsarchive.io.raw_headers import read_header

DATE = datetime(2016, 9, 25, 11, 4, 27, tzinfo=UTC)
OBSERVATION = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
MADE = Provenance(
    version="2.0.1",
    pipeline="bright_star",
    step="reduce",
    config_hash="0f" * 8,
    raw_files=tuple(f"{OBSERVATION}{end}.fits.bz2" for end in ("", "_0", "_1")),
    raw_signature="ab" * 8,
    calibration={"dark": "20160925/calib/dark_6.fits", "flat": "20160925/calib/flat_lp600_" + "x" * 80 + ".fits"},
    date=DATE,
)


def left_over(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208 - hidden files too


# ---------------------------------------------------------------------------- whole or absent


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with atomic_path(target) as part:
        part.write_bytes(b"first half")
        assert not target.exists()
        assert part.parent == target.parent
        assert part.name.startswith(".a.txt.")
        assert part.suffix == ".part"
    assert target.read_bytes() == b"first half"
    atomic_write(target, b"second")
    assert target.read_bytes() == b"second"
    assert left_over(target.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_interrupted_writing_leaves_the_old_file(tmp_path, error):
    atomic_write(tmp_path / "a", b"old")

    def interrupted() -> None:
        with atomic_path(tmp_path / "a") as part:
            part.write_bytes(b"ne")
            raise error

    with pytest.raises(error):
        interrupted()
    assert (tmp_path / "a").read_bytes() == b"old"
    assert left_over(tmp_path) == ["a"]


def test_no_space(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArchiveError, match=f"no space left for {tmp_path}/a"):
        atomic_write(tmp_path / "a", b"new")
    assert left_over(tmp_path) == []


def test_other_trouble_is_passed_on(tmp_path):
    atomic_write(tmp_path / "file", b"")
    with pytest.raises(FileExistsError):
        atomic_write(tmp_path / "file" / "a", b"")


FULL_DISK = """
import sys
from pathlib import Path
import numpy as np
from obsarchive.errors import ArchiveError
from obsarchive.io.fits_products import Provenance, write_fits
folder = Path(sys.argv[1])
try:
    write_fits(folder / "a.fits", np.zeros((400, 400)), None, Provenance("1", "p", "s", "c"))
except ArchiveError as err:
    sys.exit(0 if "no space" in str(err) and not list(folder.iterdir()) else 4)
sys.exit(5)
"""


def test_a_disk_that_is_really_full(tmp_path):
    """A file system of 200 kB in a name space of its own, where the kernel allows that."""
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=200k full "$0" || exit 77; "$@"', str(tmp_path)]
    try:
        done = subprocess.run([*mount, sys.executable, "-c", FULL_DISK, str(tmp_path)], check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode in (1, 77):
        pytest.skip("no private mounts here")
    assert done.returncode == 0


def test_sha256(tmp_path):
    atomic_write(tmp_path / "a", b"x" * 100_000)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"x" * 100_000).hexdigest()


# ---------------------------------------------------------------------------------- products


@pytest.mark.parametrize("shape", [(7, 9), (3, 7, 9)])
@pytest.mark.parametrize("dtype", [">f4", "float64", "uint16"])
def test_pixels_survive(tmp_path, shape, dtype):
    image = np.random.default_rng(1).uniform(0, 1000, shape).astype(dtype)
    write_fits(tmp_path / "a.fits", image, None, MADE)
    back, _ = read_fits(tmp_path / "a.fits")
    assert back.dtype == np.dtype("float32")
    assert back.dtype.isnative
    np.testing.assert_array_equal(back, image.astype(np.float32))
    assert left_over(tmp_path) == ["a.fits"]


def test_nan_survives(tmp_path):
    write_fits(tmp_path / "a.fits", np.array([[np.nan, 1], [np.inf, -0.0]]), None, MADE)
    np.testing.assert_array_equal(read_fits(tmp_path / "a.fits")[0], [[np.nan, 1], [np.inf, 0]])


def test_checksums_are_right_and_several_parts_go_into_one_file(tmp_path):
    table = np.array([("a", 1.5), ("b", 2.5)], dtype=[("observation", "U40"), ("fwhm_arcsec", "f8")])
    images = {"": np.ones((2, 4, 4)), "WEIGHT": np.full((4, 4), 2.0), "SOURCES": table}
    write_fits(tmp_path / "a.fits", images, {"FILTER": "lp600"}, MADE)
    with fits.open(tmp_path / "a.fits", checksum=True) as hdus:  # a wrong checksum warns, which is an error here
        hdus.verify("exception")
        assert hdus["WEIGHT"].data[0, 0] == 2
        assert hdus["SOURCES"].data["fwhm_arcsec"].tolist() == [1.5, 2.5]
        assert hdus["SOURCES"].data["observation"].tolist() == ["a", "b"]
        assert all("CHECKSUM" in hdu.header and "DATASUM" in hdu.header for hdu in hdus)


def test_a_table_is_read_back_and_may_be_missing(tmp_path):
    path, table = tmp_path / "image.fits", np.array([(3, 0.5), (7, 1.0)], [("y_px", "i4"), ("share", "f4")])
    write_fits(path, {"": np.ones((4, 4)), "FILLED": table}, {}, MADE)
    np.testing.assert_array_equal(fits_products.read_table(path, "FILLED"), table)
    assert fits_products.read_table(path, "OTHER") is None
    assert read_fits(path)[0].shape == (4, 4)
    path.write_bytes(b"no FITS file")
    with pytest.raises(ArchiveError, match="cannot be read"):
        fits_products.read_table(path, "FILLED")


def test_provenance_is_read_back(tmp_path):
    write_fits(tmp_path / "a.fits", np.zeros((2, 2)), {"OBJECT": "Yrsa"}, MADE)
    _, header = read_fits(tmp_path / "a.fits")
    assert Provenance.from_header(header) == MADE
    assert header["RAW002"] == f"{OBSERVATION}_0.fits.bz2"
    assert header["DATE"] == "2016-09-25T11:04:27"
    assert all(header.comments[key] for key in ("DATE", "SWVERS", "PIPELINE", "PIPESTEP", "CONFHASH", "RAWSIG"))
    with pytest.raises(ArchiveError, match="without provenance"):
        Provenance.from_header(fits.Header({"OBJECT": "Yrsa"}))


def test_only_the_date_differs(tmp_path):
    image = np.arange(12.0).reshape(3, 4)
    contents = []
    for name, date in [("a", DATE), ("b", DATE), ("c", datetime(2020, 1, 1, tzinfo=UTC))]:
        made = Provenance("1", "p", "s", "c", date=date)
        write_fits(tmp_path / name, image, {"OBJECT": "x"}, made)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1] != contents[2]
    assert Provenance("1", "p", "s", "c").date.tzinfo is not None


def test_what_described_the_raw_pixels_is_left_behind(tmp_path):
    raw = fits.PrimaryHDU(np.zeros((9, 9), np.uint16))
    raw.header.update({"EXPOSURE": (0.033, "[s]"), "NEXTEND": 30, "BLANK": -1, "COMMENT": "clear"})
    raw.add_checksum()
    write_fits(tmp_path / "a.fits", np.zeros((4, 4)), raw.header, MADE)
    with fits.open(tmp_path / "a.fits", checksum=True) as hdus:
        header = hdus[0].header
        assert (header["BITPIX"], header["NAXIS1"], header["EXPOSURE"]) == (-32, 4, 0.033)
        assert header.comments["EXPOSURE"] == "[s]"
        assert list(header["COMMENT"])[-1] == "clear"
        assert not {"BZERO", "BSCALE", "BLANK", "NEXTEND"} & set(header)


def test_values_fits_cannot_hold(tmp_path):
    given_header = {"SEEING": np.nan, "PI": "Müller\n", "WHY": ("x" * 300, "long"), "N": np.int64(3), "OK": True}
    write_fits(tmp_path / "a.fits", np.zeros((2, 2)), given_header, MADE)
    header = read_fits(tmp_path / "a.fits")[1]
    assert header["SEEING"] is None
    assert (header["PI"], header["WHY"], header["N"], header["OK"]) == ("M?ller?", "x" * 300, 3, True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2879), st.integers(0, 255)), max_size=12))
def test_any_raw_header_can_go_into_a_product(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("any")
    raw = fits.PrimaryHDU(np.zeros((2, 2), np.uint16))
    raw.header.update({"OBJECT": "HD 1", "TELRA": "10:20:30", "GAIN": 1.5, "COMMENT": "x"})
    content = bytearray(raw.header.tostring(padding=True).encode())
    for place, byte in changes:
        content[place] = byte
    content[:6] = b"SIMPLE"
    (folder / "raw.fits").write_bytes(content)
    write_fits(folder / "a.fits", np.ones((2, 2)), read_header(folder / "raw.fits"), MADE)
    image, header = read_fits(folder / "a.fits")
    assert image.sum() == 4
    assert Provenance.from_header(header) == MADE


@pytest.mark.parametrize("content", [b"", b"SIMPLE", b"text" * 2000, None])
def test_unreadable_product(tmp_path, content):
    if content is None:
        write_fits(tmp_path / "a.fits", np.zeros((99, 99)), None, MADE)
        content = (tmp_path / "a.fits").read_bytes()[:9000]
    (tmp_path / "a.fits").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"a\.fits"):
        read_fits(tmp_path / "a.fits")


def test_missing_product_and_product_without_image(tmp_path):
    with pytest.raises(ArchiveError, match=r"a\.fits cannot be read"):
        read_fits(tmp_path / "a.fits")
    fits.PrimaryHDU().writeto(tmp_path / "a.fits")
    with pytest.raises(ArchiveError, match="expected an image"):
        read_fits(tmp_path / "a.fits")


def test_write_fits_is_quiet_about_long_comments(tmp_path):
    with warnings.catch_warnings(action="error"):
        write_fits(tmp_path / "a.fits", np.zeros((2, 2)), {"KEY": ("v" * 30, "c" * 80)}, MADE)


# --------------------------------------------------------------------------------------- WCS


@pytest.mark.parametrize("angle_deg", [0.0, 23.5, -110.0, 180.0])
@pytest.mark.parametrize("east_left", [True, False])
def test_wcs_points_north_and_east(angle_deg, east_left):
    """Sky offsets of 50 pixels against pixel offsets: tangent-plane curvature stays below 1e-6 pixel there."""
    scale_arcsec = 0.0175
    wcs = WCS(tan_wcs(150.0, 40.0, (511.5, 300.25), scale_arcsec, angle_deg, east_left))
    centre = wcs.pixel_to_world(300.25, 511.5)  # 0-based x, y
    assert centre.separation(SkyCoord(150.0, 40.0, unit="deg")).arcsec < 1e-8
    angle = np.radians(angle_deg)
    north_xy = np.array([-np.sin(angle), np.cos(angle)])
    east_xy = np.array([-north_xy[1], north_xy[0]]) * (1 if east_left else -1)
    for direction_xy, expected_deg in [(north_xy, 0.0), (east_xy, 90.0)]:
        there = wcs.pixel_to_world(300.25 + 50 * direction_xy[0], 511.5 + 50 * direction_xy[1])
        assert centre.separation(there).arcsec == pytest.approx(50 * scale_arcsec, rel=1e-6)
        turn = (centre.position_angle(there).deg - expected_deg + 180) % 360 - 180
        assert turn == pytest.approx(0, abs=1e-3)  # meridians converge by 2e-4 deg over 0.9"


def test_wcs_of_a_drizzled_image_names_the_same_sky():
    """Twice the pixels, half the scale: a detector position and its drizzled twin are one point of the sky."""
    detector = WCS(tan_wcs(83.6, -5.4, (511.5, 511.5), 0.0439, 12.0))
    drizzled = WCS(tan_wcs(83.6, -5.4, (2 * 512 - 0.5, 2 * 512 - 0.5), 0.0439 / 2, 12.0))
    for x, y in [(0.0, 0.0), (100.0, 900.0), (1023.0, 511.5)]:
        twin = drizzled.pixel_to_world(2 * (x + 0.5) - 0.5, 2 * (y + 0.5) - 0.5)
        assert detector.pixel_to_world(x, y).separation(twin).mas < 1e-3


def test_wcs_cards_go_into_a_product(tmp_path):
    write_fits(tmp_path / "a.fits", np.zeros((8, 8)), tan_wcs(10.0, 20.0, (3.5, 3.5), 0.02), MADE)
    wcs = WCS(read_fits(tmp_path / "a.fits")[1])
    assert wcs.world_to_pixel_values(10.0, 20.0) == pytest.approx((3.5, 3.5), abs=1e-9)
    assert fits_products.tan_wcs(10.0, 20.0, (3.5, 3.5), 0.02).comments["CRVAL1"].startswith("[deg]")


def test_a_damaged_file_is_told_where_warnings_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when another thread sets the filters that this one had set."""
    path = tmp_path / "product.fits"
    path.write_bytes(b"SIMPLE  =                    T")
    monkeypatch.setattr(fits_products.warnings, "catch_warnings", lambda **_: nullcontext())
    with pytest.raises(ArchiveError, match="cannot be read"):
        fits_products.read_fits(path)

"""What is kept of products: the outline of an image against the WCS of its header."""

from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from obsarchive.io.atomic import sha256
from obsarchive.io.fits_products import Provenance, tan_wcs, write_fits
from obsarchive.io.product_entries import product_entry, read_image_entry


def write(path, shape, **cards):
    header = tan_wcs(0.0001, 60.0, (30.0, 20.0), 0.02, 25.0)
    for name, value in cards.items():
        header[name] = value
    fits.PrimaryHDU(np.zeros(shape, np.float32), header).writeto(path, overwrite=True)
    return path


def farthest_px(path, entry) -> float:
    """Largest distance of a corner from the footprint of the WCS [pixel]."""
    expected = SkyCoord(*WCS(fits.getheader(path)).celestial.calc_footprint().T, unit="deg")
    return float(SkyCoord(*np.transpose(entry["corners_deg"]), unit="deg").separation(expected).arcsec.max() / 0.02)


def test_an_image_across_0_h(tmp_path):
    path = write(tmp_path / "image.fits", (100, 80))
    entry = product_entry("image.fits", path)
    assert (entry["name"], entry["bytes"], entry["sha256"]) == ("image.fits", path.stat().st_size, sha256(path))
    assert entry["image"]["shape"] == [100, 80]
    assert entry["image"]["pixel_arcsec"] == pytest.approx(0.02)
    assert farthest_px(path, entry["image"]) < 1
    assert {ra < 180 for ra, _ in entry["image"]["corners_deg"]} == {True, False}


def content(path, scale=1.0, day=1, **cards):
    """Write a product with an extension as a run of some day does, and return its content."""
    provenance = Provenance(
        f"1.{day}", "toy", "make", "c" * day, ("a.fits",), "s" * day, date=datetime(2026, 3, day, tzinfo=UTC)
    )
    images = {"": np.arange(12.0).reshape(3, 4), "NOISE": scale * np.ones((3, 4))}
    write_fits(path, images, {"GAIN": 1.5, **cards}, provenance)
    return product_entry(path.name, path)["content"]


def test_content_is_what_a_step_made_not_when(tmp_path):
    path = tmp_path / "image.fits"
    first, checksum = content(path), sha256(path)
    assert content(path, day=2) == first
    assert sha256(path) != checksum
    others = {content(path, scale=1.1), content(path, GAIN=1.6), content(path, EXPOSED=True)}
    assert len(others) == 3
    assert first not in others


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_a_cube_and_a_distorted_image(tmp_path):
    path = write(tmp_path / "cube.fits", (7, 100, 80))
    entry = read_image_entry(path)
    assert entry["shape"] == [7, 100, 80]
    assert farthest_px(path, entry) < 1
    sip = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 2e-3, "B_0_2": 2e-3}
    path = write(tmp_path / "sip.fits", (100, 80), **sip)
    assert farthest_px(path, read_image_entry(path)) < 1.5  # half a pixel, grown by the distortion


def test_images_that_do_not_say_where_they_are(tmp_path):
    path = tmp_path / "box.fits"
    fits.PrimaryHDU(np.zeros((9, 9), np.float32), fits.Header({"PIXSCALE": 0.03})).writeto(path)
    assert read_image_entry(path) == {"shape": [9, 9], "pixel_arcsec": 0.03}
    galactic = write(tmp_path / "galactic.fits", (9, 9), CTYPE1="GLON-TAN", CTYPE2="GLAT-TAN")
    assert "corners_deg" not in read_image_entry(galactic)


def test_what_is_no_image_has_no_outline(tmp_path):
    table = tmp_path / "table.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(np.zeros(3, [("x", float)]))]).writeto(table)
    broken = tmp_path / "broken.fits"
    broken.write_bytes(b"SIMPLE  =                    T")
    text = tmp_path / "frames.txt"
    text.write_text("1 2 3\n")
    assert read_image_entry(table) is read_image_entry(broken) is None
    assert "image" not in product_entry("frames.txt", text)

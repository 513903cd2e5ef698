"""World coordinates of a stack: those of the raw header where they can be believed, else the pointing's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from obsarchive.config.model import Telescope
from obsarchive.io.raw_frames import Frames, Sections
from pipelines.ccd import CcdStack
from pipelines.shared.product_headers import header_wcs
from tests.pipelines.bench_of_steps import Bench
from tests.pipelines.test_masters import field_of_stars

TELESCOPE = Telescope.model_validate({"primary_m": 1.0, "plate_scale_arcsec": 1.0, "detector_px": [120, 120]})
WCS_CARDS = {
    **{
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": "155.02",
        "CRVAL2": "20.01",
        "CRPIX1": 40.0,
        "CRPIX2": 70.0,
    },
    **{"CD1_1": -2.77e-4, "CD1_2": 1.1e-5, "CD2_1": 1.1e-5, "CD2_2": 2.77e-4},
}


def sky_of(bench: Bench, **cards: Any) -> tuple[float, float]:
    """Right ascension and declination of the pixel (39, 69), from 0, of a stack of one exposure."""
    bench.expose([field_of_stars().astype(np.uint16)], 1, **cards)
    assert bench.run(CcdStack, only=["stack"])["stack"].event == "succeed"
    ra, dec = WCS(fits.getheader(bench.product("ccd/{id}_stack.fits"))).all_pix2world(39, 69, 0)
    return float(ra), float(dec)


def test_coordinates_of_the_raw_header_are_kept(tmp_path: Path) -> None:
    assert sky_of(Bench(tmp_path, telescope=TELESCOPE), **WCS_CARDS) == pytest.approx((155.02, 20.01), abs=3e-6)


@pytest.mark.parametrize("wrong", [{"CRVAL1": 0.0}, {"CD1_1": -1e-3, "CD2_2": 1e-3}, {"CTYPE1": "PIXEL"}])
def test_coordinates_that_contradict_pointing_or_scale_are_not(tmp_path: Path, wrong: dict[str, Any]) -> None:
    ra, dec = sky_of(Bench(tmp_path, telescope=TELESCOPE), **{**WCS_CARDS, **wrong})
    assert ra == pytest.approx(155 + 20.5 / 3600 / np.cos(np.radians(20)), abs=1e-5)
    assert dec == pytest.approx(20 + 9.5 / 3600, abs=1e-5)


def test_the_trim_section_and_the_shift_move_the_reference_pixel(tmp_path: Path) -> None:
    path = tmp_path / "raw.fits"
    header = fits.Header({key: float(value) if key.startswith("CRVAL") else value for key, value in WCS_CARDS.items()})
    fits.PrimaryHDU(np.zeros((120, 140), np.uint16), header).writeto(path)

    class Work:
        telescope = TELESCOPE

        class observation:  # noqa: N801
            number = staticmethod({"coordinates.ra_deg": 155.0, "coordinates.dec_deg": 20.0}.get)

    with Frames([path], Sections((5, 115, 10, 130))) as frames:
        found = WCS(header_wcs(Work, frames, (0.5, -2.0)))
    assert found.all_world2pix(155.02, 20.01, 0) == pytest.approx((39 - 10 - 2, 69 - 5 + 0.5), abs=0.01)

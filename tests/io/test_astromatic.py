"""Coordinates that SCAMP and SWarp write, of a field with strong distortion, made by the real programs."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from obsarchive.io.wcs_headers import plate_of_header

PROGRAMS = ("source-extractor", "scamp", "SWarp")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed: apt-get install it")

SIDE, STEP_DEG, N_STARS = 700, 2.0 / 3600, 300
LINEAR = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CUNIT1": "deg",
    "CUNIT2": "deg",
    "CRVAL1": 150.0,
    "CRVAL2": 20.0,
    "CRPIX1": SIDE / 2 + 0.5,
    "CRPIX2": SIDE / 2 + 0.5,
    "CD1_1": -STEP_DEG,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": STEP_DEG,
    "EQUINOX": 2000.0,
    "RADESYS": "ICRS",
}
CUBIC = {"PV1_1": 1.0, "PV2_1": 1.0, "PV1_7": 0.4, "PV1_9": 0.4, "PV2_7": 0.4, "PV2_9": 0.4}
"""Three pixels in the corners."""
TRUTH = WCS(fits.Header([*{**LINEAR, "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", **CUBIC}.items()]))
PARAMETERS = "NUMBER XWIN_IMAGE YWIN_IMAGE ERRAWIN_IMAGE ERRBWIN_IMAGE ERRTHETAWIN_IMAGE FLUX_AUTO FLUXERR_AUTO FLAGS"


def run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def simulate(folder: Path) -> None:
    """Write the image of a field with the linear part of its coordinates, and the catalogue of its stars."""
    rng = np.random.default_rng(5)
    x, y = rng.uniform(15, SIDE - 15, (2, N_STARS))
    flux = 10 ** rng.uniform(3.5, 5.0, N_STARS)
    yy, xx = np.mgrid[:SIDE, :SIDE]
    image = rng.normal(100.0, 3.0, (SIDE, SIDE))
    for x0, y0, total in zip(x, y, flux, strict=True):
        box = np.s_[max(0, int(y0) - 12) : int(y0) + 13, max(0, int(x0) - 12) : int(x0) + 13]
        r2 = (xx[box] - x0) ** 2 + (yy[box] - y0) ** 2
        image[box] += total / (2 * np.pi * 1.5**2) * np.exp(-r2 / (2 * 1.5**2))
    header = fits.Header([*LINEAR.items(), ("EXPTIME", 10.0), ("FILTER", "r"), ("GAIN", 1.0)])
    fits.PrimaryHDU(image.astype("f4"), header).writeto(folder / "field.fits")
    ra, dec = TRUTH.all_pix2world(x, y, 0)
    table = Table(
        {"X_WORLD": ra, "Y_WORLD": dec, "ERRA_WORLD": np.full(N_STARS, 1e-6), "MAG": 25 - 2.5 * np.log10(flux)}
    )
    table["ERRB_WORLD"], table["ERRTHETA_WORLD"] = table["ERRA_WORLD"], np.zeros(N_STARS)
    table["MAGERR"], table["OBSDATE"] = np.full(N_STARS, 0.01), np.full(N_STARS, 2000.0)
    text = header.tostring(padding=True)
    cards = np.array([[text[n : n + 80] for n in range(0, len(text), 80)]])
    column = fits.Column("Field Header Card", f"{len(text)}A", array=cards, dim=f"(80, {len(text) // 80})")
    ldac = fits.BinTableHDU.from_columns([column], name="LDAC_IMHEAD")
    fits.HDUList([fits.PrimaryHDU(), ldac, fits.BinTableHDU(table, name="LDAC_OBJECTS")]).writeto(folder / "ref.cat")


def residual_px(header: fits.Header, shape: tuple[int, int], truth: WCS) -> float:
    plate = plate_of_header(header, shape)
    assert plate is not None
    y, x = (axis.ravel().astype(float) for axis in np.mgrid[20 : shape[0] - 20 : 15j, 20 : shape[1] - 20 : 15j])
    ra, dec = truth.all_pix2world(x, y, 0)
    found_y, found_x = plate.pixels(ra, dec)
    return float(np.hypot(found_y - y, found_x - x).max())


def test_plates_of_scamp_and_swarp(tmp_path: Path) -> None:
    simulate(tmp_path)
    linear = fits.getheader(tmp_path / "field.fits")
    assert residual_px(linear, (SIDE, SIDE), TRUTH) > 2.0
    (tmp_path / "own.param").write_text(PARAMETERS.replace(" ", "\n") + "\n")
    extract = ["-CATALOG_TYPE", "FITS_LDAC", "-CATALOG_NAME", "field.cat", "-PARAMETERS_NAME", "own.param"]
    run(tmp_path, "source-extractor", "field.fits", *extract, "-FILTER", "N", "-DETECT_THRESH", "5")
    astrometry = ["-ASTREF_CATALOG", "FILE", "-ASTREFCAT_NAME", "ref.cat", "-CHECKPLOT_TYPE", "NONE"]
    astrometry += ["-DISTORT_DEGREES", "3", "-WRITE_XML", "N", "-SOLVE_PHOTOM", "N", "-CROSSID_RADIUS", "10"]
    run(tmp_path, "scamp", "field.cat", *astrometry, "-MATCH", "N", "-SN_THRESHOLDS", "5,50")
    solved = fits.getheader(tmp_path / "field.fits")
    lines = (tmp_path / "field.head").read_bytes().decode("ascii", "ignore")  # it names the Université in UTF-8
    solved.update(fits.Header.fromstring(lines, sep="\n"))
    for projection in ("TAN", "TPV"):  # SCAMP wrote one until 2012, and Debian's still does
        named = solved.copy()
        named["CTYPE1"], named["CTYPE2"] = f"RA---{projection}", f"DEC--{projection}"
        assert residual_px(named, (SIDE, SIDE), TRUTH) < 0.3
    run(tmp_path, "SWarp", "field.fits", "-SUBTRACT_BACK", "N", "-WRITE_XML", "N", "-PIXELSCALE_TYPE", "MEDIAN")
    stack = fits.getheader(tmp_path / "coadd.fits")
    assert residual_px(stack, (stack["NAXIS2"], stack["NAXIS1"]), WCS(stack)) < 0.1

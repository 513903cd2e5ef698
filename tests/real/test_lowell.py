"""An ordinary CCD night of Lowell Observatory through the daemon: headers say what its files are."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sep
from astropy.io import fits
from astropy.wcs import WCS
from pack_nights import read_source
from photutils.aperture import CircularAnnulus, CircularAperture

from obsarchive.database.embedded_mongod import Server
from tests.forked import DAEMON, Forked
from tests.services import running_services, with_services

PROJECT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ARCHIVER_TEST_DATA", PROJECT.parent / "shared" / "data"))
FOLDER = DATA / "calib" / "lowell_20190326"
NIGHT = "20190326"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no test data in {DATA}"),
]


def configuration(folder: Path) -> dict[str, Any]:
    """What an adopter writes for this camera."""
    camera = {"time": "UTC-OBS", "filter": "FILTER FILTNAME", "camera": "NASA42"}
    return {
        "server": {"port": 0},
        "paths": {
            "raw": [
                {"path": str(folder / "raw"), "instrument": "obsarchive.instruments.HeaderDriven", "settings": camera}
            ],
            "archive": str(folder / "archive"),
            "tmp": str(folder / "tmp"),
            "logs": str(folder / "logs"),
        },
        "parallel": {"n_workers": 2, "memory_limit_gb": 1.5, "job_timeout_s": 240},
        "daemon": {"loop_interval_s": 0.3, "settle_time_s": 0.2, "max_retries": 0, "min_free_gb": 0},
        "telescope": {
            "Lowell_42in": {
                "cameras": ["NASA42"],
                "primary_m": 1.067,
                "secondary_m": 0.41,
                "plate_scale_arcsec": 1.107,  # on the sky; the header says 0.981
                "detector_px": [1370, 1365],
                "filters": {"VR": {"wavelength_nm": 610, "width_nm": 200}},
            }
        },
        "calibration": {"required": True, "min_darks": 5, "min_flats": 2},
        "pipelines": [
            {"class": "pipelines.night.Calibration"},
            {"class": "pipelines.ccd.CcdStack"},
            {
                "class": "pipelines.astrometry.Astrometry",
                "steps": {
                    "solve": {"catalogue": "field.csv", "pointing_arcsec": 120.0, "match_arcsec": 3.0, "order": 2}
                },
            },
            {"class": "pipelines.photometry.Photometry", "steps": {"measure": {"catalogue": "field.csv"}}},
        ],
    }


def bias_level() -> float:
    return float(np.median([np.median(read_source(path)[1]) for path in sorted(FOLDER.glob("zero/*.gz"))]))


def flat_field() -> np.ndarray:
    """Median of the flats, the simplest way; the corners are dark, where it would divide by little."""
    flats = [read_source(path)[1][:, 17:1382] - bias_level() for path in sorted(FOLDER.glob("flat/*.gz"))]
    flat = np.median([flat / np.median(flat) for flat in flats], axis=0)
    return np.maximum(flat, 0.1).astype(np.float32)


def published_sky(source: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sources of a raw frame by SEP, with the plate solution that SCAMP wrote into its header [deg], and fluxes."""
    header, pixels = read_source(source)
    clean = fits.Header()
    for key in header:
        if key.startswith(("CTYPE", "CUNIT")):
            clean[key] = header[key]
        elif key.startswith(("CRVAL", "CRPIX", "CD", "PV")) and "_" in key + "_" and key not in ("CDELT",):
            clean[key] = float(header[key])
    clean["CTYPE1"], clean["CTYPE2"] = "RA---TPV", "DEC--TPV"
    image = np.ascontiguousarray(pixels[:, 17:1382].astype(np.float32))
    image -= sep.Background(image).back()
    found = sep.extract(image, 8.0, err=1.4826 * np.median(np.abs(image)), minarea=6)
    ra, dec = WCS(clean).all_pix2world(found["x"] + 17, found["y"], 0)
    flat = flat_field()
    level = sep.Background(np.ascontiguousarray(pixels[:, 17:1382] - bias_level()).astype(np.float32) / flat)
    even = (pixels[:, 17:1382] - bias_level()).astype(np.float32) / flat - level.back()
    flux, _, _ = sep.sum_circle(np.ascontiguousarray(even, np.float32), found["x"], found["y"], 5.0)
    return ra, dec, flux


@pytest.fixture(scope="module")
def reduced(tmp_path_factory: pytest.TempPathFactory, mongo_server: Server, scheduler: str) -> Path:
    folder = tmp_path_factory.mktemp("lowell")
    night = folder / "raw" / NIGHT
    night.mkdir(parents=True)
    for source in sorted(FOLDER.glob("*/*.fits.gz")):
        (night / source.name).write_bytes(source.read_bytes())
    (night / "notes.txt").write_text("clouds after midnight")
    ra, dec, flux = published_sky(FOLDER / "5945" / "20190326.0134.fits.gz")
    (folder / "archive").mkdir()
    with (folder / "archive" / "field.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ra", "dec", "mag", "epoch"])
        writer.writerows(
            [a, d, 25 - 2.5 * np.log10(f), 2019.23] for a, d, f in zip(ra, dec, flux, strict=True) if f > 0
        )
    config = folder / "config.json"
    services = running_services(mongo_server, scheduler)
    config.write_text(json.dumps(with_services(configuration(folder), services)))
    daemon = Forked(DAEMON, [str(config), "--once"], PROJECT)
    said, _ = daemon.communicate(timeout=240)
    assert daemon.returncode == 0, said
    assert "Traceback" not in said
    return folder


def observation(reduced: Path) -> Path:
    (found,) = [path for path in (reduced / "archive" / NIGHT).iterdir() if path.is_dir() and "Roach" in path.name]
    return found


def results(reduced: Path, step: str) -> dict[str, Any]:
    pipeline, name = step.split(":")
    return json.loads((observation(reduced) / pipeline / f".{name}.json").read_text())["results"]


def test_the_files_of_a_field_are_one_observation(reduced: Path) -> None:
    folder = observation(reduced)
    assert folder.name == "1_5945_Roachapproach_NASA42_VR_o_20190326_030843.480000"
    header = fits.getheader(folder / "ccd" / f"{folder.name}_stack.fits")
    assert header["NCOMBINE"] == 4
    assert (header["NAXIS2"], header["NAXIS1"]) == (1370, 1365)
    # pixel (899, 328), 110 ADU above its neighbours in each of the four
    assert results(reduced, "ccd:stack")["calibration"] == "dark_0, flat_VR, 1 hot pixel of the frames"


def test_bias_and_flat_are_those_of_the_night(reduced: Path) -> None:
    calib = reduced / "archive" / NIGHT / "calib"
    bias, flat = fits.getdata(calib / "dark_0.fits"), fits.getdata(calib / "flat_VR.fits")
    raw = []
    for source in sorted((FOLDER / "zero").glob("*.gz")):
        pixels = read_source(source)[1].astype(float)
        raw.append(pixels[:, 17:1382] - np.median(pixels[:, 1387:1432]))
    expected = np.median(raw, axis=0)
    assert np.median(np.abs(bias - expected)) < 2.0
    assert abs(float(np.mean(bias - expected))) < 0.3
    lit = np.abs(flat / np.median(flat) - 1) < 0.5
    assert float(np.mean(flat[lit])) == pytest.approx(1.0, abs=0.001)


def test_the_sky_is_flat_and_the_stack_deeper(reduced: Path) -> None:
    folder = observation(reduced)
    image = fits.getdata(folder / "ccd" / f"{folder.name}_stack.fits").astype(float)
    inner = image[100:-100, 100:-100]
    blocks = inner[:1150, :1150].reshape(23, 50, 23, 50)
    sky = np.nanmedian(blocks.transpose(0, 2, 1, 3).reshape(23, 23, -1), axis=2)
    assert np.ptp(np.nanpercentile(sky[:, :19], [5, 95])) / np.nanmedian(sky) < 0.02  # right of it: ghosts, vignetting
    single = read_source(FOLDER / "5945" / "20190326.0142.fits.gz")[1][100:-100, 117:1280].astype(float)

    def noise(pixels: np.ndarray) -> float:
        step = (pixels[:, 2:] - pixels[:, :-2])[np.isfinite(pixels[:, 2:] - pixels[:, :-2])]
        return 1.4826 * float(np.median(np.abs(step)))

    assert noise(inner) < 0.65 * noise(single)


def test_the_plate_solution_agrees_with_that_of_scamp(reduced: Path) -> None:
    """Positions of another exposure, with its own published solution, which ours never saw."""
    found = results(reduced, "astrometry:solve")
    assert found["solved"], found
    assert found["n_matched"] > 100
    assert found["rms_arcsec"] < 0.25
    assert found["scale_arcsec"] == pytest.approx(1.107, abs=0.01)
    folder = observation(reduced)
    with (folder / "astrometry" / f"{folder.name}_matches.csv").open() as file:
        rows = [(float(row["ra_deg"]), float(row["dec_deg"])) for row in csv.DictReader(file)]
    ours = np.array(rows)
    ra, dec, flux = published_sky(FOLDER / "5945" / "20190326.0150.fits.gz")
    bright = np.argsort(-flux)[20:150]
    east = (ours[:, 0][:, np.newaxis] - ra[bright]) * np.cos(np.radians(25.3)) * 3600
    north = (ours[:, 1][:, np.newaxis] - dec[bright]) * 3600
    nearest = np.hypot(east, north).min(axis=0)
    assert np.median(nearest) < 0.25
    assert np.mean(nearest < 1.0) > 0.85


def test_the_photometry_is_that_of_photutils_and_its_zero_point_that_of_the_catalogue(reduced: Path) -> None:
    found = results(reduced, "photometry:measure")
    assert found["image"].endswith("_wcs.fits")
    assert found["n_sources"] > 300
    assert found["is_calibrated"]
    # the catalogue is one exposure in SEP's apertures, ours is the stack
    assert found["zero_point_scatter_mag"] < 0.1
    assert found["zero_point_stars"] > 150
    folder = observation(reduced) / "photometry"
    (path,) = folder.glob("*_photometry.fits")
    table = fits.getdata(path, "SOURCES")
    image = fits.getdata(next((observation(reduced) / "astrometry").glob("*_wcs.fits"))).astype(float)
    good = (table["flags"] == 0) & np.isfinite(table["flux_adu"])
    places = np.transpose([table["x_px"], table["y_px"]])[good]
    aperture = CircularAperture(places, found["aperture_px"])
    sums = np.array(aperture.do_photometry(image)[0]) - aperture.area * table["sky_adu"][good]
    assert np.median(np.abs(sums - table["flux_adu"][good]) / table["flux_error_adu"][good]) < 0.02
    inner = found["aperture_px"] + max(3.0, 1.5 * found["fwhm_px"])
    masks = CircularAnnulus(places, inner, inner + 8.0).to_mask(method="center")
    levels = np.array([np.nanmedian(mask.get_values(image)) for mask in masks])
    assert np.median(np.abs(levels - table["sky_adu"][good])) < 0.2 * np.std(levels)
    assert (folder / path.name.replace(".fits", ".png")).read_bytes().startswith(b"\x89PNG")

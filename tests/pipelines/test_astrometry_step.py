"""Plate solutions of images that the other pipelines made, with a catalogue on disk or from a service."""

import csv
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from obsarchive.errors import ConfigError
from obsarchive.science.astrometry.plate_solution import deproject
from obsarchive.simulation.scenes import Detector, Instrument, Scene, SimulatedObservation, Star
from pipelines.astrometry import Astrometry
from pipelines.bright_star import BrightStar
from pipelines.photometry import COLUMNS, Photometry
from tests.pipelines.bench_of_steps import Bench

POINTED = (155.0, 20.0)
ERROR_ARCSEC = (4.0, -3.0)
"""The telescope looks so much farther east and north than it says."""
PIXEL_ARCSEC = 0.0347
STARS = (Star(), Star(2.1, 1.4, 1.0), Star(-2.6, 0.9, 1.5), Star(1.0, -2.9, 1.2), Star(-1.7, -2.4, 2.0))


def sky_of_stars() -> tuple[np.ndarray, np.ndarray]:
    """True positions: the guide star stands half a pixel from the middle of the frame."""
    middle = PIXEL_ARCSEC / 2
    east = np.array([ERROR_ARCSEC[0] - middle - star.dx_arcsec for star in STARS])
    north = np.array([ERROR_ARCSEC[1] + middle + star.dy_arcsec for star in STARS])
    return deproject(east, north, POINTED)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A cluster through the bright-star pipeline."""
    bench = Bench(tmp_path_factory.mktemp("cluster"))
    instrument = Instrument(detector=Detector(shape=(256, 256), seed=3))
    seen = SimulatedObservation(Scene(STARS, zero_flux_e=8e4), 40, instrument, seed=4)
    bench.expose(seen.frames(), 40)
    bench.calibrate(dark=seen.truth.dark_adu, flat=seen.truth.flat)
    bench.run(BrightStar, only=["reduce"])
    return bench


def write_catalog(path: Path, years: float = 0.0) -> Path:
    """The stars among others, as they were `years` before the observation, moving east by 50 mas a year."""
    ra, dec = sky_of_stars()
    rng = np.random.default_rng(1)
    others = deproject(*rng.uniform(-40, 40, (2, 30)), POINTED)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ra", "dec", "mag", "pmra", "pmdec", "epoch"])
        for i, (a, d) in enumerate(zip(ra, dec, strict=True)):
            start = a - 0.05 * years / 3600 / np.cos(np.radians(d))
            writer.writerow([start, d, 8 + STARS[i].mag, 50.0, 0.0, 2026.2 - years])
        for a, d in zip(*others, strict=True):
            writer.writerow([a, d, 14.0, 0.0, 0.0, 2026.2 - years])
    return path


def solve(bench: Bench, **settings: object) -> dict:
    outcome = bench.run(Astrometry, steps={"solve": settings})["solve"]
    return {"event": outcome.event, "message": outcome.message, **outcome.record.get("results", {})}


@pytest.mark.parametrize("years", [0.0, 10.0])
def test_five_stars_give_the_plate_solution_and_their_motion_counts(
    archive: Bench, tmp_path: Path, years: float
) -> None:
    found = solve(archive, catalogue=str(write_catalog(tmp_path / "stars.csv", years)), pointing_arcsec=10.0)
    assert found["solved"], found
    assert found["n_matched"] == 5
    assert found["rms_arcsec"] < 0.01
    assert found["scale_arcsec"] == pytest.approx(PIXEL_ARCSEC / 2, rel=0.003)
    assert found["pointing_error_arcsec"] == pytest.approx(ERROR_ARCSEC, abs=0.1)
    ra, dec = sky_of_stars()
    for name in ("astrometry/{id}_wcs.fits", "bright_star/100p.fits", "bright_star/20p.fits"):
        header = fits.getheader(archive.product(name))
        x, y = WCS(header).all_world2pix(ra, dec, 0)
        guide = header["GUIDEX"] - 1, header["GUIDEY"] - 1
        assert np.hypot(x[0] - guide[0], y[0] - guide[1]) < 1.0
        assert header["ASTNMAT"] == 5
    rows = archive.product("astrometry/{id}_matches.csv").read_text().splitlines()
    assert sum(not row.endswith(",,,") for row in rows[1:]) == 5


def test_no_solution_is_a_result(archive: Bench, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    ra, dec = deproject(*rng.uniform(-20, 20, (2, 40)), POINTED)
    path = tmp_path / "strangers.csv"
    lines = [f"{a},{d},10" for a, d in zip(ra, dec, strict=True)]
    path.write_text("ra,dec,mag\n" + "\n".join(lines))
    found = solve(archive, catalogue=str(path))
    assert (found["event"], found["solved"]) == ("succeed", False)
    assert "do not agree" in found["reason"]
    assert "rms_arcsec" not in found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no catalogue: set steps.solve.catalogue"),
        ({"catalogue": "missing.csv"}, "missing.csv cannot be read"),
        ({"vizier": "http://127.0.0.1:9/asu-tsv"}, "cannot be reached"),
        ({"vizier": "file:///etc/passwd"}, "is no http address"),
    ],
)
def test_what_is_lacking_is_said(archive: Bench, settings: dict, message: str) -> None:
    found = solve(archive, **settings)
    assert found["event"] in ("reject", "fail")
    assert message in found["message"]


class Service(http.server.BaseHTTPRequestHandler):
    """Answers as VizieR's asu-tsv does."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        ra, dec = sky_of_stars()
        rows = [f"{a:.8f}\t{d:+.8f}\t{9.0 + i:.3f}\t\t" for i, (a, d) in enumerate(zip(ra, dec, strict=True))]
        head = [
            "#",
            "#INFO\tx",
            "RA_ICRS\tDE_ICRS\tGmag\tpmRA\tpmDE",
            "deg\tdeg\tmag\tmas/yr\tmas/yr",
            "---\t---\t---\t---\t---",
        ]
        body = "\n".join([*head, *rows, ""]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/viz-bin/asu-tsv"
    server.shutdown()
    thread.join()
    server.server_close()


def test_gaia_is_asked_once_for_a_field(archive: Bench, service: str) -> None:
    Service.asked.clear()
    for _ in range(2):
        found = solve(archive, vizier=service, pointing_arcsec=10.0)
        assert (found["solved"], found["catalogue"], found["n_matched"]) == (True, "Gaia DR3", 5)
    assert len(Service.asked) == 1
    assert "I%2F355%2Fgaiadr3" in Service.asked[0]


@pytest.mark.parametrize("engine", ["fast", "photutils"])
def test_the_stars_are_measured_and_calibrated(archive: Bench, tmp_path: Path, engine: str) -> None:
    path = str(write_catalog(tmp_path / "stars.csv"))
    assert solve(archive, catalogue=path, pointing_arcsec=10.0)["solved"]
    outcome = archive.run(Photometry, steps={"measure": {"catalogue": path, "engine": engine}})["measure"]
    assert outcome.event == "succeed", outcome.message
    found = outcome.record["results"]
    assert found["zero_point_stars"] == 5
    assert outcome.record["settings"]["engine"] == engine
    assert fits.getheader(archive.product("photometry/{id}_photometry.fits"))["ENGINE"] == engine
    table = fits.getdata(archive.product("photometry/{id}_photometry.fits"), "SOURCES")
    assert table.dtype.names == (*(name for pair in COLUMNS for name in pair), "flags")
    assert {table.dtype[name].str for name in table.dtype.names} == {">f8", ">i4"}
    ra, dec = sky_of_stars()
    for star, a, d in zip(STARS, ra, dec, strict=True):
        distance = np.hypot((table["ra_deg"] - a) * np.cos(np.radians(d)), table["dec_deg"] - d) * 3600
        nearest = int(np.argmin(distance))
        assert distance[nearest] < 0.05
        assert table["mag"][nearest] == pytest.approx(8 + star.mag, abs=0.15)


def test_without_a_catalogue_magnitudes_are_instrumental(archive: Bench) -> None:
    outcome = archive.run(Photometry)["measure"]
    assert outcome.event == "succeed", outcome.message
    assert outcome.record["results"]["zero_point_mag"] == 25.0
    assert not outcome.record["results"]["is_calibrated"]


@pytest.mark.parametrize("engine", ["fast", "photutils"])
def test_an_empty_image_gives_an_empty_table(archive: Bench, engine: str) -> None:
    outcome = archive.run(Photometry, steps={"measure": {"detection_snr": 1e9, "engine": engine}})["measure"]
    assert outcome.event == "succeed", outcome.message
    assert outcome.record["results"]["n_sources"] == 0
    assert len(fits.getdata(archive.product("photometry/{id}_photometry.fits"), "SOURCES")) == 0


def test_an_engine_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="'fast' or 'photutils' is expected; found 'daophot'"):
        Photometry(steps={"measure": {"engine": "daophot"}})

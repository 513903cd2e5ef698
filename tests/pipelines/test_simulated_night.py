"""A simulated night of 256x256 frames through the daemon, compared with its truth."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from obsarchive.database.embedded_mongod import Server
from obsarchive.io import fits_products
from obsarchive.names import ObservationName
from obsarchive.science.psf.model import Optics, diffraction_limited_psf, drizzled_response
from obsarchive.science.psf.strehl import measure_strehl
from obsarchive.simulation import night as demo
from obsarchive.simulation.night import NightPlan, Target
from obsarchive.simulation.scenes import Faults, Scene, SimulatedObservation, Star, ideal_stack
from tests.daemon.conftest import CONFIG, Site
from tests.pipelines.measures import companion
from tests.services import running_services

NIGHT = "20260314"
SHAPE = (256, 256)
PIXEL_ARCSEC = 0.0347 / 2
OPTICS = Optics(2.1, 0.5, 763.0, 153.0)
BINARY = Scene((Star(), Star(-1.3, 1.1, 3.2)), zero_flux_e=4e4)
FAULTS = Faults(black=(5, 44), saturated=(17,), slipped=(30,))
PLAN = NightPlan(
    NIGHT,
    (
        Target("1", "single", "Si", Scene((Star(),), zero_flux_e=5e4), n_frames=80, shape=SHAPE, faults=FAULTS),
        Target("1", "binary", "Si", BINARY, n_frames=80, shape=SHAPE),
    ),
    dark_frames=6,
    flat_frames=2,
    n_seeing=0,
    detector=SHAPE,
    seed=21,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, mongo_server: Server, scheduler: str) -> Site:
    """The night, reduced."""
    made = Site(tmp_path_factory.mktemp("night") / "site")
    demo.write_night(made.folder / "raw", PLAN)
    made.config_file.write_text(json.dumps(CONFIG))
    made.change(**running_services(mongo_server, scheduler))
    made.run("--once")
    return made


@pytest.fixture(scope="module")
def truths() -> dict[str, SimulatedObservation]:
    return {ObservationName.parse(name).target: seen for name, seen in demo.observations(PLAN).items()}


def product(site: Site, target: str, name: str) -> Path:
    observation = site.observation(target)
    return site.layout.observation(NIGHT, observation) / name.format(id=observation)


def results(site: Site, target: str, step: str) -> dict:
    return json.loads(product(site, target, f"bright_star/.{step}.json").read_text())["results"]


def robust_rms(image: NDArray) -> float:
    return 1.4826 * float(np.median(np.abs(image - np.median(image))))


def test_master_dark_is_as_good_as_its_frames_allow(site: Site, truths: dict) -> None:
    master, header = fits_products.read_fits(site.layout.calibration(NIGHT) / "dark_6.fits")
    found = json.loads((site.layout.calibration(NIGHT) / ".darks.json").read_text())["results"]["masters"]
    noise_adu = next(m["noise_adu"] for m in found if m["key"] == "6")
    expected = noise_adu / np.sqrt(header["NCOMBINE"])
    assert header["NCOMBINE"] == PLAN.n_darks * PLAN.dark_frames
    dark_files = sorted(path.name for path in site.night.glob("dark_6_*"))
    assert sorted(header[f"RAW{i:03d}"] for i in range(1, PLAN.n_darks + 1)) == dark_files
    assert robust_rms(master - truths["single"].truth.dark_adu) == pytest.approx(expected, rel=0.2)


def test_master_flat_is_good_to_half_a_percent(site: Site, truths: dict) -> None:
    master, _ = fits_products.read_fits(site.layout.calibration(NIGHT) / "flat_Si.fits")
    truth = truths["single"].truth.flat
    assert float(np.std(master / (truth / truth.mean()) - 1)) < 0.005
    assert float(master.mean()) == pytest.approx(1.0, abs=0.002)


@pytest.mark.parametrize("target", ["single", "binary"])
def test_strehl_ratios(site: Site, truths: dict, target: str) -> None:
    seen = truths[target]
    response = drizzled_response()
    perfect_peak = diffraction_limited_psf(OPTICS, PIXEL_ARCSEC, 65, response).max()
    ideal = {name: ideal_stack(seen, share).max() / perfect_peak for name, share in (("100p", 1.0), ("20p", 0.2))}
    measured = {}
    for name in ideal:
        image, header = fits_products.read_fits(product(site, target, f"bright_star/{name}.fits"))
        centre = (header["GUIDEY"] - 1, header["GUIDEX"] - 1)
        measured[name] = measure_strehl(image, OPTICS, PIXEL_ARCSEC, response, centre=centre).ratio
    assert measured["100p"] >= 0.95 * ideal["100p"]
    assert measured["20p"] >= 1.3 * measured["100p"]
    # Truth is the noise-free stack of all frames; the few left out of it change it by less than a per cent.
    assert results(site, target, "strehl")["ratio_percent"] == pytest.approx(100 * ideal["100p"], rel=0.05)
    assert results(site, target, "strehl")["flag"] == "OK"


def test_faulty_frames_are_left_out_with_their_reason(site: Site) -> None:
    left_out = {
        item["frame"]: item["reason"].partition(":")[0] for item in results(site, "single", "reduce")["left_out"]
    }
    # the sharpest peaks, in frames 2 and 3, reach the top of the converter, too
    saturated = dict.fromkeys((2, 3, 17), "saturated")
    assert left_out == {5: "black", 44: "black", 30: "slipped", **saturated}


def test_the_companion_is_where_and_what_it_should_be(site: Site, truths: dict) -> None:
    image, header = fits_products.read_fits(product(site, "binary", "bright_star/100p.fits"))
    truth = truths["binary"].truth
    guess = (-1.3 / PIXEL_ARCSEC, 1.1 / PIXEL_ARCSEC)
    dy, dx, ratio, _ = companion(image, (header["GUIDEY"] - 1, header["GUIDEX"] - 1), guess)
    separation_arcsec = np.hypot(dy, dx) * PIXEL_ARCSEC
    assert separation_arcsec == pytest.approx(truth.separations_arcsec[0], abs=0.005)
    assert np.degrees(np.arctan2(-dx, dy)) % 360 == pytest.approx(truth.position_angles_deg[0], abs=0.3)
    assert -2.5 * np.log10(ratio) == pytest.approx(truth.delta_mags[0], abs=0.1)

"""The high-contrast step with a library on disk: never the star itself, and honest when there is nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from obsarchive.core.documents import Observation
from obsarchive.io import fits_products, psf_library
from obsarchive.science.psf.subtraction import cut_stamp
from obsarchive.simulation.scenes import Detector, Instrument, Scene, SimulatedObservation, Star
from pipelines.bright_star import BrightStar
from pipelines.psf_library import SeenCompanion, objection
from tests.pipelines.bench_of_steps import NIGHT, Bench

COMPANION = Star(0.63, -0.64, 3.0)


def observed(folder: Path, name: str, seed: int, *others: Star) -> Bench:
    """A star through the first two steps."""
    bench = Bench(folder, name=f"3_{name}_VIC_Si_o_20260314_110427.0409{seed:02d}")
    instrument = Instrument(detector=Detector(shape=(256, 256), seed=3))
    seen = SimulatedObservation(Scene((Star(), *others), zero_flux_e=6e4), 30, instrument, seed=seed)
    bench.expose(seen.frames(), 30)
    bench.run(BrightStar, only=["reduce", "strehl"])
    return bench


def add_to_library(bench: Bench, star: str | None = None) -> None:
    image, header = fits_products.read_fits(bench.product("bright_star/100p.fits"))
    stamp = cut_stamp(image, (header["GUIDEY"] - 1, header["GUIDEX"] - 1))
    entry = psf_library.Entry(star or bench.name, NIGHT, "KPNO_2.1m", "Si", "100p", header["PIXSCALE"])
    with psf_library.changed(bench.layout) as library:
        library.add(entry, stamp, "administrator")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five single stars in the library."""
    folder = tmp_path_factory.mktemp("contrast")
    for seed in range(5):
        add_to_library(observed(folder, f"HIP_{seed}", seed))
    return folder


def test_a_companion_is_found_and_described(archive: Path) -> None:
    bench = observed(archive, "GJ_1", 50, COMPANION)
    outcome = bench.run(BrightStar, only=["reduce", "strehl", "pca", "preview"])["pca"]
    results = outcome.record["results"]
    (found,) = results["detections"]
    assert found["separation_arcsec"] == pytest.approx(COMPANION.separation_arcsec, abs=0.01)
    assert found["position_angle_deg"] == pytest.approx(COMPANION.position_angle_deg, abs=0.7)
    assert found["delta_mag"] == pytest.approx(3.0, abs=0.15)
    assert (results["n_references"], results["lacks_references"]) == (5, "any")
    table = np.loadtxt(bench.product("bright_star/pca/{id}_contrast_curve.txt"))
    assert table.shape[1] == 3
    assert np.interp(1.0, table[:, 0], table[:, 1]) == pytest.approx(results["contrast_1_arcsec_mag"], abs=0.01)
    assert json.dumps(results, allow_nan=False)
    names = ("bright_star/100p.fits", "bright_star/pca/{id}_pca.fits")
    whole, part = (fits.getheader(bench.product(name)) for name in names)
    stars = [WCS(header).pixel_to_world(header["GUIDEX"] - 1, header["GUIDEY"] - 1) for header in (whole, part)]
    assert stars[0].separation(stars[1]).arcsec < 1e-4
    [image] = [entry["image"] for entry in outcome.record["products"] if entry["name"].endswith("_pca.fits")]
    assert len(image["corners_deg"]) == 4


def test_a_faint_star_is_no_reference_for_its_noise() -> None:
    objections = [
        objection(Observation({"_id": "3_a_VIC_Si_o_20260314_110427.040900", "pipelined": pipelined}), {"flag": "OK"})
        for pipelined in (
            {},
            {"bright_star": {"classified_as": "high_flux"}},
            {"bright_star": {"classified_as": "faint"}},
        )
    ]
    assert objections[:2] == ["", ""]
    assert "noise" in objections[2]


def test_a_companion_is_not_believed_of_a_star_from_which_a_double_one_was_subtracted() -> None:
    detections = [{"separation_arcsec": 0.9, "delta_mag": 4.5}]
    step = {"state": "done", "results": {"detections": detections, "references": ["3_b", "3_c"]}}
    pipelined = {"bright_star": {"steps": {"pca": step}}}
    seen = SeenCompanion.of(Observation({"_id": "3_a_VIC_Si_o_20260314_110427.040900", "pipelined": pipelined}))
    assert seen.without({"3_d"}) == "companion at 0.90 arcsec, 4.5 mag fainter"
    assert seen.without({"3_c", "3_d"}) == ""


def test_the_star_itself_is_never_a_reference(archive: Path) -> None:
    bench = observed(archive, "GJ_2", 60)
    add_to_library(bench)
    add_to_library(bench, "3_GJ_2_VIC_Si_o_20260101_010101.000000")
    results = bench.run(BrightStar, only=["reduce", "strehl", "pca"])["pca"].record["results"]
    assert not [name for name in results["references"] if "GJ_2" in name]
    assert results["n_references"] == 5


def test_without_references_it_waits_for_some(tmp_path: Path) -> None:
    bench = observed(tmp_path, "GJ_3", 70)
    outcome = bench.run(BrightStar, only=["reduce", "strehl", "pca"])["pca"]
    assert (outcome.event, outcome.record["lacks"]) == ("lack", "references")
    assert "the PSF library holds no other star in Si of KPNO_2.1m" in outcome.message
    assert outcome.record["results"]["lacks_references"] == "any"

"""A planet through the whole pipeline, compared with the simulated scene."""

from pathlib import Path

import numpy as np
import pytest

from obsarchive.io import fits_products, psf_library
from obsarchive.science.psf.subtraction import cut_stamp
from obsarchive.simulation.scenes import Detector, Faults, Instrument, Scene, SimulatedObservation, Star, planetary_disc
from pipelines.bright_star import BrightStar
from pipelines.extended_object import ExtendedObject
from tests.pipelines.bench_of_steps import NIGHT, Bench
from tests.pipelines.measures import detail_correlation, scene_where_registered

FAULTS = Faults(black=(7, 50), slipped=(20,))
LEVEL_E = 120.0


def planet(seed: int, side: int, n_frames: int = 90) -> SimulatedObservation:
    instrument = Instrument(detector=Detector(shape=(side, side), seed=3))
    disc = LEVEL_E * planetary_disc(45, 110, seed)
    return SimulatedObservation(Scene((), extended=disc), n_frames, instrument, faults=FAULTS, seed=seed)


def add_star(folder: Path, seed: int, name: str) -> None:
    """A star of the library."""
    instrument = Instrument(detector=Detector(shape=(256, 256), seed=3))
    seen = SimulatedObservation(Scene((Star(),), zero_flux_e=6e4), 50, instrument, seed=seed)
    bench = Bench(folder, name=name)
    bench.expose(seen.frames(), 50)
    bench.calibrate(dark=seen.truth.dark_adu, flat=seen.truth.flat)
    bench.run(BrightStar, only=["reduce"])
    image, header = fits_products.read_fits(bench.product("bright_star/100p.fits"))
    stamp = cut_stamp(image, (header["GUIDEY"] - 1, header["GUIDEX"] - 1))
    entry = psf_library.Entry(name, NIGHT, "KPNO_2.1m", "Si", "100p", header["PIXSCALE"])
    with psf_library.changed(bench.layout) as library:
        library.add(entry, stamp, "auto")


def truth_in(seen: SimulatedObservation, bench: Bench) -> np.ndarray:
    return scene_where_registered(seen, np.loadtxt(bench.product("extended_object/frames.txt"), usecols=(0, 3, 4)))


@pytest.mark.parametrize(("seed", "side", "program"), [(5, 256, "3"), (6, 256, "7"), (7, 512, "3")])
def test_detail_of_a_planet(tmp_path: Path, seed: int, side: int, program: str) -> None:
    seen = planet(seed, side)
    bench = Bench(tmp_path)
    bench.expose(seen.frames(), seen.n_frames)
    bench.calibrate(dark=seen.truth.dark_adu, flat=seen.truth.flat)
    star = f"{program}_HIP_9_VIC_Si_o_20260314_112427.040912"
    add_star(tmp_path, seed + 100, star)
    if side != 256:
        bench.calibrate(dark=seen.truth.dark_adu, flat=seen.truth.flat)
    outcomes = bench.run(ExtendedObject)
    assert {name: outcome.event for name, outcome in outcomes.items()} == dict.fromkeys(
        ("reduce", "deconvolve", "preview"), "succeed"
    )
    results = outcomes["reduce"].record["results"]
    kinds = {item["frame"]: item["reason"].partition(":")[0] for item in results["left_out"]}
    assert {7: "black", 50: "black"}.items() <= kinds.items()
    assert 20 in kinds
    truth = truth_in(seen, bench)
    sharp, header = fits_products.read_fits(bench.product("extended_object/{id}_deconvolved.fits"))
    mean, _ = fits_products.read_fits(bench.product("extended_object/{id}_registered.fits"))
    reached = detail_correlation(sharp, truth)
    assert reached >= 0.85
    assert reached > detail_correlation(np.nan_to_num(mean), truth) + 0.03
    assert header["PSF"] == (star if program == "3" else "star of another programme")
    assert outcomes["deconvolve"].record["results"]["references"] == [star]
    assert outcomes["deconvolve"].record["results"]["lacks_references"] == ""


def test_without_a_star_a_model_serves_until_the_night_has_one(tmp_path: Path) -> None:
    seen = planet(8, 256, 60)
    bench = Bench(tmp_path)
    bench.expose(seen.frames(), seen.n_frames)
    bench.calibrate(dark=seen.truth.dark_adu, flat=seen.truth.flat)
    results = bench.run(ExtendedObject)["deconvolve"].record["results"]
    assert (results["psf"], results["lacks_references"]) == ("model", "own night")
    truth = truth_in(seen, bench)
    sharp, _ = fits_products.read_fits(bench.product("extended_object/{id}_deconvolved.fits"))
    mean, _ = fits_products.read_fits(bench.product("extended_object/{id}_registered.fits"))
    assert detail_correlation(sharp, truth) > detail_correlation(mean, truth)


def test_one_frame_is_shown_but_not_deconvolved(tmp_path: Path) -> None:
    seen = planet(9, 256, 1)
    bench = Bench(tmp_path)
    bench.expose([seen.frame(0)], 1)
    outcomes = bench.run(ExtendedObject)
    assert outcomes["reduce"].event == "succeed"
    assert outcomes["deconvolve"].event == "reject"
    assert "a single frame" in outcomes["deconvolve"].message

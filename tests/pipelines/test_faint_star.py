"""Faint stars through the whole pipeline, compared with simulated truth."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from obsarchive.io import fits_products
from obsarchive.simulation.scenes import Detector, Faults, Instrument, Scene, SimulatedObservation, Star
from pipelines.faint_star import FaintStar
from tests.pipelines.bench_of_steps import Bench
from tests.pipelines.measures import core, half_width

OFFSET_ARCSEC = np.array([1.2, -1.0])
PIXEL_ARCSEC = 0.0347


def pair(seed: int, flux: float, n_frames: int, side: int, faults: Faults | None = None) -> SimulatedObservation:
    stars = (Star(), Star(*OFFSET_ARCSEC, 0.6))
    instrument = Instrument(detector=Detector(shape=(side, side), seed=3))
    scene = Scene(stars, zero_flux_e=flux)
    return SimulatedObservation(scene, n_frames, instrument, faults=faults or Faults(), seed=seed)


def reduced(folder: Path, seen: SimulatedObservation) -> Bench:
    bench = Bench(folder)
    bench.expose(seen.frames(), seen.n_frames)
    bench.calibrate(dark=seen.truth.dark_adu, flat=seen.truth.flat)
    outcomes = bench.run(FaintStar, only=["reduce"])
    assert outcomes["reduce"].event == "succeed", outcomes["reduce"].message
    return bench


@pytest.mark.parametrize(
    ("seed", "flux", "n_frames", "side"), [(1, 1500.0, 100, 256), (2, 800.0, 200, 256), (3, 1500.0, 80, 512)]
)
def test_two_faint_stars_are_where_they_are_and_sharper(
    tmp_path: Path, seed: int, flux: float, n_frames: int, side: int
) -> None:
    bench = reduced(tmp_path, pair(seed, flux, n_frames, side))
    summed, header = fits_products.read_fits(bench.product("faint_star/{id}_summed.fits"))
    simple, rough = fits_products.read_fits(bench.product("faint_star/{id}_simple_sum.fits"))
    place = np.array([header["GUIDEY"] - 1, header["GUIDEX"] - 1])
    offset = OFFSET_ARCSEC / PIXEL_ARCSEC
    smooth = ndimage.gaussian_filter(summed, 1)
    first, second = core(smooth, *place, 9), core(smooth, *(place + 2 * offset), 9)
    assert np.abs((second - first) / 2 - offset).max() < 0.3
    width = half_width(smooth, *place) / 2
    simple_width = half_width(ndimage.gaussian_filter(simple, 0.5), rough["GUIDEY"] - 1, rough["GUIDEX"] - 1)
    assert width < 0.85 * simple_width


@pytest.mark.parametrize("from_edge", [30, 20, 12])
def test_a_faint_star_near_the_edge_is_the_star(tmp_path: Path, from_edge: int) -> None:
    instrument = Instrument(detector=Detector(shape=(160, 160), seed=3))
    scene = Scene((Star(),), zero_flux_e=2000.0, offset_px=(0.0, 80.0 - from_edge))
    bench = reduced(tmp_path, SimulatedObservation(scene, 40, instrument, seed=6))
    star = bench.document["pipelined"]["faint_star"]["steps"]["reduce"]["results"]["guide_star"]
    assert (star["y"], star["x"]) == pytest.approx((80, 160 - from_edge), abs=3)


def test_faulty_frames_are_left_out(tmp_path: Path) -> None:
    faults = Faults(black=(3, 30), saturated=(12,), slipped=(41,))
    bench = reduced(tmp_path, pair(4, 2000.0, 60, 256, faults))
    rows = [line.split() for line in bench.product("faint_star/shifts.txt").read_text().splitlines()]
    kinds = {int(row[0]): row[-1].partition(":")[0] for row in rows if row[0] != "#" and row[-1] != "-"}
    assert {3: "black", 30: "black", 12: "bright"}.items() <= kinds.items()
    assert 41 in kinds
    assert len(kinds) <= 12


def test_an_empty_field_has_zero_flux(tmp_path: Path) -> None:
    instrument = Instrument(detector=Detector(shape=(128, 128), seed=3))
    seen = SimulatedObservation(Scene((), zero_flux_e=1.0), 70, instrument, seed=1)
    bench = Bench(tmp_path)
    bench.expose(seen.frames(), 70)
    bench.calibrate(dark=seen.truth.dark_adu, flat=seen.truth.flat)
    outcome = bench.run(FaintStar)["reduce"]
    assert outcome.event == "reject"
    assert outcome.record["classified_as"] == "zero_flux"


@pytest.mark.parametrize("seed", [0, 1])
def test_an_empty_field_without_darks_has_zero_flux(tmp_path: Path, seed: int) -> None:
    """Its frames agree on patterns of the detector, of which the sum shows no star."""
    instrument = Instrument(detector=Detector(shape=(256, 256), seed=seed))
    bench = Bench(tmp_path)
    bench.expose(SimulatedObservation(Scene((), zero_flux_e=1.0), 10, instrument, seed=seed).frames(), 10)
    outcome = bench.run(FaintStar)["reduce"]
    assert outcome.event == "reject"
    assert outcome.record["classified_as"] == "zero_flux"
    assert "their sum has a S/N of" in outcome.message


def test_a_faint_star_without_darks_is_no_empty_field(tmp_path: Path) -> None:
    instrument = Instrument(detector=Detector(shape=(256, 256), seed=1))
    bench = Bench(tmp_path)
    bench.expose(SimulatedObservation(Scene((Star(),), zero_flux_e=300.0), 10, instrument, seed=1).frames(), 10)
    assert bench.run(FaintStar, only=["reduce"])["reduce"].event == "succeed"

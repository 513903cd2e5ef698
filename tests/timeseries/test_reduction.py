"""A dataset's reduction: what it writes, that it goes on where it was, that bad frames cost themselves only."""

import json
import logging
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from warnings import catch_warnings

import numpy as np
import pytest
from astropy.io import ascii, fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy import ndimage
from simulated import SMALL, reduce

from obsarchive.core.processes import this_process
from obsarchive.errors import Superseded
from obsarchive.execution.work import run_locally
from obsarchive.io.dataset_lock import DatasetLock
from obsarchive.science.photometry.aperture import Flag
from obsarchive.simulation import field as demo_field
from obsarchive.simulation.star_field import StarField
from obsarchive.store import Store
from obsarchive.timeseries import config as configuration
from obsarchive.timeseries import star_catalog
from obsarchive.timeseries.batch import Reductions
from obsarchive.timeseries.frame_photometry import FrameTask, measure
from obsarchive.timeseries.frame_table import frames_of, read_info
from obsarchive.timeseries.names import STAR_CATALOGUE
from obsarchive.timeseries.products import read_table
from obsarchive.timeseries.reduction import CatalogueTask, EnsembleTask, Reduction, finish, make_catalogue

TARGET = demo_field.TARGET


def ended_process() -> int:
    """Return the number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def table(folder: Path) -> Table:
    return read_table(folder / "photometry.h5")


def bytes_of_products(folder: Path) -> dict[str, bytes]:
    """All tables but for what tells when they were made."""
    names = ["frames.ecsv", "lightcurve.ecsv", f"{TARGET}_ip_lc.dat", f"{TARGET}_ip_lc.csv", "data_summary.txt"]
    found = {name: (folder / name).read_bytes() for name in names}
    columns = table(folder)
    return found | {name: np.asarray(columns[name]).tobytes() for name in ("star_id", "flux", "flux_err", "flags")}


def frame(folder: Path, number: int) -> Path:
    return folder / demo_field.name_of(number)


def test_the_table_of_all_stars(dataset: Path) -> None:
    found = Table.read(dataset / "photometry.h5", path="photometry")
    assert found.colnames == (
        [
            "star_id",
            "ra",
            "dec",
            "x",
            "y",
            "frame",
            "time_bjd_tdb",
            "flux",
            "flux_err",
            "mag",
            "mag_err",
            "sky",
            "fwhm",
            "flags",
        ]
    )
    assert str(found["ra"].unit) == "deg"
    assert str(found["time_bjd_tdb"].unit) == "d"
    n_stars = len(np.unique(found["star_id"]))
    assert len(found) == 4 * n_stars
    assert 0 in found["star_id"]
    target = found[found["star_id"] == 0]
    assert np.all(np.diff(target["time_bjd_tdb"]) > 0)
    assert found.meta["target"] == TARGET


def test_the_files_that_users_know(dataset: Path) -> None:
    dat = ascii.read(dataset / f"{TARGET}_ip_lc.dat", format="basic")
    assert dat.colnames == ["HJD", "flux", "err_flux", "mag", "err_mag", "file"]
    csv = ascii.read(dataset / f"{TARGET}_ip_lc.csv", format="csv")
    assert csv.colnames == ["time", "filter", "magnitude", "error"]
    assert set(csv["filter"]) == {f"{TARGET}_ip"}
    assert np.allclose(csv["time"], dat["HJD"], atol=1e-6)
    listed = ascii.read(dataset / "data_summary.txt", format="basic")
    assert len(listed.colnames) == 34
    assert listed["facility_code"][0] == "lsc-doma-1m0a-fa15"
    assert (listed["processed"] == 1).all()
    quality = Table.read(dataset / "frames.ecsv", format="ascii.ecsv")
    assert list(quality["state"]) == ["good"] * 4
    assert (np.asarray(quality["limit"]) > 19).all()
    for name in ("lightcurve.png", "rms.png", "growth.png", "residuals.png"):
        assert (dataset / name).read_bytes().startswith(b"\x89PNG")


def test_raw_frames_are_only_read(dataset: Path) -> None:
    before = {path.name: path.read_bytes() for path in dataset.glob("*-e91.fits")}
    assert reduce(dataset, again=True).state == "done"
    assert {path.name: path.read_bytes() for path in dataset.glob("*-e91.fits")} == before
    claimed = fits.getheader(frame(dataset, 0))
    solved = fits.getheader(dataset / "wcs" / f"{frame(dataset, 0).stem}.wcs")
    with catch_warnings(action="ignore"):
        places = [WCS(header, naxis=2).pixel_to_world(256, 256) for header in (claimed, solved)]
    assert places[0].separation(places[1]).arcsec > 0.5


def test_nothing_new_is_nothing_to_do(dataset: Path) -> None:
    before = (dataset / "photometry.h5").stat().st_mtime_ns
    assert reduce(dataset).state == "unchanged"
    assert (dataset / "photometry.h5").stat().st_mtime_ns == before


def test_only_what_is_new_is_measured(dataset: Path) -> None:
    old = {path.name: path.stat().st_mtime_ns for path in (dataset / "raw_flux").iterdir()}
    demo_field.write_frame(frame(dataset, 4), SMALL.frame(4, 60496.0), SMALL)
    assert reduce(dataset).record["n_frames"] == 5
    after = {path.name: path.stat().st_mtime_ns for path in (dataset / "raw_flux").iterdir()}
    assert {name: after[name] for name in old} == old
    assert len(after) == 5


def test_a_new_version_of_a_frame_is_measured_again(dataset: Path) -> None:
    before = np.asarray(table(dataset)["flux"])
    demo_field.write_frame(frame(dataset, 2), SMALL.frame(77, 60488.0), SMALL)
    assert reduce(dataset).state == "done"
    assert not np.array_equal(np.asarray(table(dataset)["flux"]), before, equal_nan=True)


def test_stars_keep_their_numbers(dataset: Path) -> None:
    before, _ = star_catalog.load(dataset / STAR_CATALOGUE)
    path = dataset / "reduction_config.yaml"
    path.write_text(path.read_text().replace("aperture_arcsec: 2.0", "aperture_arcsec: 2.5"))
    assert reduce(dataset).state == "done"
    after, _ = star_catalog.load(dataset / STAR_CATALOGUE)
    places = {int(n): (ra, dec) for n, ra, dec in zip(before.number, before.ra, before.dec, strict=True)}
    kept = [n for n in after.number.tolist() if n in places]
    assert len(kept) > 0.9 * len(before)
    for n, ra, dec in zip(after.number.tolist(), after.ra, after.dec, strict=True):
        if n in places:
            assert (ra, dec) == pytest.approx(places[n], abs=2e-4)


def spoil(path: Path, how: str) -> None:
    match how:
        case "empty":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(path.read_bytes()[:200_000])
        case "no FITS":
            path.write_bytes(b"GIF89a" * 1000)
        case "no date":
            with fits.open(path, mode="update") as hdus:
                del hdus[0].header["DATE-OBS"]
        case "no exposure":
            with fits.open(path, mode="update") as hdus:
                hdus[0].header["EXPTIME"] = 0.0
        case "another filter":
            with fits.open(path, mode="update") as hdus:
                hdus[0].header["FILTER"] = "gp"
        case "noise":
            with fits.open(path, mode="update") as hdus:
                hdus[0].data = np.random.default_rng(1).normal(300, 20, hdus[0].data.shape).astype(np.float32)
        case "another field":
            other = replace(SMALL, seed=99)
            demo_field.write_frame(path, other.frame(0, 60484.0), other)
        case "not a number":
            with fits.open(path, mode="update") as hdus:
                hdus[0].data = np.full_like(hdus[0].data, np.nan)


@pytest.mark.parametrize(
    "how",
    [
        *("empty", "truncated", "no FITS", "no date", "no exposure", "another filter"),
        *("noise", "another field", "not a number"),
    ],
)
def test_a_bad_frame_costs_itself_only(dataset: Path, how: str) -> None:
    before = table(dataset)
    spoil(frame(dataset, 1), how)
    outcome = reduce(dataset)
    assert outcome.state == "done"
    assert outcome.record["n_failed"] == 1
    quality = Table.read(dataset / "frames.ecsv", format="ascii.ecsv")
    failed = quality[quality["state"] == "failed"]
    assert list(failed["frame"]) == [frame(dataset, 1).name]
    assert failed["reason"][0]
    after = table(dataset)
    mine = [name != frame(dataset, 1).name for name in before["frame"]]
    one, other = np.asarray(before["mag"])[mine], np.asarray(after["mag"])
    bright = (one < 17) & np.isfinite(other)
    assert np.median(np.abs(one - other)[bright]) < 0.01
    assert reduce(dataset).state == "unchanged"  # what failed is not tried again and again


def test_a_frame_out_of_focus_is_flagged(tmp_path: Path) -> None:
    folder = tmp_path / "SIM" / "sinistro" / "ip"
    demo_field.write_dataset(folder, replace(SMALL, seed=5), 6)
    with fits.open(frame(folder, 3), mode="update") as hdus:
        smeared = ndimage.uniform_filter1d(hdus[0].data, 25, axis=1)
        hdus[0].data = smeared
    outcome = reduce(folder)
    assert outcome.record["n_bad"] == 1
    found = table(folder)
    flagged = {name for name, flags in zip(found["frame"], found["flags"], strict=True) if flags & Flag.BAD_FRAME}
    assert flagged == {frame(folder, 3).name}
    quality = Table.read(folder / "frames.ecsv", format="ascii.ecsv")
    assert "wide" in quality["reason"][3]


def test_packed_frames_are_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "SIM" / "sinistro" / "ip"
    demo_field.write_dataset(folder, SMALL, 2)
    plain = frame(folder, 1)
    demo_field.write_frame(plain.with_name(plain.name + ".fz"), SMALL.frame(1, 60484.0), SMALL, packed=True)
    plain.unlink()
    outcome = reduce(folder)
    assert outcome.record["n_measured"] == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("SIM-2026-BLG-0001", "''"), "target.name"),
        (("aperture_arcsec: 2.0", "aperture_arcsec: -1"), "photometry.aperture_arcsec"),
        (("catalogue: catalogue.csv", "catalogue: nothing.csv"), "nothing.csv"),
        (("catalogue: catalogue.csv", "reference_image: other.fits"), "other.fits"),
        (("target:", "- target:"), "not YAML"),
    ],
)
def test_what_is_wrong_with_the_configuration_is_told(dataset: Path, change: tuple[str, str], told: str) -> None:
    path = dataset / "reduction_config.yaml"
    path.write_text(path.read_text().replace(*change))
    outcome = reduce(dataset)
    assert outcome.state == "failed"
    assert told in outcome.message
    assert not (dataset / "dataset.lock").exists()


def test_without_a_catalogue_magnitudes_are_instrumental(dataset: Path) -> None:
    path = dataset / "reduction_config.yaml"
    path.write_text(path.read_text().replace("  catalogue: catalogue.csv\n", ""))
    outcome = reduce(dataset)
    assert outcome.state == "done"
    assert outcome.record["zero_point"] == 25.0
    assert outcome.record["zero_point_stars"] == 0
    assert outcome.record["n_stars"] > 50


def test_a_folder_without_frames_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "SIM" / "sinistro" / "ip"
    folder.mkdir(parents=True)
    demo_field.write_configuration(folder, StarField())
    assert "no FITS image" in reduce(folder).message


def test_damaged_measurements_are_made_again(dataset: Path) -> None:
    before = bytes_of_products(dataset)
    (dataset / "raw_flux" / f"{frame(dataset, 0).stem}.npz").write_bytes(b"PK\x03\x04 broken")
    (dataset / "reduction.json").write_text("{")
    assert reduce(dataset).state == "done"
    assert bytes_of_products(dataset) == before


def test_a_lost_worker_is_not_held_against_the_frame(dataset: Path) -> None:
    def lossy(function, items):
        for number, value in run_locally(function, items):
            lost = function.__name__ == "measure" and number == 0
            yield number, RuntimeError("killed") if lost else value

    for path in (dataset / "raw_flux").iterdir():
        path.unlink()
    outcome = Reduction(dataset, lossy, cache=dataset / "cache").reduce(again=True)
    assert outcome.record["n_failed"] == 1
    assert reduce(dataset).record["n_failed"] == 0


def test_what_is_not_known_is_in_the_record(dataset: Path) -> None:
    record = json.loads((dataset / "reduction.json").read_text())
    assert record["n_measured"] == 4
    assert record["proposals"] == ["SIM2026A-001"]
    shutil.rmtree(dataset / "raw_flux")
    (dataset / "reduction.json").unlink()
    assert reduce(dataset).state == "done"


def test_what_is_stopped_is_due_again(dataset: Path, store: Store) -> None:
    for path in (dataset / "raw_flux").iterdir():
        path.unlink()
    (dataset / "reduction.json").unlink()
    reductions = Reductions(run_locally, store.datasets, dataset / "cache")

    def stop_at_the_second(fraction: float, text: str) -> None:
        if "frame 2" in text:
            reductions.stopping.set()

    reductions.progress = stop_at_the_second
    (outcome,) = reductions.reduce([dataset])
    assert outcome.state == "stopped"
    assert len(list((dataset / "raw_flux").iterdir())) < 4
    (waiting,) = store.datasets.due()
    assert waiting["state"] == "due"
    (outcome,) = Reductions(run_locally, store.datasets, dataset / "cache").reduce([dataset])
    assert outcome.state == "done"
    (found,) = store.datasets.visible(["SIM2026A-001"])
    assert (found["state"], found["n_measured"]) == ("done", 4)
    assert found["target"] == "SIM"
    assert store.datasets.due() == []


def test_a_killed_reduction_is_not_shown_as_running(dataset: Path, store: Store) -> None:
    store.datasets.note(dataset, {})
    store.datasets.begin(dataset, "run")
    key = store.datasets.key(dataset)
    assert store.datasets.find(key)["state"] == "running"  # by this process
    store.datasets.note(dataset, {"process": {**this_process(), "pid": ended_process()}})
    found = store.datasets.find(key)
    assert (found["state"], "stopped" in found["reason"]) == ("due", True)
    assert store.datasets.visible("all") == [found]
    with DatasetLock(dataset, "another run"):
        assert store.datasets.find(key)["state"] == "running"


def test_the_log_tells_each_stage_and_frame(dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    (dataset / "aperture_pipeline.log").unlink(missing_ok=True)
    caplog.set_level(logging.INFO, "obsarchive")
    assert reduce(dataset, again=True).state == "done"
    text = (dataset / "aperture_pipeline.log").read_text()
    assert re.search(r"star catalogue: \d+ stars, from .*, made before", text)
    assert "4 frames, 4 to be measured" in text
    assert "ensemble: 4 frames" in text
    for number in range(4):
        name = re.escape(frame(dataset, number).name)
        assert re.search(rf"{name}: seeing \d\.\d\d arcsec, \d+ stars matched with an rms of 0\.\d+ arcsec, sky", text)
        assert re.search(rf"{name}: zero point [+-]\d\.\d+ \+- 0\.\d+ mag .*5-sigma limit \d\d\.\d\d mag", text)
    units = [str(Table.read(dataset / "lightcurve.ecsv")[name].unit) for name in ("flux", "flux_err", "sky", "mag")]
    assert units == ["ct / s", "ct / s", "ct / (pix s)", "mag"]


def test_a_wish_has_everything_measured_again(dataset: Path, store: Store) -> None:
    store.datasets.note(dataset, {"state": "done"})
    before = {path: path.stat().st_mtime_ns for path in (dataset / "raw_flux").iterdir()}
    store.datasets.request_redo(store.datasets.key(dataset))
    (outcome,) = Reductions(run_locally, store.datasets, dataset / "cache").reduce([dataset])
    assert outcome.state == "done"
    assert all(path.stat().st_mtime_ns > before[path] for path in before)
    assert store.datasets.due() == []


def test_a_failure_is_in_the_book_with_its_reason(dataset: Path, store: Store) -> None:
    (dataset / "reduction_config.yaml").unlink()
    (outcome,) = Reductions(run_locally, store.datasets, dataset / "cache").reduce([dataset])
    assert outcome.state == "failed"
    found = store.datasets.find(store.datasets.key(dataset))
    assert found["state"] == "failed"
    assert "no such file" in found["reason"]


def test_a_catalogue_service_that_is_away_is_told_at_once(dataset: Path) -> None:
    path = dataset / "reduction_config.yaml"
    path.write_text(path.read_text().replace("catalogue: catalogue.csv", "vizier: http://127.0.0.1:9/asu-tsv"))
    outcome = reduce(dataset)
    assert outcome.state == "failed"
    assert "cannot be reached" in outcome.message


def test_strange_headers_are_lived_with(dataset: Path) -> None:
    with fits.open(frame(dataset, 1), mode="update") as hdus:
        hdus[0].header["OBSERVER"] = "x" * 60
        hdus[0].header["GAIN"] = "unknown"
        del hdus[0].header["PIXSCALE"], hdus[0].header["AIRMASS" if "AIRMASS" in hdus[0].header else "OBJECT"]
    assert reduce(dataset).record["n_failed"] == 0


def test_a_worker_that_comes_back_late_writes_nothing(dataset: Path) -> None:
    """Its run was given up: the dataset is free, or another run works in it."""
    config = configuration.load(dataset)
    (info, *_) = infos = tuple(map(read_info, frames_of(dataset)))
    before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    late = [
        (measure, FrameTask(dataset, info.path, config, "older", "first")),
        (finish, EnsembleTask(dataset, config, infos[:3], {}, "first")),
        (make_catalogue, CatalogueTask(dataset, config, infos, dataset / "cache", "first")),
    ]
    for function, task in late:
        with pytest.raises(Superseded, match="the run first was given up"):
            function(task)
    with DatasetLock(dataset, "second"):
        for function, task in late:
            with pytest.raises(Superseded):
                function(task)
    assert {path: path.read_bytes() for path in before} == before
    with DatasetLock(dataset, "first"):
        measure(late[0][1])

"""A dataset that photutils measures: the same tables, the same light; and how both engines compare."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import ascii, fits
from astropy.table import Table
from simulated import reduce

from obsarchive.cli.main import main
from obsarchive.simulation import field as demo_field
from obsarchive.simulation.star_field import Camera, ObservingConditions, StarField
from obsarchive.timeseries import config as configuration
from obsarchive.timeseries.light_curve_at import light_curve_at
from obsarchive.timeseries.products import read_table

FIELD = StarField(seed=1, n_stars=100, mag_range=(13.5, 19.0), camera=Camera(shape=(256, 256), cosmic_rays=5))
COLUMNS = ("photometry", "low", "high", "n", "difference", "scatter", "expected", "pull")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dataset of two frames, reduced with each engine; only to be read."""
    root = tmp_path_factory.mktemp("engines")
    found = {name: root / name / "SIM" / "sinistro" / "ip" for name in ("fast", "photutils")}
    demo_field.write_dataset(found["fast"], FIELD, 2, air=lambda i: ObservingConditions(3.5 + 0.5 * i))
    shutil.copytree(found["fast"], found["photutils"])
    for name, folder in found.items():
        path = folder / "reduction_config.yaml"
        path.write_text(path.read_text() + f"  engine: {name}\n  method: psf\n")
        assert reduce(folder).state == "done"
    return found


def test_the_tables_are_the_same(both: dict[str, Path]) -> None:
    ours, theirs = (read_table(both[name] / "photometry.h5") for name in ("fast", "photutils"))
    assert [(c.name, c.dtype, c.unit) for c in theirs.columns.values()] == (
        [(c.name, c.dtype, c.unit) for c in ours.columns.values()]
    )
    assert (ours.meta["engine"], theirs.meta["engine"]) == ("fast", "photutils")
    assert set(ours.meta) == set(theirs.meta)
    names = [sorted(path.name for path in folder.iterdir() if path.name[0] != ".") for folder in both.values()]
    assert names[0] == names[1]
    for name in ("lightcurve.ecsv", "frames.ecsv"):
        one, other = (Table.read(folder / name, format="ascii.ecsv") for folder in both.values())
        assert [(c.name, c.unit) for c in one.columns.values()] == [(c.name, c.unit) for c in other.columns.values()]


def test_the_light_is_the_same_within_the_errors(both: dict[str, Path]) -> None:
    tables = [read_table(folder / "photometry.h5") for folder in both.values()]
    stars = [{(round(row["ra"], 4), round(row["dec"], 4), str(row["frame"])): row for row in t} for t in tables]
    common = [key for key in stars[0] if key in stars[1] and stars[0][key]["flags"] == stars[1][key]["flags"] == 0]
    assert len(common) > 40
    mag, other, error = (
        np.array([stars[i][key][name] for key in common]) for i, name in ((0, "mag"), (1, "mag"), (0, "mag_err"))
    )
    seen = np.isfinite(mag + other) & (error < 0.1)
    difference = (other - mag)[seen]
    assert abs(np.median(difference)) < 0.01
    assert np.median(np.abs(difference / error[seen])) < 0.3


def test_the_target_is_fitted_by_both(both: dict[str, Path]) -> None:
    curves = [Table.read(folder / "lightcurve.ecsv", format="ascii.ecsv") for folder in both.values()]
    assert all(((curve["flags"] & 32) != 0).all() for curve in curves)
    truth = [FIELD.magnitudes(float(mjd))[0] for mjd in curves[0]["time_mjd_utc"]]
    assert all(np.allclose(curve["mag"], truth, atol=0.04) for curve in curves)


def test_a_place_without_a_star_is_measured_by_the_engine(both: dict[str, Path]) -> None:
    ra, dec = FIELD.centre
    found = [light_curve_at(folder, ra + 0.0042, dec + 0.0023) for folder in both.values()]
    assert all(curve.what.startswith("the position itself") for curve in found)
    assert np.allclose(
        found[0].table["flux"], found[1].table["flux"], atol=3 * float(np.max(found[0].table["flux_err"]))
    )


def signature(folder: Path) -> str:
    with np.load(folder / "raw_flux" / f"{demo_field.name_of(0).removesuffix('.fits')}.npz") as saved:
        return json.loads(str(saved["info"]))["signature"]


def test_another_engine_measures_again(both: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(both["fast"], tmp_path / "SIM" / "sinistro" / "ip"))
    path, before = folder / "reduction_config.yaml", signature(folder)
    plain = path.read_text().replace("  engine: fast\n", "")
    reduce(folder)  # its catalogue was copied, and is new
    path.write_text(plain)
    assert reduce(folder).state == "unchanged", "it is the usual one"
    path.write_text(plain + "  engine: photutils\n")
    assert reduce(folder).state == "done"
    assert signature(folder) != before
    assert reduce(folder).state == "unchanged"


def test_what_was_measured_before_there_was_a_choice_stays_right(tmp_path: Path) -> None:
    path = tmp_path / "reduction_config.yaml"
    path.write_text("target:\n  name: X\n  RA: 268.5\n  Dec: -29.5\n")
    assert configuration.load(tmp_path).digest() == "1f05b09e04e8671a"
    path.write_text(path.read_text() + "photometry:\n  engine: photutils\n")
    assert configuration.load(tmp_path).digest() != "1f05b09e04e8671a"


def table_of(text: str) -> list[list[str]]:
    """Rows of the table that the command prints."""
    return [line.split() for line in text.splitlines() if line.startswith(("aperture ", "PSF "))]


@pytest.mark.parametrize("what", ["image", "dataset"])
def test_the_command_compares_both(
    both: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    folder = both["fast"]
    path = folder if what == "dataset" else folder / demo_field.name_of(0)
    assert main(["compare-photometry", str(path), "--output", str(tmp_path), "--frames", "2", "--stars", "200"]) == 0
    told = capsys.readouterr().out
    assert told.count("sources by photutils") == (2 if what == "dataset" else 1)
    rows = table_of(told)
    assert {row[0] for row in rows} == {"aperture", "PSF"}
    (written,) = tmp_path.glob("*_photometry_comparison.ecsv")
    table = ascii.read(written, format="ecsv")
    assert table.colnames == list(COLUMNS)
    assert str(table["scatter"].unit) == "mag"
    assert [row[3] for row in rows] == [str(n) for n in table["n"]]
    assert written.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    full = table[(table["n"] >= 3) & (table["expected"] < 0.1)]
    assert {"aperture", "PSF"} == set(full["photometry"])
    assert (np.abs(full["difference"]) < 0.04).all()
    apertures = full[full["photometry"] == "aperture"]
    assert (apertures["pull"] < 0.7).all(), "they sum the same pixels"
    assert np.median(full["pull"][full["photometry"] == "PSF"]) < 2


def test_an_image_needs_no_header(both: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bare.fits"
    fits.PrimaryHDU(fits.getdata(both["fast"] / demo_field.name_of(0))).writeto(path)
    options = ["--output", str(tmp_path), "--stars", "40", "--gain", "2", "--bin", "2.5", "--aperture-fwhm", "1.2"]
    assert main(["compare-photometry", str(path), *options]) == 0
    told = capsys.readouterr().out
    assert "no level of saturation is known" in told
    assert all(float(row[2]) - float(row[1]) == 2.5 for row in table_of(told))


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("nothing.fits", "there is no such file or folder"),
        (".", "is no dataset: it needs a reduction_config.yaml"),
        ("text.fits", "no FITS image that can be measured"),
        ("table.fits", "no FITS image that can be measured"),
        ("small.fits", "too small for photometry"),
        ("empty", "there is no FITS image that can be measured in this folder"),
    ],
)
def test_what_cannot_be_compared_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.fits").write_text("no FITS")
    fits.BinTableHDU(Table({"a": [1]})).writeto(tmp_path / "table.fits")
    fits.PrimaryHDU(np.zeros((8, 8))).writeto(tmp_path / "small.fits")
    (tmp_path / "empty").mkdir()
    demo_field.write_configuration(tmp_path / "empty", FIELD)
    demo_field.write_catalogue(tmp_path / "empty" / "catalogue.csv", FIELD)
    assert main(["compare-photometry", what]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--stars", "--frames", "--bin", "--snr", "--gain"])
def test_options_without_sense_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare-photometry", "image.fits", option, "0"])
    assert ended.value.code == 2
    assert "is needed" in capsys.readouterr().err


def test_an_image_without_stars_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "noise.fits"
    fits.PrimaryHDU(np.random.default_rng(1).normal(100, 5, (64, 64)).astype(np.float32)).writeto(path)
    assert main(["compare-photometry", str(path)]) == 1
    assert "no star is measured by both engines" in capsys.readouterr().err

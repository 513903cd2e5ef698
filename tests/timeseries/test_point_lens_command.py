"""The command ``point-lens``: which files and datasets it reads, what it writes, what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.table import Table

from obsarchive.cli.main import main
from obsarchive.errors import Unprocessable
from obsarchive.science.light_curves.light_curve import magnitudes_of_fluxes
from obsarchive.science.light_curves.point_lens import magnification
from obsarchive.science.photometry.aperture import Flag
from obsarchive.timeseries.names import RECORD, TABLE, TABLE_PATH
from obsarchive.timeseries.point_lens import is_plain, julian_days, read_dataset, read_file

PSF_FITTED = 32
"""Flag that is no fault."""
T0, U0, T_E = 2_457_500.0, 0.2, 15.0


def table(seed: int = 1) -> np.ndarray:
    """Epochs of an event: JD, magnitude, error."""
    rng = np.random.default_rng(seed)
    jd = np.sort(rng.uniform(T0 - 200, T0 + 200, 250))
    light = 1000 * magnification(np.hypot(U0, (jd - T0) / T_E)) + 200
    error = np.full(len(jd), 15.0)
    mag, mag_err = magnitudes_of_fluxes(light + error * rng.normal(size=len(jd)), error, 25.0)
    return np.stack([jd, mag, mag_err], axis=1)


def write(path: Path, rows: np.ndarray, head: str = "") -> Path:
    path.write_text(head + "".join(" ".join(f"{value:.6f}" for value in row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("offset", "head"), [(0.0, ""), (2_450_000.0, "# HJD mag err\n"), (2_400_000.5, "\\A = 1\n|JD|\n")]
)
def test_text_files_of_all_usual_times_are_read(tmp_path: Path, offset: float, head: str) -> None:
    rows = table()
    path = write(tmp_path / "a.dat", rows - [offset, 0, 0], head)
    assert is_plain(path)
    data = read_file(path)
    assert np.abs(data.time - rows[:, 0]).max() < 2e-6
    assert magnitudes_of_fluxes(data.flux, data.error, data.zero_point)[0] == pytest.approx(rows[:, 1], abs=1e-5)


def test_what_is_no_light_curve_is_refused_with_its_line(tmp_path: Path) -> None:
    rows = table()
    with pytest.raises(Unprocessable, match=r"second column, found .*--flux"):
        read_file(write(tmp_path / "a.dat", rows * [1, 100, 1]))
    assert read_file(tmp_path / "a.dat", is_flux=True).flux[0] == pytest.approx(rows[0, 1] * 100)
    with pytest.raises(Unprocessable, match="line 1: expected time, magnitude, error"):
        read_file(write(tmp_path / "b.dat", rows[:, :2]))
    with pytest.raises(Unprocessable, match="expected Julian days"):
        julian_days(np.array([1.4e9]), Path("c.dat"))
    (tmp_path / "d.dat").write_text("2457500.1 18.0 0.1\n2457501.1 18,x 0.1\n")
    with pytest.raises(Unprocessable, match="line 2"):
        read_file(tmp_path / "d.dat")
    (tmp_path / "names.csv").write_text("time,mag,err\n1,2,3\n")
    assert not is_plain(tmp_path / "names.csv")


def test_the_command_writes_results_figure_and_input_of_other_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    files = [write(tmp_path / "ob.dat", table()), write(tmp_path / "other" / "ob.dat", table(2))]
    arguments = ["point-lens", *map(str, files), "--output", str(tmp_path / "out"), "--name", "OB 1/2"]
    exports = ["--export", "pylima", "--export", "mulensmodel", "--position", "268.5", "-29.25"]
    assert main([*arguments, *exports]) == 0
    answer = capsys.readouterr().out
    assert "t0 [JD]     24575" in answer
    assert "ob 1" in answer
    found = json.loads((tmp_path / "out" / "OB_1_2_point_lens.json").read_text())
    for name, truth in (("t0", T0), ("u0", U0), ("tE", T_E)):
        value = found["parameters"][name]
        assert abs(value["value"] - truth) < 4 * value["error"]
    assert (tmp_path / "out" / "OB_1_2_point_lens.png").read_bytes()[:4] == b"\x89PNG"
    folder = tmp_path / "out" / "OB_1_2_mulensmodel"
    content = yaml.safe_load((folder / "mulensmodel.yaml").read_text())
    first = np.loadtxt(folder / content["photometry_files"][0]["file_name"])
    assert first.shape == (250, 3)
    assert np.abs(first[:, 0] - table()[:, 0]).max() < 2e-6
    assert 22 - 2.5 * np.log10(first[:, 1]) == pytest.approx(table()[:, 1], abs=1e-5)
    compile((tmp_path / "out" / "OB_1_2_pylima" / "fit_pylima.py").read_text(), "fit_pylima.py", "exec")


def test_mulensmodel_reads_what_is_exported(tmp_path: Path) -> None:
    other = pytest.importorskip("MulensModel")
    file = write(tmp_path / "ob.dat", table())
    assert main(["point-lens", str(file), "--output", str(tmp_path), "--export", "mulensmodel"]) == 0
    folder = tmp_path / "ob_mulensmodel"
    content = yaml.safe_load((folder / "mulensmodel.yaml").read_text())
    (entry,) = content["photometry_files"]
    data = other.MulensData(**{**entry, "file_name": str(folder / entry["file_name"])})
    start = {name: float(text.split()[1]) for name, text in content["starting_parameters"].items()}
    assert other.Event(data, other.Model(start)).get_chi2() == pytest.approx(250 - 5, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{}/none.dat"], "none.dat: cannot be read"),
        (["{}/flat.dat"], "no event"),
        (["{}"], "not reduced yet"),
        (["{}/flat.dat", "--exclude", "5", "4"], "the earlier first"),
    ],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    write(tmp_path / "flat.dat", np.stack([np.arange(50) + T0, np.full(50, 18.0), np.full(50, 0.1)], axis=1))
    assert main(["point-lens", *(word.format(tmp_path) for word in arguments)]) != 0
    assert said in capsys.readouterr().err


def test_the_star_of_a_dataset_is_read_without_its_bad_epochs(tmp_path: Path) -> None:
    rows = table()
    n = len(rows)
    flux, error = 10 ** (-0.4 * (rows[:, 1] - 23.5)), np.full(n, 4.0)
    both = {"star_id": np.repeat([0, 7], n), "ra": np.repeat([268.5, 268.6], n), "dec": np.full(2 * n, -29.0)}
    both |= {"time_bjd_tdb": np.tile(rows[:, 0], 2), "flux": np.concatenate([np.full(n, 50.0), flux])}
    both |= {"flux_err": np.tile(error, 2), "mag": np.tile(rows[:, 1], 2), "mag_err": np.tile(rows[:, 2], 2)}
    both |= {"fwhm": np.ones(2 * n), "frame": np.full(2 * n, b"a.fits"), "flags": np.zeros(2 * n, int)}
    both["flags"][n + 5], both["flags"][n + 6] = int(Flag.SATURATED), PSF_FITTED
    folder = tmp_path / "OB" / "sinistro" / "ip"
    folder.mkdir(parents=True)
    Table(both).write(folder / TABLE, path=TABLE_PATH, format="hdf5")
    (folder / RECORD).write_text(json.dumps({"n_measured": n}))
    data = read_dataset(folder, 7)
    assert data.name == "sinistro ip"
    assert len(data.time) == n - 1
    assert data.zero_point == pytest.approx(23.5, abs=1e-6)
    assert main(["point-lens", str(folder), "--star", "7", "--output", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "OB_point_lens.json").read_text())
    assert abs(found["parameters"]["t0"]["value"] - T0) < 4 * found["parameters"]["t0"]["error"]
    with pytest.raises(Unprocessable, match="no star 8"):
        read_dataset(folder, 8)

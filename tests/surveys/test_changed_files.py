"""Files that change after a run, and parameters with which they are read: the next run reads them again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from obsarchive.errors import ConfigError
from surveys.observatory import VirtualObservatory
from surveys.observatory.files import VirtualFiles
from surveys.observatory.origin import Origin
from surveys.observatory.parameters import ParsObservatory
from surveys.project import Project

pytestmark = pytest.mark.usefixtures("survey_store")


@pytest.fixture
def folder(tmp_path: Path, survey_root: Path) -> Path:
    made = tmp_path / "files"
    made.mkdir()
    return made


def write(path: Path, flux: float) -> None:
    rows = [f"{mjd},{flux + 0.01 * np.sin(mjd)},{flux / 50}" for mjd in np.arange(60000.0, 60040.0)]
    path.write_text("\n".join(["mjd,flux,flux_err", *rows]))


def project(folder: Path, name: str = "changes", **pars: Any) -> Project:
    catalog = {"name": ["A", "B"], "ra": [10.0, 20.0], "dec": [1.0, 1.0]}
    files = {"folder": str(folder), "reducer": {"gap": 0}, **pars}
    analysis = {"num_injections": 0, "point_lens": False}
    return Project(
        name, cfg_file=None, obs_names=["FILES"], catalog=catalog, FILES=files, analysis_kwargs=analysis, verbose=0
    )


def flux_of(made: Project, name: str = "A") -> float:
    (curve,) = made.get_source(name).reduced_lightcurves
    return float(np.median(curve.data["flux"]))


def test_a_changed_file_is_read_again_and_a_deleted_one_keeps_its_data(folder: Path) -> None:
    write(folder / "A.csv", 100.0)
    assert project(folder).run().fetched == 2
    again = project(folder).run()
    assert (again.fetched, again.analysed) == (0, 0)
    write(folder / "A.csv", 200.0)
    write(folder / "B.csv", 300.0)  # had no file before
    changed = project(folder).run()
    assert (changed.fetched, changed.analysed, changed.failures) == (2, 2, [])
    assert flux_of(project(folder)) == pytest.approx(200.0, abs=0.1)
    assert flux_of(project(folder), "B") == pytest.approx(300.0, abs=0.1)
    (folder / "A.csv").unlink()
    assert project(folder).run().fetched == 0
    assert flux_of(project(folder)) == pytest.approx(200.0, abs=0.1)


def test_a_unit_that_is_corrected_counts(folder: Path) -> None:
    write(folder / "A.csv", 100.0)
    (folder / "B.csv").write_text("mjd,counts\n60000,5\n")
    first = project(folder).run()
    assert [name for name, _ in first.failures] == ["B"]
    second = project(folder, units={"flux": "mJy"}, columns={"time": "mjd"}).run()
    assert second.fetched == 2
    assert flux_of(project(folder)) == pytest.approx(1e5, rel=1e-3)
    write(folder / "B.csv", 50.0)  # corrected after it failed: no --retry is needed
    third = project(folder, units={"flux": "mJy"}, columns={"time": "mjd"}).run()
    assert (third.fetched, third.failures) == (1, [])


def test_a_folder_that_is_not_there_is_an_error_and_nothing_is_lost(folder: Path) -> None:
    write(folder / "A.csv", 100.0)
    project(folder).run()
    with pytest.raises(ConfigError, match=r"no folder .*/mistyped: correct 'folder' of the observatory FILES"):
        project(folder.parent / "mistyped").run()
    assert project(folder).run().fetched == 0
    assert flux_of(project(folder)) == pytest.approx(100.0, abs=0.1)


def test_a_source_without_brightness_is_told(folder: Path) -> None:
    (folder / "A.csv").write_text("mjd,mag,mag_err\n60000,99.99,9.99\n60001,99.99,9.99\n")
    assert project(folder).run().remarks == [("A", "none of 2 epochs has a brightness")]


def test_each_project_has_the_files_of_its_own_folder(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write(folder / "A.csv", 100.0)
    write(other / "A.csv", 700.0)
    for where, name, flux in ((folder, "one", 100.0), (other, "two", 700.0), (folder, "one", 100.0)):
        project(where, name).run()
        assert flux_of(project(where, name)) == pytest.approx(flux, abs=0.1)
    refused = project(other, "two").run(stages=("reduce", "analyze"))
    assert "FILES was fetched with other parameters, or by another project" in refused.failures[0][1]
    (other / "A.csv").unlink()
    run = project(other, "two").run()
    assert run.empty == 2  # the photometry of the other folder is not taken for that of this one
    assert project(other, "two").get_source("A").reduced_lightcurves == []


class ParsShifted(ParsObservatory):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.level = self.add_par("level", 100.0, float, "flux of all sources")
        self.folder = self.add_par("folder", ".", str, "where they lie", critical=False)


class VirtualShifted(VirtualObservatory):
    """An observatory with a parameter of its own."""

    pars_class = ParsShifted
    name = "SHIFTED"

    def fetch_data_from_observatory(self, cat_row: Any, **_: Any) -> Any:
        mjd = np.arange(60000.0, 60040.0)
        flux = self.pars.level + 0.01 * np.sin(mjd)
        return {"mjd": mjd, "flux": flux, "flux_err": flux / 50}, {"units": {"flux": "uJy"}}


@pytest.mark.usefixtures("survey_root")
def test_parameters_of_an_observatory_of_ones_own() -> None:
    def made(**pars: Any) -> Project:
        analysis = {"num_injections": 0, "point_lens": False}
        catalog = {"name": ["A"], "ra": [10.0], "dec": [1.0]}
        name = f"{VirtualShifted.__module__}.{VirtualShifted.__name__}"
        return Project("own", cfg_file=None, obs_names=[name], catalog=catalog, analysis_kwargs=analysis, SHIFTED=pars)

    assert made().run().fetched == 1
    assert made(num_threads_download=2, folder="there", reducer={"gap": 9}).run().fetched == 0
    assert made(level=500.0).run().fetched == 1
    assert flux_of(made(level=500.0)) == pytest.approx(500.0, abs=0.1)
    assert made(level=500.0).run().fetched == 0


def test_files_of_a_source_among_similar_names(tmp_path: Path) -> None:
    for name in ("A1.csv", "A.csv", "A.b.csv", "[A].csv", "A.csv.bak", "sub/A.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mjd,mag\n60000,15\n")
    found = {
        (files, name): [
            word for word in VirtualFiles(folder=str(tmp_path), files=files).origin(name).state.split()[::3]
        ]
        for files, name in (("{name}.csv", "A"), ("{name}*.csv", "A"), ("{name}.csv", "[A]"), ("s*/{name}.csv", "A"))
    }
    assert list(found.values()) == [["A.csv"], ["A.b.csv", "A.csv", "A1.csv"], ["[A].csv"], ["A.csv"]]


def test_what_differs() -> None:
    origin = Origin("p", "A.csv 1 2")
    assert origin.differs(None)
    assert not Origin("p", "").differs(None)
    assert not origin.is_read_otherwise(None)
    assert not origin.differs(origin._asdict())
    assert origin.differs({"parameters": "p", "state": ""})
    assert not Origin("p", "").differs(origin._asdict())
    assert Origin("q", "").differs(origin._asdict())

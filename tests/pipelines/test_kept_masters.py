"""Masters whose raw files were moved away are kept as long as they are sound."""

from pathlib import Path

import numpy as np
import pytest

from obsarchive.config.model import Calibration as Settings
from obsarchive.config.model import RawRoot
from obsarchive.core.archive_paths import Layout
from obsarchive.daemon.night_files import files_after_look
from obsarchive.daemon.raw_scanner import Scanner
from obsarchive.execution.step_process import execute
from obsarchive.execution.work import ResultState, StepResult
from obsarchive.io import fits_products
from obsarchive.pipeline import Task
from obsarchive.simulation.night import write_raw
from pipelines.night import Calibration

NIGHT = "20260314"


class Darks:
    """A night of darks and the step that makes their master, run as the daemon would."""

    def __init__(self, folder: Path) -> None:
        self.layout, self.tmp, self.raw = Layout(folder / "archive"), folder / "tmp", folder / "raw"
        self.document: dict = {"_id": NIGHT, "raw_data": {"location": ["here", str(self.raw / NIGHT)], "files": []}}
        rng = np.random.default_rng(1)
        self.paths = [self.raw / NIGHT / f"dark_6_{NIGHT}_01000{n}.000000.fits" for n in range(3)]
        for path in self.paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_raw(path, rng.normal(1000, 5, (4, 8, 8)).astype(np.uint16), 4, {"MODE_NUM": 6})

    def look(self) -> None:
        [listing] = Scanner(RawRoot(path=self.raw), 0.0).changed()
        files = files_after_look(listing, self.document["raw_data"]["files"], [self.raw / NIGHT])
        self.document["raw_data"]["files"] = files

    def run(self, step: str, **files: tuple[Path, ...]) -> StepResult:
        calibration = Settings(min_darks=2, min_flats=2)
        places = self.document, self.layout.root, self.tmp
        return execute(Task("t", Calibration, step, *places, files=files, calibration=calibration))

    def make(self) -> list[dict]:
        self.look()
        record = self.run("darks").record
        step = {"state": record["state"], "results": record["results"], "products": record["products"]}
        self.document["calib"] = {"steps": {"darks": step}}
        return record["results"].get("masters", [])

    @property
    def master(self) -> Path:
        return self.layout.calibration(NIGHT) / "dark_6.fits"


@pytest.fixture
def darks(tmp_path: Path) -> Darks:
    return Darks(tmp_path)


def test_a_master_outlives_its_raw_files(darks: Darks) -> None:
    made = darks.make()
    image, header = fits_products.read_fits(darks.master)
    for path in darks.paths:
        path.unlink()
        assert darks.make() == made
        kept, cards = fits_products.read_fits(darks.master)
        assert np.array_equal(kept, image)
        assert cards["NCOMBINE"] == header["NCOMBINE"] == 12


def test_a_damaged_master_is_made_from_the_files_that_are_left(darks: Darks) -> None:
    darks.make()
    darks.paths[0].unlink()
    content = bytearray(darks.master.read_bytes())
    content[-100] ^= 64
    darks.master.write_bytes(content)
    assert [master["frames"] for master in darks.make()] == [8]


def test_a_lost_database_makes_no_poorer_master(darks: Darks) -> None:
    made = darks.make()
    for path in darks.paths[:2]:
        path.unlink()
        darks.document["raw_data"]["files"] = []  # a new database knows only what is there
        assert darks.make() == made
    assert fits_products.read_fits(darks.master)[1]["RAW003"] == darks.paths[2].name


def test_other_files_make_another_master(darks: Darks) -> None:
    darks.make()
    darks.paths[0].unlink()
    write_raw(
        darks.paths[0].with_name(f"dark_6_{NIGHT}_020000.000000.fits"),
        np.ones((4, 8, 8), np.uint16),
        4,
        {"MODE_NUM": 6},
    )
    assert [master["frames"] for master in darks.make()] == [12]


def test_files_that_went_since_they_were_listed_are_waited_for(darks: Darks) -> None:
    darks.look()
    for path in darks.paths:
        path.unlink()
    ended = darks.run("darks", dark=tuple(darks.paths))
    assert ended.state is ResultState.WAITING
    assert "dark_6_20260314_010000.000000.fits has gone since" in ended.message
    darks.look()
    again = darks.run("darks")
    assert again.state is ResultState.LACKING
    assert "6: 0 good files, 3 gone from the raw folder with 0 good frames" in again.message


def test_flats_wait_for_a_master_dark_that_went(darks: Darks) -> None:
    for number in range(2):
        path = darks.raw / NIGHT / f"flat_0_Si_{NIGHT}_03000{number}.000000.fits"
        write_raw(path, np.full((4, 8, 8), 9000, np.uint16), 4, {"MODE_NUM": 0})
    for path in darks.paths:
        write_raw(path.with_name(path.name.replace("dark_6", "dark_0")), np.ones((4, 8, 8), np.uint16), 4, {})
    darks.make()
    master = darks.layout.calibration(NIGHT) / "dark_0.fits"
    content = master.read_bytes()
    master.unlink()
    ended = darks.run("flats")
    assert ended.state is ResultState.WAITING
    assert "dark_0.fits has gone" in ended.message
    master.write_bytes(content)
    assert darks.run("flats").state is ResultState.DONE


def test_an_empty_flat_is_named_also_where_there_is_no_dark(darks: Darks) -> None:
    flats = [darks.raw / NIGHT / f"flat_0_Si_{NIGHT}_03000{number}.000000.fits" for number in range(2)]
    for path in darks.paths:
        path.unlink()
    flats[0].touch()
    darks.look()
    ended = darks.run("flats")
    assert ended.state is ResultState.REJECTED
    assert f"Si: 0 good files, 1 bad (the last: {flats[0].name}: " in ended.message
    assert "no master dark of mode 0 to subtract" in ended.message
    write_raw(flats[1], np.full((4, 8, 8), 9000, np.uint16), 4, {"MODE_NUM": 0})
    darks.look()
    ended = darks.run("flats")
    assert (ended.state, ended.record["lacks"]) == (ResultState.LACKING, "dark files")
    assert "Si: 1 good files, 1 bad (the last: " in ended.message

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

    def make(self) -> list[dict]:
        [listing] = Scanner(RawRoot(path=self.raw), 0.0).changed()
        files = files_after_look(listing, self.document["raw_data"]["files"], [self.raw / NIGHT])
        self.document["raw_data"]["files"] = files
        calibration = Settings(min_darks=2)
        task = Task("t", Calibration, "darks", self.document, self.layout.root, self.tmp, calibration=calibration)
        record = execute(task).record
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

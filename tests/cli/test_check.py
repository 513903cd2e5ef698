"""What ``--check`` and the daemon say of raw files that the adapter did not understand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from bson import Decimal128

from obsarchive.cli.check import _due, check
from obsarchive.config.loading import load
from obsarchive.config.model import Config
from obsarchive.core.documents import Observation
from obsarchive.core.rules import compile_rule
from obsarchive.daemon.ingest import Ingest
from obsarchive.daemon.raw_scanner import Scanner
from obsarchive.database.connect import open_store
from obsarchive.database.embedded_mongod import Server
from obsarchive.errors import ConfigError
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.store import Store
from tests.leases import archive_on

NIGHT = "20260314"
FOCUS = "IMAGETYP is 'focus', a kind that no setting names: add it to science, bias, dark, flat, seeing or ignored"


def write(folder: Path, kind: str, number: int, **keys: object) -> None:
    header = fits.Header({"IMAGETYP": kind, "DATE-OBS": f"2026-03-14T01:00:{number:02d}", "EXPTIME": 30.0, **keys})
    fits.PrimaryHDU(np.zeros((4, 5), np.uint16), header).writeto(folder / f"{kind}_{number}.fits")


@pytest.fixture
def config(tmp_path: Path, mongo_server: Server, database_name: str) -> Config:
    """Four science frames, three of them without a filter, two darks, a flat without a filter, and other files."""
    raw = {"path": "raw", "instrument": "obsarchive.instruments.HeaderDriven"}
    paths = {"raw": [raw], "archive": "archive", "tmp": "tmp", "logs": "logs"}
    uri = mongo_server.uri.partition("&w=")[0]  # the rest is added to every address
    database = {"mode": "external", "uri": uri, "db": database_name}
    content = {"paths": paths, "database": database, "daemon": {"settle_time_s": 0}, "pipelines": []}
    (tmp_path / "config.json").write_text(json.dumps(content))
    night = tmp_path / "raw" / NIGHT
    night.mkdir(parents=True)
    write(night, "object", 0, OBJECT="M67", FILTER="V")
    for number in (1, 2, 3):
        write(night, "object", number, OBJECT="M67")
    write(night, "dark", 4)
    write(night, "dark", 5)
    write(night, "flat", 6)
    write(night, "focus", 7)
    for name in ("notes.txt", "log.txt", "weather.txt"):
        (night / name).write_text("")
    return load(tmp_path / "config.json")


def test_check_says_as_what_the_files_are_taken(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(config, ()) == 0
    night = config.paths.raw[0].path / NIGHT
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"{NIGHT}: 2 observation(s), due now: nothing",
        f"  {night}: 4 science, 2 dark, 1 flat, 4 ignored (focus_7.fits, log.txt, notes.txt, …)",
        f"  1 raw file(s) not understood (focus_7.fits): {FOCUS}",
        "  1 flat frame(s) without keyword FILTER: filter none",
        "  3 science frame(s) without keyword FILTER: filter none",
    ]


def test_check_says_that_the_sky_viewer_is_missing(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    folder = config.paths.tmp / "aladin-lite"
    server = config.server.model_copy(update={"aladin_lite": folder})
    with_viewer = config.model_copy(update={"server": server})
    check(with_viewer, ())
    text = (
        f"server.aladin_lite: {folder} has no dist/aladin.js, so there is no sky viewer; run `npm install aladin-lite@"
    )
    assert capsys.readouterr().out.splitlines()[1].startswith(text)
    (folder / "dist").mkdir(parents=True)
    (folder / "dist" / "aladin.js").touch()
    check(with_viewer, ())
    assert "aladin" not in capsys.readouterr().out


def test_check_says_what_is_not_looked_at(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    root = config.paths.raw[0].path
    for name in ("2026-03-15", "19980301", "plots", f"{NIGHT}/LIGHT", "20260316/LIGHT"):
        (root / name).mkdir(parents=True)
    for folder in ("2026-03-15", ".", f"{NIGHT}/LIGHT", "20260316/LIGHT"):
        write(root / folder, "object", 0)
    check(config, ())
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == [
        f"{root}: 1 night(s) before 20000101 not looked at: daemon.archiving_start_date (19980301)",
        f"{root}: 1 folder(s) with FITS files not looked at, expected a night yyyymmdd as name (2026-03-15)",
        f"{root}: 1 FITS file(s) not looked at, expected in a folder of their night, yyyymmdd (object_0.fits)",
    ]
    reason = "a folder with FITS files: they are expected in the folder of the night itself"
    assert [line for line in lines if "LIGHT)" in line] == [
        f"  {root}/20260316: 1 ignored (LIGHT)",
        f"  1 raw file(s) not understood (LIGHT): {reason}",
    ]


def test_the_daemon_warns_once_for_a_night(config: Config, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    ingest, scanner = Ingest(config, store), Scanner(config.paths.raw[0], 0.0)
    ingest.night(next(scanner.changed()))
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert sorted(text.partition(": ")[2] for text in warned) == [
        f"focus_7.fits is not understood: {FOCUS}",
        "headers: 1 flat frame(s) without keyword FILTER: filter none",
        "headers: 3 science frame(s) without keyword FILTER: filter none",
    ]
    write(config.paths.raw[0].path / NIGHT, "object", 8, OBJECT="M67")
    ingest.night(next(scanner.changed()))
    assert [record.levelname for record in caplog.records].count("WARNING") == len(warned)


class Toy(Pipeline):
    """Three steps, two of them one after the other."""

    name = "toy"

    @step(makes=["{id}_a.fits"])
    def first(self, work: Workspace) -> dict[str, Any]:
        return {}

    @step(makes=["{id}_b.fits"], after=["first"])
    def second(self, work: Workspace) -> dict[str, Any]:
        return {}

    @step(makes=["{id}_c.fits"])
    def other(self, work: Workspace) -> dict[str, Any]:
        return {}


TRUE = [True, 1, 1.0, "true", " Yes ", "y", "1.0", Decimal128("1")]


@pytest.mark.parametrize("value", [*TRUE, False, 0, "no", None, "x"])
@pytest.mark.parametrize("of_step", [False, True])
def test_requests_typed_by_hand_are_announced_and_applied_alike(store: Store, value: object, of_step: bool) -> None:
    chain = [ChainEntry(Toy(), compile_rule("True"), {}, {})]
    done = {"state": "done", "retries": 0}
    block = {"status": {"done": True}, "steps": {name: dict(done) for name in Toy.steps}}
    if of_step:
        block["steps"]["first"]["redo"] = value
    else:
        block["status"]["force_redo"] = value
    name = "3_a_VIC_lp600_o_20260314_010000.000000"
    store.observations.collection.insert_one({"_id": name, "pipelined": {"toy": block}})
    observation = Observation(store.observations.find(name) or {})
    wanted = value in TRUE
    announced = sorted(step.name for _, step in _due(observation, chain, 3))
    assert announced == ((["first", "second"] if of_step else ["first", "other", "second"]) if wanted else [])
    if not of_step:
        assert store.observations.apply_redo(name, "toy", Toy.steps) is wanted


def test_check_refuses_the_database_of_another_archive(config: Config) -> None:
    with open_store(config) as store:
        store.lease.take("run", archive_on("elsewhere"), "", 60.0)
    with pytest.raises(ConfigError, match="is that of the archive /archive on elsewhere"):
        check(config, ())

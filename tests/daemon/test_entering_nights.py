"""Nights on faulty disks, below several raw roots, and while files are moved away: nothing is lost or done again."""

import errno
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from obsarchive.config.model import RawRoot
from obsarchive.core.step_state import State
from obsarchive.daemon import ingest, raw_scanner
from obsarchive.daemon.night_files import OF_WHICH
from obsarchive.daemon.raw_watcher import RawWatcher
from obsarchive.daemon.reconcile import Reconciler
from obsarchive.daemon.work_queue import WorkQueue
from obsarchive.errors import NoSpace, ServiceUnavailable
from obsarchive.io import compression
from obsarchive.store import Store
from tests.daemon.test_ingest import NIGHT, OBS, OTHER, Site

DARK, FLAT = "dark_6_20160925_01000{}.000000.fits", "flat_0_Si_20160925_01000{}.000000.fits"


class Watched(Site):
    """An archive below two raw roots, watched as the daemon does, with a clock that can be set."""

    def __init__(self, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, store)
        for name in ("raw", "raw2"):
            (folder / name).mkdir()
        self.now, self.monkeypatch = 1000.0, monkeypatch
        self.watch_roots(RawRoot(path=folder / "raw"), RawRoot(path=folder / "raw2"))

    def watch_roots(self, *roots: RawRoot) -> None:
        paths = self.config.paths.model_copy(update={"raw": roots})
        daemon = self.config.daemon.model_copy(update={"settle_time_s": 0.0})
        self.config = self.config.model_copy(update={"paths": paths, "daemon": daemon})
        self.ingest = ingest.Ingest(self.config, self.store)
        self.watch = RawWatcher(self.config, self.ingest)
        for scanner in self.watch.scanners:
            self.monkeypatch.setattr(scanner, "_monotonic", lambda: self.now)

    def raw(self, name: str, *options: Any, **cards: Any) -> Path:
        path = super().raw(name, *options, **cards)
        moved = path.parent.stat().st_mtime_ns + 1_000_000_000
        os.utime(path.parent, ns=(moved, moved))
        return path

    def look(self, after_s: float = 10.0) -> None:
        self.now += after_s
        while not self.watch.look():
            pass

    def look_at_all(self) -> None:
        self.look(raw_scanner.FULL_LOOK_S)


@pytest.fixture
def site(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(tmp_path, store, monkeypatch)


# ---------------------------------------------------------------------------------------------------- faulty disks


def full_disk(*_: object) -> None:
    raise NoSpace("no space left for it")


def test_what_a_full_disk_kept_out_is_entered_at_the_next_look(site, monkeypatch):
    site.raw(f"{OBS}.fits")
    site.raw(f"{OTHER}.fits")
    site.raw(DARK.format(1))
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "write_sidecar", full_disk)
        site.look()
        assert {problem.reason for problem in site.night().problems()} == {"not entered: no space left for it"}
        assert site.watch.unsettled
        assert len(site.night().raw_files("dark")) == 1
    site.look()
    assert site.store.observations.find(OBS)
    assert site.store.observations.find(OTHER)
    assert site.night().problems() == []
    assert not site.watch.unsettled


def test_a_night_that_cannot_be_entered_is_tried_at_growing_intervals(site, monkeypatch):
    site.raw(f"{OBS}.fits")
    tries = []
    monkeypatch.setattr(site.ingest, "night", lambda listing: tries.append(site.now) or full_disk())
    for _ in range(40):
        site.look()
    pauses = [later - former for former, later in itertools.pairwise(tries)]
    assert pauses == [10.0, 10.0, 30.0, 70.0, 150.0]
    assert not site.watch.unsettled


def test_one_error_of_reading_costs_no_header_for_ever(site, monkeypatch):
    path = site.raw(f"{OBS}.fits")
    really_open = Path.open

    def failing(self: Path, *options: Any, **more: Any) -> Any:
        if self == path:
            raise OSError(errno.EIO, "Input/output error")
        return really_open(self, *options, **more)

    with monkeypatch.context() as patch:
        patch.setattr(compression.Path, "open", failing)
        site.look()
    assert site.observation().document["fits_header"] == []
    assert [problem.name for problem in site.night().problems()] == [f"{OBS}.fits"]
    site.look()
    assert site.observation().document["coordinates"]["ra_deg"] == pytest.approx(306.0)
    assert (site.observation().mode, site.observation().shape) == ("6", (4, 6))
    assert site.night().problems() == []


def test_a_file_that_is_no_fits_is_not_tried_for_ever(site):
    site.raw(f"{OBS}.fits").write_bytes(b"no FITS at all")
    site.look()
    assert site.observation().document["fits_header"] == []
    assert not site.watch.unsettled


# ------------------------------------------------------------------------------------------------- two raw roots


def test_calibration_below_two_roots_is_all_listed(site):
    site.raw(DARK.format(1))
    site.raw(DARK.format(2), root="raw2")
    site.raw(FLAT.format(1), root="raw2")
    site.look()
    night = site.night()
    assert [file["path"].parent.parent.name for file in night.raw_files("dark")] == ["raw", "raw2"]
    assert all(file["path"].exists() for kind in ("dark", "flat") for file in night.raw_files(kind))
    before = night.raw_signature("dark"), night.raw_signature("flat")
    site.look_at_all()
    site.raw(f"{OBS}.fits")
    site.look()
    assert (site.night().raw_signature("dark"), site.night().raw_signature("flat")) == before


@pytest.mark.parametrize("order", [("raw", "raw2"), ("raw2", "raw")])
def test_the_first_root_wins_and_the_conflict_is_seen(site, order):
    for root in order:
        site.raw(f"{OBS}.fits", 2 if root == "raw" else 3, root=root)
        site.raw(DARK.format(1), 2 if root == "raw" else 3, root=root)
        site.look()
    site.look_at_all()
    assert site.observation().raw_folder == site.folder / "raw" / NIGHT
    assert [file["path"].parent.parent.name for file in site.night().raw_files("dark")] == ["raw"]
    problems = {problem.name: problem.reason for problem in site.night().problems() if "raw2" in problem.folder}
    assert f"{site.folder}/raw/{NIGHT} holds the same observation with other contents" in problems[f"{OBS}.fits"]
    assert "has other contents and counts: remove the wrong one" in problems[DARK.format(1)]
    shutil.rmtree(site.folder / "raw2" / NIGHT)
    (site.folder / "raw2" / NIGHT).mkdir()
    site.look_at_all()
    assert site.night().problems() == []


def test_two_copies_are_one(site):
    for name in (f"{OBS}.fits", DARK.format(1)):
        path = site.raw(name)
        (site.folder / "raw2" / NIGHT).mkdir(exist_ok=True)
        shutil.copy(path, site.folder / "raw2" / NIGHT / name)
    site.look()
    before = site.observation().document
    site.look_at_all()
    assert site.night().problems() == []
    assert site.observation().document == before
    assert len(site.night().raw_files("dark")) == 1


# --------------------------------------------------------------------------------------------- files moved away


def test_calibration_files_that_are_moved_away_stay_listed(site):
    paths = [site.raw(DARK.format(number)) for number in range(4)]
    site.look()
    before = site.night().raw_signature("dark")
    for path in paths:
        path.unlink()
        site.look()
        listed, _, present = site.night().raw_signature("dark").partition(OF_WHICH)
        assert listed == before
        assert present != before, "what was made from the others is made again when they come back"
    assert [file["missing"] for file in site.night().raw_files("dark")] == [True] * 4
    site.raw(FLAT.format(1))
    site.look()
    assert len(site.night().raw_files("dark")) == 4
    site.raw(DARK.format(7))
    site.look()
    assert [file["name"] for file in site.night().raw_files("dark")] == [DARK.format(7)]
    assert site.night().raw_signature("dark") != before


def test_an_observation_that_is_moved_away_file_by_file_stays_done(site):
    paths = [site.raw(f"{OBS}{part}.fits") for part in ("", "_0", "_1")]
    site.look()
    site.reduce()
    before = site.observation().raw_signature
    for path in reversed(paths):
        path.rename(site.folder / path.name)
        site.look()
        assert site.observation().raw_signature == before
        assert site.observation().raw_missing
        assert site.observation().pipeline("toy").step("write").state is State.DONE
    for path in paths:
        (site.folder / path.name).rename(path)
    site.look()
    assert not site.observation().raw_missing


def test_the_rest_of_a_sequence_is_no_new_observation(site):
    site.watch_roots(RawRoot(path=site.folder / "raw", instrument="obsarchive.instruments.header_driven.HeaderDriven"))
    cards = {"IMAGETYP": "object", "OBJECT": "Vega", "FILTER": "V", "EXPTIME": 3.0}
    paths = [site.raw(f"v{n}.fits", 1, **cards, **{"DATE-OBS": f"2016-09-25T03:0{n}:00"}) for n in range(3)]
    site.look()
    (name,) = site.store.observations.raw_data_of(NIGHT)
    for path in paths:
        path.unlink()
        site.look_at_all()
        assert list(site.store.observations.raw_data_of(NIGHT)) == [name]
        assert len(site.observation(name).raw_files) == 3
        assert site.observation(name).raw_missing


def test_a_look_is_interrupted_after_each_night_when_its_time_is_over(site: Watched) -> None:
    others = [f"201609{day:02d}" for day in range(20, 25)]
    site.raw(f"{OBS}.fits")
    for night in others:
        shutil.copytree(site.folder / "raw" / NIGHT, site.folder / "raw" / night)
        path = site.folder / "raw" / night / f"{OBS}.fits"
        path.rename(path.with_name(path.name.replace(NIGHT, night)))
    entered = []
    while not site.watch.look(seconds=0.0):
        assert site.watch.is_under_way
        assert site.watch.unsettled, "a run that ends with the work does not end now"
        entered.append(sorted(night.id for night in site.store.nights.all()))
    assert not site.watch.is_under_way
    assert [nights[0] for nights in entered] == [NIGHT, *others[::-1]]
    assert [len(nights) for nights in entered] == [1, 2, 3, 4, 5, 6]
    assert site.watch.look(seconds=0.0), "nothing is new"


def test_an_outage_in_the_middle_of_a_look_loses_no_night(site: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    site.raw(f"{OBS}.fits")
    shutil.copytree(site.folder / "raw" / NIGHT, site.folder / "raw" / "20160924")
    assert not site.watch.look(seconds=0.0)
    enter, failures = site.ingest.night, itertools.count()

    def failing(listing):
        if next(failures) == 0:
            raise ServiceUnavailable("away")
        enter(listing)

    monkeypatch.setattr(site.ingest, "night", failing)
    with pytest.raises(ServiceUnavailable):
        site.watch.look()
    assert not site.watch.is_under_way
    site.look()
    assert [night.id for night in site.store.nights.all()] == [NIGHT, "20160924"]


def test_a_database_that_is_dropped_in_the_middle_of_a_look_is_filled_again(site: Watched) -> None:
    site.raw(f"{OBS}.fits")
    shutil.copytree(site.folder / "raw" / NIGHT, site.folder / "raw" / "20160924")
    assert not site.watch.look(seconds=0.0)
    site.lose_the_database()
    site.watch.forget()
    site.look()
    assert [night.id for night in site.store.nights.all()] == [NIGHT, "20160924"]


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("lost", ["observation", "night", "both", "name of the night"])
def test_what_somebody_removed_from_the_database_comes_back(site: Watched, lost: str, damaged: bool) -> None:
    site.raw(f"{OBS}.fits")
    site.raw(f"dark_6_{NIGHT}_010000.000000.fits")
    site.look()
    site.reduce()
    site.store.observations.set_fields(OBS, {"comment": "pretty"})
    reconciler = Reconciler(WorkQueue(site.store, [], [], 3), site.layout, site.ingest.edits, site.watch.restore)
    reconciler.keep_up(OBS)
    if damaged:
        site.layout.sidecar(NIGHT, OBS).write_bytes(b"{")
    if lost in ("observation", "both"):
        site.store.database["objects"].delete_one({"_id": OBS})
    if lost in ("night", "both"):
        site.store.database["aux"].delete_one({"_id": NIGHT})
    if lost == "name of the night":
        site.store.observations.set_fields(OBS, {"night": int(NIGHT)})
    for _ in range(2):  # it may be lost again
        list(reconciler.audit())
        site.look()
        [found] = site.store.observations.of_night(NIGHT)
        assert (found.raw_missing, found.document["comment"]) == (False, "pretty")
        assert found.pipeline("toy").step("write").state is State.DONE
        assert len(site.night().raw_files("dark")) == 1
        list(reconciler.audit())
        site.store.database["objects"].delete_one({"_id": OBS})


def test_what_cannot_come_back_is_tried_once(site: Watched) -> None:
    site.layout.sidecar(NIGHT, OBS).parent.mkdir(parents=True)
    tried = []
    reconciler = Reconciler(WorkQueue(site.store, [], [], 3), site.layout, site.ingest.edits, lambda: tried.append(1))
    site.store.nights.touch(NIGHT)
    for _ in range(3):
        list(reconciler.audit())
    assert tried == [1]

"""A small archive that faults are done to, and what must hold in the end whatever was done."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from obsarchive.core.documents import Night, Observation
from obsarchive.core.package_texts import TEXTS
from obsarchive.core.step_state import State
from obsarchive.core.values import plain_text
from obsarchive.daemon.tarballs import members
from obsarchive.simulation.night import write_raw
from obsarchive.store import Store
from tests.daemon.conftest import CONFIG, NIGHT, PROJECT, Site, products_below, wait_for
from tests.faults.chain import ORDERS
from tests.faults.rooms import Room
from tests.forked import DAEMON, Forked

TARGETS = ("Vega", "KOI-2", "HD_3")
SIDE, N_FRAMES = 32, 3
HEADER = {"MODE_NUM": 6, "EXPOSURE": 90.0, "MAGNITUD": 11.2, "TELRA": "20:24:00.00", "TELDEC": "-08:30:00.0"}
SETTINGS: dict[str, Any] = {
    **CONFIG,
    "daemon": {**CONFIG["daemon"], "max_retries": 0, "loop_interval_s": 0.2, "audit_interval_s": 0.5},
    "calibration": {"min_darks": 2, "min_flats": 2},
    "pipelines": [{"class": "pipelines.night.Calibration"}, {"class": "tests.faults.chain.Sum"}],
}
STEPS = ("add", "note")
FINAL = {State.DONE, State.REJECTED, State.FAILED, State.LACKING}


def raw_name(target: str, number: int = 0, night: str = NIGHT) -> str:
    """Return the name of an observation."""
    return f"3_{target}_VIC_Si_o_{night}_0{3 + number // 3600}{number // 60 % 60:02d}{number % 60:02d}.000000"


def write_science(folder: Path, name: str, seed: int = 0, ending: str = ".fits.bz2", **cards: Any) -> Path:
    """Write a raw file of noise around a level."""
    rng = np.random.default_rng(seed)
    frames = rng.poisson(1500, (N_FRAMES, SIDE, SIDE)).astype(np.uint16)
    path = folder / f"{name}{ending}"
    folder.mkdir(parents=True, exist_ok=True)
    write_raw(path, iter(frames), N_FRAMES, HEADER | cards)
    return path


def write_calibration(folder: Path, night: str = NIGHT) -> None:
    """Write darks and flats of a night."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    for name, level in {"dark_0": 1000, "dark_6": 1000, "flat_0_Si": 20_000}.items():
        for number in range(2):
            frames = rng.poisson(level, (2, SIDE, SIDE)).astype(np.uint16)
            mode = {"MODE_NUM": 6 if name == "dark_6" else 0}
            write_raw(folder / f"{name}_{night}_0100{number:02d}.000000.fits", iter(frames), 2, mode)


def write_raw_night(folder: Path) -> None:
    """Write the raw night of all these tests."""
    write_calibration(folder)
    for number, target in enumerate(TARGETS):
        write_science(folder, raw_name(target, number), number)


@dataclass
class FaultSite(Site):
    """An archive whose daemons run in a room, or on a machine of their own."""

    room: Room | None
    first: Callable[[], None] | None = None
    """What a new daemon does first: it enters the room, unless it starts workers of its own."""
    started: list[Forked] = field(default_factory=list)

    def start(self, *options: str) -> Forked:
        """Start the daemon in a process group of its own."""
        environment, log = {"PYTHONPATH": str(PROJECT)}, self.log
        words = [str(self.config_file), *options]
        self.started.append(Forked(DAEMON, words, self.folder, environment, log=log, first=self.first))
        return self.started[-1]

    def close(self) -> None:
        """Kill what still runs, and let go what is held."""
        for daemon in self.started:
            daemon.kill()
        shutil.rmtree(self.folder / ORDERS, ignore_errors=True)

    def run(self, *options: str, expect: int = 0, timeout: float = 60.0) -> str:
        """Run the daemon once and return what it says."""
        before = len(self.said)
        daemon = self.start(*(options or ("--once",)))
        daemon.communicate(timeout)
        assert daemon.returncode == expect, self.said[before:]
        return self.said[before:]

    @contextmanager
    def running(self, expect: int = 0) -> Iterator[Forked]:
        """Run the daemon while the context lasts; then it is terminated, and ends well."""
        daemon = self.start()
        try:
            yield daemon
            os.kill(daemon.pid, signal.SIGTERM)
            daemon.wait(90)
            assert daemon.returncode == expect, self.said
        finally:
            daemon.kill()
            daemon.communicate()

    @property
    def log(self) -> Path:
        return self.folder / "said.txt"

    @property
    def said(self) -> str:
        """What all daemons said so far."""
        return self.log.read_text() if self.log.exists() else ""

    def waits_for_words(self, words: str, seconds: float = 120.0) -> None:
        """Wait until a daemon says something."""
        wait_for(lambda: words in self.said, seconds)

    def order(self, target: str, step: str, order: str) -> Path:
        """Order what a step does."""
        path = self.folder / ORDERS / f"{target}.{step}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(order)
        return path

    def held(self, target: str = "Vega", step: str = "add", seconds: float = 120.0) -> int:
        """Wait until a step is held; return its process."""
        note = self.folder / ORDERS / f"{target}.{step}.pid"
        wait_for(lambda: note.exists() and note.read_text(), seconds)
        return int(note.read_text())

    def release(self, target: str = "Vega", step: str = "add") -> None:
        """Let a held step go on."""
        for path in (self.folder / ORDERS).glob(f"{target}.{step}*"):
            path.unlink()

    def step(self, target: str, name: str = "add") -> dict[str, Any]:
        """Return the record of a step."""
        with self.store() as store:
            return step_of(store, target, name)

    def status(self) -> dict[str, Any]:
        """Return what the daemon reports."""
        with self.store() as store:
            return store.jobs.daemon() or {}

    def waits_until_settled(self, n_observations: int = len(TARGETS), seconds: float = 120.0) -> None:
        """Wait until nothing is due any more and everything is packed."""
        with self.store() as store:
            wait_for(lambda: is_settled(store, n_observations), seconds)


def step_of(store: Store, target: str, name: str = "add") -> dict[str, Any]:
    """Return the record of a step; empty before its first claim."""
    document = store.database["objects"].find_one({"name": target}) or {}
    found: dict[str, Any] = document.get("pipelined", {}).get("sum", {}).get("steps", {}).get(name, {})
    return found


def is_settled(store: Store, n_observations: int) -> bool:
    """Whether so many observations are known, and nothing is due for any."""
    documents = list(store.database["objects"].find({}, {"distributed": 1, "look_again": 1}))
    packed = all(each["distributed"]["status"] is True and not each.get("look_again") for each in documents)
    running = (store.jobs.daemon() or {}).get("running")
    return len(documents) == n_observations and packed and not running and not _enqueued(store)


def _enqueued(store: Store) -> list[str]:
    found = []
    for collection in ("objects", "aux"):
        for document in store.database[collection].find():
            blocks = document.get("pipelined") or {"calib": document.get("calib", {})}
            for pipeline, block in blocks.items():
                steps = block.get("steps", {}).items()
                found += [f"{document['_id']} {pipeline}.{name}" for name, step in steps if step["state"] == "enqueued"]
    return found


def assert_nothing_is_lost(
    site: FaultSite,
    clean: Site,
    failed: Collection[str] = (),
    besides: Collection[str] = (),
    archive: Path | None = None,
) -> None:
    """Assert what must hold after any faults and some quiet time.

    The archive's tree equals that of a clean run but for dates; every raw file is processed, or rejected or failed with
    a reason that people can read; nothing unfinished is left; no step is enqueued.

    Parameters
    ----------
    site : FaultSite
        The archive that suffered.
    clean : Site
        One that was reduced from the same raw files without any fault.
    failed : collection of str
        Targets that must not have succeeded; all others must.
    besides : collection of str
        Targets and nights that the clean run did not have.
    archive : Path, optional
        Where the tree is seen from here.
    """
    root = archive or site.layout.root
    others = {*failed, *besides}
    assert_nothing_is_left_over(site, root)
    assert _without(products_below(root), others) == _without(products_below(clean.layout.root), others)
    with site.store() as store:
        _assert_all_accounted_for(site, store, failed)


def assert_nothing_is_left_over(site: FaultSite, root: Path) -> None:
    """Assert that no file is unfinished, no step is enqueued, and tarballs hold what is there.

    Parameters
    ----------
    site : FaultSite
        The archive.
    root : Path
        Where its tree is seen from here.
    """
    left = [path for folder in (root, site.folder) for path in folder.rglob("*.part")]
    left += [path for name in ("steps", "unpacked") for path in (site.folder / "tmp" / name).glob("*")]
    assert left == []
    for tarball in root.rglob("*.tar.bz2"):
        folder = tarball.parent
        shown = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
        on_disk = {f"{folder.name}/{path.relative_to(folder)}" for path in shown}
        texts = {f"{folder.name}/{name}" for name in TEXTS}
        assert set(members(tarball)) == on_disk - {f"{folder.name}/{tarball.name}"} | texts
    with site.store() as store:
        assert _enqueued(store) == []


def _without(tree: Mapping[str, str], others: Collection[str]) -> dict[str, str]:
    """Return the products that are not of some targets and nights."""
    return {
        path: value
        for path, value in tree.items()
        if not any(path.startswith(f"{name}/") or f"_{name}_VIC" in path for name in others)
    }


def _assert_all_accounted_for(site: FaultSite, store: Store, failed: Collection[str]) -> None:
    """Assert that every raw file is processed, or that its observation says why not."""
    processed: set[str] = set()
    for document in store.database["objects"].find():
        found = Observation(document)
        records = {name: found.pipeline("sum").step(name) for name in STEPS}
        bad = [record for record in records.values() if record.state in (State.REJECTED, State.FAILED)]
        assert bool(bad) == (document["name"] in failed), (document["_id"], records)
        assert all(record.message and "Traceback" not in record.message for record in bad)
        assert bad or {record.state for record in records.values()} == {State.DONE}, (document["_id"], records)
        processed |= set(document["raw_data"]["data"])
    for document in store.database["aux"].find():
        night = Night(document)
        processed |= {file["path"].name for kind in ("dark", "flat", "seeing") for file in night.raw_files(kind)}
        processed |= {problem.name for problem in night.problems()} | set(document["raw_data"].get("ignored", ()))
    for root in site.config.paths.raw:
        assert {plain_text(path.name) for path in root.path.glob("*/*") if path.is_file()} <= processed


def make_site(folder: Path, room: Room | None, services: Mapping[str, Any]) -> FaultSite:
    """Make an archive without raw files; its daemons run in a room, if there is one."""
    site = FaultSite(folder, room, room.enter() if room else None)
    (folder / "raw").mkdir(parents=True)
    telescope = {name: {**each, "detector_px": [SIDE, SIDE]} for name, each in SETTINGS["telescope"].items()}
    sections = {name: {**SETTINGS.get(name, {}), **keys} for name, keys in services.items()}
    site.config_file.write_text(json.dumps({**SETTINGS, "telescope": telescope, **sections}))
    return site


def copy_tree(clean: Site, folder: Path, room: Room, services: Mapping[str, Any]) -> FaultSite:
    """Copy an archive that was reduced before; its database stays behind."""
    site = make_site(folder, room, services)
    for name in ("raw", "archive"):
        ignored = shutil.ignore_patterns(".db", ".master.lock")
        shutil.copytree(clean.folder / name, folder / name, ignore=ignored, dirs_exist_ok=True)
    return site

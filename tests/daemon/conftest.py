"""A small simulated night, and the daemon run on it as its operator would."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits

from obsarchive.config.loading import load
from obsarchive.config.model import Config
from obsarchive.core.archive_paths import Layout
from obsarchive.database.connect import open_store
from obsarchive.database.embedded_mongod import Server
from obsarchive.simulation.night import NightPlan, Target, write_night
from obsarchive.simulation.scenes import Faults, Scene, Star
from obsarchive.store import Store
from tests.forked import DAEMON, Forked
from tests.once import made_once
from tests.services import running_services

PROJECT = Path(__file__).resolve().parents[2]
NIGHT = "20260314"
SHAPE = (128, 128)
TARGETS = (
    Target("3", "HIP_1", "Si", Scene((Star(),), zero_flux_e=4e4), n_frames=24, shape=SHAPE),
    Target(
        "4.1",
        "KOI-2",
        "Si",
        Scene((Star(), Star(0.4, 0.3, 2.0)), zero_flux_e=4e4),
        n_frames=24,
        shape=SHAPE,
        faults=Faults(black=(3,), slipped=(7,)),
    ),
    Target("4.1", "void", "Si", Scene((), zero_flux_e=1.0), n_frames=12, shape=SHAPE),
)


@pytest.fixture(scope="session")
def raw_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night of 128x128 frames: a single star, a binary with faulty frames, an empty field, darks and flats."""
    plan = NightPlan(NIGHT, TARGETS, dark_frames=3, flat_frames=2, n_seeing=1, detector=SHAPE, seed=3)
    return made_once(tmp_path_factory, "raw", lambda folder: write_night(folder, plan)) / NIGHT


@dataclass
class Site:
    """An archive of its own, and the daemon that keeps it."""

    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "config.json"

    @property
    def config(self) -> Config:
        return load(self.config_file)

    @property
    def night(self) -> Path:
        return self.folder / "raw" / NIGHT

    @property
    def layout(self) -> Layout:
        return Layout(self.folder / "archive")

    def observation(self, word: str) -> str:
        """Name of the observation whose name holds a word."""
        return next(path.name.removesuffix(".fits.bz2") for path in sorted(self.night.iterdir()) if word in path.name)

    def change(self, **sections: dict[str, Any]) -> None:
        """Change keys of sections of the configuration."""
        raw = json.loads(self.config_file.read_text())
        for name, keys in sections.items():
            raw[name] = {**raw.get(name, {}), **keys} if isinstance(keys, dict) else keys
        self.config_file.write_text(json.dumps(raw))

    def start(self, *options: str) -> Forked:
        """Start the daemon in a process group of its own."""
        return Forked(DAEMON, [str(self.config_file), *options], self.folder, {"PYTHONPATH": str(PROJECT)})

    @property
    def daemon_state(self) -> str:
        """What the daemon reports to be; empty before its first report."""
        report = self.folder / "logs" / "status.json"
        return str(json.loads(report.read_text())["state"]) if report.exists() else ""

    def run(self, *options: str, expect: int = 0, timeout: float = 240.0) -> str:
        """Run the daemon once and return what it says."""
        daemon = self.start(*(options or ("--once",)))
        said, _ = daemon.communicate(timeout)
        assert daemon.returncode == expect, said
        return said

    def run_script(self, *options: str, expect: int = 0, timeout: float = 240.0) -> str:
        """Run the daemon as its operator does, by ``python archiver.py``, and return what it says."""
        done = subprocess.run(
            [sys.executable, str(PROJECT / "archiver.py"), str(self.config_file), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            timeout=timeout,
        )
        assert done.returncode == expect, done.stdout
        return done.stdout

    def store(self) -> Any:
        """Open the database."""
        return open_store(self.config)

    def states(self) -> dict[str, str]:
        """State of every step: ``{"HIP_1 bright_star.reduce": "done", …}``."""
        with self.store() as store:
            return states(store)


def states(store: Store) -> dict[str, str]:
    """State of every step in a database, by the target's name or the night."""
    found = {}
    for document in store.database["objects"].find():
        for pipeline, block in document["pipelined"].items():
            for step, record in block.get("steps", {}).items():
                found[f"{document['name']} {pipeline}.{step}"] = record["state"]
    for document in store.database["aux"].find():
        for step, record in document.get("calib", {}).get("steps", {}).items():
            found[f"{document['_id']} calib.{step}"] = record["state"]
    return found


CONFIG: dict[str, Any] = {
    "paths": {"raw": ["raw"], "archive": "archive", "tmp": "tmp", "logs": "logs"},
    "parallel": {"n_workers": 1, "job_timeout_s": 60},
    "daemon": {"settle_time_s": 0, "loop_interval_s": 0.1, "retry_delay_s": 0.1, "max_retries": 2, "min_free_gb": 0},
    "telescope": {
        "KPNO_2.1m": {
            "primary_m": 2.1,
            "secondary_m": 0.5,
            "plate_scale_arcsec": 0.0347,
            "detector_px": list(SHAPE),
            "filters": {"Si": {"wavelength_nm": 763, "width_nm": 153}},
        }
    },
    "pipelines": [{"class": "pipelines.night.Calibration"}, {"class": "pipelines.bright_star.BrightStar"}],
}


@pytest.fixture
def new_site(tmp_path: Path) -> Callable[[Path | None], Site]:
    """Make a site with a copy of a raw night, or without any; its daemons start a database and workers of their own."""

    def make(night: Path | None) -> Site:
        site = Site(tmp_path / "site")
        (site.folder / "raw").mkdir(parents=True)
        if night is not None:
            shutil.copytree(night, site.night)
        site.config_file.write_text(json.dumps(CONFIG))
        return site

    return make


@pytest.fixture
def lone_site(new_site: Callable[[Path | None], Site], raw_night: Path) -> Iterator[Site]:
    """A site with the small night, whose daemon starts everything itself; its database is stopped in the end."""
    made = new_site(raw_night)
    yield made
    stop_database(made)


@pytest.fixture
def site(new_site: Callable[[Path | None], Site], raw_night: Path, services: dict[str, Any]) -> Site:
    """A site with the small night, whose daemons join a database and workers that run already."""
    made = new_site(raw_night)
    made.change(**services)
    return made


@pytest.fixture
def services(mongo_server: Server, database_name: str, scheduler: str) -> dict[str, Any]:
    """Sections of a configuration: an empty database of this test, and workers that others use as well."""
    return running_services(mongo_server, scheduler, database_name)


def stop_database(site: Site) -> None:
    """Join the embedded database and leave it as its last user, which stops it."""
    if (site.folder / "archive" / ".db").exists():
        with site.store():
            pass


@pytest.fixture(scope="session")
def reduced(tmp_path_factory: pytest.TempPathFactory, raw_night: Path) -> Site:
    """A site whose night was reduced by an undisturbed run; to be copied, not changed."""

    def make(folder: Path) -> None:
        site = Site(folder)
        (site.folder / "raw").mkdir()
        shutil.copytree(raw_night, site.night)
        site.config_file.write_text(json.dumps(CONFIG))
        site.run_script("--once")

    return Site(made_once(tmp_path_factory, "reduced", make))


@pytest.fixture
def copied(reduced: Site, tmp_path: Path, services: dict[str, Any]) -> Site:
    """A site that was reduced before; its database is gone, its tree is not."""
    folder = tmp_path / "site"
    shutil.copytree(reduced.folder, folder, ignore=shutil.ignore_patterns(".db"), copy_function=shutil.copy2)
    made = Site(folder)
    made.change(**services)
    return made


def wait_for(happened: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is there."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def tree(site: Site) -> dict[str, str]:
    """Products of an archive with a hash of their content, dates left out."""
    return products_below(site.layout.root)


def products_below(root: Path) -> dict[str, str]:
    """Products below the root of an archive with a hash of their content, dates left out."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not name.startswith(".") and not name.endswith((".tar.bz2", ".json")):
            found[name] = _content(path)
        elif path.is_file() and name.endswith(".tar.bz2"):
            found[name] = "tarball"
    return found


def _content(path: Path) -> str:
    if path.suffix != ".fits":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with fits.open(path) as hdus:
        header = {key: str(hdus[0].header[key]) for key in hdus[0].header if key not in ("DATE", "CHECKSUM", "DATASUM")}
        return hashlib.sha256(hdus[0].data.tobytes() + json.dumps(header).encode()).hexdigest()

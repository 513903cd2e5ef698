"""Daemon, scheduler, workers, database and portal on machines of their own, which share a folder."""

import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
import requests
from pymongo import MongoClient

from obsarchive.database.embedded_mongod import find_mongod
from tests.daemon.conftest import PROJECT, wait_for
from tests.daemon.replica_set import SMALL
from tests.deploy.lan import Machine, machines, standing_at
from tests.deploy.slurm import PATH, slurm
from tests.faults.archives import TARGETS, FaultSite, assert_nothing_is_lost, make_site, write_raw_night
from tests.faults.chain import ORDERS
from tests.forked import COMMANDS, DAEMON, Forked

pytestmark = pytest.mark.slow

PORT = 8786
HEARTBEATS_S = 5.0
"""After so long without a sign of life, the scheduler counts a worker as lost."""
SCHEDULER = {"distributed.scheduler.worker-ttl": f"{HEARTBEATS_S}s"}


@dataclass
class Observatory:
    """Machines with a database and a scheduler; workers are started as they are needed."""

    machines: dict[str, Machine]
    folder: Path
    running: dict[str, psutil.Process] = field(default_factory=dict)

    @property
    def scheduler_address(self) -> str:
        return f"tcp://{self.machines['scheduler'].address}:{PORT}"

    def start_database(self) -> None:
        """Start a replica set of one member."""
        machine, data = self.machines["database"], self.folder / "data"
        data.mkdir()
        options = [*SMALL, "--bind_ip", machine.address, "--nounixsocket", "--replSet", "rs"]
        machine.run(find_mongod(), "--dbpath", data, *options, log=self.folder / "mongod.log")
        host = f"{machine.address}:27017"
        with MongoClient(f"mongodb://{host}/?directConnection=true", serverSelectionTimeoutMS=60_000) as client:
            client.admin.command("replSetInitiate", {"_id": "rs", "members": [{"_id": 0, "host": host}]})
            wait_for(lambda: client.admin.command("hello")["isWritablePrimary"])

    def start_scheduler(self) -> None:
        machine = self.machines["scheduler"]
        words = ["--host", machine.address, "--port", str(PORT), "--no-dashboard"]
        self.running["scheduler"] = machine.start(
            "distributed.cli.dask_scheduler", words, self.folder / "scheduler.log", SCHEDULER
        )

    def start_worker(self, name: str) -> None:
        """Start a worker as docs/scaling.md says, but without a nanny, which would take an interpreter more."""
        words = [self.scheduler_address, "--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--no-dashboard"]
        words += ["--name", name, "--preload", "obsarchive.execution.cluster"]
        words += ["--local-directory", str(self.folder / name), "--death-timeout", "20"]
        module, log = "distributed.cli.dask_worker", self.folder / f"{name}.log"
        self.running[name] = self.machines[name].start(module, words, log, {})

    def ensure_workers(self, *names: str) -> None:
        """Start the workers that do not run."""
        for name in names:
            if name not in self.running or not is_alive(self.running[name]):
                self.start_worker(name)

    def stop_workers(self, *names: str) -> None:
        """Kill the workers that run."""
        for name in names:
            if name in self.running:
                self.kill(name)

    def kill(self, name: str) -> None:
        self.running.pop(name).kill()
        self.machines[name].stop()

    def site(self, folder: Path, raw_night: Path) -> FaultSite:
        """Make an archive whose daemon runs on a machine of its own."""
        uri = f"mongodb://{self.machines['database'].address}:27017/?replicaSet=rs"
        services = {
            "database": {"mode": "external", "uri": uri, "db": f"site_{uuid4().hex}"},
            "parallel": {"scheduler": self.scheduler_address},
        }
        site = make_site(folder, None, services)
        site.first = self.machines["daemon"].enter()
        shutil.copytree(raw_night, site.night)
        return site


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def observatory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observatory]:
    names = ("database", "scheduler", "daemon", "portal", "one", "two", "visitor")
    with machines(*names) as built, standing_at(built["visitor"]):
        made = Observatory(built, tmp_path_factory.mktemp("observatory"))
        made.start_scheduler()
        made.ensure_workers("one", "two")
        made.start_database()
        yield made


@pytest.fixture(scope="module")
def raw_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_raw_night(folder)
    return folder


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, observatory: Observatory, raw_night: Path) -> FaultSite:
    """An archive that two workers reduced without any fault."""
    site = observatory.site(tmp_path_factory.mktemp("clean") / "site", raw_night)
    site.run()
    return site


@pytest.fixture
def site(tmp_path: Path, observatory: Observatory, raw_night: Path) -> Iterator[FaultSite]:
    made = observatory.site(tmp_path / "site", raw_night)
    yield made
    made.close()


def holder(observatory: Observatory, pid: int) -> str:
    """Name of the machine on which a step runs."""
    return next(name for name, machine in observatory.machines.items() if machine.runs(pid))


def test_workers_join_and_leave_in_the_middle(observatory: Observatory, site: FaultSite, clean: FaultSite) -> None:
    observatory.ensure_workers("one", "two")
    for target in TARGETS[:2]:
        site.order(target, "add", "hold")
    portal = observatory.machines["portal"]
    site.change(server={"host": portal.address, "port": 8000})
    with site.running():
        pids = {target: site.held(target) for target in TARGETS[:2]}
        assert {holder(observatory, pid) for pid in pids.values()} == {"one", "two"}
        lost = holder(observatory, pids["Vega"])
        observatory.kill(lost)
        observatory.start_worker(lost)  # as a new one: it joins while the other one works
        site.release("Vega")
        site.release("KOI-2")
        site.waits_until_settled()
        served = Forked(COMMANDS, ["serve", str(site.config_file)], site.folder, first=portal.enter())
        try:
            wait_for(lambda: _answers(f"http://{portal.address}:8000/login"))
        finally:
            served.kill()
            served.communicate()
    assert site.step("Vega")["retries"] == 0
    assert_nothing_is_lost(site, clean)


def _answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def test_worker_of_another_version_is_refused(
    observatory: Observatory, site: FaultSite, clean: FaultSite, tmp_path: Path
) -> None:
    observatory.stop_workers("one", "two")
    other = tmp_path / "other"
    for package in ("obsarchive", "pipelines", "tests"):
        shutil.copytree(PROJECT / package, other / package, ignore=shutil.ignore_patterns("__pycache__"))
    source = other / "obsarchive" / "__init__.py"
    source.write_text(re.sub(r'__version__ = ".*"', '__version__ = "0.0.9"', source.read_text()))
    log = tmp_path / "other.log"
    words = ["--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--preload", "obsarchive.execution.cluster"]
    program = (sys.executable, "-m", "distributed.cli.dask_worker", observatory.scheduler_address, *words)
    process = observatory.machines["one"].run(*program, log=log, PYTHONPATH=str(other))
    with site.running():
        site.waits_for_words("refused")
        process.wait(60)  # it left, with its nanny
        observatory.start_worker("two")
        site.waits_until_settled()
    (message,) = set(re.findall(r"worker tcp://\S+ on \S+ refused: .*?again", site.said))
    address = observatory.machines["one"].address
    assert message.startswith(f"worker tcp://{address}:")
    assert "it has Archiver 0.0.9, the daemon has 0.1.0; install the daemon's version there" in message
    assert site.step("Vega")["retries"] == 0
    assert_nothing_is_lost(site, clean)


def test_worker_that_comes_back_late_publishes_nothing(
    observatory: Observatory, site: FaultSite, clean: FaultSite
) -> None:
    observatory.ensure_workers("one", "two")
    order = site.order("Vega", "add", "hold")
    with site.running():
        late = site.held()
        name = holder(observatory, late)
        machine, worker = observatory.machines[name], observatory.running[name]
        worker.suspend()  # it cannot see that the daemon gives the step up
        machine.pull()
        order.write_text("")  # only the step that waits already goes on waiting
        site.waits_until_settled()
        before = published(site)
        machine.plug()
        order.unlink()
        wait_for(lambda: not psutil.pid_exists(late))
        assert published(site) == before
        worker.resume()
        time.sleep(1.0)  # its own end, and what it may have to tell, change nothing
        site.waits_until_settled()
        assert published(site) == before
    assert "the worker" in site.said
    assert "lost" in site.said
    assert site.step("Vega")["retries"] == 0
    assert_nothing_is_lost(site, clean)


def published(site: FaultSite) -> dict[Path, tuple[int, int]]:
    """Return files of the archive, and which ones they are: those that were written again are others."""
    stats = {path: path.stat() for path in site.layout.root.rglob("*") if path.is_file()}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


def test_scheduler_is_killed_and_started_again(observatory: Observatory, site: FaultSite, clean: FaultSite) -> None:
    observatory.ensure_workers("one", "two")
    site.order("Vega", "add", "hold")
    with site.running():
        orphan = site.held()
        observatory.kill("scheduler")
        site.waits_for_words("lost its scheduler")
        wait_for(lambda: not psutil.pid_exists(orphan))  # its worker sees that it was given up
        site.release()
        observatory.start_scheduler()
        for name in ("one", "two"):
            wait_for(lambda name=name: not is_alive(observatory.running[name]))
        observatory.ensure_workers("one", "two")
        site.waits_until_settled()
    assert site.step("Vega")["retries"] == 0
    assert_nothing_is_lost(site, clean)


def test_daemon_that_stops_or_dies_leaves_no_step_behind(
    observatory: Observatory, site: FaultSite, clean: FaultSite
) -> None:
    observatory.ensure_workers("one", "two")
    site.order("Vega", "add", "hold")
    with site.running():
        stopped = site.held()
    wait_for(lambda: not psutil.pid_exists(stopped))
    (site.folder / ORDERS / "Vega.add.pid").unlink()
    daemon = site.start()
    orphan = site.held()
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.communicate()
    assert psutil.pid_exists(orphan)
    with site.running():
        wait_for(lambda: not psutil.pid_exists(orphan))  # the next daemon gave it up
        site.release()
        site.waits_until_settled()
    assert site.step("Vega")["retries"] == 0
    assert_nothing_is_lost(site, clean)


def test_slurm_runs_the_workers(observatory: Observatory, site: FaultSite, clean: FaultSite) -> None:
    jobs = site.folder / "jobs"
    settings = {
        "queue": "night",
        "cores": 1,
        "memory": "2GB",
        "processes": 1,
        "interface": "eth0",
        "walltime": "00:10:00",
        "log_directory": str(jobs),
        "local_directory": str(site.folder / "dask"),
        "scheduler_options": {"dashboard_address": ":0"},
        "job_script_prologue": [f"export PYTHONPATH={os.pathsep.join([str(PROJECT), *sys.path])}"],
        "worker_extra_args": ["--preload", "obsarchive.execution.cluster", "--no-dashboard"],
    }
    site.change(parallel={"n_workers": 2, "scheduler": {"class": "dask_jobqueue.SLURMCluster", "settings": settings}})
    places = observatory.machines
    observatory.stop_workers("one", "two")
    for target in TARGETS[:2]:
        site.order(target, "add", "hold")
    with slurm(site.folder / "slurm", places["daemon"], [places["one"], places["two"]]) as conf:
        environment = {"PYTHONPATH": str(PROJECT), "SLURM_CONF": str(conf), "PATH": PATH}
        daemon = Forked(DAEMON, [str(site.config_file)], site.folder, environment, log=site.log, first=site.first)
        site.started.append(daemon)
        pids = [site.held(target) for target in TARGETS[:2]]
        assert {holder(observatory, pid) for pid in pids} == {"one", "two"}
        for target in TARGETS[:2]:
            site.release(target)
        site.waits_until_settled()
        os.kill(daemon.pid, signal.SIGTERM)
        daemon.wait(120)
        assert daemon.returncode == 0, site.said
        places["daemon"].stop()
    assert_nothing_is_lost(site, clean)

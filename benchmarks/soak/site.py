"""The archive under test: its folders, configuration and processes, kept alive as a service manager does."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient
from pymongo.database import Database

from obsarchive.cli.main import ONE_THREAD
from obsarchive.database.embedded_mongod import find_mongod

ROOT = Path(__file__).parents[2]
RAW = ("raw", "raw_copies")
TMPFS = "size=600m"
STARTED_S = 180.0
DB_NAME = "archiver"
TELESCOPE = {
    "primary_m": 2.1,
    "secondary_m": 0.5,
    "plate_scale_arcsec": 0.0347,
    "detector_px": [64, 64],
    "filters": {"Si": {"wavelength_nm": 763, "width_nm": 153}},
}
PIPELINES = (
    {"class": "pipelines.night.Calibration"},
    {"class": "pipelines.seeing.Seeing"},
    {"class": "pipelines.bright_star.BrightStar", "when": "not (magnitude > 12)"},
    {"class": "pipelines.faint_star.FaintStar", "when": "magnitude > 12"},
    {"class": "pipelines.psf_library.PsfCandidates"},
    {"class": "pipelines.summary.StrehlSummary"},
)


def run(*command: str) -> None:
    """Run a system command; raise for a failure."""
    subprocess.run(command, check=True, capture_output=True)


def free_port() -> int:
    """Return a port of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_config(site_root: Path, archive: str, database: dict[str, Any], port: int, workers: int) -> Path:
    """Write a configuration: everything in seconds rather than minutes, otherwise as shipped."""
    content = {
        "server": {"port": port},
        "paths": {
            "raw": list(RAW),
            **{"archive": archive, "tmp": f"tmp_{archive}", "logs": f"logs_{archive}"},
        },
        "database": database,
        "parallel": {"n_workers": workers, "threads_per_worker": 2 // workers, "job_timeout_s": 100},
        "daemon": {
            "loop_interval_s": 0.5,
            "settle_time_s": 1,
            "retry_delay_s": 0.3,
            "max_retries": 7,
            "audit_interval_s": 2,
            "checksum_days": 0.0001,
            "checksum_mb_s": 100,
            "min_free_gb": 0.01,
            "arrives_within_h": 0,
        },
        "telescope": {"T": TELESCOPE},
        "calibration": {"min_darks": 3, "min_flats": 3, "frames_per_file": 4},
        "pipelines": list(PIPELINES),
    }
    path = site_root / f"config_{archive}.json"
    path.write_text(json.dumps(content, indent=1))
    return path


@dataclass
class Program:
    """A process that is started again whenever it ends, and how it ended when nothing was done to it."""

    name: str
    command: list[str]
    site: "Site"
    process: subprocess.Popen[bytes] | None = None
    excused_until: float = 0.0
    starts: int = 0
    wanted: bool = False
    ended_by_itself: list[str] = field(default_factory=list)

    def excuse(self, seconds: float = 75.0) -> None:
        """Note that a fault ends this process within some time."""
        self.excused_until = time.monotonic() + seconds

    def start(self) -> None:
        self.wanted = True
        log = (self.site.root / f"{self.name}.out").open("ab")
        self.process = subprocess.Popen(self.command, cwd=ROOT, env=self.site.environment, stdout=log, stderr=log)
        self.starts += 1
        log.close()

    def look(self) -> None:
        """Start the process again if it ended."""
        if not self.wanted or self.process is None or self.process.poll() is None:
            return
        code = self.process.returncode
        if time.monotonic() > self.excused_until:
            self.ended_by_itself.append(f"{self.name} ended by itself with {code}: {self.site.tail(self.name)}")
            self.site.say(self.ended_by_itself[-1])
        self.start()

    def send(self, number: int) -> None:
        """Send a signal to the process, if it runs; one that is killed has ended afterwards."""
        with suppress(ProcessLookupError):
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(number)
                if number == signal.SIGKILL:
                    self.process.wait(30)

    def abort(self) -> str:
        """End a process that may be stuck; return where its main thread was."""
        self.excuse()
        self.send(signal.SIGABRT)
        time.sleep(1.0)  # it writes its stacks, the main thread last
        written = (self.site.root / f"{self.name}.out").read_text(errors="replace")
        _, found, stacks = written.rpartition("Fatal Python error: Aborted")
        return stacks.partition("Extension modules")[0].rpartition("Thread 0x")[2] if found else "no stack"

    def stop(self, number: int = signal.SIGTERM) -> int | None:
        """End the process for good; return its exit code."""
        self.wanted = False
        self.send(signal.SIGCONT)
        self.send(number)
        return self.process.wait(120) if self.process is not None else None


class Site:
    """One archive in a folder of its own, with its daemon, its portal and its database.

    Parameters
    ----------
    root : Path
        An empty folder; archive and temporary files lie on file systems of their own below it.
    mongo : str
        ``embedded`` or ``external``.
    workers : int
        Dask workers that run two steps at once together: 1 or 2.
    """

    def __init__(self, root: Path, mongo: str, workers: int) -> None:
        self.root, self.mongo, self.keep = root, mongo, False
        self.raw = [root / folder for folder in RAW]
        self.archive, self.tmp, self.logs = root / "archive", root / "tmp_archive", root / "logs_archive"
        self.port = free_port()
        self.environment = {
            **os.environ,
            **dict.fromkeys(ONE_THREAD, "1"),
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "1",
        }
        for folder in (*self.raw, self.archive, self.tmp, self.logs):
            folder.mkdir(parents=True)
        for folder in (self.archive, self.tmp):
            run("mount", "-t", "tmpfs", "-o", TMPFS, "soak", str(folder))
        self.database: dict[str, Any] = {"mode": "embedded"}
        self.mongod: Program | None = None
        if mongo == "external":
            self._prepare_mongod()
        self.config = write_config(root, "archive", self.database, self.port, workers)
        python = sys.executable
        self.daemon = Program("daemon", [python, "archiver.py", str(self.config)], self)
        self.portal = Program("portal", [python, "server_data_archive.py", str(self.config)], self)
        self._client: MongoClient[dict[str, Any]] | None = None
        self._uri = ""
        self._watching = threading.Event()
        self.log = (root / "soak.log").open("a")

    def say(self, text: str) -> None:
        """Write a line of the protocol, which is kept with the folder, and shown on stderr."""
        line = f"{time.strftime('%H:%M:%S', time.gmtime())} {text}\n"
        for stream in (self.log, sys.stderr):
            stream.write(line)
            stream.flush()

    # -- processes --------------------------------------------------------------------------------------------

    def _prepare_mongod(self) -> None:
        port, folder = free_port(), self.root / "mongod"
        folder.mkdir()
        command = [str(find_mongod()), "--dbpath", str(folder), "--port", str(port), "--replSet", "soak"]
        command += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]
        command += ["--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=10MB)"]
        self.database = {"mode": "external", "uri": f"mongodb://127.0.0.1:{port}", "db": DB_NAME, "replicaset": "soak"}
        self.mongod = Program("mongod", command, self)

    def start(self) -> None:
        """Start everything and keep it alive."""
        if self.mongod is not None:
            self.mongod.start()
            uri = f"{self.database['uri']}/?directConnection=true"
            with MongoClient(uri, serverSelectionTimeoutMS=60_000) as client:
                member = {"_id": 0, "host": self.database["uri"].removeprefix("mongodb://")}
                client.admin.command("replSetInitiate", {"_id": "soak", "members": [member]})
        self.daemon.start()
        self.portal.start()
        threading.Thread(target=self._keep_alive, name="supervisor", daemon=True).start()

    def _keep_alive(self) -> None:
        while not self._watching.wait(0.3):
            for program in (self.daemon, self.portal, self.mongod):
                if program is not None:
                    program.look()

    def stop(self) -> list[str]:
        """Stop everything as an operator does; return what did not end as it should."""
        self._watching.set()
        self.close_client()
        wrong = []
        for program in (self.portal, self.daemon):
            code = program.stop()
            if code not in (0, -signal.SIGTERM):
                wrong.append(f"{program.name}: exit code {code} after SIGTERM: {self.tail(program.name)}")
        if self.mongod is not None:
            self.mongod.stop()
        elif self.mongod_pid() is not None:
            wrong.append("the embedded mongod runs although nobody uses it")
        return wrong

    def close(self) -> None:
        """Kill what runs and give the file systems back."""
        self._watching.set()
        self.close_client()
        for program in (self.daemon, self.portal, self.mongod):
            if program is not None and program.process is not None:
                program.wanted = False
                program.send(signal.SIGKILL)
        pid = self.mongod_pid()
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.log.close()

    def tail(self, name: str) -> str:
        """Return the end of what a process wrote."""
        with suppress(OSError):
            return " | ".join((self.root / f"{name}.out").read_text(errors="replace").splitlines()[-6:])[-900:]
        return ""

    def workers(self) -> list[psutil.Process]:
        """Return the processes of the Dask workers."""
        return [each for each in self._below() if _name(each) == "archive-worker"]

    def forkservers(self) -> list[psutil.Process]:
        """Return the processes that steps are forked from."""
        below = self._below()
        servers = [each for each in below if _name(each) == "archive-forker" or "forkserver" in _command(each)]
        return [each for each in servers if "forkserver" not in _command(_parent(each))]

    def steps(self) -> list[psutil.Process]:
        """Return the processes of running steps."""
        return [each for each in self._below() if _name(each) == "archive-step"]

    def _below(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            if self.daemon.process is not None:
                return psutil.Process(self.daemon.process.pid).children(recursive=True)
        return []

    def mongod_pid(self) -> int | None:
        """Return the process of the database server, if it runs."""
        if self.mongod is not None:
            process = self.mongod.process
            return process.pid if process is not None and process.poll() is None else None
        with suppress(OSError, ValueError, psutil.Error):
            pid = int((self.archive / ".db/data/mongod.lock").read_text())
            if "mongod" in psutil.Process(pid).name() and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return pid
        return None

    # -- database ---------------------------------------------------------------------------------------------

    def db(self) -> Database[dict[str, Any]]:
        """Return the database, as the Mongo shell of an administrator sees it."""
        uri = self._address()
        if self._client is None or uri != self._uri:
            self.close_client()
            self._client = MongoClient(uri, serverSelectionTimeoutMS=3000, socketTimeoutMS=8000, tz_aware=True)
            self._uri = uri
        return self._client[DB_NAME]

    def _address(self) -> str:
        if self.mongod is not None:
            return f"{self.database['uri']}/?replicaSet=soak&w=majority&journal=true"
        folder = self.archive / ".db"
        port = json.loads((folder / "mongod.json").read_text())["port"]
        password = json.loads((folder / "secret.json").read_text())["admin"]
        return f"mongodb://admin:{password}@127.0.0.1:{port}/?replicaSet=rs0&w=majority&journal=true"

    def close_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def copy_for_clean_run(self) -> Path:
        """Return the configuration of an archive of the same raw data that no fault touches."""
        return write_config(self.root, "clean", {"mode": "embedded"}, self.port, 1)

    def delete(self) -> None:
        """Remove everything."""
        for folder in (self.archive, self.tmp):
            subprocess.run(["umount", "-R", "-l", str(folder)], check=False, capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)


def _command(process: psutil.Process | None) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline()) if process is not None else ""
    return ""


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return str(process.name())
    return ""


def _parent(process: psutil.Process) -> psutil.Process | None:
    with suppress(psutil.Error):
        return process.parent()
    return None

"""The kinds of faults: functions that inject one, wait where it lasts, and take it back where people would."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pymongo.errors import PyMongoError

from benchmarks.soak.observatory import deliver, deliver_slowly
from benchmarks.soak.people import People
from benchmarks.soak.site import DB_NAME, ROOT, Site, run

LASTS_S = 3.0
"""How long a fault lasts that is taken back [s]."""
FOLLOWED_S = 3.0
"""A database is dropped so long after the last act of people, while the daemon follows it [s]."""
FRESH_S = 8.0


@dataclass
class World:
    """What faults act on."""

    site: Site
    people: People
    rng: random.Random
    content: dict[tuple[str, str], bytes]
    counts: Counter[str] = field(default_factory=Counter)
    locks: dict[str, threading.Lock] = field(default_factory=dict)
    second_daemon: list[str] = field(default_factory=list)
    sidecar_damaged: float = 0.0
    """When a file that a lost database is rebuilt from was last damaged [s since 1970]."""

    def products(self, pattern: str) -> list[Path]:
        """Return files of the archive tree by a pattern."""
        found = [path for path in self.site.archive.glob(pattern) if ".db" not in path.parts]
        return sorted(path for path in found if path.is_file() and not path.name.endswith(".part"))

    def raw_file(self) -> tuple[Path, str, bytes]:
        """Choose a raw file that was delivered: its folder, name and true content."""
        night, name = self.rng.choice(sorted(self.content))
        return self.site.raw[0] / night, name, self.content[night, name]

    def restore(self, folder: Path, name: str) -> None:
        """Copy a raw file again, whole."""
        deliver(folder, name, self.content[folder.name, name], time.time())


Fault = Callable[[World], bool]
KINDS: dict[str, tuple[str, Fault]] = {}
"""Faults by name: what they need for themselves, and the function, which says whether there was something to do."""


def kind(name: str, needs: str) -> Callable[[Fault], Fault]:
    """Register a kind of fault."""

    def register(fault: Fault) -> Fault:
        KINDS[name] = (needs, fault)
        return fault

    return register


def inject(world: World, name: str) -> None:
    """Inject a fault of a kind, alone on what it needs."""
    needs, fault = KINDS[name]
    with world.locks.setdefault(needs, threading.Lock()):
        world.site.say(f"fault: {name}")
        try:
            done = fault(world)
        except (OSError, psutil.Error, PyMongoError, subprocess.SubprocessError, LookupError) as err:
            world.site.say(f"fault: {name} could not be injected: {type(err).__name__}: {err}")
            done = False
        if done:
            world.counts[name] += 1
        world.site.say(f"fault: {name}: {'over' if done else 'nothing to do'}")


# -- processes ------------------------------------------------------------------------------------------------


def _signals(number: int) -> Callable[[World, Sequence[psutil.Process]], bool]:
    def send(world: World, processes: Sequence[psutil.Process]) -> bool:
        if processes:
            world.rng.choice(processes).send_signal(number)
        return bool(processes)

    return send


def _frozen(world: World, processes: Sequence[psutil.Process], seconds: float = LASTS_S) -> bool:
    if not processes:
        return False
    chosen = world.rng.choice(processes)
    chosen.suspend()
    try:
        time.sleep(seconds)
    finally:
        with suppress(psutil.Error):
            chosen.resume()
    return True


def _wait_for_steps(world: World) -> list[psutil.Process]:
    deadline = time.monotonic() + 5
    while not (found := world.site.steps()) and time.monotonic() < deadline:
        time.sleep(0.15)
    return found


def _wait_for_workers(world: World) -> list[psutil.Process]:
    deadline = time.monotonic() + 10
    while not (found := world.site.workers()) and time.monotonic() < deadline:
        time.sleep(0.3)
    return found


def _end(program: str, number: int) -> Fault:
    def fault(world: World) -> bool:
        chosen = getattr(world.site, program)
        if chosen is None:
            return False
        chosen.excuse()
        chosen.send(number)
        return True

    return fault


for _program in ("daemon", "portal"):
    kind(f"{_program}: kill -9", _program)(_end(_program, signal.SIGKILL))
    kind(f"{_program}: SIGTERM", _program)(_end(_program, signal.SIGTERM))
kind("daemon: SIGINT", "daemon")(_end("daemon", signal.SIGINT))


@kind("daemon: kill -9 again while it starts", "daemon")
def _killed_at_start(world: World) -> bool:
    daemon = world.site.daemon
    for _ in range(2):
        daemon.excuse()
        daemon.send(signal.SIGKILL)
        time.sleep(world.rng.uniform(0.5, 5.0))
    daemon.excuse()
    daemon.send(signal.SIGKILL)
    return True


@kind("daemon: SIGTERM while it starts", "daemon")
def _asked_at_start(world: World) -> bool:
    daemon = world.site.daemon
    daemon.excuse()
    daemon.send(signal.SIGKILL)
    time.sleep(world.rng.uniform(0.4, 3.0))
    daemon.excuse()
    daemon.send(signal.SIGTERM)
    return True


@kind("daemon: frozen", "daemon")
def _daemon_frozen(world: World) -> bool:
    process = world.site.daemon.process
    return process is not None and _frozen(world, [psutil.Process(process.pid)], world.rng.uniform(2, 6))


@kind("portal: frozen", "portal")
def _portal_frozen(world: World) -> bool:
    process = world.site.portal.process
    return process is not None and _frozen(world, [psutil.Process(process.pid)])


@kind("daemon: a second one is started", "daemon")
def _second_daemon(world: World) -> bool:
    first = world.site.daemon.process
    if not follows(world.site):
        return False
    command = [sys.executable, "archiver.py", str(world.site.config)]
    done = subprocess.run(
        command, cwd=ROOT, env=world.site.environment, capture_output=True, timeout=120, check=False, text=True
    )
    held_it_all_the_time = follows(world.site) and world.site.daemon.process is first
    if done.returncode != 4 and held_it_all_the_time:
        world.second_daemon.append(f"a second daemon ended with {done.returncode}, not 4: {done.stderr[-300:]}")
    return True


kind("worker: kill -9", "workers")(lambda world: _signals(signal.SIGKILL)(world, _wait_for_workers(world)))
kind("worker: SIGTERM", "workers")(lambda world: _signals(signal.SIGTERM)(world, _wait_for_workers(world)))
kind("worker: frozen", "workers")(lambda world: _frozen(world, _wait_for_workers(world)))
kind("forkserver: kill -9", "workers")(lambda world: _signals(signal.SIGKILL)(world, world.site.forkservers()))
kind("step: kill -9", "steps")(lambda world: _signals(signal.SIGKILL)(world, _wait_for_steps(world)))
kind("step: SIGTERM", "steps")(lambda world: _signals(signal.SIGTERM)(world, _wait_for_steps(world)))
kind("step: frozen", "steps")(lambda world: _frozen(world, _wait_for_steps(world)))


@kind("worker: kill -9 of all", "workers")
def _all_workers(world: World) -> bool:
    found = _wait_for_workers(world)
    for process in found:
        with suppress(psutil.Error):
            process.kill()
    return bool(found)


# -- database -------------------------------------------------------------------------------------------------


def _server(world: World) -> list[psutil.Process]:
    pid = world.site.mongod_pid()
    if pid is not None and world.site.mongod is not None:
        world.site.mongod.excuse()
    return [psutil.Process(pid)] if pid is not None else []


kind("mongod: kill -9", "mongod")(lambda world: _signals(signal.SIGKILL)(world, _server(world)))
kind("mongod: SIGTERM", "mongod")(lambda world: _signals(signal.SIGTERM)(world, _server(world)))
kind("mongod: frozen", "mongod")(lambda world: _frozen(world, _server(world), world.rng.uniform(2, 8)))


def follows(site: Site) -> bool:
    """Whether the daemon works, by its status file; while it starts it does not follow people yet."""
    with suppress(OSError, ValueError):
        status = json.loads((site.logs / "status.json").read_text())
        is_fresh = time.time() - (site.logs / "status.json").stat().st_mtime < FRESH_S
        process = site.daemon.process
        runs = process is not None and process.poll() is None and status["pid"] == process.pid
        return is_fresh and runs and status["state"] != "starting"
    return False


def _is_repaired(world: World) -> bool:
    """Whether every sidecar file was looked at since one was damaged: tree and database are not lost at once."""
    checked = [night.get("checked") for night in world.site.db()["aux"].find({}, {"checked": 1})]
    return all(when is not None and when.timestamp() > world.sidecar_damaged for when in checked)


@kind("database dropped", "daemon")
def _dropped(world: World) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with world.people.acting:
            if follows(world.site) and time.monotonic() - world.people.done.last > FOLLOWED_S and _is_repaired(world):
                world.site.db().client.drop_database(DB_NAME)
                return True
        time.sleep(0.3)
    return False


# -- disks ----------------------------------------------------------------------------------------------------


def _full(folder: Path, left: int = 0) -> None:
    """Fill a file system for a while."""
    ballast = folder / "ballast"
    disk = os.statvfs(folder)
    try:
        with ballast.open("wb") as file, suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(disk.f_bavail * disk.f_frsize - left, 4096))
        time.sleep(LASTS_S)
    finally:
        ballast.unlink(missing_ok=True)


def _read_only(folder: Path) -> None:
    """Have a file system read only for a while, to all that open files from now on."""
    run("mount", "--bind", str(folder), str(folder))
    try:
        run("mount", "-o", "remount,bind,ro", str(folder))
        time.sleep(LASTS_S)
    finally:
        run("umount", "-l", str(folder))


def _excuse_starts(world: World) -> None:
    """A daemon or a database server cannot start without a disk, and says so."""
    for program in (world.site.daemon, world.site.portal):
        if not follows(world.site):
            program.excuse()


def _disk(folder: str, fault: Callable[[Path], None]) -> Fault:
    def on_folder(world: World) -> bool:
        _excuse_starts(world)
        fault(getattr(world.site, folder))
        return True

    return on_folder


kind("archive full", "archive")(_disk("archive", _full))
kind("archive nearly full", "archive")(_disk("archive", lambda folder: _full(folder, 200_000)))
kind("archive read-only", "archive")(_disk("archive", _read_only))
kind("tmp full", "tmp")(_disk("tmp", _full))
kind("tmp read-only", "tmp")(_disk("tmp", _read_only))
kind("logs read-only", "logs")(_disk("logs", _read_only))


@kind("tmp emptied", "tmp")
def _tmp_emptied(world: World) -> bool:
    for folder in ("unpacked", "steps"):
        shutil.rmtree(world.site.tmp / folder, ignore_errors=True)
    return True


# -- raw files ------------------------------------------------------------------------------------------------


def _replaced(change: Callable[[bytes, random.Random], bytes]) -> Fault:
    """A raw file becomes another, and is copied again later."""

    def fault(world: World) -> bool:
        folder, name, content = world.raw_file()
        deliver(folder, name, change(content, world.rng), time.time())
        time.sleep(world.rng.uniform(0.5, 2 * LASTS_S))
        world.restore(folder, name)
        return True

    return fault


def _garbled(content: bytes, rng: random.Random) -> bytes:
    where = rng.randrange(min(len(content), 4000))
    return content[:where] + rng.randbytes(200) + content[where + 200 :]


kind("raw file truncated", "raw")(_replaced(lambda content, rng: content[: rng.randrange(len(content))]))
kind("raw file of zero length", "raw")(_replaced(lambda _content, _rng: b""))
kind("raw file garbled", "raw")(_replaced(_garbled))
kind("raw file copied again", "raw")(_replaced(lambda content, _rng: content))


@kind("raw file copied slowly", "raw")
def _slowly(world: World) -> bool:
    folder, name, content = world.raw_file()
    (folder / name).unlink()
    time.sleep(world.rng.uniform(0, 1))
    deliver_slowly(folder, name, content, world.rng.uniform(1, 4))
    return True


@kind("raw files moved away and back", "raw")
def _moved(world: World) -> bool:
    night, _ = world.rng.choice(sorted(world.content))
    folder = world.site.raw[0] / night
    chosen = sorted(folder.iterdir())[world.rng.randrange(3) :: 3]
    away = world.site.root / "away"
    away.mkdir(exist_ok=True)
    for path in chosen:
        path.replace(away / path.name)
        time.sleep(0.05)
    time.sleep(LASTS_S)
    for path in chosen:
        (away / path.name).replace(path)
    return True


@kind("raw night moved away and back", "raw")
def _night_moved(world: World) -> bool:
    night, _ = world.rng.choice(sorted(world.content))
    folder = world.site.raw[0] / night
    folder.replace(folder.with_name("elsewhere"))
    time.sleep(LASTS_S)
    folder.with_name("elsewhere").replace(folder)
    return True


@kind("raw root away", "raw")
def _root_away(world: World) -> bool:
    root = world.site.raw[0]
    root.replace(root.with_name("raw_unmounted"))
    time.sleep(LASTS_S)
    root.with_name("raw_unmounted").replace(root)
    return True


@kind("raw files below a second root", "raw")
def _second_root(world: World) -> bool:
    night, _ = world.rng.choice(sorted(world.content))
    target = world.site.raw[1] / night
    if not target.exists():
        shutil.copytree(world.site.raw[0] / night, target)
    return True


@kind("other content below a second root", "raw")
def _conflict(world: World) -> bool:
    folder, name, content = world.raw_file()
    other = world.site.raw[1] / folder.name
    had = (other / name).exists()
    deliver(other, name, content[: len(content) // 2], time.time())
    time.sleep(LASTS_S)
    (other / name).unlink()
    if had:
        shutil.copy2(folder / name, other / name)
    return True


@kind("files of hostile names", "raw")
def _hostile(world: World) -> bool:
    folder, _, _ = world.raw_file()
    names = [b"-rf.fits", b"a\nb.fits.bz2", b"\xff\xfe.fits", b"'; drop.fits", b"x" * 250 + b".fits"]
    (Path(os.fsdecode(os.fsencode(folder) + b"/" + world.rng.choice(names)))).write_bytes(world.rng.randbytes(500))
    return True

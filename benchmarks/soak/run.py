"""One soak: start, work, faults, quiet time, and what is wrong then."""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from pymongo.errors import PyMongoError

from benchmarks.soak import invariant, tree_faults
from benchmarks.soak.faults import KINDS, World, inject
from benchmarks.soak.observatory import TARGETS, deliver, make_night
from benchmarks.soak.people import People
from benchmarks.soak.site import ROOT, STARTED_S, Site

assert tree_faults  # their kinds are registered
FIRST_NIGHT = 20260310
AT_ONCE = 3
"""Faults that are injected side by side."""
QUIET_S = 900.0
"""Longest quiet time; most end long before [s]."""
FOR_THE_END_S = 60.0
"""Part of a limit that is left for the comparison of the trees [s]."""
CALM = 3
"""So often in a row nothing may be left to do."""
TOLD_S = 60.0
"""So often it is said what is not quiet yet [s]."""


@dataclass(frozen=True)
class Plan:
    """What a soak does.

    Parameters
    ----------
    faults : int
        How many faults are injected.
    seed : int
        Of everything random; with the speed of the machine it decides what happens when.
    mongo : str
        ``embedded`` or ``external``.
    nights : int, optional
        Nights that the observatory writes.
    pause_s : float, optional
        Mean pause between two faults [s].
    keep : bool, optional
        Keep the folder in any case.
    limit_s : float, optional
        Time that all of it may take [s]: what is not quiet soon enough is a violation.
    """

    faults: int
    seed: int
    mongo: str
    nights: int = 2
    pause_s: float = 2.0
    keep: bool = False
    limit_s: float = float("inf")


@dataclass
class Result:
    """What a soak did and found."""

    faults: int
    seed: int
    mongo: str
    nights: int
    kinds: dict[str, int] = field(default_factory=dict)
    acts: int = 0
    refused: int = 0
    failed_attempts: int = 0
    daemon_starts: int = 0
    products: int = 0
    seconds: float = 0.0
    quiet_s: float = 0.0
    violations: list[str] = field(default_factory=list)
    kept_in: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


@contextmanager
def opened(mongo: str, seed: int, keep: bool) -> Iterator[Site]:
    """Open an archive in a temporary folder; it is kept after an error, or if asked for."""
    root = Path(mkdtemp(prefix="soak-"))
    site = Site(root, mongo, 1 + seed % 2)
    site.keep = keep
    is_fine = False
    try:
        yield site
        is_fine = True
    finally:
        site.close()
        if is_fine and not site.keep:
            site.delete()
        else:
            save_tree(site)


def save_tree(site: Site) -> None:
    """Copy the tree out of its file system, which ends with this process."""
    subprocess.run(["cp", "-a", str(site.archive), str(site.root / "archive_saved")], check=False, capture_output=True)


def soak(plan: Plan) -> Result:
    """Run an archive, inject faults, wait until all is quiet, and compare with a run without faults."""
    result = Result(plan.faults, plan.seed, plan.mongo, plan.nights)
    began = time.monotonic()
    rng = random.Random(plan.seed)
    content = {
        (night, name): data
        for night in (str(FIRST_NIGHT + number) for number in range(plan.nights))
        for name, data in make_night(night, plan.seed).items()
    }
    with opened(plan.mongo, plan.seed, plan.keep) as site:
        people = People(site, random.Random(plan.seed + 1))
        world = World(site, people, rng, content)
        site.start()
        wait_for_daemon(site)
        people.prepare()
        observatory = threading.Thread(target=_observe, args=(world,), daemon=True)
        observatory.start()
        if plan.nights > 1:
            _wait_for_products(site)
        people.start()
        _inject_all(world, plan.faults, plan.pause_s)
        observatory.join()
        people.stop()
        _restore_raw(world)
        quiet = time.time()
        clean = _CleanRun(site)
        result.violations = _wait_until_quiet(site, quiet, began + plan.limit_s - FOR_THE_END_S)
        result.quiet_s = round(time.time() - quiet, 1)
        if not result.violations:
            _judge(world, clean, result)
        if result.violations:
            site.keep, result.kept_in = True, str(site.root)
        result.kinds = dict(sorted(world.counts.items()))
        result.seconds = round(time.monotonic() - began, 1)
    return result


def wait_for_daemon(site: Site) -> None:
    """Wait until the daemon works."""
    deadline = time.monotonic() + STARTED_S
    while time.monotonic() < deadline:
        try:
            if site.db()["telemetry"].find_one({"_id": "daemon", "state": {"$in": ["idle", "working"]}}):
                return
        except (PyMongoError, OSError, ValueError, LookupError):
            time.sleep(0.3)
        time.sleep(0.2)
    raise RuntimeError(f"the daemon does not start: {site.tail('daemon')}")


def _wait_for_products(site: Site) -> None:
    """Wait until the first night is packed: later faults meet an archive that holds something."""
    deadline = time.monotonic() + STARTED_S
    while time.monotonic() < deadline:
        found = list(site.db()["objects"].find({"night": str(FIRST_NIGHT)}, {"distributed": 1}))
        if len(found) == len(TARGETS) and all(each["distributed"]["status"] for each in found):
            return
        time.sleep(0.5)
    site.say("faults begin although the first night is not packed")


def _observe(world: World) -> None:
    """Write the raw files of all nights, as a telescope does; those of the last one slowly."""
    rng = random.Random(world.rng.random())
    by_night: dict[str, list[str]] = {}
    for night, name in sorted(world.content):
        by_night.setdefault(night, []).append(name)
    for number, (night, names) in enumerate(by_night.items()):
        rng.shuffle(names)
        for name in names:
            with world.locks.setdefault("raw", threading.Lock()):
                deliver(world.site.raw[0] / night, name, world.content[night, name], time.time())
            if number:
                time.sleep(rng.uniform(0, 6))


def _inject_all(world: World, faults: int, pause_s: float) -> None:
    """Inject faults of all kinds in random order; each kind before any comes again."""
    names: list[str] = []
    threads: list[threading.Thread] = []
    while sum(world.counts.values()) < faults:
        if not names:
            names = sorted(KINDS)
            world.rng.shuffle(names)
        threads = [thread for thread in threads if thread.is_alive()]
        if len(threads) >= AT_ONCE or len(threads) + sum(world.counts.values()) >= faults:
            time.sleep(0.1)
            continue
        thread = threading.Thread(target=inject, args=(world, names.pop()), daemon=True)
        thread.start()
        threads.append(thread)
        time.sleep(world.rng.uniform(0, 2 * pause_s))
    for thread in threads:
        thread.join()


def _restore_raw(world: World) -> None:
    """End as the observatory does: every raw file is whole, and every night is looked at again.

    Of a file and its copy below the second root either may count, whose times the signatures hold: they get the same.
    """
    for night, name in sorted(world.content):
        path, copy = (root / night / name for root in world.site.raw)
        if not path.exists() or path.read_bytes() != world.content[night, name]:
            world.restore(path.parent, name)
        if copy.exists() and copy.read_bytes() == world.content[night, name]:
            os.utime(path, ns=(copy.stat().st_atime_ns, copy.stat().st_mtime_ns))
    for folder in world.site.raw[1].glob("2*"):
        for path in folder.iterdir():
            if path.name.startswith("."):
                path.unlink()


class _CleanRun:
    """A run without faults on the same raw data, beside the quiet time of the other."""

    def __init__(self, site: Site) -> None:
        self.site = site
        command = [sys.executable, "archiver.py", str(site.copy_for_clean_run()), "--once"]
        self.archive = site.root / "clean"
        log = (site.root / "clean.out").open("ab")
        self.process = subprocess.Popen(command, cwd=ROOT, env=site.environment, stdout=log, stderr=log)

    def finished(self) -> Path:
        """Wait for it; return its tree."""
        if self.process.wait(QUIET_S) != 0:
            raise RuntimeError(f"the clean run failed: {self.site.tail('clean')}")
        return self.archive


def _wait_until_quiet(site: Site, since: float, latest: float) -> list[str]:
    """Wait until nothing is left to do; return what still is at a time, and where the daemon is then."""
    began = told = time.monotonic()
    deadline, calm = min(began + QUIET_S, latest), 0
    rest: list[str] = []
    while time.monotonic() < deadline and calm < CALM:
        try:
            rest = invariant.unsettled(site, since)
        except (PyMongoError, OSError, ValueError, LookupError) as err:
            rest = [f"the database: {err}"]
        calm = 0 if rest else calm + 1
        if time.monotonic() - told > TOLD_S:
            told = time.monotonic()
            site.say(f"not quiet yet: {'; '.join(rest)}")
        time.sleep(0.7)
    if calm == CALM:
        return []
    rest += [f"the daemon said at last: {site.tail('daemon')}", f"and was at: {site.daemon.abort()}"]
    return [f"not settled after {time.monotonic() - began:.0f} s: {text}" for text in rest]


def _judge(world: World, clean: _CleanRun, result: Result) -> None:
    site = world.site
    result.violations += invariant.violations_of_database(site, world.people)
    result.failed_attempts = invariant.retries(site)
    result.acts, result.refused = world.people.done.acts, world.people.done.refused
    result.daemon_starts = site.daemon.starts
    result.violations += site.stop()
    result.violations += invariant.violations_of_tree(site.archive, clean.finished())
    result.violations += invariant.wrong_checksums(site.archive)
    result.violations += invariant.leftovers(site)
    result.violations += [*site.daemon.ended_by_itself, *site.portal.ended_by_itself, *world.second_daemon]
    result.products = sum(1 for path in site.archive.glob("2*/**/*") if path.is_file())


def merged(results: list[Result]) -> Counter[str]:
    """Return how many faults of each kind several soaks injected."""
    total: Counter[str] = Counter()
    for result in results:
        total.update(result.kinds)
    return total

"""The soak of growth: a season of nights with faults all along; memory, files and threads of every process."""

import random
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import psutil
from pymongo.errors import PyMongoError

from benchmarks.soak import invariant
from benchmarks.soak.faults import KINDS, World, inject
from benchmarks.soak.observatory import TARGETS, deliver, make_night
from benchmarks.soak.people import People
from benchmarks.soak.run import FIRST_NIGHT, opened, wait_for_daemon
from benchmarks.soak.site import Site

FAULTS = (
    *("step: kill -9", "step: SIGTERM", "worker: kill -9", "worker: frozen", "mongod: frozen", "portal: frozen"),
    *("raw file copied again", "raw file truncated", "raw file garbled", "raw files moved away and back"),
    *("product: bit flipped", "product: deleted", "manifest: deleted", "sidecar: deleted", "tarball: truncated"),
    *("archive read-only", "tmp full", "archive nearly full", "leftovers of killed writers"),
)
"""Kinds that leave the measured processes alive."""
WARM_UP = 0.25
"""Part of the season that is not fitted: caches fill, modules are loaded."""
NIGHT_S = 300.0
BEHIND = 2
"""Nights that are reduced while the next one is observed."""
MEASURES = {"rss_mb": "RSS [MB]", "pss_mb": "PSS [MB]", "files": "descriptors", "threads": "threads"}


@dataclass
class Growth:
    """What was measured, night by night."""

    nights: int
    seed: int
    mongo: str
    samples: list[dict[str, dict[str, float]]] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    acts: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)

    def slopes(self) -> dict[str, dict[str, tuple[float, float]]]:
        """Return level and slope per night of each measure of each process, after the warm-up."""
        kept = self.samples[int(len(self.samples) * WARM_UP) :]
        nights = np.arange(len(kept))
        fitted: dict[str, dict[str, tuple[float, float]]] = {}
        for process in kept[0] if len(kept) > 2 else ():
            fitted[process] = {}
            for measure in MEASURES:
                values = np.array([sample.get(process, {}).get(measure, np.nan) for sample in kept])
                good = np.isfinite(values)
                if good.sum() > 2:
                    slope = float(np.polyfit(nights[good], values[good], 1)[0])
                    fitted[process][measure] = float(np.median(values[good])), slope
        return fitted

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {**asdict(self), "slopes": self.slopes()}


def measure(site: Site) -> dict[str, dict[str, float]]:
    """Return memory, open files and threads of the processes of an archive."""
    groups: dict[str, list[int]] = {"workers": [each.pid for each in (*site.workers(), *site.forkservers())]}
    for program in (site.daemon, site.portal):
        if program.process is not None:
            groups[program.name] = [program.process.pid]
    pid = site.mongod_pid()
    groups["mongod"] = [pid] if pid is not None else []
    return {name: _sum(pids) for name, pids in groups.items()}


def _sum(pids: list[int]) -> dict[str, float]:
    total: dict[str, float] = {"processes": 0.0, **dict.fromkeys(MEASURES, 0.0)}
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            memory = process.memory_full_info()
            total["processes"] += 1
            total["rss_mb"] += memory.rss / 1e6
            total["pss_mb"] += memory.pss / 1e6
            total["files"] += process.num_fds()
            total["threads"] += process.num_threads()
    return total


def season(nights: int, seed: int, mongo: str, *, pause_s: float = 5.0, limit_s: float = np.inf) -> Growth:
    """Observe a season of nights at the speed of the machine, with faults and people all along.

    Parameters
    ----------
    nights : int
        Number of nights.
    seed : int
        Of everything random.
    mongo : str
        ``embedded`` or ``external``.
    pause_s : float, optional
        Mean pause between two faults [s].
    limit_s : float, optional
        The season ends after this time [s], with fewer nights.

    Returns
    -------
    Growth
    """
    result, began = Growth(nights, seed, mongo), time.monotonic()
    with opened(mongo, seed, keep=False) as site:
        people = People(site, random.Random(seed + 1))
        world = World(site, people, random.Random(seed), {})
        site.start()
        wait_for_daemon(site)
        people.prepare()
        people.start()
        stopping = threading.Event()
        faults = threading.Thread(target=_inject, args=(world, stopping, pause_s), daemon=True)
        faults.start()
        for number in range(nights):
            if time.monotonic() - began > limit_s:
                break
            _observe(world, str(_date(number)), seed)
            result.violations += _packed(world, str(_date(max(0, number - BEHIND))))
            result.samples.append(measure(site))
            site.say(f"night {number + 1} of {nights}: {result.samples[-1]}")
        stopping.set()
        faults.join()
        people.stop()
        result.kinds, result.acts = dict(sorted(world.counts.items())), people.done.acts
        result.violations += [*site.daemon.ended_by_itself, *site.portal.ended_by_itself]
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _date(number: int) -> int:
    """Return the date of a night: months of 28 nights are long enough."""
    return FIRST_NIGHT // 100 * 100 + number // 28 * 100 + number % 28 + 1


def _inject(world: World, stopping: threading.Event, pause_s: float) -> None:
    while not stopping.wait(world.rng.uniform(0, 2 * pause_s)):
        if world.content:
            inject(world, world.rng.choice([name for name in FAULTS if name in KINDS]))


def _observe(world: World, night: str, seed: int) -> None:
    """Write the raw files of a night."""
    content = {(night, name): data for name, data in make_night(night, seed, TARGETS[:1]).items()}
    with world.locks.setdefault("raw", threading.Lock()):
        for (_, name), data in content.items():
            deliver(world.site.raw[0] / night, name, data, time.time())
        world.content = content


def _packed(world: World, night: str) -> list[str]:
    """Wait until a night is packed; return what is not after a long time."""
    deadline = time.monotonic() + NIGHT_S
    while time.monotonic() < deadline:
        with suppress(PyMongoError, OSError, ValueError, LookupError):
            found = list(world.site.db()["objects"].find({"night": night}, {"distributed": 1}))
            if found and all((each.get("distributed") or {}).get("status") for each in found):
                return []
        time.sleep(0.5)
    with suppress(PyMongoError, OSError, ValueError, LookupError):
        return [f"night {night}: {text}" for text in invariant.unsettled(world.site, 0.0) if night in text]
    return [f"night {night} was not packed within {NIGHT_S:g} s"]

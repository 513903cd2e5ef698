"""What an installation costs beside its steps: processor time and memory of all its processes.

``python benchmarks/bench_system.py night RAW`` reduces nights of raw files (a folder of nightly folders, as
``obsarchive simulate`` writes) by ``archiver.py --once`` in an archive of its own, and compares the processor time of
all processes with that of the steps, each counted once. ``--copies N`` takes each observation N times, under N names.
``python benchmarks/bench_system.py observation [--frames 350]`` simulates one observation and compares with ``lbzip2``.
``python benchmarks/bench_system.py steps [--observations 100]`` does the same with steps that do nothing: what a run
costs, and what each step adds (claim, process, manifest, result).
``python benchmarks/bench_system.py idle [--seconds 60]`` starts daemon and portal on an empty archive.
All print Markdown; Linux only.
"""

import argparse
import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil

PROJECT = Path(__file__).resolve().parents[1]
if not any(Path(folder, "obsarchive").is_dir() for folder in sys.path):
    sys.path.insert(0, str(PROJECT))

from obsarchive.cli.main import ONE_THREAD  # noqa: E402
from obsarchive.config.loading import load  # noqa: E402
from obsarchive.database.connect import open_store  # noqa: E402
from obsarchive.simulation.night import NightPlan, Target, write_night, write_raw  # noqa: E402
from obsarchive.simulation.scenes import Scene, Star  # noqa: E402

PR_SET_CHILD_SUBREAPER = 36
NIGHT = "20260314"
SAMPLED_S = 0.1
STARTED_S = 40.0
"""Time that the processes of an idle installation get to start [s]."""


class Usage:
    """Processor time of all processes below this one, by what they are; sampled, as the kernel keeps none of the dead.

    Attributes
    ----------
    total_s : float
        Exact: that of the children that ended meanwhile, mongod among them [s].
    """

    def __init__(self) -> None:
        self.total_s = 0.0
        self._seen: dict[tuple[int, float], tuple[str, float]] = {}
        self._before = _children_s()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextmanager
    def sampled(self) -> Iterator[None]:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # mongod leaves its parent, and becomes a child of ours
        self._thread.start()
        try:
            yield
        finally:
            while psutil.Process().children():
                with suppress(ChildProcessError):
                    os.waitpid(-1, os.WNOHANG)
                time.sleep(SAMPLED_S)
            self._stopping.set()
            self._thread.join()
            self.total_s = _children_s() - self._before

    def _run(self) -> None:
        while not self._stopping.wait(SAMPLED_S):
            with suppress(psutil.Error):
                for process in psutil.Process().children(recursive=True):
                    with suppress(psutil.Error):
                        if process.status() == psutil.STATUS_ZOMBIE:
                            continue  # it has no command any more that says what it was
                        times = process.cpu_times()
                        self._seen[process.pid, process.create_time()] = kind(process), times.user + times.system

    def by_kind(self) -> dict[str, float]:
        """Return the processor time of each kind of process [s]."""
        found: dict[str, float] = defaultdict(float)
        for name, seconds in self._seen.values():
            found[name] += seconds
        return found


def kind(process: psutil.Process) -> str:
    """Return what a process of an installation is."""
    name, command = str(process.name()), " ".join(process.cmdline())
    if name in ("archive-worker", "archive-step", "mongod", "lbzip2"):
        return name
    if name == "archive-forker" or "multiprocessing.forkserver" in command:
        return "forkserver"
    return "portal" if "server_data_archive" in command else "daemon"


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def configuration(folder: Path) -> Path:
    """Write the shipped configuration for an archive in a folder; returns its path."""
    shipped = json.loads((PROJECT / "config.json").read_text())
    shipped["daemon"]["settle_time_s"] = 0
    shipped["paths"] = {"raw": ["raw"], "archive": "archive", "tmp": "tmp", "logs": "logs"}
    shipped["server"]["port"] = 8971
    for name in ("raw", "archive"):
        (folder / name).mkdir(exist_ok=True)
    config = folder / "config.json"
    config.write_text(json.dumps(shipped))
    return config


def empty_steps(folder: Path, n_observations: int) -> Path:
    """Write so many observations for an archive whose only step does nothing; returns its configuration."""
    config = configuration(folder)
    chosen = json.loads(config.read_text()) | {"pipelines": [{"class": "benchmarks.sleeping.Sleeping"}]}
    config.write_text(json.dumps(chosen))
    (folder / "seconds").write_text("0")
    raw, template = folder / "raw" / NIGHT, folder / "template.fits"
    raw.mkdir(parents=True)
    write_raw(template, iter(np.ones((1, 8, 8), np.uint16)), 1, {"TELRA": "20:24:00.00", "TELDEC": "-08:30:00.0"})
    for number in range(n_observations):
        time_utc = f"{number // 3600:02d}{number // 60 % 60:02d}{number % 60:02d}"
        shutil.copy(template, raw / f"3_S{number}_VIC_Si_o_{NIGHT}_{time_utc}.000000.fits")
    return config


def steps(folder: Path, n_observations: int) -> None:
    """Print what a run costs, and what each of its steps adds, where steps do nothing."""
    totals = []
    for count in (1, n_observations):
        place = folder / str(count)
        place.mkdir()
        usage, wall_s, jobs = reduced(place, empty_steps(place, count))
        print_usage(usage, wall_s, jobs, count)
        totals.append(usage.total_s)
    each_s = (totals[1] - totals[0]) / (n_observations - 1)
    print(f"\na run: {totals[0] - each_s:.1f} s; each step, with the packing of its observation: {each_s:.3f} s")


def reduced(folder: Path, config: Path | None = None) -> tuple[Usage, float, list[dict[str, object]]]:
    """Run the daemon once; returns what was used, wall time [s], and the attempts of all steps."""
    config, usage, began = config or configuration(folder), Usage(), time.monotonic()
    with usage.sampled(), (folder / "daemon.log").open("w") as log:
        command = [sys.executable, str(PROJECT / "archiver.py"), str(config), "--once"]
        subprocess.run(command, check=True, stdout=log, stderr=log)
    wall_s = time.monotonic() - began
    with open_store(load(config)) as store:
        return usage, wall_s, list(store.jobs.recent(limit=100_000))


def print_usage(usage: Usage, wall_s: float, jobs: list[dict[str, object]], tarballs: int) -> float:
    """Print the processor time by kind, and compare with the steps; returns that of the steps, each once [s]."""
    once = {(job["subject"], job["pipeline"], job["step"]): cpu_s(job) for job in reversed(jobs)}
    steps_s, again = sum(once.values()), len(jobs) - len(once)
    print(f"\n{len(jobs)} steps, {again} of them again, {tarballs} tarballs, {wall_s:.0f} s of wall time\n")
    print("| processes | CPU [s] |\n|---|---|")
    for name, seconds in sorted(usage.by_kind().items(), key=lambda item: -item[1]):
        print(f"| {name} | {seconds:.1f} |")
    print(f"| all | {usage.total_s:.1f} |\n| steps, each once, with their lbzip2 | {steps_s:.1f} |")
    return steps_s


def made(folder: Path) -> Path:
    """Make a folder; return it."""
    folder.mkdir(parents=True)
    return folder


def night(folder: Path, raw: Path, copies: int) -> None:
    """Compare the processor time of all processes with that of the steps of nights."""
    for source in (path for path in raw.iterdir() if path.is_dir()):
        target = folder / "raw" / source.name
        target.mkdir(parents=True)
        for file in source.iterdir():
            for number in range(copies if "_VIC_" in file.name else 1):
                name = file.name.replace("_VIC_", f"-{number}_VIC_") if number else file.name
                (target / name).symlink_to(file.resolve())
    for catalogue in raw.parent.glob("archive/stars.csv"):
        (folder / "archive").mkdir(exist_ok=True)
        shutil.copy(catalogue, folder / "archive")
    usage, wall_s, jobs = reduced(folder)
    packs = (folder / "daemon.log").read_text().count(": packed")
    steps_s = print_usage(usage, wall_s, jobs, packs)
    # what is repeated counts in the ratio before, not here
    outside = usage.total_s - sum(map(cpu_s, jobs)) - packing_s(folder)
    print("\n| what | ratio |\n|---|---|")
    print(f"| all / steps | {usage.total_s / steps_s:.2f} |")
    print(f"| outside steps and packing / all | {outside / usage.total_s:.2f} |")


def cpu_s(job: dict[str, object]) -> float:
    """Return the processor time of an attempt, that of its lbzip2 included [s]."""
    return float(str(job.get("cpu_s") or 0))


def packing_s(folder: Path) -> float:
    """Return the processor time in which the tarballs of an archive are compressed again, by lbzip2 alone [s]."""
    seconds = 0.0
    for tarball in (folder / "archive").rglob("*.tar.bz2"):
        content = subprocess.run(["lbzip2", "-d", "-c", str(tarball)], capture_output=True, check=True).stdout
        before = _children_s()
        subprocess.run(["lbzip2", "-c"], input=content, stdout=subprocess.DEVNULL, check=True)
        seconds += _children_s() - before
    return seconds


def observation(folder: Path, n_frames: int, side: int) -> None:
    """Compare the processor time of all processes with that of unpacking one observation by lbzip2."""
    scene = Scene((Star(), Star(-1.3, 1.1, 3.2)), zero_flux_e=6e4)
    target = Target("3", "benchmark", "Si", scene, n_frames=n_frames, shape=(side, side), magnitude=11.0)
    plan = NightPlan(targets=(target,), n_seeing=0, dark_frames=5, detector=(side, side))
    folder_of_night = write_night(folder / "raw", plan)
    before = _children_s()
    with (folder / "unpacked").open("wb") as out:
        file = next(folder_of_night.glob("*benchmark*"))
        subprocess.run(["lbzip2", "-d", "-c", "-n", "2", str(file)], stdout=out, check=True)
    lbzip2_s = _children_s() - before
    usage, wall_s, jobs = reduced(folder)
    print_usage(usage, wall_s, jobs, 1)
    print(
        f"| lbzip2 alone, of the observation | {lbzip2_s:.1f} |\n| all / unpacking | {usage.total_s / lbzip2_s:.2f} |"
    )


def idle(folder: Path, seconds: float) -> None:
    """Print processor time and memory of the processes of an installation that has nothing to do."""
    config = configuration(folder)
    programs = [
        subprocess.Popen([sys.executable, str(PROJECT / name), str(config)], stderr=subprocess.DEVNULL)
        for name in ("archiver.py", "server_data_archive.py")
    ]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        time.sleep(STARTED_S)
        processes = psutil.Process().children(recursive=True)
        began = {process: sum(process.cpu_times()[:2]) for process in processes}
        time.sleep(seconds)
        print("| process | CPU of a core [%] | memory, its share [MB] | CPU of its start [s] |\n|---|---|---|---|")
        total = {"cpu": 0.0, "memory": 0.0}
        for process, before in began.items():
            used = 100 * (sum(process.cpu_times()[:2]) - before) / seconds
            memory_mb = process.memory_full_info().pss / 1e6
            total = {"cpu": total["cpu"] + used, "memory": total["memory"] + memory_mb}
            print(f"| {kind(process)} | {used:.2f} | {memory_mb:.0f} | {before:.1f} |")
        print(f"| all | {total['cpu']:.2f} | {total['memory']:.0f} | |")
    finally:
        for program in programs:
            program.send_signal(signal.SIGTERM)
        for program in programs:
            program.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    of_night = commands.add_parser("night")
    of_night.add_argument("raw", type=Path)
    of_night.add_argument("--copies", type=int, default=1)
    of_night.add_argument("--keep", type=Path, help="folder, not there yet, for the archive, which is kept")
    of_observation = commands.add_parser("observation")
    of_observation.add_argument("--frames", type=int, default=350)
    of_observation.add_argument("--side", type=int, default=1024, help="of a frame [pixel]")
    commands.add_parser("steps").add_argument("--observations", type=int, default=100)
    commands.add_parser("idle").add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    os.environ |= {"PYTHONPATH": str(PROJECT), **dict.fromkeys(ONE_THREAD, "1")}
    folder = Path(tempfile.mkdtemp(prefix="system-"))
    try:
        match options.what:
            case "night":
                night(made(options.keep) if options.keep else folder, options.raw, options.copies)
            case "observation":
                observation(folder, options.frames, options.side)
            case "steps":
                steps(folder, options.observations)
            case _:
                idle(folder, options.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

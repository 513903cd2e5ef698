"""A whole observation through the daemon, bright and faint star, against lbzip2 alone on the same file.

``python benchmarks/bench_observation.py [frames [tree of an earlier version]]`` prints a Markdown table; 770 frames
(1.6 GB) by default.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
if not any(Path(folder, "obsarchive").is_dir() for folder in sys.path):
    sys.path.insert(0, str(PROJECT))

from obsarchive.config.loading import load  # noqa: E402
from obsarchive.database.connect import open_store  # noqa: E402
from obsarchive.simulation.night import NightPlan, Target, write_night  # noqa: E402
from obsarchive.simulation.scenes import Scene, Star  # noqa: E402

HEADER = "| what | ours | before | lbzip2 -d -n 2 alone | ratio | goal |\n|---|---|---|---|---|---|"
ROUNDS = 2


def table(n_frames: int = 770, before: Path | None = None) -> str:
    """Simulate, reduce and unpack in turns; returns the comparison as Markdown: the least of the rounds.

    Parameters
    ----------
    n_frames : int
        Frames of the observation.
    before : Path, optional
        Tree of an earlier version, which reduces the same night.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = _simulate(folder, n_frames)
        ours, earlier, alone = [], [], []
        for _ in range(ROUNDS):
            alone.append(_unpack(raw, folder / "unpacked"))
            ours.append(_reduced(PROJECT, folder))
            if before:
                earlier.append(_reduced(before, folder))
        alone.append(_unpack(raw, folder / "unpacked"))
    mine, theirs, peer = (tuple(map(min, zip(*rows, strict=True))) for rows in (ours, earlier, alone))
    units = (
        "wall [s], bright star",
        "processor time [s], bright star",
        "processor time [s], faint star, same unpacked file",
    )
    goals = (1.2, 1.25, 0.2)
    lines = []
    for i, (unit, goal) in enumerate(zip(units, goals, strict=True)):
        base, was = peer[min(i, 1)], f"{theirs[i]:.1f}" if theirs else ""
        lines.append(f"| {unit} | {mine[i]:.1f} | {was} | {base:.1f} | {mine[i] / base:.2f} | {goal:g} |")
    was = f"{theirs[3]:.0f}" if theirs else ""
    lines.append(f"| peak memory of a step [MB] | {mine[3]:.0f} | {was} | | | 400 |")
    return "\n".join([f"{n_frames} frames of 1024x1024.", "", HEADER, *lines])


def _simulate(folder: Path, n_frames: int) -> Path:
    scene = Scene((Star(), Star(-1.3, 1.1, 3.2)), zero_flux_e=6e4)
    target = Target("3", "benchmark", "Si", scene, n_frames=n_frames, shape=(1024, 1024), magnitude=13.0)
    night = write_night(folder / "raw", NightPlan(targets=(target,), n_seeing=0, dark_frames=5))
    return next(night.glob("*benchmark*"))


def _reduced(tree: Path, folder: Path) -> tuple[float, float, float, float]:
    """Reduce the night by the daemon of a tree: wall and processor time of the bright star, that of the faint star [s].

    The last is the peak memory of a step [MB].
    """
    config = _configuration(folder)
    command = [sys.executable, str(tree / "archiver.py"), str(config), "--once"]
    subprocess.run(command, check=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(tree)})
    with open_store(load(config)) as store:
        jobs = list(store.jobs.recent(limit=100))
    for left in ("archive", "tmp", "logs"):
        shutil.rmtree(folder / left, ignore_errors=True)
    bright, faint = ([job for job in jobs if job["pipeline"] == name] for name in ("bright_star", "faint_star"))
    return (
        sum(job["duration_s"] for job in bright),
        sum(job["cpu_s"] for job in bright),
        sum(job["cpu_s"] for job in faint),
        max(job["peak_memory_mb"] for job in [*bright, *faint]),
    )


def _configuration(folder: Path) -> Path:
    shipped = json.loads((PROJECT / "config.json").read_text())
    shipped["daemon"]["settle_time_s"] = 0
    config = folder / "config.json"
    shipped["paths"] = {"raw": ["raw"], "archive": "archive", "tmp": "tmp", "logs": "logs"}
    config.write_text(json.dumps(shipped))
    return config


def _unpack(raw: Path, target: Path) -> tuple[float, float]:
    """Wall and processor time of lbzip2 [s], writing to a file as ours does."""
    before, started = os.times(), time.monotonic()
    with target.open("wb") as out:
        subprocess.run(["lbzip2", "-d", "-c", "-n", "2", str(raw)], stdout=out, check=True)
    after = os.times()
    target.unlink()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - started, cpu_s


if __name__ == "__main__":
    sys.stdout.write(table(*map(int, sys.argv[1:2]), *map(Path, sys.argv[2:3])) + "\n")

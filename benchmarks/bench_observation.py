"""A whole observation through the daemon, bright and faint star, against lbzip2 alone on the same file.

``python benchmarks/bench_observation.py [frames]`` prints a Markdown table; 770 frames (1.6 GB) by default.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from obsarchive.config.model import load
from obsarchive.database.connect import open_store
from obsarchive.simulation.night import NightPlan, Target, write_night
from obsarchive.simulation.scenes import Scene, Star

PROJECT = Path(__file__).resolve().parents[1]
HEADER = "| what | ours | lbzip2 -d -n 2 alone | ratio | goal |\n|---|---|---|---|---|"


def table(n_frames: int = 770) -> str:
    """Simulate, reduce and unpack; returns the comparison as Markdown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = _simulate(folder, n_frames)
        config = _configuration(folder)
        subprocess.run([sys.executable, str(PROJECT / "archiver.py"), str(config), "--once"], check=True)
        with open_store(load(config)) as store:
            jobs = list(store.jobs.recent(limit=100))
        wall_s, cpu_s = _unpack(raw, folder / "unpacked")
    bright, faint = ([job for job in jobs if job["pipeline"] == name] for name in ("bright_star", "faint_star"))
    our_wall_s = sum(job["duration_s"] for job in bright)
    our_cpu_s, faint_cpu_s = (sum(job["cpu_s"] for job in some) for some in (bright, faint))
    peak_mb = max(job["peak_memory_mb"] for job in [*bright, *faint])
    rows = (
        (f"wall [s], bright star, {n_frames} frames", our_wall_s, wall_s, "1.5"),
        ("processor time [s], bright star", our_cpu_s, cpu_s, "1.5"),
        ("processor time [s], faint star, on the same unpacked file", faint_cpu_s, cpu_s, "0.3"),
    )
    compared = [f"| {what} | {o:.1f} | {peer:.1f} | {o / peer:.2f} | {goal} |" for what, o, peer, goal in rows]
    return "\n".join([HEADER, *compared, f"| peak memory of a step [MB] | {peak_mb:.0f} | | | 1000 |"])


def _simulate(folder: Path, n_frames: int) -> Path:
    scene = Scene((Star(), Star(-1.3, 1.1, 3.2)), zero_flux_e=6e4)
    target = Target("3", "benchmark", "Si", scene, n_frames=n_frames, shape=(1024, 1024), magnitude=13.0)
    night = write_night(folder / "raw", NightPlan(targets=(target,), n_seeing=0, dark_frames=5))
    return next(night.glob("*benchmark*"))


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
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - started, cpu_s


if __name__ == "__main__":
    sys.stdout.write(table(*map(int, sys.argv[1:2])) + "\n")

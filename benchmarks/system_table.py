"""The rows of the table of goals that concern the whole system, measured one after the other.

``python benchmarks/system_table.py [--quick]`` prints a Markdown table, what was measured in detail goes to standard
error. About 25 minutes on two cores of their own, two with ``--quick``, whose numbers say nothing.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
if not any(Path(folder, "obsarchive").is_dir() for folder in sys.path):
    sys.path.insert(0, str(PROJECT))

from obsarchive.cli.main import ONE_THREAD  # noqa: E402
from obsarchive.simulation.night import NightPlan, write_catalog, write_night  # noqa: E402

HEADER = "| what | measured | goal | |\n|---|---|---|---|"
ROW = re.compile(r"^\| (.+?) \|((?: *[\d.]* *\|)+)$", re.MULTILINE)
DAEMON = "from obsarchive.config.loading import load; import obsarchive.daemon.scheduler; load('config.json')"
"""What a daemon imports, its pipelines among it, in whose process the server of steps is forked."""
LOOKS = "look at what did not change", "glob and regular expression"


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    targets: int = 15
    copies: int = 7
    frames: int = 350
    side: int = 1024
    idle_s: float = 60.0
    nights: int = 1000
    files: int = 100_000


QUICK = Sizes(targets=2, copies=1, frames=30, side=128, idle_s=5.0, nights=5, files=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny inputs, to see whether it runs")
    quick = parser.parse_args().quick
    os.environ |= {"PYTHONPATH": str(PROJECT), **dict.fromkeys(ONE_THREAD, "1")}
    print(HEADER)
    with tempfile.TemporaryDirectory(prefix="system-") as name:
        for what, measured, goal in rows(Path(name), QUICK if quick else Sizes()):
            verdict = "reached" if measured <= goal else "MISSED"
            print(f"| {what} | {measured:.3g} | ≤ {goal:g} | {verdict} |", flush=True)


def rows(folder: Path, sizes: Sizes) -> Iterator[tuple[str, float, float]]:
    """Yield what was measured, and its goal."""
    yield from starts()
    idle = figures("bench_system.py", "idle", "--seconds", str(sizes.idle_s))
    yield "idle installation, processor time [% of a core]", idle["all"][0], 2.0
    yield "idle installation, memory of all processes [MB]", idle["all"][1], 600.0
    observed = figures("bench_system.py", "observation", "--frames", str(sizes.frames), "--side", str(sizes.side))
    yield f"observation of {sizes.frames} frames, all processes / unpacking", observed["all / unpacking"][0], 1.7
    plan = NightPlan(targets=NightPlan().targets[: sizes.targets])
    raw, archive = folder / "demo" / "raw", folder / "night"
    write_night(raw, plan)
    write_catalog(folder / "demo" / "archive", plan)
    once = figures("bench_system.py", "night", str(raw), "--keep", str(archive))
    yield f"demo night of {sizes.targets} observations, all processes / steps, each once", once["all / steps"][0], 1.25
    yield from grown(archive / "config.json", sizes)
    copied = figures("bench_system.py", "night", str(raw), "--copies", str(sizes.copies))
    outside = "outside steps and packing / all"
    yield f"night of {sizes.copies * sizes.targets} observations, {outside}", copied[outside][0], 0.10


def starts() -> Iterator[tuple[str, float, float]]:
    """Yield the processor time of programs that start [s]."""

    yield "`obsarchive --help` [s]", cpu_s(["-m", "obsarchive", "--help"]), 0.3
    yield "import of `surveys.project` [s]", cpu_s(["-c", "import surveys.project"]), 0.8
    with_server_s = cpu_s(["-c", f"{DAEMON}; import obsarchive.execution.preload"])
    yield "server that forks steps, beyond what the daemon imports [s]", with_server_s - cpu_s(["-c", DAEMON]), 1.5


def cpu_s(arguments: list[str]) -> float:
    """Return the processor time of a program of Python, the lesser of two runs [s]."""
    return min(_once_s(arguments) for _ in range(2))


def _once_s(arguments: list[str]) -> float:
    def used_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = used_s()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=PROJECT)
    return used_s() - before


def grown(config: Path, sizes: Sizes) -> Iterator[tuple[str, float, float]]:
    """Yield what many finished observations cost, copies of those of an archive, and many files that arrive."""
    growth = figures("bench_growth.py", str(config), "--nights", str(sizes.nights), "--copies", str(sizes.copies))
    count = sizes.nights * sizes.copies * sizes.targets
    yield f"start over {count} finished observations [s]", growth["start over the tree"][0], 5.0
    yield f"idle cycle over {count} finished observations [s]", growth["idle cycle, median"][0], 0.1
    nights = str(max(1, sizes.files // 1000))
    arrival = figures("bench_arrival.py", str(config), "--files", str(sizes.files), "--nights", nights)
    first_s = arrival["first step submitted, wall"][0]
    yield f"{sizes.files} files at once, until the first step is handed out [s]", first_s, 60.0
    unchanged, peer = (arrival[f"{look}, processor time"][0] for look in LOOKS)
    yield "a look at files that did not change / `glob` and a regular expression", unchanged / peer, 0.25


def figures(program: str, *arguments: str) -> dict[str, list[float]]:
    """Run another benchmark; return the figures of the rows of its tables by what they are."""
    command = [sys.executable, str(HERE / program), *arguments]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=PROJECT).stdout
    sys.stderr.write(said)
    return {what: [float(cell) for cell in cells.split("|") if cell.strip()] for what, cells in ROW.findall(said)}


if __name__ == "__main__":
    main()

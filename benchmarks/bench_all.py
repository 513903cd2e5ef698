"""All benchmarks of speed, each beside its peers and beside an earlier commit, in turns; writes ``RESULTS.md``.

``python benchmarks/bench_all.py [--before COMMIT] [--frames 770] [--rounds 2] [word ...]``: kernels whose name contains
one of the words, all benchmarks by default. Only a complete run writes the file. The earlier commit is checked out
beside this tree (``git worktree``) and runs the same benchmarks with its own code; what it does not have stays empty.

A complete run takes about 45 minutes on two cores of their own, at most 110: a part that takes longer than its limit
is stopped, and the table says so. ``--quick`` has tiny inputs, to see in a few minutes whether all parts run; it writes
no file.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from obsarchive.cli.main import ONE_THREAD

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
RESULTS = HERE / "RESULTS.md"
QUICK_FRAMES = 40
Found = dict[str, dict[str, float | str]]
"""What was measured, by case."""
KERNELS = """\
| kernel | ours [ms] | before [ms] | ours, peak [MB] | peer | peer [ms] | ratio | goal | results differ by |
|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--before", default="", help="commit whose build is a second peer")
    parser.add_argument("--frames", type=int, default=770, help="of the whole observation")
    parser.add_argument("--rounds", type=int, default=2, help="how often each build has its turn")
    parser.add_argument("--quick", action="store_true", help="tiny inputs, to see whether all parts run")
    options = parser.parse_args()
    with checked_out(options.before) as before:
        parts = ["# Speed beside peers", "", described(options.before), "", "## Kernels", ""]
        quick = ["--quick"] if options.quick else []
        parts += [KERNELS, *kernels([*options.words, *quick], before, 1 if options.quick else options.rounds)]
        if not options.words:
            parts += sections(options.frames, before, options.quick)
    text = "\n".join(parts) + "\n"
    sys.stdout.write(text)
    if not options.words and not options.quick:
        RESULTS.write_text(text)


def described(before: str) -> str:
    versions = (
        f"Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}, {os.cpu_count()} cores"
    )
    last = f"*Before*: the build of commit `{before}`." if before else ""
    return (
        f"`make bench`, {versions}. Processor time of one thread, the best of several runs in turns, if not stated"
        f" otherwise. {last}".strip()
    )


@contextmanager
def checked_out(commit: str) -> Iterator[Path | None]:
    """Check an earlier commit out into a folder of its own, for as long as it is needed."""
    if not commit:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="before-") as name:
        folder = Path(name) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(folder), commit], cwd=PROJECT, check=True)
        try:
            yield folder
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(folder)], cwd=PROJECT, check=True)


def kernels(words: list[str], before: Path | None, rounds: int) -> list[str]:
    """Rows of all kernels, by both builds in turns."""
    ours, earlier = Found(), Found()
    for _ in range(rounds):
        merge(ours, run_kernels(PROJECT, words))
        if before:
            merge(earlier, run_kernels(before, [*words, "--alone"]))
    goals = goals_of(PROJECT)
    return [row(name, found, earlier.get(name, {}), goals[name]) for name, found in ours.items()]


def merge(best: Found, new: Found) -> None:
    """Keep the least times of each case."""
    for name, found in new.items():
        known = best.setdefault(name, found)
        for key in ("ours", "peer"):
            if key in found:
                known[key] = min(float(known[key]), float(found[key]))


def environment(tree: Path) -> dict[str, str]:
    """Environment in which the packages of a tree are imported."""
    return {**os.environ, "PYTHONPATH": str(tree), **dict.fromkeys(ONE_THREAD, "1")}


def run_kernels(tree: Path, arguments: list[str]) -> Found:
    """Run the kernels with the code of a tree; an older one may lack some of them, and what comes after."""
    command = [sys.executable, str(HERE / "bench_kernels.py"), *arguments]
    done = subprocess.run(command, env=environment(tree), stdout=subprocess.PIPE, text=True, check=tree == PROJECT)
    return {found.pop("name"): found for found in map(json.loads, done.stdout.splitlines())}


def goals_of(tree: Path) -> dict[str, tuple[str, float, float]]:
    """Peer and goals of each case."""
    code = "import json, bench_kernels, contest; "
    code += "print(json.dumps({c.name: (c.peer, c.goal, c.goal_ms) for c in contest.CASES}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HERE, env=environment(tree), stdout=subprocess.PIPE, text=True, check=True
    )
    goals: dict[str, tuple[str, float, float]] = json.loads(done.stdout)
    return goals


def row(
    name: str, found: dict[str, float | str], earlier: dict[str, float | str], goal: tuple[str, float, float]
) -> str:
    peer, least_ratio, most_ms = goal
    ours_ms = float(found["ours"])
    before = f"{float(earlier['ours']):.2f}" if earlier else ""
    cells = [name, f"{ours_ms:.2f}", before]
    if "peer" in found:
        ratio = float(found["peer"]) / ours_ms
        verdict = f"{least_ratio:g} ({'reached' if ratio >= least_ratio else 'MISSED'})"
        cells += [f"{float(found['memory']):.0f}", peer, f"{float(found['peer']):.1f}", f"{ratio:.1f}", verdict]
        cells.append(str(found["apart"]))
    else:
        limit = f"{most_ms:g} ms ({'reached' if ours_ms <= most_ms else 'MISSED'})" if most_ms else ""
        cells += ["", "", "", "", limit, ""]
    return "| " + " | ".join(cells) + " |"


def sections(frames: int, before: Path | None, quick: bool) -> list[str]:
    """Tables of the other benchmarks, each with its heading: ``QUICK_FRAMES`` and no earlier build if `quick`."""
    n_frames, earlier = (QUICK_FRAMES, []) if quick else (frames, [str(before)] if before else [])
    flag = ["--quick"] if quick else []
    parts = (
        ("Unpacking and reading", ["bench_io.py"], 10),
        ("Previews", ["bench_previews.py"], 5),
        ("A dataset of a time series", ["bench_timeseries.py", "2" if quick else "10"], 10),
        ("Survey photometry", ["bench_surveys.py", *(["200", "200"] if quick else [])], 10),
        ("A whole observation", ["bench_observation.py", str(n_frames), *earlier], 20),
        ("The whole system", ["system_table.py", *flag], 45),
    )
    return [
        text
        for name, command, limit_min in parts
        for text in ("", f"## {name}", "", table(command, 60 * limit_min).rstrip())
    ]


def table(command: list[str], limit_s: float) -> str:
    """Run a benchmark; return what it prints, and why it did not end if it did not."""
    program = [sys.executable, str(HERE / command[0]), *command[1:]]
    with subprocess.Popen(
        program, env=environment(PROJECT), cwd=HERE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            return f"{said}\n\nStopped after {limit_s / 60:.0f} minutes, the limit of this part."
    return said if process.returncode == 0 else f"{said}\n\n`{command[0]}` ended with {process.returncode}."


if __name__ == "__main__":
    sys.path.insert(0, str(PROJECT))
    main()

"""The benchmarks of speed run, and their kernels give what their peers give, on tiny inputs; nothing is timed."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BENCHMARKS = PROJECT / "benchmarks"


def run(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT}:{BENCHMARKS}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_all_kernels_agree_with_their_peers() -> None:
    found = [json.loads(line) for line in run(str(BENCHMARKS / "bench_kernels.py"), "--quick").splitlines()]
    compared = [case for case in found if "peer" in case]
    assert len(compared) >= 11
    assert all(case["agrees"] for case in compared)
    assert any("survey" in case["name"] for case in found)


def test_table_holds_a_row_for_each_kernel() -> None:
    made = run(str(BENCHMARKS / "bench_all.py"), "--rounds", "1", "calibrate one frame", "measure the guide star")
    rows = [
        line for line in made.splitlines() if line.startswith(("| calibrate one frame", "| measure the guide star"))
    ]
    assert len(rows) == 2
    assert all(row.count("|") == 10 for row in rows)

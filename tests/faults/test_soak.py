"""Thirty random faults on a running archive, while people work in it: nothing is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_thirty_faults_leave_the_archive_as_a_run_without_faults_makes_it():
    options = ["--faults", "30", "--seed", "2", "--nights", "1", "--pause", "0.5"]
    command = [sys.executable, "-m", "benchmarks.soak", *options, "--limit", "570"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 faults" in done.stdout
    assert "0 violation(s)" in done.stdout

"""Workers of a machine and their steps are forked from one server, and a step ends with its worker."""

import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from obsarchive.config.model import Parallel
from obsarchive.execution.cluster import Cluster, Progress, run_limited

PROJECT = Path(__file__).resolve().parents[2]
LIMIT_S = 30.0
FORKING = """
import os, signal, sys, threading, time
import obsarchive
from obsarchive.execution import forking
from obsarchive.execution.step_process import call_apart

forking.PRELOADED = ["obsarchive.execution.step_process"]
{before}
obsarchive.mark = "shared"
forking.fork_forkserver()
mark = "getattr(__import__('obsarchive'), 'mark', None)"
for _ in range(2):
    server = call_apart(20, os.getppid)
    name, term = open(f"/proc/{{server}}/comm").read().strip(), call_apart(20, signal.getsignal, signal.SIGTERM)
    print(name, call_apart(20, eval, mark), term is signal.SIG_DFL, call_apart(20, os.path.exists, "/proc/self/fd/99"))
    os.kill(server, signal.SIGKILL)
    os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
"""
"""A program like the daemon's, whose server dies once."""
Process = tuple[int, int, str]
"""Its number, that of its parent, and its name."""


def itself(*_: object) -> Process:
    """Return the process that this runs in; slowly, so that no worker takes all there is to do."""
    time.sleep(0.5)
    return os.getpid(), os.getppid(), psutil.Process().name()


def environment(*names: object) -> list[str | None]:
    return [os.environ.get(str(name)) for name in names]


def page_faults(*_: object) -> int:
    """Return the page faults of a hundred arrays of 1024 pages, one after the other."""
    np.zeros(2**20, np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        np.zeros(2**20, np.float32).fill(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def hang(file: Path, _: Path) -> None:
    """Write down the processes of the step and of its worker, and do not end."""
    worker = multiprocessing.parent_process()
    assert worker is not None
    file.with_suffix(".part").write_text(f"{os.getpid()} {worker.pid}")
    file.with_suffix(".part").rename(file)
    time.sleep(600)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(Parallel(n_workers=2), tmp_path_factory.mktemp("dask")) as started:
        yield started


def permit(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_one_server_forks_the_workers_and_their_steps(cluster: Cluster, tmp_path: Path) -> None:
    workers = [value for _, value in cluster.each(itself, range(6))]
    for number in range(2):
        cluster.submit(str(number), run_limited, permit(tmp_path / str(number)), LIMIT_S, itself, number)
    events = [cluster.events.get(timeout=LIMIT_S) for _ in range(2)]
    steps = [event.value for event in events if not isinstance(event, Progress)]
    assert len({pid for pid, _, _ in workers}) == 2
    assert {name for _, _, name in workers} == {"archive-worker"}
    assert {name for _, _, name in steps} == {"archive-step"}
    (server,) = {parent for _, parent, _ in (*workers, *steps)}
    assert server in {child.pid for child in psutil.Process().children()}


def test_memory_that_a_step_frees_is_used_again(cluster: Cluster, tmp_path: Path) -> None:
    cluster.submit("arrays", run_limited, permit(tmp_path / "permit"), LIMIT_S, page_faults)
    event = cluster.events.get(timeout=LIMIT_S)
    assert not isinstance(event, Progress)
    assert event.value < 100 * 1024 / 5


def test_programs_of_a_step_have_one_thread_and_keep_their_memory(cluster: Cluster, tmp_path: Path) -> None:
    names = "OPENBLAS_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_"
    cluster.submit("asking", run_limited, permit(tmp_path / "permit"), LIMIT_S, environment, *names)
    event = cluster.events.get(timeout=LIMIT_S)
    assert not isinstance(event, Progress)
    assert event.value[:2] == ["1", None]
    assert os.environ.get(names[1]) is None, "programs that pack for the daemon would inherit it"


def test_step_ends_with_its_worker(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "pids"
    cluster.submit("hanging", run_limited, permit(tmp_path / "permit"), 600.0, hang, file)
    deadline = time.monotonic() + LIMIT_S
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    step, worker = map(psutil.Process, map(int, file.read_text().split()))
    worker.kill()
    gone, alive = psutil.wait_procs([step], timeout=LIMIT_S)
    assert (gone, alive) == ([step], [])


def said_by_a_program_that_forks(before: str) -> list[str]:
    code = FORKING.format(before=before)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=PROJECT)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_server_is_forked_and_shares_what_was_imported_but_no_open_file_and_no_signal_handler() -> None:
    before = "signal.signal(signal.SIGTERM, print); os.dup2(1, 99)"
    first, after_its_death = said_by_a_program_that_forks(before)
    assert first == "archive-forker shared True False"
    assert after_its_death.endswith(" None True False")


def test_server_of_a_program_with_threads_is_a_program_of_its_own() -> None:
    said = said_by_a_program_that_forks("threading.Thread(target=time.sleep, args=(600,), daemon=True).start()")
    assert [line.split()[1] for line in said] == ["None", "None"]

"""How a night scales to many workers: the real daemon with steps that sleep, and a model of 10^4 observations.

``python benchmarks/bench_scaling.py [--observations 1000] [--step-s 10]`` prints two tables in Markdown. The first is
measured: daemon, database, scheduler and one worker process with a thread for each worker that it stands for; each step
is a process that sleeps. The second is a model of events whose times were measured in the same run: the daemon
harvests, looks through what is open and submits, one thing after the other; it keeps two steps a worker handed out.
"""

import argparse
import heapq
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT)]

from obsarchive.config.loading import load  # noqa: E402
from obsarchive.daemon.scheduler import Options, Scheduler  # noqa: E402
from obsarchive.database.connect import open_database  # noqa: E402
from obsarchive.execution.cluster import Cluster, Event, TaskFinished  # noqa: E402
from obsarchive.simulation.night import write_raw  # noqa: E402

NIGHT = "20260314"
HANDED_OUT = 2
"""Steps handed out for each worker."""


class Timed(Scheduler):
    """The daemon; it notes how long each of its cycles took, with what there was to do in it."""

    rows: list[tuple[float, int, int]]
    """Seconds, tasks that ended or were submitted, observations that were open."""

    def start(self) -> None:
        super().start()
        self.rows, self._harvested_s, self._ended, self._packs, self._known = [], 0.0, 0, 0, 0
        self.first = self.last = self.look_s = 0.0
        self._untimed, self.tasks._take_in = self.tasks._take_in, self._take_in

    def submit(self) -> None:
        if not self.rows and not self.tasks:
            self.look_s = min(self._look() for _ in range(5))
        began, running = time.perf_counter(), len(self.tasks.by_id)
        super().submit()
        submitted = len(self.tasks.by_id) - running
        if submitted or self._ended:
            seconds = time.perf_counter() - began + self._harvested_s
            self.rows.append((seconds, submitted + self._ended, self.store.observations.count_unpacked()))
            self.first = self.first or time.perf_counter()
        self._harvested_s, self._ended = 0.0, 0

    def _look(self) -> float:
        """Return the time for which all that is open is looked at, for each observation [s]."""
        began = time.perf_counter()
        count = sum(1 for _ in self.queue.subjects())
        return (time.perf_counter() - began) / max(count, 1)

    def _take_in(self, event: Event) -> None:
        began = time.perf_counter()
        self._untimed(event)
        self._harvested_s += time.perf_counter() - began
        self._ended += isinstance(event, TaskFinished)
        self.last = time.perf_counter()


def run(folder: Path, n_observations: int, n_workers: int, seconds: float) -> Timed:
    """Run a night of so many observations."""
    night = folder / "raw" / NIGHT
    night.mkdir(parents=True)
    (folder / "seconds").write_text(str(seconds))
    template = folder / "template.fits"
    write_raw(template, iter(np.ones((1, 8, 8), np.uint16)), 1, {"TELRA": "20:24:00.00", "TELDEC": "-08:30:00.0"})
    for number in range(n_observations):
        hour, minute, second = number // 3600, number // 60 % 60, number % 60
        shutil.copy(template, night / f"3_S{number}_VIC_Si_o_{NIGHT}_{hour:02d}{minute:02d}{second:02d}.000000.fits")
    config = {
        "paths": {"raw": ["raw"], "archive": "archive", "tmp": "tmp", "logs": "logs"},
        "parallel": {"n_workers": 1, "threads_per_worker": n_workers},
        "daemon": {"settle_time_s": 0, "min_free_gb": 0},
        "pipelines": [{"class": "benchmarks.sleeping.Sleeping"}],
    }
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    loaded = load(file)
    with open_database(loaded) as opened:
        daemon = Timed(loaded, opened, Cluster(loaded.parallel, loaded.paths.tmp), Options(once=True))
        daemon.run()
    return daemon


Times = tuple[float, float, float, float]
"""Of the daemon for a cycle, a task that ends or is submitted, an open observation; of a worker for a process [s]."""


def modelled(n_observations: int, n_steps: int, n_workers: int, step_s: float, times: Times) -> float:
    """Return the time in which a night is done [s].

    Parameters
    ----------
    n_observations : int
        Number of observations.
    n_steps : int
        Steps of each, one after the other; then it is packed, which takes no time of a worker but that of a process.
    n_workers : int
        Number of workers.
    step_s : float
        Time of a step on a worker [s].
    times : Times
        What was measured.
    """
    cycle_s, task_s, look_s, process_s = times
    now, left = 0.0, n_observations
    due = [n_observations] + [0] * n_steps
    free = [0.0] * n_workers
    ends: list[tuple[float, int]] = []
    while left:
        handled = 0
        while ends and ends[0][0] <= now:
            stage = heapq.heappop(ends)[1]
            handled += 1
            if stage == n_steps:
                left -= 1
            else:
                due[stage + 1] += 1
        submitted = []
        while len(ends) + len(submitted) < HANDED_OUT * n_workers and any(due):
            stage = max(number for number, count in enumerate(due) if count)
            due[stage] -= 1
            submitted.append(stage)
        now += cycle_s + look_s * left + task_s * (handled + len(submitted))
        for stage in submitted:
            end = max(heapq.heappop(free), now) + process_s + (step_s if stage < n_steps else 0.0)
            heapq.heappush(free, end)
            heapq.heappush(ends, (end, stage))
        now = max(now, ends[0][0]) if ends else now
    return now


def print_night(n_steps: int, step_s: float, times: Times) -> None:
    """Print the model of a night of 10^4 observations."""
    print("\n| workers | observations a night | steps | time [h] | efficiency |\n|---|---|---|---|---|")
    for n_workers in (4, 16, 64):
        took = modelled(10_000, n_steps, n_workers, step_s, times)
        efficiency = 10_000 * n_steps * step_s / n_workers / took
        print(f"| {n_workers} | 10000 | {n_steps} of {step_s:g} s | {took / 3600:.2f} | {efficiency:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--observations", type=int, default=1000, help="of the night in which the daemon is measured")
    parser.add_argument("--steps", type=int, default=6, help="of an observation in the model")
    parser.add_argument("--step-s", type=float, default=10.0, help="time of each in the model [s]")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(PROJECT)
    del sys.modules["__main__"].__file__  # or each process of a step would import all this again
    folder = Path(tempfile.mkdtemp(prefix="scaling-"))
    try:
        measured(folder, options.observations, options.steps, options.step_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measured(folder: Path, n_observations: int, n_steps: int, step_s: float) -> None:
    """Measure, and print both tables."""
    short = run(folder / "short", n_observations, 2, 0.0)
    rows = np.array(short.rows)
    look_s, design = short.look_s, np.column_stack([np.ones(len(rows)), rows[:, 1]])
    cycle_s, task_s = np.clip(np.linalg.lstsq(design, rows[:, 0] - look_s * rows[:, 2], rcond=None)[0], 0.0, None)
    fork_s = 2 * (short.last - short.first - rows[:, 0].sum()) / (2 * n_observations)
    times = (cycle_s, task_s, look_s, max(fork_s, 0.0))
    print(f"{n_observations} observations in {short.last - short.first:.1f} s, {len(rows)} cycles: ", end="")
    print(f"{cycle_s * 1e3:.1f} ms a cycle, {task_s * 1e3:.2f} ms a task, {look_s * 1e3:.3f} ms an open observation,")
    print(f"{times[3] * 1e3:.0f} ms a process of a worker\n")
    print(
        "| workers | steps of [s] | observations | ideal [s] | measured [s] | efficiency | model |\n" + "|---" * 7 + "|"
    )
    for n_workers, seconds in ((4, 4.0), (16, 8.0), (64, 12.0)):
        count = 3 * n_workers
        done = run(folder / f"run{n_workers}", count, n_workers, seconds)
        ideal, took = 3 * seconds, done.last - done.first
        model = ideal / modelled(count, 1, n_workers, seconds, times)
        print(f"| {n_workers} | {seconds:g} | {count} | {ideal:.0f} | {took:.1f} | {ideal / took:.2f} | {model:.2f} |")
    print_night(n_steps, step_s, times)


if __name__ == "__main__":
    main()

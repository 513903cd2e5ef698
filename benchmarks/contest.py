"""A contest of a kernel of ours and a named peer: same input, same run, one thread."""

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

REPEATS = 3


@dataclass(frozen=True)
class Contest:
    """What is timed: two functions that give the same, and how far apart their results are."""

    ours: Callable[[], Any]
    peer: Callable[[], Any] | None = None
    difference: Callable[[Any, Any], str] | None = None


@dataclass(frozen=True)
class Case:
    name: str
    peer: str
    goal: float
    prepare: Callable[[], Contest]


CASES: list[Case] = []


def case(name: str, peer: str = "", goal: float = 0.0) -> Callable[[Callable[[], Contest]], Callable[[], Contest]]:
    """Register a case: its name, the peer and how many times faster than the peer we want to be."""

    def register(prepare: Callable[[], Contest]) -> Callable[[], Contest]:
        CASES.append(Case(name, peer, goal, prepare))
        return prepare

    return register


def best_time_s(function: Callable[[], Any]) -> float:
    """Least processor time of several runs, the first of which (compilation, caches) does not count."""
    function()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def peak_megabytes(function: Callable[[], Any]) -> float:
    """Most memory the function holds at a time, its input not counted."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def run(one: Case) -> str:
    """Run a case; returns its row of the table."""
    contest = one.prepare()
    ours_s = best_time_s(contest.ours)
    cells = [one.name, f"{ours_s * 1e3:.2f}", f"{peak_megabytes(contest.ours):.0f}"]
    if contest.peer is None:
        return "| " + " | ".join([*cells, "", "", "", "", ""]) + " |"
    peer_s = best_time_s(contest.peer)
    ratio = peer_s / ours_s
    apart = contest.difference(contest.ours(), contest.peer()) if contest.difference else ""
    verdict = f"{one.goal:g} ({'reached' if ratio >= one.goal else 'MISSED'})"
    cells += [one.peer, f"{peer_s * 1e3:.1f}", f"{ratio:.1f}", verdict, apart]
    return "| " + " | ".join(cells) + " |"

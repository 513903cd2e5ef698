"""A contest of a kernel of ours and a named peer: same input, same run, one thread."""

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

REPEATS = 3
quick = False
"""Whether inputs are tiny: then it only matters that both run and agree."""


@dataclass(frozen=True)
class Contest:
    """What is timed: two functions that give the same, how far apart their results are, and whether they agree."""

    ours: Callable[[], Any]
    peer: Callable[[], Any] | None = None
    difference: Callable[[Any, Any], str] | None = None
    agrees: Callable[[Any, Any], bool] | None = None


@dataclass(frozen=True)
class Case:
    name: str
    peer: str
    goal: float
    goal_ms: float
    prepare: Callable[[], Contest]


CASES: list[Case] = []


def case(
    name: str, peer: str = "", goal: float = 0.0, goal_ms: float = 0.0
) -> Callable[[Callable[[], Contest]], Callable[[], Contest]]:
    """Register a case: its name, the peer and how many times faster than the peer we want to be, or in which time."""

    def register(prepare: Callable[[], Contest]) -> Callable[[], Contest]:
        CASES.append(Case(name, peer, goal, goal_ms, prepare))
        return prepare

    return register


def size(full: int, tiny: int) -> int:
    """Return the size of an input: the tiny one in a quick run."""
    return tiny if quick else full


def best_time_s(*functions: Callable[[], Any]) -> list[float]:
    """Least processor time of several runs of each, in turns; the first (compilation, caches) does not count."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(1 + (not quick) * REPEATS):
        for function, spent in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            spent.append(time.process_time() - start)
    return [min(spent[1:] or spent) for spent in times]


def peak_megabytes(function: Callable[[], Any]) -> float:
    """Most memory the function holds at a time, its input not counted."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def measured(one: Case, is_alone: bool = False) -> dict[str, Any]:
    """Run a case, without its peer if it is alone; returns times [ms], memory [MB] and how the results compare."""
    contest = one.prepare()
    if contest.peer is None or is_alone:
        return {"ours": 1e3 * best_time_s(contest.ours)[0]}
    ours_s, peer_s = best_time_s(contest.ours, contest.peer)
    mine, theirs = contest.ours(), contest.peer()
    return {
        "ours": 1e3 * ours_s,
        "peer": 1e3 * peer_s,
        "memory": peak_megabytes(contest.ours),
        "apart": contest.difference(mine, theirs) if contest.difference else "",
        "agrees": bool(contest.agrees(mine, theirs)) if contest.agrees else True,
    }

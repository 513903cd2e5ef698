"""The figures of docs/reliability.md: written from the results of runs, never by hand."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.soak.site import ROOT

PAGE = ROOT / "docs" / "reliability.md"
RESULTS = Path(__file__).with_name("results.json")
"""Results of the runs that the page shows: soaks and seasons, the last one of each kind."""
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
MEASURES = (("rss_mb", "RSS [MB]"), ("pss_mb", "PSS [MB]"), ("files", "descriptors"), ("threads", "threads"))


def record(group: str, result: dict[str, Any]) -> None:
    """Keep a result in the place of an earlier one of the same seed, size and database; write the page.

    Parameters
    ----------
    group : str
        ``soaks`` or ``seasons``.
    result : dict
        The result as a JSON object.
    """
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"soaks": [], "seasons": []}
    kept = [other for other in known[group] if _key(other) != _key(result)]
    known[group] = sorted([*kept, result], key=_key)
    RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    write_page()


def _key(result: dict[str, Any]) -> tuple[str, int, int, int]:
    return result["mongo"], result["seed"], result.get("faults", 0), result["nights"]


def write_page() -> None:
    """Write the figures between the markers of the page."""
    known = json.loads(RESULTS.read_text())
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{figures(known)}\n{END}{after}")


def figures(known: dict[str, list[dict[str, Any]]]) -> str:
    """Return the tables in Markdown."""
    return "\n".join([*_soaks(known["soaks"]), "", *_kinds(known["soaks"]), "", *_seasons(known["seasons"])])


def _soaks(soaks: list[dict[str, Any]]) -> list[str]:
    names = ["MongoDB", "seed", "nights", "faults", "kinds", "acts of people", "starts of the daemon"]
    names += ["attempts without result", "time [s]", "quiet time [s]", "violations"]
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for each in soaks:
        facts = [each["mongo"], each["seed"], each["nights"], sum(each["kinds"].values()), len(each["kinds"])]
        facts += [each["acts"], each["daemon_starts"], each["failed_attempts"]]
        facts += [f"{each['seconds']:.0f}", f"{each['quiet_s']:.0f}", len(each["violations"])]
        lines.append(f"| {' | '.join(map(str, facts))} |")
    return lines


def _kinds(soaks: list[dict[str, Any]]) -> list[str]:
    total: Counter[str] = Counter()
    for each in soaks:
        total.update(each["kinds"])
    head = f"{sum(total.values())} faults of {len(total)} kinds in all:"
    return [head, "", "| kind | times |", "|---|---|", *(f"| {name} | {total[name]} |" for name in sorted(total))]


def _last_slope(samples: list[dict[str, dict[str, float]]], process: str) -> float:
    """Return the slope of the resident memory of a process over the last third of a season [MB per night]."""
    values = [sample[process]["rss_mb"] for sample in samples[-max(len(samples) // 3, 2) :]]
    return float(np.polyfit(range(len(values)), values, 1)[0])


def _seasons(seasons: list[dict[str, Any]]) -> list[str]:
    lines = []
    for each in seasons:
        lines += [
            f"A season of {len(each['samples'])} nights, {each['mongo']} MongoDB, seed {each['seed']}: "
            f"{each['seconds']:.0f} s, {sum(each['kinds'].values())} faults of {len(each['kinds'])} kinds, "
            f"{each['acts']} acts of people, {len(each['violations'])} violations (nights not packed in time, "
            "processes that ended). Median after the first quarter of the nights, and slope per night:",
            "",
            f"| process | {' | '.join(f'{label} | per night' for _, label in MEASURES)} | RSS, last third, per night |",
            "|---|" + "---|---|" * len(MEASURES) + "---|",
        ]
        for process, measures in each["slopes"].items():
            facts = [f"{measures[name][0]:.0f} | {measures[name][1]:+.2f}" for name, _ in MEASURES if name in measures]
            lines.append(f"| {process} | {' | '.join(facts)} | {_last_slope(each['samples'], process):+.2f} |")
        lines.append("")
    return lines

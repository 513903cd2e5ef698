"""``python -m benchmarks.soak --faults 150 --seed 1 --mongo embedded``: a soak, in namespaces of its own (Linux)."""

import argparse
import faulthandler
import json
import os
import sys
from pathlib import Path

from benchmarks.soak import report
from benchmarks.soak.growth import MEASURES, Growth, season
from benchmarks.soak.run import Plan, Result, soak

INSIDE = "SOAK_INSIDE"


def main() -> int:
    """Run what is asked for; return 1 for violations."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--faults", type=int, default=30, help="number of faults (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (default: %(default)s)")
    parser.add_argument("--mongo", choices=("embedded", "external"), default="embedded", help="(default: %(default)s)")
    parser.add_argument("--nights", type=int, default=2, help="nights that are observed (default: %(default)s)")
    parser.add_argument("--growth", action="store_true", help="a season: what grows from night to night, of 60 for one")
    parser.add_argument("--minutes", type=float, default=600.0, help="a season ends then (default: %(default)s)")
    parser.add_argument("--pause", type=float, default=2.0, help="mean pause between faults [s] (default: %(default)s)")
    parser.add_argument("--limit", type=float, help="give up after this time, and say where every thread is [s]")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/reliability.md")
    parser.add_argument("--json", type=Path, help="write the result to this file as well")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the archive")
    options = parser.parse_args()
    if INSIDE not in os.environ:
        _enter_namespaces()
    if options.limit:
        faulthandler.dump_traceback_later(options.limit, exit=True)
    result: Result | Growth
    if options.growth:
        result = season(
            options.nights, options.seed, options.mongo, pause_s=options.pause, limit_s=60 * options.minutes
        )
    else:
        limit_s = options.limit or float("inf")
        plan = Plan(options.faults, options.seed, options.mongo, options.nights, options.pause, options.keep, limit_s)
        result = soak(plan)
    print(text_of(result) if isinstance(result, Result) else text_of_growth(result))
    if options.json:
        options.json.write_text(json.dumps(result.to_json(), indent=1))
    if options.record:
        report.record("seasons" if options.growth else "soaks", result.to_json())
    return 1 if result.violations else 0


def _enter_namespaces() -> None:
    """Start again where file systems can be mounted without privileges, and where every process ends with this one."""
    inside = ["sh", "-c", '"$@"; exit $?', "soak", sys.executable, "-m", "benchmarks.soak", *sys.argv[1:]]
    command = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    os.execvpe("unshare", [*command, *inside], {**os.environ, INSIDE: "1"})  # noqa: S606


def text_of(result: Result) -> str:
    """Return the outcome of a soak in lines."""
    lines = [f"{count:4d}  {name}" for name, count in result.kinds.items()]
    lines.append(
        f"{sum(result.kinds.values())} faults of {len(result.kinds)} kinds, seed {result.seed}, {result.mongo}: "
        f"{result.seconds:.0f} s, of them {result.quiet_s:.0f} s quiet; {result.acts} acts of people granted, "
        f"{result.refused} refused; {result.daemon_starts} starts of the daemon; "
        f"{result.failed_attempts} attempts without result; {result.products} files; "
        f"{len(result.violations)} violation(s)"
    )
    lines += [f"VIOLATION {text}" for text in result.violations]
    return "\n".join([*lines, *([f"kept in {result.kept_in}"] if result.kept_in else [])])


def text_of_growth(result: Growth) -> str:
    """Return what grew in a season in lines: level, and slope per night."""
    lines = []
    for process, measures in result.slopes().items():
        facts = (f"{label} {measures[name][0]:.0f} ({measures[name][1]:+.2f})" for name, label in MEASURES.items())
        lines.append(f"{process:8s} {', '.join(facts)}")
    lines.append(f"{len(result.samples)} nights, {sum(result.kinds.values())} faults, {result.seconds:.0f} s")
    return "\n".join([*lines, *(f"VIOLATION {text}" for text in result.violations)])


if __name__ == "__main__":
    sys.exit(main())

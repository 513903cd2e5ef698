"""Hostile inputs of every kind, many of them: no crash, no hang, no 500, nothing outside the archive.

``python benchmarks/fuzz.py --inputs 100000 --seed 1`` writes a table into ``docs/reliability.md``, between the markers
``<!-- fuzz -->``; ``--kind NAME`` runs one kind and writes nothing. Fewer of the same run in `tests/fuzz`.
"""

import argparse
import logging
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests" / "web")]

from tests.fuzz.kinds import KINDS, Hang, Kind, run  # noqa: E402

PAGE, MARKER = PROJECT / "docs" / "reliability.md", "<!-- fuzz -->"
SHARES = {
    **{"names": 4.0, "rules": 4.0, "journal": 3.0, "configuration": 2.0, "manifests": 2.0, "HTTP": 2.0},
    **{"FITS headers": 0.7, "YAML": 0.7},
}
"""Inputs of these kinds per input of the others: many of those that are read fast."""
HTTP, BATCH = "HTTP", 1000
"""hypothesis becomes slow with many inputs: they come in batches, each with a seed of its own."""


@dataclass
class Report:
    """What became of the inputs of a kind."""

    kind: str
    inputs: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    violations: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)


def place_of(err: BaseException) -> str:
    """Stands for a fault: the exception, and where in the project it came from."""
    frames = traceback.extract_tb(err.__traceback__)
    ours = [
        frame for frame in frames if "/site-packages/" not in frame.filename and "/lib/python" not in frame.filename
    ]
    last = (ours or frames)[-1]
    return f"{type(err).__name__} in {Path(last.filename).name}:{last.lineno}"


def attack(kind: Kind, inputs: int, number: int) -> Report:
    """Give inputs of a kind to the code, and note what it must not do."""
    report = Report(str(kind))

    @settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.inputs)
    def each(drawn: Any) -> None:
        began = time.process_time()
        report.inputs += 1
        try:
            run(kind, drawn, folder)
        except (Exception, Hang) as err:  # noqa: BLE001 - counted, whatever it is
            place = place_of(err)
            report.violations[place] += 1
            report.examples.setdefault(place, f"{err!s:.300}\n    {drawn!r:.600}")
        report.slowest_s = max(report.slowest_s, time.process_time() - began)

    with tempfile.TemporaryDirectory() as name:
        folder, began = Path(name), time.process_time()
        while report.inputs < inputs:
            seed(number)(each)()
            number += 1
        report.seconds = time.process_time() - began
    return report


def apart(make: Callable[[ExitStack], Kind], inputs: int, number: int) -> Report:
    """Attack in a process of its own: one that dies is a violation, too."""

    def work(there: Connection) -> None:
        logging.disable(logging.CRITICAL)
        with ExitStack() as stack:
            there.send(attack(make(stack), inputs, number))

    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=work, args=(there,))
    process.start()
    there.close()
    try:
        report: Report = here.recv()
    except EOFError:
        report = Report("?")
        process.join()
        report.violations[f"the process died: exit code {process.exitcode}"] += 1
    process.join()
    return report


def http_kind(stack: ExitStack) -> Kind:
    """Start a database and a portal, and return the kind that attacks it."""
    from hostile_requests import portal_kind  # of the tests of the portal

    return stack.enter_context(portal_kind())


def table(reports: list[Report], number: int) -> str:
    total = sum(report.inputs for report in reports)
    violations = sum(sum(report.violations.values()) for report in reports)
    lines = [
        f"`python benchmarks/fuzz.py --inputs {total} --seed {number}`, {datetime.now(UTC):%Y-%m-%d}: "
        f"{total} inputs, {violations} violations.",
        "",
        "| kind | inputs | processor time [s] | slowest [s] | violations |",
        "|---|---|---|---|---|",
    ]
    for report in reports:
        count = sum(report.violations.values())
        lines.append(f"| {report.kind} | {report.inputs} | {report.seconds:.0f} | {report.slowest_s:.2f} | {count} |")
    return "\n".join(lines)


def write(text: str) -> None:
    page = PAGE.read_text() if PAGE.exists() else "# Reliability\n"
    if MARKER not in page:
        page = f"{page.rstrip()}\n\n## Hostile inputs\n\n{MARKER}\n{MARKER}\n"
    before, _, after = page.split(MARKER, 2)
    PAGE.write_text(f"{before}{MARKER}\n{text}\n{MARKER}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", help="run this kind only, and write nothing")
    options = parser.parse_args()
    makers: dict[str, Callable[[ExitStack], Kind]] = {kind.name: lambda _, kind=kind: kind for kind in KINDS}
    makers[HTTP] = http_kind
    chosen = [options.kind] if options.kind else list(makers)
    whole = sum(SHARES.get(name, 1.0) for name in chosen)
    reports = []
    for name in chosen:
        inputs = round(options.inputs * SHARES.get(name, 1.0) / whole)
        report = apart(makers[name], inputs, options.seed)
        report.kind = name
        reports.append(report)
        print(f"{name}: {report.inputs} in {report.seconds:.0f} s", flush=True)
        for place, count in report.violations.most_common():
            print(f"  {count} x {place}: {report.examples.get(place, '')}", flush=True)
    text = table(reports, options.seed)
    print(text)
    if not options.kind:
        write(text)
    return int(any(report.violations for report in reports))


if __name__ == "__main__":
    sys.exit(main())

"""``python -m benchmarks.quality [SECTION ...] [--trials N] [--processes N]`` writes ``benchmarks/QUALITY.md``."""

import argparse
import importlib
import logging
import os
import sys
import time

from benchmarks.quality.report import PAGE, write_section
from obsarchive.cli.main import ONE_THREAD

SECTIONS = (
    "nights",
    "registration",
    "imaging_errors",
    "contrast_curves",
    "photometry_errors",
    "light_curve_errors",
    "independent_nights",
    "datasets",
    "real_data",
)
"""Modules of this folder: `TITLE`, and `report(trials, processes)`, which returns the Markdown of the section."""


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description="How good the results are.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"all of: {', '.join(SECTIONS)}")
    parser.add_argument("--trials", type=int, default=300, help="independent simulations of each regime")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(words)
    unknown = set(asked.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    logging.disable(logging.WARNING)
    # sections simulate in one process per core; they import numpy, with which libraries read this
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    for name in asked.sections or SECTIONS:
        started = time.monotonic()
        section = importlib.import_module(f"benchmarks.quality.{name}")
        write_section(section.TITLE, section.report(asked.trials, asked.processes))
        sys.stdout.write(f"{name}: {time.monotonic() - started:.0f} s, written to {PAGE.name}\n")


if __name__ == "__main__":
    main()

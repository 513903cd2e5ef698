"""What many raw files cost that arrive at once, and how soon the first step runs.

``python benchmarks/bench_arrival.py CONFIG [--files 100000] [--nights 100]`` writes tiny observations into nights of an
archive of its own, starts the daemon of the configuration on it, and prints a table in Markdown. The steps are those of
the configuration; they fail soon, as there is nothing in the frames. Scanning is compared with what a script does:
``glob`` in every night and a regular expression for every name.
"""

import argparse
import glob
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from itertools import chain
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
if not any(Path(folder, "obsarchive").is_dir() for folder in sys.path):
    sys.path.insert(0, str(PROJECT))

from obsarchive.config.loading import load  # noqa: E402
from obsarchive.config.model import Config, RawRoot  # noqa: E402
from obsarchive.daemon.raw_scanner import Scanner  # noqa: E402
from obsarchive.daemon.scheduler import Scheduler  # noqa: E402
from obsarchive.database.connect import open_database  # noqa: E402
from obsarchive.execution.cluster import Cluster  # noqa: E402
from obsarchive.simulation.night import write_raw  # noqa: E402
from obsarchive.store.jobs import Archive  # noqa: E402

FIRST = date(2026, 3, 14)
NAME = re.compile(r"(.+?)_(.+)_([A-Za-z]+)_([A-Za-z0-9]+)_([a-z]?)_?(\d{8})_(\d{6}\.\d{6})(?:_(\d+))?\.fits.*")
HEADER = {"TELRA": "20:24:00.00", "TELDEC": "-08:30:00.0", "MODE_NUM": 6, "EXPOSURE": 90.0, "MAGNITUD": 11.2}
POLLS = 20
LIMIT_S = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--nights", type=int, default=100)
    options = parser.parse_args()
    config = load(options.config)
    folder = Path(tempfile.mkdtemp(prefix="arrival-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))  # noqa: S108, PTH112
    root = config.paths.raw[0].model_copy(update={"path": folder / "raw"})
    places = {"archive": folder / "archive", "tmp": folder / "tmp", "logs": folder / "logs", "raw": (root,)}
    daemon = config.daemon.model_copy(update={"settle_time_s": 0.0, "min_free_gb": 0.0, "quiet_hours": None})
    update = {"paths": config.paths.model_copy(update=places), "daemon": daemon, "intake": type(config.intake)()}
    try:
        fill(folder / "raw", options.files, options.nights)
        sys.stdout.write(f"{options.files} files in {options.nights} nights\n\n| what | s |\n|---|---|\n")
        for what, seconds in chain(scan(root), arrive(config.model_copy(update=update))):
            sys.stdout.write(f"| {what} | {seconds:.3f} |\n")
            sys.stdout.flush()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fill(raw: Path, files: int, nights: int) -> None:
    """Write observations of one file, all of a night the same on disk."""
    for number in range(nights):
        night = f"{FIRST - timedelta(days=number):%Y%m%d}"
        template = raw / night / "template.fits"
        template.parent.mkdir(parents=True)
        write_raw(template, (np.full((8, 8), 1, np.uint16) for _ in range(1)), 1, HEADER)
        for star in range(files // nights):
            clock = f"{star // 3600:02d}{star // 60 % 60:02d}{star % 60:02d}"
            os.link(template, template.with_name(f"4_star{star}_VIC_Si_o_{night}_{clock}.000000.fits"))
        template.unlink()


def scan(root: RawRoot) -> Iterator[tuple[str, float]]:
    """Yield the processor time of looks at the raw folders, and of what a script does."""
    yield "glob and regular expression, processor time", min(timed(lambda: by_glob(root.path)) for _ in range(3))
    scanner = Scanner(root, 0.0)
    yield "first look of the scanner, processor time", timed(lambda: list(scanner.changed()))
    yield (
        "look at what did not change, processor time",
        min(timed(lambda: list(scanner.changed())) for _ in range(POLLS)),
    )


def by_glob(raw: Path) -> int:
    return sum(
        NAME.match(os.path.split(path)[1]) is not None
        for night in os.listdir(raw)  # noqa: PTH208
        for path in glob.glob(os.path.join(raw, night, "*.fits*"))  # noqa: PTH118, PTH207
    )


def arrive(config: Config) -> Iterator[tuple[str, float]]:
    """Yield when, after a daemon has begun to look, the first steps began, and when all files were entered [s]."""
    with open_database(config) as opened, Cluster(config.parallel, config.paths.tmp) as cluster:
        scheduler = Scheduler(config, opened, cluster)
        scheduler.store.lease.take(scheduler.run_id, Archive("one", "here", "/archive"), "benchmark", 1e6)
        scheduler._take_up()
        began, worked, until = time.monotonic(), time.process_time(), time.monotonic() + LIMIT_S
        marks: dict[str, Callable[[], bool]] = {
            "first step submitted": lambda: bool(scheduler.tasks.by_id),
            "first step ended": lambda: bool(scheduler.status.endings),
            "all entered, with steps meanwhile": lambda: not scheduler.watch.is_under_way,
        }
        while marks and time.monotonic() < until:
            scheduler.cycle()
            for what in [what for what, has_come in marks.items() if has_come()]:
                del marks[what]
                yield f"{what}, wall", time.monotonic() - began
                yield f"{what}, processor time of the daemon", time.process_time() - worked
            scheduler.wait()
        yield "observations in the database", float(opened.store.observations.collection.estimated_document_count())
        scheduler.tasks.give_up()


def timed(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


if __name__ == "__main__":
    main()

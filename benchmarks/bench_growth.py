"""What an archive costs that has grown: start and idle cycles of the daemon over many finished observations.

``python benchmarks/bench_growth.py CONFIG [--nights 1000] [--copies 7]`` takes the documents of a finished archive, for
example of the demo night, as they are, and copies them to other nights in an archive of its own; it
prints a table in Markdown. Seconds are processor time of the daemon, if not stated otherwise.
"""

import argparse
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
if not any(Path(folder, "obsarchive").is_dir() for folder in sys.path):
    sys.path.insert(0, str(PROJECT))

from obsarchive.config.loading import load  # noqa: E402
from obsarchive.config.model import Config  # noqa: E402
from obsarchive.daemon.scheduler import Scheduler  # noqa: E402
from obsarchive.database.connect import DatabaseHandle, open_database  # noqa: E402
from obsarchive.execution.cluster import Cluster  # noqa: E402
from obsarchive.pipeline.chain import steps_of  # noqa: E402
from obsarchive.store import Store  # noqa: E402
from obsarchive.store.jobs import Archive  # noqa: E402

CYCLES = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--nights", type=int, default=1000)
    parser.add_argument("--copies", type=int, default=7, help="copies of each observation in a night")
    options = parser.parse_args()
    config = load(options.config)
    folder = Path(tempfile.mkdtemp(prefix="growth-"))
    paths = config.paths.model_copy(update={"archive": folder / "archive", "tmp": folder / "tmp", "raw": ()})
    grown = config.model_copy(update={"paths": paths})
    try:
        with open_database(grown) as opened:
            with open_database(config) as template:
                count = fill(
                    template.store,
                    config.paths.archive / "psf_library.fits",
                    opened.store,
                    paths.archive,
                    options.nights,
                    options.copies,
                )
            sys.stdout.write(f"{count} observations of {options.nights} nights\n\n| what | s |\n|---|---|\n")
            for what, seconds in measure(grown, opened):
                sys.stdout.write(f"| {what} | {seconds:.3f} |\n")
                sys.stdout.flush()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fill(template: Store, library: Path, store: Store, archive: Path, nights: int, copies: int) -> int:
    """Copy the newest night of an archive to others; return the number of observations."""
    shutil.copy(library, archive)
    night = next(template.database["aux"].find().sort("_id", -1))
    observations = list(template.database["objects"].find({"night": night["_id"]}))
    first = date.fromisoformat(night["_id"])
    for number in range(nights):
        days = timedelta(days=-number)
        name = f"{first + days:%Y%m%d}"
        store.database["aux"].insert_one(moved(night, night["_id"], name))
        found = [
            {
                **copied,
                "look_again": False,
                "date_utc": copied["date_utc"] + days,
                "_id": str(copied["_id"]).replace("_VIC_", f"-{copy}_VIC_"),
            }
            for document in observations
            for copied in [moved(document, night["_id"], name)]
            for copy in range(copies)
        ]
        store.database["objects"].insert_many(found)
        for document in found:
            (archive / name / document["_id"]).mkdir(parents=True)
    return nights * copies * len(observations)


def moved(value: Any, night: str, name: str) -> Any:
    """Return a document with another night in every text."""
    if isinstance(value, dict):
        copied = {key: moved(inner, night, name) for key, inner in value.items()}
        copied.pop("lacks_references", None)  # the library holds enough in an archive that has grown
        return {**copied, **{key: value[key] for key in copied if key == "references"}}
    if isinstance(value, list):
        return [moved(inner, night, name) for inner in value]
    if isinstance(value, str):
        return value.replace(night, name)
    return value


def measure(config: Config, opened: DatabaseHandle) -> Iterator[tuple[str, float]]:
    """Yield what was measured, with its seconds."""
    scheduler = Scheduler(config, opened, Cluster(config.parallel, config.paths.tmp))
    scheduler._next_audit = float("inf")  # products of copied documents do not exist
    yield "indexes, the first time, wall", timed(lambda: ensure_indexes(scheduler), time.monotonic)
    scheduler.store.lease.take(scheduler.run_id, Archive("one", "here", "/archive"), "benchmark", 1e6)
    scheduler._take_up()  # a start with other pipelines looks at everything
    scheduler.cycle()
    started = time.monotonic()
    yield "start over the tree", timed(scheduler._take_up)
    yield "start over the tree, wall", time.monotonic() - started
    yield "first cycle", timed(scheduler.cycle)
    times = [timed(scheduler.cycle) for _ in range(CYCLES)]
    yield "idle cycle, median", statistics.median(times)
    yield "idle cycle, longest", max(times)
    reopened = [found["_id"] for found in opened.store.database["objects"].find({}, {"_id": 1}).limit(10_000)]
    scheduler.store.observations.collection.update_many({"_id": {"$in": reopened}}, {"$set": {"look_again": True}})
    started, longest, cycles = time.monotonic(), 0.0, 0
    while scheduler.store.observations.collection.count_documents({"look_again": True}) and cycles < 100:
        longest, cycles = max(longest, timed(scheduler.cycle, time.monotonic)), cycles + 1
    yield f"looking again at {len(reopened)} observations, wall", time.monotonic() - started
    yield "of that, the longest cycle, wall", longest
    yield "peak memory of this process [GB]", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def ensure_indexes(scheduler: Scheduler) -> None:
    scheduler.store.ensure_indexes(steps_of(scheduler.chain), scheduler.library_sync.steps)


def timed(function: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    began = clock()
    function()
    return clock() - began


if __name__ == "__main__":
    main()

"""Survey photometry: what a source costs in time and room, a project that is finished, look-ups in a large catalogue.

    python benchmarks/bench_surveys.py [sources] [finished sources]

The peer is the way of the published package: a pandas table in fixed format for each stage, and a look-up that goes
through the whole catalogue.
"""

import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from obsarchive.config.model import Config
from obsarchive.database.connect import open_store
from obsarchive.io.catalog_tables import write_table
from obsarchive.store import Store
from surveys import database, dataset
from surveys.catalog import Catalog
from surveys.demo import VirtualDemoObs
from surveys.finder import Finder
from surveys.formats.hdf5_light_curves import PhotometryFile
from surveys.histograms import Histogram
from surveys.project import Project
from surveys.properties import Properties
from surveys.quality import QualityChecker

GOAL_MS, GOAL_KB, GOAL_RERUN_S, GOAL_LOOKUPS = 2.0, 10.0, 10.0, 1e5
PUBLISHED_MS, PUBLISHED_KB = (82.0, 135.0), 3200.0


def one_source_after_the_other(root: Path, n: int) -> None:
    """Reduce, check and search light curves of 100 points, from raw photometry on disk to light curves on disk."""
    obs, checker, finder = VirtualDemoObs(), QualityChecker(), Finder()
    obs.output_folder = "BENCH"
    rows = [{"name": f"S{i}", "ra": 100.5, "dec": 3.0, "mag": 17.0} for i in range(n)]
    raws = [obs.download(row) for row in rows]
    raw_file, reduced_file = PhotometryFile(root / "raw.h5"), PhotometryFile(root / "reduced.h5")
    raw_file.write({raw.filekey: raw.record for raw in raws})
    finder.detect(finder.process(checker.check(obs.reduce(raws[0])[0])))  # compiled
    start = time.perf_counter(), time.process_time()
    curves, n_events = [], 0
    for name, record in raw_file.read_many([str(row["name"]) for row in rows]):
        raw = dataset.RawPhotometry(record.columns, {**record.altdata, "name": name}, observatory="DEMO")
        for curve in obs.reduce(raw):
            curves.append(curve)
            n_events += len(finder.detect(finder.process(checker.check(curve))))
    reduced_file.write({curve.filekey: curve.record for curve in curves})
    wall, cpu = (
        1e3 * (now - before) / n for now, before in zip((time.perf_counter(), time.process_time()), start, strict=True)
    )
    size = (raw_file.path.stat().st_size + reduced_file.path.stat().st_size) / n / 1000
    print(
        f"reduce, check, search {n} sources of 100 points, read and written: {wall:.2f} ms a source ({cpu:.2f} ms cpu)"
    )
    print(f"  goal {GOAL_MS} ms; the published package: {PUBLISHED_MS[0]:.0f} to {PUBLISHED_MS[1]:.0f} ms")
    print(f"  raw and reduced on disk: {size:.1f} kB a source (goal {GOAL_KB:.0f}; published {PUBLISHED_KB:.0f})")
    the_way_of_the_peer(root, raws[: min(n, 100)], wall)


def the_way_of_the_peer(root: Path, raws: list[Any], ours_ms: float) -> None:
    start = time.perf_counter()
    for raw in raws:
        frame = pd.DataFrame(raw.columns)
        frame["filter"] = "R"
        for stage in ("raw", "reduced", "processed"):
            frame.to_hdf(root / f"peer_{raw.source_name}_{stage}.h5", key="photometry")
    seconds = (time.perf_counter() - start) / len(raws)
    size = sum(path.stat().st_size for path in root.glob("peer_*.h5")) / len(raws) / 1000
    print(f"  peer, writing alone: {1e3 * seconds:.0f} ms, {size:.0f} kB: {1e3 * seconds / ours_ms:.0f} x our way")


def whole_projects(root: Path, n: int, n_finished: int) -> None:
    """Run a project from nothing, and one that is finished."""
    config = Config.standalone(root, root / "logs")
    config = config.model_copy(update={"database": config.database.model_copy(update={"folder": root / "db"})})
    with open_store(config) as store:
        store.surveys.ensure_indexes()
        database.use(store)
        for size in {n, n_finished}:
            write_table(root / f"catalog_{size}.fits", made_up(size))
        for workers in (0, 2):
            proj = project(root, f"with {workers} workers", n, workers)
            start = time.perf_counter()
            proj.run(stages=["fetch"])
            fetched = time.perf_counter()
            run = proj.run()
            done = time.perf_counter()
            first, second = 1e3 * (fetched - start) / n, 1e3 * (done - fetched) / n
            print(
                f"project of {n} sources, {workers} Dask workers (0: this process), injections, features, book and all:"
            )
            print(f"  fetched in {first:.2f}, analysed in {second:.2f} ms a source; {run.detections} events")
            proj.delete_everything()
        finish(project(root, "finished", n_finished, 0), store)
        proj = project(root, "finished", n_finished, 0)
        start = time.perf_counter()
        run = proj.run()
        seconds = time.perf_counter() - start
        print(f"project of {n_finished} finished sources, run again: {seconds:.1f} s (goal {GOAL_RERUN_S:.0f} s)")
        if run.analysed or run.fetched:
            raise SystemExit(f"{run.analysed} of the finished sources were analysed again")
        database.use(None)


def finish(proj: Project, store: Store) -> None:
    """Write the database of a project as if all its sources had been analysed."""
    proj.begin()
    features = {"DEMO R": dict.fromkeys("abcdefghijklmnopq", 1.5)}
    made = [Properties(name, proj.output_folder, proj.cfg_hash, features=features) for name in proj.catalog.names]
    store.surveys.save("properties", [one.document() for one in made])
    histogram = Histogram()
    histogram.add({}, {"mag": 18.0, "exptime": 30.0, "filter": "R"}, proj.catalog.names)
    histogram.save(proj.histogram_path)


def made_up(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    names = np.array([f"S{i:07d}" for i in range(n)])
    return {"name": names, "ra": rng.uniform(100, 108, n), "dec": rng.uniform(-5, 5, n), "mag": rng.uniform(16, 19, n)}


def project(root: Path, name: str, n: int, workers: int) -> Project:
    catalog = {"filename": str(root / f"catalog_{n}.fits")}
    return Project(
        name, cfg_file=None, obs_names=["DEMO"], catalog_kwargs=catalog, num_workers=workers, batch_size=2000
    )


def look_ups(n: int = 1_000_000, n_asked: int = 100_000) -> None:
    """Look names and places up in a catalogue of a million."""
    catalog = Catalog(cfg_file=None, test_size=n)
    ra, dec = catalog.places()
    chosen = np.random.default_rng(2).integers(0, n, n_asked)
    catalog.match(ra[:1], dec[:1])
    names = [catalog.names[i] for i in chosen]
    catalog.indices(names[:1])
    start = time.perf_counter()
    found, _ = catalog.match(ra[chosen], dec[chosen])
    places = time.perf_counter() - start
    start = time.perf_counter()
    by_name = catalog.indices(names)
    named = time.perf_counter() - start
    start = time.perf_counter()
    for i in chosen[:20]:
        np.argmin(np.hypot((ra - ra[i]) * np.cos(np.radians(dec[i])), dec - dec[i]))
    brute = (time.perf_counter() - start) / 20
    if not (np.array_equal(found, chosen) and np.array_equal(by_name, chosen)):
        raise SystemExit("the look-ups are wrong")
    print(f"{n} rows: {n_asked / places:.2g} look-ups by place, {n_asked / named:.2g} by name a second")
    print(f"  {brute * n_asked / places:.2g} times as fast as going through the catalogue, as the peer does")


def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    n_finished = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        dataset.DATA_ROOT = folder
        one_source_after_the_other(Path(folder), min(n, 1000))
        whole_projects(Path(folder), n, n_finished)
    look_ups()


if __name__ == "__main__":
    main()

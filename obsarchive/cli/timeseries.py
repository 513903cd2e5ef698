"""Commands of time-series photometry: ``download``, ``reduce``, ``lightcurve``, ``simulate-dataset``."""

import logging
import os
import threading
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path

from astropy import units as u

from obsarchive.cli.console import say
from obsarchive.config.loading import load as load_config
from obsarchive.config.model import Config, Parallel
from obsarchive.core import logs
from obsarchive.core.progress import Bar
from obsarchive.database.connect import open_store
from obsarchive.errors import ConfigError
from obsarchive.instruments.base import degrees
from obsarchive.io.atomic import atomic_write
from obsarchive.simulation import field as demo_field
from obsarchive.simulation.star_field import StarField
from obsarchive.store import Store, outage_as_error
from obsarchive.timeseries import products, selection
from obsarchive.timeseries.batch import Reductions
from obsarchive.timeseries.diagnostics import plot_light_curve
from obsarchive.timeseries.download.download_config import load as load_request
from obsarchive.timeseries.download.run import Intake
from obsarchive.timeseries.light_curve_at import light_curve_at
from obsarchive.timeseries.names import CONFIGURATION
from obsarchive.timeseries.reduction import ReductionResult, summary

log = logging.getLogger(__name__)

DEFAULT_CONFIG = Path("config.json")


def _config(path: Path | None) -> Config | None:
    """Return the named configuration, or that of the working directory, or None."""
    if path is None and not DEFAULT_CONFIG.exists():
        return None
    return load_config(path or DEFAULT_CONFIG)


def download(options: Namespace) -> int:
    """Fetch frames from online archives and sort them into datasets."""
    request = load_request(options.file)
    config = _config(options.config) or Config.standalone(request.data_reduction_dir, request.log_dir)
    logs.set_up(None, "download", config.daemon.logging_level)
    with _log_file(request.log_dir / "data_download.log"), open_store(config) as store:
        store.ensure_indexes(())
        intake = Intake(request, store.frames, os.environ, store.datasets)
        found = intake.run(datetime.now(UTC), Bar("download").show)
    say(f"{found.text()}\n")
    for problem in found.problems:
        say(f"  {problem}\n")
    return 1 if found.problems else 0


def reduce(options: Namespace) -> int:
    """Reduce a dataset, or those that a file selects, to light curves."""
    what: Path = options.what
    config = _config(options.config)
    logs.set_up(None, "reduce", config.daemon.logging_level if config else "INFO")
    with ExitStack() as stack:
        if what.is_dir():
            if not (what / CONFIGURATION).is_file():
                raise ConfigError(f"{what} is no dataset: it needs a {CONFIGURATION}")
            folders, side_by_side = [what.absolute()], 1
        else:
            manager = selection.load(what)
            config = config or Config.standalone(manager.data_reduction_dir, manager.log_dir)
            folders = selection.select(manager, datetime.now(UTC))
            side_by_side = manager.max_parallel
            stack.enter_context(_log_file(manager.log_dir / "arcon_pipeline.log"))
        log.info("%d dataset(s) to be reduced", len(folders))
        if options.dry_run:
            say("".join(f"{folder}\n" for folder in folders))
            return 0
        store = stack.enter_context(open_store(config)) if config else None
        stack.enter_context(outage_as_error())
        results = list(_reductions(folders, options.max_parallel or side_by_side, options.again, (config, store)))
    return 0 if all(result.succeeded for result in results) else 1


def _reductions(
    folders: Sequence[Path], side_by_side: int, again: bool, archive: tuple[Config | None, Store | None]
) -> Iterator[ReductionResult]:
    """Reduce datasets on a cluster; says how each ended."""
    from obsarchive.execution.cluster import Cluster  # late: it is slow to import

    config, store = archive
    if store is None:
        log.info("there is no config.json here: what is done is not noted in a database")
    tmp = config.paths.tmp if config else Path.home() / ".cache" / "archiver"
    progress = Bar("reduce").show
    with Cluster(config.parallel if config else Parallel(), tmp) as cluster:
        records = store.datasets if store else None
        stopping = threading.Event()
        reductions = Reductions(partial(cluster.each, stopping=stopping), records, tmp / "catalogs", progress, stopping)
        for result in reductions.reduce(folders, side_by_side, again):
            say(f"{result.subject}: {result.state}{_described(result)}\n")
            yield result


def _described(result: ReductionResult) -> str:
    words = result.message or (summary(result.record) if "n_stars" in result.record else "")
    uploaded = result.record.get("tom", "")
    return f": {words}" * bool(words) + f"; TOM: {uploaded}" * bool(uploaded)


def lightcurve(options: Namespace) -> int:
    """Write the light curve of any star or place of a dataset."""
    logs.set_up(None, "lightcurve", "WARNING")
    ra, dec = degrees(options.ra, u.hourangle), degrees(options.dec, u.deg)
    if ra is None or dec is None or not abs(dec) <= 90:
        raise ConfigError(
            f"{options.ra} {options.dec}: a right ascension such as 17:30:25.5 and a declination, or degrees"
        )
    found = light_curve_at(options.dataset, ra, dec)
    path = options.output or options.dataset / "lightcurves" / f"{ra:.5f}{dec:+.5f}.ecsv"
    products.write_light_curve(path, found.table)
    atomic_write(path.with_suffix(".png"), plot_light_curve(found.table, found.what))
    say(f"{found.what}: {len(found.table)} points in {path}\n")
    return 0


def simulate(options: Namespace) -> int:
    """Write a simulated dataset with a microlensing event."""
    logs.set_up(None, "simulate", "INFO")
    if options.frames < 1 or options.stars < 10:
        raise ConfigError("--frames must be at least 1, --stars at least 10")
    frames = demo_field.write_dataset(
        options.folder, StarField(n_stars=options.stars, seed=options.seed), options.frames
    )
    say(f"{len(frames)} frames in {options.folder}\n")
    return 0


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Write the log to a file, too."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(path, maxBytes=10_000_000, backupCount=5, encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"log_dir: {path} cannot be written: {err.strerror}") from err
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logging.getLogger("obsarchive").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("obsarchive").removeHandler(handler)
        handler.close()

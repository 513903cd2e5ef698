"""``obsarchive daemon``: watch the raw data, reduce what is due, keep the archive."""

import logging
import os
import signal
import threading
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from obsarchive.cli.console import say
from obsarchive.cli.daemon_reasons import note_failed_start
from obsarchive.config.loading import load
from obsarchive.config.model import Config
from obsarchive.core import logs
from obsarchive.errors import ArchiveError, ConfigError, NotLeader
from obsarchive.names import is_night
from obsarchive.pipeline.chain import decision_chain

log = logging.getLogger(__name__)

HANG_S = 60.0
"""A shutdown that takes longer is cut short."""


def run(options: Namespace) -> int:
    """Run the daemon until it is stopped, or until nothing is due."""
    try:
        return _run(options)
    except NotLeader:
        raise
    except ArchiveError as err:
        if not options.check:
            with suppress(ConfigError):  # a file that names no usable folder of logs is explained by `status` itself
                note_failed_start(load(options.config, import_classes=False), err)
        raise


def _run(options: Namespace) -> int:
    settings = load(options.config, import_classes=False)
    for night in options.night:
        if not is_night(night):
            raise ConfigError(f"--night {night}: expected a night written YYYYMMDD")
    if options.check:
        from obsarchive.cli.check import check

        config = _with_classes(options)
        logs.set_up(None, "archiver", config.daemon.logging_level)
        return check(config, tuple(options.night))
    return _serve(settings, options)


def _with_classes(options: Namespace) -> Config:
    config = load(options.config)
    decision_chain(config)
    return config


def _serve(settings: Config, options: Namespace) -> int:
    # Loaded late: a mistake in the configuration is reported at once, without waiting for Dask.
    from obsarchive.core.archive_paths import Layout
    from obsarchive.daemon.leader import lock_archive
    from obsarchive.io.start_record import noted_start

    layout = Layout(settings.paths.archive)
    os.close(lock_archive(layout))  # fail early, before a database is started
    with noted_start(layout.start_record):
        return _work(settings, options)


def _work(settings: Config, options: Namespace) -> int:
    from obsarchive.execution.forking import fork_forkserver

    if settings.parallel.scheduler is None:
        fork_forkserver()
    # Later than the fork: a step imports the pipelines of an adopter itself, as it does on machines that only work.
    from obsarchive.daemon.scheduler import Options, Scheduler
    from obsarchive.database.connect import open_database
    from obsarchive.execution.cluster import Cluster

    config = _with_classes(options)
    logs.set_up(config.paths.logs, "archiver", config.daemon.logging_level)
    with open_database(config) as opened:
        new: Config | None = config
        while new:
            logging.getLogger().setLevel(new.daemon.logging_level)
            cluster = Cluster(new.parallel, new.paths.tmp)
            scheduler = Scheduler(new, opened, cluster, Options(options.once, tuple(options.night)))
            for name in (signal.SIGINT, signal.SIGTERM):
                signal.signal(name, partial(_stop, scheduler.stop))
            log.info("archive %s, run %s", new.paths.archive, scheduler.run_id)
            scheduler.run()
            new = None if scheduler.stopping.is_set() else scheduler.config_watch.new
        is_cut_short = options.once and scheduler.stopping.is_set()
        if options.once:
            say(summary(scheduler.status.totals, scheduler.watch.problems_count, is_cut_short, scheduler.paused))
    log.info("stopped")
    return int(is_cut_short)


def _stop(stop: Callable[[], None], *_: object) -> None:
    log.info("stopping: running steps are given back")
    stop()
    watchdog = threading.Timer(HANG_S, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()


def summary(
    totals: Counter[str] | dict[str, int], problems: int = 0, is_cut_short: bool = False, paused: int = 0
) -> str:
    """Return in one line how the steps of a run ended, and how many raw files are not understood."""
    words = ", ".join(f"{count} {state}" for state, count in sorted(totals.items()))
    more = f"; {problems} raw file(s) not understood: obsarchive status CONFIG NIGHT says why" if problems else ""
    end = "nothing is due any more"
    if is_cut_short:
        end = "stopped before all was done: run it again"
    elif paused:
        end = f"{paused} step(s) wait for what is away now, such as a disk: run it again when it is back"
    return f"{end}; steps of this run: {words or 'none'}{more}\n"

"""Command line of the daemon."""

import argparse
import logging
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from obsarchive.config.model import Config, load
from obsarchive.core import logs
from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.names import is_night
from obsarchive.pipeline.chain import decision_chain

log = logging.getLogger(__name__)

HANG_S = 60.0
"""A shutdown that takes longer is cut short."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; returns the exit code (0 fine, 2 configuration, 3 service, 4 not master)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    return guarded(lambda: _run(options))


def guarded(body: Callable[[], int]) -> int:
    """Run a command; an error that the archive can explain becomes one message and its exit code."""
    try:
        return body()
    except ArchiveError as err:
        sys.stderr.write(f"archiver: {err}\n")
        return err.exit_code
    except KeyboardInterrupt:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="archiver.py",
        description="Watch the raw data, reduce what is due, keep the archive. Runs until Ctrl-C.",
        epilog="Exit codes: 0 fine, 2 configuration, 3 database or cluster unreachable, 4 another master.",
    )
    parser.add_argument("config", help="configuration file (see the shipped config.json)")
    parser.add_argument("--once", action="store_true", help="stop when nothing is due and nothing runs")
    parser.add_argument(
        "--night", action="append", default=[], metavar="YYYYMMDD", help="look at this night only (repeatable)"
    )
    parser.add_argument("--check", action="store_true", help="say what would be due, change nothing")
    return parser


def _run(options: argparse.Namespace) -> int:
    config = load(options.config)
    for night in options.night:
        if not is_night(night):
            raise ConfigError(f"--night {night}: expected a night written YYYYMMDD")
    decision_chain(config)
    logs.set_up(None if options.check else config.paths.logs, "archiver", config.misc.logging_level)
    if options.check:
        from obsarchive.cli.check import check

        return check(config, tuple(options.night), sys.stdout.write)
    return _serve(config, options)


def _serve(config: Config, options: argparse.Namespace) -> int:
    # Loaded late: a mistake in the configuration is told at once, without waiting for Dask.
    from obsarchive.core.archive_paths import Layout
    from obsarchive.daemon.leader import lock_archive
    from obsarchive.daemon.scheduler import Options, Scheduler
    from obsarchive.database.connect import open_database
    from obsarchive.execution.cluster import Cluster

    os.close(lock_archive(Layout(config.paths.archive)))  # fail early, before a database is started
    with open_database(config) as opened:
        cluster = Cluster(config.parallel, config.paths.tmp)
        scheduler = Scheduler(config, opened, cluster, Options(options.once, tuple(options.night)))
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda number, frame: _stop(scheduler.stop))  # noqa: ARG005
        log.info("archive %s, run %s", config.paths.archive, scheduler.run_id)
        scheduler.run()
        if options.once:
            sys.stdout.write(summary(scheduler.status.totals))
    log.info("stopped")
    return 0


def _stop(stop: Callable[[], None]) -> None:
    log.info("stopping: running steps are given back")
    stop()
    watchdog = threading.Timer(HANG_S, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()


def summary(totals: Counter[str] | dict[str, int]) -> str:
    """Say in one line how the steps of a run ended."""
    words = ", ".join(f"{count} {state}" for state, count in sorted(totals.items()))
    return f"nothing is due any more; steps of this run: {words or 'none'}\n"

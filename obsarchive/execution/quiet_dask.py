"""Settings and timers with which an idle Dask cluster costs next to nothing, and its messages among those of the log.

Tasks take seconds here, so that nothing of a cluster has to be looked at more often.
"""

import logging
from typing import Any

import dask
from distributed import scheduler as dask_scheduler
from distributed.comm.core import CommClosedError

HEARTBEAT_S = 5.0
"""Time between two signs of life of a worker; Dask's own is half a second [s]. One that died closes its connection."""
CHECK_MS = 5000
"""Time between two looks of Dask for what does not happen here [ms]."""
_dask_interval = dask_scheduler.heartbeat_interval
LOGGERS = ("distributed", "tornado", "asyncio")
"""Those whose messages come from the cluster."""
LOST = (CommClosedError, ConnectionError, TimeoutError, EOFError)
"""What an error is when the process at the other end has gone."""
OF_LOST_WORKERS = (
    "marked as failed because %d workers died",  # the result of the step says that its worker was lost
    "Couldn't gather",
    "Failed while closing connection",
    "Worker failed to connect",  # why it did not start is another message
    "during heartbeat",
)
"""Parts of messages about workers that ended; at the end of the daemon they all do."""
HEALTH_ONLY = ["distributed.http.health"]


def be_quiet() -> None:
    """Set Dask's configuration for a scheduler and workers that this process starts."""
    dask.config.set(
        {
            # Nobody reads Dask's own statistics; its pages would import Bokeh.
            "distributed.admin.tick.interval": "2s",
            "distributed.admin.tick.limit": "20s",
            "distributed.admin.system-monitor.interval": "5s",
            "distributed.admin.system-monitor.disk": False,
            "distributed.worker.profile.enabled": False,
            "distributed.scheduler.http.routes": HEALTH_ONLY,
            "distributed.worker.http.routes": HEALTH_ONLY,
            # Workers hold no data of each other.
            "distributed.scheduler.active-memory-manager.start": False,
        }
    )


def slow_down_scheduler(scheduler: Any) -> None:
    """Have a scheduler of this process look less often whether it is idle or without workers, and hear workers less."""
    for name in ("idle-timeout", "no-workers-timeout"):
        scheduler.periodic_callbacks[name].callback_time = CHECK_MS
    dask_scheduler.heartbeat_interval = lambda n: max(HEARTBEAT_S, _dask_interval(n))


def slow_down_worker(worker: Any) -> None:
    """Have a worker look less often for data of others that are missing."""
    worker.periodic_callbacks["find-missing"].callback_time = CHECK_MS


def join_log() -> None:
    """Have errors of Dask come with the format and to the places of the log, not to Dask's own.

    That a worker ended is told by the step that lost it: what Dask writes of it is of the level DEBUG. Dask sets its
    loggers up when it is imported and when a cluster starts, so this is called after both.
    """
    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in LOGGERS]
    for logger in map(logging.getLogger, known):
        logger.setLevel(logging.ERROR)
        for own in [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]:
            logger.removeHandler(own)
        logger.propagate = True
    for handler in logging.getLogger().handlers:
        handler.addFilter(is_news)


def is_news(record: logging.LogRecord) -> bool:
    """Whether a message is shown; that of a lost worker, which the archive tells itself, has the level DEBUG."""
    if record.name.partition(".")[0] not in LOGGERS or not _is_of_lost_worker(record):
        return True
    record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def _is_of_lost_worker(record: logging.LogRecord) -> bool:
    err = record.exc_info[1] if record.exc_info else None
    return isinstance(err, LOST) or any(part in str(record.msg) for part in OF_LOST_WORKERS)

"""Settings and timers with which an idle Dask cluster costs next to nothing: tasks take seconds here."""

from typing import Any

import dask
from distributed import scheduler as dask_scheduler

HEARTBEAT_S = 5.0
"""Time between two signs of life of a worker; Dask's own is half a second [s]. One that died closes its connection."""
CHECK_MS = 5000
"""Time between two looks of Dask for what does not happen here [ms]."""
_dask_interval = dask_scheduler.heartbeat_interval
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

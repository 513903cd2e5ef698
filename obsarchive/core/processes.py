"""Identity of a process, noted where others see it, so that they can check whether it still runs."""

import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import psutil

from obsarchive.core.documents import utc_now

BEAT_S = 30.0
"""A process that works renews its sign of life at this interval."""
SILENT_S = 600.0
"""A process of another machine without a sign of life for so long has ended."""
SAME_START_S = 2.0


def this_process() -> dict[str, Any]:
    """Return host, number and start [s since 1970] of this process; numbers alone are used again."""
    return _identity(os.getpid()).copy()


@cache
def _identity(pid: int) -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": pid, "started": psutil.Process(pid).create_time()}


def start_of(process: Mapping[str, Any]) -> datetime:
    """Return when a process was started, as the database keeps times (UTC).

    Parameters
    ----------
    process : mapping
        As of `this_process`.
    """
    return datetime.fromtimestamp(round(float(process["started"]), 3), UTC)


def has_ended(process: Mapping[str, Any] | None, last_sign: datetime | None) -> bool:
    """Return whether a process does not run any more.

    Parameters
    ----------
    process : mapping or None
        As of `this_process`; None: unknown.
    last_sign : datetime or None
        Its last sign of life (UTC), which decides if the process is unknown or of another machine.

    Returns
    -------
    bool
    """
    if process and process.get("host") == socket.gethostname():
        try:
            began = float(psutil.Process(int(process["pid"])).create_time())
            return abs(began - float(process["started"])) > SAME_START_S
        except psutil.Error:
            return True
    return last_sign is None or (utc_now() - last_sign).total_seconds() > SILENT_S

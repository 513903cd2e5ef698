"""The server of a machine from which its workers and their steps are forked: all share what it has imported."""

import multiprocessing as mp
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver
from typing import Any

import dask
import distributed.utils

PRELOADED = ["obsarchive.execution.preload"]
METHOD = "distributed.worker.multiprocessing-method"
ENVIRONMENT = "distributed.nanny.pre-spawn-environ"
TRIM = "MALLOC_TRIM_THRESHOLD_"
"""Set by Dask, it has freed arrays given back to the system at once: a tenth more processor time, `lbzip2` included."""


def start_forkserver() -> None:
    """Start the server from which Dask then forks the workers of this process: of a daemon, or of a nanny."""
    environment = {name: value for name, value in dask.config.get(ENVIRONMENT).items() if name != TRIM}
    dask.config.set({METHOD: "forkserver", ENVIRONMENT: environment})
    distributed.utils._forkserver_preload_set = True  # or Dask would have it import pandas, and import that here
    mp.get_context("forkserver").set_forkserver_preload(PRELOADED)
    with _environment(environment):  # which counts when numpy is imported
        forkserver.ensure_running()


@contextmanager
def _environment(variables: Mapping[str, Any]) -> Iterator[None]:
    """Set environment variables, where they are not set, for what is started within."""
    added = {name: str(value) for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@cache
def allow_children() -> None:
    """Let this worker fork steps: from the server that forked it, or from one of its own."""
    mp.current_process().daemon = False  # the child of a nanny may have no children of its own otherwise
    server: Any = forkserver._forkserver
    was_forked = server._forkserver_address is not None and server._forkserver_pid is None
    if was_forked and dask.config.get(METHOD) == "forkserver":
        server.ensure_running = lambda: None  # Python would start another server in each process that one forked
        return
    mp.get_context("forkserver").set_forkserver_preload(PRELOADED)
    os.environ.pop(TRIM, None)
    forkserver.ensure_running()  # it imports and compiles while the worker waits for its first step

"""The server of a machine from which its workers and their steps are forked: all share what it has imported."""

import importlib
import multiprocessing as mp
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from multiprocessing import forkserver, util
from typing import Any

import dask
import distributed.utils

from obsarchive.execution.step_process import name_process

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


def fork_forkserver() -> None:
    """Fork the server from this process, which then shares with it what both import.

    This process must have nothing open yet that is its own: neither log nor database. If it has threads, which a fork
    would leave behind in whatever they hold, the server is a program of its own (:func:`start_forkserver`).
    """
    for name in PRELOADED:
        importlib.import_module(name)
    if not _is_single_threaded():
        return
    modified: Any = util
    spawn = modified.spawnv_passfds
    modified.spawnv_passfds = _fork
    try:
        start_forkserver()
    finally:
        modified.spawnv_passfds = spawn


def _is_single_threaded() -> bool:
    try:
        return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 - a pseudo-folder; it has threads of libraries, too
    except OSError:
        return False  # not Linux


def _fork(_: object, arguments: Sequence[str], passed: Sequence[int]) -> int:
    """Do what a new interpreter with these arguments would do, in a fork of this one; return its process id."""
    if process := os.fork():
        return process
    try:
        _become(arguments[-1], passed)
    except SystemExit:
        pass  # so the server ends
    except BaseException:  # noqa: BLE001 - a fork must not go on with what its parent was doing
        traceback.print_exc()
    os._exit(0)


def _become(code: str, passed: Sequence[int]) -> None:
    """Run a server, as code for an interpreter, without what belongs to the process that forked this one."""
    begin = 3
    for kept in (*sorted(passed), os.sysconf("SC_OPEN_MAX")):
        os.closerange(begin, kept)
        begin = kept + 1
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    name_process("archive-forker" if "forkserver" in code else "archive-tracker")  # Python's, of shared memory
    server: Any = forkserver._forkserver
    server._lock = threading.Lock()  # that of the other process is held
    exec(code, {})  # noqa: S102 - what Python's own library wrote for a new interpreter


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

"""What Dask writes: errors are in the log, but what the archive tells itself only at the level DEBUG."""

import io
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from distributed.comm.core import CommClosedError

from obsarchive.config.model import Parallel
from obsarchive.core import logs
from obsarchive.errors import WorkerLost
from obsarchive.execution.cluster import Cluster, TaskFinished
from obsarchive.execution.quiet_dask import is_news, join_log


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log of the daemon, at the level INFO."""
    text, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(text), root.level
    logs.attach(handler)
    root.setLevel("INFO")
    yield text
    root.removeHandler(handler)
    root.setLevel(level)
    for other in root.handlers:
        other.removeFilter(is_news)


def complain(name: str, message: str, err: Exception | None = None) -> None:
    logging.getLogger(name).error(message, exc_info=err)


@pytest.mark.parametrize(
    ("name", "message", "err"),
    [
        ("distributed.core", "Exception while handling op gather", CommClosedError("in <TCP>: Stream is closed")),
        ("distributed.batched", "Error in batched write", BrokenPipeError(32, "Broken pipe")),
        ("distributed.nanny", "Failed to unregister (status=running)", ConnectionRefusedError(111, "refused")),
        ("distributed.nanny", "Failed to start process", TimeoutError()),
        ("distributed.client", "Couldn't gather 1 keys, rescheduling", None),
        ("distributed.worker", "Failed to communicate with scheduler during heartbeat.", CommClosedError("closed")),
        ("tornado.application", "Exception in callback", CommClosedError("closed")),
        ("asyncio", "Task exception was never retrieved", ConnectionResetError(104, "reset")),
    ],
)
def test_a_lost_worker_is_told_once(log: io.StringIO, capfd, name: str, message: str, err: Exception | None) -> None:
    join_log()
    complain(name, message, err)
    assert log.getvalue() == ""
    assert capfd.readouterr().err == ""
    logging.getLogger().setLevel("DEBUG")
    complain(name, message, err)
    assert f"DEBUG   - | {message}" in log.getvalue()
    assert "ERROR" not in log.getvalue().split("Traceback")[0]


@pytest.mark.parametrize(
    ("name", "message", "err"),
    [
        ("distributed.nanny", "Failed to start process", ImportError("no module named own_pipelines")),
        ("distributed.core", "Exception while handling op register", TypeError("an integer is required")),
        ("distributed.diskutils", "Failed to remove '/tmp/x'", OSError(28, "No space left on device")),
        ("distributed.worker", "Compute Failed", None),
        ("tornado.application", "Exception in callback", ValueError("of a bug")),
        ("obsarchive.daemon", "the disk of the raw data does not answer", TimeoutError()),
    ],
)
def test_other_errors_are_in_the_log_with_its_format(log: io.StringIO, name: str, message: str, err: Exception) -> None:
    join_log()
    complain(name, message, err)
    first, *_ = log.getvalue().splitlines()
    assert first.endswith(f"ERROR   - | {message}")
    if err is not None:
        assert type(err).__name__ in log.getvalue()


def test_a_worker_that_is_killed_leaves_no_line_of_dask(log: io.StringIO, capfd, tmp_path: Path) -> None:
    with Cluster(Parallel(n_workers=1), tmp_path) as cluster:
        cluster.submit("sleeps", time.sleep, 60)
        workers = []
        deadline = time.monotonic() + 30
        while not workers and time.monotonic() < deadline:
            time.sleep(0.2)
            workers = [p for p in psutil.Process().children(recursive=True) if p.name() == "archive-worker"]
        logging.getLogger().setLevel("DEBUG")
        time.sleep(1)
        os.kill(workers[0].pid, signal.SIGKILL)
        event = cluster.events.get(timeout=60)
        assert isinstance(event, TaskFinished)
        assert isinstance(event.value, WorkerLost)
        time.sleep(1)
        logging.getLogger().setLevel("INFO")
    told = log.getvalue()
    assert "DEBUG   - | Task step-sleeps marked as failed because 1 workers died while trying to run it" in told
    assert "ERROR" not in told
    assert "distributed" not in capfd.readouterr().err

"""Services that run already, for daemons that need not start their own."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any
from uuid import uuid4

from obsarchive.database.embedded_mongod import Server
from tests.forked import forkserver

IN_PROCESS = {
    "processes": False,
    "n_workers": 1,
    "host": "127.0.0.1",
    "protocol": "tcp://",
    "dashboard_address": "127.0.0.1:0",
    "preload": [],  # it is for worker processes
}
"""A Dask cluster whose scheduler and worker are threads of the process that starts it, and end with it."""


@contextmanager
def dask_cluster() -> Iterator[str]:
    """Run a Dask cluster in a process of its own, and give its address; its one worker forks the steps of all daemons.

    Not in this process: its threads draw random numbers, which hypothesis takes for those of a test.
    """
    context = forkserver()
    here, there = context.Pipe()
    process = context.Process(target=_run_cluster, args=(there,))
    process.start()
    there.close()
    try:
        yield here.recv()
    finally:
        here.close()
        process.join()


def _run_cluster(connection: Connection) -> None:
    """Run a cluster until the other end of the connection is closed."""
    from distributed import LocalCluster  # most processes need none

    with LocalCluster(threads_per_worker=1, **IN_PROCESS) as cluster:
        connection.send(cluster.scheduler_address)
        with suppress(EOFError):
            connection.recv()


def running_services(server: Server, scheduler: str, database: str = "") -> dict[str, Any]:
    """Return the sections of a configuration that make a daemon use a database and workers that are there.

    Without the name of a database it is a new one: several processes may make what a file of tests shares.
    """
    uri = server.uri.partition("&w=")[0]  # the daemon itself adds to an address how safely it writes
    return {
        "database": {"mode": "external", "uri": uri, "db": database or f"test_{uuid4().hex}"},
        "parallel": {"scheduler": scheduler},
    }


def with_services(config: dict[str, Any], services: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration whose daemon uses services that are there; what else its sections say remains."""
    return config | {name: config.get(name, {}) | keys for name, keys in services.items()}

"""Services that run already, for daemons that need not start their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    """Run a Dask cluster in this process, and give its address; its one worker forks the steps of all daemons."""
    from distributed import LocalCluster  # most test processes need none

    forkserver()
    with LocalCluster(threads_per_worker=1, **IN_PROCESS) as found:
        yield found.scheduler_address


def running_services(server: Server, database: str, scheduler: str) -> dict[str, Any]:
    """Return the sections of a configuration that make a daemon use a database and workers that are there."""
    uri = server.uri.partition("&w=")[0]  # the daemon itself adds to an address how safely it writes
    return {
        "database": {"mode": "external", "uri": uri, "db": database},
        "parallel": {"scheduler": scheduler},
    }


def with_services(config: dict[str, Any], services: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration whose daemon uses services that are there; what else its sections say remains."""
    return config | {name: config.get(name, {}) | keys for name, keys in services.items()}

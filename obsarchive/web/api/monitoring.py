"""What programs that watch the archive ask for: whether it lives, and numbers for Prometheus."""

import hmac
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import wraps
from ipaddress import ip_address
from threading import Lock, Thread
from typing import Any

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from obsarchive import __version__
from obsarchive.core.documents import utc_now
from obsarchive.core.step_state import State
from obsarchive.core.values import as_count, as_mapping, as_mappings, as_time
from obsarchive.errors import ServiceUnavailable
from obsarchive.pipeline.chain import ChainEntry, steps_of
from obsarchive.store import StepPath, Store, outage_as_error
from obsarchive.web.framework.context import Portal, names_this_machine, portal
from obsarchive.web.models.daemon_status import DOWN, STARTING, daemon_report, daemon_state

log = logging.getLogger(__name__)

bp = Blueprint("monitoring", __name__)

View = Callable[[], ResponseReturnValue]
Labels = tuple[tuple[str, str], ...]
Samples = Mapping[Labels, float]
VERSION: Samples = {(("version", __version__),): 1.0}
FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Real-IP")
DAEMON_STATES = (STARTING, "working", "idle", "napping", "reloading", "no space", "stopped", "not running")
ENDINGS = ("done", "failed", "rejected", "lacking", "waiting")
SHARE = 50
"""Steps are counted again after so many times the time that it took."""
COUNTED_EVERY_S, WAIT_S = 15.0, 2.0


def for_watchers(view: View) -> View:
    """Restrict a view to programs with ``server.metrics_token``; where none is set, to programs of this machine."""

    @wraps(view)
    def guarded() -> ResponseReturnValue:
        if not _may_watch():
            return Response("for this machine only, or with server.metrics_token\n", 403, mimetype="text/plain")
        return view()

    return guarded


def _may_watch() -> bool:
    token = portal().settings.server.metrics_token
    if token is None:
        return _is_local()
    sent = request.authorization
    given = str(sent.token or "") if sent is not None and sent.type == "bearer" else ""
    return hmac.compare_digest(given.encode(errors="replace"), token.get_secret_value().encode())


def _is_local() -> bool:
    """Whether a program of this machine asks, not a proxy nor a page whose host's name leads here."""
    if not portal().settings.server.trusted_proxies and any(name in request.headers for name in FORWARDED):
        return False
    with suppress(ValueError):
        return ip_address(request.remote_addr or "").is_loopback and names_this_machine()
    return False


@bp.get("/health/live")
def live() -> ResponseReturnValue:
    """Say that the portal answers."""
    return {"status": "ok"}


@bp.get("/health/ready")
def ready() -> ResponseReturnValue:
    """Say whether the portal can show anything: whether its database answers."""
    try:
        with outage_as_error():
            portal().store.jobs.daemon()
    except ServiceUnavailable:
        portal().revive_database()
        return {"status": "no database"}, 503
    return {"status": "ok"}


@bp.get("/health/daemon")
@for_watchers
def daemon() -> ResponseReturnValue:
    """Say whether the daemon lives, and what it does: one that starts lives."""
    state = daemon_state(daemon_report())
    return {"status": state}, 503 if state in DOWN else 200


@bp.get("/health/daemon/ready")
@for_watchers
def daemon_ready() -> ResponseReturnValue:
    """Say whether the daemon works: whether it lives and has come to its first cycle."""
    state = daemon_state(daemon_report())
    return {"status": state}, 503 if state in (*DOWN, STARTING) else 200


@bp.get("/metrics")
@for_watchers
def metrics() -> ResponseReturnValue:
    """Return numbers for Prometheus: no name of an observation or a person is among them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Answer(_everything(portal())))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Answer:
    """Metrics as a collector of `prometheus_client`."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._families


def _everything(app: Portal) -> list[Metric]:
    found = [_gauge("info", "version of the portal", VERSION)]
    try:
        with outage_as_error():
            found += [*_of_daemon(app), *_of_archive(app)]
    except ServiceUnavailable:
        app.revive_database()
        return [*found, _gauge("database_up", "1 if the database answers", 0)]
    return [*found, _gauge("database_up", "1 if the database answers", 1)]


def _gauge(name: str, text: str, value: float | Samples | None) -> Metric:
    return _filled(GaugeMetricFamily(f"archiver_{name}", text), value)


def _counter(name: str, text: str, value: float | Samples | None) -> Metric:
    return _filled(CounterMetricFamily(f"archiver_{name}", text), value, "_total")


def _filled(family: Metric, value: float | Samples | None, ending: str = "") -> Metric:
    samples = value if isinstance(value, Mapping) else {} if value is None else {(): value}
    for labels, number in samples.items():
        family.add_sample(family.name + ending, dict(labels), number)
    return family


def _age(when: datetime | None) -> float | None:
    return None if when is None else max(0.0, (utc_now() - when).total_seconds())


def _of_daemon(app: Portal) -> Iterator[Metric]:
    status = daemon_report()
    state = daemon_state(status)
    is_up = state not in DOWN
    yield _gauge("daemon_up", "1 if the daemon reported within the last minute", float(is_up))
    states: Samples = {(("state", name),): float(name == state) for name in DAEMON_STATES}
    yield _gauge("daemon_state", "1 for the state that the daemon is in", states)
    yield _gauge("daemon_report_age_seconds", "time since the daemon reported", _age(as_time(status.get("updated"))))
    yield _gauge("daemon_cycle_age_seconds", "time since a whole cycle ended", _age(as_time(status.get("last_cycle"))))
    yield _gauge("daemon_run_seconds", "time since the daemon was started", _age(as_time(status.get("started"))))
    yield _gauge("daemon_memory_bytes", "memory of the daemon", as_count(status.get("memory_mb")) * 1e6)
    yield _gauge("queue_length", "observations that are not complete", as_count(status.get("queue")))
    yield _gauge("steps_running", "steps that were handed to workers", len(as_mappings(status.get("running"))))
    yield _gauge("workers", "workers of the cluster", len(as_mappings(status.get("workers"))))
    yield _gauge(
        "configuration_problem", "1 if a changed configuration is not used", float(bool(status.get("configuration")))
    )
    yield _gauge("disk_guard", "1 if nothing new is begun for lack of disk space", float(bool(status.get("space"))))
    yield from _of_run(status)
    yield from _of_disks(app, status)


def _of_run(status: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield what a run of the daemon counts from its start."""
    totals, causes = as_mapping(status.get("totals")), as_mapping(status.get("causes"))
    endings: Samples = {(("state", state),): float(as_count(totals.get(state))) for state in ENDINGS}
    yield _counter("step_endings", "attempts at steps that ended, since the daemon was started", endings)
    failures: Samples = {(("cause", str(name)),): float(as_count(count)) for name, count in causes.items()}
    yield _counter("step_failures", "attempts that failed, since the daemon was started", failures)
    yield _counter("step_retries", "failed attempts after which another follows", as_count(status.get("retries")))


def _of_disks(app: Portal, status: Mapping[str, Any]) -> Iterator[Metric]:
    paths = app.settings.paths
    folders = {"archive": paths.archive, "tmp": paths.tmp, "logs": paths.logs}
    folders |= {f"raw {number}": root.path for number, root in enumerate(paths.raw)}
    known = {str(disk.get("path")): disk for disk in as_mappings(status.get("disks"))}
    for key, text in (("free", "free space of a configured folder"), ("total", "size of the disk of a folder")):
        samples: Samples = {
            (("folder", name),): float(known[str(path)][f"{key}_gb"]) * 1e9
            for name, path in folders.items()
            if str(path) in known
        }
        yield _gauge(f"disk_{key}_bytes", f"{text}, as the daemon reported it", samples)
    yield _gauge("disk_wanted_bytes", "daemon.min_free_gb", app.settings.daemon.min_free_gb * 1e9)


def _of_archive(app: Portal) -> Iterator[Metric]:
    numbers = app.store.monitoring
    yield _gauge("observations", "observations", numbers.count_observations())
    yield _gauge("nights", "nights", numbers.count_nights())
    yield _gauge("raw_problems", "raw files that are not understood", numbers.count_problems())
    newest, waits = numbers.newest_raw_file(), numbers.waits_longest()
    yield _gauge("raw_file_age_seconds", "time since a raw file of the newest observation was written", _age(newest))
    yield _gauge(
        "reduction_lag_seconds",
        "longest time that an observation waits to be complete, since it came or was asked for; 0: none waits",
        _age(waits) or 0.0,
    )
    counts: StepCounts = app.extensions.setdefault("step_counts", StepCounts(app.store, app.chain))
    states: Samples = {
        (("pipeline", path[0]), ("step", path[1]), ("state", str(state))): float(count)
        for (path, state), count in counts.latest().items()
    }
    yield _gauge("steps", "steps by their state", states)


class StepCounts:
    """Counts of steps by state: all documents are read for them, so they are kept for a while.

    Parameters
    ----------
    store : Store
        The database.
    chain : sequence of ChainEntry
        The pipelines.
    """

    def __init__(self, store: Store, chain: Sequence[ChainEntry]) -> None:
        self._store, self._chain = store, chain
        self._next, self._counting = 0.0, Lock()
        self._found: dict[tuple[StepPath, State], int] = {}

    def latest(self) -> dict[tuple[StepPath, State], int]:
        """Return the counts: new ones if they come soon, else those of the last time."""
        if time.monotonic() >= self._next and self._counting.acquire(blocking=False):
            thread = Thread(target=self._count, name="step counts", daemon=True)
            thread.start()
            thread.join(WAIT_S)
        return self._found

    def _count(self) -> None:
        began = time.monotonic()
        try:
            with outage_as_error():
                count = self._store.monitoring.count_states
                self._found = {
                    **count("observation", steps_of(self._chain)),
                    **count("night", steps_of(self._chain, "night")),
                }
        except ServiceUnavailable as err:
            log.warning("steps cannot be counted: %s", err)
        finally:
            ended = time.monotonic()
            self._next = ended + max(COUNTED_EVERY_S, SHARE * (ended - began))
            self._counting.release()

"""The Dask cluster: started or joined, fed with tasks, heard through one queue, closed."""

import ctypes
import logging
import pickle
import queue
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, Nanny, get_worker

from obsarchive import __version__
from obsarchive.config.field_types import IMPORT_ERRORS, import_class
from obsarchive.config.model import ClusterClass, Parallel
from obsarchive.core.progress import at_intervals
from obsarchive.core.step_state import State, after
from obsarchive.errors import ArchiveError, OtherVersion, ServiceUnavailable, WorkerLost
from obsarchive.execution.forking import allow_children, start_forkserver
from obsarchive.execution.quiet_dask import be_quiet, is_news, join_log, slow_down_scheduler, slow_down_worker
from obsarchive.execution.step_process import PR_SET_PDEATHSIG, TaskResult, call_apart, name_process, run_step
from obsarchive.execution.work import ResultState, StepResult
from obsarchive.io.permit import take
from obsarchive.pipeline import Task

log = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
WORKERLESS_S = 30.0
"""A cluster started here that has had no worker for so long will not get one by itself [s]."""
EACH_WAIT_S = 2.0
TOPIC = "progress"
PROGRESS_S = 2.0
"""Shortest time between two reports of a step's progress, each of which is written to the database [s]."""


@dataclass(frozen=True)
class Progress:
    """Progress of a running task."""

    task: str
    fraction: float
    text: str
    worker: str


@dataclass(frozen=True)
class TaskFinished:
    """The end of a task: `value` is what its function returned, or the exception that ended it."""

    task: str
    value: Any


Event = Progress | TaskFinished


class Cluster:
    """A Dask cluster that runs functions; progress and ends of tasks arrive in `events`.

    Parameters
    ----------
    parallel : Parallel
        How the cluster is started, or its address.
    tmp : Path
        Folder for Dask's own files.
    """

    def __init__(self, parallel: Parallel, tmp: Path) -> None:
        self.parallel, self.tmp = parallel, tmp
        self.events: queue.Queue[Event] = queue.Queue()
        self._cluster: Any = None
        self._client: Client | None = None
        self._futures: dict[str, Future[Any]] = {}
        self._workerless_since: float | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start or join the cluster.

        Raises
        ------
        ServiceUnavailable
            When that fails.
        """
        dask.config.set(
            {
                # The daemon counts retries: a task that lost its worker fails at once.
                "distributed.scheduler.allowed-failures": 0,
                "distributed.worker.preload": ["obsarchive.execution.cluster"],
                "distributed.comm.timeouts.connect": "10s",
                "distributed.diagnostics.nvml": False,
            }
        )
        be_quiet()
        join_log()
        chosen = self.parallel.scheduler
        name = chosen.cls if isinstance(chosen, ClusterClass) else chosen or "of this host"
        try:
            self._cluster = self._make_cluster()
            address = chosen if isinstance(chosen, str) else self._cluster
            self._client = Client(address, timeout=START_TIMEOUT_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError, RuntimeError) as err:
            raise ServiceUnavailable(f"the Dask cluster {name} did not start: {err}") from err
        self._client.subscribe_topic(TOPIC, self._hear)
        join_log()

    def _make_cluster(self) -> Any:
        scheduler = self.parallel.scheduler
        if isinstance(scheduler, str):
            return None
        if isinstance(scheduler, ClusterClass):
            cluster = import_class(scheduler.cls)(**scheduler.settings)
            cluster.scale(self.parallel.n_workers)
            return cluster
        self.tmp.mkdir(parents=True, exist_ok=True)
        start_forkserver()
        cluster = LocalCluster(
            n_workers=self.parallel.n_workers,
            threads_per_worker=self.parallel.threads_per_worker,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            memory_limit=None,  # steps run in processes of their own, which are watched
            local_directory=str(self.tmp / "dask"),
            silence_logs=logging.ERROR,
        )
        slow_down_scheduler(cluster.scheduler)
        return cluster

    @property
    def capacity(self) -> int:
        """Number of tasks that can run at once on the present workers."""
        threads = sum(worker["nthreads"] for worker in self._workers().values())
        return threads or self.parallel.n_workers * self.parallel.threads_per_worker

    @property
    def alive(self) -> bool:
        """Whether the scheduler answers, and a cluster started here has workers or may still get them."""
        since = self._workerless_since
        lost = isinstance(self._cluster, LocalCluster) and since is not None and time.monotonic() - since > WORKERLESS_S
        return self._client is not None and self._client.status == "running" and not lost

    @property
    def busy(self) -> int:
        """Number of tasks submitted and not ended."""
        return len(self._futures)

    def describe(self) -> list[dict[str, Any]]:
        """Return the workers, for telemetry."""
        return [
            {"name": str(worker.get("name")), "address": address, "threads": worker.get("nthreads")}
            for address, worker in self._workers().items()
        ]

    def _workers(self) -> dict[str, Any]:
        if not self.alive or self._client is None:
            return {}
        try:
            workers = dict(self._client.scheduler_info(n_workers=-1).get("workers", {}))
        except (OSError, TimeoutError):
            return {}
        self._workerless_since = None if workers else self._workerless_since or time.monotonic()
        return workers

    def submit(self, task: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Run ``function(*arguments)`` on a worker; its end becomes a `TaskFinished` event.

        Parameters
        ----------
        task : str
            Identifier of the task.
        function : callable
            A function that the workers can import.
        *arguments
            Its arguments, which must be picklable.

        Raises
        ------
        ServiceUnavailable
            When the cluster is not running.
        """
        if self._client is None:
            raise ServiceUnavailable("the Dask cluster is not running")
        # What Dask itself could not unpickle, a class that the worker cannot import, would cost it the worker.
        payload = pickle.dumps((function, arguments))
        # Keys are unique and never equal to an argument: Dask would replace that argument by a result.
        future = self._client.submit(_call, __version__, payload, key=f"step-{task}", pure=False, retries=0)
        self._futures[task] = future
        future.add_done_callback(lambda done: self.events.put(TaskFinished(task, self._refused(_value_of(done)))))

    def each(
        self, function: Callable[[Any], Any], items: Sequence[Any], stopping: threading.Event | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Run a function on workers, once for each item; may be called in any thread.

        There is no permit: a function that writes looks itself whether it still may, since a worker may come back late
        (`obsarchive.io.dataset_lock.require_run`). What has not run when the generator is closed is cancelled.

        Parameters
        ----------
        function : callable
            Takes one item; the workers must be able to import it.
        items : sequence
            What it is called with.
        stopping : threading.Event, optional
            What has not ended soon after this is set is not waited for.

        Yields
        ------
        (int, object)
            Number of the item, and what the function returned or the exception that ended it, as they end.

        Raises
        ------
        ServiceUnavailable
            When the cluster is not running, or is lost.
        """
        if self._client is None:
            raise ServiceUnavailable("the Dask cluster is not running")
        run = secrets.token_hex(8)
        numbers = {
            self._client.submit(
                _call, __version__, pickle.dumps((function, (item,))), key=f"each-{run}-{i}", pure=False, retries=0
            ): i
            for i, item in enumerate(items)
        }
        waiting, ended = set(numbers), queue.SimpleQueue[Future[Any]]()
        for future in numbers:
            future.add_done_callback(ended.put)
        try:
            while waiting:
                try:
                    future = ended.get(timeout=EACH_WAIT_S)
                except queue.Empty:
                    if stopping is not None and stopping.is_set():
                        return
                    if not self.alive:
                        raise ServiceUnavailable("the Dask cluster was lost or closed") from None
                    continue
                waiting.discard(future)
                yield numbers[future], self._refused(_value_of(future))
                future.release()
        finally:
            if waiting and self._client is not None:
                with suppress(OSError, TimeoutError, RuntimeError):
                    self._client.cancel(list(waiting), force=True)

    def _refused(self, value: Any) -> Any:
        """Have a worker of another version leave the cluster; return the value of the task that it refused."""
        if isinstance(value, OtherVersion) and self._client is not None:
            log.error("a worker has to leave: %s", value)
            with suppress(OSError, TimeoutError, RuntimeError):
                self._client.retire_workers([value.worker])
        return value

    def forget(self, task: str) -> None:
        """Release the result of a task that ended."""
        future = self._futures.pop(task, None)
        if future is not None:
            future.release()

    def close(self) -> None:
        """Stop the cluster and kill running steps; of an external cluster, only the tasks of this one are cancelled."""
        futures, self._futures = list(self._futures.values()), {}
        with suppress(OSError, TimeoutError, RuntimeError):  # a lost scheduler cannot be reached
            if self._client is not None:
                self._client.cancel(futures, force=True)
        for part in (self._client, self._cluster):
            if part is not None:
                with suppress(OSError, TimeoutError, RuntimeError):
                    part.close(timeout=10)
        self._client = self._cluster = self._workerless_since = None

    def restart(self) -> None:
        """Replace a cluster whose scheduler or workers were lost."""
        self.close()
        self.start()

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        self.events.put(Progress(**event[1]))


def _value_of(future: Future[Any]) -> Any:
    if future.cancelled():
        return WorkerLost("the task was cancelled: the scheduler was lost or closed")
    error = future.exception(timeout=10)
    if isinstance(error, KilledWorker):
        return WorkerLost(f"the worker was lost: {error}")
    return error if error is not None else future.result(timeout=10)


def _call(version: str, payload: bytes) -> Any:
    """Call a function with its arguments, on a worker that has the daemon's version of Archiver."""
    if version != __version__:
        raise OtherVersion(get_worker().address, socket.gethostname(), __version__, version)
    try:
        function, arguments = pickle.loads(payload)  # noqa: S301 - our own
    except (*IMPORT_ERRORS, pickle.UnpicklingError) as err:
        raise ArchiveError(f"the worker cannot load what it should run: {type(err).__name__}: {err}") from err
    return function(*arguments)


def run_task(task: Task) -> TaskResult:
    """Run a step on the Dask worker that calls this; its progress becomes events of the cluster."""
    worker = get_worker()
    allow_children()
    if task.permit is not None:
        take(task.permit)

    def report(fraction: float, text: str) -> None:
        event = {"task": task.id, "fraction": fraction, "text": text, "worker": str(worker.name)}
        worker.loop.add_callback(worker.log_event, TOPIC, event)

    report(0.0, "started")
    return run_step(task, at_intervals(report, PROGRESS_S))


def run_limited(permit: Path, limit_s: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on the Dask worker that calls this, once and for at most some time [s]: see `call_apart`."""
    allow_children()
    take(permit)
    return call_apart(limit_s, function, *arguments, permit)


def dask_setup(worker: Any) -> None:
    """Prepare a Dask worker (this module is its preload): steps may be forked, Ctrl-C is left to the daemon.

    As preload of a nanny: its workers are forked, too, all from one server.
    """
    if isinstance(worker, Nanny):
        start_forkserver()
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError, AttributeError):  # Linux: end with the daemon, even when it is killed
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    name_process("archive-worker")
    allow_children()
    slow_down_worker(worker)
    for handler in logging.getLogger("distributed").handlers:
        handler.addFilter(is_news)
    log.debug("worker %s is ready", worker.name)


def result_of(event: TaskFinished) -> TaskResult:
    """Return how a step ended, also if it was lost with its worker."""
    if isinstance(event.value, StepResult):
        return event.value
    if isinstance(event.value, WorkerLost):
        return StepResult(event.task, ResultState.LOST, str(event.value), {})
    if isinstance(event.value, ArchiveError):
        return StepResult(event.task, ResultState(after(State.ENQUEUED, event.value.event)), str(event.value), {})
    log.error("task %s: its result did not come back: %s", event.task, event.value)
    return StepResult(event.task, ResultState.FAILED, f"its result did not come back: {event.value}", {})

"""Execution of a step in a process of its own that can be killed; Dask calls :func:`run_step`.

A forkserver on each machine holds the imported (and compiled) modules, so that a step costs a fork, not a new
interpreter. The worker's thread watches time, memory and progress of the forked process. Results are in the database
and on disk, so a step may be killed at any moment.
"""

import ctypes
import errno
import logging
import multiprocessing as mp
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil

from obsarchive.core import logs
from obsarchive.core.json_text import parse_with_checksum
from obsarchive.core.progress import ProgressCallback, no_progress
from obsarchive.core.step_state import State, after
from obsarchive.core.values import plain_values
from obsarchive.errors import OF_DISKS, ArchiveError
from obsarchive.execution.work import ResultState, StepResult
from obsarchive.io.permit import discard, is_withdrawn
from obsarchive.pipeline import Task, Workspace
from obsarchive.pipeline.task import remove_scratch

log = logging.getLogger(__name__)

POLL_S = 0.25
LOG_LINES = 400
"""Lines of a step's log that are kept in its manifest."""
MAX_LINE, MAX_MESSAGE = 10_000, 2000
"""Longest line of it, and longest reason, that is kept [characters]."""
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15

TaskResult = StepResult[Mapping[str, Any]]
"""Result of a step; its record is the manifest."""


def run_step(task: Task, progress: ProgressCallback = no_progress) -> TaskResult:
    """Run one step in a process of its own; however it ends, a `StepResult` is returned.

    Parameters
    ----------
    task : Task
        The step, and its limits of time [s] and memory [GB].
    progress : ProgressCallback, optional
        Receives its progress.

    Returns
    -------
    StepResult
        With the identifier of the task and the manifest.
    """
    try:
        with _forked(str(task), _child, task) as (process, pipe):
            return _watch(task, process, pipe, progress)
    finally:
        remove_scratch(task)


def call_apart(limit_s: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, which is killed with all that it started if it takes too long.

    Parameters
    ----------
    limit_s : float
        Longest time [s].
    function : callable
        A function of a module.
    *arguments
        Its arguments.

    Returns
    -------
    object
        What it returned; what it raised is raised.

    Raises
    ------
    ArchiveError
        It did not end in time, or its process died.
    """
    with _forked(function.__name__, _answer, function, arguments) as (process, pipe):
        if not wait([pipe, process.sentinel], limit_s):
            raise ArchiveError(f"{function.__name__}: not finished after {limit_s:g} s (parallel.job_timeout_s)")
        answer = _received(pipe) if pipe.poll() else None
        if answer is None:
            process.join(POLL_S)
            raise ArchiveError(f"{function.__name__}: its process died ({_death(process)})")
    value, error = answer
    if error is not None:
        raise error
    return value


@contextmanager
def _forked(name: str, body: Callable[..., None], *arguments: Any) -> Iterator[tuple[BaseProcess, Connection]]:
    """Run ``body(*arguments, pipe)`` in a process of its own; in the end it is killed with all that it started.

    Yields
    ------
    (BaseProcess, Connection)
        The process, and the end of the pipe from which its messages come.
    """
    context = mp.get_context("forkserver")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=body, args=(*arguments, there), name=name)
    process.start()
    there.close()
    try:
        yield process, here
    finally:
        _kill(process)
        here.close()


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...], pipe: Connection) -> None:
    """Body of the process of `call_apart`."""
    _detach()
    answer: tuple[Any, Exception | None]
    try:
        answer = function(*arguments), None
    except Exception as err:  # whatever it is, the process that asked raises it
        log.debug("%s failed", function.__name__, exc_info=err)
        answer = None, err
    with suppress(BrokenPipeError):
        pipe.send(answer)


def _watch(task: Task, process: BaseProcess, pipe: Connection, progress: ProgressCallback) -> TaskResult:
    deadline = time.monotonic() + task.time_limit_s
    peak_mb = 0.0
    while True:
        ready = wait([pipe, process.sentinel], POLL_S)
        if ready:
            message = _received(pipe) if pipe in ready else None
            if message is None:
                process.join(POLL_S)
                return StepResult(
                    task.id, ResultState.FAILED, f"the step's process died ({_death(process)})", {}, 0.0, peak_mb
                )
            if isinstance(message, StepResult):
                return message
            progress(*message)
        peak_mb = max(peak_mb, _memory_mb(process.pid))
        if peak_mb > task.memory_limit_gb * 1000:
            limit = f"{peak_mb:.0f} MB of memory used, {task.memory_limit_gb:g} GB allowed"
            return StepResult(task.id, ResultState.FAILED, f"{limit} (parallel.memory_limit_gb)", {}, 0.0, peak_mb)
        if is_withdrawn(task.permit):
            return StepResult(task.id, ResultState.STOPPED, "the daemon gave this task up", {}, 0.0, peak_mb)
        if time.monotonic() > deadline:
            limit = f"not finished after {task.time_limit_s:g} s (parallel.job_timeout_s)"
            return StepResult(task.id, ResultState.FAILED, limit, {}, 0.0, peak_mb)


def _received(pipe: Connection) -> Any:
    """Return the next message of the step; None at the end of its pipe."""
    try:
        return pipe.recv()
    except EOFError:
        return None


def _memory_mb(pid: int | None) -> float:
    """Return the private memory of a process [MB], without pages shared with the forkserver or a mapped file."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0.0
    return float(memory.rss - getattr(memory, "shared", 0)) / 1e6


def _death(process: BaseProcess) -> str:
    code = process.exitcode
    if code is None:
        return "no exit code"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _kill(process: BaseProcess) -> None:
    """Kill the step and all processes that it started (its process group)."""
    if process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # it may have no group yet
    process.join(5.0)
    process.close() if process.exitcode is not None else log.error("%s cannot be killed", process.name)


def _child(task: Task, pipe: Connection) -> None:
    """Body of the step's process."""
    _detach()
    logs.subject.set(str(task))
    with suppress(BrokenPipeError):
        pipe.send(execute(task, lambda fraction, text: pipe.send((fraction, text))))
        pipe.close()


def _detach() -> None:
    """Make this process the first of a group that is killed together, and that ends with its worker."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which then stops the step
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_worker, daemon=True).start()
    with suppress(OSError, AttributeError):  # Linux: also with the forkserver
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    name_process("archive-step")


def _end_with_worker() -> None:
    """Kill this process and all that it started when the worker has ended, which does not fork it itself."""
    worker = mp.parent_process()
    if worker is not None:
        worker.join()
        os.killpg(0, signal.SIGKILL)


def name_process(name: str) -> None:
    """Give this process the name that ``top`` and ``ps`` show, at most 15 characters: all are forked from one."""
    with suppress(OSError, AttributeError):  # Linux
        ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode())


class _Lines(logging.Handler):
    """Keeps the log lines of the step for its manifest."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < LOG_LINES:
            self.lines.append(self.format(record)[:MAX_LINE])


def execute(task: Task, progress: ProgressCallback = no_progress) -> TaskResult:
    """Run a step in this process; however it ends, a `StepResult` is returned.

    Parameters
    ----------
    task : Task
        The step.
    progress : ProgressCallback, optional
        Receives its progress.

    Returns
    -------
    StepResult
        With the identifier of the task and the manifest.
    """
    lines = _Lines()
    logs.attach(lines, logging.getLogger("obsarchive"))
    logs.attach(lines, logging.getLogger("pipelines"))
    logging.getLogger("obsarchive").setLevel(logging.INFO)
    logging.getLogger("pipelines").setLevel(logging.INFO)
    started = time.process_time()
    try:
        work = Workspace(task, progress)
        state, message, manifest = _run(task, work, lines)
    finally:
        logging.getLogger("obsarchive").removeHandler(lines)
        logging.getLogger("pipelines").removeHandler(lines)
    children = os.times()
    cpu_s = time.process_time() - started + children.children_user + children.children_system
    return StepResult(
        task.id, state, plain_values(message[:MAX_MESSAGE]), plain_values(manifest), round(cpu_s, 3), _peak_mb()
    )


def _run(task: Task, work: Workspace, lines: _Lines) -> tuple[ResultState, str, Mapping[str, Any]]:
    method = getattr(work.pipeline, task.step)
    try:
        results = dict(method(work) or {})
        work.check_declared()
        classified = results.pop("classified_as", None)
        record = {"state": "done", "message": "", "results": results, "log": lines.lines}
        if classified is not None:
            record["classified_as"] = classified
        return ResultState.DONE, "", _recorded(work, record)
    except ArchiveError as err:
        log.warning("no products: %s", err)
        return ResultState(after(State.ENQUEUED, err.event)), str(err), _without_products(work, err, lines)
    except OSError as err:
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            return ResultState.WAITING, f"no space left: {err}", {"log": lines.lines}
        if err.errno in OF_DISKS:
            return ResultState.WAITING, str(err), {"log": lines.lines}
        log.exception("unexpected")
        return ResultState.FAILED, f"{type(err).__name__}: {err}", {"log": lines.lines}
    except Exception as err:
        log.exception("unexpected")  # a bug in one step must not stop the night
        return ResultState.FAILED, f"{type(err).__name__}: {err}", {"log": lines.lines}


def _without_products(work: Workspace, err: ArchiveError, lines: _Lines) -> Mapping[str, Any]:
    """Write a rejection, or what is lacking, as a manifest, so that a rebuilt database does not try again."""
    if err.event not in ("reject", "lack"):
        return {"log": lines.lines}
    verdict = getattr(err, "classified_as", None)
    results, lacks = getattr(err, "results", {}), getattr(err, "lacks", "")
    state = str(after(State.ENQUEUED, err.event))
    record = {"state": state, "message": str(err), "lacks": lacks, "results": results, "log": lines.lines}
    if verdict is not None:
        record["classified_as"] = verdict
    try:
        return _recorded(work, record)
    except (OSError, ArchiveError) as failure:
        log.warning("the reason could not be written beside the products: %s", failure)
        return record


def _recorded(work: Workspace, record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write the manifest of a step; remove products that an earlier attempt made and this one did not."""
    former = _products_listed(work.layout.manifest(work.folder, work.task.step))
    manifest = work.write_manifest(record)
    _remove_products(work.folder, former - {product["name"] for product in manifest["products"]}, work.task.permit)
    return manifest


def _products_listed(manifest: Path) -> set[str]:
    """Return the names of the products of an earlier attempt; empty if there was none."""
    try:
        return {str(product["name"]) for product in parse_with_checksum(manifest.read_bytes())["products"]}
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def _remove_products(folder: Path, names: Iterable[str], permit: Path | None) -> None:
    """Remove products of an earlier attempt."""
    for name in sorted(names):
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            continue  # a manifest that was changed by hand
        try:
            discard(path, permit)
            log.info("%s of an earlier attempt removed", name)
        except OSError as err:
            log.warning("%s of an earlier attempt cannot be removed: %s", name, err.strerror)


def _peak_mb() -> float:
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - a pseudo-file
            peak = next(line for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0.0
    return int(peak.split()[1]) / 1e3

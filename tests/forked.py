"""Programs that start at once: forked from a process that has imported everything already."""

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

DAEMON, COMMANDS = "daemon", "main"
"""The functions that ``archiver.py`` and ``python -m obsarchive`` run."""
PRELOADED = [
    *("obsarchive.execution.preload", "obsarchive.daemon.scheduler", "surveys.demo"),
    *(
        f"obsarchive.cli.{name}"
        for name in ("main", "daemon", "check", "archive", "backup", "status", "users", "surveys")
    ),
]


def forkserver() -> ForkServerContext:
    """Return the context of `multiprocessing` whose processes have everything imported.

    A process has one server that forks, and who starts it decides what is imported: it is started here, before a Dask
    worker of the same process starts one for its steps alone.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    multiprocessing.forkserver.ensure_running()
    return context


class Forked:
    """A program in a process group of its own, used like a ``subprocess.Popen``.

    Parameters
    ----------
    program : str
        The function of `obsarchive.cli.main`.
    arguments : sequence of str
        What follows the program's name on the command line.
    folder : Path
        Working directory.
    environment : mapping, optional
        Environment variables that differ from ours.
    stdin : str
        What it reads; short enough for a pipe.
    log : Path, optional
        File that what it says is added to; by default we read it from a pipe, soon, as that does not hold much.
    first : callable, optional
        What the new process does first; it must be picklable.
    """

    def __init__(
        self,
        program: str,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
        log: Path | None = None,
        first: Callable[[], None] | None = None,
    ) -> None:
        context = forkserver()
        here, output = context.Pipe(duplex=False)
        read, write = context.Pipe(duplex=False)
        os.write(write.fileno(), stdin.encode())
        write.close()
        words = (first, log, program, tuple(arguments), folder, dict(environment or {}))
        # a pipeline may look at this name to learn whether it is on a worker
        self._process = context.Process(target=_run, args=(read, output, *words), name="MainProcess")
        self._process.start()
        for end in (read, output):
            end.close()
        self.stdout = os.fdopen(os.dup(here.fileno()), encoding="utf-8", errors="replace")
        here.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int | None:
        """Wait for its end; returns the exit code, None when it still runs."""
        self._process.join(timeout)
        return self._process.exitcode

    def communicate(self, timeout: float = 60.0) -> tuple[str, None]:
        """Read what it says until its end; it is killed when that takes too long."""
        watchdog = threading.Timer(timeout, self.kill)
        watchdog.start()
        try:
            said = self.stdout.read()
            self._process.join()
        finally:
            watchdog.cancel()
            self.stdout.close()
        return said, None

    def kill(self) -> None:
        """Kill it and every process of its group."""
        if self._process.exitcode is None:
            with suppress(ProcessLookupError):  # the group is there a moment later than the process
                os.killpg(self.pid, signal.SIGKILL)
            self._process.kill()


def _run(
    stdin: Connection,
    output: Connection,
    first: Callable[[], None] | None,
    log: Path | None,
    program: str,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
) -> None:
    """Do in the new process what the program does."""
    from obsarchive.cli import main  # imported already, but in this process alone

    if first is not None:
        first()
    os.setsid()
    said = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if log else output.fileno()
    for stream, place in ((0, stdin.fileno()), (1, said), (2, said)):
        os.dup2(place, stream)
    stdin.close()
    output.close()
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)  # multiprocessing gave it /dev/null
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.exit(getattr(main, program)(arguments))

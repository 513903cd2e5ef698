"""The command ``obsarchive``, and the programs that are one of its commands.

Errors of the archive become one message and an exit code here, for all commands.
"""

import importlib
import os
import re
import signal
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from obsarchive.cli.commands import parser_of, whole_parser
from obsarchive.errors import ArchiveError

HANG_S = 60.0
"""A command that is terminated and does not end by itself is ended after so long [s]."""
AGAIN_S = 0.05
"""After this time a termination or Ctrl-C that was ignored is tried again [s]."""
SIGNALLED = 128
"""Exit code of a command that was stopped by a signal, less the number of the signal."""
FORKING = "daemon.run"
"""Command that forks processes which compute; it must have no threads of libraries, nor should they."""
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that libraries read when numpy is imported."""
LASTING = ("daemon.run", "demo.run", "portal.run")
"""Commands that run until Ctrl-C, which is no failure of theirs."""


class Terminated(SystemExit):
    """SIGTERM arrived: raised where the command is, so that it closes what it opened."""


def main(arguments: Sequence[str] | None = None, program: str = "obsarchive") -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line without the program's name; that of this process when not given.
    program : str, optional
        Name of the program in its help.

    Returns
    -------
    int
        Exit code: 0 success, 2 configuration, 3 service unreachable, 4 another process is the leader,
        130 stopped by Ctrl-C, 143 stopped by SIGTERM.
    """
    return _execute(whole_parser(program), readable(sys.argv[1:] if arguments is None else arguments))


def daemon(arguments: Sequence[str] | None = None) -> int:
    """Run ``archiver.py``; returns the exit code."""
    return _execute(parser_of("daemon", "archiver.py"), arguments)


def portal(arguments: Sequence[str] | None = None) -> int:
    """Run ``server_data_archive.py``; returns the exit code."""
    return _execute(parser_of("serve", "server_data_archive.py"), arguments)


def surveys(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m surveys``; returns the exit code."""
    return _execute(parser_of("surveys", "python -m surveys"), arguments)


def readable(arguments: Sequence[str]) -> list[str]:
    """Keep argparse from taking a negative declination for an option."""
    return [f" {word}" if re.match(r"-\d", word) else word for word in arguments]


def _execute(parser: ArgumentParser, arguments: Sequence[str] | None) -> int:
    options = parser.parse_args(arguments)
    here = str(Path.cwd())
    if here not in sys.path and not sys.flags.safe_path:
        sys.path.insert(0, here)  # an adopter's pipelines lie there, and are found as by ``python -m obsarchive``
    if options.run == FORKING:
        for name in ONE_THREAD:
            os.environ.setdefault(name, "1")
    module, _, function = options.run.partition(".")
    try:
        signal.signal(signal.SIGTERM, _terminate)
        sys.unraisablehook = _again
        return int(getattr(importlib.import_module(f"obsarchive.cli.{module}"), function)(options))
    except BaseException as err:
        if (code := _exit_code(options, err)) is None:
            raise
        return code


def _exit_code(options: Namespace, err: BaseException) -> int | None:
    """Explain what ended a command, and return its exit code; None for a bug or an exit of its own."""
    kinds = {type(each) for each in _chain(err)}  # an import makes another exception of what interrupts it
    if Terminated in kinds:
        return _stopped(options, signal.SIGTERM)
    if KeyboardInterrupt in kinds:
        return 0 if options.run in LASTING else _stopped(options, signal.SIGINT)
    if isinstance(err, ArchiveError):
        sys.stderr.write(f"{options.sender}{err}\n")
        return err.exit_code
    return None


def _chain(err: BaseException | None) -> Iterator[BaseException]:
    while err is not None:
        yield err
        err = err.__cause__ or err.__context__


def _terminate(number: int, _: object) -> NoReturn:
    """End the command once, in time: the last user of the embedded database stops it."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    watchdog = threading.Timer(HANG_S, os._exit, (SIGNALLED + number,))
    watchdog.daemon = True
    watchdog.start()
    raise Terminated(SIGNALLED + number)


def _again(ignored: "sys.UnraisableHookArgs") -> None:
    """Stop once more where the first time was ignored: in a finaliser, or a callback of a compiled library."""
    if ignored.exc_type is Terminated:
        signal.signal(signal.SIGALRM, lambda _, frame: _terminate(signal.SIGTERM, frame))
    elif ignored.exc_type is KeyboardInterrupt:
        signal.signal(signal.SIGALRM, signal.default_int_handler)
    else:
        sys.__unraisablehook__(ignored)
        return
    signal.setitimer(signal.ITIMER_REAL, AGAIN_S)  # not at once: what is raised in here is ignored, too


def _stopped(options: Namespace, number: signal.Signals) -> int:
    sys.stderr.write(f"{options.sender}stopped by {number.name} before it was done; run it again to go on\n")
    return SIGNALLED + number

"""The command ``obsarchive``, and the programs that are one of its commands.

Errors of the archive become one message and an exit code here, for all commands.
"""

import importlib
import re
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from obsarchive.cli.commands import parser_of, whole_parser
from obsarchive.errors import ArchiveError


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
        Exit code: 0 success, 2 configuration, 3 service unreachable, 4 another process is the leader.
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
    module, _, function = options.run.partition(".")
    try:
        # A command that is terminated closes what it opened: the last user of the embedded database stops it.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # noqa: ARG005
        return int(getattr(importlib.import_module(f"obsarchive.cli.{module}"), function)(options))
    except ArchiveError as err:
        sys.stderr.write(f"{options.sender}{err}\n")
        return err.exit_code
    except KeyboardInterrupt:
        return 0

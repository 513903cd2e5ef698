"""``python -m surveys``: projects from the command line.

Arguments are read before anything large is imported, so that help and mistakes are answered at once.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from obsarchive.core import logs
from obsarchive.errors import ArchiveError
from obsarchive.io.atomic import atomic_write

if TYPE_CHECKING:
    from surveys.project import Project

log = logging.getLogger(__name__)

STAGES = {
    "run": ("Fetch, reduce and analyse what is missing.", ("fetch", "reduce", "analyze")),
    "fetch": ("Fetch raw photometry that is missing.", ("fetch",)),
    "reduce": ("Make light curves of what was fetched.", ("reduce",)),
    "analyze": ("Reduce and analyse what was fetched.", ("reduce", "analyze")),
}
OTHERS = {
    "rebuild": "Fill the database from the files on disk.",
    "status": "Show the progress of a project.",
    "failures": "List failures with their reasons.",
    "efficiency": "Plot the recovery efficiency of injected events.",
    "describe": "List all parameters of a project with their values.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _execute(options)
    except ArchiveError as err:
        sys.stderr.write(f"{err}\n")
        return err.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("stopped; run it again to go on\n")
        return 130


def _execute(options: argparse.Namespace) -> int:
    from obsarchive.store import outage_as_error
    from surveys import dataset
    from surveys.database import CONFIG_VARIABLE, find_config
    from surveys.project import load_project

    if options.config:
        os.environ[CONFIG_VARIABLE] = str(options.config.absolute())
    if options.data:
        dataset.DATA_ROOT = options.data.absolute()
    config = find_config()
    logs.set_up(config.paths.logs if config else None, "surveys", config.misc.logging_level if config else "INFO")
    with outage_as_error():
        return _do(options, load_project(str(options.project)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m surveys", description="Search light curves of surveys.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in {**{name: text for name, (text, _) in STAGES.items()}, **OTHERS}.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("project", type=Path, metavar="PROJECT.yaml", help="configuration of the project")
        command.add_argument("--config", type=Path, help="config.json of the archive (default: the one here, if any)")
        command.add_argument("--data", type=Path, help="folder of survey data (default: as RETRIEVER_DATA says)")
        if name in STAGES:
            command.add_argument("--start", type=int, default=0, help="first source of the catalogue")
            command.add_argument("--finish", type=int, help="source after the last")
            command.add_argument("--source", action="append", metavar="NAME", help="only this source; may be repeated")
            command.add_argument("--workers", type=int, metavar="N", help="Dask workers; 0: this process")
            command.add_argument("--retry", action="store_true", help="try again what failed before")
        if name == "efficiency":
            command.add_argument("--output", type=Path, default=Path("efficiency.png"), help="(default: %(default)s)")
    return parser


def _do(options: argparse.Namespace, project: "Project") -> int:
    match options.command:
        case "describe":
            for name, pars in {**project.sections, **{obs.name: obs.pars for obs in project.observatories}}.items():
                _say(f"{name}\n{pars.describe()}\n\n")
        case "status":
            _status(project)
        case "failures":
            found = project.failures()
            _say("".join(f"{one['source']}\t{one['stage']}\t{one['reason']}\n" for one in found) or "nothing failed\n")
            return 1 if found else 0
        case "rebuild":
            _say(f"{project.rebuild()} sources with raw photometry\n")
        case "efficiency":
            atomic_write(options.output, project.efficiency().plot(f"{project.name}: which events are found"))
            _say(f"{options.output}\n")
        case stage:
            return _run(options, project, STAGES[stage][1])
    return 0


def _run(options: argparse.Namespace, project: "Project", stages: Sequence[str]) -> int:
    from surveys.database import find_config

    signal.signal(signal.SIGTERM, _stop)
    config = find_config()
    default = config.parallel.n_workers if config else 2
    project.pars.num_workers = default if options.workers is None else options.workers
    run = project.run(options.start, options.finish, options.source, None, options.retry, stages)
    _say(f"{run.fetched} fetched, {run.analysed} analysed, {run.detections} events, {len(run.failures)} failed\n")
    for name, reason in run.failures[:20]:
        _say(f"  {name}: {reason}\n")
    return 1 if run.failures else 0


def _status(project: "Project") -> None:
    from surveys.database import open_surveys

    surveys = open_surveys()
    known = surveys.run(project.output_folder) or {}
    counts = surveys.progress(project.output_folder)
    _say(
        f"{project.output_folder}: {known.get('state', 'never run')} {known.get('text', '')}{known.get('reason', '')}\n"
    )
    _say("".join(f"  {name}: {count}\n" for name, count in {"catalogue": len(project.catalog), **counts}.items()))


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    sys.stdout.write(text)


if __name__ == "__main__":
    sys.exit(main())

"""Command line: the commands, their arguments, and the functions that run them.

Only argparse is imported here. :mod:`obsarchive.cli.main` imports the function of a command when it runs, so that
help and usage errors are shown at once.
"""

import math
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

DEMO_NIGHT = "20260314"
STAGES = {
    "run": ("Fetch, reduce and analyse what is missing.", ("fetch", "reduce", "analyze")),
    "fetch": ("Fetch raw photometry that is missing.", ("fetch",)),
    "reduce": ("Make light curves of what was fetched.", ("reduce",)),
    "analyze": ("Reduce and analyse what was fetched.", ("reduce", "analyze")),
}
"""Commands of survey projects that work on sources: help, and the stages they go through."""
OTHERS = {
    "rebuild": "Fill the database from the files on disk.",
    "status": "Show the progress of a project.",
    "failures": "List failures with their reasons.",
    "efficiency": "Plot the recovery efficiency of injected events.",
    "describe": "List all parameters of a project with their values.",
}

Argument = Callable[[ArgumentParser], object]
"""Function that adds an argument to a parser."""


class Command:
    """A command: ``module.function`` of ``obsarchive.cli`` that runs it, its help, its arguments."""

    def __init__(
        self, run: str, text: str, *arguments: Argument, sender: str = "archiver: ", epilog: str | None = None
    ) -> None:
        self.text, self.epilog = text, epilog
        self.defaults = {"run": run, "sender": sender}  # the sender stands before error messages
        self.arguments = arguments

    def fill(self, parser: ArgumentParser) -> None:
        """Make `parser` the one of this command."""
        parser.description, parser.epilog = self.text, self.epilog
        parser.set_defaults(**self.defaults)
        for add in self.arguments:
            add(parser)


def whole_parser(program: str) -> ArgumentParser:
    """Return the parser of all commands."""
    parser = ArgumentParser(prog=program, description="Commands of the archive.")
    _group(COMMANDS, "CMD")(parser)
    return parser


def parser_of(name: str, program: str) -> ArgumentParser:
    """Return the parser of one command that is a program of its own.

    Parameters
    ----------
    name : str
        Key of `COMMANDS`.
    program : str
        Name of the program in its help.

    Returns
    -------
    ArgumentParser
        A new parser.
    """
    parser = ArgumentParser(prog=program)
    COMMANDS[name].fill(parser)
    return parser


def _group(commands: Mapping[str, Command], metavar: str) -> Argument:
    def add(parser: ArgumentParser) -> None:
        group = parser.add_subparsers(required=True, metavar=metavar, dest=metavar.lower())
        for name, command in commands.items():
            command.fill(group.add_parser(name, help=command.text))

    return add


def _argument(*names: str, **options: Any) -> Argument:
    return lambda parser: parser.add_argument(*names, **options)


def _flag(name: str, text: str) -> Argument:
    return _argument(name, action="store_true", help=text)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"{text}: a positive number is needed")
    return value


def _age(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"{text}: a number of days is needed, from 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ArgumentTypeError(f"{text}: a whole number from 1 is needed")
    return value


def _number(name: str, text: str, default: float | None = None) -> Argument:
    return _argument(name, type=_positive, default=default, metavar="X", help=text)


def _rights(parser: ArgumentParser) -> None:
    rights = parser.add_mutually_exclusive_group(required=True)
    rights.add_argument("--programs", help="programmes of the user, such as 3,4.1")
    rights.add_argument("--admin", action="store_true", help="an administrator sees and may do everything")


_CONFIG = _argument("config", help="configuration file")
_SHIPPED = _argument("config", help="configuration file (see the shipped config.json)")
_OPTIONAL = _argument("--config", type=Path, help="configuration of the archive (default: config.json, if it is here)")
_NAME = _argument("name", metavar="NAME", help="user name")
_PASSWORD = _flag("--password-stdin", "read the password from standard input")
_BACKUP = _argument("file", type=Path, metavar="FILE", help="the backup")
_OBSERVATIONS = _argument("observations", metavar="OBS", nargs="+", help="observation id")
_PROJECT = (
    _argument("project", type=Path, metavar="PROJECT.yaml", help="configuration of the project"),
    _argument("--config", type=Path, help="config.json of the archive (default: the one here, if any)"),
    _argument("--data", type=Path, help="folder of survey data (default: the variable RETRIEVER_DATA)"),
)
_SOURCES = (
    _argument("--start", type=int, default=0, help="first source of the catalogue"),
    _argument("--finish", type=int, help="source after the last"),
    _argument("--source", action="append", metavar="NAME", help="only this source; may be repeated"),
    _argument("--workers", type=int, metavar="N", help="Dask workers; 0: this process"),
    _flag("--retry", "try again what failed before"),
    _argument(
        "--again",
        type=_age,
        nargs="?",
        const=math.inf,
        metavar="DAYS",
        help="fetch again what is stored as empty; with an age, also what was fetched longer ago",
    ),
)
_POINT_LENS = (
    _argument("--name", metavar="NAME", help="name of the event (default: that of the first file, target or source)"),
    _argument(
        "--output", type=Path, default=Path(), metavar="DIR", help="folder of results and figure (default: this folder)"
    ),
    _argument(
        "--exclude", type=float, nargs=2, action="append", metavar="JD", help="range of time not used; may be repeated"
    ),
    _argument("--within", type=float, nargs=2, metavar="JD", help="range of the time of maximum"),
    _argument(
        "--clip",
        type=_age,
        default=4.0,
        metavar="X",
        help="largest deviation of an epoch in errors; 0: none is rejected",
    ),
    _flag("--extended-source", "fit the radius of the source, too (default: if the peak requires it)"),
    _argument(
        "--export",
        action="append",
        choices=("pylima", "mulensmodel"),
        help="write the input of this program, too; may be repeated",
    ),
    _argument("--position", type=float, nargs=2, metavar="DEG", help="RA and Dec, for the exported files"),
)
_PICTURE = _argument("--output", type=Path, help="(default: efficiency.png in the project's folder of data)")

_USERS = {
    "add": Command(
        "users.add", "Add a user; without a password, print a one-time invite link.", _CONFIG, _NAME, _rights, _PASSWORD
    ),
    "invite": Command("users.invite", "Print another one-time link with which a user sets a password.", _CONFIG, _NAME),
    "list": Command("users.show", "List the users.", _CONFIG),
    "passwd": Command("users.change_password", "Set a user's password.", _CONFIG, _NAME, _PASSWORD),
    "one-step": Command(
        "users.one_step", "Switch off the two-step login of a user who lost the authenticator.", _CONFIG, _NAME
    ),
    "remove": Command("users.remove", "Remove a user; the programmes go to the remaining users.", _CONFIG, _NAME),
}
_PSF_LIBRARY = {
    "add": Command(
        "psf_library.add", "Add stars that their nights offer (summary/psflib) to the library.", _CONFIG, _OBSERVATIONS
    ),
    "remove": Command(
        "psf_library.remove", "Remove stars from the library; they are not added again.", _CONFIG, _OBSERVATIONS
    ),
    "list": Command("psf_library.show", "List the stars of the library, and those that were removed.", _CONFIG),
}
_SURVEYS = {
    **{name: Command("surveys.run", text, *_PROJECT, *_SOURCES, sender="") for name, (text, _) in STAGES.items()},
    **{name: Command("surveys.run", text, *_PROJECT, sender="") for name, text in OTHERS.items()},
    "efficiency": Command("surveys.run", OTHERS["efficiency"], *_PROJECT, _PICTURE, sender=""),
    "point-lens": Command(
        "surveys.run",
        "Fit a microlensing event in the light curves of a source.",
        *_PROJECT,
        _argument("source", metavar="SOURCE", help="name of the source in the catalogue"),
        *_POINT_LENS,
        sender="",
    ),
}
COMMANDS = {
    "init": Command(
        "init.run",
        "Write a configuration to start from.",
        _argument("folder", type=Path, metavar="DIR", help="folder of the archive; made if it is not there"),
    ),
    "run": Command("demo.run", "Start daemon and portal; a demo night if there is none.", _CONFIG),
    "daemon": Command(
        "daemon.run",
        "Watch the raw data, run the steps that are due, keep the archive. Runs until Ctrl-C.",
        _SHIPPED,
        _flag("--once", "stop when nothing is due and nothing runs"),
        _argument(
            "--night", action="append", default=[], metavar="YYYYMMDD", help="look at this night only (repeatable)"
        ),
        _flag("--check", "print what would be due, change nothing"),
        epilog="Exit codes: 0 success, 1 --once was stopped before all was done, 2 configuration, "
        "3 database or cluster unreachable, 4 another leader.",
    ),
    "serve": Command(
        "portal.run",
        "Serve the portal (production: gunicorn 'server_data_archive:app').",
        _SHIPPED,
        _flag("--no-link", "do not print a set-up link for the first administrator"),
        sender="portal: ",
    ),
    "status": Command(
        "status.run",
        "Show the state of the daemon, or of the steps of an observation or night.",
        _CONFIG,
        _argument("subject", nargs="?", metavar="ID|NIGHT", help="observation id, or a night YYYYMMDD: its steps"),
        _flag("--json", "the whole telemetry as JSON"),
        _flag("--uri", "the database's address for mongosh, with its password"),
    ),
    "redo": Command(
        "archive.redo",
        "Request a redo of a pipeline, or of one of its steps.",
        _CONFIG,
        _argument("observation", help="observation id, or a night YYYYMMDD"),
        _argument("what", metavar="PIPELINE[:STEP]"),
    ),
    "users": Command("", "Manage the users of the portal.", _group(_USERS, "ACTION")),
    "psflib": Command("", "Manage the reference stars of the PSF library.", _group(_PSF_LIBRARY, "ACTION")),
    "rebuild": Command("archive.rebuild", "Rebuild the database from the archive tree.", _CONFIG),
    "backup": Command(
        "backup.backup",
        "Write what the archive tree cannot rebuild into one private file: users, tokens, requests, the audit log.",
        _CONFIG,
        _BACKUP,
    ),
    "restore": Command(
        "backup.restore",
        "Put a backup back; the daemon must not run.",
        _CONFIG,
        _BACKUP,
        _flag("--overwrite", "replace what the database holds by what the backup holds (default: what is there stays)"),
        _flag("--other-archive", "also the backup of another archive"),
    ),
    "verify": Command(
        "verify.run",
        "Compare every product with its checksum.",
        _CONFIG,
        _flag("--repair", "have what differs from the database's checksums made again"),
    ),
    "recompress": Command(
        "recompress.run",
        "Write raw nights once more in tiles (.fits.fz), with equal pixels and headers.",
        _argument("nights", nargs="+", type=Path, metavar="NIGHT_DIR", help="folders of nights with raw files"),
        _argument("target", type=Path, metavar="DIR", help="the nights go there; what is there already stays"),
    ),
    "simulate": Command(
        "demo.simulate",
        "Write a simulated night of raw files.",
        _CONFIG,
        _argument("--night", default=DEMO_NIGHT, metavar="YYYYMMDD", help="default: %(default)s"),
    ),
    "download": Command(
        "timeseries.download",
        "Fetch frames from online archives and sort them into datasets.",
        _argument("file", type=Path, metavar="FILE.yaml", help="what to fetch: data_download.yaml"),
        _OPTIONAL,
    ),
    "reduce": Command(
        "timeseries.reduce",
        "Reduce a dataset, or those that a file selects, to light curves.",
        _argument(
            "what", type=Path, metavar="DATASET_DIR|FILE.yaml", help="a dataset, or reduction_manager_config.yaml"
        ),
        _flag("--again", "measure every frame again"),
        _flag("--dry-run", "print which datasets would be reduced, change nothing"),
        _argument("--max-parallel", type=int, metavar="N", help="datasets side by side (default: as configured)"),
        _OPTIONAL,
    ),
    "lightcurve": Command(
        "timeseries.lightcurve",
        "Write the light curve of any star or position of a dataset.",
        _argument("dataset", type=Path, metavar="DATASET_DIR", help="a dataset that was reduced"),
        _argument("ra", metavar="RA", help="right ascension: 17:30:25.5, or degrees"),
        _argument("dec", metavar="DEC", help="declination: -25:30:30.5, or degrees"),
        _argument("--output", type=Path, metavar="FILE.ecsv", help="where the table goes (default: the dataset)"),
    ),
    "simulate-dataset": Command(
        "timeseries.simulate",
        "Write a simulated dataset with a microlensing event.",
        _argument("folder", type=Path, metavar="DATASET_DIR", help="folder target/instrument/filter"),
        _argument("--frames", type=int, default=20, help="number of frames (default: %(default)s)"),
        _argument("--stars", type=int, default=600, help="number of stars (default: %(default)s)"),
        _argument("--seed", type=int, default=1, help="another seed, another field (default: %(default)s)"),
    ),
    "point-lens": Command(
        "point_lens.run",
        "Fit a microlensing event: t0, u0, tE, source and blend of each light curve.",
        _argument(
            "what", type=Path, nargs="+", metavar="FILE|DATASET_DIR", help="light curves of one star: text or datasets"
        ),
        _argument("--star", type=int, default=0, metavar="N", help="star of the datasets (default: 0, the target)"),
        _flag("--flux", "the second column of text files is a flux, not a magnitude"),
        *_POINT_LENS,
    ),
    "compare-photometry": Command(
        "compare_photometry.run",
        "Compare the two engines of photometry on an image, or on frames of a dataset.",
        _argument("what", type=Path, metavar="IMAGE|DATASET_DIR", help="a reduced FITS image, or a dataset"),
        _argument(
            "--output", type=Path, default=Path(), metavar="DIR", help="folder of table and plot (default: this folder)"
        ),
        _number("--snr", "least signal-to-noise ratio of a source (default: %(default)s)", 10.0),
        _number("--aperture-fwhm", "radius of the apertures in FWHM (default: %(default)s; dataset: its own)", 1.5),
        _number("--bin", "width of the ranges of magnitude [mag] (default: %(default)s)", 1.0),
        _number("--gain", "electrons per unit of the image [e-/ADU] (default: EGAIN or GAIN of the header, or else 1)"),
        _number("--saturation", "level of saturated pixels [ADU] (default: SATURATE or MAXLIN of the header)"),
        _argument(
            "--stars", type=_count, default=1000, metavar="N", help="most sources of an image (default: %(default)s)"
        ),
        _argument("--frames", type=_count, default=3, metavar="N", help="frames of a dataset (default: %(default)s)"),
    ),
    "surveys": Command("", "Search light curves of surveys.", _group(_SURVEYS, "COMMAND")),
}

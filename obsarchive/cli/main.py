"""Commands beside the daemon: ``python -m obsarchive CMD config.json …``."""

import argparse
import getpass
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from obsarchive.accounts import totp
from obsarchive.accounts import users as accounts
from obsarchive.cli import timeseries
from obsarchive.cli.daemon import guarded
from obsarchive.cli.demo import run_demo
from obsarchive.config.model import Config, load
from obsarchive.core import logs
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Night, Observation
from obsarchive.daemon import product_check
from obsarchive.daemon.ingest import Ingest
from obsarchive.database.connect import open_database, open_store
from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.io import psf_library
from obsarchive.names import is_night
from obsarchive.pipeline.chain import decision_chain, steps_of
from obsarchive.simulation import night as demo
from obsarchive.store import Store

say = sys.stdout.write


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(timeseries.readable(sys.argv[1:] if arguments is None else arguments))

    def body() -> int:
        if hasattr(options, "alone"):
            return options.alone(options)
        config = load(options.config)
        logs.set_up(None, "command", config.misc.logging_level)
        return options.run(config, options)

    return guarded(body)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m obsarchive", description="Commands of the archive.")
    commands = parser.add_subparsers(required=True, metavar="CMD")

    def command(name: str, run: Callable[[Config, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text)
        found.add_argument("config", help="configuration file")
        found.set_defaults(run=run)
        return found

    status = command("status", _status, "Say what the daemon does.")
    status.add_argument("--json", action="store_true", help="the whole telemetry as JSON")
    status.add_argument("--uri", action="store_true", help="the database's address for mongosh, with its password")
    redo = command("redo", _redo, "Ask for a pipeline, or one of its steps, to be done again.")
    redo.add_argument("observation", help="observation id, or a night YYYYMMDD")
    redo.add_argument("what", metavar="PIPELINE[:STEP]")
    text = "Manage the people who use the portal."
    _add_users(commands.add_parser("users", help=text, description=text))
    text = "Manage the reference stars of the PSF library."
    _add_psflib(commands.add_parser("psflib", help=text, description=text))
    command("rebuild", _rebuild, "Rebuild the database from the archive tree.")
    simulate = command("simulate", _simulate, "Write a simulated night of raw files.")
    simulate.add_argument("--night", default=demo.NIGHT, metavar="YYYYMMDD", help="default: %(default)s")
    command("verify", _verify, "Compare every product with its checksum.")
    command("run", lambda config, options: run_demo(config), "Start daemon and portal; a demo night if there is none.")  # noqa: ARG005
    timeseries.add_to(commands)
    return parser


def _add_users(users: argparse.ArgumentParser) -> None:
    actions = users.add_subparsers(required=True, metavar="ACTION")
    for name, (run, text) in _USER_ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("config", help="configuration file")
        action.set_defaults(run=_with_store(run))
        if name != "list":
            action.add_argument("name", metavar="NAME", help="user name")
        if name == "add":
            rights = action.add_mutually_exclusive_group(required=True)
            rights.add_argument("--programs", help="programmes of the user, such as 3,4.1")
            rights.add_argument("--admin", action="store_true", help="an administrator sees and may do everything")
        if name in ("add", "passwd"):
            action.add_argument("--password-stdin", action="store_true", help="read the password from standard input")


def _with_store(run: "UserAction") -> Callable[[Config, argparse.Namespace], int]:
    def opened(config: Config, options: argparse.Namespace) -> int:
        with open_store(config) as store:
            return run(config, store, options)

    return opened


def _users_add(config: Config, store: Store, options: argparse.Namespace) -> int:
    programs = "all" if options.admin else [p.strip() for p in options.programs.split(",") if p.strip()]
    accounts.add_user(store.users, options.name, programs)
    for program in [] if options.admin else programs:
        store.observations.set_owners(program, store.users.owners(program))
    if options.password_stdin:
        accounts.set_password(store.users, options.name, sys.stdin.readline().rstrip("\n"))
        say(f"user {options.name} added\n")
        return 0
    return _users_invite(config, store, options)


def _users_invite(config: Config, store: Store, options: argparse.Namespace) -> int:
    token = accounts.invite(store.users, options.name)
    say(f"one-time link for {options.name}: {accounts.link(config, token)}\n")
    return 0


def _users_list(config: Config, store: Store, options: argparse.Namespace) -> int:  # noqa: ARG001
    for user in store.users.all():
        programs = user.get("programs")
        say(f"{user['_id']:24s} {'administrator' if programs == 'all' else ', '.join(programs or ())}\n")
    return 0


def _users_passwd(config: Config, store: Store, options: argparse.Namespace) -> int:  # noqa: ARG001
    password = sys.stdin.readline().rstrip("\n") if options.password_stdin else getpass.getpass("New password: ")
    accounts.set_password(store.users, options.name, password)
    say(f"password of {options.name} changed\n")
    return 0


def _users_one_step(config: Config, store: Store, options: argparse.Namespace) -> int:  # noqa: ARG001
    if store.users.find(options.name) is None:
        raise ConfigError(f"there is no user {options.name!r}")
    totp.switch_off(store.users, options.name)
    say(f"{options.name} logs in with the password only\n")
    return 0


def _users_remove(config: Config, store: Store, options: argparse.Namespace) -> int:  # noqa: ARG001
    user = store.users.find(options.name)
    if user is None or not store.users.remove(options.name):
        raise ConfigError(f"there is no user {options.name!r}")
    for program in user.get("programs", []) if user.get("programs") != "all" else []:
        store.observations.set_owners(program, store.users.owners(program))
    say(f"user {options.name} removed\n")
    return 0


UserAction = Callable[[Config, Store, argparse.Namespace], int]
_USER_ACTIONS: dict[str, tuple[UserAction, str]] = {
    "add": (_users_add, "Add a user; without a password, print a one-time invite link."),
    "invite": (_users_invite, "Print another one-time link with which a user sets a password."),
    "list": (_users_list, "List the users."),
    "passwd": (_users_passwd, "Set a user's password."),
    "one-step": (_users_one_step, "Switch off the two-step login of a user who lost the authenticator."),
    "remove": (_users_remove, "Remove a user; the programmes go to those who remain."),
}


def _add_psflib(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, (run, text) in _PSFLIB_ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("config", help="configuration file")
        action.set_defaults(run=run)
        if name != "list":
            action.add_argument("observations", metavar="OBS", nargs="+", help="observation id")


def _psflib_list(config: Config, options: argparse.Namespace) -> int:  # noqa: ARG001
    library = psf_library.PsfLibrary.read(Layout(config.paths.archive).psf_library)
    say(f"{library.path}: version {library.version}, {len(library.entries)} stamps\n")
    for entry in (*library.entries, *library.removed):
        state = f"removed by {entry.added_by}" if entry.is_removed else f"Strehl ratio {entry.strehl_percent:.1f} %"
        say(f"  {entry.observation:64s} {entry.telescope} {entry.filter} {entry.stack:5s} {state}\n")
    return 0


def _psflib_add(config: Config, options: argparse.Namespace) -> int:
    layout = Layout(config.paths.archive)
    with open_store(config) as store:
        nights = {name: _known_observation(store, name).night for name in options.observations}
    stamps = [star for name, night in nights.items() for star in psf_library.offered(layout.psf_candidate(night, name))]
    with psf_library.changed(layout) as library:
        for entry, stamp in stamps:
            new = library.add(entry, stamp, "administrator")
            say(f"{entry.observation} {entry.stack}: {'added' if new else 'was in the library already'}\n")
    return 0


def _psflib_remove(config: Config, options: argparse.Namespace) -> int:
    with psf_library.changed(Layout(config.paths.archive)) as library:
        absent = [name for name in options.observations if not library.holds(name)]
        if absent:
            raise ConfigError(f"{absent[0]} is not in the PSF library; psflib list shows what is")
        for name in options.observations:
            library.remove(name, "administrator")
            say(f"{name}: removed; it stays away until somebody adds it\n")
    return 0


def _known_observation(store: Store, name: str) -> Observation:
    document = store.observations.find(name)
    if document is None:
        raise ConfigError(f"there is no observation {name!r} in the database")
    return Observation(document)


_PSFLIB_ACTIONS: dict[str, tuple[Callable[[Config, argparse.Namespace], int], str]] = {
    "add": (_psflib_add, "Add stars that their nights offer (summary/psflib) to the library."),
    "remove": (_psflib_remove, "Remove stars from the library; they stay away."),
    "list": (_psflib_list, "List the stars of the library, and those that were removed."),
}


def _status(config: Config, options: argparse.Namespace) -> int:
    if options.uri:
        with open_database(config) as opened:
            say(f"{opened.uri}\n")
        return 0
    path = config.paths.logs / "status.json"
    try:
        text = path.read_text()
    except OSError as err:
        raise ArchiveError(f"{path}: no status: the daemon has not run with this configuration yet") from err
    if options.json:
        say(text + "\n")
        return 0
    status = json.loads(text)
    who = f"run {status['run'][:8]}, process {status['pid']} on {status['host']}"
    say(f"{status['state']} ({who}, {status['updated']})\n")
    for task in status["running"]:
        say(f"  {task['subject']} {task['step']}: {task['fraction']:.0%} {task['text']}, {task['seconds']:.0f} s\n")
    for error in status["last_errors"][:5]:
        say(f"  {error['when']} {error['subject']} {error['step']}: {error['message']}\n")
    return 0


def _redo(config: Config, options: argparse.Namespace) -> int:
    pipeline, _, step = options.what.partition(":")
    chain = decision_chain(config)
    link = next((link for link in chain if link.pipeline.name == pipeline), None)
    if link is None:
        raise ConfigError(f"no pipeline {pipeline!r}; there are {', '.join(entry.pipeline.name for entry in chain)}")
    if step and step not in link.pipeline.steps:
        raise ConfigError(f"{pipeline} has no step {step!r}; it has {', '.join(link.pipeline.steps)}")
    with open_store(config) as store:
        records = store.nights if is_night(options.observation) else store.observations
        if records.find(options.observation) is None:
            raise ConfigError(f"there is no observation or night {options.observation!r} in the database")
        if step and not records.request_step_redo(options.observation, (pipeline, step)):
            raise ArchiveError(f"{options.observation} {options.what} has not ended yet: nothing to do again")
        if not step:
            records.request_redo(options.observation, pipeline)
    say(f"{options.observation} {options.what}: will be done again\n")
    return 0


def _rebuild(config: Config, options: argparse.Namespace) -> int:  # noqa: ARG001
    with open_store(config) as store:
        store.ensure_indexes(steps_of(decision_chain(config)))
        say(f"{Ingest(config, store).tree()} observation(s) taken up from {config.paths.archive}\n")
        nights = [Night(night.document) for night in store.nights.all()]
        say(f"{len(nights)} night(s) in the database\n")
    return 0


def _simulate(config: Config, options: argparse.Namespace) -> int:
    if not is_night(options.night):
        raise ConfigError(f"--night {options.night}: expected a night written YYYYMMDD")
    night = demo.NightPlan(night=options.night)
    folder = demo.write_night(config.paths.raw[0].path, night)
    demo.write_catalog(config.paths.archive, night)
    say(f"{sum(1 for _ in folder.iterdir())} files in {folder}\n")
    return 0


def _verify(config: Config, options: argparse.Namespace) -> int:  # noqa: ARG001
    wrong = 0
    for path, what in product_check.verify(Path(config.paths.archive)):
        wrong += 1
        say(f"{path} {what}\n")
    say(f"{wrong} product(s) are not as they were made\n" if wrong else "every product is as it was made\n")
    return 1 if wrong else 0

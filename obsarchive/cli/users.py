"""``obsarchive users``: the people who use the portal."""

import sys
from argparse import Namespace
from getpass import getpass
from typing import Any

from obsarchive.accounts import totp, users
from obsarchive.cli.console import configure, say
from obsarchive.database.connect import open_store
from obsarchive.errors import ConfigError
from obsarchive.store import Store


def add(options: Namespace) -> int:
    """Add a user, with the password of standard input or a one-time link to set one."""
    programs = [] if options.admin else [p.strip() for p in options.programs.split(",") if p.strip()]
    config = configure(options)
    with open_store(config) as store:
        users.add_user(store.users, options.name, "all" if options.admin else programs)
        _hand_over(programs, store)
        if options.password_stdin:
            users.set_password(store.users, options.name, _typed_in())
            say(f"user {options.name} added\n")
        else:
            say(f"one-time link for {options.name}: {users.link(config, users.invite(store.users, options.name))}\n")
    return 0


def invite(options: Namespace) -> int:
    """Print a one-time link with which a user sets a password."""
    config = configure(options)
    with open_store(config) as store:
        say(f"one-time link for {options.name}: {users.link(config, users.invite(store.users, options.name))}\n")
    return 0


def show(options: Namespace) -> int:
    """List the users."""
    with open_store(configure(options)) as store:
        for user in store.users.all():
            programs = user.get("programs")
            say(f"{user['_id']:24s} {'administrator' if programs == 'all' else ', '.join(programs or ())}\n")
    return 0


def change_password(options: Namespace) -> int:
    """Set a user's password."""
    with open_store(configure(options)) as store:
        password = _typed_in() if options.password_stdin else getpass("New password: ")
        users.set_password(store.users, options.name, password)
        say(f"password of {options.name} changed\n")
    return 0


def one_step(options: Namespace) -> int:
    """Switch off the two-step login of a user."""
    with open_store(configure(options)) as store:
        _known(options.name, store)
        totp.switch_off(store.users, options.name)
        say(f"{options.name} logs in with the password only\n")
    return 0


def remove(options: Namespace) -> int:
    """Remove a user; the programmes go to those who remain."""
    with open_store(configure(options)) as store:
        user = _known(options.name, store)
        if not store.users.remove(options.name):
            raise ConfigError(f"there is no user {options.name!r}")
        _hand_over(user.get("programs", []) if user.get("programs") != "all" else [], store)
        say(f"user {options.name} removed\n")
    return 0


def _known(name: str, store: Store) -> dict[str, Any]:
    user = store.users.find(name)
    if user is None:
        raise ConfigError(f"there is no user {name!r}")
    return user


def _hand_over(programs: list[str], store: Store) -> None:
    """Make the users of programmes the owners of their observations."""
    for program in programs:
        store.observations.set_owners(program, store.users.owners(program))


def _typed_in() -> str:
    return sys.stdin.readline().rstrip("\n")

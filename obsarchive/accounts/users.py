"""Passwords, users and one-time links; below the portal, so that the commands use the same rules.

Passwords are kept as argon2id (RFC 9106). Hashes made by werkzeug, as older archives have them, are accepted once
and replaced at the next login. A one-time link carries a random token in the fragment of its address, which
browsers never send; the database keeps only the hash of the token.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from werkzeug.security import check_password_hash

from obsarchive.config.model import Config
from obsarchive.core.documents import utc_now
from obsarchive.core.natural_order import natural
from obsarchive.errors import ArchiveError
from obsarchive.store import Document, Users

MIN_LENGTH = 8
MAX_LENGTH = 1000
"""Longer passwords are rejected, because hashing them costs the portal too much time."""
INVITE_HOURS = 72.0
INVITE = "invite"
"""Field of a user's document that holds the hash and the end of a one-time link."""

Programs = Literal["all"] | Sequence[str]

_NAME = re.compile(r"[\w.@+-](?:[\w .@+-]{0,62}[\w.@+-])?")
_PROGRAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9.]{0,31}", re.ASCII)
_HASHER = PasswordHasher()
_LEGACY = ("pbkdf2:", "scrypt:")


class AccountError(ArchiveError):
    """A name, password or one-time link that cannot be accepted; the message is meant for the user."""

    exit_code = 2


def hash_password(password: str) -> str:
    """Return the argon2id hash of `password`, with its parameters and salt."""
    return _HASHER.hash(password)


def verify(stored: str, password: str) -> bool:
    """Check a password against a hash.

    Parameters
    ----------
    stored : str
        The hash: argon2id, or one of werkzeug.
    password : str
        The password.

    Returns
    -------
    bool
        False also for a hash of an unknown kind.
    """
    if len(password) > MAX_LENGTH:
        return False
    if stored.startswith(_LEGACY):
        try:
            return check_password_hash(stored, password)
        except ValueError:
            return False
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def is_known_make(stored: str) -> bool:
    """Whether a hash is of a kind that a password can be compared with."""
    return stored.startswith(("$argon2id$", *_LEGACY))


def needs_rehash(stored: str) -> bool:
    """Whether a hash is weaker than those made today."""
    return stored.startswith(_LEGACY) or _HASHER.check_needs_rehash(stored)


@cache
def common_passwords() -> frozenset[str]:
    """Return well-known passwords and the words they are built from, in lower case."""
    text = (files("obsarchive.accounts") / "common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


def check_policy(password: str, name: str = "") -> None:
    """Check that a password is long enough and not among those that attackers try first.

    Parameters
    ----------
    password : str
        The password.
    name : str
        Name of the user, which may not be the password.

    Raises
    ------
    AccountError
        With the reason why it is not accepted.
    """
    if len(password) < MIN_LENGTH:
        raise AccountError(f"The password needs at least {MIN_LENGTH} characters; 15 or more are better.")
    if len(password) > MAX_LENGTH:
        raise AccountError(f"The password may have at most {MAX_LENGTH} characters.")
    plain = password.casefold()
    stem = plain.strip("0123456789!?.,;:-_*#$@ ")
    if not {plain, stem}.isdisjoint(common_passwords() | {name.casefold()}) or len(set(plain)) < 4:
        raise AccountError("This password is among the first that attackers try; choose another one.")


@cache
def _hash_for_unknown_names() -> str:
    return hash_password(secrets.token_hex(16))


def log_in(users: Users, name: str, password: str) -> Document | None:
    """Return the document of a user if the password is right; it takes as long for unknown names.

    Parameters
    ----------
    users : Users
        The collection of users.
    name : str
        Name of the user.
    password : str
        The password.

    Returns
    -------
    dict or None
        None if name or password are wrong.
    """
    user = users.find(name)
    stored = (user or {}).get("password")
    if user is None or not isinstance(stored, str):
        verify(_hash_for_unknown_names(), password)
        return None
    if not verify(stored, password):
        return None
    if needs_rehash(stored):
        users.save(name, {"password": hash_password(password)})
    return user


def set_password(users: Users, name: str, password: str) -> None:
    """Set the password of a user; end earlier sessions and an open invitation.

    Parameters
    ----------
    users : Users
        The collection of users.
    name : str
        Name of the user.
    password : str
        The new password.

    Raises
    ------
    AccountError
        When there is no such user, or the password is not accepted.
    """
    if users.find(name) is None:
        raise AccountError(f"There is no user {name!r}.")
    check_policy(password, name)
    users.save(name, {"password": hash_password(password), "sessions_from": utc_now()})
    users.unset(name, [INVITE])


def add_user(users: Users, name: str, programs: Programs) -> None:
    """Add a user, who cannot log in until a password is set or an invitation accepted.

    Parameters
    ----------
    users : Users
        The collection of users.
    name : str
        Name of the user.
    programs : "all" or sequence of str
        Programmes that the user may see; ``"all"``: an administrator.

    Raises
    ------
    AccountError
        When the name or a programme is not acceptable, or the user exists.
    """
    if _NAME.fullmatch(name) is None:
        raise AccountError(f"{name!r} cannot be a user name: use 1 to 64 letters, digits and . @ + - _ or blanks.")
    other = users.alike(name)
    if other is not None and other != name:
        raise AccountError(
            f"There is a user {other!r} already: names that differ in case only are mistaken for another."
        )
    fields = {"programs": checked_programs(programs), "sessions_from": utc_now(), "date_added": utc_now()}
    if not users.add(name, fields):
        raise AccountError(f"There is a user {name!r} already.")


def password_states(users: Users) -> dict[str, str]:
    """Return the state of each user: ``yes`` (can log in), ``invited``, ``none``, or ``unknown`` (needs a new link)."""
    found = {}
    for user in users.everything():
        stored = user.get("password")
        if not isinstance(stored, str):
            found[user["_id"]] = "invited" if user.get(INVITE) else "none"
        else:
            found[user["_id"]] = "yes" if is_known_make(stored) else "unknown"
    return found


def change_programs(users: Users, name: str, programs: Programs) -> None:
    """Change the programmes that a user may see; it takes effect at once.

    Observations of programmes taken away stay hidden from the user even while they name the user as a PI.

    Parameters
    ----------
    users : Users
        The collection of users.
    name : str
        Name of the user.
    programs : "all" or sequence of str
        The new programmes; ``"all"``: an administrator.

    Raises
    ------
    AccountError
        When there is no such user, or a programme is not acceptable.
    """
    user = users.find(name)
    if user is None:
        raise AccountError(f"There is no user {name!r}.")
    kept = checked_programs(programs)
    before, left = user.get("programs"), set(user.get("left") or ())
    if isinstance(before, list):
        left |= {str(program) for program in before}
    users.save(name, {"programs": kept, "left": sorted(left - set(kept)) if kept != "all" else []})


def checked_programs(programs: Programs) -> Any:
    """Return programmes as the database keeps them: ``"all"`` (an administrator) or a sorted list of distinct ones.

    Raises
    ------
    AccountError
        When one is not the identifier of a programme.
    """
    if programs == "all":
        return "all"
    for program in programs:
        if _PROGRAM.fullmatch(program) is None:
            raise AccountError(f"{program!r} cannot be a programme: use letters, digits and dots.")
    return sorted(set(programs), key=natural)


def setup_needed(users: Users) -> bool:
    """Whether no administrator can log in yet."""
    return not users.any_admin()


def setup_link(config: Config, users: Users, name: str = "admin") -> str:
    """Return a one-time link by which the first administrator sets a password; earlier links become invalid.

    Parameters
    ----------
    config : Config
        With the address of the portal.
    users : Users
        The collection of users.
    name : str
        Name of the administrator, who is added if unknown.

    Returns
    -------
    str

    Raises
    ------
    AccountError
        When the user is not an administrator.
    """
    user = users.find(name)
    if user is None:
        add_user(users, name, "all")
    elif user.get("programs") != "all":
        raise AccountError(f"The user {name!r} is no administrator; choose another name.")
    return link(config, invite(users, name))


def invite(users: Users, name: str, hours: float = INVITE_HOURS) -> str:
    """Return the token of a one-time link by which a user sets a password; an earlier link becomes invalid.

    Parameters
    ----------
    users : Users
        The collection of users.
    name : str
        Name of the user.
    hours : float
        Duration of its validity [h].

    Returns
    -------
    str

    Raises
    ------
    AccountError
        When there is no such user.
    """
    if users.find(name) is None:
        raise AccountError(f"There is no user {name!r}.")
    token = secrets.token_urlsafe(32)
    users.save(name, {INVITE: {"digest": _digest(token), "expires": utc_now() + timedelta(hours=hours)}})
    return token


def link(config: Config, token: str) -> str:
    """Return the address of a one-time link; the token is in its fragment.

    Parameters
    ----------
    config : Config
        With the address of the portal.
    token : str
        The token.

    Returns
    -------
    str
    """
    return f"{config.server.address}/welcome#{token}"


def accept_invite(users: Users, token: str, password: str) -> str:
    """Set a password by a one-time link.

    Parameters
    ----------
    users : Users
        The collection of users.
    token : str
        The token of the link.
    password : str
        The new password.

    Returns
    -------
    str
        Name of the user.

    Raises
    ------
    AccountError
        When the link is unknown, used or expired, or the password is not accepted (the link can then be used again).
    """
    digest = _digest(token)
    user = users.by_token(INVITE, digest)
    if user is None:
        raise AccountError("This link was used already or is too old; ask an administrator for another one.")
    check_policy(password, user["_id"])
    fields = {"password": hash_password(password), "sessions_from": utc_now()}
    if not users.redeem(INVITE, digest, fields):
        raise AccountError("This link was used already; ask an administrator for another one.")
    return str(user["_id"])


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

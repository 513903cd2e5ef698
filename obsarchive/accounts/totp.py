"""The second factor of a login: time-based one-time codes (TOTP, RFC 6238), as authenticator programs show them."""

import time

import pyotp
import segno

from obsarchive.store import Users

FIELD = "totp"
STEP_S = 30
DRIFT = 1
"""Largest error of the clock of an authenticator [steps]."""


def new_secret() -> str:
    """Return a random secret of 160 bits, in base 32."""
    return pyotp.random_base32()


def picture(secret: str, name: str, archive: str) -> str:
    """Return an image of the QR code by which an authenticator program takes over a secret.

    Parameters
    ----------
    secret : str
        The secret, base 32.
    name : str
        Name of the user.
    archive : str
        Name of the archive.

    Returns
    -------
    str
        Address of an SVG image (``data:``).
    """
    uri = pyotp.TOTP(secret, interval=STEP_S).provisioning_uri(name=name, issuer_name=archive)
    return segno.make(uri, error="m").svg_data_uri(scale=4, border=2, dark="#000", light="#fff")


def switch_on(users: Users, name: str, secret: str, code: str) -> bool:
    """Store the secret of a user, if a code proves that the user's authenticator has it.

    Parameters
    ----------
    users : Users
        The collection of users.
    name : str
        Name of the user.
    secret : str
        The secret, base 32.
    code : str
        The code that the authenticator shows.

    Returns
    -------
    bool
        Whether the code is right.
    """
    step = _step_of(secret, code)
    if step is None:
        return False
    users.save(name, {FIELD: {"secret": secret, "last_step": step}})
    return True


def switch_off(users: Users, name: str) -> None:
    """Remove the secret of a user.

    Parameters
    ----------
    users : Users
        The collection of users.
    name : str
        Name of the user.
    """
    users.unset(name, [FIELD])


def accepts(users: Users, name: str, code: str) -> bool:
    """Check the code of a user; each code is accepted once.

    Parameters
    ----------
    users : Users
        The collection of users.
    name : str
        Name of the user.
    code : str
        The code that the authenticator shows.

    Returns
    -------
    bool
    """
    user = users.find(name) or {}
    kept = user.get(FIELD)
    step = _step_of(str(kept.get("secret") or ""), code) if isinstance(kept, dict) else None
    return step is not None and users.raise_number(name, f"{FIELD}.last_step", step)


def _step_of(secret: str, code: str) -> int | None:
    """Return the time step in which a code is right, or None."""
    digits = "".join(code.split())
    if not secret or not (digits.isascii() and digits.isdecimal()):
        return None
    totp, now = pyotp.TOTP(secret, interval=STEP_S), int(time.time())
    steps = (now // STEP_S + drift for drift in range(-DRIFT, DRIFT + 1))
    return next((step for step in steps if totp.verify(digits, for_time=step * STEP_S)), None)

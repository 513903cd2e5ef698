"""The second step of a login: time-based one-time codes (TOTP, RFC 6238), as authenticator programs show them."""

import time

import pyotp
import segno

from obsarchive.store import Users

FIELD = "totp"
STEP_S = 30
DRIFT = 1
"""Steps that the clock of an authenticator may be off."""


def new_secret() -> str:
    """Return a random secret of 160 bits, in base 32."""
    return pyotp.random_base32()


def picture(secret: str, name: str, archive: str) -> str:
    """Return the address of a picture (``data:``) with the code that authenticators scan."""
    uri = pyotp.TOTP(secret, interval=STEP_S).provisioning_uri(name=name, issuer_name=archive)
    return segno.make(uri, error="m").svg_data_uri(scale=4, border=2, dark="#000", light="#fff")


def switch_on(users: Users, name: str, secret: str, code: str) -> bool:
    """Keep the secret of a user who shows a right code of it; whether the code was right."""
    step = _step_of(secret, code)
    if step is None:
        return False
    users.save(name, {FIELD: {"secret": secret, "last_step": step}})
    return True


def switch_off(users: Users, name: str) -> None:
    """Forget the secret of a user."""
    users.unset(name, [FIELD])


def accepts(users: Users, name: str, code: str) -> bool:
    """Whether `code` is right for a user; each code counts once."""
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

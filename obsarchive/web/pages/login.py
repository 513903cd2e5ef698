"""Logging in, in one step or two, giving the password again, and logging out; invitations."""

import time
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_fresh

from obsarchive.accounts import totp
from obsarchive.accounts import users as accounts
from obsarchive.accounts.users import AccountError
from obsarchive.web.framework.authorization import (
    address,
    audit,
    close_session,
    confirm_session,
    login_required,
    open_session,
)
from obsarchive.web.framework.context import portal

WINDOW_S = 300.0
TRIES_PER_NAME = 8
"""Wrong passwords from one address for one user name within the window."""
CODE_S = 300.0
"""Time to give the code of the second step after the password."""
TRIES_PER_ADDRESS = 60
"""Wrong passwords from one address within the window."""

bp = Blueprint("auth", __name__)


@bp.get("/login")
def login() -> ResponseReturnValue:
    """Show the form; who is logged in goes on."""
    onward = _local(request.args.get("next", ""))
    if current_user.is_authenticated:
        return redirect(onward or url_for("nights.home"))
    setup = accounts.setup_needed(portal().store.users)
    return render_template("login.html", setup_needed=setup, next=onward)


@bp.post("/login")
def log_in() -> ResponseReturnValue:
    """Check name and password, and open a session."""
    name, password = request.form.get("username", ""), request.form.get("password", "")
    check_login_rate(name)
    store = portal().store
    user = accounts.log_in(store.users, name, password)
    if user is None:
        audit("login failed", who=name)
        return render_template("login.html", wrong=True, name=name, next=_local(request.form.get("next", ""))), 401
    onward = _local(request.form.get("next", ""))
    if user.get(totp.FIELD):
        session.clear()
        session["pending_totp"] = {"name": user["_id"], "until": time.time() + CODE_S, "next": onward}
        return redirect(url_for(".code"))
    return _enter(user["_id"], onward)


def _enter(name: str, onward: str) -> ResponseReturnValue:
    portal().store.throttle.forget(*per_name(name))
    open_session(name)
    audit("login", who=name)
    return redirect(onward or url_for("nights.home"))


@bp.get("/login/code")
def code() -> ResponseReturnValue:
    """Show the form of the second step."""
    return render_template("code.html") if pending_totp() else redirect(url_for(".login"))


@bp.post("/login/code")
def check_code() -> ResponseReturnValue:
    """Check the code of the second step, and open a session."""
    waiting = pending_totp()
    if waiting is None:
        return redirect(url_for(".login"))
    name = str(waiting["name"])
    check_login_rate(name)
    if not totp.accepts(portal().store.users, name, request.form.get("code", "")):
        audit("login code refused", who=name)
        return render_template("code.html", wrong=True), 401
    return _enter(name, str(waiting["next"]))


def pending_totp() -> dict[str, Any] | None:
    """Return the user whose password was right and whose code is still to come, if not too long ago."""
    found = session.get("pending_totp")
    return found if isinstance(found, dict) and found["until"] > time.time() else None


@bp.get("/login/confirm")
@login_required
def confirm() -> ResponseReturnValue:
    """Show the form for the password."""
    onward = _local(request.args.get("next", ""))
    return redirect(onward or url_for("nights.home")) if login_fresh() else render_template("confirm.html", next=onward)


@bp.post("/login/confirm")
@login_required
def check_confirmation() -> ResponseReturnValue:
    """Check password and code of the user who is logged in: the session is fresh from then on."""
    name, onward = current_user.name, _local(request.form.get("next", ""))
    check_login_rate(name)
    if not _proves(name):
        audit("confirmation refused")
        return render_template("confirm.html", wrong=True, next=onward), 401
    portal().store.throttle.forget(*per_name(name))
    confirm_session()
    audit("login confirmed")
    flash("Confirmed. Nothing was changed yet: send the form again.")
    return redirect(onward or url_for("nights.home"))


def _proves(name: str) -> bool:
    """Whether the form holds the password of a user, and the code where their login takes one."""
    users = portal().store.users
    user = accounts.log_in(users, name, request.form.get("password", ""))
    if user is None:
        return False
    return not user.get(totp.FIELD) or totp.accepts(users, name, request.form.get("code", ""))


def per_name(name: str) -> tuple[str, float]:
    """Return the key and the window [s] under which attempts for a name from this address are counted."""
    return f"login {address()} {name[:64]}", WINDOW_S


def check_login_rate(name: str) -> None:
    """Count an attempt at a user's password or code; 429 after too many."""
    throttle = portal().store.throttle
    tries = throttle.count(*per_name(name))
    from_here = throttle.count(f"login {address()}", WINDOW_S)
    if tries > TRIES_PER_NAME or from_here > TRIES_PER_ADDRESS:
        audit("login throttled", who=name)
        abort(429)


def _local(target: str) -> str:
    """Return `target` if it is an address within the portal, else nothing."""
    parts = urlsplit(target)
    plain = target.isprintable() and "\\" not in target and not parts.scheme and not parts.netloc
    return target if plain and target.startswith("/") and not target.startswith("//") else ""


@bp.post("/logout")
@login_required
def logout() -> ResponseReturnValue:
    """End the session."""
    audit("logout")
    close_session()
    response = redirect(url_for("auth.login"))
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


@bp.get("/welcome")
def welcome() -> ResponseReturnValue:
    """Show the form behind a one-time link; its token is in the fragment, which only the browser sees."""
    return render_template("welcome.html")


@bp.post("/welcome")
def accept() -> ResponseReturnValue:
    """Set the password of the user who was invited, and log in."""
    check_login_rate("")
    token, password = request.form.get("token", "").strip(), request.form.get("password", "")
    try:
        name = accounts.accept_invite(portal().store.users, token, password)
    except AccountError as err:
        audit("invitation refused")
        return render_template("welcome.html", problem=str(err), token=token), 400
    audit("invitation accepted", who=name)
    open_session(name)
    return redirect(url_for("nights.home"))

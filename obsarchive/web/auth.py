"""Logging in and out, invitations, one's own account."""

from urllib.parse import urlsplit

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from obsarchive import accounts
from obsarchive.accounts import AccountError
from obsarchive.observation import utc_now
from obsarchive.web.access import address, asking, audit, close_session, idle_life, open_session
from obsarchive.web.portal import portal

WINDOW_S = 300.0
TRIES_PER_NAME = 8
"""Wrong passwords from one address for one user name within the window."""
TRIES_PER_ADDRESS = 60
"""Wrong passwords from one address within the window."""

bp = Blueprint("auth", __name__)


@bp.get("/login")
def login() -> ResponseReturnValue:
    """Show the form."""
    setup = accounts.setup_needed(portal().store.users)
    return render_template("login.html", setup_needed=setup, next=_local(request.args.get("next", "")))


@bp.post("/login")
def log_in() -> ResponseReturnValue:
    """Check name and password, and open a session."""
    name, password = request.form.get("username", ""), request.form.get("password", "")
    _slow_down(name)
    store = portal().store
    user = accounts.log_in(store.users, name, password)
    if user is None:
        audit("login failed", who=name)
        return render_template("login.html", wrong=True, name=name, next=_local(request.form.get("next", ""))), 401
    store.throttle.forget(_per_name(name), WINDOW_S)
    open_session(user["_id"])
    audit("login", who=user["_id"])
    return redirect(_local(request.form.get("next", "")) or url_for("nights.home"))


def _per_name(name: str) -> str:
    return f"login {address()} {name[:64]}"


def _slow_down(name: str) -> None:
    throttle = portal().store.throttle
    tries = throttle.count(_per_name(name), WINDOW_S)
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
    """Set the password of whoever was invited, and log in."""
    _slow_down("")
    token, password = request.form.get("token", "").strip(), request.form.get("password", "")
    try:
        name = accounts.accept_invite(portal().store.users, token, password)
    except AccountError as err:
        audit("invitation refused")
        return render_template("welcome.html", problem=str(err), token=token), 400
    audit("invitation accepted", who=name)
    open_session(name)
    return redirect(url_for("nights.home"))


@bp.get("/account")
def account() -> ResponseReturnValue:
    """Show one's own account."""
    return _account()


def _account(problem: str = "", status: int = 200) -> ResponseReturnValue:
    me = asking()
    since = me.document.get("sessions_from")
    sessions = portal().store.sessions.of_user(me.name, since, idle_life())
    return render_template("account.html", sessions=sessions, problem=problem, now=utc_now()), status


@bp.post("/account/password")
def change_password() -> ResponseReturnValue:
    """Change one's own password; every other session ends."""
    me, users = asking(), portal().store.users
    _slow_down(me.name)
    if accounts.log_in(users, me.name, request.form.get("current", "")) is None:
        audit("password change refused")
        return _account("The current password is not right.", 400)
    try:
        accounts.set_password(users, me.name, request.form.get("new", ""))
    except AccountError as err:
        return _account(str(err), 400)
    portal().store.throttle.forget(_per_name(me.name), WINDOW_S)
    portal().store.sessions.close_all(me.name)
    open_session(me.name)
    audit("password changed")
    flash("The password was changed; all other sessions ended.")
    return redirect(url_for("auth.account"))


@bp.post("/account/sessions")
def end_sessions() -> ResponseReturnValue:
    """End all of one's sessions but this one."""
    me = asking()
    portal().store.sessions.close_all(me.name, but=me.session)
    audit("sessions ended")
    flash("All other sessions ended.")
    return redirect(url_for("auth.account"))

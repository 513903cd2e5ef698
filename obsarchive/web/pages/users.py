"""Administrators' page: permissions, invitations, and the audit log."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.accounts import totp
from obsarchive.accounts import users as accounts
from obsarchive.accounts.users import AccountError, Programs
from obsarchive.store.visibility import programs_of
from obsarchive.web.framework.authorization import (
    admin_only,
    audit,
    fresh_login_required,
    idle_life,
    not_found,
)
from obsarchive.web.framework.context import portal

bp = Blueprint("users", __name__, url_prefix="/users")


@bp.get("")
@admin_only
def users() -> ResponseReturnValue:
    """Show all users."""
    return _page()


def _page(status: int = 200, **more: str | int | None) -> ResponseReturnValue:
    store = portal().store
    return render_template(
        "users.html",
        users=store.users.all(),
        passwords=accounts.password_states(store.users),
        sessions=store.sessions.counts(idle_life()),
        audit=store.audit.recent(),
        **more,
    ), status


def _programs() -> Programs:
    if request.form.get("admin"):
        return "all"
    return request.form.get("programs", "").replace(",", " ").split()


def _pass_on(programs: Programs) -> None:
    """Request that the daemon updates the owners of the observations of programmes."""
    for program in programs if programs != "all" else ():
        portal().store.requests.ask("owners", current_user.name, {"program": program})


def _warn_of_unknown(programs: Programs) -> None:
    """Say which programmes have neither an observation nor an entry: their names may be mistyped."""
    unknown = [program for program in programs if programs != "all" and not portal().store.programmes.is_known(program)]
    if unknown:
        flash(f"Nothing is known of {', '.join(unknown)} yet: no observation has this programme. Is it mistyped?")


@bp.post("")
@admin_only
@fresh_login_required
def add() -> ResponseReturnValue:
    """Add a user and show the one-time link with which they set their password."""
    name, programs = request.form.get("name", "").strip(), _programs()
    try:
        accounts.add_user(portal().store.users, name, programs)
    except AccountError as err:
        return _page(400, problem=str(err))
    _hide_from_namesake(name)
    _pass_on(programs)
    _warn_of_unknown(programs)
    audit("user added", subject=name, programs=" ".join(programs) if programs != "all" else "all")
    return _invite(name)


def _hide_from_namesake(name: str) -> None:
    """Hide from a new user what may still name a removed one, until the daemon has passed it on."""
    store = portal().store
    waiting = [entry["what"].get("program") for entry in store.requests.waiting() if entry["kind"] == "owners"]
    store.users.save(name, {"left": [program for program in waiting if program]})


@bp.post("/invite")
@admin_only
@fresh_login_required
def invite() -> ResponseReturnValue:
    """Show a new one-time link, and end the sessions that were opened with the old password."""
    name, store = request.form.get("name", ""), portal().store
    ended = len(store.sessions.of_user(name, None, idle_life()))
    is_self = name == current_user.name
    store.sessions.close_all(name, but=current_user.session_digest if is_self else None)
    return _invite(name, ended - is_self)


def _invite(name: str, ended: int | None = None) -> ResponseReturnValue:
    try:
        token = accounts.invite(portal().store.users, name)
    except AccountError as err:
        return _page(400, problem=str(err))
    audit("invited", subject=name)
    return _page(link=accounts.link(portal().settings, token), invited=name, ended=ended)


@bp.post("/programs")
@admin_only
@fresh_login_required
def change_programs() -> ResponseReturnValue:
    """Change what a user may see."""
    name, programs, store = request.form.get("name", ""), _programs(), portal().store
    user = store.users.find(name)
    if user is None:
        not_found()
    if name == current_user.name and programs != "all":
        return _page(400, problem="You cannot take your own administrator's rights; another administrator can.")
    try:
        accounts.change_programs(store.users, name, programs)
    except AccountError as err:
        return _page(400, problem=str(err))
    _pass_on([*programs_of(user), *(programs if programs != "all" else ())])
    _warn_of_unknown(programs)
    audit("programmes changed", subject=name, programs=" ".join(programs) if programs != "all" else "all")
    flash(f"The programmes of {name} were changed.")
    return redirect(url_for(".users"))


@bp.post("/sessions")
@admin_only
@fresh_login_required
def end_sessions() -> ResponseReturnValue:
    """End every session of a user, and revoke their tokens."""
    name, store = _known(), portal().store
    store.sessions.close_all(name, but=current_user.session_digest)
    store.tokens.revoke_all(name)
    audit("sessions and tokens ended", subject=name)
    flash(f"{name} is logged out everywhere, and their tokens are revoked.")
    return redirect(url_for(".users"))


@bp.post("/two_step")
@admin_only
@fresh_login_required
def end_two_step() -> ResponseReturnValue:
    """Switch off the second step of the login of a user who lost their authenticator."""
    name = _known()
    totp.switch_off(portal().store.users, name)
    audit("two-step login switched off", subject=name)
    flash(f"{name} logs in with the password only.")
    return redirect(url_for(".users"))


def _known() -> str:
    name = request.form.get("name", "")
    if portal().store.users.find(name) is None:
        not_found()
    return name


@bp.post("/remove")
@admin_only
@fresh_login_required
def remove() -> ResponseReturnValue:
    """Remove a user; their sessions end, too."""
    name, store = request.form.get("name", ""), portal().store
    user = store.users.find(name)
    if user is None:
        not_found()
    if name == current_user.name:
        return _page(400, problem="You cannot remove yourself; another administrator can.")
    store.users.remove(name)
    store.sessions.close_all(name)
    store.tokens.revoke_all(name)
    store.watches.remove_all(name)
    _pass_on(programs_of(user))
    audit("user removed", subject=name)
    flash(f"{name} was removed.")
    return redirect(url_for(".users"))

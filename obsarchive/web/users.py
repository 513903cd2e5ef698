"""Administrators' page: who may see what, invitations, and what people did."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from obsarchive import accounts
from obsarchive.accounts import AccountError, Programs
from obsarchive.store.browse import programs_of
from obsarchive.web.access import admin_only, asking, audit, refuse
from obsarchive.web.portal import portal

bp = Blueprint("users", __name__, url_prefix="/users")


@bp.get("")
@admin_only
def users() -> ResponseReturnValue:
    """Show everybody."""
    return _page()


def _page(status: int = 200, **more: str) -> ResponseReturnValue:
    store = portal().store
    everybody, able = store.users.all(), store.users.with_password()
    return render_template("users.html", users=everybody, able=able, audit=store.audit.recent(), **more), status


def _programs() -> Programs:
    if request.form.get("admin"):
        return "all"
    return request.form.get("programs", "").replace(",", " ").split()


def _pass_on(programs: Programs) -> None:
    """Let the ownership of observations follow the users of programmes."""
    store = portal().store
    for program in programs if programs != "all" else ():
        store.observations.set_owners(program, store.users.owners(program))


@bp.post("")
@admin_only
def add() -> ResponseReturnValue:
    """Add a user and show the one-time link with which he sets his password."""
    name, programs = request.form.get("name", "").strip(), _programs()
    try:
        accounts.add_user(portal().store.users, name, programs)
    except AccountError as err:
        return _page(400, problem=str(err))
    _pass_on(programs)
    audit("user added", subject=name, programs=" ".join(programs) if programs != "all" else "all")
    return _invite(name)


@bp.post("/invite")
@admin_only
def invite() -> ResponseReturnValue:
    """Show a new one-time link."""
    return _invite(request.form.get("name", ""))


def _invite(name: str) -> ResponseReturnValue:
    try:
        token = accounts.invite(portal().store.users, name)
    except AccountError as err:
        return _page(400, problem=str(err))
    audit("invited", subject=name)
    return _page(link=accounts.link(portal().settings, token), invited=name)


@bp.post("/programs")
@admin_only
def change_programs() -> ResponseReturnValue:
    """Change what a user may see."""
    name, programs, store = request.form.get("name", ""), _programs(), portal().store
    user = store.users.find(name)
    if user is None:
        refuse()
    if name == asking().name and programs != "all":
        return _page(400, problem="You cannot take your own administrator's rights; another administrator can.")
    try:
        store.users.save(name, {"programs": accounts.checked_programs(programs)})
    except AccountError as err:
        return _page(400, problem=str(err))
    _pass_on([*programs_of(user), *(programs if programs != "all" else ())])
    audit("programmes changed", subject=name, programs=" ".join(programs) if programs != "all" else "all")
    flash(f"The programmes of {name} were changed.")
    return redirect(url_for(".users"))


@bp.post("/remove")
@admin_only
def remove() -> ResponseReturnValue:
    """Remove a user; his sessions end with him."""
    name, store = request.form.get("name", ""), portal().store
    user = store.users.find(name)
    if user is None:
        refuse()
    if name == asking().name:
        return _page(400, problem="You cannot remove yourself; another administrator can.")
    store.users.remove(name)
    store.sessions.close_all(name)
    _pass_on(programs_of(user))
    audit("user removed", subject=name)
    flash(f"{name} was removed.")
    return redirect(url_for(".users"))

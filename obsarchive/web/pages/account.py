"""One's own account: password, sessions, tokens for programs, the second step of the login."""

import secrets
from datetime import timedelta

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.accounts import totp
from obsarchive.accounts import users as accounts
from obsarchive.accounts import watches as watching
from obsarchive.accounts.users import AccountError
from obsarchive.core.documents import utc_now
from obsarchive.web.framework.authorization import (
    SCOPES,
    audit,
    digest_of,
    fresh_login_required,
    idle_life,
    open_session,
)
from obsarchive.web.framework.context import full_address, portal
from obsarchive.web.pages.login import check_login_rate, per_name

LONGEST_TOKEN_DAYS = 366
MOST_TOKENS = 20
PREFIX = "arc_"
"""Begins every token, so that users and scanners recognise it."""

bp = Blueprint("account", __name__, url_prefix="/account")


@bp.get("")
def account() -> ResponseReturnValue:
    """Show one's own account."""
    return _page()


def _page(status: int = 200, **more: str) -> ResponseReturnValue:
    store = portal().store
    sessions = store.sessions.of_user(current_user.name, current_user.document.get("sessions_from"), idle_life())
    secret = session.get("totp_secret", "")
    picture = totp.picture(secret, current_user.name, portal().settings.server.name) if secret else ""
    return render_template(
        "account.html",
        sessions=sessions,
        tokens=store.tokens.of_user(current_user.name),
        scopes={scope: text for scope, text in SCOPES.items() if scope != "change" or current_user.is_admin},
        now=utc_now(),
        totp_secret=secret,
        totp_picture=picture,
        api=full_address("api.index"),
        watches=store.watches.of_user(current_user.name),
        watch_kinds=watching.KINDS,
        watch_alerts=portal().settings.alerts,
        **more,
    ), status


@bp.post("/password")
@fresh_login_required
def change_password() -> ResponseReturnValue:
    """Change one's own password; every other session ends."""
    users = portal().store.users
    if not _is_confirmed("password change refused"):
        return _page(400, problem="The current password is not right.")
    try:
        accounts.set_password(users, current_user.name, request.form.get("new", ""))
    except AccountError as err:
        return _page(400, problem=str(err))
    portal().store.throttle.forget(*per_name(current_user.name))
    portal().store.sessions.close_all(current_user.name)
    open_session(current_user.name)
    audit("password changed")
    flash("The password was changed; all other sessions ended.")
    return redirect(url_for(".account"))


def _is_confirmed(refusal: str) -> bool:
    """Whether the form holds the password of the user; every attempt counts, a wrong one is noted."""
    name = current_user.name
    check_login_rate(name)
    if accounts.log_in(portal().store.users, name, request.form.get("current", "")) is None:
        audit(refusal)
        return False
    return True


@bp.post("/sessions")
@fresh_login_required
def end_sessions() -> ResponseReturnValue:
    """End one of one's sessions, or all but this one."""
    store = portal().store
    which = request.form.get("session", "")
    if which:
        ended = store.sessions.close_one(current_user.name, which)
        flash("The session ended." if ended else "This session had ended already.")
    else:
        store.sessions.close_all(current_user.name, but=current_user.session_digest)
        flash("All other sessions ended.")
    audit("sessions ended")
    return redirect(url_for(".account"))


@bp.post("/tokens")
@fresh_login_required
def add_token() -> ResponseReturnValue:
    """Make a token for programs; it is shown once."""
    store = portal().store
    label = request.form.get("label", "").strip()[:64]
    allowed = set(SCOPES) if current_user.is_admin else set(SCOPES) - {"change"}
    scopes = sorted(set(request.form.getlist("scope")) & allowed)
    days = request.form.get("days", "90")
    if not label or not scopes:
        return _page(400, refusal="Give the token a name and at least one scope.")
    if not days.isdecimal() or not 1 <= int(days) <= LONGEST_TOKEN_DAYS:
        return _page(400, refusal=f"A token lives for 1 to {LONGEST_TOKEN_DAYS} days.")
    if len(store.tokens.of_user(current_user.name)) >= MOST_TOKENS:
        return _page(400, refusal=f"{MOST_TOKENS} tokens are enough; revoke one first.")
    token = PREFIX + secrets.token_urlsafe(32)
    store.tokens.add(digest_of(token), current_user.name, label, scopes, timedelta(days=int(days)))
    audit("token made", label=label, scopes=" ".join(scopes))
    return _page(token=token)


@bp.post("/tokens/revoke")
@fresh_login_required
def revoke_token() -> ResponseReturnValue:
    """End a token."""
    if not portal().store.tokens.revoke(request.form.get("token", ""), current_user.name):
        abort(404)
    audit("token revoked")
    flash("The token was revoked.")
    return redirect(url_for(".account"))


@bp.post("/watches")
@fresh_login_required
def add_watch() -> ResponseReturnValue:
    """Set a watch: the user is notified of what happens to a target, a programme, or of failures."""
    store, alerts = portal().store, portal().settings.alerts
    given = [request.form.get(key, "") for key in ("kind", "value", "to")]
    try:
        added = watching.add_watch(store.watches, alerts, current_user.name, *given)
    except AccountError as err:
        return _page(400, watch_problem=str(err))
    audit("watch set", kind=given[0], value=given[1])
    flash("The watch was set." if added else "You have this watch already.")
    return redirect(url_for(".account", _anchor="watches"))


@bp.post("/watches/remove")
@fresh_login_required
def remove_watch() -> ResponseReturnValue:
    """End a watch."""
    removed = portal().store.watches.remove(current_user.name, request.form.get("watch", ""))
    audit("watch removed")
    flash("The watch was removed." if removed else "There is no such watch any more.")
    return redirect(url_for(".account", _anchor="watches"))


@bp.post("/two_step")
@fresh_login_required
def start_two_step() -> ResponseReturnValue:
    """Show a secret for an authenticator; it is valid once a code of it was given."""
    session["totp_secret"] = totp.new_secret()
    return redirect(url_for(".account", _anchor="two-step"))


@bp.post("/two_step/confirm")
@fresh_login_required
def confirm_two_step() -> ResponseReturnValue:
    """Switch the second step on, with a code that shows that the authenticator has the secret."""
    secret = session.get("totp_secret", "")
    check_login_rate(current_user.name)
    if not secret or not totp.switch_on(portal().store.users, current_user.name, secret, request.form.get("code", "")):
        return _page(400, totp_problem="This code is not right. Is the clock of the telephone right?")
    session.pop("totp_secret", None)
    portal().store.throttle.forget(*per_name(current_user.name))
    portal().store.sessions.close_all(current_user.name, but=current_user.session_digest)
    audit("two-step login switched on")
    flash("From now on, logging in takes a code of your authenticator.")
    return redirect(url_for(".account"))


@bp.post("/two_step/off")
@fresh_login_required
def end_two_step() -> ResponseReturnValue:
    """Switch the second step off; it needs the password."""
    users = portal().store.users
    if not _is_confirmed("two-step change refused"):
        return _page(400, totp_problem="The password is not right.")
    portal().store.throttle.forget(*per_name(current_user.name))
    totp.switch_off(users, current_user.name)
    audit("two-step login switched off")
    flash("Logging in takes the password only.")
    return redirect(url_for(".account"))

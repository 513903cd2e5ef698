"""One's own account: password, sessions, tokens for programs, the second step of the login."""

import secrets
from datetime import timedelta

from flask import Blueprint, abort, flash, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue

from obsarchive.accounts import totp
from obsarchive.accounts import users as accounts
from obsarchive.accounts.users import AccountError
from obsarchive.core.documents import utc_now
from obsarchive.web.framework.authorization import SCOPES, asking, audit, digest_of, idle_life, open_session
from obsarchive.web.framework.context import full_address, portal
from obsarchive.web.pages.login import per_name, slow_down

LONGEST_TOKEN_DAYS = 366
MOST_TOKENS = 20
PREFIX = "arc_"
"""Begins every token, so that people and scanners know one when they see it."""

bp = Blueprint("account", __name__, url_prefix="/account")


@bp.get("")
def account() -> ResponseReturnValue:
    """Show one's own account."""
    return _page()


def _page(status: int = 200, **more: str) -> ResponseReturnValue:
    me, store = asking(), portal().store
    sessions = store.sessions.of_user(me.name, me.document.get("sessions_from"), idle_life())
    fresh = session.get("totp_secret", "")
    picture = totp.picture(fresh, me.name, portal().settings.server.name) if fresh else ""
    return render_template(
        "account.html",
        sessions=sessions,
        tokens=store.tokens.of_user(me.name),
        scopes={scope: text for scope, text in SCOPES.items() if scope != "change" or me.is_admin},
        now=utc_now(),
        totp_secret=fresh,
        totp_picture=picture,
        api=full_address("api.index"),
        **more,
    ), status


@bp.post("/password")
def change_password() -> ResponseReturnValue:
    """Change one's own password; every other session ends."""
    me, users = asking(), portal().store.users
    if not _is_confirmed("password change refused"):
        return _page(400, problem="The current password is not right.")
    try:
        accounts.set_password(users, me.name, request.form.get("new", ""))
    except AccountError as err:
        return _page(400, problem=str(err))
    portal().store.throttle.forget(*per_name(me.name))
    portal().store.sessions.close_all(me.name)
    open_session(me.name)
    audit("password changed")
    flash("The password was changed; all other sessions ended.")
    return redirect(url_for(".account"))


def _is_confirmed(refusal: str) -> bool:
    """Whether the form holds the password of whoever asks; every attempt counts, a wrong one is noted."""
    name = asking().name
    slow_down(name)
    if accounts.log_in(portal().store.users, name, request.form.get("current", "")) is None:
        audit(refusal)
        return False
    return True


@bp.post("/sessions")
def end_sessions() -> ResponseReturnValue:
    """End one of one's sessions, or all but this one."""
    me, store = asking(), portal().store
    which = request.form.get("session", "")
    if which:
        ended = store.sessions.close_one(me.name, which)
        flash("The session ended." if ended else "This session had ended already.")
    else:
        store.sessions.close_all(me.name, but=me.session)
        flash("All other sessions ended.")
    audit("sessions ended")
    return redirect(url_for(".account"))


@bp.post("/tokens")
def add_token() -> ResponseReturnValue:
    """Make a token for programs; it is shown once."""
    me, store = asking(), portal().store
    label = request.form.get("label", "").strip()[:64]
    allowed = set(SCOPES) if me.is_admin else set(SCOPES) - {"change"}
    scopes = sorted(set(request.form.getlist("scope")) & allowed)
    days = request.form.get("days", "90")
    if not label or not scopes:
        return _page(400, refusal="Give the token a name and at least one scope.")
    if not days.isdecimal() or not 1 <= int(days) <= LONGEST_TOKEN_DAYS:
        return _page(400, refusal=f"A token lives for 1 to {LONGEST_TOKEN_DAYS} days.")
    if len(store.tokens.of_user(me.name)) >= MOST_TOKENS:
        return _page(400, refusal=f"{MOST_TOKENS} tokens are enough; revoke one first.")
    token = PREFIX + secrets.token_urlsafe(32)
    store.tokens.add(digest_of(token), me.name, label, scopes, timedelta(days=int(days)))
    audit("token made", label=label, scopes=" ".join(scopes))
    return _page(token=token)


@bp.post("/tokens/revoke")
def revoke_token() -> ResponseReturnValue:
    """End a token."""
    if not portal().store.tokens.revoke(request.form.get("token", ""), asking().name):
        abort(404)
    audit("token revoked")
    flash("The token was revoked.")
    return redirect(url_for(".account"))


@bp.post("/two_step")
def start_two_step() -> ResponseReturnValue:
    """Offer a secret for an authenticator; it counts once a code of it was given."""
    session["totp_secret"] = totp.new_secret()
    return redirect(url_for(".account", _anchor="two-step"))


@bp.post("/two_step/confirm")
def confirm_two_step() -> ResponseReturnValue:
    """Switch the second step on, with a code that shows that the authenticator has the secret."""
    me, secret = asking(), session.get("totp_secret", "")
    slow_down(me.name)
    if not secret or not totp.switch_on(portal().store.users, me.name, secret, request.form.get("code", "")):
        return _page(400, totp_problem="This code is not right. Is the clock of the telephone right?")
    session.pop("totp_secret", None)
    portal().store.throttle.forget(*per_name(me.name))
    portal().store.sessions.close_all(me.name, but=me.session)
    audit("two-step login switched on")
    flash("From now on, logging in takes a code of your authenticator.")
    return redirect(url_for(".account"))


@bp.post("/two_step/off")
def end_two_step() -> ResponseReturnValue:
    """Switch the second step off; the password is asked for."""
    me, users = asking(), portal().store.users
    if not _is_confirmed("two-step change refused"):
        return _page(400, totp_problem="The password is not right.")
    portal().store.throttle.forget(*per_name(me.name))
    totp.switch_off(users, me.name)
    audit("two-step login switched off")
    flash("Logging in takes the password only.")
    return redirect(url_for(".account"))

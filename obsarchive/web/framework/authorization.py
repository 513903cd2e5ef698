"""Who asks, and what he may: sessions and tokens kept in the database, login demanded everywhere."""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any, Literal, NoReturn, ParamSpec, TypeVar, cast

from flask import Response, abort, current_app, flash, g, redirect, request, session, url_for
from flask.typing import ResponseReturnValue

from obsarchive.core.documents import utc_now
from obsarchive.store.portal_queries import is_admin, programs_of
from obsarchive.web.framework.context import Portal, portal
from obsarchive.web.framework.security import csrf

OPEN = frozenset({"static", "auth.login", "auth.log_in", "auth.code", "auth.check_code", "auth.welcome", "auth.accept"})
"""Endpoints that answer anybody; every other one demands a login."""
FIRST_STEPS = frozenset({"account.account", "account.start_two_step", "account.confirm_two_step", "auth.logout"})
"""What an administrator may do before he has set up a two-step login, where it is required."""

Scope = Literal["read", "download", "change"]
SCOPES: dict[Scope, str] = {
    "read": "read the database: the API and the virtual observatory",
    "download": "download products",
    "change": "ask for work to be done again (administrators)",
}
WINDOW_S, MOST_REQUESTS, MOST_BAD_TOKENS = 60.0, 600, 30
"""Requests of programs, and wrong tokens, that one person or address may send within a window."""

LONGEST_SESSION = timedelta(days=14)
SEEN_EVERY = timedelta(seconds=60)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Person:
    """The user who asks."""

    document: Mapping[str, Any]
    session: str
    """Hash of the session's id or of the token, as the database knows it."""
    scopes: frozenset[str] | None = None
    """What the token allows; None in a browser."""

    @property
    def name(self) -> str:
        """User name."""
        return str(self.document["_id"])

    @property
    def is_admin(self) -> bool:
        """Whether he may see and do everything."""
        return is_admin(self.document)

    @property
    def programs(self) -> list[str]:
        """Programmes he belongs to."""
        return programs_of(self.document)

    @property
    def has_second_step(self) -> bool:
        """Whether his login takes a second step."""
        return bool(self.document.get("totp"))


def guard(app: Portal) -> None:
    """Demand a login for everything that is not open, and the form's token for every change."""
    app.before_request(_demand_login)
    app.before_request(_check_form)


def asking() -> Person:
    """Return who asks; only where a login is demanded."""
    return cast(Person, g.person)


def for_tokens(scope: Scope) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let programs use a view, too, with a token of this scope."""

    def marked(view: Callable[P, R]) -> Callable[P, R]:
        view.token_scope = scope  # type: ignore[attr-defined]
        return view

    return marked


def _demand_login() -> ResponseReturnValue | None:
    g.person = None
    if request.endpoint == "static":
        return None
    given = _given_token()
    g.person = _person() if given is None else _program(given)
    if g.person is None:
        return None if request.endpoint in OPEN else _turn_away()
    _slow_programs_down(g.person)
    if _lacks_second_step(g.person) and request.endpoint not in FIRST_STEPS:
        flash("Administrators of this archive need a two-step login: set it up first.")
        return redirect(url_for("account.account"))
    return None


def _turn_away() -> ResponseReturnValue:
    if is_for_programs():
        return Response(
            '{"error": "log in, or send a token"}\n',
            401,
            {"WWW-Authenticate": 'Bearer realm="archive", Basic realm="archive: any name, a token as password"'},
            mimetype="application/json",
        )
    if request.method not in ("GET", "HEAD"):
        abort(401)
    if request.headers.get("HX-Request"):
        return Response(status=401, headers={"HX-Redirect": url_for("auth.login")})
    here = request.full_path.rstrip("?")
    return redirect(url_for("auth.login", next=None if here == "/" else here))


def is_for_programs() -> bool:
    """Whether programs ask for this address, rather than people."""
    return request.path.startswith(("/api/", "/vo/")) or "Authorization" in request.headers


def _check_form() -> None:
    """Demand the form's token; a program that sends a token of its own has no cookie that others could use."""
    if g.person is None or g.person.scopes is None:
        csrf.protect()


def _given_token() -> str | None:
    """Return the token of a program, from ``Authorization: Bearer`` or, with any user name, ``Basic``."""
    found = request.authorization
    if found is None:
        return "" if "Authorization" in request.headers else None
    return str((found.token if found.type == "bearer" else found.password) or "")


def _program(token: str) -> Person | None:
    """Return whose program asks, if its token allows what it asks for."""
    store, digest = portal().store, digest_of(token)
    found = store.tokens.find(digest)
    user = store.users.find(found["user"]) if found else None
    if found is None or user is None:
        if store.throttle.count(f"token {address()}", WINDOW_S) > MOST_BAD_TOKENS:
            abort(429)
        return None
    scope = getattr(current_app.view_functions.get(request.endpoint or ""), "token_scope", None)
    if scope not in found["scopes"]:
        audit("token refused", who=found["user"], path=request.path)
        abort(403)
    if found["last_used"] is None or utc_now() - found["last_used"] > SEEN_EVERY:
        store.tokens.used(digest)
    return Person(user, digest, frozenset(found["scopes"]))


def _slow_programs_down(person: Person) -> None:
    if not is_for_programs():
        return
    if portal().store.throttle.count(f"requests {person.name}", WINDOW_S) > MOST_REQUESTS:
        abort(429)


def _lacks_second_step(person: Person) -> bool:
    return portal().settings.server.require_totp and person.is_admin and not person.document.get("totp")


def _person() -> Person | None:
    token = session.get("id")
    if not isinstance(token, str):
        return None
    store, digest = portal().store, digest_of(token)
    found = store.sessions.find(digest, idle_life())
    user = store.users.find(found["user"]) if found else None
    if found is None or user is None or found["created"] < user.get("sessions_from", found["created"]):
        session.clear()
        return None
    if utc_now() - found["last_seen"] > SEEN_EVERY:
        store.sessions.seen(digest)
    return Person(user, digest)


def idle_life() -> timedelta:
    """Return how long an unused session lives."""
    return timedelta(hours=portal().settings.server.session_hours)


def open_session(name: str) -> None:
    """Log `name` in: a new session with a new id and a new form token."""
    session.clear()
    token = secrets.token_urlsafe(32)
    session["id"] = token
    about = {"address": address(), "agent": request.user_agent.string[:200]}
    portal().store.sessions.open(digest_of(token), name, max(LONGEST_SESSION, idle_life()), about)


def close_session() -> None:
    """Log out whoever asks."""
    portal().store.sessions.close(asking().session)
    session.clear()
    g.person = None


def digest_of(token: str) -> str:
    """Return the hash under which the database knows a token or the id of a session."""
    return hashlib.sha256(token.encode()).hexdigest()


def admin_only(view: Callable[P, R]) -> Callable[P, R]:
    """Keep everybody but administrators out of a view; to others it does not exist."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not asking().is_admin:
            refuse()
        return view(*args, **kwargs)

    return guarded


def refuse() -> NoReturn:
    """Answer that there is no such thing, be it missing or somebody else's, and note it."""
    audit("denied", path=request.path)
    abort(404)


def audit(action: str, who: str | None = None, **details: str) -> None:
    """Note what somebody does; by default whoever asks."""
    name = who if who is not None else (g.person.name if g.person else None)
    portal().store.audit.record(action, name, address(), **details)


def address() -> str:
    """Return the address of whoever asks, as far as the configured proxies tell."""
    return request.remote_addr or "-"

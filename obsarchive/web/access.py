"""Who asks, and what he may: sessions kept in the database, login demanded everywhere, administrators' pages."""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar, cast

from flask import Response, abort, g, redirect, request, session, url_for
from flask.typing import ResponseReturnValue

from obsarchive.observation import utc_now
from obsarchive.store.browse import is_admin, programs_of
from obsarchive.web.portal import Portal, portal

OPEN = frozenset({"static", "auth.login", "auth.log_in", "auth.welcome", "auth.accept"})
"""Endpoints that answer anybody; every other one demands a login."""

LONGEST_SESSION = timedelta(days=14)
SEEN_EVERY = timedelta(seconds=60)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Person:
    """The user who asks."""

    document: Mapping[str, Any]
    session: str
    """Hash of the session's id, as the database knows it."""

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


def guard(app: Portal) -> None:
    """Demand a login for everything that is not open."""
    app.before_request(_demand_login)


def asking() -> Person:
    """Return who asks; only where a login is demanded."""
    return cast(Person, g.person)


def _demand_login() -> ResponseReturnValue | None:
    g.person = None
    if request.endpoint == "static":
        return None
    g.person = _person()
    if g.person is not None or request.endpoint in OPEN:
        return None
    if request.method not in ("GET", "HEAD"):
        abort(401)
    if request.headers.get("HX-Request"):
        return Response(status=401, headers={"HX-Redirect": url_for("auth.login")})
    here = request.full_path.rstrip("?")
    return redirect(url_for("auth.login", next=None if here == "/" else here))


def _person() -> Person | None:
    token = session.get("id")
    if not isinstance(token, str):
        return None
    store, digest = portal().store, _digest(token)
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
    portal().store.sessions.open(_digest(token), name, max(LONGEST_SESSION, idle_life()), about)


def close_session() -> None:
    """Log out whoever asks."""
    portal().store.sessions.close(asking().session)
    session.clear()
    g.person = None


def _digest(token: str) -> str:
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

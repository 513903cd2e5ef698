"""Who asks, and what they may: Flask-Login on sessions and tokens kept in the database, login demanded everywhere."""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import wraps
from typing import Any, Literal, NoReturn, ParamSpec, TypeVar

from flask import Request, Response, abort, current_app, flash, g, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import LoginManager, UserMixin, confirm_login, current_user, login_user, logout_user

from obsarchive.core.documents import utc_now
from obsarchive.store import Document
from obsarchive.store.portal_queries import is_admin, programs_of
from obsarchive.web.framework.context import Portal, portal
from obsarchive.web.framework.security import csrf

OPEN = frozenset({"static", "auth.login", "auth.log_in", "auth.code", "auth.check_code", "auth.welcome", "auth.accept"})
"""Endpoints that answer anybody; every other one demands a login."""
FIRST_STEPS = frozenset(
    {
        "account.account",
        "account.start_two_step",
        "account.confirm_two_step",
        "auth.confirm",
        "auth.check_confirmation",
        "auth.logout",
    }
)
"""What administrators may do before they have set up a two-step login, where it is required."""
PAGES_OF_FORMS = {"account": "account.account", "users": "users.users"}
"""The page on which the forms of a blueprint stand."""

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
REAUTH = timedelta(hours=1)
"""How long after the password was given accounts may be changed without giving it again."""

P = ParamSpec("P")
R = TypeVar("R")

login_manager = LoginManager()
# "basic" and "strong" bind a session to the address and the browser that opened it. Addresses change (telephones,
# several proxies, IPv4 beside IPv6), and Flask-Login reads them from X-Forwarded-For, which anybody may send. Stolen
# cookies are met by the database: it lists sessions, ends them when idle or on request, and knows how fresh they are.
login_manager.session_protection = None


@dataclass(frozen=True, eq=False)
class User(UserMixin):
    """The user who asks, in a browser or by a program."""

    document: Mapping[str, Any]
    session_token: str = field(default="", repr=False)
    """What the browser holds of the session; empty for a program."""
    scopes: frozenset[str] | None = None
    """What the token of a program allows; None in a browser."""

    def get_id(self) -> str:
        """Return what Flask-Login keeps in the cookie: which session this is, not whose."""
        return self.session_token

    @property
    def session_digest(self) -> str:
        """Hash of the session's token, as the database knows it."""
        return digest_of(self.session_token)

    @property
    def name(self) -> str:
        """User name."""
        return str(self.document["_id"])

    @property
    def is_admin(self) -> bool:
        """Whether they may see and do everything."""
        return is_admin(self.document)

    @property
    def programs(self) -> list[str]:
        """Programmes they belong to."""
        return programs_of(self.document)

    @property
    def has_second_step(self) -> bool:
        """Whether their login takes a second step."""
        return bool(self.document.get("totp"))


def require_login(app: Portal) -> None:
    """Demand a login for everything that is not open, and the form's token for every change."""
    # Not by init_app: it would add the remember-me cookie, which is not used, and with it "Vary: Cookie" on
    # files that any cache may keep.
    app.login_manager = login_manager
    app.before_request(_demand_login)
    app.before_request(_check_form)


def for_tokens(scope: Scope) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let programs use a view, too, with a token of this scope."""

    def marked(view: Callable[P, R]) -> Callable[P, R]:
        view.token_scope = scope  # type: ignore[attr-defined]
        return view

    return marked


def _demand_login() -> ResponseReturnValue | None:
    if request.endpoint == "static":
        return None
    if not current_user.is_authenticated:
        return None if request.endpoint in OPEN else login_manager.unauthorized()
    g.logged_in = True
    _slow_programs_down()
    if _lacks_second_step() and request.endpoint not in FIRST_STEPS:
        flash("Administrators of this archive need a two-step login: set it up first.")
        return redirect(url_for("account.account"))
    return None


@login_manager.unauthorized_handler
def _ask_for_login() -> ResponseReturnValue:
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
    return redirect(url_for("auth.login", next=None if here == "/" else request.script_root + here))


@login_manager.needs_refresh_handler
def _ask_for_password() -> ResponseReturnValue:
    """Ask for the password again; a form is not kept meanwhile, the page on which it stands comes next."""
    if request.method in ("GET", "HEAD"):
        page = request.script_root + request.full_path.rstrip("?")
    else:
        page = url_for(PAGES_OF_FORMS.get(request.blueprint or "", "nights.home"))
    return redirect(url_for("auth.confirm", next=page))


def is_for_programs() -> bool:
    """Whether programs ask for this address, rather than people."""
    return request.path.startswith(("/api/", "/vo/")) or "Authorization" in request.headers


def _check_form() -> None:
    """Demand the form's token; a program that sends a token of its own has no cookie that others could use."""
    if request.endpoint != "static" and not (current_user.is_authenticated and current_user.scopes is not None):
        csrf.protect()


@login_manager.request_loader
def _user_of_token(asked: Request) -> User | None:
    """Return whose program asks, by its token: ``Authorization: Bearer`` or, with any user name, ``Basic``."""
    if "Authorization" not in asked.headers:
        return None
    found = asked.authorization
    token = str((found.token if found.type == "bearer" else found.password) or "") if found else ""
    return _program(token)


def _program(token: str) -> User | None:
    """Return whose program holds a token, if the token allows what it asks for."""
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
    return User(user, scopes=frozenset(found["scopes"]))


def _slow_programs_down() -> None:
    if not is_for_programs():
        return
    if portal().store.throttle.count(f"requests {current_user.name}", WINDOW_S) > MOST_REQUESTS:
        abort(429)


def _lacks_second_step() -> bool:
    return portal().settings.server.require_totp and current_user.is_admin and not current_user.has_second_step


@login_manager.user_loader
def _user_of_session(token: str) -> User | None:
    """Return who opened the session that a browser holds; where a program sends a token, that alone counts."""
    if "Authorization" in request.headers:
        return None
    store, digest = portal().store, digest_of(token)
    found = store.sessions.find(digest, idle_life())
    user = store.users.find(found["user"]) if found else None
    if found is None or user is None or found["created"] < user.get("sessions_from", found["created"]):
        session.clear()
        return None
    if utc_now() - found["last_seen"] > SEEN_EVERY:
        store.sessions.seen(digest)
    _tell_freshness(found)
    return User(user, token)


def _tell_freshness(found: Document) -> None:
    """Tell Flask-Login whether a session is fresh: the database knows, whatever the cookie says."""
    fresh = utc_now() - (found.get("confirmed") or found["created"]) < REAUTH
    if session.get("_fresh") != fresh:
        session["_fresh"] = fresh


def idle_life() -> timedelta:
    """Return how long an unused session lives."""
    return timedelta(hours=portal().settings.server.session_hours)


def open_session(name: str) -> None:
    """Log `name` in: a new session with a new id and a new form token."""
    store, token = portal().store, secrets.token_urlsafe(32)
    user = store.users.find(name)
    if user is None:  # removed since they gave their password
        abort(401)
    session.clear()
    about = {"address": address(), "agent": request.user_agent.string[:200]}
    store.sessions.open(digest_of(token), name, max(LONGEST_SESSION, idle_life()), about)
    login_user(User(user, token))


def confirm_session() -> None:
    """Note that the user gave the password again: the session is fresh from now on."""
    portal().store.sessions.confirm(current_user.session_digest)
    confirm_login()


def close_session() -> None:
    """Log the user out."""
    portal().store.sessions.close(current_user.session_digest)
    logout_user()
    session.clear()


def digest_of(token: str) -> str:
    """Return the hash under which the database knows a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def admin_only(view: Callable[P, R]) -> Callable[P, R]:
    """Keep everybody but administrators out of a view; to others it does not exist."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not current_user.is_admin:
            not_found()
        return view(*args, **kwargs)

    return guarded


def not_found() -> NoReturn:
    """Answer that there is no such thing, be it missing or somebody else's, and note it."""
    audit("denied", path=request.path)
    abort(404)


def audit(action: str, who: str | None = None, **details: str) -> None:
    """Note what somebody does; by default the user who asks."""
    if who is None and current_user.is_authenticated:
        who = current_user.name
    portal().store.audit.record(action, who, address(), **details)


def address() -> str:
    """Return the address from which the request came, as far as the configured proxies tell."""
    return request.remote_addr or "-"

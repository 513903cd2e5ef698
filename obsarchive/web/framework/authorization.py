"""Authentication and authorization: Flask-Login on sessions and tokens of the database; every page needs a login."""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import wraps
from typing import Any, ClassVar, Literal, NoReturn, ParamSpec, TypeVar

import flask_login
from flask import Request, Response, abort, current_app, flash, g, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import LoginManager, confirm_login, current_user, login_user, logout_user

from obsarchive.core.documents import utc_now
from obsarchive.store.visibility import is_admin, programs_of
from obsarchive.web.framework.context import Portal, portal
from obsarchive.web.framework.security import csrf

OPEN = frozenset({"static", "auth.login", "auth.log_in", "auth.code", "auth.check_code", "auth.welcome", "auth.accept"})
"""Endpoints that need no login."""
PUBLIC_VO = "public_vo"
"""Name under which the services of the virtual observatory answer anybody."""
_PUBLIC_PAGES = (
    *("robots", "listing", "observation", "datacite", "bibtex", "product", "raw", "master", "master_of_night"),
    "download",
)
_PUBLIC_SERVICES = (
    *("scs", "images", "capabilities", "availability", "links", "cutout", "log", "tap_sync", "tap_tables"),
    *("tap_examples", "tap_jobs", "tap_add_job", "tap_job", "tap_job_part", "tap_delete_job", "tap_change_job"),
    "tap_result",
)
PUBLIC = frozenset(
    {*(f"public.{view}" for view in _PUBLIC_PAGES), *(f"{PUBLIC_VO}.{view}" for view in _PUBLIC_SERVICES)}
)
"""Endpoints of public observations, which look for themselves whether these are public, and not who asks."""
WITHOUT_USER = frozenset(
    {"static", *(f"monitoring.{name}" for name in ("live", "ready", "daemon", "daemon_ready", "metrics"))}
)
"""Endpoints that never ask who the user is, so that they answer without the database."""
UNATTENDED = frozenset({"jobs.pulse"})
"""Endpoints that an open page asks by itself: they do not keep a session alive."""
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
PAGES_OF_FORMS = {
    "account": "account.account",
    "users": "users.users",
    "programmes": "programmes.programmes",
}
"""The page that holds the forms of a blueprint."""

Scope = Literal["read", "download", "change", "note"]
SCOPES: dict[Scope, str] = {
    "read": "read metadata: the API and the virtual observatory",
    "download": "download products",
    "change": "request redos (administrators)",
    "note": "write notes on the quality of observations, decide about events",
}
WINDOW_S, MOST_REQUESTS, MOST_BAD_TOKENS = 60.0, 600, 30
"""Requests of programs, and wrong tokens, that one user or address may send within a window."""

LONGEST_SESSION = timedelta(days=14)
SEEN_EVERY = timedelta(seconds=60)
REAUTH = timedelta(hours=1)
"""How long after the password was given accounts may be changed without giving it again."""

P = ParamSpec("P")
R = TypeVar("R")
View = TypeVar("View", bound=Callable[..., ResponseReturnValue])

# Flask-Login has no annotations
login_required: Callable[[View], View] = flask_login.login_required
fresh_login_required: Callable[[View], View] = flask_login.fresh_login_required

login_manager = LoginManager()
# "basic" and "strong" bind a session to the address and the browser that opened it. Addresses change (telephones,
# several proxies, IPv4 beside IPv6), and Flask-Login reads them from X-Forwarded-For, which any client may send. Stolen
# cookies are met by the database: it lists sessions, ends them when idle or on request, and knows how fresh they are.
login_manager.session_protection = None


@dataclass(frozen=True, eq=False)
class User:
    """The user of a request, in a browser or by a program."""

    document: Mapping[str, Any]
    session_token: str = field(default="", repr=False)
    """What the browser holds of the session; empty for a program."""
    scopes: frozenset[str] | None = None
    """What the token of a program allows; None in a browser."""
    # attributes that Flask-Login needs
    is_authenticated: ClassVar[bool] = True
    is_active: ClassVar[bool] = True
    is_anonymous: ClassVar[bool] = False

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
    """Require a login for all endpoints but `OPEN`, and the form's CSRF token for every change."""
    # Not by init_app: it would add the remember-me cookie, which is not used, and with it "Vary: Cookie" on
    # files that any cache may keep.
    app.login_manager = login_manager
    login_manager.unauthorized_handler(_ask_for_login)
    login_manager.needs_refresh_handler(_ask_for_password)
    login_manager.request_loader(_user_of_token)
    login_manager.user_loader(_user_of_session)
    app.before_request(_demand_login)
    app.before_request(_check_form)


def for_tokens(scope: Scope) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that opens a view to programs with a token of this scope."""

    def marked(view: Callable[P, R]) -> Callable[P, R]:
        view.token_scope = scope  # type: ignore[attr-defined]
        return view

    return marked


def reads_by_form(view: Callable[P, R]) -> Callable[P, R]:
    """Let a view that changes nothing be asked by a form without the token of a page: queries may be long."""
    view.reads_by_form = True  # type: ignore[attr-defined]
    return view


def _demand_login() -> ResponseReturnValue | None:
    if request.endpoint in WITHOUT_USER:
        return None
    if not current_user.is_authenticated:
        return None if request.endpoint in OPEN | PUBLIC else login_manager.unauthorized()
    g.logged_in = True
    if is_for_programs() and portal().store.throttle.count(f"requests {current_user.name}", WINDOW_S) > MOST_REQUESTS:
        abort(429, f"Programs of one user may ask {MOST_REQUESTS} times a minute: wait a minute.")
    needs_second_step = portal().settings.server.require_totp and current_user.is_admin
    if needs_second_step and not current_user.has_second_step and request.endpoint not in FIRST_STEPS:
        flash("Administrators of this archive need a two-step login: set it up first.")
        return redirect(url_for("account.account"))
    return None


def _ask_for_login() -> ResponseReturnValue:
    if is_for_programs():
        return Response(
            '{"error": "log in, or send a token", "status": 401}\n',
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


def _ask_for_password() -> ResponseReturnValue:
    """Redirect to the password form; the form that was sent is not kept, its page comes next."""
    if request.method in ("GET", "HEAD"):
        page = request.script_root + request.full_path.rstrip("?")
    else:
        page = url_for(PAGES_OF_FORMS.get(request.blueprint or "", "nights.home"))
    return redirect(url_for("auth.confirm", next=page))


def is_for_programs() -> bool:
    """Whether the request comes from a program rather than a browser."""
    return request.path.startswith(("/api/", "/vo/", "/public/vo/")) or "Authorization" in request.headers


def _check_form() -> None:
    """Check the form's CSRF token; a program with an access token, or at a public address, has no cookie to protect."""
    view = current_app.view_functions.get(request.endpoint or "")
    if request.endpoint in WITHOUT_USER | PUBLIC or getattr(view, "reads_by_form", False):
        return
    if not (current_user.is_authenticated and current_user.scopes is not None):
        csrf.protect()


def _user_of_token(sent: Request) -> User | None:
    """Return the user of a program by its access token: ``Authorization: Bearer`` or, with any user name, ``Basic``."""
    if "Authorization" not in sent.headers or sent.blueprint == PUBLIC_VO:
        return None
    found = sent.authorization
    token = str((found.token if found.type == "bearer" else found.password) or "") if found else ""
    return _program(token)


def _program(token: str) -> User | None:
    """Return the user of an access token, if its scopes allow the request."""
    store, digest = portal().store, digest_of(token)
    found = store.tokens.find(digest)
    user = store.users.find(found["user"]) if found else None
    if found is None or user is None:
        if store.throttle.count(f"token {address()}", WINDOW_S) > MOST_BAD_TOKENS:
            abort(429, "Too many tokens that are not valid came from your address: wait a minute.")
        return None
    scope = getattr(current_app.view_functions.get(request.endpoint or ""), "token_scope", None)
    if scope not in found["scopes"] and request.endpoint is not None:  # else there is no such address: 404
        audit("token refused", who=found["user"], path=request.path)
        abort(403, f"This token lacks the scope {scope!r}." if scope else "No token opens this address.")
    if found["last_used"] is None or utc_now() - found["last_used"] > SEEN_EVERY:
        store.tokens.used(digest)
    return User(user, scopes=frozenset(found["scopes"]))


def _user_of_session(token: str) -> User | None:
    """Return the user of the browser's session; a request with an access token uses that alone."""
    if "Authorization" in request.headers:
        return None
    store, digest = portal().store, digest_of(token)
    found = store.sessions.find(digest, idle_life())
    user = store.users.find(found["user"]) if found else None
    if found is None or user is None or found["created"] < user.get("sessions_from", found["created"]):
        session.clear()
        return None
    if utc_now() - found["last_seen"] > SEEN_EVERY and request.endpoint not in UNATTENDED:
        store.sessions.seen(digest)
    # freshness comes from the database rather than from the cookie
    fresh = utc_now() - (found.get("confirmed") or found["created"]) < REAUTH
    if session.get("_fresh") != fresh:
        session["_fresh"] = fresh
    return User(user, token)


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
    """Record that the user gave the password again: the session is fresh from now on."""
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
    """Restrict a view to administrators; for other users it does not exist."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        if not current_user.is_admin:
            not_found()
        return view(*args, **kwargs)

    return guarded


def not_found() -> NoReturn:
    """Answer 404, for missing data as for data of other users, and record it."""
    audit("denied", path=request.path)
    abort(404)


def audit(action: str, who: str | None = None, **details: str) -> None:
    """Record an action in the audit log.

    Parameters
    ----------
    action : str
        What was done.
    who : str, optional
        Name of the user; the user of this request when not given.
    **details : str
        What it was done to.
    """
    if who is None and current_user.is_authenticated:
        who = current_user.name
    portal().store.audit.record(action, who, address(), **details)


def address() -> str:
    """Return the address of the client, as the configured proxies report it."""
    return request.remote_addr or "-"

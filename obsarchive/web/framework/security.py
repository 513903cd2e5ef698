"""What every response and every request is subject to: headers, cookies, tokens, proxies, the secret key."""

import os
import secrets
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from flask import Response, abort, request
from flask_wtf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix

from obsarchive.config.model import Config
from obsarchive.errors import ConfigError
from obsarchive.web.framework.context import Portal, portal

MIN_KEY_LENGTH = 32
STATIC_LIFE = timedelta(days=1)

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # pico.css draws its chevrons and ticks as data: pictures
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

csrf = CSRFProtect()


def viewer_policy(survey: str = "") -> str:
    """Return what a page with JS9 or Aladin Lite may load.

    Parameters
    ----------
    survey : str, optional
        Address below which such a page may fetch the background of the sky.
    """
    beyond = f" {survey.rstrip('/')}/" if survey else ""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self' 'wasm-unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",  # both lay their canvases out by style attributes
            f"img-src 'self' data: blob:{beyond}",
            "font-src 'self'",
            f"connect-src 'self' blob: data:{beyond}",
            "worker-src 'self' blob:",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def configure_security(app: Portal) -> None:
    """Set up cookies, tokens, headers and proxies."""
    server = app.settings.server
    https = (server.public_url or "").startswith("https://")
    app.config |= {
        "SECRET_KEY": secret_key(app.settings),
        "SESSION_COOKIE_NAME": "__Host-archiver" if https else "archiver",
        "SESSION_COOKIE_SECURE": https,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_PATH": "/",
        "WTF_CSRF_CHECK_DEFAULT": False,  # require_login checks, once it knows whether the client is a browser
        "WTF_CSRF_TIME_LIMIT": None,  # lives as long as the session that holds it
        "WTF_CSRF_SSL_STRICT": False,  # check_same_origin looks at Origin, which proxies leave alone
        "MAX_CONTENT_LENGTH": 64 * 1024,
        "MAX_FORM_MEMORY_SIZE": 64 * 1024,
        "SEND_FILE_MAX_AGE_DEFAULT": STATIC_LIFE,
    }
    csrf.init_app(app)
    app.before_request(check_same_origin)
    app.after_request(_add_headers)
    if hops := server.trusted_proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops
        )


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if portal().config["SESSION_COOKIE_SECURE"]:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def check_same_origin() -> None:
    """Reject a change that a page of another site sends, besides the check of the form's token."""
    if request.method in ("GET", "HEAD", "OPTIONS") or "Authorization" in request.headers:
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        abort(400, "This form was sent by a page of another site.")
    origin = request.headers.get("Origin")
    if site is None and origin is not None and _origin(origin) not in _own_origins():
        abort(400, "This form was sent by a page of another site.")


def _own_origins() -> set[tuple[str, str]]:
    return {_origin(request.host_url), _origin(portal().settings.server.public_url or request.host_url)}


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def secret_key(config: Config) -> str:
    """Return the key that signs cookies: the configured one, else one made at the first start.

    Raises
    ------
    ConfigError
        When the configured key is too short to be secret, or the file with the key is not private.
    """
    if config.server.secret_key is not None:
        key = config.server.secret_key.get_secret_value()
        if len(key) < MIN_KEY_LENGTH or len(set(key)) < 8:
            raise ConfigError(
                f"server.secret_key: expected at least {MIN_KEY_LENGTH} random characters, found {len(key)}; "
                "leave it out and one is made"
            )
        return key
    path = config.database_folder / "portal_secret"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _kept_key(path)
    except OSError as err:
        raise ConfigError(f"{path}: the portal's secret key cannot be kept here: {err.strerror}") from err


def _kept_key(path: Path) -> str:
    if not path.exists():
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_hex(32), encoding="ascii")
        try:
            os.link(fresh, path)  # the first of several starting processes wins; no process reads half a key
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path}: others can read the portal's secret key; remove it (a new one is made at start)")
    return path.read_text(encoding="ascii").strip()

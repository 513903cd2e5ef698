"""Error pages: what happened, and what to do next."""

import logging
import secrets

from flask import g, redirect, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from obsarchive.errors import ServiceUnavailable
from obsarchive.store import one_line
from obsarchive.web.framework.authorization import is_for_programs
from obsarchive.web.framework.context import Portal, portal
from obsarchive.web.framework.redirects import meant_address

log = logging.getLogger(__name__)

PAGES = {
    400: ("Not a valid request", "Go back, reload the page and try once more."),
    401: ("Please log in", "Your session ended. Log in and try again."),
    403: ("Not allowed", "The token does not allow this. Make another one on the page of your account."),
    404: ("Nothing here", "There is no such page or observation, or it belongs to another programme."),
    405: ("Not that way", "This address does not take this kind of request."),
    410: ("Not there any more", "This file is not on the disk of the archive any more."),
    413: ("Too much", "What was sent is larger than anything this page needs."),
    429: ("Too many requests", "Wait five minutes, then try again. Forgot the password? An administrator can help."),
    500: ("Internal error", "It was written to the log. Tell an administrator the number below."),
    503: ("The database is not reachable", "Nothing is lost, but nothing can be shown now. Reload in a minute."),
}
EXPLAINED = (400, 403, 404, 410, 429)
"""Errors whose own description, where there is one, stands in place of the advice."""


def register_error_handlers(app: Portal) -> None:
    """Register the pages."""
    app.register_error_handler(CSRFError, _expired)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(ServiceUnavailable, _outage)
    app.register_error_handler(Exception, _broken)


def _page(status: int, **more: str) -> ResponseReturnValue:
    title, advice = PAGES.get(status, PAGES[400])
    headers = {"Retry-After": "300" if status == 429 and not more else "60"} if status in (429, 503) else {}
    if is_for_programs():
        return {"error": more.get("advice", title), "status": status, **more}, status, headers
    return render_template("problem.html", status=status, title=title, **{"advice": advice, **more}), status, headers


def _expired(_: CSRFError) -> ResponseReturnValue:
    return _page(400, advice="The form was too old or came from elsewhere. Go back, reload the page and try once more.")


def _http(err: HTTPException) -> ResponseReturnValue:
    if err.response is not None:
        return err.response
    if err.code == 404 and (meant := meant_address()):
        return redirect(meant)
    is_explained = err.code in EXPLAINED and err.description != type(err).description
    reason = err.description if is_explained else None
    return _page(err.code or 500, **({"advice": reason} if reason else {}))


def _outage(err: ServiceUnavailable) -> ResponseReturnValue:
    log.warning("%s %s: no database: %s", request.method, one_line(request.path), err)
    g.logged_in = False
    portal().revive_database()
    return _page(503)


def _broken(err: Exception) -> ResponseReturnValue:
    number = secrets.token_hex(4)
    log.error("%s %s broke, number %s", request.method, one_line(request.path), number, exc_info=err)
    return _page(500, number=number)

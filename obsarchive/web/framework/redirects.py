"""Addresses as people type them: a date with dashes, a slash at the end, a capital letter."""

import re
from urllib.parse import quote

from flask import request
from flask.globals import request_ctx
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from obsarchive.names import is_night

_DATE = re.compile(r"^(/night|/api/v1/nights)/(\d{4})-(\d\d)-(\d\d)(?=/|$)", re.ASCII)


def meant_address() -> str | None:
    """Return the address of the page that a request without an answer meant; None if there is none.

    It lies in this archive whatever the request says.
    """
    room, slash, rest = request.path.rstrip("/")[1:].partition("/")
    path = _DATE.sub(_undashed, f"/{room.lower()}{slash}{rest}")
    adapter = request_ctx.url_adapter
    if request.method not in ("GET", "HEAD") or path == request.path or path.startswith("//") or adapter is None:
        return None
    try:
        adapter.match(path, method="GET")
    except (HTTPException, RequestRedirect):
        return None
    query = request.query_string.decode("ascii", "ignore")
    return quote(request.script_root + path) + (f"?{query}" if query else "")


def _undashed(found: re.Match[str]) -> str:
    night = "".join(found.group(2, 3, 4))
    return f"{found[1]}/{night}" if is_night(night) else found[0]

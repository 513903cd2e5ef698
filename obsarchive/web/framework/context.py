"""The application object: Flask, with the archive it shows."""

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, cast
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, request, url_for
from flask.globals import request_ctx
from flask.json.provider import DefaultJSONProvider
from flask.typing import ResponseReturnValue
from flask_login import LoginManager

from obsarchive.config.model import Config
from obsarchive.core.archive_paths import Layout
from obsarchive.core.json_text import parse_json
from obsarchive.errors import ServiceUnavailable
from obsarchive.pipeline.chain import ChainEntry, decision_chain
from obsarchive.store import Store, outage_as_error

log = logging.getLogger(__name__)


class TolerantJson(DefaultJSONProvider):
    """JSON of requests: what is nested too deeply is as wrong as what is no JSON."""

    def loads(self, s: str | bytes, **_: Any) -> Any:
        """Return what a body holds; `ValueError` for what cannot be read."""
        return parse_json(s)


class Portal(Flask):
    """Flask with the configuration, database, layout and pipelines of one archive.

    A database that goes away while a request is served becomes `ServiceUnavailable`: nothing is shown or changed
    on a guess.
    """

    login_manager: LoginManager
    json_provider_class = TolerantJson

    def __init__(self, config: Config, store: Store, revive: Callable[[], object], **options: Any) -> None:
        super().__init__("obsarchive.web", **options)
        self.settings = config
        self.store = store
        self._revive, self._reviving = revive, threading.Lock()
        self.layout = Layout(config.paths.archive)
        self.chain: list[ChainEntry] = decision_chain(config)

    def revive_database(self) -> None:
        """Start the database again if it has ended, while this and other requests go on: there may be no daemon."""
        if self._reviving.acquire(blocking=False):
            threading.Thread(target=self._bring_back, name="database", daemon=True).start()

    def _bring_back(self) -> None:
        try:
            self._revive()
        except ServiceUnavailable as err:
            log.warning("the database cannot be started again: %s", err)
        finally:
            self._reviving.release()

    def preprocess_request(self) -> ResponseReturnValue | None:
        """Prepare every request; one whose host is no name can be given no address, hence none of the pages."""
        if request_ctx.url_adapter is None:
            return Response("the host of the request is no name\n", 400, mimetype="text/plain")
        with outage_as_error():
            return super().preprocess_request()

    def dispatch_request(self) -> ResponseReturnValue:
        """Answer a request."""
        with outage_as_error():
            return super().dispatch_request()


def full_address(endpoint: str, **values: Any) -> str:
    """Return the whole address of a page: of the configured host, else of the request's where it is this machine.

    Parameters
    ----------
    endpoint : str
        Endpoint of the page.
    **values
        Its parameters.

    Returns
    -------
    str
        The address, with scheme and host.
    """
    server = portal().settings.server
    own = server.public_url is None and names_this_machine()
    parts = urlsplit(request.host_url if own else server.address)
    return f"{parts.scheme}://{parts.netloc}{url_for(endpoint, **values)}"


def names_this_machine() -> bool:
    """Whether the request names this machine as its host: any other name was made up, or needs `public_url`."""
    host = urlsplit(request.host_url).hostname or ""
    with suppress(ValueError):
        return bool(ip_address(host))
    return host in ("localhost", socket.gethostname().lower())


def portal() -> Portal:
    """Return the application that serves the current request."""
    return cast(Portal, current_app)

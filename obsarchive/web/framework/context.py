"""The application object: Flask, with the archive it shows."""

from typing import Any, cast
from urllib.parse import urlsplit

from flask import Flask, current_app, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import LoginManager

from obsarchive.config.model import Config
from obsarchive.core.archive_paths import Layout
from obsarchive.pipeline.chain import ChainEntry, decision_chain
from obsarchive.store import Store, outage_as_error


class Portal(Flask):
    """Flask with the configuration, database, layout and pipelines of one archive.

    A database that goes away while a request is served becomes `ServiceUnavailable`: nothing is shown or changed
    on a guess.
    """

    login_manager: LoginManager

    def __init__(self, config: Config, store: Store, **options: Any) -> None:
        super().__init__("obsarchive.web", **options)
        self.settings = config
        self.store = store
        self.layout = Layout(config.paths.archive)
        self.chain: list[ChainEntry] = decision_chain(config)

    def preprocess_request(self) -> ResponseReturnValue | None:
        """Do what stands before every view."""
        with outage_as_error():
            return super().preprocess_request()

    def dispatch_request(self) -> ResponseReturnValue:
        """Answer a request."""
        with outage_as_error():
            return super().dispatch_request()


def full_address(endpoint: str, **values: Any) -> str:
    """Return the whole address of a page, as the configuration names the portal, whatever the request claims."""
    parts = urlsplit(portal().settings.server.public_url or request.host_url)
    return f"{parts.scheme}://{parts.netloc}{url_for(endpoint, **values)}"


def portal() -> Portal:
    """Return the application that serves the current request."""
    return cast(Portal, current_app)

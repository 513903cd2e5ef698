"""``obsarchive serve``: the portal; and what gunicorn serves, ``obsarchive.cli.portal:app``."""

import atexit
import gc
import os
import signal
import sys
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from werkzeug.serving import make_server

from obsarchive.accounts import users as accounts
from obsarchive.config.loading import load
from obsarchive.config.model import Server
from obsarchive.core import logs
from obsarchive.database.connect import open_database
from obsarchive.errors import ConfigError
from obsarchive.web import Portal, create_app

LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what people write
"""Where this machine finds a portal that listens to all of its addresses."""
ANSWER_S = 5.0
"""A page that waits longer for the database says so instead."""


def run(options: Namespace) -> int:
    """Run the development server until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    portal = open_portal(options.config)
    if not options.no_link and accounts.setup_needed(portal.store.users):
        sys.stderr.write(f"set-up link (works once): {accounts.setup_link(portal.settings, portal.store.users)}\n")
    settings = portal.settings.server
    server = make_server(settings.host, settings.port, portal, threaded=True)
    sys.stderr.write(f"the portal is at {address(settings, server.port)} (Ctrl-C stops it)\n")
    server.serve_forever()
    return 0


def address(settings: Server, port: int) -> str:
    """Return where a browser finds the portal.

    Parameters
    ----------
    settings : Server
        The section of the configuration.
    port : int
        The port that it listens to, also where the configuration leaves it to the system.

    Returns
    -------
    str
    """
    if settings.public_url:
        return settings.address
    local = settings.model_copy(update={"host": LOOPBACK.get(settings.host, settings.host), "port": port}).address
    return f"{local}, and by the names of this machine" if settings.host in LOOPBACK else local


GARBAGE = 50_000
"""New objects after which Python looks for those that only refer to each other: more often costs a tenth of a page."""


def open_portal(path: Path | str) -> Portal:
    """Make the portal of a configuration; its database stays open as long as the process runs."""
    settings = load(path)
    logs.set_up(settings.paths.logs, "portal", settings.daemon.logging_level)
    resources = ExitStack()
    atexit.register(resources.close)
    opened = resources.enter_context(open_database(settings, ANSWER_S))
    portal = create_app(settings, opened.store, opened.revive)
    gc.collect()
    gc.freeze()  # objects that live as long as the process need not be scanned while a page is served
    gc.set_threshold(GARBAGE)
    return portal


def __getattr__(name: str) -> Any:
    """Make the portal when gunicorn asks for ``app``; ``ARCHIVER_CONFIG`` names the configuration."""
    if name != "app":
        raise AttributeError(name)
    if "ARCHIVER_CONFIG" not in os.environ:
        raise ConfigError("set ARCHIVER_CONFIG to the path of the configuration file")
    globals()["app"] = open_portal(os.environ["ARCHIVER_CONFIG"])
    return globals()["app"]

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

from obsarchive.accounts import users as accounts
from obsarchive.config.loading import load
from obsarchive.core import logs
from obsarchive.database.connect import open_database
from obsarchive.errors import ConfigError
from obsarchive.web import Portal, create_app

ANSWER_S = 5.0
"""A page that waits longer for the database says so instead."""


def run(options: Namespace) -> int:
    """Run the development server until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    portal = open_portal(options.config)
    if not options.no_link and accounts.setup_needed(portal.store.users):
        sys.stderr.write(f"set-up link (works once): {accounts.setup_link(portal.settings, portal.store.users)}\n")
    portal.run(portal.settings.server.host, portal.settings.server.port, threaded=True)
    return 0


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

"""The portal: ``python server_data_archive.py config.json``, or ``gunicorn 'server_data_archive:app'``.

gunicorn finds the configuration through the environment: ``ARCHIVER_CONFIG=/path/to/config.json``.
"""

import argparse
import atexit
import gc
import os
import sys
from contextlib import ExitStack
from typing import Any

from obsarchive.accounts import users as accounts
from obsarchive.config import model
from obsarchive.core import logs
from obsarchive.database.connect import open_store
from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.web import Portal, create_app


def open_portal(path: str) -> Portal:
    """Make the portal of a configuration; its database stays open as long as the process lives."""
    settings = model.load(path)
    logs.set_up(settings.paths.logs, "portal", settings.misc.logging_level)
    resources = ExitStack()
    atexit.register(resources.close)
    portal = create_app(settings, resources.enter_context(open_store(settings)))
    gc.collect()
    gc.freeze()  # what lives as long as the process need not be looked through while somebody waits for a page
    return portal


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    if "ARCHIVER_CONFIG" not in os.environ:
        raise ConfigError("set ARCHIVER_CONFIG to the path of the configuration file")
    globals()["app"] = open_portal(os.environ["ARCHIVER_CONFIG"])
    return globals()["app"]


def main() -> int:
    """Run the development server; returns the exit code."""
    parser = argparse.ArgumentParser(description="Serve the portal (production: gunicorn 'server_data_archive:app').")
    parser.add_argument("config", help="configuration file (see the shipped config.json)")
    parser.add_argument("--no-link", action="store_true", help="do not print a set-up link for the first administrator")
    options = parser.parse_args()
    try:
        portal = open_portal(options.config)
        if not options.no_link and accounts.setup_needed(portal.store.users):
            sys.stderr.write(f"set-up link (works once): {accounts.setup_link(portal.settings, portal.store.users)}\n")
    except ArchiveError as err:
        sys.stderr.write(f"portal: {err}\n")
        return err.exit_code
    portal.run(portal.settings.server.host, portal.settings.server.port, threaded=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

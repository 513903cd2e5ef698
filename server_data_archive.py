"""The portal: ``python server_data_archive.py config.json``, or ``gunicorn 'server_data_archive:app'``.

gunicorn finds the configuration through the environment: ``ARCHIVER_CONFIG=/path/to/config.json``.
"""

import importlib
import sys
from typing import Any


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    return importlib.import_module("obsarchive.cli.portal").app


if __name__ == "__main__":
    from obsarchive.cli.main import portal

    sys.exit(portal())

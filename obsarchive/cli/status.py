"""``obsarchive status``: what the daemon does."""

import json
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from obsarchive.cli.console import configure, say
from obsarchive.errors import ArchiveError


def run(options: Namespace) -> int:
    """Print the state of the daemon, or the address of its database."""
    config = configure(options)
    if options.uri:
        from obsarchive.database.connect import open_database  # late: only this option needs the database

        with open_database(config) as opened:
            say(f"{opened.uri}\n")
        return 0
    path = config.paths.logs / "status.json"
    try:
        text = path.read_text()
    except OSError as err:
        raise ArchiveError(f"{path}: no status: the daemon has not run with this configuration yet") from err
    say(text + "\n" if options.json else _in_words(json.loads(text)))
    return 0


def _in_words(status: Mapping[str, Any]) -> str:
    daemon = f"run {status['run'][:8]}, process {status['pid']} on {status['host']}"
    return "".join(
        (
            f"{status['state']} ({daemon}, {status['updated']})\n",
            *(
                f"  {task['subject']} {task['step']}: {task['fraction']:.0%} {task['text']}, {task['seconds']:.0f} s\n"
                for task in status["running"]
            ),
            *(
                f"  {error['when']} {error['subject']} {error['step']}: {error['message']}\n"
                for error in status["last_errors"][:5]
            ),
        )
    )

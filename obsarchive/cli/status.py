"""``obsarchive status``: what the daemon does, or how the steps of an observation or night ended."""

import json
import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obsarchive.cli.console import configure, say
from obsarchive.core.values import as_mapping
from obsarchive.errors import ArchiveError, ConfigError

if TYPE_CHECKING:
    from obsarchive.store import Store


def run(options: Namespace) -> int:
    """Print the state of the daemon, the steps of an observation or night, or the address of the database."""
    try:
        config = configure(options)
    except ConfigError:
        folder = _logs_of(Path(options.config))
        if folder and not options.subject and not options.uri:
            say(_report(folder, as_json=options.json))  # a daemon that runs still uses what the file said before
        raise
    if options.subject:
        from obsarchive.database.connect import open_store  # late: only some options need the database

        with open_store(config) as store:
            say(_steps_in_words(options.subject, store))
        return 0
    if options.uri:
        from obsarchive.database.connect import open_database  # late: only this option needs the database

        with open_database(config) as opened:
            say(f"{opened.uri}\n")
        return 0
    say(_report(config.paths.logs, as_json=options.json))
    return 0


def _report(folder: Path, *, as_json: bool) -> str:
    """Return what the daemon reported last."""
    path = folder / "status.json"
    try:
        text = path.read_text()
    except OSError as err:
        raise ArchiveError(f"{path}: no status: the daemon has not run with this configuration yet") from err
    return text + "\n" if as_json else _in_words(json.loads(text))


def _logs_of(file: Path) -> Path | None:
    """Return the folder of logs that a configuration names which cannot be used, if that much can be read."""
    try:
        found = re.search(r'"logs"\s*:\s*("(?:[^"\\]|\\.)*")', file.read_text())
        return file.parent / json.loads(found[1]) if found else None
    except (OSError, ValueError):
        return None


def _steps_in_words(subject: str, store: "Store") -> str:
    """Return a line for each step with its state and reason; of a night, also for each raw file not understood."""
    from obsarchive.core.documents import Night, Observation
    from obsarchive.names import is_night

    document = store.nights.find(subject) if is_night(subject) else store.observations.find(subject)
    if document is None:
        raise ConfigError(f"there is no observation or night {subject!r} in the database")
    found = Night(document) if is_night(subject) else Observation(document)
    records = document if is_night(subject) else as_mapping(document.get("pipelined"))
    lines = [
        f"{pipeline}:{name}\t{record.state}\t{record.message}".rstrip() + "\n"
        for pipeline in records
        for name, record in found.pipeline(pipeline).steps().items()
    ]
    problems = found.problems() if isinstance(found, Night) else []
    lines += [f"raw files:{problem.name}\tnot understood\t{problem.reason}\n" for problem in problems]
    return "".join(lines) or f"{subject}: no step has begun\n"


def _in_words(status: Mapping[str, Any]) -> str:
    daemon = f"run {status['run'][:8]}, process {status['pid']} on {status['host']}"
    return "".join(
        (
            f"{status['state']} ({daemon}, {status['updated']})\n",
            *(
                ["  the changed configuration is not used: ", status["configuration"], "\n"]
                if status.get("configuration")
                else ()
            ),
            *(["  no new work: ", status["lacks_space"], "\n"] if status.get("lacks_space") else ()),
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

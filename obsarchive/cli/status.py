"""``obsarchive status``: what the daemon does, or how the steps of an observation or night ended."""

import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obsarchive.cli import daemon_reasons
from obsarchive.cli.console import configure, say
from obsarchive.config.loading import load
from obsarchive.config.model import Config
from obsarchive.core.json_text import parse_json
from obsarchive.core.values import as_mapping, as_mappings
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
            say(_in_form(*_report(folder), as_json=options.json))  # a daemon that runs uses what the file said before
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
    text, status = _report(config.paths.logs, config)
    say(_in_form(text, status, as_json=options.json))
    if not options.json:
        say(_reasons(config, status))
    return 0


def _in_form(text: str, status: Mapping[str, Any], *, as_json: bool) -> str:
    return text + "\n" if as_json else _in_words(status)


def _report(folder: Path, config: Config | None = None) -> tuple[str, Mapping[str, Any]]:
    """Return what the daemon reported last, as text and as read; or raise, with why it did not start."""
    path = folder / "status.json"
    try:
        text = path.read_text()
        status = as_mapping(parse_json(text))
    except OSError as err:
        if config and (since := daemon_reasons.starting(config)):
            raise ArchiveError(f"{path}: no status yet: the daemon is starting, {since}") from err
        when, why = daemon_reasons.failed_start(config) if config else ("", "")
        if why:
            raise ArchiveError(f"{path}: no status: the daemon did not start at {when}: {why}") from err
        raise ArchiveError(f"{path}: no status: the daemon has not run with this configuration yet") from err
    except ValueError as err:
        raise ArchiveError(f"{path}: damaged: {err}; a daemon that runs writes it anew") from err
    return text, status


def _logs_of(file: Path) -> Path | None:
    """Return the folder of logs that a configuration names which cannot be used, if that much can be read."""
    try:
        found = re.search(r'"logs"\s*:\s*("(?:[^"\\]|\\.)*")', file.read_text())
        return file.parent / str(parse_json(found[1])) if found else None
    except (OSError, ValueError):
        return None


def _reasons(config: Config, status: Mapping[str, Any]) -> str:
    """Return why work waits or failed, and what to do about it; empty if none does."""
    found = list(daemon_reasons.of_daemon(config, status))
    alive = daemon_reasons.is_alive(status)
    if alive or config.database.mode == "external":
        try:
            found += _reasons_of_steps(config)
        except ConfigError as err:
            if not alive:
                found[0] = daemon_reasons.not_startable(config, str(err))
            elif not status.get("configuration"):  # a daemon that read it has said so
                action = "mend what this names: a restart of the daemon and new workers need it"
                found.append(daemon_reasons.Reason("the configuration cannot be used", str(err), action))
    return "".join(["what waits or failed, and what to do:\n", *map(str, found)]) if found else ""


def _reasons_of_steps(config: Config) -> list[daemon_reasons.Reason]:
    """Return why steps wait or failed; from the database, which an embedded one must not be started for."""
    from obsarchive.cli import step_reasons  # late: the other forms of the command need no pipelines
    from obsarchive.database.connect import open_store

    return step_reasons.of_steps(load(config.source), open_store)


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
    calibration = found.pipeline("calib").steps().items() if isinstance(found, Night) else ()
    for name, record in calibration:
        short, unused = (as_mappings(record.results.get(key)) for key in ("short", "excluded"))
        lines += [f"calib:{name}:{item.get('key')}\tno own master\t{item.get('reason')}\n" for item in short]
        lines += [f"raw files:{item.get('file')}\tnot used\t{item.get('reason')}\n" for item in unused]
    problems = found.problems() if isinstance(found, Night) else []
    lines += [f"raw files:{problem.name}\tnot understood\t{problem.reason}\n" for problem in problems]
    return "".join(lines) or f"{subject}: no step has begun\n"


def _in_words(status: Mapping[str, Any]) -> str:
    run, pid, host, updated = (status.get(key, "?") for key in ("run", "pid", "host", "updated"))
    return "".join(
        (
            f"{status.get('state', 'no state')} (run {str(run)[:8]}, process {pid} on {host}, {updated})\n",
            *(
                f"  {task['subject']} {task['step']}: {task['fraction']:.0%} {task['text']}, {task['seconds']:.0f} s\n"
                for task in as_mappings(status.get("running"))
            ),
            *(
                f"  {error['when']} {error['subject']} {error['step']}: {error['message']}\n"
                for error in as_mappings(status.get("last_errors"))[:5]
            ),
        )
    )

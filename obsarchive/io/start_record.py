"""The start of the daemon, which others see before it has opened its database and reports there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from obsarchive.core.documents import utc_now
from obsarchive.core.json_text import parse_json
from obsarchive.core.processes import has_ended, start_of, this_process
from obsarchive.core.values import as_mapping
from obsarchive.errors import DISK_ERRORS
from obsarchive.io.atomic import atomic_write


@contextmanager
def noted_start(path: Path) -> Iterator[None]:
    """Keep a note, while the block runs, that this process is the daemon; a disk that fails is not in its way.

    That of another process that runs stays: one of the two will be refused, and is not the one that came first.

    Parameters
    ----------
    path : Path
        The note: :attr:`.Layout.start_record`.
    """
    note = json.dumps({**this_process(), "noted": utc_now().isoformat()}).encode()
    with suppress(*DISK_ERRORS):
        if starting_since(path, None) is None:
            atomic_write(path, note)
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_bytes() == note:
                path.unlink()


def starting_since(path: Path, last_report: datetime | None) -> datetime | None:
    """Return when the daemon was started that has not reported yet, as far as can be seen from here.

    Parameters
    ----------
    path : Path
        The note of :func:`noted_start`.
    last_report : datetime or None
        The last report of a daemon (UTC): if it is later than the note, the daemon has started.

    Returns
    -------
    datetime or None
        UTC; None if no daemon is starting.
    """
    try:
        process = as_mapping(parse_json(path.read_text()))
        noted = datetime.fromisoformat(str(process.get("noted")))
        is_reported = last_report is not None and last_report >= noted
        return None if is_reported or has_ended(process, noted) else start_of(process)
    except (OSError, TypeError, ValueError, LookupError):
        return None  # no note, or none that can be understood

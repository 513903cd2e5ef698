"""What the daemon does, as far as the portal can see."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from obsarchive.core.causes import SILENCE
from obsarchive.core.documents import utc_now
from obsarchive.io.start_record import starting_since
from obsarchive.store import Document
from obsarchive.web.framework.context import portal

STARTING = "starting"
DOWN = ("not running", "stopped")
"""States in which no daemon works."""


def daemon_report() -> Document:
    """Return what the daemon reported last; of one that has not come to its first report, that it is starting."""
    found = portal().store.jobs.daemon() or {}
    if daemon_state(found) in DOWN:
        last = found.get("updated")
        since = starting_since(portal().layout.start_record, last if isinstance(last, datetime) else None)
        if since is not None:
            return {"state": STARTING, "started": since, "updated": utc_now()}
    return found


def daemon_state(report: Mapping[str, Any] | None) -> str:
    """Return the state of the daemon, in one word or two."""
    if not report or not isinstance(report.get("updated"), datetime):
        return "not running"
    if utc_now() - report["updated"] > SILENCE:
        return "not running"
    return str(report.get("state") or "working")

"""Requests of users: the portal records them; the daemon alone applies them and changes documents."""

from typing import Any, Literal

from flask_login import current_user

from obsarchive.store import Document
from obsarchive.web.framework.authorization import audit
from obsarchive.web.framework.context import portal


def submit(kind: str, **what: str) -> bool:
    """Record a request of the user for the daemon.

    Parameters
    ----------
    kind : str
        Kind of the request, such as ``"redo"``.
    **what : str
        What it is about; empty values do not count.

    Returns
    -------
    bool
        False when the same request waits already.
    """
    given = {key: value for key, value in what.items() if value}
    audit(kind, **given)
    return portal().store.requests.ask(kind, current_user.name, given)


def is_known(scope: Literal["observation", "night"], pipeline: str, step: str = "") -> bool:
    """Return whether the configuration has a pipeline, and a step of it.

    Parameters
    ----------
    scope : {"observation", "night"}
        What the pipeline works on.
    pipeline : str
        Its name.
    step : str, optional
        Name of a step.

    Returns
    -------
    bool
        Whether both exist.
    """
    known = {link.pipeline.name: link.pipeline for link in portal().chain if link.pipeline.scope == scope}
    return pipeline in known and (not step or step in known[pipeline].steps)


def waiting_redos(subject: str) -> set[tuple[str, str]]:
    """Return pipelines and steps (empty: the whole) of an observation or night whose redo waits for the daemon."""
    found = [entry["what"] for entry in portal().store.requests.waiting() if entry["kind"] == "redo"]
    return {(what.get("pipeline", ""), what.get("step", "")) for what in found if what.get("subject") == subject}


def last_rejection(kind: str, **what: Any) -> Document | None:
    """Return the latest request of a kind about something, if the daemon rejected it.

    Parameters
    ----------
    kind : str
        Kind of the request.
    **what
        What it is about.

    Returns
    -------
    dict or None
        The request, with the reason under ``problem``.
    """
    latest = next(iter(portal().store.requests.about(kind, **what)), None)
    return latest if latest and latest.get("problem") else None

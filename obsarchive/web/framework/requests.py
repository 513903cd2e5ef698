"""Requests of users: the portal notes them; the daemon applies them and alone changes documents."""

from typing import Any, Literal

from flask_login import current_user

from obsarchive.store import Document
from obsarchive.web.framework.authorization import audit
from obsarchive.web.framework.context import portal


def submit(kind: str, **what: str) -> bool:
    """Note a wish of the user; False when the same one waits already."""
    said = {key: value for key, value in what.items() if value}
    audit(kind, **said)
    return portal().store.requests.ask(kind, current_user.name, said)


def is_known(scope: Literal["observation", "night"], pipeline: str, step: str = "") -> bool:
    """Whether the configuration has a pipeline, and a step of it."""
    known = {link.pipeline.name: link.pipeline for link in portal().chain if link.pipeline.scope == scope}
    return pipeline in known and (not step or step in known[pipeline].steps)


def waiting_redos(subject: str) -> set[tuple[str, str]]:
    """Pipelines and steps (empty: the whole) of an observation or night that the daemon is still to do again."""
    found = [asked["what"] for asked in portal().store.requests.waiting() if asked["kind"] == "redo"]
    return {(what.get("pipeline", ""), what.get("step", "")) for what in found if what.get("subject") == subject}


def last_refusal(kind: str, **what: Any) -> Document | None:
    """Return the latest request of a kind about something, if the daemon rejected it."""
    latest = next(iter(portal().store.requests.about(kind, **what)), None)
    return latest if latest and latest.get("problem") else None

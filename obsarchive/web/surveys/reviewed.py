"""What people decided about sources with events: as a user may read it, and written."""

from dataclasses import replace
from typing import Any

from flask import abort
from flask_login import current_user

from obsarchive.store import Decision
from obsarchive.store.decisions import STATES, Pair
from obsarchive.web.framework.authorization import audit
from obsarchive.web.framework.context import portal
from obsarchive.web.models.observation_json import plain
from obsarchive.web.surveys.source_view import SourceView

MAX_TEXT = 1000


def readable(texts: dict[Pair, str]) -> dict[Pair, str]:
    """Return texts of decisions without names of observations of other programmes."""
    shown = portal().store.browse.without_others(current_user.document, list(texts.values()))
    return dict(zip(texts, shown, strict=True))


def decision_on(view: SourceView) -> Decision:
    """Return the decision about a source, with earlier versions, as the user may read it."""
    found = portal().store.decisions.find(view.run, view.name)
    texts = [found.text, *(before.text for before in found.earlier)]
    text, *earlier = portal().store.browse.without_others(current_user.document, texts)
    before = tuple(replace(one, text=was) for one, was in zip(found.earlier, earlier, strict=True))
    return replace(found, text=text, earlier=before)


def checked(verdict: object, text: object, version: object) -> Decision:
    """Return a decision of the user with what was sent, or abort with 400 and the reason."""
    if verdict not in STATES:
        abort(400, f"verdict: one of {', '.join(STATES)}")
    if not isinstance(text, str | None) or "\0" in (text or "") or len(text or "") > MAX_TEXT:
        abort(400, f"text: at most {MAX_TEXT} characters")
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version < 2**31:
        abort(400, "version: the number of the version that was read, 0 where there was none")
    plain_text = " ".join((text or "").split())
    return Decision(str(verdict), plain_text, current_user.name, version=version)


def write(view: SourceView, decision: Decision) -> Decision | None:
    """Write a decision about a source of a project; None if another user decided since the author read it."""
    if not view.run:
        abort(400, "project: the source belongs to no project")
    peaks = tuple(float(event["mjd_peak"]) for event in view.detections if isinstance(event.get("mjd_peak"), float))
    kept = portal().store.decisions.write(view.run, view.name, replace(decision, peaks=peaks))
    if kept is not None:
        audit("decision", source=view.name, project=view.run, verdict=kept.verdict, version=str(kept.version))
    return kept


def decision_json(found: Decision) -> dict[str, Any]:
    """Describe a decision with its earlier versions."""
    about = {"verdict": found.verdict, "text": found.text, "author": found.author, "version": found.version}
    return {**about, "written": plain(found.written), "earlier": [decision_json(before) for before in found.earlier]}

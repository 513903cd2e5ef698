"""Notes on the quality of an observation, of a night, or of all that a search found."""

from typing import Any

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.core.documents import Observation
from obsarchive.store import Note
from obsarchive.store.notes import QUALITIES, subject_of_night
from obsarchive.store.search import Order
from obsarchive.web.framework.authorization import audit
from obsarchive.web.framework.context import portal
from obsarchive.web.models.cards import find_card, find_night
from obsarchive.web.models.user_notes import note_on, who_changed
from obsarchive.web.pages.search import MOST_MARKED, understood

MAX_TEXT = 2000

bp = Blueprint("notes", __name__)


def checked(quality: object, text: object, version: object = 0) -> Note:
    """Return a note of the user with what was sent, or abort with 400 and the reason.

    Parameters
    ----------
    quality, text, version : object
        What was sent.

    Returns
    -------
    Note
    """
    if quality not in (*QUALITIES, "", None):
        abort(400, f"quality: one of {', '.join(QUALITIES)}, or empty")
    if not isinstance(text, str | None) or "\0" in (text or "") or len(text or "") > MAX_TEXT:
        abort(400, f"text: at most {MAX_TEXT} characters")
    plain = (text or "").replace("\r\n", "\n").strip()
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version < 2**31:
        abort(400, "version: the number of the version that was read, 0 where there was none")
    return Note(str(quality or ""), plain, current_user.name, version=version)


def _sent() -> Note:
    version = request.form.get("version", "0")
    number = int(version) if version.isdecimal() and len(version) < 10 else -1
    return checked(request.form.get("quality"), request.form.get("text"), number)


def write_on_observation(found: Observation, note: Note) -> Note | None:
    """Write a note on an observation; None if it was written since the author read it."""
    kept = portal().store.notes.write(found.id, found.night, note)
    if kept is not None:
        audit("note", observation=found.id, quality=note.quality, version=str(kept.version))
    return kept


def mark(found: dict[str, str], note: Note, where: str) -> int:
    """Write the same note on many observations; return their number.

    Parameters
    ----------
    found : dict of str to str
        Nights of the observations by their names.
    note : Note
        The note; an empty text leaves the texts that there are.
    where : str
        How they were chosen, for the audit log.
    """
    count = portal().store.notes.mark(found, note.quality, note.text, note.author)
    audit("note", selection=where[:500], count=str(count), quality=note.quality)
    return count


def _conflict(subject: str, action: str, back: str, sent: Note) -> ResponseReturnValue:
    """Show what was written meanwhile beside what was sent."""
    now = note_on(subject)
    options = {"action": action, "back": back, "qualities": QUALITIES}
    return render_template("note.html", now=now, sent=sent, changed=who_changed(now), **options), 409


@bp.post("/observation/<obs_id>/note")
def on_observation(obs_id: str) -> ResponseReturnValue:
    """Write a note on an observation."""
    found, sent = find_card(obs_id).observation, _sent()
    back = url_for("observations.observation", obs_id=obs_id, _anchor="note")
    if write_on_observation(found, sent) is None:
        return _conflict(obs_id, url_for(".on_observation", obs_id=obs_id), back, sent)
    return redirect(back)


@bp.post("/night/<night>/note")
def on_night(night: str) -> ResponseReturnValue:
    """Write a note on a night, which everybody with data in it reads; other users write on their observations of it."""
    find_night(night)
    sent, subject, back = _sent(), subject_of_night(night), url_for("nights.night", night=night)
    if not current_user.is_admin:
        found = portal().store.browse.of_night(current_user.document, night)
        count = mark({each.id: each.night for each in found}, sent, f"night {night}")
        flash(f"The note was written on your {count} observation{'' if count == 1 else 's'} of this night.")
        return redirect(back)
    kept = portal().store.notes.write(subject, night, sent)
    if kept is None:
        return _conflict(subject, url_for(".on_night", night=night), back, sent)
    audit("note", night=night, quality=sent.quality, version=str(kept.version))
    return redirect(back)


@bp.post("/search/note")
def on_selection() -> ResponseReturnValue:
    """Write the same note on all results of a search."""
    wanted, sent = understood(), _sent()
    if not sent.quality and not sent.text:
        abort(400, "choose a quality, or write a text")
    browse, me = portal().store.browse, current_user.document
    found = {each.id: each.night for each in browse.stream(me, wanted.criteria, Order(), MOST_MARKED + 1)}
    if len(found) > MOST_MARKED:
        abort(400, f"at most {MOST_MARKED} observations at once: narrow the search")
    count = mark(found, sent, request.query_string.decode("ascii", "replace"))
    flash(f"The note was written on {count} observation{'' if count == 1 else 's'}.")
    kept: dict[str, Any] = {name: values for name, values in request.args.lists() if name != "cursor"}
    return redirect(url_for("search.search", **kept))

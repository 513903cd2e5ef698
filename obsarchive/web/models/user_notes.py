"""Notes of people as a user may read them: without names of observations of other programmes."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from flask_login import current_user

from obsarchive.store.notes import Note
from obsarchive.web.framework.context import portal


def notes_of(subjects: Iterable[str]) -> dict[str, Note]:
    """Return the notes on observations that the user may see, and on nights.

    Parameters
    ----------
    subjects : iterable of str
        Names of the observations, or `subject_of_night`.

    Returns
    -------
    dict of str to Note
        Those that there are, without earlier versions.
    """
    return _as_readable(portal().store.notes.of(subjects))


def note_on(subject: str) -> Note:
    """Return the note on an observation that the user may see, or on a night, with its earlier versions."""
    return _as_readable({subject: portal().store.notes.find(subject)})[subject]


def who_changed(now: Note) -> str:
    """Say who wrote a note since the user read it."""
    if now.author == current_user.name:
        return "you changed this note meanwhile, elsewhere"
    return "another user wrote this note meanwhile"


def _as_readable(found: Mapping[str, Note]) -> dict[str, Note]:
    texts = {subject: [note.text, *(before.text for before in note.earlier)] for subject, note in found.items()}
    shown = portal().store.browse.without_others(current_user.document, texts)
    return {subject: _with_texts(found[subject], *kept) for subject, kept in shown.items()}


def _with_texts(note: Note, text: str, *earlier: str) -> Note:
    before = tuple(replace(old, text=was) for old, was in zip(note.earlier, earlier, strict=True))
    return replace(note, text=text, earlier=before)

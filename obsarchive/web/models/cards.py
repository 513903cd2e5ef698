"""Observations and nights that the user may see, as pages show them."""

from collections.abc import Iterable, Mapping

from flask_login import current_user

from obsarchive.core.document_paths import result_path
from obsarchive.core.documents import Night, Observation
from obsarchive.names import is_night
from obsarchive.store import Document, Note
from obsarchive.store.notes import NO_NOTE, subject_of_night
from obsarchive.web.framework.authorization import not_found
from obsarchive.web.framework.context import portal
from obsarchive.web.models.pipeline_views import PipelineView, pipelines_of, running
from obsarchive.web.models.user_notes import notes_of
from obsarchive.web.models.view_models import Card

MAX_RUNNING = 1000

UnderWay = Mapping[tuple[str, str, str], Document]
"""Attempts that run or are queued, by subject, pipeline and step."""


def under_way() -> UnderWay:
    """Return what runs or is queued just now."""
    return running(portal().store.jobs.recent("enqueued", MAX_RUNNING))


def notes_on(observations: Iterable[Observation]) -> dict[str, Note]:
    """Return the notes on observations and on their nights."""
    known = list(observations)
    nights = {subject_of_night(found.night) for found in known}
    return notes_of([*(found.id for found in known), *nights])


def card_of(found: Observation, jobs: UnderWay, notes: Mapping[str, Note] | None = None) -> Card:
    """Return the card of an observation.

    Parameters
    ----------
    found : Observation
        The observation.
    jobs : UnderWay
        What the daemon runs now.
    notes : mapping of str to Note, optional
        Notes of people, as `notes_on` returns them.

    Returns
    -------
    Card
        The observation with its pipelines.
    """
    pipelines, known = tuple(pipelines_of(found, portal().chain, portal().layout, jobs)), notes or {}
    return Card(found, pipelines, known.get(found.id, NO_NOTE), known.get(subject_of_night(found.night), NO_NOTE))


def cards_of(observations: Iterable[Observation]) -> list[Card]:
    """Return observations as the night page shows them, with what runs just now and what people noted."""
    known, jobs = list(observations), under_way()
    notes = notes_on(known)
    return [card_of(found, jobs, notes) for found in known]


def cards_of_night(night: str) -> list[Card]:
    """Return the observations of a night, in the order of time, without contrast curves, which only plots show."""
    curves = [result_path(link.pipeline.name, "pca", "curve") for link in portal().chain]
    return cards_of(portal().store.browse.of_night(current_user.document, night, without=curves))


def find_card(obs_id: str) -> Card:
    """Return an observation that the user may see, or abort with 404."""
    found = portal().store.browse.observation(current_user.document, obs_id)
    if found is None:
        not_found()
    return card_of(found, under_way(), notes_on([found]))


def find_night(night: str) -> Night:
    """Return a night in which the user has data, or abort with 404."""
    found = portal().store.browse.night(current_user.document, night) if is_night(night) else None
    if found is None:
        not_found()
    return found


def night_pipelines(found: Night | None) -> list[PipelineView]:
    """Return the pipelines of a night that ran; none of a night that the database does not know."""
    views = pipelines_of(found, portal().chain, portal().layout, under_way()) if found else []
    return [view for view in views if view.record.document]

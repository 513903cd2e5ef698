"""Observations and nights that whoever asks may see, as pages show them."""

from collections.abc import Iterable, Mapping

from flask_login import current_user

from obsarchive.core.documents import Night, Observation
from obsarchive.names import is_night
from obsarchive.store import Document
from obsarchive.web.framework.authorization import not_found
from obsarchive.web.framework.context import portal
from obsarchive.web.models.view_models import Card, pipelines_of, running

MAX_RUNNING = 1000

UnderWay = Mapping[tuple[str, str, str], Document]
"""Attempts that run or are queued, by subject, pipeline and step."""


def under_way() -> UnderWay:
    """Return what runs or is queued just now."""
    return running(portal().store.jobs.recent("enqueued", MAX_RUNNING))


def card_of(found: Observation, jobs: UnderWay) -> Card:
    """Return an observation as the light table shows it."""
    return Card(found, tuple(pipelines_of(found, portal().chain, portal().layout, jobs)))


def cards_of(observations: Iterable[Observation]) -> list[Card]:
    """Return observations as the light table shows them, with what runs just now."""
    jobs = under_way()
    return [card_of(found, jobs) for found in observations]


def find_card(obs_id: str) -> Card:
    """Return an observation that the asking user may see, or end with 404."""
    found = portal().store.browse.observation(current_user.document, obs_id)
    if found is None:
        not_found()
    return card_of(found, under_way())


def find_night(night: str) -> Night:
    """Return a night in which the asking user has data, or end with 404."""
    found = portal().store.browse.night(current_user.document, night) if is_night(night) else None
    if found is None:
        not_found()
    return found

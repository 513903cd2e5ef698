"""Citations of observations, and the rule by which they become public, as the present portal has them."""

from collections.abc import Iterable

from obsarchive.core.citation import Citation
from obsarchive.core.documents import Observation
from obsarchive.core.release import Programme, Release
from obsarchive.web.framework.context import portal
from obsarchive.web.models.view_models import Card


def release() -> Release:
    """Return the rule by which observations of this archive become public.

    A database that lost the entries of programmes, until the journal brings them back, makes nothing public.
    """
    if portal().store.people.is_wiped():
        return Release()
    return portal().store.programmes.release(portal().settings.release.months)


def citation(observation: Observation) -> Citation:
    """Return how to cite an observation."""
    programme = portal().store.programmes.find(observation.program)
    return portal().settings.publisher.cite(observation, programme, release())


def place_of(observation: Observation) -> tuple[float, float] | None:
    """Return latitude and longitude of the telescope of an observation, if they are configured [deg]."""
    telescope = portal().settings.telescope.get(str(observation.document.get("telescope") or ""))
    return telescope.place_deg if telescope else None


def citation_texts(cards: Iterable[Card]) -> list[str]:
    """Return the texts that lie beside the products of some observations."""
    known, rule, publisher = portal().store.programmes.all(), release(), portal().settings.publisher
    seen = [card.observation for card in cards]
    of = {found.program: known.get(found.program) or Programme(found.program) for found in seen}
    return [publisher.cite(found, of[found.program], rule).text() for found in seen]

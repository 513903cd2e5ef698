"""Observations of one target, whatever name they were entered by."""

from collections.abc import Mapping, Sequence
from typing import Any

from obsarchive.core import document_paths as paths
from obsarchive.core.documents import Observation
from obsarchive.store.portal_queries import Browse
from obsarchive.store.search import TIME_LIMIT_MS, Cone, Criteria, Order

MOST_EPOCHS, MOST_PLACES = 500, 20
_ORDER = Order("date_utc", descending=True)


def epochs(
    browse: Browse, user: Mapping[str, Any], name: str, radius_deg: float, place: Cone | None = None
) -> list[Observation]:
    """Return the observations of a target that a user may see, the newest first.

    They have the name, or lie where observations of that name do: a star may have been entered by several names.

    Parameters
    ----------
    browse : Browse
        Observations as users see them.
    user : mapping
        Document of the user.
    name : str
        Name of the target, in any spelling.
    radius_deg : float
        How far apart observations of one target lie at most [deg].
    place : Cone, optional
        Where the target lies, if the name says so.

    Returns
    -------
    list of Observation
        At most `MOST_EPOCHS`.
    """
    named = _found(browse, user, Criteria(name=name, exact=True))
    cones = _cones(named, radius_deg) if named else [place] if place is not None else []
    near = _found(browse, user, Criteria(targets=cones)) if cones and radius_deg > 0 else []
    all_found = {observation.id: observation for observation in (*named, *near)}
    return sorted(all_found.values(), key=lambda found: (found.date_utc, found.id), reverse=True)[:MOST_EPOCHS]


def _found(browse: Browse, user: Mapping[str, Any], criteria: Criteria) -> Sequence[Observation]:
    found = browse.stream(user, criteria, _ORDER, MOST_EPOCHS, time_ms=TIME_LIMIT_MS)
    return list(found)


def _cones(named: Sequence[Observation], radius_deg: float) -> list[Cone]:
    """Return regions around the places of observations, of equal ones each one."""
    places: dict[tuple[float, float], Cone] = {}
    for observation in named:
        ra, dec = observation.number(paths.RA_DEG), observation.number(paths.DEC_DEG)
        if ra is not None and dec is not None and len(places) < MOST_PLACES:
            places.setdefault((round(ra, 5), round(dec, 5)), Cone(ra, dec, radius_deg))
    return list(places.values())

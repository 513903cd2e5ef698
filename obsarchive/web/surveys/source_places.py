"""Where a target lies, by the names that surveys know it by."""

from obsarchive.core.target_names import folded
from obsarchive.store.search import Cone
from obsarchive.store.survey_queries import SourceCriteria
from obsarchive.web.framework.context import portal
from obsarchive.web.surveys.source_view import visible_runs

_MOST_LOOKED_AT = 20


def place_of(name: str) -> Cone | None:
    """Return the surroundings of a source of surveys that the user may see; None if none has this name.

    Parameters
    ----------
    name : str
        Its name, or another name of it, in the spelling of the survey or folded to the same.

    Returns
    -------
    Cone or None
        Its position, and how far from it observations of one target lie at most.
    """
    key = folded(name)
    page = portal().store.sources.page(visible_runs(), SourceCriteria(name=name), _MOST_LOOKED_AT)
    for source in page.sources if key else ():
        names = (source["_id"], *(source.get("aliases") or ()))
        if key in {folded(str(known)) for known in names}:
            radius_deg = portal().settings.server.target_radius_arcsec / 3600
            return Cone(float(source["ra_deg"]), float(source["dec_deg"]), radius_deg)
    return None

"""Sources of surveys that the user may see, and where a target lies by the names that surveys know it by."""

from flask_login import current_user

from obsarchive.core.target_names import folded
from obsarchive.store import Document
from obsarchive.store.search import Cone
from obsarchive.store.survey_queries import SourceCriteria
from obsarchive.web.framework.context import portal

_MOST_LOOKED_AT = 20


def visible_projects() -> list[Document]:
    """Return the projects that the user may see, those that run first, then the newest."""
    found = portal().store.surveys.visible_runs("all" if current_user.is_admin else current_user.programs)
    newest = sorted(found, key=lambda run: str(run.get("updated") or ""), reverse=True)
    return sorted(newest, key=lambda run: run.get("state") != "running")


def visible_runs(project: str = "") -> list[str] | None:
    """Return the projects whose sources the user may see, or the requested one; None: all, also without a project."""
    if current_user.is_admin:
        return [project] if project else None
    known = [str(run["_id"]) for run in visible_projects()]
    return [project] if project in known else [] if project else known


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

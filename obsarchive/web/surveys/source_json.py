"""Sources of surveys and projects as the interface for programs describes them."""

from collections.abc import Mapping
from typing import Any

from flask import request

from obsarchive.store import Document
from obsarchive.web.framework.context import full_address
from obsarchive.web.models.observation_json import plain
from obsarchive.web.surveys.reviewed import decision_json, decision_on
from obsarchive.web.surveys.source_view import SourceView
from obsarchive.web.surveys.sources import Row
from surveys.export import plain as plain_curve

Answer = dict[str, Any]

OF_A_PROJECT = (
    *("name", "description", "observatories", "state", "text", "progress", "reason", "updated", "n_sources"),
    *("sources", "analysed", "empty", "failed", "stale", "detections"),
)
OF_RAW = ("observatory", "state", "reason", "number", "filters", "fetched", "expires")
OF_A_CURVE = (
    *("observatory", "filter", "series_number", "series_total", "was_processed", "number", "mjd_start", "mjd_stop"),
    *("cadence_d", "is_uniform", "mag", "flux_mean", "flux_rms"),
)
OF_AN_EVENT = (
    *("observatory", "filter", "series_number", "number", "method", "score", "mjd_start", "mjd_peak", "mjd_stop"),
    *("peak_mag", "n_epochs", "width_d", "amplitude", "quality", "also_seen"),
)
OF_PROPERTIES = ("state", "reason", "stale", "has_data", "n_detections", "features", "extra", "made", "cfg_hash")


def _some(found: Mapping[str, Any], names: tuple[str, ...]) -> Answer:
    return {name: plain(found[name]) for name in names if name in found}


def project(run: Document) -> Answer:
    """Describe a project with its progress."""
    sources_url = full_address("api.sources", project=run["_id"])
    return {"project": run["_id"], **_some(run, OF_A_PROJECT), "sources_url": sources_url}


def row(found: Row) -> Answer:
    """Describe a source in short."""
    answer = {**_source(found.source), "projects": found.projects, "n_detections": found.events.count}
    answer["strongest_snr"] = found.events.strongest if found.events.count else None
    if found.distance_arcsec is not None:
        answer["distance_arcsec"] = round(found.distance_arcsec, 3)
    if found.failures:
        answer["failures"] = [{"where": where, "reason": reason} for where, reason in found.failures]
    return {**answer, "url": full_address("api.source", name=found.name)}


def _source(document: Document) -> Answer:
    return {
        "name": document["_id"],
        **_some(document, ("aliases", "ra_deg", "dec_deg", "mag", "mag_err", "mag_filter")),
    }


def source(view: SourceView) -> Answer:
    """Describe a source: what is known of it, its raw photometry, what a project made of it."""
    return {
        **_source(view.document),
        "projects": view.known,
        "project": view.run or None,
        "catalogue": plain(view.document.get("cat_row") or {}),
        "raw_photometry": [_some(found, OF_RAW) for found in view.raw],
        "lightcurves": [_some(found, OF_A_CURVE) for found in view.lightcurves],
        "detections": [_some(found, OF_AN_EVENT) for found in view.detections],
        "simulated_detections": [_some(found, OF_AN_EVENT) for found in view.simulated],
        "decision": decision_json(decision_on(view)),
        "properties": _some(view.properties, OF_PROPERTIES) if view.properties else None,
        "points": full_address("api.source_lightcurves", name=view.name, **_kept()),
        "page": full_address("sources.source", name=view.name, **_kept()),
    }


def _kept() -> dict[str, str]:
    project = request.args.get("project")
    return {"project": project} if project else {}


def curves(view: SourceView, wanted: Mapping[str, str]) -> Answer:
    """Return the light curves of a source.

    Parameters
    ----------
    view : SourceView
        The source.
    wanted : mapping of str to str
        Parameters of the request that select curves.

    Returns
    -------
    dict
        Points of the curves, and problems with those that cannot be read.
    """
    found = view.curves(wanted)
    return {
        "name": view.name,
        "project": view.run or None,
        "lightcurves": [plain_curve(curve) for curve in found.good],
        "problems": found.problems,
    }

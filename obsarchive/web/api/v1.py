"""The interface for programs, version 1: JSON of what the pages show, with the same permissions."""

from typing import Any

from flask import Blueprint, abort, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.names import is_night
from obsarchive.web.framework import requests
from obsarchive.web.framework.authorization import admin_only, for_tokens, not_found
from obsarchive.web.framework.context import full_address, portal
from obsarchive.web.framework.parameters import refuse, unknown_parameters
from obsarchive.web.models import observation_json, openapi, search_form, target_json
from obsarchive.web.models.cards import cards_of, find_card, find_night
from obsarchive.web.models.columns import columns
from obsarchive.web.models.night_facts import contrast_curve, night_facts
from obsarchive.web.models.user_notes import note_on, who_changed
from obsarchive.web.models.visible_sources import visible_projects
from obsarchive.web.pages import datasets, jobs, notes, psf_library
from obsarchive.web.pages.search import MOST_MARKED, cards, page_of, understood, without_result
from obsarchive.web.pages.targets import find_target
from obsarchive.web.surveys import source_json, triage
from obsarchive.web.surveys import sources as survey_sources
from obsarchive.web.surveys.reviewed import checked, decision_json, decision_on, write
from obsarchive.web.surveys.source_view import SourceView

bp = Blueprint("api", __name__, url_prefix="/api/v1")

Answer = dict[str, Any]
ENTRANCES = {
    "nights": "nights",
    "observations": "observations",
    "jobs": "list_jobs",
    "psflib": "psflib",
    "datasets": "list_datasets",
    "sources": "sources",
    "surveys": "surveys",
    "events": "events",
    "account": "account",
}


@bp.before_request
def refuse_unknown_parameters() -> None:
    """Refuse parameters that an address does not take: 400 with the nearest name."""
    known = openapi.TAKEN.get((request.endpoint or "").removeprefix("api."))
    problems = unknown_parameters(request.args, known) if known is not None else {}
    refuse(problems)


@bp.get("")
@for_tokens("read")
def index() -> ResponseReturnValue:
    """List the addresses of the interface."""
    links = {name: full_address(f"api.{view}") for name, view in ENTRANCES.items()}
    return {"archive": portal().settings.server.name, **links, "openapi": full_address("api.document")}


@bp.get("/openapi.json")
@for_tokens("read")
def document() -> ResponseReturnValue:
    """Describe the interface itself."""
    return openapi.document(portal().settings.server.name, columns(portal().chain))


@bp.get("/account")
@for_tokens("read")
def account() -> ResponseReturnValue:
    """Return name and programmes of the user."""
    return {
        "name": current_user.name,
        "administrator": current_user.is_admin,
        "programs": current_user.programs,
        "scopes": sorted(current_user.scopes or ()),
    }


@bp.get("/nights")
@for_tokens("read")
def nights() -> ResponseReturnValue:
    """List the nights with data, the newest first."""
    counted = portal().store.browse.calendar(current_user.document)
    return {"nights": [{"night": night, "observations": counted[night]} for night in sorted(counted, reverse=True)]}


@bp.get("/nights/<night>")
@for_tokens("read")
def night(night: str) -> ResponseReturnValue:
    """Describe a night and its observations."""
    if not is_night(night):
        abort(404)
    me, browse = current_user.document, portal().store.browse
    found = cards_of(browse.of_night(me, night))
    if not found and browse.night(me, night) is None:
        not_found()
    before, after = browse.neighbours(me, night)
    return {"night": night, "before": before, "after": after, "observations": observation_json.rows(found)}


@bp.get("/nights/<night>/summary")
@for_tokens("read")
def summary(night: str) -> ResponseReturnValue:
    """Return what the plots of a night show."""
    return night_facts(find_night(night), cards_of(portal().store.browse.of_night(current_user.document, night)))


@bp.get("/observations")
@for_tokens("read")
def observations() -> ResponseReturnValue:
    """Search; the parameters are those of the search page."""
    wanted = understood()
    page = page_of(wanted)
    answer: Answer = {"count": page.count, "count_is_capped": page.is_capped, "next": None}
    answer |= {"remarks": wanted.remarks, "targets_without_result": [] if wanted.cursor else without_result(wanted)}
    if page.following:
        kept: Answer = {**request.args.to_dict(flat=False), "cursor": page.following}
        answer["next"] = full_address("api.observations", **kept)
    return {**answer, "observations": observation_json.rows(cards(page.observations))}


@bp.get("/observations/<obs_id>")
@for_tokens("read")
def observation(obs_id: str) -> ResponseReturnValue:
    """Describe an observation."""
    return observation_json.observation(find_card(obs_id))


@bp.get("/observations/<obs_id>/header")
@for_tokens("read")
def header(obs_id: str) -> ResponseReturnValue:
    """Return the header of its first raw frame."""
    return {"header": observation_json.plain(find_card(obs_id).observation.document.get("fits_header") or [])}


@bp.get("/observations/<obs_id>/products")
@for_tokens("read")
def products(obs_id: str) -> ResponseReturnValue:
    """List its products with sizes and checksums, its raw files and the master frames of its night."""
    card = find_card(obs_id)
    found = [
        observation_json.product(card, view, record) for view in card.pipelines for record in view.products.values()
    ]
    return {"products": found, "sources": observation_json.sources(card)}


@bp.get("/observations/<obs_id>/contrast_curve/<pipeline>")
@for_tokens("read")
def contrast(obs_id: str, pipeline: str) -> ResponseReturnValue:
    """Return the contrast curve of a pipeline.

    Parameters
    ----------
    obs_id : str
        Id of the observation.
    pipeline : str
        Name of the pipeline.

    Returns
    -------
    response
        JSON: separations [arcsec], contrasts [mag], throughputs; 404 when there is no curve.
    """
    card = find_card(obs_id)
    view = next((view for view in card.pipelines if view.name == pipeline), None)
    curve = contrast_curve(card, view) if view else None
    if curve is None:
        not_found()
    return {"id": obs_id, "pipeline": pipeline, **curve}


@bp.get("/targets/<name>")
@for_tokens("read")
def target(name: str) -> ResponseReturnValue:
    """Describe a target with all its epochs, the newest first."""
    return target_json.target(find_target(name))


@bp.post("/observations/<obs_id>/redo")
@for_tokens("change")
@admin_only
def redo(obs_id: str) -> ResponseReturnValue:
    """Request a redo of a pipeline or of one of its steps."""
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or not isinstance(body.get("pipeline"), str):
        abort(400, 'send JSON: {"pipeline": "bright_star"}, and perhaps "step"')
    step = body.get("step") or ""
    if not isinstance(step, str) or not requests.is_known("observation", body["pipeline"], step):
        abort(400, "no such pipeline or step in the configuration")
    find_card(obs_id)
    requests.submit("redo", subject=obs_id, pipeline=body["pipeline"], step=step)
    return {"asked": True}, 202


@bp.post("/observations/<obs_id>/note")
@for_tokens("note")
def note(obs_id: str) -> ResponseReturnValue:
    """Write a note on an observation: 409 if another one was written since the version that was read."""
    found, body = find_card(obs_id).observation, _body()
    kept = notes.write_on_observation(found, notes.checked(body["quality"], body["text"], body.get("version") or 0))
    if kept is None:
        now = note_on(obs_id)
        return {"error": who_changed(now), "status": 409, "note": observation_json.note(now)}, 409
    return observation_json.note(kept)


@bp.post("/notes")
@for_tokens("note")
def mark() -> ResponseReturnValue:
    """Write the same note on several observations; an empty text leaves the texts that there are."""
    body = _body()
    ids = body.get("ids")
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids) or len(ids) > MOST_MARKED:
        abort(400, f"ids: names of observations are needed, at most {MOST_MARKED}")
    wanted = notes.checked(body["quality"], body["text"])
    nights = portal().store.browse.nights_by_id(current_user.document, ids)
    count = notes.mark(nights, wanted, f"{len(nights)} ids") if nights else 0
    return {"marked": count, "unknown": [each for each in ids if each not in nights]}


def _body() -> Answer:
    """Return the note that was sent, or abort with 400."""
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or not {"quality", "text"} & set(body):
        abort(400, 'send JSON: {"quality": "good", "doubtful", "bad" or "", "text": "..."}')
    return {"quality": "", "text": "", **body}


@bp.get("/jobs")
@for_tokens("read")
def list_jobs() -> ResponseReturnValue:
    """Return the state of the daemon."""
    now = jobs.under_observation()
    failed = [observation_json.problem(problem) for group in now["missing"] for problem in group.found]
    ended = [observation_json.job(job) for job in now["history"]]
    busy = {name: [observation_json.job(job) for _, job in now[name]] for name in ("running", "queued")}
    return {"daemon": now["state"], **busy, "failed": failed, "ended": ended}


@bp.get("/psflib")
@for_tokens("read")
def psflib() -> ResponseReturnValue:
    """List the stars that nights offer to the PSF library, with their states."""
    return {"stars": [observation_json.plain(star) for star in psf_library.stars()]}


@bp.get("/datasets")
@for_tokens("read")
def list_datasets() -> ResponseReturnValue:
    """List the datasets of time-series photometry."""
    return {"datasets": [_dataset(found) for found in datasets.listed()]}


@bp.get("/datasets/<key>")
@for_tokens("read")
def dataset(key: str) -> ResponseReturnValue:
    """Describe a dataset."""
    return _dataset(datasets.find(key))


def _dataset(found: Answer) -> Answer:
    hidden = ("_id", "folder", "run", "force_redo")
    plain = {name: value for name, value in found.items() if name not in hidden}
    return {
        "key": found["_id"],
        **observation_json.plain(plain),
        "url": full_address("datasets.dataset", key=found["_id"]),
    }


@bp.get("/datasets/<key>/lightcurve")
@for_tokens("read")
def lightcurve(key: str) -> ResponseReturnValue:
    """Return the light curve of a star, or of the star at a position."""
    found = datasets.find(key)
    curves, problem = datasets.requested_curves([found])
    curve = curves[0][1] if curves else None
    if curve is None:
        return {"error": problem, "status": 404}, 404
    position = {"star_id": curve.star_id, "ra_deg": curve.ra_deg, "dec_deg": curve.dec_deg}
    return {**position, "filter": found.get("filter"), "points": curve.rows()}


@bp.get("/surveys")
@for_tokens("read")
def surveys() -> ResponseReturnValue:
    """List the projects of surveys with their progress."""
    return {"projects": [source_json.project(survey_sources.with_counts(run)) for run in visible_projects()]}


@bp.get("/sources")
@for_tokens("read")
def sources() -> ResponseReturnValue:
    """Search for sources; the parameters are those of the page."""
    wanted = search_form.read_sources(request.args)
    refuse(wanted.problems)
    page = survey_sources.page_of(wanted)
    answer: Answer = {"count": page.count, "count_is_capped": page.is_capped, "next": None}
    if page.following:
        kept: Answer = {**request.args.to_dict(flat=False), "cursor": page.following}
        answer["next"] = full_address("api.sources", **kept)
    return {**answer, "sources": [source_json.row(row) for row in survey_sources.rows(page, wanted)]}


@bp.get("/sources/<path:name>")
@for_tokens("read")
def source(name: str) -> ResponseReturnValue:
    """Describe a source with the results of a project."""
    return source_json.source(SourceView.find(name))


@bp.get("/sources/<path:name>/lightcurves")
@for_tokens("read")
def source_lightcurves(name: str) -> ResponseReturnValue:
    """Return the points of the light curves of a source."""
    return source_json.curves(SourceView.find(name), survey_sources.requested_curves())


@bp.get("/events")
@for_tokens("read")
def events() -> ResponseReturnValue:
    """List sources with events; the parameters are those of the page."""
    wanted = search_form.read_events(request.args)
    refuse(wanted.problems)
    page = triage.page_of(wanted)
    kept: Answer = {**request.args.to_dict(flat=False), "cursor": page.following}
    following = full_address("api.events", **kept) if page.following else None
    rows = [
        {**triage.row(card), "url": full_address("api.source", name=card.name, project=card.run)}
        for card in triage.cards(page.rows)
    ]
    return {"next": following, "events": rows}


@bp.post("/sources/<path:name>/decision")
@for_tokens("note")
def decide(name: str) -> ResponseReturnValue:
    """Decide about a source of a project: 409 if another user decided since the version that was read."""
    view, body = SourceView.find(name), request.get_json(silent=True)
    if not isinstance(body, dict):
        abort(400, 'send JSON: {"verdict": "keep", "reject" or "undecided", "text": "...", "version": 0}')
    kept = write(view, checked(body.get("verdict"), body.get("text"), body.get("version") or 0))
    if kept is None:
        now = decision_json(decision_on(view))
        return {"error": "another user decided meanwhile", "status": 409, "decision": now}, 409
    return decision_json(kept)

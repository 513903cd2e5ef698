"""One observation: its best picture, the facts, its pipelines with all they made, header and raw files."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from obsarchive.observation import Observation
from obsarchive.web.access import admin_only, asking, audit, refuse
from obsarchive.web.files import send
from obsarchive.web.nights import in_order, neighbours, under_way
from obsarchive.web.portal import portal
from obsarchive.web.views import Card, PipelineView, Selection, find_product, pipelines_of, whole_file

log = logging.getLogger(__name__)

bp = Blueprint("observations", __name__, url_prefix="/observation/<obs_id>")


def _find(obs_id: str) -> Card:
    """Return an observation that the asking user may see, or end with 404."""
    app = portal()
    found = app.store.browse.observation(asking().document, obs_id)
    if found is None:
        refuse()
    return Card(found, tuple(pipelines_of(found, app.chain, app.layout, under_way())))


@bp.get("")
def observation(obs_id: str) -> ResponseReturnValue:
    """Show an observation."""
    card = _find(obs_id)
    night, selection = card.observation.night, Selection.of(request.args)
    before, after = neighbours(in_order(night, request.args), obs_id)
    return render_template(
        "observation.html",
        card=card,
        observation=card.observation,
        document=card.observation.document,
        night=night,
        header=_header(card.observation),
        raw=_raw_files(card.observation),
        tarball=_tarball(card.observation),
        selection=selection,
        before=before,
        after=after,
    )


def _header(observation: Observation) -> list[Mapping[str, Any]]:
    cards = observation.document.get("fits_header") or ()
    return [card for card in cards if isinstance(card, Mapping) and card.get("key") not in ("COMMENT", "")]


def _raw_files(observation: Observation) -> list[str]:
    raw = observation.document.get("raw_data")
    return [str(name) for name in raw.get("data") or ()] if isinstance(raw, Mapping) else []


def _tarball(observation: Observation) -> bool:
    """Whether there is a tarball of the present products."""
    path = portal().layout.tarball(observation.night, observation.id)
    return observation.packed and whole_file(path, portal().layout, observation.night) is not None


@bp.get("/step/<pipeline>/<step>")
def step(obs_id: str, pipeline: str, step: str) -> ResponseReturnValue:
    """Show settings and log of a step, as its manifest keeps them."""
    card = _find(obs_id)
    view = next((view for view in card.pipelines if view.name == pipeline), None)
    shown = view.step(step) if view else None
    if view is None or shown is None:
        refuse()
    return render_template("_step.html", manifest=_manifest(card.observation, view, step), step=shown)


def _manifest(observation: Observation, view: PipelineView, step: str) -> Mapping[str, Any]:
    """Read a step's manifest; empty when there is none or it cannot be read."""
    path = whole_file(portal().layout.manifest(view.folder, step), portal().layout, observation.night)
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        log.warning("the manifest of %s %s.%s cannot be read: %s", observation.id, view.name, step, err)
        return {}
    return found if isinstance(found, dict) else {}


@bp.get("/product/<pipeline>/<path:name>")
def product(obs_id: str, pipeline: str, name: str) -> ResponseReturnValue:
    """Send a product."""
    card = _find(obs_id)
    found = find_product(card.pipelines, pipeline, name)
    if found is None:
        refuse()
    return send(found[0], card.observation.night, found[1])


@bp.get("/tarball")
def tarball(obs_id: str) -> ResponseReturnValue:
    """Send everything of an observation in one file."""
    found = _find(obs_id).observation
    if not found.packed:
        refuse()
    return send(portal().layout.tarball(found.night, obs_id), found.night, {})


@bp.post("/redo/<pipeline>")
@admin_only
def redo(obs_id: str, pipeline: str) -> ResponseReturnValue:
    """Ask the daemon to do a pipeline once more, from its first step."""
    if pipeline not in _configured() or not portal().store.observations.wish_redo(obs_id, pipeline):
        refuse()
    return _wished(obs_id, pipeline)


@bp.post("/redo/<pipeline>/<step>")
@admin_only
def redo_step(obs_id: str, pipeline: str, step: str) -> ResponseReturnValue:
    """Ask the daemon to do one step once more."""
    known = step in _configured().get(pipeline, ())
    if not known or not portal().store.observations.wish_step(obs_id, (pipeline, step)):
        refuse()
    return _wished(obs_id, f"{pipeline}.{step}")


def _configured() -> dict[str, list[str]]:
    """Return the steps of the pipelines of observations."""
    pipelines = (link.pipeline for link in portal().chain if link.pipeline.scope == "observation")
    return {pipeline.name: list(pipeline.steps) for pipeline in pipelines}


def _wished(obs_id: str, what: str) -> ResponseReturnValue:
    audit("redo", subject=obs_id, pipeline=what)
    kept: dict[str, Any] = {"obs_id": obs_id, **Selection.of(request.args).parameters}
    return redirect(url_for(".observation", **kept))

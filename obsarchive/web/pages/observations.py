"""One observation: its best picture, the facts, its pipelines with all they made, header and raw files."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.core.document_paths import RA_DEG
from obsarchive.core.documents import Observation
from obsarchive.web.framework import requests
from obsarchive.web.framework.authorization import admin_only, for_tokens, not_found
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.file_responses import resolve_product_path, send, send_found
from obsarchive.web.framework.parameters import refuse, unknown_values
from obsarchive.web.models.cards import find_card
from obsarchive.web.models.citations import citation
from obsarchive.web.models.download_names import product_name
from obsarchive.web.models.manifests import step_manifest
from obsarchive.web.models.measurements import cautions, companions_of
from obsarchive.web.models.night_facts import contrast_curve
from obsarchive.web.models.pipeline_views import find_product
from obsarchive.web.models.raw_data import masters_of, raw_files, resolve_raw_file
from obsarchive.web.models.sky_scene import images_of, is_configured
from obsarchive.web.models.user_notes import note_on
from obsarchive.web.models.view_models import CHOICES, Card, Selection
from obsarchive.web.pages.jobs import poll
from obsarchive.web.pages.nights import in_order, neighbours

bp = Blueprint("observations", __name__, url_prefix="/observation/<obs_id>")


@bp.get("")
def observation(obs_id: str) -> ResponseReturnValue:
    """Show an observation."""
    refuse(unknown_values(request.args, CHOICES))
    card = find_card(obs_id)
    night, selection = card.observation.night, Selection.of(request.args)
    before, after = neighbours(in_order(night, request.args), obs_id)
    return render_template(
        "observation.html",
        card=card,
        observation=card.observation,
        document=card.observation.document,
        night=night,
        curves=_curves(card),
        subtractions=_subtractions(card),
        fits=_best_image(card),
        on_sky=is_configured() and images_of(card),
        has_sky=portal().settings.server.sky if card.observation.number(RA_DEG) is not None else None,
        pulse=portal().store.jobs.change_token(subject=obs_id),
        header=_header(card.observation),
        raw=raw_files(card.observation),
        masters=masters_of(card.observation),
        citation=citation(card.observation),
        tarball=_tarball(card),
        waiting_redos=requests.waiting_redos(obs_id),
        note=note_on(obs_id),
        selection=selection,
        before=before,
        after=after,
    )


@bp.get("/pulse")
def pulse(obs_id: str) -> ResponseReturnValue:
    """Return whether a page is out of date."""
    if not portal().store.browse.visible(current_user.document, [obs_id]):
        not_found()
    return poll(portal().store.jobs.change_token(subject=obs_id))


def _curves(card: Card) -> list[dict[str, Any]]:
    found = [(view.name, contrast_curve(card, view)) for view in card.pipelines]
    filter = card.observation.filter
    return [{"name": name.replace("_", " "), "filter": filter, **curve} for name, curve in found if curve]


def _subtractions(card: Card) -> list[dict[str, Any]]:
    """Return what the subtraction of the star found, for each pipeline that has one."""
    found: list[dict[str, Any]] = []
    for view in sorted(card.pipelines, key=lambda view: view is not card.best):
        results = card.observation.pipeline(view.name).step("pca").results
        n, wanted = results.get("n_references"), _references_wanted(view.name)
        if isinstance(n, int):
            # pipelines see the same companions: those of the first one are enough
            companions = [] if found else companions_of(card, view)
            found.append(
                {
                    "pipeline": view.name,
                    "references": n,
                    "wanted": wanted,
                    "cautions": cautions(results, companions, wanted),
                    "companions": companions,
                }
            )
    return found


def _references_wanted(pipeline: str) -> int | None:
    """Return how many reference stars the configuration wants."""
    settings = next((link.pipeline.step_settings for link in portal().chain if link.pipeline.name == pipeline), {})
    return getattr(settings.get("pca"), "enough_references", None)


def _best_image(card: Card) -> tuple[str, str] | None:
    """Pipeline and name of the first FITS image, of the pipeline with the best picture."""
    views = sorted(card.pipelines, key=lambda view: view is not card.best)
    images = ((view.name, name) for view in views for name in view.products if name.endswith(".fits"))
    return next(images, None)


def _header(observation: Observation) -> list[Mapping[str, Any]]:
    cards = observation.document.get("fits_header") or ()
    return [card for card in cards if isinstance(card, Mapping) and card.get("key") not in ("COMMENT", "")]


def _tarball(card: Card) -> bool:
    """Whether there is a tarball of the present products."""
    path = portal().layout.tarball(card.observation.night, card.id)
    return card.has_tarball and resolve_product_path(path, portal().layout, card.observation.night) is not None


@bp.get("/step/<pipeline>/<step>")
def step(obs_id: str, pipeline: str, step: str) -> ResponseReturnValue:
    """Show settings and log of a step, as its manifest keeps them.

    Parameters
    ----------
    obs_id : str
        Id of the observation.
    pipeline, step : str
        Pipeline and step.

    Returns
    -------
    response
        A part of a page; 404 when there is no such step.
    """
    card = find_card(obs_id)
    view = next((view for view in card.pipelines if view.name == pipeline), None)
    shown = view.step(step) if view else None
    if view is None or shown is None:
        not_found()
    return render_template("_step.html", manifest=step_manifest(card.observation, view, step), step=shown)


@bp.get("/product/<pipeline>/<path:name>")
@for_tokens("download")
def product(obs_id: str, pipeline: str, name: str) -> ResponseReturnValue:
    """Send a product.

    Parameters
    ----------
    obs_id : str
        Id of the observation.
    pipeline, name : str
        Pipeline and name of the product.

    Returns
    -------
    response
        The file; 404 when there is none.
    """
    card = find_card(obs_id)
    found = find_product(card.pipelines, pipeline, name)
    if found is None:
        not_found()
    return send(found[0], card.observation.night, found[1], product_name(card, pipeline, name))


@bp.get("/tarball")
@for_tokens("download")
def tarball(obs_id: str) -> ResponseReturnValue:
    """Send everything of an observation in one file."""
    card = find_card(obs_id)
    if not card.has_tarball:
        not_found()
    return send(portal().layout.tarball(card.observation.night, obs_id), card.observation.night, {})


@bp.get("/raw/<name>")
@for_tokens("download")
def raw(obs_id: str, name: str) -> ResponseReturnValue:
    """Send a raw file.

    Parameters
    ----------
    obs_id : str
        Id of the observation.
    name : str
        Name of the file.

    Returns
    -------
    response
        The file; 404 when the observation has none of that name, 410 when it is not on disk any more.
    """
    path = resolve_raw_file(find_card(obs_id).observation, name)
    return send_found(path, {}) if path else not_found()


@bp.post("/redo/<pipeline>")
@admin_only
def redo(obs_id: str, pipeline: str) -> ResponseReturnValue:
    """Request a redo of a pipeline, from its first step.

    Parameters
    ----------
    obs_id : str
        Id of the observation.
    pipeline : str
        Name of the pipeline.

    Returns
    -------
    response
        Redirection to the observation.
    """
    return _request_redo(obs_id, pipeline)


@bp.post("/redo/<pipeline>/<step>")
@admin_only
def redo_step(obs_id: str, pipeline: str, step: str) -> ResponseReturnValue:
    """Request a redo of one step.

    Parameters
    ----------
    obs_id : str
        Id of the observation.
    pipeline, step : str
        Pipeline and step.

    Returns
    -------
    response
        Redirection to the observation.
    """
    return _request_redo(obs_id, pipeline, step)


def _request_redo(obs_id: str, pipeline: str, step: str = "") -> ResponseReturnValue:
    find_card(obs_id)
    if not requests.is_known("observation", pipeline, step):
        not_found()
    requests.submit("redo", subject=obs_id, pipeline=pipeline, step=step)
    kept: dict[str, Any] = {"obs_id": obs_id, **Selection.of(request.args).parameters}
    return redirect(url_for(".observation", **kept))

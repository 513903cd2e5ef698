"""The night: a light table of everything observed, and what the night itself was good for."""

from collections.abc import Iterable
from itertools import groupby

from flask import Blueprint, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import MultiDict

from obsarchive.names import ObservationName, is_night
from obsarchive.observation import Night, Observation
from obsarchive.rules import lookup
from obsarchive.store import Document
from obsarchive.web.access import admin_only, asking, audit, refuse
from obsarchive.web.files import send
from obsarchive.web.portal import portal
from obsarchive.web.views import SORTS, Card, PipelineView, Selection, find_product, pipelines_of, running

MAX_RUNNING = 1000

bp = Blueprint("nights", __name__)


@bp.get("/")
def home() -> ResponseReturnValue:
    """Go to the last night with data."""
    last = portal().store.browse.last_night(asking().document)
    return redirect(url_for(".night", night=last)) if last else render_template("empty.html")


@bp.get("/night")
def pick() -> ResponseReturnValue:
    """Go to a night by its date, as the date field of the browser sends it."""
    night = request.args.get("date", "").replace("-", "")
    return redirect(url_for(".night", night=night)) if is_night(night) else redirect(url_for(".home"))


@bp.get("/night/<night>")
def night(night: str) -> ResponseReturnValue:
    """Show a night."""
    if not is_night(night):
        abort(404)
    me, browse, selection = asking(), portal().store.browse, Selection.of(request.args)
    cards = cards_of(browse.of_night(me.document, night))
    shown = selection.apply(cards)
    before, after = browse.neighbours(me.document, night)
    found = browse.night(me.document, night)
    pipelines = night_pipelines(found) if found else []
    return render_template(
        "night.html",
        night=night,
        groups=[(program, list(group)) for program, group in groupby(shown, key=lambda card: card.program)],
        total=len(cards),
        shown=len(shown),
        troubles=[(card, view, step) for card in shown for view, step in card.troubles],
        selection=selection,
        sorts=list(SORTS),
        before=before,
        after=after,
        summary=found,
        pipelines=pipelines,
        products=seen_products(pipelines),
        ignored=lookup(found.document, "raw_data.ignored_count") if found else None,
    )


def under_way() -> dict[tuple[str, str, str], Document]:
    """Attempts that run or are queued."""
    return running(portal().store.jobs.recent("enqueued", MAX_RUNNING))


def cards_of(observations: Iterable[Observation]) -> list[Card]:
    """Return observations as the light table shows them."""
    app, jobs = portal(), under_way()
    return [Card(found, tuple(pipelines_of(found, app.chain, app.layout, jobs))) for found in observations]


def night_pipelines(found: Night) -> list[PipelineView]:
    """Pipelines of a night that left something."""
    views = pipelines_of(found, portal().chain, portal().layout, under_way())
    return [view for view in views if view.record.document]


@bp.get("/night/<night>/product/<pipeline>/<path:name>")
def product(night: str, pipeline: str, name: str) -> ResponseReturnValue:
    """Send a product of a night to those who have data in it."""
    found = portal().store.browse.night(asking().document, night) if is_night(night) else None
    views = night_pipelines(found) if found else []
    product = find_product(views, pipeline, name)
    if product is None or name not in seen_products(views):
        refuse()
    return send(product[0], night, product[1])


def seen_products(views: Iterable[PipelineView]) -> set[str]:
    """Names of a night's products that are about the night, or about observations that the asking user may see."""
    about = {name: _observations_in(name) for view in views for name in view.products}
    named = set().union(*about.values())
    visible = named if asking().is_admin else portal().store.browse.visible(asking().document, named)
    return {name for name, observations in about.items() if observations <= visible}


def _observations_in(product: str) -> set[str]:
    stems = {part.rsplit(".", 1)[0] for part in product.split("/")}
    return {stem for stem in stems if _is_observation(stem)}


def _is_observation(text: str) -> bool:
    try:
        ObservationName.parse(text)
    except ValueError:
        return False
    return True


@bp.post("/night/<night>/redo/<pipeline>")
@admin_only
def redo(night: str, pipeline: str) -> ResponseReturnValue:
    """Ask the daemon to do a pipeline of a night once more."""
    known = {link.pipeline.name for link in portal().chain if link.pipeline.scope == "night"}
    if pipeline not in known or not portal().store.nights.wish_redo(night, pipeline):
        refuse()
    audit("redo", subject=night, pipeline=pipeline)
    return redirect(url_for(".night", night=night))


def neighbours(card_ids: list[str], obs_id: str) -> tuple[str | None, str | None]:
    """Return the entries before and after one of a list."""
    if obs_id not in card_ids:
        return None, None
    place = card_ids.index(obs_id)
    return (card_ids[place - 1] if place else None), (card_ids[place + 1] if place + 1 < len(card_ids) else None)


def in_order(night: str, arguments: MultiDict[str, str]) -> list[str]:
    """Return the observations of a night in the order of a selection."""
    cards = cards_of(portal().store.browse.of_night(asking().document, night))
    return [card.id for card in Selection.of(arguments).apply(cards)]

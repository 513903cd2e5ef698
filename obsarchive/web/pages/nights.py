"""Pages of a night: its observations, and its products."""

from collections.abc import Iterable
from itertools import groupby

from flask import Blueprint, abort, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from werkzeug.datastructures import MultiDict

from obsarchive.names import is_night, is_observation
from obsarchive.store.notes import subject_of_night
from obsarchive.web.framework import requests
from obsarchive.web.framework.authorization import admin_only, for_tokens, not_found
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.file_responses import send
from obsarchive.web.framework.parameters import refuse, unknown_values
from obsarchive.web.models.cards import cards_of_night, find_night, night_pipelines
from obsarchive.web.models.download_names import master_name
from obsarchive.web.models.moments import read_period
from obsarchive.web.models.night_facts import conditions
from obsarchive.web.models.pipeline_views import PipelineView, find_product
from obsarchive.web.models.problems import problems_of, trouble_count
from obsarchive.web.models.user_notes import note_on
from obsarchive.web.models.view_models import CHOICES, SORTS, Selection
from obsarchive.web.pages.jobs import poll

DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Days of the months in the calendar."""

bp = Blueprint("nights", __name__)


@bp.get("/")
def home() -> ResponseReturnValue:
    """Go to the last night with data."""
    last = portal().store.browse.last_night(current_user.document)
    return redirect(url_for(".night", night=last)) if last else render_template("empty.html")


@bp.get("/night")
def pick() -> ResponseReturnValue:
    """Go to a night by its date, as the field of the page sends it."""
    try:
        start, _ = read_period(request.args.get("date", ""))
    except (ValueError, OverflowError):
        return redirect(url_for(".home"))
    return redirect(url_for(".night", night=f"{start.year:04d}{start:%m%d}"))


@bp.get("/night/<night>")
def night(night: str) -> ResponseReturnValue:
    """Show a night."""
    if not is_night(night):
        abort(404)
    refuse(unknown_values(request.args, CHOICES))
    browse, selection = portal().store.browse, Selection.of(request.args)
    cards = cards_of_night(night)
    shown = selection.apply(cards)
    before, after = browse.neighbours(current_user.document, night)
    found = browse.night(current_user.document, night)
    return render_template(
        "night.html",
        night=night,
        groups=[(program, list(group)) for program, group in groupby(shown, key=lambda card: card.program)],
        total=len(cards),
        pulse=change_token(night, [card.id for card in cards]),
        shown=len(shown),
        with_products={card.program for card in cards if card.has_products},
        note=note_on(subject_of_night(night)),
        troubles=trouble_count(problems_of(cards, night, night_pipelines(found))),
        selection=selection,
        sorts=list(SORTS),
        before=before,
        after=after,
        facts=conditions(found, shown) if found else None,
    )


@bp.get("/nights")
def calendar() -> ResponseReturnValue:
    """Show which nights have data, and how much."""
    counted = portal().store.browse.calendar(current_user.document)
    most = max(counted.values(), default=1)
    years: dict[str, dict[str, dict[int, tuple[str, int, int]]]] = {}
    for night, count in counted.items():
        level = 1 + min(3, int(4 * count / (most + 1)))
        years.setdefault(night[:4], {}).setdefault(night[4:6], {})[int(night[6:])] = (night, count, level)
    return render_template("calendar.html", years=sorted(years.items(), reverse=True), total=len(counted), days=DAYS)


@bp.get("/night/<night>/downloads")
def downloads(night: str) -> ResponseReturnValue:
    """Show what can be downloaded of a night."""
    if not is_night(night):
        abort(404)
    browse = portal().store.browse
    cards = Selection().apply(cards_of_night(night))
    before, after = browse.neighbours(current_user.document, night)
    groups = [(program, list(group)) for program, group in groupby(cards, key=lambda card: card.program)]
    found = browse.night(current_user.document, night)
    troubles = trouble_count(problems_of(cards, night, night_pipelines(found)))
    return render_template("downloads.html", night=night, groups=groups, before=before, after=after, troubles=troubles)


@bp.get("/night/<night>/pulse")
def pulse(night: str) -> ResponseReturnValue:
    """Return whether a page is out of date, and the state of the daemon."""
    if not is_night(night):
        abort(404)
    return poll(change_token(night, portal().store.browse.ids_of_night(current_user.document, night)))


def change_token(night: str, observations: list[str]) -> str:
    """Return a text that changes with the night and with those of its observations that the user may see."""
    token = portal().store.jobs.change_token(night=night, subject={"$in": [night, *observations]})
    return f"{len(observations)}-{token}"


@bp.get("/night/<night>/product/<pipeline>/<path:name>")
@for_tokens("download")
def product(night: str, pipeline: str, name: str) -> ResponseReturnValue:
    """Send a product of a night to users who have data in it.

    Parameters
    ----------
    night : str
        Night ``yyyymmdd``.
    pipeline, name : str
        Pipeline and name of the product.

    Returns
    -------
    response
        The file; 404 when there is none.
    """
    views = night_pipelines(find_night(night))
    product = find_product(views, pipeline, name)
    if product is None or name not in seen_products(night, views):
        not_found()
    return send(product[0], night, product[1], master_name(night, name))


def seen_products(night: str, views: Iterable[PipelineView]) -> set[str]:
    """Return the names of a night's products that a user may see.

    A product is about the night itself, about the observations that its name holds, or about all observations of the
    night: the last are for those who may see all of these.

    Parameters
    ----------
    night : str
        Night ``yyyymmdd``.
    views : iterable of PipelineView
        Its pipelines.

    Returns
    -------
    set of str
    """
    browse, user = portal().store.browse, current_user.document
    made = [(view.name, step) for view in views for step in view.steps]
    about = {product["name"]: _observations_in(product["name"]) for _, step in made for product in step.products}
    named = set().union(*about.values())
    visible = named if current_user.is_admin else browse.visible(user, named)
    found = {name for name, observations in about.items() if observations <= visible}
    if not browse.sees_all_of(user, night):
        uses = {link.pipeline.name: link.pipeline.steps for link in portal().chain if link.pipeline.scope == "night"}
        for pipeline, step in made:
            if "observations" in uses[pipeline][step.name].uses:
                found -= {product["name"] for product in step.products if not about[product["name"]]}
    return found


def _observations_in(product: str) -> set[str]:
    stems = {part.rsplit(".", 1)[0] for part in product.split("/")}
    return {stem for stem in stems if is_observation(stem)}


@bp.post("/night/<night>/redo/<pipeline>")
@admin_only
def redo(night: str, pipeline: str) -> ResponseReturnValue:
    """Request a redo of a pipeline of a night.

    Parameters
    ----------
    night : str
        Night ``yyyymmdd``.
    pipeline : str
        Name of the pipeline.

    Returns
    -------
    response
        Redirection to the summary of the night.
    """
    find_night(night)
    if not requests.is_known("night", pipeline):
        not_found()
    requests.submit("redo", subject=night, pipeline=pipeline)
    return redirect(url_for("summary.summary", night=night))


def neighbours(card_ids: list[str], obs_id: str) -> tuple[str | None, str | None]:
    """Return the entries before and after one of a list.

    Parameters
    ----------
    card_ids : list of str
        Ids of observations.
    obs_id : str
        Id of one of them.

    Returns
    -------
    before, after : str or None
        None at an end of the list, and for an id that is not in it.
    """
    if obs_id not in card_ids:
        return None, None
    index = card_ids.index(obs_id)
    return (card_ids[index - 1] if index else None), (card_ids[index + 1] if index + 1 < len(card_ids) else None)


def in_order(night: str, arguments: MultiDict[str, str]) -> list[str]:
    """Return the observations of a night in the order of a selection.

    Parameters
    ----------
    night : str
        Night ``yyyymmdd``.
    arguments : MultiDict
        Parameters of the address: filters and order.

    Returns
    -------
    list of str
        Ids.
    """
    return [card.id for card in Selection.of(arguments).apply(cards_of_night(night))]

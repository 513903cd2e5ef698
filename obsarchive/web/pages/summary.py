"""Summary of a night: seeing, Strehl ratios, contrast curves, calibration, failures, run times."""

from collections.abc import Iterable, Mapping
from typing import Any

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.core.document_paths import NIGHT_IGNORED_COUNT
from obsarchive.core.documents import Night
from obsarchive.core.raw_problems import by_kind
from obsarchive.core.rules import lookup
from obsarchive.core.values import as_count, as_mappings
from obsarchive.names import days_apart, is_night
from obsarchive.web.framework import requests
from obsarchive.web.framework.authorization import admin_only
from obsarchive.web.framework.context import portal
from obsarchive.web.models.cards import cards_of, find_night, night_pipelines
from obsarchive.web.models.night_facts import night_facts
from obsarchive.web.models.pipeline_views import DisplayState, PipelineView
from obsarchive.web.models.problems import by_cause, problems_of, trouble_count
from obsarchive.web.pages.nights import change_token, seen_products

MOST_NIGHTS = 60
"""Nights that are offered as the source of a calibration."""

bp = Blueprint("summary", __name__, url_prefix="/night/<night>")

Facts = dict[str, Any]


@bp.get("/summary")
def summary(night: str) -> ResponseReturnValue:
    """Show the summary of a night."""
    found = find_night(night)
    browse = portal().store.browse
    cards = cards_of(browse.of_night(current_user.document, night))
    before, after = browse.neighbours(current_user.document, night)
    pipelines = night_pipelines(found)
    products = seen_products(night, pipelines)
    missing = problems_of(cards, night, pipelines)
    return render_template(
        "summary.html",
        night=night,
        before=before,
        after=after,
        facts=night_facts(found, cards),
        pulse=change_token(night, [card.id for card in cards]),
        movie=_movie(found, pipelines, products),
        masters=[master for view in pipelines if view.name == "calib" for master in _masters(view)],
        not_own=[item for view in pipelines if view.name == "calib" for item in _not_own(view)],
        pipelines=pipelines,
        products=products,
        troubles=trouble_count(missing),
        missing=by_cause(missing),
        gone=sum(card.is_void for card in cards),
        took=portal().store.jobs.took(night, [card.id for card in cards]),
        ignored=max(as_count(lookup(found.document, NIGHT_IGNORED_COUNT)) - found.problems_count, 0),
        problems=by_kind(found.problems()),
        problems_count=found.problems_count,
        copies_from=found.copies_from,
        sources=_sources(night) if current_user.is_admin else [],
        waiting_redos=requests.waiting_redos(night),
        copy_rejected=requests.last_rejection("copy calibration", night=night) if current_user.is_admin else None,
    )


def _not_own(view: PipelineView) -> Iterable[Mapping[str, Any]]:
    """Yield which masters the steps that are done could not make of the night's own files, and why."""
    for step in view.steps:
        if step.state is DisplayState.DONE:
            found = as_mappings(step.record.results.get("short"))
            yield from ({**item, "kind": step.name.removesuffix("s")} for item in found)


def _masters(view: PipelineView) -> Iterable[Mapping[str, Any]]:
    for step in view.steps:
        masters = step.record.results.get("masters")
        yield from (master for master in masters or () if isinstance(master, Mapping))


def _movie(night: Night, pipelines: Iterable[PipelineView], products: set[str]) -> list[Facts]:
    """Pictures of the seeing frames in the order of time."""
    known = {name for view in pipelines if view.name == "seeing" for name in view.products} & products
    frames = []
    for frame in night.seeing_frames():
        stamp = str(frame.get("date_utc", ""))[:19]
        name = f"seeing/{stamp.replace('-', '').replace(':', '').replace('T', '_')}.png"
        if name in known:
            width = {key: frame.get(key) for key in ("fwhm_arcsec", "fwhm_error_arcsec")}
            frames.append({"name": name, "time": stamp.replace("T", " "), **width})
    return sorted(frames, key=lambda frame: str(frame["time"]))


def _sources(night: str) -> list[str]:
    """Nights with masters of their own, the nearest first."""
    nights = [found.id for found in portal().store.nights.all() if any(master.own for master in found.masters())]
    nearest = sorted((found for found in nights if found != night), key=lambda found: days_apart(found, night))
    return nearest[:MOST_NIGHTS]


@bp.post("/calibration")
@admin_only
def copy_calibration(night: str) -> ResponseReturnValue:
    """Request the use of the masters of another night, or of its own again."""
    find_night(night)
    source = request.form.get("source", "")
    if source and not is_night(source):
        abort(400, "Choose a night.")
    requests.submit("copy calibration", night=night, source=source)
    flash("The daemon will change the calibration, and redo what used the old one.")
    return redirect(url_for(".summary", night=night))


@bp.post("/high_contrast")
@admin_only
def redo_high_contrast(night: str) -> ResponseReturnValue:
    """Request a redo of the PSF subtraction of a night's stars."""
    find_night(night)
    requests.submit("redo high contrast", night=night)
    flash("A redo of the high-contrast steps of this night was requested.")
    return redirect(url_for(".summary", night=night))

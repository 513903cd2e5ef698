"""Two sources of a survey project on one page."""

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from obsarchive.instruments.base import number
from obsarchive.store import TriageCriteria
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.parameters import in_one_line, unknown_values
from obsarchive.web.models.comparison import KINDS, compared
from obsarchive.web.models.light_curve_data import MJD
from obsarchive.web.models.visible_sources import visible_runs
from obsarchive.web.pages.datasets import requested_period
from obsarchive.web.surveys.source_view import SourceView, drawn_curve, labels

bp = Blueprint("source_comparison", __name__)

WITHIN_D, MOST_WITHIN_D = 0.02, 30.0
"""Largest distance of epochs that belong together, unless another one is given [d]."""


@bp.get("/sources/compare")
def compare() -> ResponseReturnValue:
    """Show two sources: their light curves, difference or flux ratio, and residuals."""
    names = request.args.get("first", "").strip(), request.args.get("second", "").strip()
    if not any(names):
        names = _strongest()
    period, wrong = requested_period()
    wrong |= unknown_values(request.args, {"show": KINDS})
    within = number(request.args.get("within")) if request.args.get("within") else WITHIN_D
    if within is None or not 0 < within <= MOST_WITHIN_D:
        within, wrong["within"] = WITHIN_D, f"a number of days up to {MOST_WITHIN_D:g}"
    views, unknown = _known(names)
    problem = f"There is no source called {unknown} that you may see." if unknown else in_one_line(wrong)
    found = None
    if len(views) == 2 and not problem:
        stars = [[drawn_curve(curve) for curve in view.curves().good] for view in views]
        problem = next(
            (f"{view.name} has no light curve" for view, own in zip(views, stars, strict=True) if not own), ""
        )
        if not problem:
            kind = request.args.get("show") or KINDS[0]
            of_both = views[0].name, views[1].name
            found = compared((stars[0], stars[1]), of_both, MJD, within, period, kind)
    return render_template(
        "source_comparison.html",
        views=views,
        names=names,
        labels=labels([run for view in views for run in view.projects]),
        within=within,
        found=found,
        problem=problem,
    ), 404 if unknown else 400 if wrong else 200


def _known(names: tuple[str, str]) -> tuple[list[SourceView], str]:
    """Return what is known of the sources that are named, and the first name of which nothing is."""
    views = []
    for name in filter(None, names):
        try:
            views.append(SourceView.find(name))
        except NotFound:
            return views, name
    return views, ""


def _strongest() -> tuple[str, str]:
    """Return the two sources with the strongest events that the user may see: an example; empty names without two."""
    rows = portal().store.triage.page(visible_runs(), TriageCriteria(), 2).rows
    first, *others = [row.pair[1] for row in rows] or [""]
    return (first, others[0]) if others and others[0] != first else ("", "")

"""Survey photometry: projects with their progress, sources with their light curves and what was found in them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, abort, render_template, request, url_for
from flask.typing import ResponseReturnValue

from obsarchive.core.documents import utc_now
from obsarchive.errors import ArchiveError
from obsarchive.remote.gaia import gaia_near
from obsarchive.remote.http import ServiceTimeoutError
from obsarchive.store import CursorError, Document, Events, SourcePage
from obsarchive.web.framework.authorization import audit, for_tokens
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.file_responses import FILE_POLICY, as_attachment
from obsarchive.web.models import search_form
from obsarchive.web.models.positions import UNITS
from obsarchive.web.models.search_form import SourceSearchForm, query_parameters
from obsarchive.web.models.visible_sources import visible_projects, visible_runs
from obsarchive.web.pages.datasets import requested_period
from obsarchive.web.pages.sky_map import Mark, sky_map
from obsarchive.web.pages.viewer import sky_picture
from obsarchive.web.surveys.reviewed import decision_on
from obsarchive.web.surveys.source_view import (
    SourceView,
    distances_arcsec,
    labels,
    message_of,
)
from surveys import export as exporting
from surveys.skyportal import plain_name

bp = Blueprint("sources", __name__)

MATCHES_ARCSEC = 5.0
SLOW_S, KEPT_FOR = 0.02, 30.0
"""Counts that took longer than this are kept for so many times as long."""
COUNTED = "survey progress"
LONGEST_NAME = 200
"""Letters of a source in the name of a file."""


@dataclass(frozen=True)
class Row:
    """A source in a table."""

    source: Document
    projects: list[str]
    events: Events
    failures: list[tuple[str, str]]
    distance_arcsec: float | None

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.source["_id"])


@bp.get("/sources")
def sources() -> ResponseReturnValue:
    """Show the projects, the form, and the sources that are looked for."""
    wanted = search_form.read_sources(request.args)
    projects = visible_projects()
    page = page_of(wanted) if not wanted.problems else SourcePage((), 0)
    shown = rows(page, wanted)
    return render_template(
        "sources.html",
        **_progress(projects),
        wanted=wanted,
        page=page,
        rows=shown,
        sky=sky_map(map(_mark, shown)),
        units=[unit for unit in UNITS if unit != "rad"],
        address=_address,
        is_search=bool(query_parameters(request.args, "unit", "limit", "cursor")),
    ), 400 if wanted.problems else 200


@bp.get("/sources/now")
def now() -> ResponseReturnValue:
    """Return the part of the page that changes: the projects."""
    return render_template("_sources.html", **_progress(visible_projects()))


def page_of(wanted: SourceSearchForm) -> SourcePage:
    """Return the requested page; 400 if its cursor is invalid."""
    try:
        runs = visible_runs(wanted.project)
        return portal().store.sources.page(runs, wanted.criteria, wanted.limit, wanted.cursor)
    except CursorError:
        abort(400)


def rows(page: SourcePage, wanted: SourceSearchForm) -> list[Row]:
    """Return sources as rows of the tables.

    Parameters
    ----------
    page : SourcePage
        A page of sources.
    wanted : SourceSearchForm
        The search; its project decides which results count.

    Returns
    -------
    list of Row
        In the order of the page.
    """
    names, runs = [str(source["_id"]) for source in page.sources], visible_runs(wanted.project)
    events = portal().store.sources.events(names, runs)
    failures = portal().store.sources.failures(names, runs) if wanted.criteria.which == "failed" else {}
    cone = wanted.criteria.cone
    distances: list[Any] = distances_arcsec(page.sources, cone) if cone and page.sources else [None] * len(names)
    seen = visible_runs()
    return [
        Row(
            source,
            [run for run in source.get("projects") or [] if seen is None or run in seen],
            events.get(name, Events(0, 0.0)),
            failures.get(name, []),
            distance,
        )
        for name, source, distance in zip(names, page.sources, distances, strict=True)
    ]


def _mark(row: Row) -> Mark:
    return Mark(row.source.get("ra_deg"), row.source.get("dec_deg"), url_for(".source", name=row.name), row.name)


def _address(**changes: str) -> str:
    """Return the address of this search with some parameters changed, from its first page."""
    kept: dict[str, Any] = query_parameters(request.args, "cursor", *changes)
    kept |= {name: value for name, value in changes.items() if value}
    return url_for(".sources", **kept)


def _progress(projects: list[Document]) -> dict[str, Any]:
    return {"projects": [with_counts(run) for run in projects], "labels": labels(projects), "now": utc_now()}


def with_counts(run: Document) -> Document:
    """Return a project with the counts of its sources."""
    name = str(run["_id"])
    return {**run, **counted(name, lambda: portal().store.surveys.progress(name))}


def counted(what: str, count: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Return counts; those that take long are kept for a while.

    Parameters
    ----------
    what : str
        What is counted.
    count : callable
        Counts it.

    Returns
    -------
    dict of str to int
    """
    kept: dict[str, tuple[float, dict[str, int]]] = portal().extensions.setdefault(COUNTED, {})
    begun = time.monotonic()
    until, counts = kept.get(what, (0.0, {}))
    if begun >= until:
        counts = count()
        took = time.monotonic() - begun
        kept[what] = (begun + (KEPT_FOR * took if took > SLOW_S else 0.0), counts)
    return counts


@bp.get("/source/<path:name>")
def source(name: str) -> ResponseReturnValue:
    """Show a source: light curves, events, features, neighbours, raw photometry."""
    view = SourceView.find(name)
    curves = view.curves()
    period, wrong = requested_period()
    return render_template(
        "source.html",
        view=view,
        decision=decision_on(view),
        source=view.document,
        labels=labels(view.projects),
        curves=curves.good,
        problems=curves.problems,
        facts=view.facts(curves.good, period),
        period=period,
        wrong=wrong,
        forms=list(exporting.FORMS),
        has_sky=portal().settings.server.sky if view.position else None,
        has_matches=portal().settings.server.vizier if view.position else None,
        matches_arcsec=MATCHES_ARCSEC,
        now=utc_now(),
    ), 400 if wrong else 200


@bp.get(f"/source/<path:name>/export/<any({', '.join(exporting.FORMS)}):form>")
@for_tokens("read")
def export(name: str, form: str) -> ResponseReturnValue:
    """Return the light curves of a source as a file.

    Parameters
    ----------
    name : str
        Name of the source.
    form : str
        Format: a key of ``surveys.export.FORMS``.

    Returns
    -------
    response
        The file, a ZIP archive for several curves in some formats; 400 when a curve cannot be read.
    """
    view = SourceView.find(name)
    found = view.curves(requested_curves())
    if found.problems:
        abort(400, f"Not every light curve can be read: {'; '.join(found.problems)}")
    try:
        content = exporting.write(found.good, form)
    except ArchiveError as err:
        abort(400, message_of(err))
    audit("export", path=request.full_path)
    suffix, mimetype = exporting.kind_of(form, len(found.good))
    response = as_attachment(Response(content, mimetype=mimetype), f"{plain_name(view.name)[:LONGEST_NAME]}{suffix}")
    response.headers["Content-Security-Policy"] = FILE_POLICY
    return response


def requested_curves() -> dict[str, str]:
    """Return which light curves are wanted: of an observatory, in a filter, one of a number."""
    names = {"observatory": "observatory", "filter": "filter", "series": "series_number"}
    return {key: request.args.get(name, "") for name, key in names.items()}


@bp.get("/source/<path:name>/sky.png")
def sky(name: str) -> ResponseReturnValue:
    """Send a picture of the sky around a source."""
    return sky_picture(SourceView.find(name).position)


@bp.get("/source/<path:name>/matches")
def matches(name: str) -> ResponseReturnValue:
    """Return what Gaia has near a source."""
    view, service = SourceView.find(name), portal().settings.server.vizier
    if service is None or view.position is None:
        abort(404)
    try:
        found = gaia_near(view.position, MATCHES_ARCSEC, service, portal().settings.paths.tmp / "matches")
    except ServiceTimeoutError as err:
        return render_template("_matches.html", problem=str(err), matches=[], arcsec=MATCHES_ARCSEC)
    return render_template("_matches.html", problem="", matches=found, arcsec=MATCHES_ARCSEC)

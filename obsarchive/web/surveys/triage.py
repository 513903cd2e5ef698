"""Events of surveys, for people who go through them: what is kept, what is rejected, and why."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from typing import Any

from flask import Blueprint, Response, abort, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from obsarchive.store import CursorError, Decision, Document, SourceWithEvents, TriagePage
from obsarchive.store.decisions import STATES
from obsarchive.web.framework.authorization import audit, for_tokens
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.file_responses import FILE_POLICY, csv_attachment
from obsarchive.web.framework.parameters import refuse
from obsarchive.web.models import search_form
from obsarchive.web.models.observation_json import plain
from obsarchive.web.models.search_form import EventSearchForm, query_parameters
from obsarchive.web.models.visible_sources import visible_projects, visible_runs
from obsarchive.web.surveys import thumbnails
from obsarchive.web.surveys.reviewed import checked, decision_on, readable, write
from obsarchive.web.surveys.source_view import SourceView, labels
from obsarchive.web.surveys.sources import counted

bp = Blueprint("triage", __name__)

MOST_EXPORTED = 10_000
PICTURES, MOST_PICTURES = "thumbnails of light curves", 3000
OF_AN_EVENT = (
    *("observatory", "filter", "method", "score", "mjd_start", "mjd_peak", "mjd_stop", "peak_mag", "peak_mag_error"),
    *("n_epochs", "width_d", "quality"),
)


@dataclass(frozen=True)
class EventCard:
    """A source with events as the page shows it.

    Parameters
    ----------
    found : SourceWithEvents
        The source with its strongest event.
    decision : Decision
        What people decided, as the user may read it.
    conflict : bool
        Whether another user decided while this one looked.
    """

    found: SourceWithEvents
    decision: Decision
    conflict: bool = False

    @property
    def event(self) -> Document:
        """The strongest event."""
        return self.found.event

    @property
    def run(self) -> str:
        """Folder of the project."""
        return self.found.pair[0]

    @property
    def name(self) -> str:
        """Name of the source."""
        return self.found.pair[1]

    @property
    def mark(self) -> str:
        """What the card is called on its page."""
        return "event-" + sha256("/".join(self.found.pair).encode()).hexdigest()[:12]

    @property
    def is_new(self) -> bool:
        """Whether the strongest event was not known when this was decided."""
        return self.decision.version > 0 and not self.decision.knew(self.event)


@bp.get("/events")
def events() -> ResponseReturnValue:
    """Show the sources with events, the strongest first, with forms to decide about them."""
    wanted, projects = search_form.read_events(request.args), visible_projects()
    page = page_of(wanted) if not wanted.problems else TriagePage(())
    return render_template(
        "events.html",
        wanted=wanted,
        page=page,
        cards=cards(page.rows),
        **_counts(wanted.project),
        projects=projects,
        labels=labels(projects),
        states=STATES,
        is_search=bool(query_parameters(request.args, "limit", "cursor")),
        query=query_parameters(request.args, "cursor", "limit"),
        back=request.query_string.decode("ascii", "replace"),
        address=_address,
    ), 400 if wanted.problems else 200


@bp.get("/events/counts")
def counts() -> ResponseReturnValue:
    """Return the part of the page that changes with every decision."""
    return render_template("_event_counts.html", **_counts(request.args.get("project", "")))


def _counts(project: str) -> dict[str, Any]:
    runs, triage = visible_runs(project), portal().store.triage
    found = counted(f"sources with events of {runs}", lambda: {"sources": triage.count(runs)})
    return {"project": project, "counts": {**found, **portal().store.decisions.counts(runs)}}


def page_of(wanted: EventSearchForm) -> TriagePage:
    """Return the requested page; 400 if its cursor is invalid."""
    try:
        return portal().store.triage.page(visible_runs(wanted.project), wanted.criteria, wanted.limit, wanted.cursor)
    except CursorError:
        abort(400, "cursor: this is no mark of a page of this search; leave it out to start at the first page")


def cards(rows: Iterable[SourceWithEvents]) -> list[EventCard]:
    """Return sources with events as pages show them, with texts that the user may read."""
    found = list(rows)
    texts = readable({row.pair: row.decision.text for row in found})
    return [EventCard(row, replace(row.decision, text=texts[row.pair])) for row in found]


def _address(**changes: str) -> str:
    """Return the address of this search with some parameters changed, from its first page."""
    kept: dict[str, Any] = query_parameters(request.args, "cursor", *changes)
    kept |= {name: value for name, value in changes.items() if value}
    return url_for(".events", **kept)


@bp.post("/source/<path:name>/decision")
def decide(name: str) -> ResponseReturnValue:
    """Decide about a source: answers with its card where a script asks, else shows the page again."""
    view, version = SourceView.find(name), request.form.get("version", "0")
    number = int(version) if version.isascii() and version.isdecimal() and len(version) < 10 else -1
    kept = write(view, checked(request.form.get("verdict"), request.form.get("text"), number))
    card = EventCard(_found(view), decision_on(view), conflict=kept is None)
    back = request.form.get("back")
    if request.headers.get("HX-Request"):
        response = make_response(
            render_template("_event.html", card=card, back=back or "", labels=labels(view.projects))
        )
        response.headers["HX-Trigger"] = "decided"
        return response
    if kept is None:
        abort(409, "Another user decided meanwhile: go back, and load the page again.")
    if back is None:
        return redirect(url_for("sources.source", name=view.name, project=view.run, _anchor="decision"))
    return redirect(url_for(".events") + (f"?{back}" if back else "") + f"#{card.mark}")


def _found(view: SourceView) -> SourceWithEvents:
    event = {"run": view.run, "source_name": view.name, **(view.detections[0] if view.detections else {})}
    return SourceWithEvents(event, len(view.detections), Decision(), dict(view.period))


@bp.get("/source/<path:name>/thumbnail.svg")
def thumbnail(name: str) -> ResponseReturnValue:
    """Send a small picture of the light curves of a source."""
    view = SourceView.find(name)
    mark = thumbnails.digest(view.lightcurves, view.detections)
    kept: OrderedDict[str, bytes] = portal().extensions.setdefault(PICTURES, OrderedDict())
    picture = kept.get(mark)
    if picture is None:
        picture = kept[mark] = thumbnails.light_curve_svg(view.curves().good, view.detections)
        while len(kept) > MOST_PICTURES:
            kept.popitem(last=False)
    response = Response(picture, mimetype="image/svg+xml")
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Content-Security-Policy"] = FILE_POLICY
    response.set_etag(mark)
    return response.make_conditional(request)


def row(card: EventCard) -> dict[str, Any]:
    """Describe a source with events, and what people decided, for programs and tables."""
    event = {name: plain(card.event.get(name)) for name in OF_AN_EVENT}
    decision = card.decision
    period = card.found.period.get("period_d")
    return {
        "name": card.name,
        "project": card.run,
        "verdict": decision.verdict,
        "note": decision.text,
        "decided_by": decision.author or None,
        "decided": plain(decision.written),
        "version": decision.version,
        "is_new_event": card.is_new,
        "n_detections": card.found.n_events,
        "period_d": period if isinstance(period, int | float) else None,
        **event,
    }


@bp.get("/events/export/<any(csv, json):form>")
@for_tokens("read")
def export(form: str) -> ResponseReturnValue:
    """Return all sources with events of a search as a table."""
    wanted = search_form.read_events(request.args)
    refuse(wanted.problems)
    rows = [row(card) for card in cards(islice(_all(wanted), MOST_EXPORTED))]
    audit("export", path=request.full_path)
    if form == "json":
        return {"events": rows}
    header = list(rows[0]) if rows else ["name"]
    return csv_attachment(header, (list(one.values()) for one in rows), "events.csv")


def _all(wanted: EventSearchForm) -> Iterable[SourceWithEvents]:
    runs, cursor = visible_runs(wanted.project), ""
    while True:
        page = portal().store.triage.page(runs, wanted.criteria, search_form.LARGEST_PAGE, cursor)
        yield from page.rows
        cursor = page.following
        if not cursor:
            return

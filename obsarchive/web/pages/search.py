"""Search of the archive: a form whose address can be shared, a table, exports."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from flask import Blueprint, Response, abort, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.core.document_paths import DEC_DEG, RA_DEG
from obsarchive.core.documents import Observation
from obsarchive.pipeline.chain import steps_of
from obsarchive.store.search import Criteria, CursorError, Page
from obsarchive.web.framework.authorization import audit, for_tokens
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.file_responses import as_attachment, csv_attachment
from obsarchive.web.framework.parameters import refuse, unknown_values
from obsarchive.web.framework.template_filters import utc
from obsarchive.web.models import search_form, votables
from obsarchive.web.models.cards import card_of, notes_on
from obsarchive.web.models.columns import Column, columns
from obsarchive.web.models.positions import UNITS
from obsarchive.web.models.search_form import SearchForm, query_parameters
from obsarchive.web.models.view_models import Card
from obsarchive.web.models.visible_sources import place_of
from obsarchive.web.pages.sky_map import Mark, sky_map

MOST_EXPORTED = 10_000
MOST_MARKED = 1000
"""Observations of a search on which the same note is written at once."""
AT_ONCE = 500
"""Observations whose notes are read together."""
MOST_LISTED = 40
"""Programmes or filters that a remark lists."""
SIMPLE = ("name", "match", "ra", "dec", "radius", "unit", "date_from", "date_to", "program", "filter", "targets")
"""Parameters that the form shows at once."""

bp = Blueprint("search", __name__, url_prefix="/search")


def cards(observations: Iterable[Observation]) -> Iterator[Card]:
    """Return observations as tables show them; what runs just now is not looked up."""
    remaining = iter(observations)
    while many := list(islice(remaining, AT_ONCE)):
        notes = notes_on(many)
        yield from (card_of(found, {}, notes) for found in many)


def requested() -> SearchForm:
    """Read the search from the address, with remarks on values that nothing has."""
    wanted = search_form.read(request.args, steps_of(portal().chain))
    wanted.problems |= unknown_values(request.args, {"columns": [column.key for column in columns(portal().chain)]})
    browse, asked = portal().store.browse, wanted.criteria
    programs = browse.programs(current_user.document) if asked.program else []
    filters = browse.values(current_user.document, "filter") if asked.filters else []
    unknown = [name for name in asked.filters if name not in filters]
    if wanted.quality:
        wanted.criteria = replace(asked, marked=portal().store.notes.query(wanted.quality))
    if asked.program and asked.program not in programs:
        wanted.remarks.append(_there_is_no("programme", asked.program, programs))
    wanted.remarks += [_there_is_no("filter", name, filters) for name in unknown]
    if asked.name and not browse.finds_something(current_user.document, Criteria(name=asked.name, exact=asked.exact)):
        _look_into_surveys(wanted)
    return wanted


def _look_into_surveys(wanted: SearchForm) -> None:
    """Search at the place of a source of surveys, where no observation has the name but a source."""
    place = place_of(wanted.criteria.name)
    if place is not None:
        wanted.criteria = replace(wanted.criteria, name="", targets=[place])
        where = f"RA {place.ra_deg:.5f}°, Dec {place.dec_deg:+.5f}°"
        wanted.remarks.append(f"no observation has this name, but a source of surveys at {where}: searched there")


def _there_is_no(what: str, asked: str, known: list[str]) -> str:
    """Write which values there are instead of one that there is not."""
    others = ", ".join(known[:MOST_LISTED]) + (" …" if len(known) > MOST_LISTED else "")
    return f"there is no {what} {asked} that you may see" + (f"; there are {others}" if others else "")


def without_result(wanted: SearchForm) -> list[str]:
    """Return the lines of the list of targets that found nothing, with the other criteria of the search."""
    browse, me = portal().store.browse, current_user.document
    only = ((line.text, replace(wanted.criteria, targets=line.targets)) for line in wanted.lines)
    return [text for text, criteria in only if not browse.finds_something(me, criteria)]


def understood() -> SearchForm:
    """Read the search for an export: 400 with what is invalid."""
    wanted = requested()
    refuse(wanted.problems)
    return wanted


def page_of(wanted: SearchForm) -> Page:
    """Return the requested page; 400 if its cursor is invalid."""
    try:
        return portal().store.browse.search(
            current_user.document, wanted.criteria, wanted.order, wanted.limit, wanted.cursor
        )
    except CursorError:
        abort(400, "cursor: this is no mark of a page of this search; leave it out to start at the first page")


@bp.get("")
def search() -> ResponseReturnValue:
    """Show the form, and the results of a search."""
    wanted, me, browse = requested(), current_user.document, portal().store.browse
    looked_for = bool(query_parameters(request.args, "columns", "unit", "sort", "limit", "view"))
    page = page_of(wanted) if looked_for and not wanted.problems else None
    known = columns(portal().chain)
    chosen = _chosen(known)
    shown = list(cards(page.observations)) if page else []
    return render_template(
        "search.html",
        page=page,
        cards=shown,
        sky=sky_map(map(_mark, shown)),
        wanted=wanted,
        without_result=without_result(wanted) if page and not wanted.cursor else [],
        columns=in_page_order([column for column in known if column.key in chosen]),
        every_column=known,
        sort_address=_sort_address,
        address=_address,
        numbers=[column for column in known if column.key in search_form.number_fields(wanted.criteria.known_steps)],
        steps=wanted.criteria.known_steps,
        units=list(UNITS),
        states=list(search_form.STATES),
        qualities=search_form.ASKED_QUALITIES,
        most_marked=MOST_MARKED,
        filters=browse.values(me, "filter"),
        programs=browse.programs(me),
        cameras=browse.values(me, "camera"),
        more_asked=bool(query_parameters(request.args, *SIMPLE, "columns", "sort", "limit", "view", "cursor")),
        as_thumbnails=request.args.get("view") == "thumbnails",
    ), 400 if wanted.problems else 200


def _mark(card: Card) -> Mark:
    seen = card.observation
    ra, dec = (seen.number(path) for path in (RA_DEG, DEC_DEG))
    address = url_for("observations.observation", obs_id=card.id)
    return Mark(ra, dec, address, f"{card.name}, {utc(seen.date_utc, '%Y-%m-%d')}")


def _chosen(known: list[Column]) -> set[str]:
    """Requested columns, else the default ones."""
    named = {key for key in request.args.getlist("columns") if key}
    chosen = {column.key for column in known if column.key in named}
    return chosen or {column.key for column in known if column.shown}


def in_page_order(known: list[Column]) -> list[Column]:
    """Return columns as the page shows them: the name first, then what is most looked at; positions last."""
    return sorted(known, key=lambda column: column.rank)


def _address(to: str = "search.search", form: str | None = None, **changes: Any) -> str:
    """Return the address of this search with some parameters changed, from its first page; or of what to do with it."""
    kept: dict[str, Any] = query_parameters(request.args, "cursor", *changes)
    kept |= {"form": form} if form else {}
    return url_for(to, **kept, **{name: value for name, value in changes.items() if value})


def _sort_address(column: Column) -> str:
    now = request.args.get("sort", "-date")
    return _address(sort=f"-{column.sort}" if now == column.sort else column.sort)


@bp.get("/export/<any(csv, json, votable):form>")
@for_tokens("read")
def export(form: str) -> ResponseReturnValue:
    """Return all results, at most `MOST_EXPORTED` rows, as a file."""
    wanted = understood()
    found = portal().store.browse.stream(current_user.document, wanted.criteria, wanted.order, MOST_EXPORTED)
    audit("export", path=request.full_path)
    known = columns(portal().chain)
    rows = list(cards(found))
    if form == "csv":
        header = [f"{column.key} [{column.unit}]" if column.unit else column.key for column in known]
        return csv_attachment(header, ([column.plain(card) for column in known] for card in rows), "observations.csv")
    if form == "votable":
        return _file(votables.of_rows(rows, known), votables.MIME, "observations.vot")
    answer = {"count": len(rows), "observations": [{c.key: c.plain(card) for c in known} for card in rows]}
    return _file(portal().json.dumps(answer), "application/json", "observations.json")


def _file(content: str | bytes, mimetype: str, name: str) -> Response:
    return as_attachment(Response(content, mimetype=mimetype), name)

"""Addresses of the virtual observatory, for programs with a token."""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import ParamSpec

from flask import Blueprint, Response, abort, render_template, request
from flask.typing import ResponseReturnValue

from obsarchive.store.query_jobs import KEEP
from obsarchive.store.search import Cone, Criteria, Order
from obsarchive.web.framework.authorization import audit, for_tokens, not_found, reads_by_form
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.file_responses import as_attachment, resolve_product_path
from obsarchive.web.models import votables
from obsarchive.web.models.cards import card_of, find_card
from obsarchive.web.models.columns import columns
from obsarchive.web.models.manifests import step_manifest
from obsarchive.web.pages import public
from obsarchive.web.pages.search import cards
from obsarchive.web.vo import answers, cutouts, datalink, sia2
from obsarchive.web.vo.adql_evaluation import Table
from obsarchive.web.vo.adql_functions import GEOMETRY
from obsarchive.web.vo.adql_nodes import Query
from obsarchive.web.vo.adql_parser import QueryError
from obsarchive.web.vo.archive_files import Archive
from obsarchive.web.vo.client import is_public, owner, service_address, viewer
from obsarchive.web.vo.lookup import find_file
from obsarchive.web.vo.parameters import Parameters, read_region_parameter
from obsarchive.web.vo.query_runner import DEFAULT_ROWS, MOST_ROWS, TIME_LIMIT_S, Answer, Runner

MOST_CONE_ROWS = 5000
AT_ONCE, OF_VISITORS_AT_ONCE = 4, 4
"""Queries that may run at the same time: of a user or address, and of all visitors without an account together."""
MOST_IDS = 200
"""Identifiers of a request for links."""

bp = Blueprint("vo", __name__, url_prefix="/vo")
P = ParamSpec("P")


@bp.before_request
def _limit_visitors() -> Response | None:
    """Limit how often an address without an account may ask."""
    if not is_public() or not public.asks_too_often():
        return None
    response = answers.error("too many queries from your address: wait a minute", 429)
    response.headers["Retry-After"] = str(int(public.WINDOW_S))
    return response


def answers_errors(view: Callable[P, ResponseReturnValue]) -> Callable[P, ResponseReturnValue]:
    """Let a view answer what is wrong with a query in the format of the protocols."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
        try:
            return view(*args, **kwargs)
        except TooManyQueriesError as err:
            return answers.error(str(err), 429)
        except (QueryError, answers.FormatError) as err:
            return answers.error(str(err))
        except RecursionError:
            return answers.error("the query is nested too deeply")

    return guarded


class TooManyQueriesError(QueryError):
    """The user has as many queries running as are allowed."""


def run_query(query: Query, most: int, table: Table | None = None) -> Answer:
    """Return the answer to a query of the user.

    Parameters
    ----------
    query : Query
        The query.
    most : int
        Rows that the client wants at most.
    table : Table, optional
        The table that it asks; by default that of its name.

    Returns
    -------
    Answer

    Raises
    ------
    QueryError
        The query makes no sense, takes too long, or too many run already.
    """
    store = portal().store
    limits = {f"query {owner()}": AT_ONCE, **({"query public:": OF_VISITORS_AT_ONCE} if is_public() else {})}
    slots = store.slots.take_each(limits, timedelta(seconds=3 * TIME_LIMIT_S))
    if not slots:
        raise TooManyQueriesError(f"{AT_ONCE} queries run already: wait until one has ended")
    try:
        return Runner(viewer(), store.files, Archive.of_portal()).run(query, table, most)
    finally:
        for slot in slots:
            store.slots.give_back(slot)


@bp.get("/scs")
@for_tokens("read")
def scs() -> ResponseReturnValue:
    """Simple Cone Search: observations around a position."""
    try:
        parameters = Parameters.of_request()
        cone = _cone(*(parameters.number(name) for name in ("RA", "DEC", "SR")))
    except QueryError as err:
        return Response(votables.error(str(err)), 400, mimetype=votables.MIME)
    known = [column for column in columns(portal().chain) if column.shown or column.key == "id"]
    order = Order("date_utc", descending=True)
    found = portal().store.browse.stream(viewer(), Criteria(cone=cone), order, MOST_CONE_ROWS)
    rows = [card_of(seen, {}) for seen in found] if is_public() else list(cards(found))
    return Response(votables.of_rows(rows, known), mimetype=votables.MIME)


def _cone(ra: float, dec: float, radius: float) -> Cone:
    if not (-360 <= ra <= 360 and -90 <= dec <= 90 and 0 <= radius <= 180):
        raise QueryError("RA must lie within 0 and 360, DEC within -90 and 90, the radius within 0 and 180 degrees")
    return Cone(ra % 360, dec, radius)


@bp.route("/sia2", methods=["GET", "POST"])
@bp.route("/sia2/query", methods=["GET", "POST"])
@for_tokens("read")
@reads_by_form
@answers_errors
def images() -> ResponseReturnValue:
    """Simple Image Access 2: images as ObsCore rows."""
    parameters = Parameters.of_request()
    if "UPLOAD" in parameters.values:
        raise QueryError("UPLOAD: tables are not taken")
    found = run_query(sia2.query_of(parameters), parameters.most_rows(), sia2.TABLE)
    infos = {"standardID": "ivo://ivoa.net/std/SIA#query-2.0", **parameters.unknown(sia2.PARAMETERS)}
    table = answers.ResultTable(found.columns, found.rows, found.overflow, infos, [datalink.link_service()])
    return table.response(parameters.one("RESPONSEFORMAT"))


@bp.get("/<any(sia2, tap):service>/capabilities")
@for_tokens("read")
def capabilities(service: str) -> ResponseReturnValue:
    """VOSI: where a service answers, and what it understands."""
    page = render_template(
        f"{service}_capabilities.xml",
        service_address=service_address,
        tap_address=service_address("tap_sync").removesuffix("/sync"),
        geometry=sorted(GEOMETRY),
        keep_s=int(KEEP.total_seconds()),
        limit_s=int(TIME_LIMIT_S),
        default_rows=DEFAULT_ROWS,
        most_rows=MOST_ROWS,
    )
    return Response(page, mimetype="text/xml")


@bp.get("/<any(sia2, tap):service>/availability")
@for_tokens("read")
def availability(service: str) -> ResponseReturnValue:  # noqa: ARG001
    """VOSI: that a service is there."""
    return Response(render_template("availability.xml"), mimetype="text/xml")


@bp.route("/datalink", methods=["GET", "POST"])
@for_tokens("read")
@reads_by_form
@answers_errors
def links() -> ResponseReturnValue:
    """DataLink: what belongs to some files."""
    parameters = Parameters.of_request()
    wanted = parameters.one("RESPONSEFORMAT")
    if wanted and not answers.is_known_format(wanted):
        raise QueryError(f"RESPONSEFORMAT: {wanted[:60]!r} is not served")
    dids = parameters.all("ID")
    if len(dids) > MOST_IDS:
        raise QueryError(f"ID: {MOST_IDS} values at most")
    response = datalink.answer(Archive.of_portal(), dids).response()
    response.content_type = datalink.FORMAT
    return response


@bp.route("/soda", methods=["GET", "POST"])
@for_tokens("download")
@reads_by_form
@answers_errors
def cutout() -> ResponseReturnValue:
    """SODA: a part of an image."""
    parameters = Parameters.of_request()
    did = parameters.one("ID")
    file = find_file(Archive.of_portal(), did) if did else None
    path = resolve_product_path(file.path, portal().layout, file.subject.night) if file and file.kind != "raw" else None
    if file is None or path is None:
        return answers.error("ID: there is no such image", 404 if did else 400)
    regions = [("POS", text, "") for text in parameters.all("POS")]
    regions += [(name, text, name) for name in ("CIRCLE", "POLYGON") for text in parameters.all(name)]
    if len(regions) > 1:
        raise QueryError("one of POS, CIRCLE and POLYGON is understood, once")
    region = read_region_parameter(*regions[0]) if regions else None
    wanted = parameters.response_format().lower()
    if wanted not in ("", "image/fits", "application/fits", "fits", "image/png", "png"):
        raise QueryError("RESPONSEFORMAT: image/fits or image/png")
    is_picture = wanted.endswith("png")
    try:
        content = cutouts.cut_out(path, region, is_picture)
    except cutouts.NoOverlapError:
        return Response(status=204)
    audit("download", path=request.path, id=did[:300])
    response = Response(content, mimetype="image/png" if is_picture else "image/fits")
    return as_attachment(response, f"{path.stem}_cutout.{'png' if is_picture else 'fits'}")


@bp.get("/log/<obs_id>/<pipeline>/<step>")
@for_tokens("read")
def log(obs_id: str, pipeline: str, step: str) -> ResponseReturnValue:
    """Send the log of a step, without the names of observations that the user may not see.

    Parameters
    ----------
    obs_id : str
        Id of the observation.
    pipeline, step : str
        Pipeline and step.

    Returns
    -------
    response
        Text; 404 when there is none.
    """
    if is_public():
        abort(404)
    card = find_card(obs_id)
    view = next((view for view in card.pipelines if view.name == pipeline), None)
    if view is None or view.step(step) is None:
        not_found()
    lines = step_manifest(card.observation, view, step).get("log")
    plain = [str(line) for line in lines] if isinstance(lines, list) else ["no log"]
    return Response("\n".join(plain) + "\n", mimetype="text/plain")

"""Public observations: for everybody, without a login, once the proprietary period of their programme has passed."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import wraps
from typing import ParamSpec

from flask import Blueprint, Response, abort, render_template, request
from flask.typing import ResponseReturnValue

from obsarchive.core.citation import DataFile
from obsarchive.core.documents import utc_now
from obsarchive.core.package_texts import describe
from obsarchive.names import is_night
from obsarchive.store import CursorError
from obsarchive.store.programmes import public as public_filter
from obsarchive.store.visibility import visitor
from obsarchive.web.framework.authorization import address, audit
from obsarchive.web.framework.context import full_address, portal
from obsarchive.web.framework.file_responses import as_attachment, resolve_product_path, send_found
from obsarchive.web.framework.parameters import is_set
from obsarchive.web.models.cards import card_of
from obsarchive.web.models.citations import citation, place_of, release
from obsarchive.web.models.download_names import master_name, product_name
from obsarchive.web.models.measurements import companions_seen
from obsarchive.web.models.packages import package, product_bytes, require_files, tar
from obsarchive.web.models.pipeline_views import find_product, pipelines_of
from obsarchive.web.models.raw_data import CALIBRATION_PIPELINE, masters_of, raw_files, resolve_raw_file
from obsarchive.web.models.streams import slotted
from obsarchive.web.models.view_models import Card

ON_A_PAGE = 100
WINDOW_S, MOST_REQUESTS = 60.0, 240
"""Requests that one address may send within a window."""
ALL_STREAMS = 4
"""Archive files that all visitors together may fetch at the same time; one address one."""
STREAM_LIFE = timedelta(minutes=2)

bp = Blueprint("public", __name__)
bp.add_app_template_filter(describe, "what_it_is")

P = ParamSpec("P")

clock: Callable[[], datetime] = utc_now
"""The time by which observations are public."""


def asks_too_often() -> bool:
    """Count a request of an address, and return whether there were too many."""
    return portal().store.throttle.count(f"public {address()}", WINDOW_S) > MOST_REQUESTS


def limited(view: Callable[P, ResponseReturnValue]) -> Callable[P, ResponseReturnValue]:
    """Limit how often one address may ask."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
        if asks_too_often():
            abort(429, f"One address may ask {MOST_REQUESTS} times a minute: wait a minute, then try again.")
        return view(*args, **kwargs)

    return guarded


def _find(obs_id: str) -> Card:
    """Return a public observation, or abort with 404; it is no trespass, so that nothing is recorded."""
    found = portal().store.public.find(release(), obs_id, clock())
    if found is None:
        abort(404)
    return card_of(found, {})


@bp.get("/robots.txt")
def robots() -> ResponseReturnValue:
    """Tell search engines what they may read: pages of public observations, no file."""
    lines = ("User-agent: *", "Allow: /public$", "Allow: /public/observation/", "Disallow: /public/observation/*/")
    return Response("\n".join([*lines, "Disallow: /*.tar", "Disallow: /", "Crawl-delay: 5", ""]), mimetype="text/plain")


@bp.get("/public")
@limited
def listing() -> ResponseReturnValue:
    """List the public observations, the newest first."""
    program, rule = request.args.get("program", ""), release()
    try:
        page = portal().store.public.page(rule, clock(), ON_A_PAGE, request.args.get("cursor", ""), program)
    except CursorError:
        abort(400, "The mark of the page is not valid; start at the first page.")
    shown = [(found, rule.day(found.program, found.date_utc)) for found in page.observations]
    programmes = portal().store.programmes.all()
    found = {"shown": shown, "following": page.following, "program": program, "programmes": programmes}
    return render_template("public.html", full_address=full_address, **found)


@bp.get("/public/observation/<obs_id>")
@limited
def observation(obs_id: str) -> ResponseReturnValue:
    """Show a public observation."""
    card = _find(obs_id)
    cited = citation(card.observation)
    download = full_address("public.download", obs_id=obs_id) if card.has_products else ""
    return render_template(
        "public_observation.html",
        card=card,
        observation=card.observation,
        document=card.observation.document,
        night=card.observation.night,
        companions=companions_seen(card),
        citation=cited,
        metadata=cited.schema_org(download, _fits_files(card)),
        raw=raw_files(card.observation),
        masters=masters_of(card.observation),
    )


def _fits_files(card: Card) -> list[DataFile]:
    """Return the FITS products whose size and checksum are known."""
    return [
        DataFile(
            full_address("public.product", obs_id=card.id, pipeline=view.name, name=name),
            record["bytes"],
            record["sha256"],
        )
        for view in card.pipelines
        for name, record in view.products.items()
        if name.endswith(".fits") and record.get("bytes") and record.get("sha256")
    ]


@bp.get("/public/observation/<obs_id>/datacite.json")
@limited
def datacite(obs_id: str) -> ResponseReturnValue:
    """Return metadata as DataCite takes them."""
    card = _find(obs_id)
    return citation(card.observation).datacite(product_bytes(card), place_of(card.observation))


@bp.get("/public/observation/<obs_id>/citation.bib")
@limited
def bibtex(obs_id: str) -> ResponseReturnValue:
    """Return the citation for BibTeX."""
    text = citation(_find(obs_id).observation).bibtex()
    return as_attachment(Response(text, mimetype="application/x-bibtex"), f"{obs_id}.bib")


@bp.get("/public/observation/<obs_id>/product/<pipeline>/<path:name>")
@limited
def product(obs_id: str, pipeline: str, name: str) -> ResponseReturnValue:
    """Send a product of a public observation.

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
    card = _find(obs_id)
    found = find_product(card.pipelines, pipeline, name)
    path = resolve_product_path(found[0], portal().layout, card.observation.night) if found else None
    if found is None or path is None:
        abort(404)
    return send_found(path, found[1], product_name(card, pipeline, name))


@bp.get("/public/observation/<obs_id>/raw/<name>")
@limited
def raw(obs_id: str, name: str) -> ResponseReturnValue:
    """Send a raw file of a public observation.

    Parameters
    ----------
    obs_id : str
        Id of the observation.
    name : str
        Name of the file.

    Returns
    -------
    response
        The file; 404 when there is none, 410 when it is not on disk any more.
    """
    path = resolve_raw_file(_find(obs_id).observation, name)
    return send_found(path, {}) if path else abort(404)


@bp.get("/public/observation/<obs_id>/calibration/<name>")
@limited
def master(obs_id: str, name: str) -> ResponseReturnValue:
    """Send a master frame that calibrates a public observation.

    Parameters
    ----------
    obs_id : str
        Id of the observation.
    name : str
        Name of the master frame.

    Returns
    -------
    response
        The file; 404 when there is none.
    """
    seen = _find(obs_id).observation
    found = next((file for file in masters_of(seen) if file.name == name and file.path is not None), None)
    if found is None or found.path is None:
        abort(404)
    return send_found(found.path, {"sha256": found.sha256}, master_name(seen.night, name))


@bp.get("/public/calibration/<night>/<name>")
@limited
def master_of_night(night: str, name: str) -> ResponseReturnValue:
    """Send a master frame of a night with public observations.

    Parameters
    ----------
    night : str
        The night, ``yyyymmdd``.
    name : str
        Name of the master frame.

    Returns
    -------
    response
        The file; 404 when there is none.
    """
    allowed = visitor(public_filter(release(), clock()))
    found = portal().store.browse.night(allowed, night) if is_night(night) else None
    views = pipelines_of(found, portal().chain, portal().layout, {}) if found else []
    made = find_product(views, CALIBRATION_PIPELINE, name) if name.endswith(".fits") else None
    path = resolve_product_path(made[0], portal().layout, night) if made else None
    return send_found(path, made[1], master_name(night, name)) if made and path else abort(404)


@bp.get("/public/observation/<obs_id>.tar")
@limited
def download(obs_id: str) -> ResponseReturnValue:
    """Send all products of a public observation; with ``raw=1`` raw files and master frames, too."""
    card = _find(obs_id)
    found = package(card, citation(card.observation).text(), is_set("raw"))
    require_files([found], is_set("raw"))
    audit("download", path=request.full_path, files=str(len(found.items)), bytes=str(found.bytes))
    keys = {f"public {address()}": 1, "public": ALL_STREAMS}
    response = Response(slotted(tar([found]), keys, STREAM_LIFE), mimetype="application/x-tar")
    return as_attachment(response, f"{obs_id}.tar")

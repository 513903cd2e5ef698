"""FITS products in the browser (JS9), and the sky around a target."""

from flask import Blueprint, Response, abort, make_response, render_template, send_file
from flask.typing import ResponseReturnValue

from obsarchive.core.document_paths import DEC_DEG, RA_DEG
from obsarchive.remote.sky_images import Sky, SkyImageError
from obsarchive.web.framework.authorization import not_found
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.security import viewer_policy
from obsarchive.web.models.cards import find_card
from obsarchive.web.models.pipeline_views import find_product

bp = Blueprint("viewer", __name__)


@bp.get("/view/<obs_id>/<pipeline>/<path:name>")
def view(obs_id: str, pipeline: str, name: str) -> ResponseReturnValue:
    """Show a FITS product.

    Parameters
    ----------
    obs_id : str
        Id of the observation.
    pipeline, name : str
        Pipeline and name of the product.

    Returns
    -------
    response
        The page; 404 when there is no such product.
    """
    card = find_card(obs_id)
    if not name.endswith(".fits") or find_product(card.pipelines, pipeline, name) is None:
        not_found()
    made = [(found.name, product) for found in card.pipelines for product in found.products]
    images = [(source, product) for source, product in made if product.endswith(".fits")]
    night = card.observation.night
    page = make_response(
        render_template("viewer.html", card=card, pipeline=pipeline, name=name, images=images, night=night)
    )
    page.headers["Content-Security-Policy"] = viewer_policy()
    return page


@bp.get("/observation/<obs_id>/sky.png")
def sky(obs_id: str) -> ResponseReturnValue:
    """Send a picture of the sky around the target."""
    seen = find_card(obs_id).observation
    ra, dec = seen.number(RA_DEG), seen.number(DEC_DEG)
    return sky_picture(None if ra is None or dec is None else (ra, dec))


def sky_picture(position: tuple[float, float] | None) -> Response:
    """Return a picture of the sky around a position [deg]; 404 without a position or a service."""
    service = portal().settings.server.sky
    if service is None or position is None:
        abort(404)
    try:
        path = Sky(service, portal().settings.paths.tmp / "sky").picture(*position)
    except SkyImageError as err:
        return Response(f"{err}\n", 502, mimetype="text/plain")
    response = send_file(path, mimetype="image/png", max_age=86400)
    response.headers["Cache-Control"] = "private, max-age=86400"
    return response

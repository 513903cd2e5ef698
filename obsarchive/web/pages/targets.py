"""A target across nights: its epochs, what changed from one to the next, and close-ups that are blinked."""

import hashlib
from pathlib import Path

from flask import Blueprint, Response, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.errors import ArchiveError
from obsarchive.figures.close_up import close_up
from obsarchive.instruments.base import number
from obsarchive.io.fits_products import read_fits
from obsarchive.store.search import Cone
from obsarchive.store.target_queries import epochs
from obsarchive.web.framework.authorization import not_found
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.file_responses import FILE_POLICY, resolve_product_path
from obsarchive.web.framework.parameters import refuse, unknown_values
from obsarchive.web.models.cards import card_of, cards_of, find_card
from obsarchive.web.models.positions import position
from obsarchive.web.models.sky_scene import images_of, is_configured
from obsarchive.web.models.target_view import MOST_BLINKED, Target, target_of
from obsarchive.web.models.visible_sources import place_of

bp = Blueprint("targets", __name__)

HALVES_ARCSEC = (0.2, 60.0)
USUAL_HALF_ARCSEC = 2.0
PICTURE_PX = 480
_DRAWN = b"1"
"""Changes whenever close-ups are drawn in another way."""


def find_target(name: str) -> Target:
    """Return a target of which the user may see an observation, or abort with 404."""
    radius_deg = portal().settings.server.target_radius_arcsec / 3600
    place = position(name, "") if name[:1].upper() == "J" else None
    cone = Cone(*place, radius_deg) if place else None
    found = epochs(portal().store.browse, current_user.document, name[:200], radius_deg, cone)
    if not found and (known := place_of(name[:200])):
        found = epochs(portal().store.browse, current_user.document, name[:200], radius_deg, known)
    if not found:
        not_found()
    return target_of(cards_of(found), name)


@bp.get("/target/<name>")
def target(name: str) -> ResponseReturnValue:
    """Show a target with all its epochs."""
    found = find_target(name)
    half, wrong = _half(found.half_arcsec)
    refuse(wrong | unknown_values(request.args, {"epoch": [epoch.card.id for epoch in found.epochs]}))
    blinked = found.blinked(request.args.getlist("epoch"))
    return render_template(
        "target.html",
        target=found,
        blinked=blinked,
        half=half,
        most_blinked=MOST_BLINKED,
        radius=portal().settings.server.target_radius_arcsec,
        on_sky=is_configured() and any(images_of(epoch.card) for epoch in found.blinked([])),
    )


def _half(usual: float) -> tuple[float, dict[str, str]]:
    """Return the requested half side of close-ups, or the usual one [arcsec], and what is wrong with it."""
    text, (low, high) = request.args.get("half", ""), HALVES_ARCSEC
    found = number(text) if text else usual
    if found is not None and low <= found <= high:
        return found, {}
    return usual, {"half": f"an angle from {low:g} to {high:g} arcsec is needed, not {text[:30]!r}"}


@bp.get("/observation/<obs_id>/close-up.png")
def close_up_picture(obs_id: str) -> ResponseReturnValue:
    """Send a close-up of the star of an observation, to be compared with others: north up, the star in the middle."""
    card = find_card(obs_id)
    epoch = target_of([card_of(card.observation, {})]).epochs[0]
    if epoch.image is None:
        not_found()
    half, wrong = _half(USUAL_HALF_ARCSEC)
    refuse(wrong)
    view, name = epoch.image
    key = hashlib.sha256(_DRAWN + f"{view.products[name].get('sha256')} {half}".encode()).hexdigest()
    response = (
        Response(status=304)
        if key in request.if_none_match
        else _picture(card.observation.night, view.folder / name, half)
    )
    response.set_etag(key)
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Content-Security-Policy"] = FILE_POLICY
    return response


def _picture(night: str, path: Path, half_arcsec: float) -> Response:
    found = resolve_product_path(path, portal().layout, night)
    if found is None:
        not_found()
    try:
        return Response(close_up(*read_fits(found), half_arcsec, PICTURE_PX), mimetype="image/png")
    except ArchiveError as err:
        return Response(f"no close-up: {err}\n", 422, mimetype="text/plain")

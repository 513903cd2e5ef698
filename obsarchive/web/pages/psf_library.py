"""The PSF library: what the nights offer, what is in it, what administrators want changed."""

from collections import Counter
from itertools import groupby
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.names import target_of
from obsarchive.web.framework import requests
from obsarchive.web.framework.authorization import admin_only, not_found
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.parameters import refuse, unknown_values
from obsarchive.web.models.cards import night_pipelines

bp = Blueprint("library", __name__, url_prefix="/psflib")

Star = dict[str, Any]
STATES = ("in library", "not in library", "removed", "queued")
"""What a star may be; queued: the daemon has not yet done what an administrator wants."""


def stars() -> list[Star]:
    """Return the stars that nights offer, of observations that the user may see, the newest night first."""
    found = [{**star, "night": night} for night, listed in portal().store.nights.offered_stars() for star in listed]
    if current_user.is_admin:
        return found
    names = {str(star.get("observation")) for star in found}
    visible = portal().store.browse.visible(current_user.document, names)
    mine = [star for star in found if star.get("observation") in visible]
    return list(portal().store.browse.without_others(current_user.document, mine))


@bp.get("")
def psflib() -> ResponseReturnValue:
    """Show the library, night by night."""
    waiting = {
        entry["what"].get("observation"): entry["kind"].removeprefix("library ")
        for entry in portal().store.requests.waiting()
        if entry["kind"].startswith("library ")
    }
    refuse(unknown_values(request.args, {"state": STATES}))
    wanted = request.args.get("state", "")
    shown = [
        {**star, "state": _state(star, waiting), "target": target_of(str(star.get("observation")))} for star in stars()
    ]
    kept = [star for star in shown if not wanted or star["state"] == wanted]
    nights = [(night, list(group)) for night, group in groupby(kept, key=lambda star: star["night"])]
    counts = Counter(str(star["state"]) for star in shown)
    return render_template(
        "psflib.html",
        nights=nights,
        counts=counts,
        wanted=wanted,
        picture=_picture_of(kept),
        rejected=_rejections() if current_user.is_admin else [],
    )


def _state(star: Star, waiting: dict[str, str]) -> str:
    if star.get("observation") in waiting:
        return "queued"
    return str(star.get("state") or "not in library")


def _rejections() -> list[Any]:
    found = (entry for kind in ("library add", "library remove") for entry in portal().store.requests.about(kind)[:5])
    return [entry for entry in found if entry.get("problem")]


def _picture_of(kept: list[Star]) -> dict[str, str]:
    """Name of the picture of each star that its night made."""
    found = {}
    for name in dict.fromkeys(star["night"] for star in kept):
        night = portal().store.browse.night(current_user.document, name)
        made = {product for view in night_pipelines(night) for product in view.products}
        for star in kept:
            picture = f"psflib/{star['observation']}.png"
            if star["night"] == name and picture in made:
                found[star["observation"]] = picture
    return found


@bp.post("/<any(add, remove):what>")
@admin_only
def change(what: str) -> ResponseReturnValue:
    """Request that a star is added to the library or removed from it."""
    name = request.form.get("observation", "")
    if portal().store.browse.observation(current_user.document, name) is None:
        not_found()
    requests.submit(f"library {what}", observation=name)
    flash(f"The daemon will {what} {name}; it takes some seconds.")
    return redirect(url_for(".psflib", state=request.form.get("state") or None))

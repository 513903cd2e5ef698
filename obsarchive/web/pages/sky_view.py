"""Images where they lie on the sky, in Aladin Lite: only where the configuration names a folder that holds it."""

from collections.abc import Sequence

from flask import Blueprint, make_response, render_template, send_file, url_for
from flask.typing import ResponseReturnValue

from obsarchive.web.framework.authorization import not_found
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.security import viewer_policy
from obsarchive.web.models.cards import find_card
from obsarchive.web.models.sky_scene import SkyImage, images_of, is_configured, scene_of
from obsarchive.web.pages.targets import find_target

YEAR_S = 365 * 86400

bp = Blueprint("sky_view", __name__)


@bp.get("/aladin/<version>/aladin.js")
def library(version: str) -> ResponseReturnValue:
    """Send the file of Aladin Lite; `version` is in the address so that browsers fetch a new one."""
    script = portal().settings.server.aladin_script
    if script is None or version != _version():
        not_found()
    response = send_file(script, mimetype="text/javascript", max_age=YEAR_S)
    response.headers["Cache-Control"] = f"private, max-age={YEAR_S}, immutable"
    return response


def _version() -> str:
    script = portal().settings.server.aladin_script
    return f"{script.stat().st_mtime_ns:x}" if script else ""


@bp.get("/observation/<obs_id>/sky")
def observation(obs_id: str) -> ResponseReturnValue:
    """Show the images of an observation on the sky."""
    card = find_card(obs_id)
    back = url_for("observations.observation", obs_id=obs_id)
    return _page(images_of(card), card.name, f"{card.observation.date_utc:%Y-%m-%d %H:%M} UTC", back)


@bp.get("/target/<name>/sky")
def target(name: str) -> ResponseReturnValue:
    """Show one image of each epoch of a target on the sky, the newest first."""
    found = find_target(name)
    epochs = [images_of(epoch.card)[:1] for epoch in reversed(found.blinked([]))]
    back = url_for("targets.target", name=found.name)
    return _page([image for images in epochs for image in images], found.name, "epochs", back)


def _page(images: Sequence[SkyImage], name: str, what: str, back: str) -> ResponseReturnValue:
    if not images or not is_configured():
        not_found()
    scene, script = scene_of(images), url_for(".library", version=_version())
    page = make_response(render_template("sky.html", scene=scene, script=script, name=name, what=what, back=back))
    page.headers["Content-Security-Policy"] = viewer_policy(scene["survey"] or "")
    return page

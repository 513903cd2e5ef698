"""The night as it goes: time line, problems by cause, requests that wait, disks; for those who observe."""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, abort, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.core.documents import Night, utc_now
from obsarchive.names import is_night
from obsarchive.store import Document
from obsarchive.web.framework.context import portal
from obsarchive.web.models.cards import cards_of_night, night_pipelines
from obsarchive.web.models.citations import place_of
from obsarchive.web.models.disk_space import disk_space
from obsarchive.web.models.night_facts import conditions
from obsarchive.web.models.problems import by_cause, problems_of
from obsarchive.web.models.timeline import darkness, exposures_of, gaps_of, lags_of, timeline
from obsarchive.web.models.view_models import Card
from obsarchive.web.pages.nights import change_token

SILENT_S = 20 * 60
"""A night under way without a new file for longer is remarked on."""
STILL_TONIGHT_S = 12 * 3600
"""A night is over when its last file is older."""

bp = Blueprint("tonight", __name__)


@bp.get("/tonight")
def tonight() -> ResponseReturnValue:
    """Show the last night with data, or the one that is asked for."""
    browse, user = portal().store.browse, current_user.document
    night = request.args.get("night", "").replace("-", "") or browse.last_night(user)
    if night is None:
        return render_template("empty.html")
    if not is_night(night):
        abort(404)
    cards = cards_of_night(night)
    before, after = browse.neighbours(user, night)
    found = browse.night(user, night)
    return render_template(
        "tonight.html",
        night=night,
        before=before,
        after=after,
        pulse=change_token(night, [card.id for card in cards]),
        total=len(cards),
        missing=by_cause(problems_of(cards, night, night_pipelines(found))),
        gone=sum(card.is_void for card in cards),
        waiting=_waiting(),
        now=utc_now(),
        **_course(found, cards),
        **_of_machine(),
    )


def _course(found: Night | None, cards: list[Card]) -> dict[str, Any]:
    """Return the time line of a night, its gaps, and the time since its last file."""
    now, exposures = utc_now(), exposures_of(cards)
    place = next((place for card in cards if (place := place_of(card.observation))), None)
    dark = darkness(exposures, place)
    # a user does not see what fills the pauses between own exposures
    gaps = gaps_of(exposures, found, dark, now.timestamp()) if current_user.is_admin else []
    lags = lags_of(cards, now)
    last = max((exposure["stop"] for exposure in exposures), default=0.0)
    silent_s = now.timestamp() - last
    return {
        "line": timeline(exposures, gaps, lags, place) if exposures else None,
        "facts": conditions(found, cards) if found else None,
        "gaps": gaps,
        "lag": max((lag["minutes"] for lag in lags if lag["open"]), default=None),
        "last_exposure": datetime.fromtimestamp(last, UTC),
        "silent_s": silent_s if silent_s < STILL_TONIGHT_S else None,
        "is_silent": SILENT_S < silent_s < STILL_TONIGHT_S,
    }


def _waiting() -> list[Document]:
    """Return the requests that the daemon has not answered: all for administrators, else one's own."""
    found = portal().store.requests.waiting()
    return found if current_user.is_admin else [entry for entry in found if entry.get("who") == current_user.name]


def _of_machine() -> dict[str, Any]:
    if not current_user.is_admin:
        return {"disks": [], "wanted_gb": 0.0}
    daemon = portal().store.jobs.daemon() or {}
    reported = [disk for disk in daemon.get("disks") or () if isinstance(disk, dict)]
    return {
        "disks": disk_space(reported, portal().store.jobs.space()),
        "wanted_gb": portal().settings.daemon.min_free_gb,
    }

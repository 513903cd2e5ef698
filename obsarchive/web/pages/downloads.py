"""Downloads: everything of a selection as one stream, or as a script that fetches what is missing and checks it."""

import re
import shlex
from datetime import timedelta

from flask import Blueprint, Response, abort, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.names import is_night
from obsarchive.store.search import Criteria, Order
from obsarchive.web.framework.authorization import audit, for_tokens, not_found
from obsarchive.web.framework.context import full_address, portal
from obsarchive.web.framework.file_responses import as_attachment
from obsarchive.web.framework.parameters import is_set
from obsarchive.web.models.citations import citation_texts
from obsarchive.web.models.packages import Item, package, product_bytes, require_files, tar
from obsarchive.web.models.raw_data import CALIBRATION, RAW
from obsarchive.web.models.streams import slotted
from obsarchive.web.models.view_models import Card
from obsarchive.web.pages.search import cards, understood

MOST_OBSERVATIONS = 2000
AT_ONCE = 2
"""Streams that one user may have open at the same time."""
SLOT_LIFE = timedelta(minutes=2)

bp = Blueprint("downloads", __name__, url_prefix="/download")


bp.add_app_template_filter(product_bytes)


@bp.get("/night/<night>/<program>.<any(tar, sh):form>")
@for_tokens("download")
def night(night: str, program: str, form: str) -> ResponseReturnValue:
    """Send all products of a programme's night.

    Parameters
    ----------
    night : str
        Night ``yyyymmdd``.
    program : str
        Id of the programme.
    form : {"tar", "sh"}
        An archive, or a script that fetches the products.

    Returns
    -------
    response
        The file; 404 when there is nothing, for an archive file also where no pipeline made a product. A script that
        is fetched every night fetches nothing then.
    """
    if not is_night(night):
        abort(404)
    found = _find(Criteria(night=night, program=program))
    if not found:
        not_found()
    return _send(found, f"{night}_{program}", form)


@bp.get("/observation/<obs_id>.<any(tar, sh):form>")
@for_tokens("download")
def observation(obs_id: str, form: str) -> ResponseReturnValue:
    """Send all products of an observation.

    Parameters
    ----------
    obs_id : str
        Id of the observation.
    form : {"tar", "sh"}
        An archive, or a script that fetches the products.

    Returns
    -------
    response
        The file; 404 when there is nothing, for an archive file also where no pipeline made a product. A script that
        is fetched every night fetches nothing then.
    """
    found = _find(Criteria(id=obs_id, exact=True))
    if not found:
        not_found()
    return _send(found, obs_id, form)


@bp.get("/selection.<any(tar, sh):form>")
@for_tokens("download")
def selection(form: str) -> ResponseReturnValue:
    """Send all products of what a search finds; 404 for an archive file when there are none."""
    found = _find(understood().criteria)
    if len(found) > MOST_OBSERVATIONS:
        abort(400, f"This finds more than {MOST_OBSERVATIONS} observations; narrow the search.")
    return _send(found, "selection", form)


def _find(criteria: Criteria) -> list[Card]:
    order = Order("date_utc", descending=False)
    stream = portal().store.browse.stream
    return list(cards(stream(current_user.document, criteria, order, MOST_OBSERVATIONS + 1, with_raw=_with_raw())))


def _with_raw() -> bool:
    """Whether raw files and master frames are asked for, too."""
    return is_set("raw")


def _url(card: Card, item: Item) -> str:
    if item.source == RAW:
        return full_address("observations.raw", obs_id=card.id, name=item.file)
    if item.name.startswith(f"{CALIBRATION}/"):
        about = {"night": card.observation.night, "pipeline": item.source, "name": item.file}
        return full_address("nights.product", **about)
    return full_address("observations.product", obs_id=card.id, pipeline=item.source, name=item.file)


def _send(found: list[Card], name: str, form: str) -> Response:
    packages = [package(card, text, _with_raw()) for card, text in zip(found, citation_texts(found), strict=True)]
    if form == "tar":
        require_files(packages, _with_raw())
    n_files, n_bytes = sum(len(each.items) for each in packages), sum(each.bytes for each in packages)
    audit("download", path=request.full_path, files=str(n_files), bytes=str(n_bytes))
    if form == "sh":
        files = [(each.card, item) for each in packages for item in each.items]
        fetched = [(_url(card, item), f"{card.id}/{item.name}", item) for card, item in files]
        what = re.sub(r"[^\w.+-]", "_", name)
        text = render_template("download.sh", items=fetched, quoted=shlex.quote, what=what, sum_of=_sum_of)
        response = Response(text, mimetype="text/x-shellscript")
    else:
        response = Response(
            slotted(tar(packages), {current_user.name: AT_ONCE}, SLOT_LIFE), mimetype="application/x-tar"
        )
    return as_attachment(response, f"{name}.{form}")


def _sum_of(item: Item) -> str:
    """Return the checksum of a file as the script takes it: a dash where it is not known, and the size is compared."""
    return item.sha256 if re.fullmatch(r"[0-9a-f]{64}", item.sha256) else "-"

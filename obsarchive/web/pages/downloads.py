"""Downloads: everything of a selection as one stream, or as a script that fetches what is missing and checks it."""

import re
import shlex
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from flask import Blueprint, Response, abort, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.names import is_night
from obsarchive.store.search import Criteria, Order
from obsarchive.web.framework.authorization import audit, for_tokens, not_found
from obsarchive.web.framework.context import full_address, portal
from obsarchive.web.framework.file_responses import as_attachment, resolve_product_path
from obsarchive.web.models.view_models import Card
from obsarchive.web.pages.search import cards, understood

MOST_OBSERVATIONS = 2000
AT_ONCE = 2
"""Streams that one user may have open at the same time."""
SLOT_LIFE = timedelta(minutes=2)
CHUNK = 1 << 20
BLOCK = tarfile.BLOCKSIZE

bp = Blueprint("downloads", __name__, url_prefix="/download")


@dataclass(frozen=True)
class Item:
    """A file to download: path, name, address and checksum."""

    path: Path
    name: str
    url: str
    sha256: str
    bytes: int


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
        The file; 404 when there is nothing.
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
        The file; 404 when there is nothing.
    """
    found = _find(Criteria(id=obs_id, exact=True))
    if not found:
        not_found()
    return _send(found, obs_id, form)


@bp.get("/selection.<any(tar, sh):form>")
@for_tokens("download")
def selection(form: str) -> ResponseReturnValue:
    """Send all products of what a search finds."""
    found = _find(understood().criteria)
    if len(found) > MOST_OBSERVATIONS:
        abort(400, f"This finds more than {MOST_OBSERVATIONS} observations; narrow the search.")
    return _send(found, "selection", form)


def _find(criteria: Criteria) -> list[Card]:
    order = Order("date_utc", descending=False)
    return list(cards(portal().store.browse.stream(current_user.document, criteria, order, MOST_OBSERVATIONS + 1)))


def _items(found: list[Card]) -> Iterator[Item]:
    """Products of observations that are whole on disk."""
    layout = portal().layout
    for card in found:
        for view in card.pipelines:
            for record in view.products.values():
                name = str(record["name"])
                path = resolve_product_path(view.folder / name, layout, card.observation.night)
                if path is not None:
                    url = full_address("observations.product", obs_id=card.id, pipeline=view.name, name=name)
                    inside = f"{card.observation.night}/{card.id}/{view.name}/{name}"
                    yield Item(path, inside, url, str(record.get("sha256") or ""), path.stat().st_size)


def _send(found: list[Card], name: str, form: str) -> Response:
    items = list(_items(found))
    audit("download", path=request.full_path, files=str(len(items)), bytes=str(sum(item.bytes for item in items)))
    if form == "sh":
        checked = [item for item in items if re.fullmatch(r"[0-9a-f]{64}", item.sha256)]
        text = render_template("download.sh", items=checked, quoted=shlex.quote, what=re.sub(r"[^\w.+-]", "_", name))
        response = Response(text, mimetype="text/x-shellscript")
    else:
        response = Response(_slotted(_tar(items)), mimetype="application/x-tar")
    return as_attachment(response, f"{name}.{form}")


def _slotted(stream: Iterator[bytes]) -> Iterator[bytes]:
    """Count a stream among those of the user, until it ends or the client disconnects."""
    slots = portal().store.slots
    slot = slots.take(f"tar {current_user.name}", AT_ONCE, SLOT_LIFE)
    if slot is None:
        abort(429, "Two downloads are running already; wait until one has ended.")

    def sent() -> Iterator[bytes]:
        try:
            for number, chunk in enumerate(stream):
                if number % 64 == 0:
                    slots.keep(slot, SLOT_LIFE)
                yield chunk
        finally:
            slots.give_back(slot)

    return sent()


def _tar(items: list[Item]) -> Iterator[bytes]:
    """Write a tar archive without a temporary file; a file that changes meanwhile ends the stream."""
    for item in items:
        with item.path.open("rb") as file:
            about = tarfile.TarInfo(item.name)
            about.size, about.mtime = item.bytes, int(item.path.stat().st_mtime)
            yield about.tobuf(tarfile.PAX_FORMAT)
            left = item.bytes
            while left > 0:
                chunk = file.read(min(CHUNK, left))
                if not chunk:
                    raise OSError(f"{item.path} shrank while it was sent")
                left -= len(chunk)
                yield chunk
        yield b"\0" * (-item.bytes % BLOCK)
    yield b"\0" * 2 * BLOCK

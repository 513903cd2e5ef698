"""Sidecar files: the document of an observation beside its products, from which a lost database is rebuilt."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from obsarchive.core.archive_paths import Layout
from obsarchive.core.document_paths import COPIES_CALIBRATION_FROM, EFFECTS_DUE, PipelinePaths
from obsarchive.core.document_types.observations import UserFields
from obsarchive.core.document_types.steps import PipelineDocument
from obsarchive.core.documents import Night, PipelineRecord
from obsarchive.core.json_text import ChecksumError, json_with_checksum, parse_with_checksum
from obsarchive.core.values import as_mapping
from obsarchive.io.atomic import atomic_write
from obsarchive.names import is_night
from obsarchive.store import Document

log = logging.getLogger(__name__)

REDO = "redo"
"""Key of a sidecar file: requests of users that the daemon had not taken up."""
COPIES = "copies_calibration_from"
"""Key of the file of a night: the night whose calibration an administrator wants there."""
_NO_REQUEST = json_with_checksum({REDO: []})
_NOT_KEPT = {"pipelined", "look_again", "remembered", "target", EFFECTS_DUE}
_CHANGING = {"distributed", "raw_data", "seeing"}
"""Blocks that the daemon keeps up to date without writing the sidecar file; they are found again otherwise."""


def user_fields(document: Mapping[str, Any]) -> UserFields:
    """Return the fields of an observation that users edit in the Mongo shell or the portal, which the tree keeps."""
    owners = as_mapping(document.get("science_program")).get("program_PI")
    return {
        "program_PI": owners,
        "comment": document.get("comment"),
        "names": document.get("alternative_names"),
        "redo": requested_redos(document),
    }


def requested_redos(document: Mapping[str, Any]) -> list[str]:
    """Return what users asked to have done again and is not yet set to waiting: pipelines, and ``pipeline.step``."""
    found = []
    for name, block in as_mapping(document.get("pipelined")).items():
        record = PipelineRecord(as_mapping(block))
        found += [name] if record.force_redo else []
        found += [f"{name}.{step}" for step, each in record.steps().items() if each.redo]
    return sorted(found)


def take_redos(sidecar: Document, pipelined: dict[str, PipelineDocument]) -> None:
    """Move the requests of a sidecar file into the blocks of a new document."""
    requested = sidecar.pop(REDO, None)
    for request in requested if isinstance(requested, list) else ():
        name, _, step = str(request).partition(".")
        block: dict[str, Any] = pipelined.setdefault(name, {"steps": {}})  # type: ignore[assignment]
        if not step:
            block.setdefault("status", {})["force_redo"] = True
        elif step in block["steps"]:
            block["steps"][step]["redo"] = True


def write_night_requests(layout: Layout, document: Mapping[str, Any]) -> None:
    """Keep beside the products of a night what users want: what is done again, and whose calibration it copies.

    If they want nothing there is no file.

    Parameters
    ----------
    layout : Layout
        Paths of the archive.
    document : mapping
        Document of the night.
    """
    path = layout.night_sidecar(str(document["_id"]))
    copied = Night(document).copies_from
    wanted = {REDO: requested_redos({"pipelined": document}), **({COPIES: copied} if copied else {})}
    content = json_with_checksum(wanted)
    if content == _NO_REQUEST:
        path.unlink(missing_ok=True)
    elif not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content)


def take_night_requests(layout: Layout, night: str, blocks: Mapping[str, PipelineDocument]) -> dict[str, bool | str]:
    """Return what users want of a night, as its file holds it, by fields of its document.

    Parameters
    ----------
    layout : Layout
        Paths of the archive.
    night : str
        The night.
    blocks : mapping
        Its pipelines as they were restored: a request for a step counts where there is that step.
    """
    path = layout.night_sidecar(night)
    try:
        wanted = as_mapping(parse_with_checksum(path.read_bytes()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as err:
        log.warning("%s cannot be read: %s", path, err)
        return {}
    fields: dict[str, bool | str] = {}
    requested, copied = wanted.get(REDO), wanted.get(COPIES)
    if isinstance(copied, str) and is_night(copied):
        fields[COPIES_CALIBRATION_FROM] = copied
    for request in requested if isinstance(requested, list) else ():
        name, _, step = str(request).partition(".")
        at = PipelinePaths.of_night(name)
        if name.isidentifier() and not step:
            fields[at.status("force_redo")] = True
        elif name in blocks and step in blocks[name]["steps"]:
            fields[at.step(step, "redo")] = True
    return fields


class SidecarContent(NamedTuple):
    """What a sidecar file holds, and whether it is as it was written."""

    document: Document
    is_whole: bool


def read_sidecar(layout: Layout, night: str, name: str) -> SidecarContent:
    """Return the content of the sidecar file of an observation; empty if it is absent or cannot be read."""
    path = layout.sidecar(night, name)
    try:
        return SidecarContent(_document_of(parse_with_checksum(path.read_bytes())), is_whole=True)
    except FileNotFoundError:
        return SidecarContent({}, is_whole=False)
    except ChecksumError as err:
        log.warning("%s is damaged: %s", path, err)
        with suppress(ValueError):  # of a time
            return SidecarContent(_document_of(err.content), is_whole=False)
    except (OSError, ValueError) as err:
        log.warning("%s cannot be read: %s", path, err)
    return SidecarContent({}, is_whole=False)


def _document_of(content: object) -> Document:
    return dict(as_mapping(_with_times(content)))


def write_sidecar(layout: Layout, document: Mapping[str, Any]) -> None:
    """Write the document of an observation beside its products, without the blocks of its pipelines.

    Parameters
    ----------
    layout : Layout
        Paths of the archive.
    document : mapping
        Document of the observation.
    """
    path = layout.sidecar(document["night"], document["_id"])
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, _text_of(document))


def sidecar_damage(content: bytes, document: Mapping[str, Any]) -> str:
    """Compare a sidecar file with the document that it was written from, but for what changes without being written.

    Parameters
    ----------
    content : bytes
        Content of the file.
    document : mapping
        Document of the observation.

    Returns
    -------
    str
        What is wrong; empty if nothing is.
    """
    try:
        read = parse_with_checksum(content)
        if read["_id"] != document["_id"]:
            return "its sidecar file is that of another observation"
        written = parse_with_checksum(_text_of(document))
    except (ValueError, LookupError, TypeError, RecursionError) as err:
        return f"its sidecar file cannot be read: {err}"
    differing = sorted(key for key in {*read, *written} - _CHANGING if read.get(key) != written.get(key))
    return f"its sidecar file differs from the database in {', '.join(differing)}" if differing else ""


def _text_of(document: Mapping[str, Any]) -> bytes:
    kept = {key: value for key, value in document.items() if key not in _NOT_KEPT}
    if requested := requested_redos(document):
        kept[REDO] = requested
    return json_with_checksum(kept, default=_iso)


def _iso(value: object) -> str:
    """Return a time, or another value that JSON does not have, as text."""
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else str(value)


def _with_times(value: Any, key: str = "") -> Any:
    """Return a document of a sidecar file with its times converted from text."""
    if isinstance(value, dict):
        return {name: _with_times(inner, name) for name, inner in value.items()}
    if isinstance(value, str) and key in ("date_utc", "date_added", "last_modified", "nearest_utc"):
        return datetime.fromisoformat(value)
    return value

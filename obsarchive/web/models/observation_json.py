"""Observations and nights as the interface for programs describes them."""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from obsarchive.store import Document, Note, StepProblem
from obsarchive.web.framework.context import full_address, portal
from obsarchive.web.models.citations import citation
from obsarchive.web.models.columns import columns, iso
from obsarchive.web.models.pipeline_views import PipelineView, StepView
from obsarchive.web.models.raw_data import CALIBRATION_PIPELINE, masters_of, raw_files
from obsarchive.web.models.user_notes import note_on
from obsarchive.web.models.view_models import Card

OF_A_JOB = (
    "subject",
    "night",
    "pipeline",
    "step",
    "state",
    "fraction",
    "text",
    "message",
    "queued",
    "started",
    "finished",
    "duration_s",
    "cpu_s",
    "peak_memory_mb",
)


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: times as text, no number that is none."""
    match value:
        case datetime():
            return iso(value)
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(inner) for inner in value]
        case str() | int() | float() | None:
            return value
        case _:
            return str(value)


def rows(cards: Iterable[Card]) -> list[dict[str, Any]]:
    """Describe observations in short."""
    known = columns(portal().chain)
    return [
        {
            **{column.key: column.plain(card) for column in known},
            "url": full_address("api.observation", obs_id=card.id),
        }
        for card in cards
    ]


def note(found: Note) -> dict[str, Any]:
    """Describe a note with its earlier versions."""
    about = {"quality": found.quality, "text": found.text, "author": found.author, "version": found.version}
    return {**about, "written": plain(found.written), "earlier": [note(before) for before in found.earlier]}


def observation(card: Card) -> dict[str, Any]:
    """Describe an observation with all its pipelines."""
    seen, document = card.observation, card.observation.document
    cited = citation(seen)
    return {
        **rows([card])[0],
        "science_program": plain(document.get("science_program") or {}),
        "comment": document.get("comment"),
        "own_note": note(note_on(card.id)),
        "raw_files": [path.name for path in seen.raw_files],
        "sources": sources(card),
        "public_from": cited.released.isoformat() if cited.released else None,
        "citation": cited.sentence(),
        "pipelines": {view.name: _pipeline(card, view) for view in card.pipelines},
        "tarball": full_address("observations.tarball", obs_id=card.id) if card.has_tarball else None,
        "page": full_address("observations.observation", obs_id=card.id),
    }


def sources(card: Card) -> list[dict[str, Any]]:
    """Describe the raw files of an observation and the master frames of its night: size [byte] and address."""
    seen = card.observation
    raw = (("raw", found, {"obs_id": card.id}) for found in raw_files(seen))
    masters = (("master", found, {"night": seen.night, "pipeline": CALIBRATION_PIPELINE}) for found in masters_of(seen))
    views = {"raw": "observations.raw", "master": "nights.product"}
    return [
        {
            "kind": kind,
            "name": found.name,
            "bytes": found.bytes,
            "sha256": found.sha256 or None,
            "url": full_address(views[kind], name=found.name, **about) if found.path else None,
        }
        for kind, found, about in (*raw, *masters)
    ]


def _pipeline(card: Card, view: PipelineView) -> dict[str, Any]:
    steps = {step.name: _step(card, view, step) for step in view.steps}
    return {"state": str(view.state), "classified_as": view.record.classified_as, "steps": steps}


def _step(card: Card, view: PipelineView, step: StepView) -> dict[str, Any]:
    record = step.record
    return {
        "state": str(step.state),
        "message": record.message,
        "lacks": step.lacks,
        "finished": plain(record.finished),
        "results": plain(record.results),
        "products": [product(card, view, found) for found in step.products],
    }


def product(card: Card, view: PipelineView, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a product.

    Parameters
    ----------
    card : Card
        The observation.
    view : PipelineView
        The pipeline that made the product.
    found : mapping
        Record of the product.

    Returns
    -------
    dict
        Name, size [byte], checksum and address.
    """
    name = str(found["name"])
    return {
        "pipeline": view.name,
        "name": name,
        "bytes": found.get("bytes"),
        "sha256": found.get("sha256"),
        "url": full_address("observations.product", obs_id=card.id, pipeline=view.name, name=name),
    }


def problem(found: StepProblem) -> dict[str, Any]:
    """Describe a step that has no products now."""
    record = found.record
    about = {"subject": found.subject, "night": found.night, "pipeline": found.path[0], "step": found.path[1]}
    return {**about, "state": str(record.state), "message": record.message, "finished": plain(record.finished)}


def job(found: Document) -> dict[str, Any]:
    """Describe an attempt at a step."""
    return {key: plain(found[key]) for key in OF_A_JOB if key in found}

"""Comparison of products on disk with the database and with their manifests."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import StepRecord
from obsarchive.core.json_text import parse_json
from obsarchive.core.step_state import State
from obsarchive.io.atomic import sha256
from obsarchive.pipeline import Pipeline, Step
from obsarchive.pipeline.chain import ChainEntry

if TYPE_CHECKING:
    from obsarchive.daemon.planner import Subject  # which needs the calibration

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Missing:
    """A step whose products are not all there."""

    pipeline: Pipeline
    step: Step
    products: tuple[str, ...]


def missing_products(subject: "Subject", chain: Sequence[ChainEntry], layout: Layout) -> Iterator[Missing]:
    """Yield the steps that are done although a product of theirs vanished or changed its size.

    Parameters
    ----------
    subject : Observation or Night
        What the steps belong to.
    chain : sequence of ChainEntry
        Pipelines that apply.
    layout : Layout
        Paths of the archive.

    Yields
    ------
    Missing
    """
    for link in chain:
        record = subject.pipeline(link.pipeline.name)
        folder = link.pipeline.path(layout, subject.night, subject.id)
        for name, step in link.pipeline.steps.items():
            gone = tuple(_gone(record.step(name), folder))
            if gone:
                yield Missing(link.pipeline, step, gone)


def _gone(record: StepRecord, folder: Path) -> Iterator[str]:
    if record.state is not State.DONE:
        return
    for product in record.products:
        name = str(product.get("name", ""))
        try:
            size = os.stat(folder / name).st_size  # noqa: PTH116 - a hot path
        except FileNotFoundError:
            yield name
            continue
        except OSError as err:  # a stale mount is no reason to make anything again
            log.warning("%s cannot be looked at: %s", folder / name, err)
            continue
        if size != product.get("bytes", size):
            yield name


def verify(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield every product of a tree that differs from the checksum in its manifest, and what is wrong."""
    for path in sorted(root.rglob(".*.json")):
        try:
            manifest = parse_json(path.read_bytes())
            products = [(path.parent / entry["name"], entry["sha256"]) for entry in manifest.get("products", [])]
        except (OSError, ValueError, AttributeError, LookupError, TypeError) as err:
            yield path, f"the manifest cannot be read: {err}"
            continue
        for file, checksum in products:
            if not file.is_file():
                yield file, "is missing"
            elif sha256(file) != checksum:
                yield file, "differs from its checksum"

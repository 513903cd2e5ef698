"""Comparison of products on disk with the database and with their manifests."""

import logging
import os
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obsarchive.core.archive_paths import SIDECAR, Layout
from obsarchive.core.documents import StepRecord
from obsarchive.core.json_text import parse_with_checksum
from obsarchive.core.step_state import State
from obsarchive.io.atomic import sha256
from obsarchive.names import is_observation
from obsarchive.pipeline import Pipeline, Step
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.store import carried_over

if TYPE_CHECKING:
    from obsarchive.daemon.night_context import Subject  # which needs the calibration

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


def damage_of(record: StepRecord, folder: Path, manifest: Path) -> tuple[int, str]:
    """Compare what a step that ended left on disk with what the database knows of it.

    Parameters
    ----------
    record : StepRecord
        The step.
    folder : Path
        Folder of its pipeline.
    manifest : Path
        Its manifest.

    Returns
    -------
    n_bytes : int
        Bytes read.
    damage : str
        What is wrong; empty if nothing is, or if the disk cannot be read at present.
    """
    n_bytes = 0
    if record.state not in (State.DONE, State.REJECTED, State.LACKING):
        return n_bytes, ""
    checksums = {str(product.get("name", "")): product.get("sha256") for product in record.products}
    try:
        if _content_of(manifest) != (checksums, record.state, record.message, dict(record.results)):
            return n_bytes, "its manifest is damaged"
        for name, checksum in checksums.items():
            n_bytes += (folder / name).stat().st_size
            if sha256(folder / name) != checksum:
                return n_bytes, f"{name} differs from its checksum"
    except FileNotFoundError as err:
        return n_bytes, f"{Path(err.filename).name} vanished"
    except OSError as err:  # a stale mount is no reason to make anything again
        log.warning("%s cannot be read: %s", folder, err)
    return n_bytes, ""


def _content_of(manifest: Path) -> tuple[dict[str, str], str, str, dict[str, Any]] | None:
    """Return checksums of products, state, message and results of a manifest; None where it is damaged."""
    content = manifest.read_bytes()
    try:
        read = carried_over(parse_with_checksum(content))
        checksums = {entry["name"]: entry["sha256"] for entry in read["products"]}
        return checksums, str(read["state"]), str(read.get("message", "")), read.get("results", {})
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def verify(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield every product of a tree that differs from the checksum in its manifest, and what is wrong.

    What no manifest names, in a folder where one is damaged or in that of a pipeline without any, cannot be checked and
    is yielded as well.
    """
    yield from _without_manifests(root)
    manifests = sorted(root.rglob(".*.json"))
    for folder, group in groupby(manifests, key=lambda path: path.parent):
        known: dict[Path, str] = {}
        damaged = False
        for path in group:
            try:
                content = parse_with_checksum(path.read_bytes())
                known |= {folder / entry["name"]: entry["sha256"] for entry in content.get("products", [])}
            except (OSError, ValueError, AttributeError, LookupError, TypeError) as err:
                yield path, f"the {'sidecar file' if path.name == SIDECAR else 'manifest'} cannot be read: {err}"
                damaged |= path.name != SIDECAR
        yield from ((file, what) for file, checksum in known.items() if (what := _difference(file, checksum)))
        if damaged:
            yield from ((file, "cannot be checked: its manifest is damaged") for file in _strangers(folder, known))


def _without_manifests(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files of observations in folders of pipelines that hold no manifest."""
    for folder in sorted(root.glob("????????/*/*/")):
        if is_observation(folder.parent.name) and not any(folder.glob(".*.json")):
            yield from ((file, "cannot be checked: there is no manifest") for file in _strangers(folder, ()))


def _difference(file: Path, checksum: str) -> str:
    try:
        return "" if sha256(file) == checksum else "differs from its checksum"
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return "is missing"
    except OSError as err:
        return f"cannot be read: {err.strerror}"


def _strangers(folder: Path, known: Container[Path]) -> Iterator[Path]:
    """Yield the files of a folder that no manifest names."""
    for file in sorted(folder.rglob("*")):
        if file not in known and file.is_file() and not file.name.startswith("."):
            yield file

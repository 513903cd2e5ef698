"""Blocks of pipelines as manifests of the archive tree hold them, for a database that lacks them."""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from obsarchive.core.document_types.steps import PipelineDocument
from obsarchive.core.documents import utc_now
from obsarchive.core.json_text import parse_with_checksum
from obsarchive.core.step_state import State, is_complete
from obsarchive.store import StepUpdate, carried_over

log = logging.getLogger(__name__)

_NEEDED_OF_MANIFEST = {"pipeline", "step", "state", "started", "finished"}


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; nothing else is read of them, since they are many."""
    try:
        with os.scandir(folder) as entries:
            return sorted(found.name for found in entries if found.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _manifests(folder: Path) -> Iterator[Mapping[str, Any]]:
    for path in sorted(folder.glob(".*.json")):
        try:
            manifest = parse_with_checksum(path.read_bytes())
        except (OSError, ValueError) as err:
            log.warning("%s cannot be read (%s): its step will be done again", path, err)
            continue
        if isinstance(manifest, dict) and manifest.keys() >= _NEEDED_OF_MANIFEST:
            yield carried_over(manifest)


def blocks_by_pipeline(folder: Path) -> dict[str, PipelineDocument]:
    """Return the blocks of pipelines that the manifests of a folder describe; damaged ones are left to their steps."""
    blocks: dict[str, PipelineDocument] = {}
    for manifest in _manifests(folder):
        try:
            step = StepUpdate(State(manifest["state"]), str(manifest.get("message", "")), manifest).to_document()
        except (ValueError, TypeError) as err:
            log.warning("a manifest in %s is damaged (%s): its step will be done again", folder, err)
            continue
        block = blocks.setdefault(str(manifest["pipeline"]), {"steps": {}})
        block["steps"][str(manifest["step"])] = {**step, "retries": 0}
        if "classified_as" in manifest:
            block["classified_as"] = manifest["classified_as"]
    for block in blocks.values():
        done = is_complete(step["state"] for step in block["steps"].values())
        block["status"] = {"done": done, "enqueued": False, "force_redo": False, "retries": 0}
        block["last_modified"] = utc_now()
    return blocks

"""Raw files of an observation, and the master frames of its night that calibrate it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flask import abort

from obsarchive.core.documents import Night, Observation
from obsarchive.core.values import as_mapping
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.file_responses import resolve_product_path
from obsarchive.web.models.pipeline_views import pipelines_of

RAW, CALIBRATION = "raw", "calibration"
"""Folders of an archive file beside those of the pipelines."""
CALIBRATION_PIPELINE = "calib"


@dataclass(frozen=True)
class SourceFile:
    """A file from which products were made.

    Parameters
    ----------
    name : str
        Its name.
    path : Path or None
        Where it is; None if it is not on disk any more.
    sha256 : str
        Its checksum, if known.
    """

    name: str
    path: Path | None
    sha256: str = ""

    @property
    def bytes(self) -> int | None:
        """Size; None if it is not on disk."""
        try:
            return self.path.stat().st_size if self.path else None
        except OSError:
            return None


def raw_files(observation: Observation) -> list[SourceFile]:
    """Return the raw files of an observation, also those that have gone."""
    return [SourceFile(path.name, resolve_raw_path(path)) for path in observation.raw_files]


def resolve_raw_file(observation: Observation, name: str) -> Path | None:
    """Return the real path of a raw file of an observation; abort with 410 when it is not on disk any more.

    Parameters
    ----------
    observation : Observation
        The observation, which the user may see.
    name : str
        Name of the file.

    Returns
    -------
    Path or None
        None if the observation has no file of that name.
    """
    found = next((file for file in raw_files(observation) if file.name == name), None)
    if found is not None and found.path is None:
        abort(410, f"The raw file {name} is not on the disk of the archive any more; the products stay.")
    return found.path if found else None


def resolve_raw_path(path: Path) -> Path | None:
    """Return the real path of a raw file; None if it has gone, or lies outside of the configured raw folders.

    Folders of nights may be links to other disks; the file itself may not lead elsewhere.
    """
    roots = [root.path for root in portal().settings.paths.raw]
    if ".." in path.parts or not any(path.is_relative_to(root) for root in roots):
        return None
    try:
        found, folder = path.resolve(strict=True), path.parent.resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return found if found.parent == folder and found.is_file() else None


def masters_used(observation: Observation, pipelines: Iterable[str]) -> set[str]:
    """Return what some pipelines calibrated an observation with, such as ``dark_64``: names of files of the night."""
    records = (record for name in pipelines for record in observation.pipeline(name).steps().values())
    return {label.split(":")[0] for record in records for label in str(record.inputs.get("calibration") or "").split()}


def masters_of(observation: Observation) -> list[SourceFile]:
    """Return the master frames of the night that calibrated an observation; none before it was reduced."""
    used = masters_used(observation, as_mapping(observation.document.get("pipelined")))
    wanted = {f"{label}.fits" for label in used}
    document = portal().store.nights.find(observation.night) if wanted else None
    if document is None:
        return []
    layout = portal().layout
    views = pipelines_of(Night(document), portal().chain, layout, {})
    products = {
        name: (view.folder / name, record)
        for view in views
        if view.name == CALIBRATION_PIPELINE
        for name, record in view.products.items()
    }
    return [
        SourceFile(name, resolve_product_path(path, layout, observation.night), str(record.get("sha256") or ""))
        for name, (path, record) in products.items()
        if name in wanted
    ]


def total_bytes(files: Iterable[SourceFile]) -> int:
    """Return the size of the files that are on disk."""
    return sum(found.bytes or 0 for found in files)

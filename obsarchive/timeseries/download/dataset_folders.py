"""Where frames belong: datasets ``target/instrument/filter``, their lock, their first configuration."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from obsarchive.config import yaml_files
from obsarchive.errors import ConfigError
from obsarchive.io.atomic import atomic_write
from obsarchive.io.dataset_lock import holder
from obsarchive.timeseries.config import ReductionConfig, is_placeholder
from obsarchive.timeseries.download.online_archive import Kind

log = logging.getLogger(__name__)

CONFIGURATION = "reduction_config.yaml"
UNSORTED = "unsorted"
INSTRUMENTS: dict[str, tuple[str, Kind]] = {
    "fl": ("sinistro", "image"),
    "fa": ("sinistro", "image"),
    "ep": ("muscat", "image"),
    "sq": ("qhy", "image"),
    "en": ("floyds", "spectrum"),
    "ghts": ("goodman", "spectrum"),
}
"""Folder and kind of data of an instrument, by the beginning of its name."""
MAX_NAME = 100


@dataclass(frozen=True)
class Place:
    """Dataset folder of a frame."""

    folder: Path
    is_known: bool
    """Whether the instrument is known; else the frame goes to ``unsorted``."""

    @property
    def is_locked(self) -> bool:
        """Whether a reduction of it is running."""
        return holder(self.folder) is not None


def place_of(frame: Mapping[str, Any], root: Path, instruments: Mapping[str, tuple[str, Kind]]) -> Place:
    """Return the dataset of a frame: ``target/instrument/FILTER``, for spectra ``target/instrument/yyyymmdd``.

    Parameters
    ----------
    frame : mapping
        Document of the frame: ``instrument``, ``target``, ``filter``, ``date_utc``.
    root : Path
        Folder of all datasets.
    instruments : mapping
        Start of an instrument's name: (folder, ``"image"`` or ``"spectrum"``).

    Returns
    -------
    Place
        The folder, and whether the instrument is known.
    """
    name = str(frame.get("instrument") or "").lower()
    known = max((start for start in instruments if name.startswith(start)), key=len, default="")
    if not known:
        return Place(root / UNSORTED / safe(name or "unknown"), False)
    folder, kind = instruments[known]
    moment = frame.get("date_utc")
    day = f"{moment:%Y%m%d}" if isinstance(moment, datetime) else "unknown"
    last = safe(str(frame.get("filter") or "")) if kind == "image" else day
    return Place(root / safe(str(frame.get("target") or "")) / folder / last, True)


def safe(text: str) -> str:
    """Return a text as the name of a folder: no separator, no dot in front, nothing that a shell could mistake."""
    return re.sub(r"[^\w+.-]+", "_", text, flags=re.ASCII).strip("._-")[:MAX_NAME] or "unknown"


def prepare(folder: Path, template: Path | None, frame: Mapping[str, Any]) -> None:
    """Make a dataset and, if there is a template, its configuration; one that is there is never touched.

    Parameters
    ----------
    folder : Path
        The dataset.
    template : Path, optional
        ``default_red_config.yaml``.
    frame : mapping
        A frame of it: ``target``, ``ra``, ``dec``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CONFIGURATION
    if template is None or path.exists():
        return
    try:
        check_template(template)
    except ConfigError as err:
        log.warning("%s; %s gets no configuration until it is mended", err, folder)
        return
    configuration = yaml_files.read(template)
    _with_absolute_paths(configuration, template.parent)
    known = configuration.get("target") or {}
    configuration["target"] = {**known, "name": frame.get("target"), "RA": frame.get("ra"), "Dec": frame.get("dec")}
    tom = configuration.get("tom")
    if isinstance(tom, dict) and is_placeholder(str(tom.get("data_label") or "")):
        tom["data_label"] = frame.get("target")
    stamp = f"# made from {template.name} on {datetime.now(UTC):%Y-%m-%d}\n"
    atomic_write(path, (stamp + yaml.safe_dump(configuration, sort_keys=False)).encode())


def check_template(template: Path) -> ReductionConfig:
    """Return what a template configures, for any target.

    Parameters
    ----------
    template : Path
        ``default_red_config.yaml``; its target is that of each dataset.

    Returns
    -------
    ReductionConfig
        With another target.

    Raises
    ------
    ConfigError
        With file, line and key of what is wrong.
    """
    found = yaml_files.load(template, ReductionConfig, {"target": {"name": "any", "RA": 0.0, "Dec": 0.0}})
    if not isinstance(yaml_files.read(template).get("target"), dict | None):
        raise ConfigError(f"{template}: target: expected keys and values")
    return found


def _with_absolute_paths(configuration: Any, folder: Path) -> None:
    """Make paths that are relative to the template absolute: the configuration that is made of it lies elsewhere."""
    for section, key in (("photometry", "catalogue"), ("tom", "config_file")):
        part = configuration.get(section)
        value = part.get(key) if isinstance(part, dict) else None
        if isinstance(value, str) and (folder / value).is_file():
            part[key] = str((folder / value).absolute())

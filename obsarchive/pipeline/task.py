"""What a worker is given to run one step, and the folders in which it works."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obsarchive.config.model import Calibration, RawRoot, Telescope
from obsarchive.core.documents import Night, Observation
from obsarchive.core.masters import Master
from obsarchive.pipeline.declaration import Pipeline


@dataclass(frozen=True)
class Task:
    """All that a worker needs to run one step: names, numbers and paths; pixels stay on disk.

    Attributes
    ----------
    id : str
        Unique to this attempt.
    pipeline : type
        Class of the pipeline.
    step : str
        Name of the step.
    document : mapping
        Of the observation or night in the database.
    archive, tmp : Path
        Root of the archive, and folder of temporary files on the worker.
    settings, step_settings : mapping
        As configured, of the pipeline and of its steps by name.
    inputs : mapping of str to str
        Signatures of what the step is made from, by kind.
    files : mapping of str to tuple of Path
        Raw files by kind.
    masters : tuple of Master
        Master darks and flats that fit the observation.
    telescope : Telescope, optional
        Of the observation.
    telescopes : mapping of str to Telescope
        All telescopes of the configuration, for steps of nights.
    observations : tuple of mapping
        Documents of the night's observations, for steps that use them.
    calibration : Calibration
        Configuration of the calibration.
    raw_roots : tuple of RawRoot
        Folders of raw files, and the instruments that wrote them.
    config_digest : str
        Identifies the configuration in the provenance of products.
    time_limit_s, memory_limit_gb : float
        Limits of the step's process [s], [GB].
    permit : Path, optional
        Folder without which nothing may be published (:mod:`obsarchive.io.permit`); None if none is needed.
    """

    id: str
    pipeline: type[Pipeline]
    step: str
    document: Mapping[str, Any]
    archive: Path
    tmp: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    step_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    masters: tuple[Master, ...] = ()
    telescope: Telescope | None = None
    telescopes: Mapping[str, Telescope] = field(default_factory=dict)
    observations: tuple[Mapping[str, Any], ...] = ()
    calibration: Calibration = field(default_factory=Calibration)
    raw_roots: tuple[RawRoot, ...] = ()
    config_digest: str = ""
    time_limit_s: float = 1800.0
    memory_limit_gb: float = 2.0
    permit: Path | None = None

    @property
    def subject(self) -> Observation | Night:
        """The observation or the night that is processed."""
        return (Night if self.pipeline.scope == "night" else Observation)(self.document)

    @property
    def scratch(self) -> Path:
        """Folder for the step's own intermediate files."""
        return steps_folder(self.tmp) / self.id

    def __str__(self) -> str:
        return f"{self.document['_id']} {self.pipeline.name}.{self.step}"


def remove_scratch(task: Task) -> None:
    """Remove the scratch folder of a step that ended, successfully or not."""
    shutil.rmtree(task.scratch, ignore_errors=True)


def steps_folder(tmp: Path) -> Path:
    """Return the folder of the scratch folders of steps that run."""
    return tmp / "steps"


def unpacked_folder(tmp: Path, subject: str) -> Path:
    """Return the folder of unpacked raw files of an observation or night.

    It is kept until no step is due for the subject: all its pipelines read the same files.

    Parameters
    ----------
    tmp : Path
        Folder of temporary files.
    subject : str
        Name of the observation, or the night.

    Returns
    -------
    Path
        The folder; it need not exist.
    """
    return tmp / "unpacked" / os.fspath(subject)

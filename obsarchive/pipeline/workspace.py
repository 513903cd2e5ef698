"""What a step is given to work with: its task, and a workspace with its inputs and a place for its products."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from pydantic import TypeAdapter

from obsarchive import __version__
from obsarchive.config.field_types import import_class
from obsarchive.config.model import Calibration, RawRoot, Telescope
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Master, Night, Observation
from obsarchive.core.progress import ProgressCallback, no_progress
from obsarchive.core.values import plain_values
from obsarchive.errors import ArchiveError, Unprocessable
from obsarchive.instruments.base import Sectioned
from obsarchive.io import atomic, fits_products
from obsarchive.io.raw_frames import Frames, Sections, read_header, unpack
from obsarchive.pipeline.declaration import InputKind, NoSettings, Pipeline, Step, step

__all__ = ["InputKind", "NoSettings", "Pipeline", "ProgressCallback", "Step", "Task", "Workspace", "step"]


@dataclass(frozen=True)
class Task:
    """All that a worker must know to run one step: names, numbers and paths; pixels stay on disk."""

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
    """Of the observation."""
    telescopes: Mapping[str, Telescope] = field(default_factory=dict)
    """All that are known, for steps of nights."""
    observations: tuple[Mapping[str, Any], ...] = ()
    """Documents of the night's observations, for steps that use them."""
    calibration: Calibration = field(default_factory=Calibration)
    raw_roots: tuple[RawRoot, ...] = ()
    """Where raw files lie, and which instruments wrote them."""
    config_digest: str = ""
    time_limit_s: float = 1800.0
    memory_limit_gb: float = 2.0

    @property
    def subject(self) -> Observation | Night:
        """The observation or the night that is worked on."""
        return (Night if self.pipeline.scope == "night" else Observation)(self.document)

    @property
    def scratch(self) -> Path:
        """Folder for the step's own intermediate files."""
        return self.tmp / "steps" / self.id

    def __str__(self) -> str:
        return f"{self.document['_id']} {self.pipeline.name}.{self.step}"


def remove_scratch(task: Task) -> None:
    """Remove the scratch folder of a step that ended, however it did."""
    shutil.rmtree(task.scratch, ignore_errors=True)


class Workspace:
    """What a step works with: its inputs, settings, scratch folder, and where its products go."""

    def __init__(self, task: Task, progress: ProgressCallback = no_progress) -> None:
        self.task = task
        self.subject = task.subject
        self.layout = Layout(task.archive)
        self.progress = progress
        self.pipeline = task.pipeline(task.settings, task.step_settings)
        self.settings = self.pipeline.step_settings[task.step]
        self.folder = self.pipeline.path(self.layout, self.subject.night, self.subject.id)
        self.started = datetime.now(UTC)
        self._made: dict[str, Path] = {}
        self._amended: list[dict[str, Any]] = []

    @property
    def observation(self) -> Observation:
        """The observation, for steps of its pipelines."""
        if not isinstance(self.subject, Observation):
            raise TypeError(f"{self.task} works on a night, not on an observation")
        return self.subject

    @property
    def telescope(self) -> Telescope:
        """The telescope of the observation; rejects an observation that has none."""
        if self.task.telescope is None:
            raise Unprocessable(
                f"no telescope for camera {self.observation.camera!r} on "
                f"{self.observation.date_utc:%Y-%m-%d}: add one to the section telescope of the configuration"
            )
        return self.task.telescope

    def telescope_of(self, camera: str) -> Telescope:
        """Telescope to which a camera was attached that night; `Unprocessable` when there is none."""
        day = date.fromisoformat(self.subject.night)
        found = next((t for t in self.task.telescopes.values() if t.applies_to(camera, day)), None)
        if found is None:
            raise Unprocessable(f"no telescope for camera {camera!r} on {day}: add one to the section telescope")
        return found

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The night's observations, for steps of nights that use them."""
        return tuple(map(Observation, self.task.observations))

    @property
    def source_name(self) -> str:
        """Product of another pipeline that this step works on, ``pipeline/product``; rejects when there is none."""
        reads = self.pipeline.steps[self.task.step].reads
        found = self.observation.first_product(reads)
        if found is None:
            raise Unprocessable(f"nothing to work on: none of {', '.join(reads)} was made")
        return found[0].format(id=self.subject.id)

    def source(self) -> Path:
        """Path of the product of another pipeline that this step works on."""
        return self.layout.observation(self.subject.night, self.subject.id) / self.source_name

    def scratch(self) -> Path:
        """Folder for this step's own intermediate files, removed when the step ends."""
        folder = self.task.scratch
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def frames(self, use: InputKind = "science", files: Iterable[Path] | None = None) -> Frames:
        """Frames of the raw files of one kind, or of some of them, in order; unpacked once per subject."""
        paths = list(self.task.files.get(use, ()) if files is None else files)
        if not paths:
            raise Unprocessable(f"no raw {use} files of {self.subject.id} on disk")
        folder = unpacked_folder(self.task.tmp, self.subject.id)
        folder.mkdir(parents=True, exist_ok=True)
        return Frames([unpack(path, folder) for path in paths], self._sections(paths[0]))

    def _sections(self, path: Path) -> Sections:
        """Overscan and trim of the camera that wrote a file."""
        root = next((root for root in self.task.raw_roots if path.is_relative_to(root.path)), None)
        if root is None:
            return Sections()
        instrument = import_class(root.instrument)(root.settings)
        return instrument.sections(read_header(path)) if isinstance(instrument, Sectioned) else Sections()

    def results(self, name: str) -> Mapping[str, Any]:
        """Measured values of an earlier step of this pipeline; empty when it has none."""
        return self.subject.pipeline(self.pipeline.name).step(name).results

    def product(self, name: str) -> Path:
        """Path of a product of this pipeline."""
        return self.folder / name.format(id=self.subject.id)

    def read(self, name: str, extension: str = "") -> tuple[np.ndarray, fits.Header]:
        """Image and header of a FITS product of an earlier step."""
        return fits_products.read_fits(self.product(name), extension)

    def publish(self, name: str, data: bytes) -> None:
        """Write a product: it is whole or absent."""
        path = self._place(name)
        atomic.atomic_write(path, data)

    def publish_fits(
        self,
        name: str,
        image: np.ndarray | Mapping[str, np.ndarray | None],
        header: fits.Header | Mapping[str, Any] | None = None,
        masters: Iterable[Master] = (),
        raw_files: Iterable[Path] | None = None,
    ) -> None:
        """Write an image, or several by name, with provenance in the header: all raw files unless some are named."""
        if raw_files is None:
            raw_files = [path for paths in self.task.files.values() for path in paths]
        provenance = fits_products.Provenance(
            version=__version__,
            pipeline=self.pipeline.name,
            step=self.task.step,
            config_hash=self.task.config_digest,
            raw_files=tuple(path.name for path in raw_files),
            raw_signature=",".join(f"{use}:{text}" for use, text in sorted(self.task.inputs.items())),
            calibration={master.label: master.origin for master in masters},
            date=self.started,
        )
        fits_products.write_fits(self._place(name), image, header, provenance)

    def amend_fits(self, pipeline: str, name: str, cards: fits.Header) -> None:
        """Set cards in the header of another pipeline's product of this observation; its manifest follows.

        Parameters
        ----------
        pipeline : str
            Folder of that pipeline.
        name : str
            Its product.
        cards : Header
            Cards that take the place of those of the same name.
        """
        folder = self.layout.observation(self.subject.night, self.subject.id) / pipeline
        path = folder / name
        fits_products.amend_header(path, cards)
        entry = {"name": name, "bytes": path.stat().st_size, "sha256": atomic.sha256(path)}
        for file in sorted(folder.glob(".*.json")):
            manifest = json.loads(file.read_text())
            products = manifest.get("products", [])
            if any(product["name"] == name for product in products):
                manifest["products"] = [entry if product["name"] == name else product for product in products]
                atomic.atomic_write(file, json.dumps(manifest, indent=1).encode())
                self._amended.append({"pipeline": pipeline, "step": manifest["step"], **entry})

    def _place(self, name: str) -> Path:
        path = self.product(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._made[path.relative_to(self.folder).as_posix()] = path
        return path

    def check_declared(self) -> None:
        """Make sure that the step made what it declares."""
        for pattern in self.pipeline.steps[self.task.step].makes:
            try:
                name = pattern.format(id=self.subject.id)
            except KeyError:
                continue  # stands for any number of products
            if name not in self._made:
                raise ArchiveError(f"{self.task} declares the product {name} but did not make it")

    def write_manifest(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Write the step's manifest beside its products and return it, ready for the database."""
        manifest = {
            "subject": self.subject.id,
            "pipeline": self.pipeline.name,
            "step": self.task.step,
            **plain_values(record),
            "version": __version__,
            "config": self.task.config_digest,
            "settings": {**_plain(self.pipeline.settings), **_plain(self.settings)},
            "inputs": dict(self.task.inputs),
            "products": [
                {"name": name, "bytes": path.stat().st_size, "sha256": atomic.sha256(path)}
                for name, path in sorted(self._made.items())
            ],
            "amended": self._amended,
            "started": self.started.isoformat(timespec="milliseconds"),
            "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.layout.manifest(self.folder, self.task.step)
        atomic.atomic_write(path, json.dumps(manifest, indent=1, allow_nan=False).encode())
        return manifest


def _plain(settings: Any) -> dict[str, Any]:
    return TypeAdapter(type(settings)).dump_python(settings, mode="json")


def unpacked_folder(tmp: Path, subject: str) -> Path:
    """Folder of the unpacked raw files of an observation or night, kept until nothing is due for it."""
    return tmp / "unpacked" / os.fspath(subject)

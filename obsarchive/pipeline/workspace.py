"""What a step works with: a workspace that reads its inputs and writes its products."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from astropy.io import fits
from pydantic import TypeAdapter

from obsarchive import __version__
from obsarchive.config.field_types import import_class
from obsarchive.config.model import Telescope
from obsarchive.core.archive_paths import Layout
from obsarchive.core.document_types.steps import ProductEntry
from obsarchive.core.documents import Observation
from obsarchive.core.json_text import json_with_checksum, parse_with_checksum
from obsarchive.core.masters import Master
from obsarchive.core.progress import ProgressCallback, no_progress
from obsarchive.core.values import plain_values
from obsarchive.errors import ArchiveError, NotReady, Unprocessable
from obsarchive.instruments.base import Sectioned
from obsarchive.io import atomic, fits_products
from obsarchive.io.permit import required
from obsarchive.io.product_entries import product_entry
from obsarchive.io.raw_files import unpack
from obsarchive.io.raw_frames import Frames, Sections
from obsarchive.io.raw_headers import read_header
from obsarchive.pipeline.declaration import InputKind, NoSettings, Pipeline, Step, step
from obsarchive.pipeline.task import Task, unpacked_folder
from obsarchive.science.arrays import AnyArray, Float32Array

__all__ = ["InputKind", "NoSettings", "Pipeline", "ProgressCallback", "Step", "Task", "Workspace", "step"]


class Workspace:
    """What a step works with: its inputs, settings and scratch folder; it writes the products.

    Parameters
    ----------
    task : Task
        The step to run.
    progress : callable, optional
        Called with the fraction done (0 to 1) and a message; the progress is logged by default.

    Attributes
    ----------
    subject : Observation or Night
        What is processed.
    settings : dataclass
        Of this step; those of the pipeline are ``self.settings`` within its methods.
    layout : Layout
        Paths of the archive.
    folder : Path
        Of the pipeline's products.
    started : datetime
        When the step began [UTC].
    """

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
        """The observation that is processed; TypeError in a step of a night."""
        if not isinstance(self.subject, Observation):
            raise TypeError(f"{self.task} works on a night, not on an observation")
        return self.subject

    @property
    def telescope(self) -> Telescope:
        """The telescope of the observation; Unprocessable when none is configured for its camera."""
        if self.task.telescope is None:
            raise Unprocessable(
                f"no telescope for camera {self.observation.camera!r} on "
                f"{self.observation.date_utc:%Y-%m-%d}: add one to the section telescope of the configuration"
            )
        return self.task.telescope

    def telescope_of(self, camera: str) -> Telescope:
        """Return the telescope to which a camera was attached that night; Unprocessable when there is none."""
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
        """Product of another pipeline that this step works on, ``pipeline/product``; Unprocessable without any."""
        reads = self.pipeline.steps[self.task.step].reads
        found = self.observation.first_product(reads)
        if found is None:
            names = ", ".join(read.format(id=self.subject.id) for read in reads)
            raise Unprocessable(f"nothing to work on: none of {names} was made")
        return found[0].format(id=self.subject.id)

    def source(self) -> Path:
        """Return the path of the product of another pipeline that this step works on."""
        return self.layout.observation(self.subject.night, self.subject.id) / self.source_name

    def scratch(self) -> Path:
        """Make and return a folder for this step's intermediate files; it is removed when the step ends."""
        folder = self.task.scratch
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def require_present(self, use: InputKind, files: Iterable[Path]) -> None:
        """Have the step tried again later when raw files have gone since it was submitted: their disk may be away.

        Parameters
        ----------
        use : str
            Kind of the raw files.
        files : iterable of Path
            Some that the night lists; those that had gone before are no reason to wait.

        Raises
        ------
        NotReady
            One has gone.
        """
        expected = set(self.task.files.get(use, ()))
        gone = next((path for path in files if path in expected and not path.exists()), None)
        if gone is not None:
            raise NotReady(f"{gone} has gone since the raw folder was looked at: it is looked at again")

    def frames(self, use: InputKind = "science", files: Iterable[Path] | None = None) -> Frames:
        """Open the frames of raw files; compressed files are unpacked once for all steps of an observation or night.

        Parameters
        ----------
        use : str
            Kind of raw files: ``science``, ``dark``, ``flat``, ``seeing``.
        files : iterable of Path, optional
            Some of them; all files of the kind by default.

        Returns
        -------
        Frames
            A context manager that reads single frames, in the order of the files.

        Raises
        ------
        Unprocessable
            There are no such files.
        BadRawData
            A file cannot be read.
        """
        paths = list(self.task.files.get(use, ()) if files is None else files)
        if not paths:
            raise Unprocessable(f"no raw {use} files of {self.subject.id} on disk")
        folder = unpacked_folder(self.task.tmp, self.subject.id)
        folder.mkdir(parents=True, exist_ok=True)
        unpacked = [unpack(path, folder) for path in paths]
        return Frames(unpacked, self._sections(paths[0], unpacked[0]), [path.name for path in paths])

    def _sections(self, path: Path, unpacked: Path) -> Sections:
        """Overscan and trim sections of the camera that wrote a file; none of amplifiers that were put together."""
        root = next((root for root in self.task.raw_roots if path.is_relative_to(root.path)), None)
        if root is None:
            return Sections()
        instrument = import_class(root.instrument)(root.settings)
        return (
            instrument.sections(read_header(unpacked, path.name)) if isinstance(instrument, Sectioned) else Sections()
        )

    def results(self, name: str) -> Mapping[str, Any]:
        """Return the results of an earlier step of this pipeline, by the name of the step; empty without any."""
        return self.subject.pipeline(self.pipeline.name).step(name).results

    def product(self, name: str) -> Path:
        """Return the path of a product of this pipeline; ``{id}`` in its name stands for the observation or night."""
        return self.folder / name.format(id=self.subject.id)

    def read(self, name: str, extension: str = "") -> tuple[Float32Array, fits.Header]:
        """Read a FITS product of an earlier step of this pipeline.

        Parameters
        ----------
        name : str
            Product, with ``{id}``.
        extension : str
            Name of an image extension; the primary image by default.

        Returns
        -------
        image : ndarray (ny, nx) float32
            Pixels.
        header : Header
            Of that image.

        Raises
        ------
        ArchiveError
            The file is missing, damaged, or holds no image.
        """
        return fits_products.read_fits(self.product(name), extension)

    def publish(self, name: str, data: bytes) -> None:
        """Write a product atomically: it is complete or absent, also after a crash.

        Parameters
        ----------
        name : str
            Product as declared by the step, with ``{id}``.
        data : bytes
            Contents of the file.
        """
        with required(self.task.permit):
            atomic.atomic_write(self._place(name), data, self.task.permit)

    def publish_fits(
        self,
        name: str,
        image: AnyArray | Mapping[str, AnyArray | None],
        header: fits.Header | Mapping[str, Any] | None = None,
        masters: Iterable[Master] = (),
        raw_files: Iterable[Path] | None = None,
    ) -> None:
        """Write a FITS product atomically, with its provenance in the header.

        Parameters
        ----------
        name : str
            Product as declared by the step, with ``{id}``.
        image : ndarray or mapping of str to ndarray
            The image, or images and tables by name: the first is the primary image, None if there is none.
        header : Header or mapping, optional
            Cards of the primary image.
        masters : iterable of Master, optional
            Masters with which the frames were calibrated, for the provenance.
        raw_files : iterable of Path, optional
            Raw files that went into the product, for the provenance; all of the step by default.
        """
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
        with required(self.task.permit):
            fits_products.write_fits(self._place(name), image, header, provenance, self.task.permit)

    def amend_fits(self, pipeline: str, name: str, cards: fits.Header) -> None:
        """Set cards in the header of another pipeline's product of this observation, and update its manifest.

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
        with required(self.task.permit):
            fits_products.amend_header(path, cards, self.task.permit)
        for file in sorted(folder.glob(".*.json")):
            manifest = parse_with_checksum(file.read_bytes())
            products = manifest.get("products", [])
            former = next((product for product in products if product["name"] == name), None)
            if former is not None:
                entry = _amended(former, product_entry(name, path), self.pipeline.name)
                manifest["products"] = [entry if product is former else product for product in products]
                with required(self.task.permit):
                    atomic.atomic_write(file, json_with_checksum(manifest), self.task.permit)
                self._amended.append({"pipeline": pipeline, "step": manifest["step"], **entry})

    def _place(self, name: str) -> Path:
        path = self.product(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._made[path.relative_to(self.folder).as_posix()] = path
        return path

    def check_declared(self) -> None:
        """Raise ArchiveError when a declared product was not made."""
        for pattern in self.pipeline.steps[self.task.step].makes:
            try:
                name = pattern.format(id=self.subject.id)
            except KeyError:
                continue  # a name with other fields stands for any number of products
            if name not in self._made:
                raise ArchiveError(f"{self.task} declares the product {name} but did not make it")

    def write_manifest(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Write the step's manifest beside its products; return it with types that the database can store."""
        manifest = {
            "subject": self.subject.id,
            "pipeline": self.pipeline.name,
            "step": self.task.step,
            **plain_values(record),
            "version": __version__,
            "config": self.task.config_digest,
            "settings": {**_plain(self.pipeline.settings), **_plain(self.settings)},
            "inputs": dict(self.task.inputs),
            "products": [product_entry(name, path) for name, path in sorted(self._made.items())],
            "amended": self._amended,
            "started": self.started.isoformat(timespec="milliseconds"),
            "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.layout.manifest(self.folder, self.task.step)
        with required(self.task.permit):
            atomic.atomic_write(path, json_with_checksum(manifest, allow_nan=False), self.task.permit)
        return manifest


def _amended(former: Mapping[str, Any], entry: ProductEntry, pipeline: str) -> ProductEntry:
    """Return the entry of a product in which a pipeline set cards: its content stays what its own step made."""
    entry.pop("content", None)
    if "content" in former:
        entry["content"] = former["content"]
    entry["cards_of"] = sorted({*former.get("cards_of", ()), pipeline})
    return entry


def _plain(settings: Any) -> dict[str, Any]:
    values: dict[str, Any] = TypeAdapter(type(settings)).dump_python(settings, mode="json")
    return values

"""What a pipeline is: a named class whose methods are its steps, and what a step is given to work with."""

import graphlib
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from astropy.io import fits
from pydantic import TypeAdapter, ValidationError

from obsarchive import __version__, fitsio
from obsarchive.config import Calibration, Telescope
from obsarchive.errors import ArchiveError, ConfigError, Unprocessable
from obsarchive.layout import Layout
from obsarchive.observation import Master, Night, Observation
from obsarchive.rawdata import Frames, unpack

Use = Literal["science", "calibration", "dark", "flat", "seeing", "other_darks", "other_flats"]
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class NoSettings:
    """For pipelines and steps without settings."""


@dataclass(frozen=True)
class Step:
    """A step of a pipeline, as declared by :func:`step`."""

    name: str
    makes: tuple[str, ...]
    after: tuple[str, ...]
    follows: tuple[str, ...]
    uses: tuple[Use, ...]
    settings: type


def step(
    *,
    makes: Sequence[str],
    after: Sequence[str] = (),
    follows: Sequence[str] = (),
    uses: Sequence[Use] = ("science", "calibration"),
    settings: type = NoSettings,
) -> Callable[[Callable], Callable]:
    """Mark a method ``(self, work: Workspace) -> dict`` as a pipeline step.

    Parameters
    ----------
    makes : sequence of str
        Products, relative to the pipeline's folder; ``{id}`` stands for the observation id or the night.
        A name with other fields (``dark_{mode}.fits``) stands for any number of products.
    after : sequence of str, optional
        Steps that must be done before, because this one reads what they made.
    follows : sequence of str, optional
        Steps that must have ended before, well or not, because this one shows what they found.
    uses : sequence of str, optional
        What the step is made from; when any of it changes, the step is due again. ``science``, ``dark``,
        ``flat``, ``seeing``: raw files of that kind. ``calibration``: the masters that fit the observation.
        ``other_darks``, ``other_flats``: masters of the nearest other nights for what this night lacks.
    settings : type, optional
        Frozen dataclass of the step's own settings.
    """

    def mark(method: Callable) -> Callable:
        if unknown := sorted(set(uses) - set(get_args(Use))):
            raise TypeError(f"{method.__name__}: uses {unknown[0]!r}; there are {', '.join(get_args(Use))}")
        method.declared = Step(  # type: ignore[attr-defined]
            method.__name__, tuple(makes), tuple(after), tuple(follows), tuple(uses), settings
        )
        return method

    return mark


class Pipeline:
    """Base of every pipeline: a subclass sets `name` and writes one method per step.

    Parameters
    ----------
    settings : mapping, optional
        Values of `Settings`.
    steps : mapping, optional
        Values of the steps' own settings, by step name.

    Raises
    ------
    ConfigError
        When a setting is unknown or of the wrong type.
    TypeError
        When the class is defined: a step comes after an unknown step or uses what there is not, or steps wait for
        each other.
    """

    name: ClassVar[str] = ""
    scope: ClassVar[Literal["observation", "night"]] = "observation"
    precedes_science: ClassVar[bool] = False
    """Whether the night's observations wait for this night pipeline."""
    folder: ClassVar[str | None] = None
    """Folder of the products; None: called like the pipeline."""
    Settings: ClassVar[type] = NoSettings
    steps: ClassVar[dict[str, Step]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        methods = [getattr(cls, name) for name in dir(cls)]
        marked = {m.__name__: m.declared for m in methods if hasattr(m, "declared")}
        order = graphlib.TopologicalSorter({name: (*s.after, *s.follows) for name, s in marked.items()})
        try:
            names = list(order.static_order())
        except graphlib.CycleError as err:
            raise TypeError(f"{cls.__name__}: steps wait for each other: {' -> '.join(err.args[1])}") from err
        if unknown := sorted(set(names) - set(marked)):
            raise TypeError(f"{cls.__name__}: no such step: {', '.join(unknown)}")
        cls.steps = {name: marked[name] for name in names}

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,
        steps: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.settings = _validated(self.Settings, settings or {}, f"{self.name}.settings")
        for unknown in set(steps or {}) - set(self.steps):
            raise ConfigError(f"{self.name}.steps.{unknown}: no such step; there are {', '.join(self.steps)}")
        self.step_settings = {
            name: _validated(declared.settings, (steps or {}).get(name, {}), f"{self.name}.steps.{name}")
            for name, declared in self.steps.items()
        }

    def path(self, layout: Layout, night: str, subject: str) -> Path:
        """Folder of this pipeline's products."""
        base = layout.night(night) if self.scope == "night" else layout.observation(night, subject)
        return base / (self.folder or self.name)


def _unheard(fraction: float, text: str) -> None:
    """Progress that nobody listens to."""
    logging.getLogger(__name__).debug("%.0f%% %s", 100 * fraction, text)


def _validated(kind: type, values: Mapping[str, Any], where: str) -> Any:
    known = [f.name for f in fields(kind)] if is_dataclass(kind) else []
    for key in values:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            raise ConfigError(f"{where}.{key}: unknown key" + (f"; did you mean {near[0]!r}?" if near else ""))
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as err:
        first = err.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}.{key}: {first['msg']}; found {first['input']!r}") from err


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
    calibration: Calibration = field(default_factory=Calibration)
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

    def __init__(self, task: Task, progress: Progress | None = None) -> None:
        self.task = task
        self.subject = task.subject
        self.layout = Layout(task.archive)
        self.progress: Progress = progress or _unheard
        self.pipeline = task.pipeline(task.settings, task.step_settings)
        self.settings = self.pipeline.step_settings[task.step]
        self.folder = self.pipeline.path(self.layout, self.subject.night, self.subject.id)
        self.started = datetime.now(UTC)
        self._made: dict[str, Path] = {}

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

    def scratch(self) -> Path:
        """Folder for this step's own intermediate files, removed when the step ends."""
        folder = self.task.scratch
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def frames(self, use: Use = "science", files: Iterable[Path] | None = None) -> Frames:
        """Frames of the raw files of one kind, or of some of them, in order; unpacked once per subject."""
        paths = list(self.task.files.get(use, ()) if files is None else files)
        if not paths:
            raise Unprocessable(f"no raw {use} files of {self.subject.id} on disk")
        folder = unpacked_folder(self.task.tmp, self.subject.id)
        folder.mkdir(parents=True, exist_ok=True)
        return Frames([unpack(path, folder) for path in paths])

    def results(self, name: str) -> Mapping[str, Any]:
        """Measured values of an earlier step of this pipeline; empty when it has none."""
        return self.subject.pipeline(self.pipeline.name).step(name).results

    def product(self, name: str) -> Path:
        """Path of a product of this pipeline."""
        return self.folder / name.format(id=self.subject.id)

    def read(self, name: str) -> tuple[np.ndarray, fits.Header]:
        """Image and header of a FITS product of an earlier step."""
        return fitsio.read_fits(self.product(name))

    def publish(self, name: str, data: bytes) -> None:
        """Write a product: it is whole or absent."""
        path = self._place(name)
        fitsio.write_atomic(path, data)

    def publish_fits(
        self,
        name: str,
        image: np.ndarray,
        header: fits.Header | Mapping[str, Any] | None = None,
        masters: Iterable[Master] = (),
        raw_files: Iterable[Path] | None = None,
    ) -> None:
        """Write an image with its provenance in the header; it is made from all raw files unless some are named."""
        if raw_files is None:
            raw_files = [path for paths in self.task.files.values() for path in paths]
        provenance = fitsio.Provenance(
            version=__version__,
            pipeline=self.pipeline.name,
            step=self.task.step,
            config_hash=self.task.config_digest,
            raw_files=tuple(path.name for path in raw_files),
            raw_signature=",".join(f"{use}:{text}" for use, text in sorted(self.task.inputs.items())),
            calibration={master.label: master.origin for master in masters},
            date=self.started,
        )
        fitsio.write_fits(self._place(name), image, header, provenance)

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
                {"name": name, "bytes": path.stat().st_size, "sha256": fitsio.sha256(path)}
                for name, path in sorted(self._made.items())
            ],
            "started": self.started.isoformat(timespec="milliseconds"),
            "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.layout.manifest(self.folder, self.task.step)
        fitsio.write_atomic(path, json.dumps(manifest, indent=1, allow_nan=False).encode())
        return manifest


def _plain(settings: Any) -> dict[str, Any]:
    return TypeAdapter(type(settings)).dump_python(settings, mode="json")


def plain_values(value: Any) -> Any:
    """Turn measured values into what JSON and BSON hold: no numpy types, no NaN, no text that is none."""
    match value:
        case np.generic() | np.ndarray():
            return plain_values(value.tolist())
        case Mapping():
            return {_plain_text(str(key)).replace("\0", ""): plain_values(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain_values(inner) for inner in value]
        case str():
            return _plain_text(value)
        case int() | float():
            return _plain_number(value)
    return value


def _plain_number(value: int | float) -> int | float | str | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if -(2**63) <= value < 2**63 else str(value)


def _plain_text(text: str) -> str:
    """Make lone surrogates visible: names of files may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def unpacked_folder(tmp: Path, subject: str) -> Path:
    """Folder of the unpacked raw files of an observation or night, kept until nothing is due for it."""
    return tmp / "unpacked" / os.fspath(subject)

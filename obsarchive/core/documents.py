"""Reading of observations, nights and step records from documents, with defaults for missing fields.

Users edit documents in the Mongo shell, and older databases lack fields: no class here raises an error for a missing
field, and a field of the wrong type counts as missing. What the archive writes is declared in
:mod:`obsarchive.core.document_types`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal

from obsarchive.core import document_paths as paths
from obsarchive.core.masters import CalibrationNeed, Master
from obsarchive.core.package_texts import PACKAGE_VERSION
from obsarchive.core.raw_problems import RawProblem
from obsarchive.core.rules import lookup
from obsarchive.core.step_state import State
from obsarchive.core.values import as_count, as_flag, as_mapping, as_mappings, as_shape, as_time
from obsarchive.names import ObservationName, is_night

SCHEMA = 1
NIGHT_KINDS: tuple[Literal["dark", "flat", "seeing"], ...] = ("dark", "flat", "seeing")
"""Kinds of the raw files of a night that belong to no observation."""


def utc_now() -> datetime:
    """Return the present time as MongoDB returns it: aware, whole milliseconds."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


_STATES = {str(state): state for state in State}


@dataclass(frozen=True)
class StepRecord:
    """State of one step in the database."""

    state: State = State.WAITING
    retries: int = 0
    waits: int = 0
    """Times in a row that it waited for an outer cause to end, such as a full disk."""
    losses: int = 0
    """Workers that were lost while they ran it, since it last ended otherwise."""
    task: str | None = None
    message: str = ""
    lacks: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    products: tuple[Mapping[str, Any], ...] = ()
    amended: tuple[Mapping[str, Any], ...] = ()
    """Products of other pipelines in which it set cards: their entries, with ``pipeline`` and ``step``."""
    results: Mapping[str, Any] = field(default_factory=dict)
    not_before: datetime | None = None
    redo: bool = False
    finished: datetime | None = None

    @classmethod
    def from_document(cls, document: Any) -> "StepRecord":
        """Return a step read from a document; an unknown state counts as waiting."""
        doc = as_mapping(document)
        if not doc:
            return cls()
        return cls(
            state=_STATES.get(str(doc.get("state")), State.WAITING),
            retries=as_count(doc.get("retries")),
            waits=as_count(doc.get("waits")),
            losses=as_count(doc.get("losses")),
            task=doc.get("task"),
            message=str(doc.get("message") or ""),
            lacks=str(doc.get("lacks") or ""),
            inputs=as_mapping(doc.get("inputs")),
            products=tuple(as_mappings(doc.get("products"))),
            amended=tuple(as_mappings(doc.get("amended"))),
            results=as_mapping(doc.get("results")),
            not_before=as_time(doc.get("not_before")),
            redo=as_flag(doc.get("redo")),
            finished=as_time(doc.get("finished")),
        )

    def product(self, name: str) -> Mapping[str, Any]:
        """Return the entry of a product that it wrote; empty if it did not, or not last time."""
        made = self.products if self.state is State.DONE else ()
        return next((entry for entry in made if entry.get("name") == name), {})

    def content_of(self, product: str) -> str:
        """Return a checksum of what it made; of a product of an earlier version, which has none, the time."""
        return str(self.product(product).get("content") or self.finished)


@dataclass(frozen=True)
class PipelineRecord:
    """One pipeline of an observation or night in the database."""

    document: Mapping[str, Any]

    @property
    def force_redo(self) -> bool:
        """Whether a user requested that the whole pipeline be done again."""
        return as_flag(as_mapping(self.document.get("status")).get("force_redo"))

    @property
    def classified_as(self) -> str | None:
        """Verdict of the pipeline on the data."""
        return self.document.get("classified_as")

    def step(self, name: str) -> StepRecord:
        """Return the record of a step; of a step that never ran, the default."""
        document = as_mapping(self.document.get("steps")).get(name)
        if document is None and isinstance(self.document.get(name), Mapping):
            # Databases of the published Robo-AO archiver keep the numbers of a step one level higher.
            document = {"results": self.document[name]}
        return StepRecord.from_document(document)

    def steps(self) -> dict[str, StepRecord]:
        """Return every step that has a record."""
        return {name: self.step(name) for name in as_mapping(self.document.get("steps"))}


@dataclass(frozen=True)
class Observation:
    """One visit of one target: a document of the collection ``objects``."""

    document: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Name of the observation."""
        return str(self.document["_id"])

    @property
    def program(self) -> str:
        """Its programme; empty if it is not known."""
        found = lookup(self.document, paths.PROGRAM_ID)
        return found if isinstance(found, str) else ""

    @property
    def night(self) -> str:
        """The nightly directory that holds it; older documents have only the date in the name."""
        return str(self.document.get("night") or f"{ObservationName.parse(self.id).date_utc:%Y%m%d}")

    @property
    def date_utc(self) -> datetime:
        """Start of the observation."""
        return as_time(self.document.get("date_utc")) or ObservationName.parse(self.id).date_utc

    @property
    def filter(self) -> str:
        """Name of the filter."""
        return str(self.document.get("filter") or "")

    @property
    def camera(self) -> str:
        """Name of the camera."""
        return str(self.document.get("camera") or "")

    @property
    def mode(self) -> str:
        """Detector mode, which selects the master dark."""
        return str(self.document.get("mode") or "")

    @property
    def shape(self) -> tuple[int, int] | None:
        """Shape of a frame, (ny, nx) [pixel]; None if the header does not give it."""
        return as_shape(self.document.get("shape"))

    @property
    def need(self) -> CalibrationNeed:
        """Calibration that it needs."""
        return CalibrationNeed(self.mode, self.shape, self.filter, as_shape(self.document.get("detector_px")))

    @property
    def raw_signature(self) -> str:
        """Signature of the raw files; it differs when they changed."""
        return str(lookup(self.document, paths.RAW_SIGNATURE) or "")

    @property
    def raw_missing(self) -> bool:
        """Whether its raw files are no longer on disk."""
        return bool(lookup(self.document, paths.RAW_MISSING))

    @property
    def raw_folder(self) -> Path:
        """Folder of its raw files."""
        return _raw_folder(self.document)

    @property
    def raw_files(self) -> tuple[Path, ...]:
        """Its raw files, in the order of their frames."""
        names, folder = lookup(self.document, paths.RAW_DATA), self.raw_folder
        return tuple(folder / name for name in names if isinstance(name, str)) if isinstance(names, list) else ()

    @property
    def raw_changed(self) -> datetime | None:
        """When the newest of its raw files was changed."""
        return as_time(lookup(self.document, paths.RAW_CHANGED))

    @property
    def is_unread(self) -> bool:
        """Whether its header is still to be read, because the disk did not let it: its steps would not know it."""
        return as_flag(self.document.get("unread"))

    @property
    def has_header(self) -> bool:
        """Whether the header of its first raw frame could be read."""
        return bool(self.document.get("fits_header"))

    @property
    def packed(self) -> bool:
        """Whether its tarball is up to date."""
        return lookup(self.document, paths.PACKED) is True

    @property
    def can_be_sent_packed(self) -> bool:
        """Whether its tarball is up to date and holds what users may see: earlier ones name other observations."""
        return self.packed and lookup(self.document, paths.PACKED_VERSION) == PACKAGE_VERSION

    @property
    def packed_bytes(self) -> float | None:
        """Size of its tarball [bytes]; None if it is not known."""
        return self.number(paths.PACKED_BYTES)

    @property
    def packed_sha256(self) -> str:
        """Checksum of its tarball; empty if it was packed by an earlier version."""
        return str(lookup(self.document, paths.PACKED_SHA256) or "")

    def number(self, dotted: str) -> float | None:
        """Return a number at a dotted path of the document, or None."""
        found = lookup(self.document, dotted)
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

    def pipeline(self, name: str) -> PipelineRecord:
        """Return the record of a pipeline; of one that never ran, an empty one."""
        return PipelineRecord(as_mapping(as_mapping(self.document.get("pipelined")).get(name)))

    def first_product(self, names: Iterable[str]) -> tuple[str, StepRecord] | None:
        """Return the first of some products, ``pipeline/product``, that there is, and the step that made it."""
        for name in names:
            pipeline, _, product = name.format(id=self.id).partition("/")
            for record in self.pipeline(pipeline).steps().values():
                if record.product(product):
                    return name, record
        return None


@dataclass(frozen=True)
class Night:
    """A night: a document of the collection ``aux``."""

    document: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The night, ``yyyymmdd``."""
        return str(self.document["_id"])

    @property
    def night(self) -> str:
        """The night itself, as for an observation."""
        return self.id

    def pipeline(self, name: str) -> PipelineRecord:
        """Return the record of a night pipeline; of one that never ran, an empty one."""
        return PipelineRecord(as_mapping(self.document.get(name)))

    def raw_signature(self, kind: str) -> str:
        """Return the signature of the night's raw files of a kind; it differs when they changed."""
        return str(lookup(self.document, paths.night_signature(kind)) or "")

    def raw_files(self, kind: str) -> tuple[Mapping[str, Any], ...]:
        """Return the raw files of a kind: their path, mode, filter, camera and time; ``missing``: no longer on disk."""
        folder = _raw_folder(self.document)
        return tuple(
            {
                **file,
                "path": Path(str(file.get("folder", folder))) / str(file.get("name", "")),
                "date_utc": as_time(file.get("date_utc")),
            }
            for file in as_mappings(lookup(self.document, paths.NIGHT_FILES))
            if file.get("kind") == kind
        )

    def raw_entries(self) -> list[Mapping[str, Any]]:
        """Return the raw files of all kinds as they are listed."""
        return [
            file for file in as_mappings(lookup(self.document, paths.NIGHT_FILES)) if "name" in file and "kind" in file
        ]

    def problems(self) -> list[RawProblem]:
        """Return the FITS files of the night that are not understood."""
        return [
            RawProblem.from_document(found)
            for found in as_mappings(lookup(self.document, paths.NIGHT_PROBLEMS))
            if "name" in found and "reason" in found
        ]

    @property
    def problems_count(self) -> int:
        """Number of the FITS files that are not understood."""
        return as_count(lookup(self.document, paths.NIGHT_PROBLEMS_COUNT))

    @property
    def copies_from(self) -> str:
        """The night whose masters an administrator wants here in place of its own; empty: none."""
        found = lookup(self.document, paths.COPIES_CALIBRATION_FROM)
        return found if isinstance(found, str) and is_night(found) else ""

    def needs(self) -> frozenset[CalibrationNeed]:
        """Return the calibration that the science of the night needs."""
        return frozenset(map(CalibrationNeed.from_document, as_mappings(lookup(self.document, paths.NIGHT_NEEDS))))

    def seeing_frames(self) -> list[Mapping[str, Any]]:
        """Return the seeing measured this night, file by file."""
        return [
            frame
            for record in self.pipeline("seeing").steps().values()
            for frame in as_mappings(record.results.get("frames"))
        ]

    @property
    def seeing_median_error(self) -> float | None:
        """Standard error of the median seeing [arcsec]; None if it is not known."""
        records = self.pipeline("seeing").steps().values()
        found = (record.results.get("median_error_arcsec") for record in records)
        return next((float(error) for error in found if isinstance(error, int | float)), None)

    def seeing_fields(self) -> dict[str, Any]:
        """Return the fields of the night's document that hold the seeing, by their paths."""
        frames = self.seeing_frames()
        values = [frame["fwhm_arcsec"] for frame in frames if isinstance(frame.get("fwhm_arcsec"), int | float)]
        return {
            paths.SEEING_FRAMES: frames,
            paths.SEEING_MEDIAN_ARCSEC: median(values) if values else None,
            paths.SEEING_MEDIAN_ERROR_ARCSEC: self.seeing_median_error if values else None,
        }

    @property
    def science(self) -> str:
        """Signature of the results of its observations; empty while something is due for them."""
        return str(lookup(self.document, paths.SCIENCE_SIGNATURE) or "")

    @property
    def reductions(self) -> str:
        """Signature of what its reference stars are chosen from; empty while that is not known yet."""
        return str(lookup(self.document, paths.REDUCTIONS_SIGNATURE) or "")

    def masters(self) -> list[Master]:
        """Return the master darks and flats of this night."""
        return [
            Master.from_document(master, self.id)
            for record in self.pipeline("calib").steps().values()
            for master in as_mappings(record.results.get("masters"))
        ]


def _raw_folder(document: Mapping[str, Any]) -> Path:
    match lookup(document, paths.RAW_LOCATION):
        case [_, str(folder)]:
            return Path(folder)
    return Path()

"""Documents of nights: the collection ``aux``."""

from datetime import datetime
from typing import NotRequired

from typing_extensions import TypedDict

from obsarchive.core.document_types.steps import EffectsDue, PipelineDocument


class MasterDocument(TypedDict):
    """A master dark or flat, in ``masters`` of the results of a calibration step."""

    kind: str
    """``dark`` or ``flat``."""
    key: str
    """Mode of a dark, filter of a flat."""
    shape: list[int]
    """(ny, nx) [pixel]."""
    signature: str
    """Of the raw files that it was made from."""
    origin: str
    """``own``, or ``copied from yyyymmdd``."""
    frames: NotRequired[int]
    """Number of frames combined; this and what follows is absent from a copy."""
    used_fraction: NotRequired[float]
    """Fraction of the values that was not clipped."""
    level_adu: NotRequired[float]
    """Median level of a dark [ADU]."""
    noise_adu: NotRequired[float]
    """Median noise of a dark [ADU]."""
    noise_percent: NotRequired[float]
    """Median noise of a flat [percent]."""


class CalibrationNeedDocument(TypedDict):
    """A detector mode, frame shape and filter that science of a night was taken with."""

    mode: str
    shape: list[int] | None
    """(ny, nx) [pixel]."""
    filter: str
    detector: list[int] | None
    """Shape of a full frame, (ny, nx) [pixel]."""


class SeeingFrame(TypedDict):
    """Seeing measured in one file."""

    file: str
    date_utc: str
    """ISO 8601."""
    filter: str
    fwhm_arcsec: float | None
    """None if it could not be measured [arcsec]."""
    reason: str
    """Why it could not be measured; empty otherwise."""
    exposure_s: NotRequired[float | None]
    """Exposure time [s]."""
    fwhm_error_arcsec: NotRequired[float]
    """Standard error [arcsec]."""
    elongation: NotRequired[float]
    """Major over minor axis."""
    beta: NotRequired[float]
    """Exponent of the Moffat profile."""
    n_images: NotRequired[int]
    """Images that were measured in the file."""


class NightRawFile(TypedDict):
    """A dark, flat or seeing file."""

    name: str
    kind: str
    """``dark``, ``flat`` or ``seeing``."""
    mode: str
    filter: str
    camera: str
    date_utc: datetime | None
    folder: str
    bytes: int
    mtime_ns: int
    """Time of its last change [ns since 1970]."""
    missing: bool
    """Whether it is no longer on disk."""


class RawProblemDocument(TypedDict):
    """A FITS file that is not understood."""

    name: str
    folder: str
    """The raw folder of the night; there may be several."""
    reason: str
    """What was found and what to do."""
    changed: datetime | None
    """Time of change of the file."""


class NightRawData(TypedDict, total=False):
    """Raw files of a night that belong to no observation."""

    location: list[str]
    """Host and folder."""
    signature: dict[str, str]
    """Signature of the files of each kind."""
    files: list[NightRawFile]
    ignored: list[str]
    """Names of files that are no raw data, the first 1000."""
    ignored_count: int
    """How many there are."""
    problems: list[RawProblemDocument]
    """Those of them that are FITS files and not understood, the first 1000 of each folder."""
    problems_count: int
    """How many there are."""
    growing: list[str]
    """Names of files that are still being written, the first 1000."""
    needs: list[CalibrationNeedDocument]
    """Calibration that the observations of the night ask for."""
    copies_calibration_from: str
    """The night whose masters an administrator wants here; empty: none."""


class NightSeeing(PipelineDocument, total=False):
    """The block of the pipeline ``seeing``, and what it found."""

    frames: list[SeeingFrame]
    median_arcsec: float | None
    """Median FWHM of the night [arcsec]; None if none was measured."""
    median_error_arcsec: float | None
    """Its standard error [arcsec]; None if it is not known. Written after those of the observations."""


class NightScience(TypedDict):
    """What is known of the observations of a night as a whole."""

    signature: str
    """Of what their pipelines found; empty while something is due for them."""
    reductions: str
    """Of what the night's reference stars are chosen from; empty while that is not known yet."""


class PsfLibraryStar(TypedDict):
    """A star that a night offers to the PSF library."""

    observation: str
    filter: str | None
    file: str
    """Its stamps, within the folder ``summary`` of the night."""
    state: str
    """``in library``, ``not in library`` or ``removed``."""
    added: str | None
    """When that was decided, ISO 8601."""
    added_by: str | None
    """``auto`` or ``administrator``."""
    reason: str | None
    """Why it cannot serve as a reference; empty if it can."""


class NightDocument(TypedDict, total=False):
    """A night: a document of the collection ``aux``.

    Each pipeline of nights has a block under its name; those that come with the archive are listed here.
    """

    _id: str
    """The night, ``yyyymmdd``."""
    schema: int
    """Version of this format."""
    date_added: datetime
    last_modified: datetime
    raw_data: NightRawData
    calib: PipelineDocument
    seeing: NightSeeing
    psflib: PipelineDocument
    strehl: PipelineDocument
    contrast_curve: PipelineDocument
    psf_lib: list[PsfLibraryStar]
    """Stars offered to the PSF library; written again when absent."""
    science: NightScience
    look_again: bool
    """Set with that of observations; not read."""
    effects_due: EffectsDue
    checked: datetime | None
    """When its files were last compared with their checksums; None where nobody knows since when they lie there."""

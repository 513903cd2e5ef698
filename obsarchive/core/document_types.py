"""Types of the documents that the archive writes into the collections ``objects`` and ``aux``.

They say which fields there are, of what type and unit, for those who write documents. Documents in a database may
lack any of them or hold something else, because users edit them in the Mongo shell and older versions wrote fewer:
read them through :mod:`obsarchive.core.documents`. The paths of nested fields are in
:mod:`obsarchive.core.document_paths`. Times are aware, in UTC, of whole milliseconds, unless they are text.
"""

from datetime import datetime
from typing import Any, Literal, NotRequired, Required

from typing_extensions import TypedDict

# -- steps and pipelines: the same in both collections -------------------------------------------------------------


class ImageEntry(TypedDict):
    """The image of a FITS file, as its header describes it."""

    shape: list[int]
    """Pixels along each axis, in the order of numpy: of an image (ny, nx)."""
    corners_deg: NotRequired[list[list[float]]]
    """Right ascension and declination of the outer corners of its corner pixels [deg]; absent without a WCS."""
    pixel_arcsec: NotRequired[float]
    """Side of a pixel [arcsec]."""


class ProductEntry(TypedDict):
    """A file that a step wrote."""

    name: str
    """Path within the folder of the pipeline."""
    bytes: int
    """Size [bytes]."""
    sha256: str
    """Checksum, 64 hex digits."""
    content: NotRequired[str]
    """Checksum of what its step made, 16 hex digits: without the cards of one run, and without those that other
    pipelines set later; absent if an earlier version wrote it."""
    cards_of: NotRequired[list[str]]
    """Pipelines that set cards in its header since."""
    image: NotRequired[ImageEntry]
    """Of a FITS file with an image; absent if an earlier version wrote it."""


class AmendedProduct(ProductEntry):
    """A product of another pipeline in whose header a step set cards, as it left it."""

    pipeline: str
    """The pipeline that made it."""
    step: str
    """Its step."""


class StepDocument(TypedDict, total=False):
    """One step of a pipeline; absent until it is claimed for the first time."""

    state: str
    """A `State`: ``waiting``, ``enqueued``, ``done``, ``failed``, ``rejected`` or ``lacking``."""
    retries: int
    waits: int
    losses: int
    """Failures since the step last ended otherwise."""
    message: str
    """Why it failed, was rejected or lacks something; empty otherwise."""
    lacks: str
    """What a lacking step waits for, such as ``references``; empty otherwise."""
    not_before: datetime | None
    """A failed or released step is not tried again before this time."""
    redo: bool
    """A user asked that this step be done again."""
    task: str
    """Identifier of the task that holds the claim; only while the step is enqueued, as the next two."""
    run: str
    """Identifier of the run of the daemon that made the claim."""
    claimed: datetime
    """When it was claimed."""
    started: datetime
    """When the worker began; absent if the worker left no manifest."""
    finished: datetime
    """When the step ended."""
    version: str
    """Version of the software that did it."""
    inputs: dict[str, str]
    """Signature of everything that the step was made from, by the kind of input."""
    products: list[ProductEntry]
    """Files that it wrote."""
    amended: list[AmendedProduct]
    """Products of other pipelines in which it set cards, as it left them."""
    results: dict[str, Any]
    """What it measured, defined by the step; units are in the names (``fwhm_arcsec``, ``ratio_percent``)."""


class PipelineStatus(TypedDict, total=False):
    """Summary of a pipeline for users, and the field by which they ask for a redo."""

    done: bool
    """Whether all steps are done, but for those that lack what does not exist yet."""
    enqueued: bool
    """Whether one of the steps is claimed."""
    force_redo: bool
    """Set by a user: all steps wait again."""
    retries: int
    """Failures since a step last ended otherwise."""


class PipelineDocument(TypedDict, total=False):
    """One pipeline of an observation or night: the block ``pipelined.<pipeline>`` or, of a night, ``<pipeline>``."""

    status: PipelineStatus
    last_modified: datetime
    classified_as: str
    """Verdict on the data: ``zero_flux``, ``faint``, ``high_flux``, ``failed``."""
    steps: dict[str, StepDocument]
    """By the name of the step."""


# -- observations: the collection objects --------------------------------------------------------------------------


class ScienceProgram(TypedDict):
    """The programme that an observation belongs to."""

    program_id: str
    program_PI: str | list[str]
    """Names of the users who own the programme."""


class GeoPoint(TypedDict):
    """A position as GeoJSON, for the spherical index."""

    type: Literal["Point"]
    coordinates: list[float]
    """Right ascension wrapped to +-180 and declination [deg]."""


class Coordinates(TypedDict, total=False):
    """Where the telescope pointed, as far as the header says so."""

    epoch: float
    """Equinox [year]."""
    ra_deg: float
    """Right ascension [deg], 0 to 360."""
    dec_deg: float
    """Declination [deg]."""
    az_deg: float
    """Azimuth [deg]."""
    el_deg: float
    """Elevation [deg]."""
    geojson: GeoPoint


class HeaderCard(TypedDict):
    """A card of the FITS header of frame 0."""

    key: str
    value: bool | int | float | str | None
    comment: str


class RawData(TypedDict, total=False):
    """Raw files of an observation."""

    location: list[str]
    """Host and folder."""
    data: list[str]
    """Names of the files, in the order of their frames."""
    signature: str
    """16 hex digits over names, sizes and times of change."""
    last_modified: datetime
    """Time of change of the newest file."""
    missing: bool
    """Whether the files are no longer on disk."""


class ObservationSeeing(TypedDict):
    """Seeing of an observation; None for what is not known."""

    median_arcsec: float | None
    """Median FWHM of the night [arcsec]."""
    nearest_arcsec: float | None
    """FWHM measured nearest in time, within an hour [arcsec]."""
    nearest_utc: datetime | None
    """When that was."""
    last_modified: NotRequired[datetime]


class Distributed(TypedDict, total=False):
    """The tarball of an observation."""

    status: bool
    """Whether it is up to date; set to false to have it written again."""
    location: list[str]
    """Host and folder."""
    last_modified: datetime
    """When another tarball was last asked for."""
    bytes: int
    """Size of the tarball [bytes]."""
    sha256: str
    """Its checksum."""
    version: int
    """Version of what it holds (`obsarchive.core.package_texts.PACKAGE_VERSION`)."""


class UserFields(TypedDict):
    """Fields that users edit, as the sidecar file beside the products holds them."""

    program_PI: Any
    comment: Any
    names: Any
    """``alternative_names``."""
    redo: list[str]
    """What is to be done again by request: pipelines, and steps as ``pipeline.step``."""


class HeaderFields(TypedDict, total=False):
    """Fields of an observation that the header of frame 0 decides: what an instrument adapter gives, and the header.

    An adapter may add further fields of its own.
    """

    unread: bool
    """Whether the header is still to be read, because the disk did not let it."""
    mode: str
    """Detector mode, which selects the master dark."""
    shape: list[int]
    """Shape of a frame, (ny, nx) [pixel]."""
    exposure_s: float
    """Exposure time [s]."""
    magnitude: float
    """Magnitude of the target [mag]."""
    em_gain: float
    """Electron-multiplying gain."""
    gain: float
    """Gain of an ordinary CCD [e-/ADU]."""
    coordinates: Coordinates
    fits_header: Required[list[HeaderCard]]
    """Empty if the header cannot be read."""


class EffectsDue(TypedDict):
    """A result whose effects on other documents are not complete."""

    task: str
    pipeline: str
    step: str
    state: str


class NewObservation(HeaderFields):
    """The document of an observation as it is inserted."""

    _id: str
    """Name of the observation."""
    schema: int
    """Version of this format."""
    date_added: datetime
    night: str
    """The nightly directory that holds its raw files, ``yyyymmdd``."""
    name: str
    """Name of the target."""
    alternative_names: list[str]
    """Further names, edited by users."""
    comment: str | None
    """Edited by users."""
    science_program: ScienceProgram
    date_utc: datetime
    """Start of the observation."""
    telescope: str | None
    """Name in the configuration; None if no telescope of it applies."""
    detector_px: list[int] | None
    """Shape of a full frame, (ny, nx) [pixel]; None without a telescope."""
    camera: str
    filter: str
    marker: str
    """The mark in the name of the raw files."""
    raw_data: RawData
    seeing: ObservationSeeing
    pipelined: dict[str, PipelineDocument]
    """By the name of the pipeline."""
    distributed: Distributed
    remembered: UserFields
    """What the sidecar file holds of the fields that users edit."""


class TargetDocument(TypedDict):
    """Names of a target in the form in which names are compared, see :mod:`obsarchive.core.target_names`."""

    keys: list[str]
    """``name`` and ``alternative_names``."""
    text: str
    """The keys, with blanks between them."""
    parts: list[str]
    """Beginnings of what the keys hold from each letter on."""
    folding: int
    """Version of this form."""


class ObservationDocument(NewObservation, total=False):
    """One visit of one target: a document of the collection ``objects``."""

    target: TargetDocument
    look_again: bool
    """Whether the daemon must look at the observation, although its tarball is up to date."""
    effects_due: EffectsDue


# -- nights: the collection aux -----------------------------------------------------------------------------------


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
    checked: datetime
    """When its files were last compared with their checksums."""

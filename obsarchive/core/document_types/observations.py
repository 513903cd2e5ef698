"""Documents of observations: the collection ``objects``."""

from datetime import datetime
from typing import Any, Literal, NotRequired, Required

from typing_extensions import TypedDict

from obsarchive.core.document_types.steps import EffectsDue, PipelineDocument


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
    median_error_arcsec: float | None
    """Its standard error [arcsec]."""
    nearest_arcsec: float | None
    """FWHM measured nearest in time, within an hour [arcsec]."""
    nearest_error_arcsec: float | None
    """Its standard error [arcsec]."""
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

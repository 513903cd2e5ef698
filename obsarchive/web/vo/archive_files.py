"""Files of observations and nights, each with what ObsCore says about it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

from obsarchive.config.model import Config, Telescope
from obsarchive.core.archive_paths import Layout
from obsarchive.core.document_paths import DEC_DEG, RA_DEG
from obsarchive.core.documents import Night, Observation, StepRecord
from obsarchive.core.step_state import State
from obsarchive.io.product_entries import read_image_entry
from obsarchive.names import observations_in
from obsarchive.science.astrometry.sky_regions import Polygon, position_of
from obsarchive.web.framework.context import full_address, portal
from obsarchive.web.framework.file_responses import resolve_product_path
from obsarchive.web.vo.client import is_public

MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
RAW, CALIBRATION = "raw", "calib"
"""Folders of files, beside the names of pipelines."""
MEASURED = ("100p.fits", "_summed.fits")
"""Ends of the names of the products whose star the step ``strehl`` measures."""
MIME_TYPES = {
    ".fits": "image/fits",
    ".fz": "image/fits",
    ".gz": "application/gzip",
    ".bz2": "application/x-bzip2",
    ".png": "image/png",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".json": "application/json",
}

Kind = Literal["product", "raw", "master"]


@dataclass(frozen=True)
class Archive:
    """What is the same for all files: names, telescopes, addresses."""

    collection: str
    authority: str
    telescopes: Mapping[str, Telescope]
    layout: Layout
    addresses: Mapping[Kind, str]

    @classmethod
    def of_portal(cls) -> "Archive":
        """Return that of the portal which answers the request, with the addresses of who asks."""
        config: Config = portal().settings
        pages = "public" if is_public() else "observations"
        master = ("public.master_of_night", {}) if is_public() else ("nights.product", {"pipeline": "FolderName"})
        addresses: dict[Kind, str] = {
            "product": full_address(f"{pages}.product", obs_id="SubjectName", pipeline="FolderName", name="FileName"),
            "raw": full_address(f"{pages}.raw", obs_id="SubjectName", name="FileName"),
            "master": full_address(master[0], night="SubjectName", name="FileName", **master[1]),
        }
        authority = f"ivo://archiver/{config.database.db}"
        return cls(config.server.name, authority, config.telescope, portal().layout, addresses)

    def passbands(self) -> dict[str, list[tuple[float, float]]]:
        """Return the wavelengths [m] that a filter lets through, with each telescope that has one of its name."""
        found: dict[str, list[tuple[float, float]]] = {}
        for telescope in self.telescopes.values():
            for name in telescope.filters:
                found.setdefault(name, []).append(_passband(telescope, name))
        return found


def _passband(telescope: Telescope, name: str) -> tuple[float, float]:
    band = telescope.filters[name]
    return (band.wavelength_nm - band.width_nm / 2) * 1e-9, (band.wavelength_nm + band.width_nm / 2) * 1e-9


@dataclass
class ArchiveFile:
    """A file of an observation or night.

    Parameters
    ----------
    archive : Archive
        The archive.
    subject : Observation or Night
        What it belongs to.
    kind : {"product", "raw", "master"}
        What it is.
    folder : str
        Name of its pipeline, or ``raw``.
    entry : mapping
        Name and, of a product, size, checksum and image.
    fwhm_arcsec : float, optional
        Measured width of its stars [arcsec].
    """

    archive: Archive
    subject: Observation | Night
    kind: Kind
    folder: str
    entry: Mapping[str, Any]
    fwhm_arcsec: float | None = None

    @property
    def name(self) -> str:
        """Name of the file in its folder."""
        return str(self.entry["name"])

    @property
    def document(self) -> Mapping[str, Any]:
        """Document of the observation; empty for a file of a night."""
        return self.subject.document if isinstance(self.subject, Observation) else {}

    @property
    def did(self) -> str:
        """Identifier of the file."""
        return f"{self.archive.authority}?{self.subject.id}/{self.folder}/{quote(self.name)}"

    @property
    def url(self) -> str:
        """Address of the file."""
        address = self.archive.addresses[self.kind].replace("SubjectName", quote(self.subject.id))
        return address.replace("FolderName", quote(self.folder)).replace("FileName", quote(self.name))

    @property
    def mime(self) -> str:
        """Its format."""
        return MIME_TYPES.get(Path(self.name).suffix, "application/octet-stream")

    @property
    def path(self) -> Path:
        """Where it lies."""
        if isinstance(self.subject, Night):
            return self.archive.layout.calibration(self.subject.id) / self.name
        if self.kind == "raw":
            return self.subject.raw_folder / self.name
        return self.archive.layout.observation(self.subject.night, self.subject.id) / self.folder / self.name

    @cached_property
    def image(self) -> Mapping[str, Any]:
        """Shape and outline of its image; empty if it is none."""
        if self.kind == "raw":
            return {}
        found = self.entry.get("image")
        if isinstance(found, Mapping):
            return found
        path = resolve_product_path(self.path, self.archive.layout, self.subject.night)
        return {} if path is None else _image_of(path, str(self.entry.get("sha256")))

    @cached_property
    def corners(self) -> list[tuple[float, float]]:
        """Corners of its image on the sky [deg]; none if it does not say."""
        corners = self.image.get("corners_deg") or ()
        return [(float(ra), float(dec)) for ra, dec in corners]

    @cached_property
    def centre(self) -> tuple[float, float] | None:
        """Centre of the image, or where the telescope pointed [deg]."""
        if len(self.corners) >= 3:
            return position_of(Polygon(tuple(self.corners)).middle)
        if isinstance(self.subject, Night):
            return None
        ra, dec = self.subject.number(RA_DEG), self.subject.number(DEC_DEG)
        return None if ra is None or dec is None else (ra, dec)

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along each axis, the last one first in FITS; of a raw file those of a frame."""
        if self.kind == "raw" and isinstance(self.subject, Observation):
            return self.subject.shape or ()
        return tuple(int(n) for n in self.image.get("shape") or ())

    @property
    def telescope(self) -> Telescope | None:
        """Its telescope, if the configuration has it."""
        return self.archive.telescopes.get(str(self.document.get("telescope") or ""))

    @property
    def pixel_arcsec(self) -> float | None:
        """Side of a pixel [arcsec]."""
        if self.kind == "raw":
            return self.telescope.plate_scale_arcsec if self.telescope else None
        return self.image.get("pixel_arcsec")

    @property
    def field_deg(self) -> float | None:
        """Diameter of the field: the larger side of the image [deg]."""
        side = self.pixel_arcsec
        return side * max(self.shape[-2:]) / 3600 if side and len(self.shape) >= 2 else None

    @property
    def band_m(self) -> tuple[float, float] | None:
        """Wavelengths that its filter lets through [m]."""
        telescope, name = self.telescope, str(self.document.get("filter") or "")
        return _passband(telescope, name) if telescope and name in telescope.filters else None

    @property
    def times_mjd(self) -> tuple[float, float]:
        """Start and end of the exposure [MJD]; of a master, the night."""
        if isinstance(self.subject, Night):
            start = (datetime.strptime(self.subject.id, "%Y%m%d").replace(tzinfo=UTC) - MJD_EPOCH) / timedelta(days=1)
            return start, start + 1
        start = (self.subject.date_utc - MJD_EPOCH) / timedelta(days=1)
        return start, start + (self.subject.number("exposure_s") or 0.0) / 86400

    @property
    def size_bytes(self) -> int | None:
        """Its size [bytes], if the database knows it."""
        found = self.entry.get("bytes")
        return found if isinstance(found, int) else None


@lru_cache(maxsize=20_000)
def _image_of(path: Path, _checksum: str) -> Mapping[str, Any]:
    """Describe the image of a product that an earlier version wrote."""
    return read_image_entry(path) or {}


def files_of(archive: Archive, observation: Observation) -> Iterator[ArchiveFile]:
    """Yield the FITS products of an observation, then its raw files.

    Parameters
    ----------
    archive : Archive
        The archive.
    observation : Observation
        The observation.

    Yields
    ------
    ArchiveFile
    """
    for pipeline in observation.document.get("pipelined") or ():
        steps = observation.pipeline(pipeline).steps()
        for record in steps.values():
            for entry in record.products:
                name = entry.get("name")
                if isinstance(name, str) and name.endswith(".fits") and not _names_others(name, observation.id):
                    yield ArchiveFile(archive, observation, "product", pipeline, entry, _fwhm(name, record, steps))
    if not observation.raw_missing:
        for path in observation.raw_files:
            yield ArchiveFile(archive, observation, "raw", RAW, {"name": path.name})


def _names_others(name: str, obs_id: str) -> bool:
    """Whether the name of a product holds that of another observation, which the user may not see."""
    return any(named != obs_id for named in observations_in(name))


def _fwhm(name: str, made_by: StepRecord, steps: Mapping[str, StepRecord]) -> float | None:
    """Width of the stars of a product: by the step that made it, or by the step that measures it."""
    found = made_by.results.get("fwhm_arcsec") if made_by.results and "strehl/" not in name else None
    measured = steps.get("strehl")
    if found is None and measured and measured.state is State.DONE and name.endswith(MEASURED):
        found = measured.results.get("fwhm_arcsec")
    return float(found) if isinstance(found, int | float) and math.isfinite(found) and found > 0 else None


def masters_of(archive: Archive, night: Night) -> Iterator[ArchiveFile]:
    """Yield the master darks and flats of a night.

    Parameters
    ----------
    archive : Archive
        The archive.
    night : Night
        The night.

    Yields
    ------
    ArchiveFile
    """
    for record in night.pipeline(CALIBRATION).steps().values():
        for entry in record.products:
            name = entry.get("name")
            if isinstance(name, str) and name.endswith(".fits"):
                yield ArchiveFile(archive, night, "master", CALIBRATION, entry)


def read_did(authority: str, did: str) -> tuple[str, str, str] | None:
    """Return observation or night, folder and name of an identifier.

    Parameters
    ----------
    authority : str
        What identifiers of this archive begin with.
    did : str
        The identifier.

    Returns
    -------
    (str, str, str) or None
        None if it is no identifier of this archive.
    """
    before, _, rest = did.partition("?")
    parts = rest.split("/", 2)
    if before != authority or len(parts) != 3 or not all(parts):
        return None
    return parts[0], parts[1], unquote(parts[2])

"""Columns of ObsCore 1.1 (the IVOA's description of observations), and their values for a file of this archive."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from obsarchive.core.documents import Observation
from obsarchive.web.vo.archive_files import ArchiveFile


@dataclass(frozen=True)
class TableColumn:
    """A column of a table that clients ask for.

    Parameters
    ----------
    name, datatype, unit, ucd, utype, xtype, description : str
        As in a VOTable; a ``char`` has any length.
    is_standard : bool
        Whether a standard defines it.
    """

    name: str
    datatype: str
    description: str
    unit: str = ""
    ucd: str = ""
    utype: str = ""
    xtype: str = ""
    is_standard: bool = True

    @property
    def arraysize(self) -> str:
        """Size of its values as VOTables write it; empty for a single number."""
        return "*" if self.datatype == "char" else ""


Value = Callable[[ArchiveFile], Any]


def _level(file: ArchiveFile) -> int:
    if file.kind != "product":
        return 1
    return 2 if file.name.endswith(("p.fits", "sum.fits", "summed.fits", "stack.fits", "_wcs.fits")) else 3


def _type(file: ArchiveFile) -> str:
    if file.name.endswith("_photometry.fits"):
        return "measurements"
    return "cube" if file.kind == "raw" or len(file.shape) > 2 else "image"


def _region(file: ArchiveFile) -> str | None:
    if len(file.corners) < 3:
        return None
    return "POLYGON ICRS " + " ".join(f"{value:.8f}" for corner in file.corners for value in corner)


def _title(file: ArchiveFile) -> str:
    target = f"{file.document.get('name') or file.subject.id}, " if file.document else f"{file.subject.id}, "
    return f"{target}{file.folder.replace('_', ' ')}, {file.name}"


def _obs_id(file: ArchiveFile) -> str:
    return file.subject.id if isinstance(file.subject, Observation) else f"calib_{file.subject.id}"


def _target(file: ArchiveFile) -> str | None:
    return str(file.document.get("name") or "") or None


def _size(file: ArchiveFile) -> int | None:
    return None if file.size_bytes is None else max(1, round(file.size_bytes / 1000))


def _axis(number: int) -> Value:
    return lambda file: file.shape[-number] if len(file.shape) >= number else None


def _resolving_power(file: ArchiveFile) -> float | None:
    band = file.band_m
    return (band[0] + band[1]) / 2 / (band[1] - band[0]) if band and band[1] > band[0] else None


def _program(file: ArchiveFile) -> str | None:
    program = file.document.get("science_program")
    found = program.get("program_id") if isinstance(program, dict) else None
    return str(found) if found is not None else None


_POSITION = "Char.SpatialAxis.Coverage.Location.Coord.Position2D.Value2"
_TIME, _WAVE = "Char.TimeAxis.Coverage", "Char.SpectralAxis.Coverage.Bounds.Limits"

# name, datatype, unit, ucd, utype, value, description
_COLUMNS: tuple[tuple[str, str, str, str, str, Value, str], ...] = (
    ("dataproduct_type", "char", "", "meta.code.class", "ObsDataset.dataProductType", _type, "image, cube, …"),
    ("calib_level", "int", "", "meta.code;obs.calib", "ObsDataset.calibLevel", _level, "1 raw, 2 reduced, 3 derived"),
    (
        "obs_collection",
        "char",
        "",
        "meta.id",
        "DataID.collection",
        lambda file: file.archive.collection,
        "name of the archive",
    ),
    ("obs_id", "char", "", "meta.id", "DataID.observationID", _obs_id, "name of the observation"),
    (
        "obs_publisher_did",
        "char",
        "",
        "meta.ref.ivoid",
        "Curation.publisherDID",
        lambda file: file.did,
        "identifier of the file",
    ),
    ("obs_title", "char", "", "meta.title;obs", "DataID.title", _title, "target, pipeline, file"),
    ("access_url", "char", "", "meta.ref.url", "Access.reference", lambda file: file.url, "address of the file"),
    ("access_format", "char", "", "meta.code.mime", "Access.format", lambda file: file.mime, "format of the file"),
    ("access_estsize", "long", "kbyte", "phys.size;meta.file", "Access.size", _size, "size of the file"),
    ("target_name", "char", "", "meta.id;src", "Target.name", _target, "name of the target"),
    (
        "s_ra",
        "double",
        "deg",
        "pos.eq.ra",
        f"{_POSITION}.C1",
        lambda file: file.centre[0] if file.centre else None,
        "right ascension of the centre (ICRS)",
    ),
    (
        "s_dec",
        "double",
        "deg",
        "pos.eq.dec",
        f"{_POSITION}.C2",
        lambda file: file.centre[1] if file.centre else None,
        "declination of the centre (ICRS)",
    ),
    (
        "s_fov",
        "double",
        "deg",
        "phys.angSize;instr.fov",
        "Char.SpatialAxis.Coverage.Bounds.Extent.diameter",
        lambda file: file.field_deg,
        "larger side of the image",
    ),
    (
        "s_region",
        "char",
        "",
        "pos.outline;obs.field",
        "Char.SpatialAxis.Coverage.Support.Area",
        _region,
        "outline of the image",
    ),
    (
        "s_resolution",
        "double",
        "arcsec",
        "pos.angResolution",
        "Char.SpatialAxis.Resolution.Refval.value",
        lambda file: file.fwhm_arcsec,
        "measured FWHM of the stars",
    ),
    ("s_xel1", "long", "", "meta.number", "Char.SpatialAxis.numBins1", _axis(1), "pixels along x"),
    ("s_xel2", "long", "", "meta.number", "Char.SpatialAxis.numBins2", _axis(2), "pixels along y"),
    (
        "s_pixel_scale",
        "double",
        "arcsec",
        "phys.angSize;instr.pixel",
        "Char.SpatialAxis.Sampling.RefVal.SamplingPeriod",
        lambda file: file.pixel_arcsec,
        "side of a pixel",
    ),
    (
        "t_min",
        "double",
        "d",
        "time.start;obs.exposure",
        f"{_TIME}.Bounds.Limits.StartTime",
        lambda file: file.times_mjd[0],
        "start (MJD)",
    ),
    (
        "t_max",
        "double",
        "d",
        "time.end;obs.exposure",
        f"{_TIME}.Bounds.Limits.StopTime",
        lambda file: file.times_mjd[1],
        "end (MJD)",
    ),
    (
        "t_exptime",
        "double",
        "s",
        "time.duration;obs.exposure",
        f"{_TIME}.Support.Extent",
        lambda file: file.subject.number("exposure_s") if isinstance(file.subject, Observation) else None,
        "total exposure",
    ),
    (
        "t_resolution",
        "double",
        "s",
        "time.resolution",
        "Char.TimeAxis.Resolution.Refval.value",
        lambda _: None,
        "not given",
    ),
    ("t_xel", "long", "", "meta.number", "Char.TimeAxis.numBins", lambda _: None, "not given"),
    (
        "em_min",
        "double",
        "m",
        "em.wl;stat.min",
        f"{_WAVE}.LoLimit",
        lambda file: file.band_m[0] if file.band_m else None,
        "shortest wavelength",
    ),
    (
        "em_max",
        "double",
        "m",
        "em.wl;stat.max",
        f"{_WAVE}.HiLimit",
        lambda file: file.band_m[1] if file.band_m else None,
        "longest wavelength",
    ),
    (
        "em_res_power",
        "double",
        "",
        "spect.resolution",
        "Char.SpectralAxis.Resolution.ResolPower.refVal",
        _resolving_power,
        "wavelength over width of the filter",
    ),
    ("em_xel", "long", "", "meta.number", "Char.SpectralAxis.numBins", lambda _: 1, "filters: one"),
    ("o_ucd", "char", "", "meta.ucd", "Char.ObservableAxis.ucd", lambda _: "phot.count", "what pixels hold"),
    (
        "pol_states",
        "char",
        "",
        "meta.code;phys.polarization",
        "Char.PolarizationAxis.stateList",
        lambda _: None,
        "none was measured",
    ),
    ("pol_xel", "long", "", "meta.number", "Char.PolarizationAxis.numBins", lambda _: None, "none was measured"),
    (
        "facility_name",
        "char",
        "",
        "meta.id;instr.tel",
        "Provenance.ObsConfig.Facility.name",
        lambda file: str(file.document.get("telescope") or "") or None,
        "telescope",
    ),
    (
        "instrument_name",
        "char",
        "",
        "meta.id;instr",
        "Provenance.ObsConfig.Instrument.name",
        lambda file: str(file.document.get("camera") or "") or None,
        "camera",
    ),
    ("proposal_id", "char", "", "meta.id;obs.proposal", "Provenance.Proposal.identifier", _program, "programme"),
)

COLUMNS: dict[str, TableColumn] = {
    name: TableColumn(
        name,
        datatype,
        description,
        unit,
        ucd,
        utype=f"obscore:{utype}",
        xtype="adql:REGION" if name == "s_region" else "",
    )
    for name, datatype, unit, ucd, utype, _, description in _COLUMNS
}
"""Columns of ``ivoa.obscore`` in their order."""

VALUES: dict[str, Value] = {name: value for name, _, _, _, _, value, _ in _COLUMNS}
"""How the value of a column is found."""

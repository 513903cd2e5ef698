"""DataLink 1.1: what belongs to a file, such as its preview, its raw files, its masters and its log."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obsarchive.core.documents import Observation
from obsarchive.web.framework.context import full_address
from obsarchive.web.models.raw_data import SourceFile, masters_used, resolve_raw_path
from obsarchive.web.vo.answers import ResultTable, ServiceDescriptor, ServiceParameter
from obsarchive.web.vo.archive_files import Archive, ArchiveFile, files_of
from obsarchive.web.vo.client import is_public, service_address
from obsarchive.web.vo.lookup import find_file, masters
from obsarchive.web.vo.obscore import VALUES, TableColumn

FORMAT = "application/x-votable+xml;content=datalink"
COLUMNS = (
    TableColumn("ID", "char", "identifier of the file", ucd="meta.id;meta.main"),
    TableColumn("access_url", "char", "address of the link", ucd="meta.ref.url"),
    TableColumn("service_def", "char", "service that the link calls", ucd="meta.ref"),
    TableColumn("error_message", "char", "why there is no link", ucd="meta.code.error"),
    TableColumn("semantics", "char", "what the link is to the file", ucd="meta.code"),
    TableColumn("description", "char", "what it is", ucd="meta.note"),
    TableColumn("content_type", "char", "its format", ucd="meta.code.mime"),
    TableColumn("content_length", "long", "its size", unit="byte", ucd="phys.size;meta.file"),
)
PREVIEWS = {"_full.png": "#preview-image", "_cropped.png": "#preview-image", "_thumb.png": "#preview"}


@dataclass(frozen=True)
class Link:
    """A link of a file."""

    semantics: str
    description: str
    url: str = ""
    mime: str = ""
    bytes: int | None = None
    service: str = ""

    def row(self, did: str) -> list[Any]:
        """Return it as a row of the answer."""
        url, service = self.url or None, self.service or None
        return [did, url, service, None, self.semantics, self.description, self.mime or None, self.bytes]


def answer(archive: Archive, dids: Iterable[str]) -> ResultTable:
    """Return the links of some files.

    Parameters
    ----------
    archive : Archive
        The archive.
    dids : iterable of str
        Identifiers of the files; one that is unknown gets an error of its own.

    Returns
    -------
    ResultTable
    """
    rows: list[list[Any]] = []
    has_cutouts = False
    for did in dids:
        file = find_file(archive, did)
        if file is None:
            rows.append([did, None, None, "NotFoundFault: there is no such file", "#this", None, None, None])
            continue
        links = list(_links(archive, file))
        has_cutouts |= any(link.service for link in links)
        rows += [link.row(did) for link in links]
    services = [cutout_service()] if has_cutouts else []
    return ResultTable(COLUMNS, rows, infos={"standardID": "ivo://ivoa.net/std/DataLink#links-1.1"}, services=services)


def _links(archive: Archive, file: ArchiveFile) -> Iterator[Link]:
    size = _raw_size(file) if file.kind == "raw" else file.size_bytes
    yield Link("#this", str(VALUES["obs_title"](file)), file.url, file.mime, size)
    if not isinstance(file.subject, Observation):
        return
    if file.kind == "product":
        yield from _previews(file, file.subject)
        yield from _progenitors(archive, file, file.subject)
        yield from _calibration(archive, file, file.subject)
        if not is_public():
            yield from _logs(file, file.subject)
        if file.corners:
            yield Link("#cutout", "part of the image", mime="image/fits", service="soda")
    if is_public():
        tar = full_address("public.download", obs_id=file.subject.id)
        yield Link("#auxiliary", "all products of the observation", tar, "application/x-tar")
    elif file.subject.packed:
        size_packed = file.subject.packed_bytes
        tarball = full_address("observations.tarball", obs_id=file.subject.id)
        yield Link(
            "#auxiliary",
            "everything of the observation",
            tarball,
            "application/x-bzip2",
            None if size_packed is None else int(size_packed),
        )


def _raw_size(file: ArchiveFile) -> int | None:
    return SourceFile(file.name, resolve_raw_path(file.path)).bytes


def _previews(file: ArchiveFile, seen: Observation) -> Iterator[Link]:
    for record in seen.pipeline(file.folder).steps().values():
        for entry in record.products:
            name = str(entry.get("name") or "")
            kind = next((kind for end, kind in PREVIEWS.items() if name.endswith(end)), None)
            if kind:
                picture = ArchiveFile(file.archive, seen, "product", file.folder, entry)
                yield Link(kind, Path(name).stem.rpartition("_")[2], picture.url, "image/png", picture.size_bytes)


def _progenitors(archive: Archive, file: ArchiveFile, seen: Observation) -> Iterator[Link]:
    is_derived = VALUES["calib_level"](file) == 3
    for other in files_of(archive, seen):
        if other.kind == "raw":
            yield Link("#progenitor", f"raw, {other.name}", other.url, other.mime, _raw_size(other))
        elif is_derived and other.folder == file.folder and VALUES["calib_level"](other) == 2:
            yield Link("#progenitor", f"stack, {other.name}", other.url, other.mime, other.size_bytes)


def _calibration(archive: Archive, file: ArchiveFile, seen: Observation) -> Iterator[Link]:
    """Yield the masters that the pipeline used, as the night has them."""
    used = masters_used(seen, [file.folder])
    for master in masters(archive, seen.night) if used else ():
        label = Path(master.name).stem
        if label in used:
            kind = next((f"#{kind}" for kind in ("dark", "flat") if label.startswith(kind)), "#calibration")
            yield Link(kind, f"master, {master.name}", master.url, master.mime, master.size_bytes)


def _logs(file: ArchiveFile, seen: Observation) -> Iterator[Link]:
    for step, record in seen.pipeline(file.folder).steps().items():
        if any(entry.get("name") == file.name for entry in record.products):
            url = service_address("log", obs_id=seen.id, pipeline=file.folder, step=step)
            yield Link("#auxiliary", f"log of the step {step}", url, "text/plain")


def link_service() -> ServiceDescriptor:
    """Return the description of this service, for tables with the column ``obs_publisher_did``."""
    did = ServiceParameter(
        "ID", column="obs_publisher_did", ucd="meta.id;meta.main", description="identifier of a file"
    )
    url, standard = service_address("links"), "ivo://ivoa.net/std/DataLink#links-1.1"
    return ServiceDescriptor("datalink", url, standard, (did,), "what belongs to a file")


def cutout_service() -> ServiceDescriptor:
    """Return the description of the service of cut-outs."""
    parameters = (
        ServiceParameter("ID", column="ID", ucd="meta.ref.url;meta.curation", description="identifier of a file"),
        ServiceParameter(
            "CIRCLE",
            "double",
            "3",
            ucd="pos.outline;obs",
            unit="deg",
            xtype="circle",
            description="ra dec radius (ICRS)",
        ),
        ServiceParameter(
            "POLYGON", "double", "*", ucd="pos.outline;obs", unit="deg", xtype="polygon", description="corners (ICRS)"
        ),
        ServiceParameter("POS", ucd="pos.outline;obs", description="CIRCLE, RANGE or POLYGON and its numbers (ICRS)"),
        ServiceParameter(
            "RESPONSEFORMAT", ucd="meta.code.mime", options=("image/fits", "image/png"), description="format"
        ),
    )
    url, standard = service_address("cutout"), "ivo://ivoa.net/std/SODA#sync-1.0"
    return ServiceDescriptor("soda", url, standard, parameters, "part of an image")

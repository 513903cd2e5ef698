"""Raw photometry of an observatory as it is kept: in files, to which documents in the database refer."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obsarchive.errors import ArchiveError
from surveys.database import open_surveys
from surveys.dataset import Document, RawPhotometry, data_root, raw_identity
from surveys.formats.hdf5_light_curves import CorruptFileError, PhotometryFile, Record
from surveys.observatory.downloads import reason_of, tried
from surveys.observatory.origin import Origin
from surveys.places import place_of
from surveys.source import Source

if TYPE_CHECKING:
    from surveys.observatory.base import VirtualObservatory

log = logging.getLogger(__name__)

Row = Mapping[str, Any]
Downloaded = RawPhotometry | Exception


class RawStorage:
    """Raw photometry of one observatory, in its folder and in the database.

    Parameters
    ----------
    observatory : VirtualObservatory
        The observatory.
    """

    def __init__(self, observatory: "VirtualObservatory") -> None:
        self._observatory, self._name = observatory, observatory.name

    @property
    def _folder(self) -> Path:
        return data_root() / self._name  # which the opening of the database may set

    def known(self, names: Sequence[str]) -> dict[str, Document]:
        """Return the documents of the raw photometry of sources, by their names."""
        fields = ["source_name", "observatory", "state", "filename", "filekey", "download_pars", "place", "origin"]
        found = open_surveys().named("raw_photometry", names, {"observatory": self._name}, fields)
        return {one["source_name"]: one for one in found}

    def on_disk(self, documents: Sequence[Document]) -> set[str]:
        """Return the sources whose raw photometry is in the file that the database names; damaged files are missing."""
        files: dict[str, dict[str, str]] = {}
        for document in documents:
            if document.get("filename"):
                files.setdefault(document["filename"], {})[document["filekey"]] = document["source_name"]
        there: set[str] = set()
        for filename, names in files.items():
            try:
                keys = PhotometryFile(self._folder / filename).keys()
            except CorruptFileError as err:
                log.warning("%s", err)
                continue
            there |= {names[key] for key in keys if key in names}
        return there

    def keep(self, batch: Sequence[tuple[Row, Downloaded]]) -> list[tuple[Row, Downloaded]]:
        """Store a batch: files first, then the database, so that it only refers to existing data.

        Returns the batch, with the reasons in place of the data that cannot be stored.
        """
        from obsarchive.store import check_documents  # late: data can be used without a database

        expires = datetime.now(UTC) + timedelta(days=self._observatory.pars.empty_expires)
        documents: dict[str, Document] = {}

        def checked(one: tuple[Row, RawPhotometry]) -> RawPhotometry:
            row, raw = one
            asked = {"download_pars": raw.altdata.get("download_pars", {}), "place": place_of(row)}
            document = {**raw.document(expires), **asked, **_origin_of(raw.origin)}
            check_documents([document])
            documents[raw.source_name] = document
            return raw

        results = [(row, raw if isinstance(raw, Exception) else tried(checked, (row, raw))) for row, raw in batch]
        known = self.known([str(row["name"]) for row, _ in batch])
        older = self._older_data(results, known)
        self._remove_elsewhere([(row, raw) for row, raw in results if row["name"] not in older], known)
        files: dict[str, dict[str, Record]] = {}
        for row, raw in results:
            name = str(row["name"])
            if name in older:
                log.warning("%s: %s delivers no data any more; the older data are kept", name, self._name)
                documents.pop(name, None)
            elif isinstance(raw, Exception):
                facts = {"state": "failed", "reason": reason_of(raw), "fetched": datetime.now(UTC), "checksum": None}
                asked = {"place": place_of(row), **_origin_of(self._observatory.origin(name))}
                documents[name] = {**raw_identity(self._name, name), **facts, **asked}
            else:
                files.setdefault(raw.filename, {})[raw.filekey] = raw.record
        unwritten = self._write_files(files)
        stored = [document for document in documents.values() if document.get("filename") not in unwritten]
        open_surveys().save_raw(stored)
        return [(row, raw if isinstance(raw, Exception) else unwritten.get(raw.filename, raw)) for row, raw in results]

    def _write_files(self, files: Mapping[str, Mapping[str, Record]]) -> dict[str, Exception]:
        """Write records, file by file; return what went wrong, by the names of the files."""
        results = {name: tried(PhotometryFile(self._folder / name).write, records) for name, records in files.items()}
        return {name: err for name, err in results.items() if isinstance(err, Exception)}

    def _older_data(self, batch: Sequence[tuple[Row, Downloaded]], known: Mapping[str, Document]) -> set[str]:
        """Return the sources whose older data are kept, as the survey does not deliver them again."""

        def is_kept(row: Row, raw: RawPhotometry | Exception, before: Document) -> bool:
            asked_alike = isinstance(raw, Exception) or raw.altdata.get("download_pars", {}) == before.get(
                "download_pars", {}
            )
            return before["state"] == "good" and asked_alike and not self._is_elsewhere(row, before)

        lacking = [(row, raw) for row, raw in batch if isinstance(raw, Exception) or raw.is_empty]
        before = [(row, raw, known[str(row["name"])]) for row, raw in lacking if str(row["name"]) in known]
        return self.on_disk([found for row, raw, found in before if is_kept(row, raw, found)])

    def _remove_elsewhere(
        self, batch: Sequence[tuple[Row, RawPhotometry | Exception]], known: Mapping[str, Document]
    ) -> None:
        """Remove data of other positions and origins from their files; if the process is killed, they are fetched."""
        gone: dict[str, list[str]] = {}
        for row, raw in batch:
            before = known.get(str(row["name"]), {})
            if not before.get("filename") or not self._is_elsewhere(row, before):
                continue
            if isinstance(raw, Exception) or (raw.filename, raw.filekey) != (before["filename"], before["filekey"]):
                gone.setdefault(before["filename"], []).append(before["filekey"])
        for filename, keys in gone.items():
            PhotometryFile(self._folder / filename).remove(keys)

    def _is_elsewhere(self, row: Row, before: Document) -> bool:
        """Whether data were fetched for another position, or from another place."""
        return bool(self._observatory.moved(row, before)) or self._observatory.read_otherwise(before)

    def forget(self, names: Sequence[str]) -> None:
        """Remove the raw photometry of sources from disk and database."""
        surveys = open_surveys()
        files: dict[str, list[str]] = {}
        found = surveys.named("raw_photometry", names, {"observatory": self._name}, ["filename", "filekey"])
        for raw in found:
            if raw.get("filename"):
                files.setdefault(raw["filename"], []).append(raw["filekey"])
        for filename, keys in files.items():
            PhotometryFile(self._folder / filename).remove(keys)
        surveys.delete("raw_photometry", [raw["_id"] for raw in found])

    def rebuild(self, files: str) -> int:
        """Rebuild the database from the raw photometry on disk and return the number of sources.

        Only sources of the catalogue are taken: the files may hold those of other projects. Without a catalogue all
        are, with the names and coordinates of the files. What cannot be read is logged and skipped.
        """
        surveys, catalog, n_found, n_others = open_surveys(), self._observatory.catalog, 0, 0
        for path in sorted(self._folder.glob(files)):
            file = PhotometryFile(path)
            try:
                found = list(file.read_many(file.keys()))
            except CorruptFileError as err:
                log.warning("%s", err)
                continue
            good: list[RawPhotometry] = []
            for key, record in found:
                if isinstance(record, ArchiveError):
                    log.warning("%s", record)
                    continue
                facts = {"name": key, **record.altdata}
                raw = RawPhotometry(record.columns, facts, observatory=self._name, filename=path.name, filekey=key)
                if catalog is not None and raw.source_name not in catalog:
                    n_others += 1
                elif catalog is None and not {"ra", "dec"} <= facts.keys():
                    log.warning("%s: %s has no ra and dec: set a catalogue that has this source", path, key)
                else:
                    good.append(raw)
            expires = datetime.now(UTC) + timedelta(days=self._observatory.pars.empty_expires)
            surveys.save_raw([raw.document(expires) for raw in good])
            run = self._observatory.output_folder or self._name
            surveys.register((self._source_of(raw).document() for raw in good), run)
            n_found += len(good)
        if n_others:
            log.info("%s: %d sources in the files are not in the catalogue and are not taken", self._name, n_others)
        return n_found

    def _source_of(self, raw: RawPhotometry) -> Source:
        catalog = self._observatory.catalog
        if catalog is not None:
            return Source.from_row(catalog.get_row(raw.source_name))
        return Source(raw.source_name, raw.altdata["ra"], raw.altdata["dec"], raw.altdata.get("mag"))


def _origin_of(origin: Origin | None) -> Document:
    return {} if origin is None else {"origin": origin._asdict()}

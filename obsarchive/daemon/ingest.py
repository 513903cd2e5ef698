"""From what lies on disk to documents: new raw files, changed ones, missing ones, and what the tree remembers."""

import json
import logging
import socket
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from obsarchive.config.model import Config
from obsarchive.core import seeing_lookup
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import SCHEMA, Night, Observation, utc_now
from obsarchive.core.step_state import State
from obsarchive.core.values import as_mapping
from obsarchive.daemon.raw_scanner import Found, Listing, signature
from obsarchive.errors import ArchiveError
from obsarchive.instruments import Instrument
from obsarchive.io.atomic import atomic_write
from obsarchive.io.raw_frames import plain_cards, read_header
from obsarchive.names import ObservationName, is_night
from obsarchive.store import Document, StepUpdate, Store

log = logging.getLogger(__name__)

CALIBRATION_KINDS = ("dark", "flat", "seeing")
USER_FIELDS = ("comment", "alternative_names", "date_added")
"""What people write into a document, and the tree keeps for them."""


class Ingest:
    """Writes listings of raw folders into the database."""

    def __init__(self, config: Config, store: Store) -> None:
        self.config, self.store = config, store
        self.layout = Layout(config.paths.archive)
        self._host = socket.gethostname()

    def night(self, listing: Listing) -> None:
        """Bring the database in step with a night's raw folder."""
        self.store.nights.touch(listing.night)
        self._restore_night(listing.night)
        known = self.store.observations.raw_signatures(listing.night)
        present = listing.observations()
        for name, files in present.items():
            self._observation(listing, name, files, known.get(name))
        growing = {found.raw.observation for found in listing.files if found.raw.name in set(listing.growing)}
        for name, (_, missing) in known.items():
            if name not in present and name not in growing and not missing and self._is_gone(name):
                log.warning("%s: raw files are gone; its products stay", name)
                self.store.observations.set_fields(name, {"raw_data.missing": True})
        self._night_files(listing)

    def _is_gone(self, name: str) -> bool:
        """Whether raw files are not where the database says; those of a night may lie below several roots."""
        files = Observation(self.store.observations.find(name) or {}).raw_files
        return not files or not all(path.exists() for path in files)

    def tree(self) -> int:
        """Take up what the archive tree holds and the database does not; returns the number of observations."""
        taken = 0
        for folder in _folders(self.layout.root):
            if not is_night(folder.name):
                continue
            self.store.nights.touch(folder.name)
            self._restore_night(folder.name)
            known = set(self.store.observations.raw_signatures(folder.name))
            for inner in _folders(folder):
                if inner.name not in known and self._from_tree(folder.name, inner.name):
                    taken += 1
        return taken

    def _from_tree(self, night: str, name: str) -> bool:
        try:
            ObservationName.parse(name)
        except ValueError:
            return False
        remembered = self._read_sidecar(night, name)
        if not remembered:
            return False
        document = {**remembered, "_id": name, "night": night}
        document["pipelined"] = self._recorded_blocks(self.layout.observation(night, name))
        document["raw_data"] = {**as_mapping(document.get("raw_data")), "missing": True}  # until they are seen
        document["distributed"] = {**as_mapping(document.get("distributed")), "status": False}
        document["remembered"] = user_fields(document)
        return self.store.observations.insert(document)

    def _read_sidecar(self, night: str, name: str) -> Document:
        """Return what the tree keeps of an observation beside its products; nothing when it is damaged."""
        path = self.layout.sidecar(night, name)
        try:
            return dict(as_mapping(_with_times(json.loads(path.read_text()))))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as err:
            log.warning("%s cannot be read: %s", path, err)
            return {}

    def _night_files(self, listing: Listing) -> None:
        kinds = {kind: listing.of_kind(kind) for kind in CALIBRATION_KINDS}
        observations = self.store.observations.of_night(listing.night)
        needs = {observation.need for observation in observations if not observation.raw_missing}
        self.store.nights.set_fields(
            listing.night,
            {
                "raw_data.location": [self._host, str(listing.folder)],
                "raw_data.signature": {kind: signature(files) for kind, files in kinds.items()},
                "raw_data.files": [
                    {
                        "name": f.raw.name,
                        "kind": kind,
                        "mode": f.raw.mode,
                        "filter": f.raw.filter,
                        "camera": f.raw.camera,
                        "date_utc": f.raw.date_utc,
                    }
                    for kind, files in kinds.items()
                    for f in files
                ],
                "raw_data.ignored": [_readable(name) for name in listing.ignored[:1000]],
                "raw_data.ignored_count": len(listing.ignored),
                "raw_data.growing": listing.growing[:1000],
                "raw_data.needs": [need.to_document() for need in sorted(needs, key=str)],
                "last_modified": utc_now(),
            },
        )

    def _observation(self, listing: Listing, name: str, files: list[Found], known: tuple[str, bool] | None) -> None:
        now_signature = signature(files)
        if known == (now_signature, False):
            return
        if known is None:
            document = self.document(listing, name, files)
            if self.store.observations.insert(document):
                write_sidecar(self.layout, document)
                log.info("%s: new, %d raw file(s)", name, len(files))
            return
        fields = {**self._raw_fields(listing, files), **self._described(listing.instrument, name, files)}
        fields["raw_data.missing"] = False
        self.store.observations.set_fields(name, {**fields, **self.store.observations.reopened()})
        log.info("%s: raw files %s", name, "are there" if known[0] == now_signature else "changed")

    def _raw_fields(self, listing: Listing, files: list[Found]) -> Document:
        newest = max(found.mtime_ns for found in files)
        return {
            "raw_data.location": [self._host, str(listing.folder)],
            "raw_data.data": [found.raw.name for found in files],
            "raw_data.signature": signature(files),
            "raw_data.last_modified": datetime.fromtimestamp(newest // 10**6 / 1e3, tz=utc_now().tzinfo),
        }

    def _described(self, instrument: Instrument, name: str, files: list[Found]) -> Document:
        """Fields that the header of frame 0 decides; a broken header costs them, not the observation."""
        try:
            header = read_header(files[0].path)
        except (ArchiveError, OSError) as err:
            log.warning("%s: %s", name, err)
            return {"fits_header": []}
        return {**instrument.describe(header), "fits_header": plain_cards(header)}

    def document(self, listing: Listing, name: str, files: list[Found]) -> Document:
        """Make the document of an observation from its files, and from what the tree remembers of it."""
        parsed = ObservationName.parse(name)
        program = parsed.program
        telescope = self.config.telescope_of(parsed.camera, parsed.date_utc.date())
        document: Document = {
            "_id": name,
            "schema": SCHEMA,
            "date_added": utc_now(),
            "night": listing.night,
            "name": parsed.target,
            "alternative_names": [],
            "comment": None,
            "science_program": {"program_id": program, "program_PI": self.store.users.owners(program)},
            "date_utc": parsed.date_utc.replace(microsecond=parsed.date_utc.microsecond // 1000 * 1000),
            "telescope": telescope,
            "detector_px": list(self.config.telescope[telescope].detector_px) if telescope else None,
            "camera": parsed.camera,
            "filter": parsed.filter,
            "marker": parsed.marker,
            **self._described(listing.instrument, name, files),
            "raw_data": {
                key.removeprefix("raw_data."): value for key, value in self._raw_fields(listing, files).items()
            },
            "seeing": {**self._seeing(listing.night, parsed.date_utc), "last_modified": utc_now()},
            "pipelined": self._recorded_blocks(self.layout.observation(listing.night, name)),
            "distributed": {
                "status": False,
                "location": [self._host, str(self.layout.observation(listing.night, name))],
                "last_modified": utc_now(),
            },
        }
        self._restore_user_fields(document)
        document["remembered"] = user_fields(document)
        return document

    def _seeing(self, night: str, when: datetime) -> Document:
        return seeing_lookup.nearest_seeing(
            Night(self.store.nights.find(night) or {"_id": night}).seeing_frames(), when
        )

    def _restore_user_fields(self, document: Document) -> None:
        remembered = self._read_sidecar(document["night"], document["_id"])
        document |= {key: remembered[key] for key in USER_FIELDS if key in remembered}
        owners = as_mapping(remembered.get("science_program")).get("program_PI")
        if owners:
            document["science_program"]["program_PI"] = owners

    def _recorded_blocks(self, folder: Path) -> Document:
        return {name: block for inner in _folders(folder) for name, block in _blocks_by_pipeline(inner).items()}

    def _restore_night(self, night: str) -> None:
        """Read back what the tree says of the night's own pipelines, where the database says nothing."""
        document = self.store.nights.find(night) or {}
        for folder in (self.layout.calibration(night), self.layout.summary(night)):
            for name, block in _blocks_by_pipeline(folder).items():
                if name not in document:
                    self.store.nights.set_fields(night, {name: block})
                    if name == "seeing":
                        self.store.nights.set_fields(night, Night({"_id": night, name: block}).seeing_fields())


def user_fields(document: Mapping[str, Any]) -> Document:
    """What people change in a document in the Mongo shell or the portal, and the tree must not forget."""
    owners = as_mapping(document.get("science_program")).get("program_PI")
    return {"program_PI": owners, "comment": document.get("comment"), "names": document.get("alternative_names")}


def write_sidecar(layout: Layout, document: Mapping[str, Any]) -> None:
    """Keep beside the products what the database knows of an observation, without the pipelines' own numbers."""
    path = layout.sidecar(document["night"], document["_id"])
    kept = {key: value for key, value in document.items() if key not in ("pipelined", "look_again", "remembered")}
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(kept, indent=1, default=_iso).encode())


def _iso(value: object) -> str:
    """Write a time, or whatever else people put into a document in the Mongo shell, as text."""
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else str(value)


def _readable(name: str) -> str:
    """Return the name of a file as the database takes it: names may hold bytes that are no text."""
    return name.encode("utf-8", "backslashreplace").decode()


def _with_times(value: Any, key: str = "") -> Any:
    """Turn the times of a remembered document back from text."""
    if isinstance(value, dict):
        return {name: _with_times(inner, name) for name, inner in value.items()}
    if isinstance(value, str) and key in ("date_utc", "date_added", "last_modified", "nearest_utc"):
        return datetime.fromisoformat(value)
    return value


def _folders(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return


_NEEDED_OF_MANIFEST = {"pipeline", "step", "state", "started", "finished"}


def _manifests(folder: Path) -> Iterator[Mapping[str, Any]]:
    for path in sorted(folder.glob(".*.json")):
        try:
            manifest = json.loads(path.read_text())
        except (OSError, ValueError) as err:
            log.warning("%s cannot be read (%s): its step will be done again", path, err)
            continue
        if isinstance(manifest, dict) and manifest.keys() >= _NEEDED_OF_MANIFEST:
            yield manifest


def _blocks_by_pipeline(folder: Path) -> dict[str, Document]:
    blocks: dict[str, Document] = {}
    for manifest in _manifests(folder):
        try:
            ending = StepUpdate(State(manifest["state"]), str(manifest.get("message", "")), manifest)
            leaves = {key.removeprefix("."): value for key, value in ending.leaves("").items()}
        except (ValueError, TypeError) as err:
            log.warning("a manifest in %s is damaged (%s): its step will be done again", folder, err)
            continue
        block = blocks.setdefault(str(manifest["pipeline"]), {"steps": {}})
        block["steps"][str(manifest["step"])] = {**leaves, "retries": 0}
        if "classified_as" in manifest:
            block["classified_as"] = manifest["classified_as"]
    for block in blocks.values():
        done = all(step["state"] == State.DONE for step in block["steps"].values())
        block["status"] = {"done": done, "enqueued": False, "force_redo": False, "retries": 0}
        block["last_modified"] = utc_now()
    return blocks

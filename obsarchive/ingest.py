"""From what lies on disk to documents: new raw files, changed ones, missing ones, and what the tree remembers."""

import json
import logging
import socket
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from obsarchive.config import Config
from obsarchive.errors import BadRawData
from obsarchive.fitsio import write_atomic
from obsarchive.instruments import Instrument
from obsarchive.layout import Layout
from obsarchive.names import ObservationName, is_night
from obsarchive.observation import SCHEMA, utc_now
from obsarchive.rawdata import plain_cards, read_header
from obsarchive.scan import Found, Listing, signature
from obsarchive.state import State
from obsarchive.store import Document, Ending, Store

log = logging.getLogger(__name__)

CALIBRATION_KINDS = ("dark", "flat", "seeing")
PEOPLES_FIELDS = ("comment", "alternative_names", "date_added")
"""What people write into a document, and the tree keeps for them."""


class Ingest:
    """Writes listings of raw folders into the book."""

    def __init__(self, config: Config, store: Store) -> None:
        self.config, self.store = config, store
        self.layout = Layout(config.paths.archive)
        self._host = socket.gethostname()

    def night(self, listing: Listing) -> None:
        """Bring the book in step with a night's raw folder."""
        self.store.nights.touch(listing.night)
        self._recall_night(listing.night)
        known = self.store.observations.raw_signatures(listing.night)
        present = listing.observations()
        for name, files in present.items():
            self._observation(listing, name, files, known.get(name))
        growing = {found.raw.observation for found in listing.files if found.raw.name in set(listing.growing)}
        for name, (_, missing) in known.items():
            if name not in present and name not in growing and not missing:
                log.warning("%s: raw files are gone; its products stay", name)
                self.store.observations.set_fields(name, {"raw_data.missing": True})
        self._night_files(listing)

    def tree(self) -> int:
        """Take up what the archive tree holds and the book does not; returns the number of observations."""
        taken = 0
        for folder in _folders(self.layout.root):
            if not is_night(folder.name):
                continue
            self.store.nights.touch(folder.name)
            self._recall_night(folder.name)
            known = set(self.store.observations.raw_signatures(folder.name))
            for inner in _folders(folder):
                if inner.name not in known and self._from_tree(folder.name, inner.name):
                    taken += 1
        return taken

    def _from_tree(self, night: str, name: str) -> bool:
        try:
            ObservationName.parse(name)
            remembered = json.loads(self.layout.sidecar(night, name).read_text())
        except (ValueError, OSError):
            return False
        document = {**_with_times(remembered), "_id": name, "night": night}
        document["pipelined"] = self._recalled(self.layout.observation(night, name))
        document.setdefault("distributed", {})["status"] = False
        return self.store.observations.insert(document)

    def _night_files(self, listing: Listing) -> None:
        kinds = {kind: listing.of_kind(kind) for kind in CALIBRATION_KINDS}
        needs = {
            (o.mode, o.shape, o.filter) for o in self.store.observations.of_night(listing.night) if not o.raw_missing
        }
        self.store.nights.set_fields(
            listing.night,
            {
                "raw_data.location": [self._host, str(listing.folder)],
                "raw_data.signature": {kind: signature(files) for kind, files in kinds.items()},
                "raw_data.files": [
                    {"name": f.raw.name, "kind": kind, "mode": f.raw.mode, "filter": f.raw.filter}
                    for kind, files in kinds.items()
                    for f in files
                ],
                "raw_data.ignored": listing.ignored[:1000],
                "raw_data.ignored_count": len(listing.ignored),
                "raw_data.growing": listing.growing[:1000],
                "raw_data.needs": [
                    {"mode": mode, "shape": list(shape) if shape else None, "filter": filter_}
                    for mode, shape, filter_ in sorted(needs, key=str)
                ],
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
                remember(self.layout, document)
                log.info("%s: new, %d raw file(s)", name, len(files))
            return
        fields = {**self._raw_fields(listing, files), **self._described(listing.instrument, name, files)}
        fields["raw_data.missing"] = False
        self.store.observations.set_fields(name, {**fields, **self.store.observations.reopened()})
        log.info("%s: raw files changed", name)

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
        except (BadRawData, OSError) as err:
            log.warning("%s: %s", name, err)
            return {"fits_header": []}
        fields = instrument.describe(header)
        if "shape" not in fields:
            fields.pop("shape", None)
        return {**fields, "fits_header": plain_cards(header)}

    def document(self, listing: Listing, name: str, files: list[Found]) -> Document:
        """Make the document of an observation from its files, and from what the tree remembers of it."""
        parsed = ObservationName.parse(name)
        program = parsed.program
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
            "telescope": self.config.telescope_of(parsed.camera, parsed.date_utc.date()),
            "camera": parsed.camera,
            "filter": parsed.filter,
            "marker": parsed.marker,
            **self._described(listing.instrument, name, files),
            "raw_data": {
                key.removeprefix("raw_data."): value for key, value in self._raw_fields(listing, files).items()
            },
            "seeing": {"median_arcsec": None, "nearest_arcsec": None, "nearest_utc": None, "last_modified": utc_now()},
            "pipelined": self._recalled(self.layout.observation(listing.night, name)),
            "distributed": {
                "status": False,
                "location": [self._host, str(self.layout.observation(listing.night, name))],
                "last_modified": utc_now(),
            },
        }
        self._recall_people(document)
        return document

    def _recall_people(self, document: Document) -> None:
        try:
            remembered = json.loads(self.layout.sidecar(document["night"], document["_id"]).read_text())
        except (OSError, ValueError):
            return
        remembered = _with_times(remembered)
        document |= {key: remembered[key] for key in PEOPLES_FIELDS if key in remembered}
        owners = (remembered.get("science_program") or {}).get("program_PI")
        if owners:
            document["science_program"]["program_PI"] = owners

    def _recalled(self, folder: Path) -> Document:
        return {inner.name: block for inner in _folders(folder) if (block := recalled_block(inner))}

    def _recall_night(self, night: str) -> None:
        """Read back what the tree says of the night's own pipelines, where the book says nothing."""
        document = self.store.nights.find(night) or {}
        for folder in (self.layout.calibration(night), self.layout.summary(night)):
            for name, block in _blocks_by_pipeline(folder).items():
                if name not in document:
                    self.store.nights.set_fields(night, {name: block})


def remember(layout: Layout, document: Mapping[str, Any]) -> None:
    """Keep beside the products what the book knows of an observation, without the pipelines' own numbers."""
    path = layout.sidecar(document["night"], document["_id"])
    kept = {key: value for key, value in document.items() if key not in ("pipelined", "look_again")}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(kept, indent=1, default=_iso).encode())


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    raise TypeError(f"cannot be kept in the tree: {value!r}")


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


def _manifests(folder: Path) -> Iterator[Mapping[str, Any]]:
    for path in sorted(folder.glob(".*.json")):
        try:
            manifest = json.loads(path.read_text())
        except (OSError, ValueError) as err:
            log.warning("%s cannot be read (%s): its step will be done again", path, err)
            continue
        if isinstance(manifest, dict) and {"pipeline", "step", "state"} <= manifest.keys():
            yield manifest


def _blocks_by_pipeline(folder: Path) -> dict[str, Document]:
    blocks: dict[str, Document] = {}
    for manifest in _manifests(folder):
        block = blocks.setdefault(manifest["pipeline"], {"steps": {}})
        ending = Ending(State(manifest["state"]), str(manifest.get("message", "")), manifest)
        leaves = {key.removeprefix("."): value for key, value in ending.leaves("").items()}
        block["steps"][manifest["step"]] = {**leaves, "retries": 0}
        if "classified_as" in manifest:
            block["classified_as"] = manifest["classified_as"]
    for block in blocks.values():
        done = all(step["state"] == State.DONE for step in block["steps"].values())
        block["status"] = {"done": done, "enqueued": False, "force_redo": False, "retries": 0}
        block["last_modified"] = utc_now()
    return blocks


def recalled_block(folder: Path) -> Document | None:
    """Block of a pipeline as its manifests remember it, or None."""
    return next(iter(_blocks_by_pipeline(folder).values()), None)

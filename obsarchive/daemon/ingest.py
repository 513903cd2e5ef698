"""Entry of raw files, and of manifests and sidecar files of the archive tree, into the database."""

import logging
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from obsarchive.config.model import Config
from obsarchive.core import document_paths as paths
from obsarchive.core import seeing_lookup
from obsarchive.core.archive_paths import Layout
from obsarchive.core.document_types.nights import NightRawData
from obsarchive.core.document_types.observations import HeaderFields, NewObservation, ObservationSeeing, RawData
from obsarchive.core.document_types.steps import PipelineDocument
from obsarchive.core.documents import SCHEMA, Night, Observation, utc_now
from obsarchive.core.raw_problems import RawProblem, by_kind
from obsarchive.core.values import as_mapping, plain_text
from obsarchive.daemon import published_archiver
from obsarchive.daemon.manifest_blocks import blocks_by_pipeline, folders_in
from obsarchive.daemon.night_files import files_after_look, signatures
from obsarchive.daemon.notifications import Alerts
from obsarchive.daemon.observation_edits import ObservationEdits
from obsarchive.daemon.raw_copies import differing_files, differing_observation
from obsarchive.daemon.raw_scanner import Found, Listing, problem_of, signature
from obsarchive.daemon.sidecars import read_sidecar, take_night_requests, take_redos, user_fields, write_sidecar
from obsarchive.errors import DISK_ERRORS, MALFORMED, ArchiveError, BadRawData
from obsarchive.io.raw_headers import plain_cards, read_header
from obsarchive.names import ObservationName, is_night, is_observation
from obsarchive.pipeline.chain import decision_chain
from obsarchive.store import Store, one_line

log = logging.getLogger(__name__)

MOST_NAMES = 1000
"""Names of files that a night's document lists of each sort."""
MOST_LOGGED = 50
"""Files not understood that are logged one by one for a look at a night."""
NIGHTS_AT_ONCE = 20
"""Nights of the archive tree whose observations are looked up in the database by one query."""
NEWS = timedelta(days=7)
"""Files that changed longer ago are no reason for an alert."""


class Ingest:
    """Writes listings of raw folders into the database.

    Parameters
    ----------
    config : Config
        The configuration.
    store : Store
        The database.
    alerts : Alerts, optional
        Notified of files that are not understood.
    """

    def __init__(self, config: Config, store: Store, alerts: Alerts | None = None) -> None:
        self.config, self.store, self.alerts = config, store, alerts
        self.layout = Layout(config.paths.archive)
        self.edits = ObservationEdits(config.database_folder)
        self._host = socket.gethostname()
        self._warned: set[tuple[Path, str]] = set()
        # asked for once while a night is entered, not for each of its observations
        self._nights: dict[str, Night] = {}
        self._owners_of: dict[str, list[str]] = {}

    def night(self, listing: Listing) -> None:
        """Bring the database in line with a night's raw folder."""
        self.store.nights.touch(listing.night)
        self._restore_night(listing.night)
        self._owners_of.clear()
        known = self.store.observations.raw_data_of(listing.night)
        whole_of = {path.name: each for each in known.values() for path in each.raw_files}
        present = listing.observations()
        for name, files in present.items():
            try:
                # a sequence is named after its first file: without it the rest has another name
                former = known.get(name) or whole_of.get(files[0].raw.name)
                if former is not None and _is_part(files, former):
                    if _is_gone(former):  # else it is a copy of a part, below another root
                        self._mark_missing(former)
                elif name in known:
                    self._known_observation(listing, name, files, known[name])
                else:
                    self._new_observation(listing, name, files)
            except (*DISK_ERRORS, *MALFORMED) as err:  # one observation must not stop the others
                log.warning("%s: not entered: %s", name, err, exc_info=isinstance(err, MALFORMED))
                listing.problems += [problem_of(listing, found, f"not entered: {err}") for found in files]
                listing.incomplete = True
        growing = {found.raw.observation for found in listing.files if found.raw.name in set(listing.growing)}
        for name, observation in known.items():
            if name not in present and name not in growing and not observation.raw_missing and _is_gone(observation):
                self._mark_missing(observation)
        before = Night(self.store.nights.find(listing.night) or {"_id": listing.night})
        self._warn_of_problems(listing, before)
        self._night_files(listing, before)
        self._warn_of_defaults(listing)

    def _mark_missing(self, observation: Observation) -> None:
        if not observation.raw_missing:
            log.warning("%s: raw files are gone; its products stay", observation.id)
            self.store.observations.set_fields(observation.id, {paths.RAW_MISSING: True})

    def _warn_of_problems(self, listing: Listing, before: Night) -> None:
        """Log the files that are not understood, and record an alert for each new kind of reason.

        What the database knows already is no news, so that neither a scan nor a restart repeats it. There is no alert
        of files that lie there for long: those of an archive that is taken over, or that had them before.
        """
        known = {(found.folder, found.name, found.reason) for found in before.problems()}
        listed = listing.problems[:MOST_NAMES]
        fresh = [found for found in listed if (found.folder, found.name, found.reason) not in known]
        for found in fresh[:MOST_LOGGED]:
            log.warning("%s: %s is not understood: %s", listing.folder, one_line(found.name), found.reason)
        if len(fresh) > MOST_LOGGED:
            log.warning("%s: %d more file(s) are not understood", listing.folder, len(fresh) - MOST_LOGGED)
        kinds, since = {found.kind for found in before.problems()}, utc_now() - NEWS
        for group in by_kind(fresh):
            is_recent = any(found.changed is not None and found.changed > since for found in group.problems)
            if self.alerts is not None and is_recent and group.kind not in kinds:
                self.alerts.not_understood(before, group)

    def _warn_of_defaults(self, listing: Listing) -> None:
        """Log once for a night what its headers lack; more files of the same kind are no news."""
        for text, count in listing.defaults().items():
            if (listing.folder, text) not in self._warned:
                self._warned.add((listing.folder, text))
                log.warning("%s: headers: %d %s", listing.folder, count, text)

    def tree(self) -> int:
        """Insert the observations that the archive tree holds and the database does not; return their number.

        Documents that the published archiver left in the database are taken over before, and counted, too.
        """
        taken = published_archiver.take_over(self.store.observations)
        self._nights.clear()  # their seeing may have been measured since
        nights = self.store.nights.names()
        pipelines = [link.pipeline for link in decision_chain(self.config)]
        whole = self.store.nights.names([pipeline.name for pipeline in pipelines if pipeline.scope == "night"])
        present = [night for night in folders_in(self.layout.root) if is_night(night)]
        for first in range(0, len(present), NIGHTS_AT_ONCE):
            inner = {night: folders_in(self.layout.night(night)) for night in present[first : first + NIGHTS_AT_ONCE]}
            known = self.store.observations.known(name for names in inner.values() for name in names)
            for night, names in inner.items():
                if night not in nights:
                    self.store.nights.touch(night)
                if night not in whole:
                    self._restore_night(night)
                restored = sum(self._from_tree(night, name) for name in names if name not in known)
                if restored or night not in nights:
                    self.store.nights.set_fields(night, {"checked": None})  # nobody knows since when it lies there
                taken += restored
        return taken

    def _from_tree(self, night: str, name: str) -> bool:
        if not is_observation(name):
            return False
        sidecar = read_sidecar(self.layout, night, name)
        if not sidecar.document:
            return False
        document = {**sidecar.document, "_id": name, "night": night}
        if not sidecar.is_whole:
            if not _is_gone(Observation(document)):
                return False  # it is entered from its raw files
            document = self.edits.corrected(document)
        document["pipelined"] = self._recorded_blocks(self.layout.observation(night, name))
        take_redos(document, document["pipelined"])
        seeing = self._seeing(night, Observation(document).date_utc)
        if seeing["median_arcsec"] is not None:  # else what the file says, of a night whose own files are gone
            document["seeing"] = {**seeing, "last_modified": utc_now()}
        document["raw_data"] = {**as_mapping(document.get("raw_data")), "missing": True}  # until they are seen
        document["distributed"] = {**as_mapping(document.get("distributed")), "status": False}
        document["remembered"] = user_fields(document)
        return self.store.observations.insert(cast(NewObservation, document))

    def _night_files(self, listing: Listing, before: Night) -> None:
        observations = self.store.observations.of_night(listing.night)
        needs = {observation.need for observation in observations if not observation.raw_missing}
        folders = self.raw_folders(listing.night)
        others = set(map(str, folders)) - {str(listing.folder)}
        files = files_after_look(listing, before.raw_entries(), folders)
        mine = [{"name": found.raw.name, "folder": str(listing.folder)} for found in listing.files]
        listing.problems += differing_files([*mine, *before.raw_entries()], files)
        elsewhere = [found for found in before.problems() if found.folder in others]
        raw: NightRawData = {
            "location": [self._host, str(listing.folder)],
            "signature": signatures(files),
            "files": files,
            # names may hold bytes that are not text, which the database does not accept
            "ignored": [plain_text(name) for name in listing.ignored[:MOST_NAMES]],
            "ignored_count": len(listing.ignored),
            "problems": [
                {"name": f.name, "folder": f.folder, "reason": f.reason, "changed": f.changed}
                for f in (*listing.problems[:MOST_NAMES], *elsewhere)
            ],
            "problems_count": len(listing.problems) + len(elsewhere),
            "growing": listing.growing[:MOST_NAMES],
            "needs": [need.to_document() for need in sorted(needs, key=str)],
        }
        fields = {**paths.field_paths("raw_data", raw), "last_modified": utc_now()}
        self.store.nights.set_fields(listing.night, fields)

    def _new_observation(self, listing: Listing, name: str, files: list[Found]) -> None:
        document = self.document(listing, name, files)
        if self.store.observations.insert(document):
            write_sidecar(self.layout, document)
            log.info("%s: new, %d raw file(s)", name, len(files))
        else:
            listing.problems += self._taken_by_another_night(listing, name, files)

    def _known_observation(self, listing: Listing, name: str, files: list[Found], known: Observation) -> None:
        raw: RawData = {**self._raw_data(listing, files), "missing": False}
        unchanged = known.raw_signature == raw["signature"]
        if unchanged and not known.raw_missing and known.raw_folder != listing.folder and _is_gone(known):
            self.store.observations.set_fields(name, {paths.RAW_LOCATION: raw["location"]})
            log.info("%s: raw files moved from %s to %s", name, known.raw_folder, listing.folder)
            return
        if not unchanged and self._yields(listing, files, known):
            return
        described = None if unchanged and known.has_header else self._described(listing, name, files)
        is_news = described is not None and (described["fits_header"] or described["unread"] != known.is_unread)
        if unchanged and not known.raw_missing and not is_news:
            return
        fields = {**paths.field_paths("raw_data", raw), **(described or {}), **self._due_now(name)}
        self.store.observations.set_fields(name, {**fields, **self.store.observations.reopened()})
        log.info("%s: raw files %s", name, "are there" if unchanged else "changed")

    def _due_now(self, name: str) -> dict[str, None]:
        """Return the fields that end the pauses of steps which waited for raw files that were away."""
        known = Observation(self.store.observations.find(name) or {})
        return {
            paths.PipelinePaths.of_observation(pipeline).step(step, "not_before"): None
            for pipeline in as_mapping(known.document.get("pipelined"))
            for step, record in known.pipeline(pipeline).steps().items()
            if record.waits
        }

    def _yields(self, listing: Listing, files: list[Found], known: Observation) -> bool:
        """Whether an observation lies in another raw folder too, which counts; different contents are reported."""
        if known.raw_missing or known.raw_folder == listing.folder or _is_gone(known):
            return False
        problems = differing_observation(known, [found.path for found in files], self.raw_folders(listing.night))
        listing.problems += problems
        return not problems or problems[0].folder == str(listing.folder)

    def raw_folders(self, night: str) -> list[Path]:
        """Return the folders of a night below all roots, in the order in which they count."""
        return [root.path / night for root in self.config.paths.raw]

    def _taken_by_another_night(self, listing: Listing, name: str, files: list[Found]) -> list[RawProblem]:
        """Why files make no observation: one of the same name, hence of the same begin, belongs to another night."""
        night = (self.store.observations.find(name) or {}).get("night", listing.night)
        if night == listing.night:
            return []
        reason = f"{name} is an observation of night {night} already: remove the copy, or correct object or begin"
        problems = [problem_of(listing, found, reason) for found in files]
        known = {(problem.name, problem.reason) for problem in listing.problems}
        return [problem for problem in problems if (problem.name, problem.reason) not in known]

    def _raw_data(self, listing: Listing, files: list[Found]) -> RawData:
        return {
            "location": [self._host, str(listing.folder)],
            "data": [found.raw.name for found in files],
            "signature": signature(files),
            "last_modified": _newest(files),
        }

    def _described(self, listing: Listing, name: str, files: list[Found]) -> HeaderFields:
        """Return the fields that the header of frame 0 decides; none of them if the header cannot be read."""
        try:
            header = read_header(files[0].path)
        except (ArchiveError, OSError) as err:
            if (files[0].path, str(err)) not in self._warned:
                self._warned.add((files[0].path, str(err)))
                log.warning("%s: its header is not used: %s", name, err)
            if isinstance(err, BadRawData):
                return {"fits_header": [], "unread": False}
            listing.incomplete = True  # it is the disk, not the file
            listing.problems.append(problem_of(listing, files[0], str(err)))
            return {"fits_header": [], "unread": True}
        described = cast(HeaderFields, listing.instrument.describe(header))
        return {**described, "fits_header": plain_cards(header), "unread": False}

    def document(self, listing: Listing, name: str, files: list[Found]) -> NewObservation:
        """Return the document of a new observation, made from its files and from its sidecar file if there is one.

        Parameters
        ----------
        listing : Listing
            Content of the night's raw folder.
        name : str
            Name of the observation.
        files : list of Found
            Its raw files, in the order of their frames.

        Returns
        -------
        NewObservation
        """
        parsed = ObservationName.parse(name)
        telescope = self.config.telescope_of(parsed.camera, parsed.date_utc.date())
        folder = self.layout.observation(listing.night, name)
        sidecar = read_sidecar(self.layout, listing.night, name)
        known = sidecar.document if sidecar.is_whole else self.edits.corrected({**sidecar.document, "_id": name})
        owners = as_mapping(known.get("science_program")).get("program_PI") or self._owners(parsed.program)
        comment, names = known.get("comment"), known.get("alternative_names", [])
        blocks = self._recorded_blocks(folder)
        take_redos(known, blocks)
        return {
            "_id": name,
            "schema": SCHEMA,
            "date_added": known.get("date_added", utc_now()),
            "night": listing.night,
            "name": parsed.target,
            "alternative_names": names,
            "comment": comment,
            "science_program": {"program_id": parsed.program, "program_PI": owners},
            "date_utc": parsed.date_utc.replace(microsecond=parsed.date_utc.microsecond // 1000 * 1000),
            "telescope": telescope,
            "detector_px": list(self.config.telescope[telescope].detector_px) if telescope else None,
            "camera": parsed.camera,
            "filter": parsed.filter,
            "marker": parsed.marker,
            **self._described(listing, name, files),
            "raw_data": self._raw_data(listing, files),
            "seeing": {**self._seeing(listing.night, parsed.date_utc), "last_modified": utc_now()},
            "pipelined": blocks,
            "distributed": {"status": False, "location": [self._host, str(folder)], "last_modified": utc_now()},
            "remembered": {"program_PI": owners, "comment": comment, "names": names, "redo": []},
        }

    def _seeing(self, night: str, when: datetime) -> ObservationSeeing:
        if night not in self._nights:
            self._nights = {night: Night(self.store.nights.find(night) or {"_id": night})}
        return seeing_lookup.nearest_seeing(self._nights[night], when)

    def _owners(self, program: str) -> list[str]:
        if program not in self._owners_of:
            self._owners_of[program] = self.store.users.owners(program)
        return self._owners_of[program]

    def _recorded_blocks(self, folder: Path) -> dict[str, PipelineDocument]:
        return {
            name: block for inner in folders_in(folder) for name, block in blocks_by_pipeline(folder / inner).items()
        }

    def recorded_night(self, night: str, document: Mapping[str, Any]) -> dict[str, PipelineDocument]:
        """Return the blocks of a night's own pipelines that its manifests hold and its document does not."""
        folders = (self.layout.calibration(night), self.layout.summary(night))
        found = {name: block for folder in folders for name, block in blocks_by_pipeline(folder).items()}
        return {name: block for name, block in found.items() if name not in document}

    def _restore_night(self, night: str) -> None:
        """Restore the blocks of the night's own pipelines from their manifests, where the database has none."""
        document = self.store.nights.find(night) or {}
        restored = self.recorded_night(night, document)
        for name, block in restored.items():
            self.store.nights.set_fields(night, {name: block})
            if name == "seeing":
                self.store.nights.set_fields(night, Night({"_id": night, name: block}).seeing_fields())
        requests = take_night_requests(self.layout, night, restored)
        lost = {field: value for field, value in requests.items() if field.partition(".")[0] not in document}
        if lost:
            self.store.nights.set_fields(night, lost)
        self._nights.clear()


def _is_part(files: list[Found], known: Observation) -> bool:
    """Whether these are some of an observation's raw files, as they were: the others have gone."""
    former = {path.name for path in known.raw_files}
    return {found.raw.name for found in files} < former and (
        known.raw_changed is None or _newest(files) <= known.raw_changed
    )


def _newest(files: list[Found]) -> datetime:
    """Return when the newest file was changed."""
    return datetime.fromtimestamp(max(found.mtime_ns for found in files) // 10**6 / 1e3, tz=UTC)


def _is_gone(observation: Observation) -> bool:
    """Whether raw files are not where the database has them; those of a night may be below several roots."""
    files = observation.raw_files
    return not files or not all(path.exists() for path in files)

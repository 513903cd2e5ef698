"""Requests of the portal's users, applied by the daemon, which alone changes observations and nights."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from obsarchive.core import document_paths as paths
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Observation
from obsarchive.daemon.night_context import BORROWED
from obsarchive.errors import ArchiveError
from obsarchive.io import psf_candidates, psf_library
from obsarchive.names import is_night
from obsarchive.pipeline.chain import ChainEntry, obstacle_to_redo, steps_of
from obsarchive.store import Store

log = logging.getLogger(__name__)

Request = Mapping[str, Any]


class RequestRejected(ArchiveError):
    """A request that cannot be applied, for the reason given."""


class Requests:
    """Applies the requests that wait in the collection ``requests``.

    Parameters
    ----------
    store : Store
        The database.
    layout : Layout
        The archive tree.
    chain : sequence of ChainEntry
        Pipelines of observations and of nights.
    """

    def __init__(self, store: Store, layout: Layout, chain: Sequence[ChainEntry]) -> None:
        self.store, self.layout, self.chain = store, layout, chain
        self.kinds: dict[str, Callable[[Request], None]] = {
            "redo": self._redo,
            "redo high contrast": self._redo_high_contrast,
            "copy calibration": self._copy_calibration,
            "library add": self._add_to_library,
            "library remove": self._remove_from_library,
            "owners": self._set_owners,
            "redo dataset": self._redo_dataset,
        }

    def apply(self) -> None:
        """Apply waiting requests, the oldest first; one that cannot be applied is answered with the reason."""
        for request in self.store.requests.waiting():
            kind, what = str(request.get("kind")), request.get("what") or {}
            problem = ""
            self.store.requests.begin(request["_id"])
            try:
                self._apply(kind, what)
            except ArchiveError as err:
                problem = str(err)
            self.store.requests.answer(request["_id"], problem)
            log.info("%s asked by %s: %s %s", kind, request.get("who"), dict(what), problem or "applied")

    def _apply(self, kind: str, what: Request) -> None:
        if kind not in self.kinds:
            raise RequestRejected(f"{kind!r} is not a kind of request")
        if not all(isinstance(value, str) for value in what.values()):
            raise RequestRejected("the request is damaged; ask again")
        self.kinds[kind](what)

    def _redo(self, what: Request) -> None:
        subject, pipeline, step = what.get("subject", ""), what.get("pipeline", ""), what.get("step", "")
        records = self.store.nights if is_night(subject) else self.store.observations
        document = records.find(subject)
        if document is not None and (problem := obstacle_to_redo(self.chain, pipeline, subject, document)):
            raise RequestRejected(problem)
        requested = (
            records.request_step_redo(subject, (pipeline, step)) if step else records.request_redo(subject, pipeline)
        )
        if not requested:
            raise RequestRejected(f"there is no {subject} in the database")

    def _redo_high_contrast(self, what: Request) -> None:
        steps = steps_of(self.chain, uses={"library"})
        for observation in self.store.observations.of_night(what.get("night", "")):
            for pipeline, step in steps:
                if observation.pipeline(pipeline).steps().keys() & {step}:
                    self.store.observations.request_step_redo(observation.id, (pipeline, step))

    def _copy_calibration(self, what: Request) -> None:
        night, source = what.get("night", ""), what.get("source", "")
        known = {found.id: found for found in self.store.nights.all()}
        if night not in known:
            raise RequestRejected(f"there is no night {night} in the database")
        if source and not any(master.own for master in (known[source].masters() if source in known else ())):
            raise RequestRejected(f"the night {source} has no master of its own to copy")
        self.store.nights.set_fields(night, {paths.COPIES_CALIBRATION_FROM: source})
        for path in steps_of(self.chain, "night", BORROWED):
            self.store.nights.request_step_redo(night, path)

    def _add_to_library(self, what: Request) -> None:
        name = what.get("observation", "")
        document = self.store.observations.find(name)
        if document is None:
            raise RequestRejected(f"there is no observation {name!r} in the database")
        stars = psf_candidates.offered(self.layout.psf_candidate(Observation(document).night, name))
        with psf_library.changed(self.layout) as library:
            for entry, stamp in stars:
                library.add(entry, stamp, "administrator")

    def _remove_from_library(self, what: Request) -> None:
        name = what.get("observation", "")
        with psf_library.changed(self.layout) as library:
            if not library.holds(name):
                raise RequestRejected(f"{name} is not in the PSF library")
            library.remove(name, "administrator")

    def _redo_dataset(self, what: Request) -> None:
        if not self.store.datasets.request_redo(what.get("dataset", "")):
            raise RequestRejected("there is no such dataset in the database")

    def _set_owners(self, what: Request) -> None:
        program = what.get("program", "")
        self.store.observations.set_owners(program, self.store.users.owners(program))
        self.store.users.forget_left(program)

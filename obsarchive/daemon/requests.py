"""Requests of the portal's users, applied by the daemon, which alone changes observations and nights."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Observation
from obsarchive.daemon.planner import BORROWED
from obsarchive.errors import ArchiveError
from obsarchive.io import psf_library
from obsarchive.names import is_night
from obsarchive.pipeline.chain import ChainEntry, steps_of
from obsarchive.store import Store

log = logging.getLogger(__name__)

Wish = Mapping[str, Any]


class Refused(ArchiveError):
    """A wish that cannot be granted; says why."""


class Wishes:
    """Grants what waits in the collection ``requests``.

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
        self.kinds: dict[str, Callable[[Wish], None]] = {
            "redo": self._redo,
            "redo high contrast": self._redo_high_contrast,
            "copy calibration": self._copy_calibration,
            "library add": self._add_to_library,
            "library remove": self._remove_from_library,
            "owners": self._set_owners,
            "redo dataset": self._redo_dataset,
        }

    def grant(self) -> None:
        """Do what was asked for, in its order; a wish that cannot be granted is answered with the reason."""
        for request in self.store.requests.waiting():
            kind, what = str(request.get("kind")), request.get("what") or {}
            problem = ""
            try:
                self._grant(kind, what)
            except ArchiveError as err:
                problem = str(err)
            self.store.requests.answer(request["_id"], problem)
            log.info("%s asked by %s: %s %s", kind, request.get("who"), dict(what), problem or "granted")

    def _grant(self, kind: str, what: Wish) -> None:
        if kind not in self.kinds:
            raise Refused(f"nobody knows how to {kind}")
        if not all(isinstance(value, str) for value in what.values()):
            raise Refused("the request is damaged; ask again")
        self.kinds[kind](what)

    def _redo(self, what: Wish) -> None:
        subject, pipeline, step = what.get("subject", ""), what.get("pipeline", ""), what.get("step", "")
        records = self.store.nights if is_night(subject) else self.store.observations
        wished = records.wish_step(subject, (pipeline, step)) if step else records.wish_redo(subject, pipeline)
        if not wished:
            raise Refused(f"there is no {subject} in the database")

    def _redo_high_contrast(self, what: Wish) -> None:
        steps = steps_of(self.chain, uses={"library"})
        for observation in self.store.observations.of_night(what.get("night", "")):
            for pipeline, step in steps:
                if observation.pipeline(pipeline).steps().keys() & {step}:
                    self.store.observations.wish_step(observation.id, (pipeline, step))

    def _copy_calibration(self, what: Wish) -> None:
        night, source = what.get("night", ""), what.get("source", "")
        known = {found.id: found for found in self.store.nights.all()}
        if night not in known:
            raise Refused(f"there is no night {night} in the database")
        if source and not any(master.own for master in (known[source].masters() if source in known else ())):
            raise Refused(f"the night {source} has no master of its own to copy")
        self.store.nights.set_fields(night, {"raw_data.copies_calibration_from": source})
        for path in steps_of(self.chain, "night", BORROWED):
            self.store.nights.wish_step(night, path)

    def _add_to_library(self, what: Wish) -> None:
        name = what.get("observation", "")
        document = self.store.observations.find(name)
        if document is None:
            raise Refused(f"there is no observation {name!r} in the database")
        stars = psf_library.offered(self.layout.psf_candidate(Observation(document).night, name))
        with psf_library.changed(self.layout) as library:
            for entry, stamp in stars:
                library.add(entry, stamp, "administrator")

    def _remove_from_library(self, what: Wish) -> None:
        name = what.get("observation", "")
        with psf_library.changed(self.layout) as library:
            if not library.holds(name):
                raise Refused(f"{name} is not in the PSF library")
            library.remove(name, "administrator")

    def _redo_dataset(self, what: Wish) -> None:
        if not self.store.datasets.wish_redo(what.get("dataset", "")):
            raise Refused("there is no such dataset in the database")

    def _set_owners(self, what: Wish) -> None:
        program = what.get("program", "")
        self.store.observations.set_owners(program, self.store.users.owners(program))
        self.store.users.forget_left(program)

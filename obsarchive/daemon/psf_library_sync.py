"""Synchronisation of the database with the PSF library on disk: steps that lack references, stars of each night."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from obsarchive.core.archive_paths import Layout
from obsarchive.core.document_paths import PipelinePaths
from obsarchive.core.document_types.nights import PsfLibraryStar
from obsarchive.core.documents import Night
from obsarchive.daemon.night_context import Library
from obsarchive.daemon.reference_groups import groups_of, signatures
from obsarchive.errors import ArchiveError
from obsarchive.io.psf_library import Entry, PsfLibrary
from obsarchive.pipeline.chain import ChainEntry, steps_of
from obsarchive.store import Store

log = logging.getLogger(__name__)

PIPELINE, STEP = "psflib", "candidates"
"""The night pipeline that offers stars to the library."""


class PsfLibrarySync:
    """Observer of ``psf_library.fits``.

    Parameters
    ----------
    store : Store
        The database.
    layout : Layout
        The archive tree.
    chain : sequence of ChainEntry
        Pipelines of observations.
    """

    def __init__(self, store: Store, layout: Layout, chain: Sequence[ChainEntry]) -> None:
        self.store, self.layout = store, layout
        self.library = Library()
        self.steps = steps_of(chain, uses={"library"})
        self._seen: tuple[int, int] | None = None
        self._entries = PsfLibrary(layout.psf_library)

    def look(self, nights_changed: bool = True) -> None:
        """Read the library if it changed, reopen observations that wait for references, and update the nights.

        Parameters
        ----------
        nights_changed : bool, optional
            Whether documents of nights may have changed since the last call; if not, they are not looked through.
        """
        seen = self._stamp()
        steps = PipelinePaths.of_night(PIPELINE).steps
        if seen != self._seen:
            self._read(seen)
            nights = self.store.nights.having(steps)
        elif not nights_changed:
            return
        else:
            nights = self.store.nights.having(steps, without="psf_lib")
        for night in nights:
            self.mirror(night)

    def _read(self, seen: tuple[int, int]) -> None:
        is_first, self._seen, former = self._seen is None, seen, self.library.groups
        try:
            self._entries = PsfLibrary.read(self.layout)
        except ArchiveError as err:
            log.warning("the PSF library cannot be read: %s", err)
            return
        members = frozenset(entry.observation for entry in self._entries.entries)
        gone = {entry.observation for entry in self._entries.removed} if is_first else self.library.members - members
        known = members.union(entry.observation for entry in self._entries.removed)
        groups = groups_of(self._entries)
        counts = {key: len({entry.observation for entry in entries}) for key, entries in groups.items()}
        self.library = Library(signatures(groups), members, known, counts)
        log.info("PSF library: version %d, %d reference stars", self._entries.version, len(members))
        digest = _digest(self.library)
        if is_first and digest == self.store.lease.library():
            return  # the last run reopened what lacks references
        filters = None if is_first else _changed_filters(former, self.library.groups)
        self.store.observations.reopen_lacking(self.steps, sorted(gone - members), filters)
        self.store.lease.set_library(digest)

    def mirror(self, night: Night) -> None:
        """Write into a night's document which of its stars are in the library; have a lost library made again."""
        step = night.pipeline(PIPELINE).step(STEP)
        candidates = step.results.get("candidates") or []
        is_lost = self._entries.version == 0 and any(item.get("added") for item in candidates)
        if is_lost and self.store.nights.invalidate(night.id, (PIPELINE, STEP)):
            log.warning("%s is gone: the night %s gives its stars again", self.layout.psf_library, night.id)
        listed = _listed(night.id, candidates, self._entries)
        if listed != night.document.get("psf_lib"):
            self.store.nights.set_fields(night.id, {"psf_lib": listed})

    def _stamp(self) -> tuple[int, int]:
        """Return time and size of the file, which change whenever it is replaced."""
        try:
            stat = self.layout.psf_library.stat()
        except OSError:
            return 0, 0
        return stat.st_mtime_ns, stat.st_size


def _digest(library: Library) -> str:
    """Return a digest of what the daemon knows of the library."""
    text = repr((sorted(library.groups.items()), sorted(library.known)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _changed_filters(before: Mapping[tuple[str, ...], str], now: Mapping[tuple[str, ...], str]) -> set[str]:
    """Return the filters in which the library offers other stars than before."""
    return {key[1] for key in before.keys() | now.keys() if before.get(key) != now.get(key)}


def _listed(night: str, candidates: Sequence[Mapping[str, Any]], library: PsfLibrary) -> list[PsfLibraryStar]:
    """Return the candidates of a night, then its other stars in the library, with their states."""
    known: dict[str, Entry] = {}
    for entry in (*library.removed, *library.entries):
        if entry.night == night:
            known[entry.observation] = entry
    names = dict.fromkeys([*(str(item["observation"]) for item in candidates), *sorted(known)])
    facts = {str(item["observation"]): item for item in candidates}
    return [_line(name, facts.get(name, {}), known.get(name)) for name in names]


def _line(name: str, facts: Mapping[str, Any], entry: Entry | None) -> PsfLibraryStar:
    state = "not in library" if entry is None else "removed" if entry.is_removed else "in library"
    return {
        "observation": name,
        "filter": entry.filter if entry else facts.get("filter"),
        "file": f"psflib/{name}.fits",
        "state": state,
        "added": entry.added if entry else None,
        "added_by": entry.added_by if entry else None,
        "reason": facts.get("reason"),
    }

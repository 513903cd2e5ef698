"""Reconciliation of the database with the disk: vanished products, changed inputs, requests of users."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from obsarchive.core import document_paths as paths
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Night, Observation
from obsarchive.core.json_text import json_with_checksum, parse_with_checksum
from obsarchive.core.raw_problems import listed
from obsarchive.core.step_state import State
from obsarchive.daemon import planner
from obsarchive.daemon.manifest_blocks import folders_in
from obsarchive.daemon.night_context import NightContext, Subject
from obsarchive.daemon.observation_edits import ObservationEdits
from obsarchive.daemon.product_check import missing_products
from obsarchive.daemon.sidecars import user_fields, write_night_requests, write_sidecar
from obsarchive.daemon.tarballs import sweep_leftovers
from obsarchive.daemon.work_queue import WorkQueue
from obsarchive.errors import DISK_ERRORS
from obsarchive.io.atomic import atomic_write
from obsarchive.names import is_night, is_observation
from obsarchive.pipeline import Pipeline
from obsarchive.pipeline.chain import ChainEntry

log = logging.getLogger(__name__)

UNTOUCHED_S = 60.0
"""An unfinished file that nobody wrote to for so long, while no step runs, is left over [s]."""


class Reconciler:
    """Sets steps to waiting when their products or inputs are not what they were.

    Parameters
    ----------
    queue : WorkQueue
        Which pipelines apply to a night or an observation, and where it is kept.
    layout : Layout
        The archive tree.
    edits : ObservationEdits
        Where what users said of observations is kept a second time.
    restore : callable, optional
        Called when the tree holds nights or observations that the database lacks.
    """

    def __init__(
        self,
        queue: WorkQueue,
        layout: Layout,
        edits: ObservationEdits,
        restore: Callable[[], None] = lambda: None,
    ) -> None:
        self.queue, self.layout, self.edits, self._restore = queue, layout, edits, restore
        self.store = queue.store
        self._missed: set[str] = set()
        """What the database lacked when it was last looked for: what cannot be restored is tried once."""
        self._began = time.time()
        self._swept: set[str] = set()

    def audit(self, nights: Sequence[str] = (), is_idle: Callable[[], bool] = lambda: False) -> Iterator[str]:
        """Check all products, or those of some nights; a step whose products vanished waits again.

        Parameters
        ----------
        nights : sequence of str
            Only these nights; empty: all.
        is_idle : callable, optional
            Whether no step runs now, so that nobody writes products.

        Yields
        ------
        str
            Each night after it was checked, so that the caller may interrupt the work.
        """
        if is_idle():
            sweep_leftovers(self.layout.root, time.time() - UNTOUCHED_S, nested=False)
        known = {found.id for found in self.store.nights.all()}
        in_tree = {night for night in folders_in(self.layout.root) if is_night(night)}
        self._restore_missed(in_tree, known)
        for night in nights or sorted(known | in_tree, reverse=True):
            self._sweep(night, is_idle())
            observations = self.store.observations.of_night(night)
            names = {name for name in folders_in(self.layout.night(night)) if is_observation(name)}
            self._restore_missed(names, {observation.id for observation in observations}, night)
            lost = [self._audit_observation(observation) for observation in observations]
            lost += [self._audit_night(found) for found in self.store.nights.all([night])]
            if any(lost):
                self._try_failed_again(night)
            yield night

    def _audit_observation(self, observation: Observation) -> bool:
        """Check products, sidecar file and tarball; return whether products vanished."""
        has_lost = self._has_lost(observation)
        try:
            self._keep_up(observation)
            if observation.packed and self._lost_tarball(observation):
                self.store.observations.set_fields(observation.id, {paths.PACKED: False})
        except DISK_ERRORS as err:
            log.warning("%s: its sidecar file or tarball cannot be looked after: %s", observation.id, err)
        return has_lost

    def _audit_night(self, night: Night) -> bool:
        """Check products and requests of a night itself; return whether products vanished."""
        has_lost = self._has_lost(night)
        try:
            write_night_requests(self.layout, night.document)
        except DISK_ERRORS as err:
            log.warning("%s: its requests cannot be written beside its products: %s", night.id, err)
        return has_lost

    def _restore_missed(self, in_tree: set[str], known: set[str], night: str = "") -> None:
        """Have nights, or observations of a night, restored that somebody removed from the database."""
        self._missed -= known
        missed = in_tree - known - self._missed
        if missed:
            self._missed |= missed
            log.warning("in the archive tree, but not in the database: %s", listed(sorted(missed)))
            if night:
                self.store.observations.set_night(missed, night)
            self._restore()

    def keep_up(self, name: str) -> None:
        """Write the sidecar file of an observation or night again if users changed its document; index its names."""
        if is_night(name):
            if (night := self.store.nights.find(name)) is not None:
                write_night_requests(self.layout, night)
            return
        self.store.observations.fold_names([name])
        document = self.store.observations.find(name)
        if document is not None:
            self._keep_up(Observation(document))

    def _sweep(self, night: str, is_idle: bool) -> None:
        """Remove what killed processes left unfinished in the folder of a night."""
        if is_idle:
            sweep_leftovers(self.layout.night(night), time.time() - UNTOUCHED_S)
        elif night not in self._swept:
            sweep_leftovers(self.layout.night(night), self._began)
        self._swept.add(night)

    def _lost_tarball(self, observation: Observation) -> bool:
        """Whether a tarball is not there or has another size than when it was packed."""
        path, size = self.layout.tarball(observation.night, observation.id), observation.packed_bytes
        try:
            return size is not None and path.stat().st_size != size
        except FileNotFoundError:
            return True

    def _keep_up(self, observation: Observation) -> None:
        """Write the sidecar file again if it vanished, or if users changed what the tree must be able to rebuild."""
        is_there = self.layout.sidecar(observation.night, observation.id).exists()
        if is_there and user_fields(observation.document) == observation.document.get("remembered"):
            return
        document = self.store.observations.find(observation.id)
        if document is not None:
            said = user_fields(document)
            self.edits.note(observation.id, said)
            write_sidecar(self.layout, document)
            self.store.observations.set_fields(observation.id, {"remembered": said})

    def _has_lost(self, subject: Subject) -> bool:
        """Have steps done again whose products vanished; return whether there were any."""
        has_lost, records = False, self.queue.step_store_of(subject)
        chain = [link for link in self.queue.chain_of(subject) if link.applies(subject.document)]
        for found in missing_products(subject, chain, self.layout):
            path = (found.pipeline.name, found.step.name)
            if records.invalidate(subject.id, path):
                log.warning("%s %s.%s: made again, %s vanished", subject.id, *path, ", ".join(found.products))
                has_lost = True
        return has_lost

    def _try_failed_again(self, night: str) -> None:
        """Have what failed in a night tried again: it may have missed products that vanished."""
        subjects: list[Subject] = [*self.store.observations.of_night(night), *self.store.nights.all([night])]
        for subject in subjects:
            for link in self.queue.chain_of(subject):
                for name, record in subject.pipeline(link.pipeline.name).steps().items():
                    if record.state is State.FAILED and name in link.pipeline.steps and link.applies(subject.document):
                        self.queue.step_store_of(subject).invalidate(subject.id, (link.pipeline.name, name))

    def settle(self, subject: Subject, context: NightContext) -> bool:
        """Apply requests for a redo and set stale steps to waiting.

        Parameters
        ----------
        subject : Observation or Night
            What to check.
        context : NightContext
            State of the night.

        Returns
        -------
        bool
            Whether the document in the database differs from that of `subject` now.
        """
        chain, records = self.queue.chain_now(subject), self.queue.step_store_of(subject)
        redone = [self._apply_redo(subject, link) for link in chain if subject.pipeline(link.pipeline.name).force_redo]
        changed = any(redone)
        raw_missing = isinstance(subject, Observation) and subject.raw_missing
        for pipeline, step in planner.stale(subject, chain, context):
            if raw_missing and "science" in step.uses:
                continue
            names = (step.name, *planner.dependents(pipeline, step.name))
            if subject.pipeline(pipeline.name).step(step.name).redo:
                self._set_due_on_disk(subject, pipeline, names)
            for name in names:
                if records.invalidate(subject.id, (pipeline.name, name)):
                    log.info("%s %s.%s: due again (other inputs, or a user's request)", subject.id, pipeline.name, name)
                    changed = True
        return changed

    def _set_due_on_disk(self, subject: Subject, pipeline: Pipeline, steps: Iterable[str]) -> None:
        """Have manifests say that their steps wait, so that a lost database does not take a request for done."""
        folder = pipeline.path(self.layout, subject.night, subject.id)
        for path in (self.layout.manifest(folder, step) for step in steps):
            try:
                manifest = parse_with_checksum(path.read_bytes())
            except (FileNotFoundError, ValueError):  # nothing says that it is done
                continue
            if isinstance(manifest, dict):
                atomic_write(path, json_with_checksum({**manifest, "state": str(State.WAITING)}))

    def _apply_redo(self, subject: Subject, link: ChainEntry) -> bool:
        """Set the steps of a pipeline to waiting; only drop the request if its rule excludes the subject."""
        records, name = self.queue.step_store_of(subject), link.pipeline.name
        if not link.applies(subject.document):
            records.set_fields(subject.id, {records.pipeline_paths(name).status("force_redo"): False})
            log.warning("%s: no redo: %s is not for it: its rule is %s", subject.id, name, link.when)
            return True
        self._set_due_on_disk(subject, link.pipeline, link.pipeline.steps)
        applied = records.apply_redo(subject.id, name, link.pipeline.steps)
        if applied:
            log.info("%s %s: done again by request", subject.id, name)
        return applied

"""Effects of a step that ended on other documents: calibration on science, seeing and science on their night."""

from collections.abc import Collection, Iterable

from obsarchive.core import seeing_lookup
from obsarchive.core.document_paths import (
    EFFECTS_OF_PIPELINE,
    SEEING_MEDIAN_ERROR_ARCSEC,
    PipelinePaths,
    field_paths,
)
from obsarchive.core.documents import Night, Observation
from obsarchive.core.rules import lookup
from obsarchive.core.step_state import is_complete
from obsarchive.daemon import psf_library_sync
from obsarchive.daemon.night_context import Subject
from obsarchive.daemon.psf_library_sync import PsfLibrarySync
from obsarchive.daemon.tasks import ActiveTask
from obsarchive.execution.step_process import TaskResult
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.store import StepPath, StepStore, Store


class StepEffects:
    """Updates other documents after a step.

    Parameters
    ----------
    store : Store
        The database.
    library_sync : PsfLibrarySync
        Of the PSF library.
    library_steps : collection of (str, str)
        Pipelines and steps of observations that depend on the PSF library.
    """

    def __init__(self, store: Store, library_sync: PsfLibrarySync, library_steps: Collection[StepPath] = ()) -> None:
        self.store, self.library_sync, self.library_steps = store, library_sync, library_steps

    def after(self, running: ActiveTask, link: ChainEntry, subject: Subject, result: TaskResult) -> None:
        """Update other documents after a step that ended.

        Parameters
        ----------
        running : ActiveTask
            The task of the step, with the subject as it was when the step began.
        link : ChainEntry
            The pipeline.
        subject : Observation or Night
            As it is in the database now.
        result : TaskResult
            What the step returned.
        """
        self._set_done(running.records, link, subject)
        if isinstance(subject, Observation):
            # Companions that speak against a star of the library count when all results of the night are there.
            self.store.nights.unsettle(subject.night, reductions=running.path not in self.library_steps)
            for amended in result.record.get("amended") or ():
                self.store.observations.amend_product(subject.id, amended)
        elif isinstance(running.subject, Night):
            self._after_night(running.subject, subject, link.pipeline.name)
        running.records.effects_applied(subject.id)

    def complete_all(self, chain: Iterable[ChainEntry]) -> None:
        """Apply the effects of steps whose end an earlier run had recorded when it was killed.

        Parameters
        ----------
        chain : iterable of ChainEntry
            All pipelines.
        """
        links = {link.pipeline.name: link for link in chain}
        for records, kind in ((self.store.observations, Observation), (self.store.nights, Night)):
            for document in records.with_effects_due():
                link = links.get(str(lookup(document, EFFECTS_OF_PIPELINE)))
                if link is not None:
                    self.complete(records, kind(document), link)

    def complete(self, records: StepStore, subject: Subject, link: ChainEntry) -> None:
        """Apply the effects of a step that ended just before the daemon was killed: all that it may have had.

        Parameters
        ----------
        records : StepStore
            Where the subject is kept.
        subject : Observation or Night
            As it is in the database.
        link : ChainEntry
            The pipeline of the step.
        """
        self._set_done(records, link, subject)
        if isinstance(subject, Night):
            self._after_night(Night({"_id": subject.id}), subject, link.pipeline.name)
        else:
            self.store.nights.unsettle(subject.night, reductions=True)
        records.effects_applied(subject.id)

    def _set_done(self, records: StepStore, link: ChainEntry, subject: Subject) -> None:
        record = subject.pipeline(link.pipeline.name)
        if is_complete(record.step(name).state for name in link.pipeline.steps):
            records.set_done(subject.id, link.pipeline.name, True)

    def _after_night(self, before: Night, night: Night, pipeline: str) -> None:
        if night.masters() != before.masters():
            self.store.observations.reopen_night(night.id)
        if pipeline == "seeing":
            self._share_seeing(night)
        if pipeline == psf_library_sync.PIPELINE:
            self.library_sync.look()  # first, or the library as it was before would seem to have lost the stars
            self.library_sync.mirror(night)

    def _share_seeing(self, night: Night) -> None:
        self._spread_seeing(night)
        self.store.nights.unsettle(night.id)

    def carry_over_errors(self) -> None:
        """Give observations the errors of their seeing, where an earlier version gave them the seeing alone."""
        measured = PipelinePaths.of_night("seeing").result("measure", "median_error_arcsec")
        for night in self.store.nights.having(measured, without=SEEING_MEDIAN_ERROR_ARCSEC):
            self._spread_seeing(night)

    def _spread_seeing(self, night: Night) -> None:
        """Give every observation of a night the seeing at its time, then the night its own."""
        for observation in self.store.observations.of_night(night.id):
            found = seeing_lookup.nearest_seeing(night, observation.date_utc)
            self.store.observations.set_fields(observation.id, field_paths("seeing", found))
        self.store.nights.set_fields(night.id, night.seeing_fields())

"""What the end of a step means for others: calibration for science, seeing for a night, science for its summaries."""

from obsarchive.core import seeing_lookup
from obsarchive.core.documents import Night, Observation
from obsarchive.core.step_state import State
from obsarchive.daemon import psf_library_sync
from obsarchive.daemon.planner import Subject
from obsarchive.daemon.psf_library_sync import PsfLibrarySync
from obsarchive.daemon.tasks import ActiveTask
from obsarchive.execution.step_process import TaskResult
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.store import Store


class StepEffects:
    """Keeps the rest of the database in step with what a step found.

    Parameters
    ----------
    store : Store
        The database.
    library_sync : PsfLibrarySync
        Of the PSF library.
    """

    def __init__(self, store: Store, library_sync: PsfLibrarySync) -> None:
        self.store, self.library_sync = store, library_sync

    def after(self, running: ActiveTask, link: ChainEntry, subject: Subject, result: TaskResult) -> None:
        """Follow up a step that ended; `subject` is as it is in the database now."""
        record = subject.pipeline(link.pipeline.name)
        if all(record.step(name).state is State.DONE for name in link.pipeline.steps):
            running.records.set_done(subject.id, link.pipeline.name, True)
        if isinstance(subject, Observation):
            self.store.nights.unsettle(subject.night)
            for amended in result.record.get("amended") or ():
                self.store.observations.amend_product(subject.id, amended)
        elif isinstance(running.subject, Night):
            self._after_night(running.subject, subject, link.pipeline.name)

    def _after_night(self, before: Night, night: Night, pipeline: str) -> None:
        if night.masters() != before.masters():
            self.store.observations.reopen_night(night.id)
        if pipeline == "seeing":
            self._share_seeing(night)
        if pipeline == psf_library_sync.PIPELINE:
            self.library_sync.mirror(night)

    def _share_seeing(self, night: Night) -> None:
        """Give every observation of a night the seeing at its time."""
        self.store.nights.set_fields(night.id, night.seeing_fields())
        for observation in self.store.observations.of_night(night.id):
            found = seeing_lookup.nearest_seeing(night.seeing_frames(), observation.date_utc)
            self.store.observations.set_fields(observation.id, {f"seeing.{key}": value for key, value in found.items()})
        self.store.nights.unsettle(night.id)

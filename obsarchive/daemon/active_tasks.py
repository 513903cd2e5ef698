"""Tasks on the cluster: steps and packing, submitted with a permit and a claim, and what is recorded when they end."""

import logging
import queue
import time
import uuid
from contextlib import suppress

from obsarchive.config.model import Config
from obsarchive.core.archive_paths import Layout
from obsarchive.core.document_paths import PACKED_BYTES, PACKED_SHA256, PACKED_VERSION
from obsarchive.core.documents import Night, Observation, utc_now
from obsarchive.core.package_texts import PACKAGE_VERSION
from obsarchive.core.step_state import State
from obsarchive.daemon.borrowed_masters import are_made_again
from obsarchive.daemon.endings import Delays, update_after
from obsarchive.daemon.night_context import NightContext, Subject
from obsarchive.daemon.notifications import Alerts
from obsarchive.daemon.sidecars import write_sidecar
from obsarchive.daemon.status_report import StatusReport
from obsarchive.daemon.step_effects import StepEffects
from obsarchive.daemon.step_inputs import inputs_of
from obsarchive.daemon.tarballs import Packed, pack, sweep
from obsarchive.daemon.tasks import ActiveTask, make_task, masters_of
from obsarchive.errors import DISK_ERRORS, MALFORMED, ServiceUnavailable
from obsarchive.execution.cluster import Cluster, Event, Progress, TaskFinished, result_of, run_limited, run_task
from obsarchive.execution.step_process import TaskResult
from obsarchive.io.permit import withdraw
from obsarchive.pipeline import Step
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.store import Document, StepStore, Store, outage_as_error

log = logging.getLogger(__name__)


class ActiveTasks:
    """The tasks of one run of the daemon.

    Parameters
    ----------
    config : Config
        The configuration.
    store : Store
        The database.
    cluster : Cluster
        Where they run.
    status : StatusReport
        Of the run; counts how steps end.
    alerts : Alerts
        Of steps that ended, and of data that are ready.
    step_effects : StepEffects
        What a step that ended changes in other documents.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        cluster: Cluster,
        status: StatusReport,
        alerts: Alerts,
        step_effects: StepEffects,
    ) -> None:
        self.config, self.store, self.cluster, self.run_id = config, store, cluster, status.run
        self.status, self.alerts, self.step_effects = status, alerts, step_effects
        self.layout = Layout(config.paths.archive)
        self.permits = self.layout.permits / self.run_id
        self.delays = Delays(config.daemon.loop_interval_s)
        self.by_id: dict[str, ActiveTask] = {}

    def __bool__(self) -> bool:
        """Whether any task runs."""
        return bool(self.by_id)

    def subjects(self) -> set[str]:
        """Return the nights and observations that tasks run for."""
        return {running.subject.id for running in self.by_id.values()}

    def open_permits(self) -> None:
        """Make the folder of all permits, which another daemon may have removed."""
        with suppress(OSError):  # submitting says what is the matter
            self.permits.mkdir(parents=True, exist_ok=True)

    def give_up(self) -> None:
        """Forget all tasks; what they still write does not reach its place."""
        withdraw(self.permits)
        self.by_id.clear()

    def delay(self, subject: Subject, err: object) -> None:
        """Leave a subject alone for a while whose tarball or sidecar file cannot be written, and report why."""
        self.delays.delay(subject.id)
        self.status.count("waiting", subject.id, "pack", str(err))

    def submit_step(
        self, subject: Subject, records: StepStore, context: NightContext, link: ChainEntry, step: Step
    ) -> bool:
        """Claim a step and submit it; return whether it runs now: not while what it copies is made again.

        Parameters
        ----------
        subject : Observation or Night
            What the step belongs to.
        records : StepStore
            Where it is recorded.
        context : NightContext
            State of the night.
        link : ChainEntry
            The pipeline.
        step : Step
            The step.
        """
        if isinstance(subject, Night) and are_made_again(
            masters_of(subject, step, context), self.store.nights, self.layout
        ):
            return False
        task_id = uuid.uuid4().hex
        permit = self.permits / task_id
        if not records.claim(subject.id, (link.pipeline.name, step.name), task_id, self.run_id):
            return False
        running = ActiveTask(subject, records, link, step, context, permit=permit)
        names = {"night": subject.night, "pipeline": link.pipeline.name, "step": step.name}
        try:
            permit.mkdir()
            task = make_task(self.config, self.store, task_id, running)
            self.store.jobs.start({"_id": task_id, "run": self.run_id, "subject": subject.id, **names})
            self.cluster.submit(task_id, run_task, task)
        except (*MALFORMED, *DISK_ERRORS):
            records.release([running.path], run=self.run_id, but=list(self.by_id))
            raise
        self.by_id[task_id] = running  # last: claims of what does not run are released after an outage
        log.info("%s %s: enqueued", subject.id, running.label)
        return True

    def submit_pack(self, subject: Observation) -> bool:
        """Submit the packing of an observation; return whether it runs now."""
        folder = self.layout.observation(subject.night, subject.id)
        document = self.store.observations.find(subject.id)
        if document is None:
            return False
        sweep(self.config.paths.tmp, subject.id)
        write_sidecar(self.layout, document)
        task_id = uuid.uuid4().hex
        asked = (document.get("distributed") or {}).get("last_modified")
        permit = self.permits / task_id
        permit.mkdir()
        tarball, limit_s = self.layout.tarball(subject.night, subject.id), self.config.parallel.job_timeout_s
        self.cluster.submit(task_id, run_limited, permit, limit_s, pack, folder, tarball, self._citation(document))
        self.by_id[task_id] = ActiveTask(subject, self.store.observations, asked=asked, permit=permit)  # last, as above
        return True

    def _citation(self, document: Document) -> str:
        """Return the text that says how to cite an observation."""
        observation, programmes = Observation(document), self.store.programmes
        release = programmes.release(self.config.release.months)
        return self.config.publisher.cite(observation, programmes.find(observation.program), release).text()

    def harvest(self, event: Event) -> bool:
        """Process `event` and all that wait behind it; return whether a task ended."""
        ended = False
        while True:
            ended |= isinstance(event, TaskFinished)
            try:
                with outage_as_error():
                    self._take_in(event)
            except ServiceUnavailable:
                self.cluster.events.put(event)  # what came back is not lost with the database
                raise
            try:
                event = self.cluster.events.get_nowait()
            except queue.Empty:
                return ended

    def _take_in(self, event: Event) -> None:
        running = self.by_id.get(event.task)
        if running is None:
            return
        if isinstance(event, Progress):
            running.fraction, running.text, running.has_begun = event.fraction, event.text, True
            self.store.jobs.update(event.task, {"fraction": event.fraction, "text": event.text, "worker": event.worker})
            return
        if running.permit is not None:
            withdraw(running.permit)  # first: nothing may be published over what is recorded now
        if running.step is None:
            self._packed(running, event.value)
        else:
            self._finish(event.task, running, result_of(event))
        del self.by_id[event.task]
        self.cluster.forget(event.task)

    def _finish(self, task: str, running: ActiveTask, result: TaskResult) -> None:
        link, step = running.link, running.step
        if link is None or step is None:
            return
        ended = utc_now()  # before what follows from it is written
        before = running.subject.pipeline(link.pipeline.name).step(step.name)
        inputs = inputs_of(running.subject, step, running.context)
        update = update_after(result, before, running.has_begun, inputs, self.config.daemon)
        state, message = update.state, update.message
        document = running.records.finish(running.subject.id, (link.pipeline.name, step.name), task, update)
        name = running.subject.id
        if document is None:
            log.warning("%s %s: a late result of a superseded task is ignored", name, running.label)
            return
        self.step_effects.after(running, link, type(running.subject)(document), result)
        level = logging.INFO if state in (State.DONE, State.LACKING) else logging.WARNING
        log.log(level, "%s %s: %s%s", name, running.label, state, f" ({message})" if message else "")
        self.status.count(str(state), name, running.label, message)
        if state is State.FAILED and before.retries < self.config.daemon.max_retries:
            self.status.retries += 1
        else:
            self.alerts.step_ended(running.subject, running.label, state, message)
        self.store.jobs.update(
            task,
            {
                "state": str(state),
                "message": message,
                "finished": ended,
                "duration_s": round(time.monotonic() - running.started, 2),
                "cpu_s": result.cpu_s,
                "peak_memory_mb": result.peak_memory_mb,
                "log": list(result.record.get("log", ())),
            },
        )

    def _packed(self, running: ActiveTask, value: object) -> None:
        if not isinstance(value, Packed):
            log.error("%s: not packed: %s", running.subject.id, value)
            self.delay(running.subject, value)
            return
        self.delays.clear(running.subject.id)
        fields = {PACKED_BYTES: value.n_bytes, PACKED_SHA256: value.sha256, PACKED_VERSION: PACKAGE_VERSION}
        if self.store.observations.set_packed(running.subject.id, running.asked, fields):
            log.info("%s: packed", running.subject.id)
            self.alerts.data_ready(running.subject)

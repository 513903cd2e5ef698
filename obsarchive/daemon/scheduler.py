"""The daemon's loop: scan, reconcile, plan, submit, harvest, pack, pause. Nothing else writes states of steps."""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from obsarchive.config.disk_guard import lacks_space
from obsarchive.config.model import Config
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Night, Observation, utc_now
from obsarchive.daemon import planner
from obsarchive.daemon.active_tasks import ActiveTasks
from obsarchive.daemon.checksum_audit import ChecksumAudit
from obsarchive.daemon.config_watch import ConfigWatch
from obsarchive.daemon.endings import longest_pause
from obsarchive.daemon.ingest import Ingest
from obsarchive.daemon.leader import LeaderLock
from obsarchive.daemon.night_context import BORROWED, NightContext, Subject
from obsarchive.daemon.notifications import Alerts
from obsarchive.daemon.people_journal import PeopleJournal
from obsarchive.daemon.planner import RetryPolicy
from obsarchive.daemon.psf_library_sync import PsfLibrarySync
from obsarchive.daemon.raw_watcher import RawWatcher
from obsarchive.daemon.reconcile import Reconciler
from obsarchive.daemon.requests import Requests
from obsarchive.daemon.status_report import StatusReport, repeated
from obsarchive.daemon.step_effects import StepEffects
from obsarchive.daemon.tarballs import sweep, sweep_leftovers, sweep_tmp
from obsarchive.daemon.time_series import TimeSeries
from obsarchive.daemon.watches import Watchers
from obsarchive.daemon.work_queue import WorkQueue
from obsarchive.database.connect import DatabaseHandle
from obsarchive.errors import DISK_ERRORS, MALFORMED, ServiceUnavailable
from obsarchive.execution.cluster import Cluster
from obsarchive.io.permit import withdraw
from obsarchive.pipeline.chain import decision_chain, steps_of
from obsarchive.store import StepStore, outage_as_error

log = logging.getLogger(__name__)

REPORT_S = 5.0
AUDIT_SLICE_S = 0.3
"""Longest time that one cycle spends on checking products [s]."""
OUTAGE_PAUSE_S = 5.0
SUBMIT_SLICE_S = 10.0
"""Longest time that one cycle spends on looking for work [s]; the next cycle begins with what it left open."""


@dataclass(frozen=True)
class Options:
    """Options of one run of the daemon."""

    once: bool = False
    nights: tuple[str, ...] = ()


class Scheduler:
    """The daemon of one archive; one instance per run.

    Parameters
    ----------
    config : Config
        The configuration.
    opened : DatabaseHandle
        The open database.
    cluster : Cluster
        Where steps run; started by :meth:`run`.
    options : Options, optional
        Options of this run.
    """

    def __init__(
        self, config: Config, opened: DatabaseHandle, cluster: Cluster, options: Options | None = None
    ) -> None:
        self.config, self.opened, self.cluster = config, opened, cluster
        self.options = options or Options()
        self.store = opened.store
        self.layout = Layout(config.paths.archive)
        self.run_id = uuid.uuid4().hex
        chain = decision_chain(config)
        self.chain = [link for link in chain if link.pipeline.scope == "observation"]
        self.night_chain = [link for link in chain if link.pipeline.scope == "night"]
        self.alerts = Alerts(config, self.store.outbox, Watchers(config.alerts, self.store))
        self.ingest = Ingest(config, self.store, self.alerts)
        # a run that ends with the work does not wait for observations that may follow
        arrives_within = timedelta(hours=0 if self.options.once else config.daemon.arrives_within_h)
        limits = config.daemon.max_retries, self.options.nights, arrives_within
        self.queue = WorkQueue(self.store, self.chain, self.night_chain, *limits)
        self.watch = RawWatcher(config, self.ingest, self.options.nights)
        self.reconciler = Reconciler(self.queue, self.layout, self.ingest.edits, self.watch.restore)
        period = timedelta(days=config.daemon.checksum_days)
        self.checksums = ChecksumAudit(self.queue, self.layout, period, config.daemon.checksum_mb_s)
        self.library_sync = PsfLibrarySync(self.store, self.layout, self.chain)
        self.requests = Requests(self.store, self.layout, chain)
        self.step_effects = StepEffects(self.store, self.library_sync, self.queue.library_steps)
        self.status = StatusReport(config, self.store.jobs, self.run_id)
        self.timeseries = TimeSeries(config, self.store, cluster)
        self.config_watch = ConfigWatch(config)
        self.people = PeopleJournal(self.store.people, config.database_folder, self.reconciler.keep_up)
        self._malformed: set[str] = set()
        self._all_seen = True
        self._at_once = 0
        """Number of tasks that the workers run at once; as many again wait for them."""
        self.tasks = ActiveTasks(config, self.store, cluster, self.status, self.alerts, self.step_effects)
        self._leader: LeaderLock | None = None
        self.stopping = threading.Event()
        self._next_scan = self._next_audit = self._next_report = 0.0
        self._auditing: Iterator[str] | None = None
        self._state = "starting"
        self._holds: str = ""
        """Why nothing new is begun, as the state to report; empty if it may be."""
        self._space: str | None = None

    # -- the loop -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until nothing is due (``--once``), until :meth:`stop`, or until another configuration is to be used."""
        with LeaderLock(self.layout, self.store, self.run_id) as leader:
            self._leader = leader
            self.start()
            try:
                while not self.stopping.is_set() and not self._turn(leader):
                    pass
            finally:
                self.close()

    def stop(self) -> None:
        """Ask the loop to end; safe in a signal handler."""
        self.stopping.set()

    def start(self) -> None:
        """Release the claims of earlier runs, insert observations of the tree that are missing, start the cluster."""
        with repeated(self._report_start, REPORT_S):
            self._take_up()
            self.cluster.start()
        self.alerts.start()
        self.people.start()

    def _take_up(self) -> None:
        """Bring the database in line with the archive tree and with this run."""
        withdraw(self.layout.permits)
        self.people.take_up()
        self.store.ensure_indexes(steps_of(self.chain), self.library_sync.steps)
        released = sum(records.release(paths, not_run=self.run_id) for records, paths in self._step_stores())
        self.store.jobs.close_run(not_run=self.run_id)
        if released:
            log.info("released %d step(s) that an earlier run had claimed", released)
        for records, paths in self._step_stores():
            records.end_pauses(paths)  # what an earlier run waited for may be there
        recalled = self.ingest.tree()
        if recalled:
            log.info("took up %d observation(s) from the archive tree", recalled)
        self._carry_over()
        self.step_effects.complete_all((*self.chain, *self.night_chain))
        self.queue.take_up_chain()
        waiting = self.store.observations.open([link.pipeline.name for link in self.chain])
        for night in {observation.night for observation in waiting}:
            self.store.nights.unsettle(night, reductions=True)  # a killed run may not have come to it
        sweep_leftovers(self.layout.root, time.time(), nested=False)
        sweep_tmp(self.config.paths.tmp, time.time())

    def _start_over(self) -> None:
        """Rebuild a database that was dropped while this daemon ran; what runs belongs to the former one."""
        log.warning("the database was emptied: it is rebuilt from %s", self.layout.root)
        self._release_own()  # steps that were begun after the loss, before it was noticed
        with repeated(self._report_start, REPORT_S):
            self.cluster.restart()
            self._take_up()
        self.watch.forget()

    def _carry_over(self) -> None:
        """Bring documents of an earlier version to the states of this one."""
        for records, chain in ((self.store.observations, self.chain), (self.store.nights, self.night_chain)):
            for link in chain:
                records.carry_over(link.pipeline.name, list(link.pipeline.steps))
        self.store.nights.carry_over_choices(self.queue.giving_steps)
        self.store.nights.count_again(steps_of(self.night_chain, "night", uses=BORROWED))
        self.step_effects.carry_over_errors()

    def close(self) -> None:
        """Stop working: release claims and close the cluster."""
        self.alerts.stop()
        self.people.stop()
        self.timeseries.stop()
        self.cluster.close()
        try:
            with outage_as_error():
                self._release_own()
                self._report("stopped")
        except ServiceUnavailable as err:
            log.warning("claims are given back at the next start: %s", err)

    @property
    def paused(self) -> int:
        """Number of steps that wait for an outer cause to end, such as a disk that is away."""
        return sum(records.paused(paths) for records, paths in self._step_stores())

    def idle(self) -> bool:
        """Whether nothing runs and nothing is due, now or later."""
        if self.tasks or self._auditing or self.watch.unsettled or self.timeseries.busy:
            return False
        return not self.queue.pending(self.tasks.delays.hopeless)

    def _turn(self, leader: LeaderLock) -> bool:
        """Run one cycle and wait; return whether the work is finished (``--once``), or another configuration waits.

        When the database or the scheduler of the cluster is lost, it is waited for.
        """
        try:
            with outage_as_error():
                leader.confirm()
                if leader.has_lost_database:
                    self._start_over()
                    leader.has_lost_database = False
                if not self.cluster.alive:
                    self._recover_cluster()
                self.cycle()
                self.status.last_cycle = utc_now()
                if self.options.once and self.idle():
                    return True
                if self.config_watch.new and not self.tasks and not self.timeseries.busy:
                    return True
                self.wait()
        except ServiceUnavailable as err:
            log.warning("%s; trying again in %g s", err, OUTAGE_PAUSE_S)
            self.stopping.wait(OUTAGE_PAUSE_S)
            self._recover_database()
        return False

    def _recover_database(self) -> None:
        """Bring the database back; release claims that were made but never submitted."""
        try:
            self.opened.revive()
            with outage_as_error():
                for records, paths in self._step_stores():
                    records.release(paths, run=self.run_id, but=list(self.tasks.by_id))
        except ServiceUnavailable as err:
            log.warning("the database is still away: %s", err)

    def cycle(self) -> None:
        """Run one cycle: scan the disk when it is time, apply requests, submit work."""
        self.tasks.open_permits()
        now = time.monotonic()
        quiet_hours = self.config.daemon.quiet_hours
        if quiet_hours and quiet_hours.covers(utc_now()):
            self._hold("napping")
            return
        if now >= self._next_scan and self.watch.look():
            self._next_scan = time.monotonic() + self.config.daemon.loop_interval_s
        if not self.options.once:
            self.config_watch.look()
        self.requests.apply()
        self.library_sync.look(self.queue.have_nights_changed())
        self.queue.library = self.library_sync.library
        self.audit()
        self._space = lacks_space(self.config)
        if self.config_watch.new:
            self._hold("reloading")
        elif self._space is None:
            self._holds = ""
            self.submit()
            self.timeseries.start_if_due(self.config.daemon.loop_interval_s)
            self._report()
        else:
            if self._holds != "no space":
                log.warning("no new work: %s", self._space)
            self._hold("no space")

    def _hold(self, state: str) -> None:
        """Begin nothing new until the next cycle, and report why."""
        self._holds = state
        self._report()

    def audit(self) -> None:
        """Check products for at most `AUDIT_SLICE_S`; the next cycle continues."""
        if not self.options.once:
            self.checksums.advance(AUDIT_SLICE_S)
        if self._auditing is None and time.monotonic() >= self._next_audit:
            self._auditing = self.reconciler.audit(self.options.nights, lambda: not self.tasks)
        if self._auditing is None:
            return
        until = time.monotonic() + AUDIT_SLICE_S
        for _ in self._auditing:
            if time.monotonic() > until:
                return
        self._auditing = None
        self._next_audit = time.monotonic() + self.config.daemon.audit_interval_s

    def wait(self) -> None:
        """Wait until a task ends and no other waits for a worker, or until the next scan.

        Not at all while there is more to look at. To look for work costs more the more observations a night has.
        """
        pause = 0.0 if self.watch.is_under_way or not self._all_seen else self.config.daemon.loop_interval_s
        if self.options.once and not self.tasks:
            pause = min(pause, 0.5)
        deadline = time.monotonic() + pause
        while not self.stopping.is_set():
            try:
                event = self.cluster.events.get(timeout=max(0.0, min(deadline - time.monotonic(), 1.0)))
            except queue.Empty:
                if time.monotonic() >= deadline or not self.cluster.alive:
                    return
                self._report()
                continue
            if self.tasks.harvest(event) and self.cluster.busy <= self._at_once:
                return

    # -- plan and submit ----------------------------------------------------------------------------------------

    def submit(self) -> None:
        """Submit steps, newest night first, calibration before science, until the cluster has enough.

        Where there is much to look at, the loop is not kept from what the cluster reports, nor from its lease.
        """
        self._all_seen, until = True, time.monotonic() + SUBMIT_SLICE_S
        busy = self.tasks.subjects()
        self._at_once = self.cluster.capacity  # asks the scheduler: once a round, not for every observation
        for subject, context in self.queue.subjects(busy):
            if self.cluster.busy >= 2 * self._at_once or self.stopping.is_set() or not self._leads():
                break
            if time.monotonic() > until:
                self._all_seen = False
                break
            if subject.id not in busy and not self.tasks.delays.holds(subject.id) and self._guarded(subject, context):
                busy.add(subject.id)
        self.queue.record_looks()

    def _leads(self) -> bool:
        """Whether no other daemon can have taken over since the lease was renewed: this one may have been frozen."""
        return self._leader is None or self._leader.is_certain

    def _guarded(self, subject: Subject, context: NightContext) -> bool:
        """Advance a night or an observation; one whose document is malformed does not stop the others."""
        try:
            return self._advance(subject, context)
        except MALFORMED:
            if subject.id not in self._malformed:
                self._malformed.add(subject.id)
                log.exception("%s: its document cannot be understood; the others go on", subject.id)
            return False
        except DISK_ERRORS as err:
            log.warning("%s: %s; tried again, the others go on", subject.id, err)
            self.tasks.delay(subject, err)
            return False

    def _advance(self, subject: Subject, context: NightContext) -> bool:
        """Submit the next step of a night or an observation; return whether something runs for it now."""
        if isinstance(subject, Observation) and subject.is_unread:
            return False
        chain, records = self.queue.chain_now(subject), self.queue.step_store_of(subject)
        if self.reconciler.settle(subject, context):
            subject = type(subject)(records.find(subject.id) or subject.document)
        policy = RetryPolicy(utc_now(), self.config.daemon.max_retries, longest_pause(self.config.daemon))
        due = planner.next_step(subject, chain, policy, context)
        if due is not None:
            if isinstance(subject, Night) and not self.queue.has_settled(subject, due[1]):
                return False
            return self.tasks.submit_step(subject, records, context, *due)
        waiting = list(planner.open_steps(subject, chain, policy.max_retries))
        if not waiting:
            return self._settle(subject, context)
        if all(planner.is_held(subject, link, step, context) for link, step in waiting):
            sweep(self.config.paths.tmp, subject.id)  # it may wait for hours, and reads no raw files then
        return False

    def _settle(self, subject: Subject, context: NightContext) -> bool:
        """Pack an observation for which no step is due, or sweep temporary files; return whether something runs now."""
        if isinstance(subject, Observation) and not subject.packed:
            return context.may_pack and self.tasks.submit_pack(subject)
        if isinstance(subject, Night):
            sweep(self.config.paths.tmp, subject.id)
        self.queue.rest(subject)
        return False

    def _step_stores(self) -> list[tuple[StepStore, list[tuple[str, str]]]]:
        """Return both collections, with the steps that their documents hold."""
        return [
            (self.store.observations, steps_of(self.chain)),
            (self.store.nights, steps_of(self.night_chain, "night")),
        ]

    def _recover_cluster(self) -> None:
        log.warning("the Dask cluster lost its scheduler or all its workers: starting another one")
        self._release_own()
        self.cluster.restart()

    def _release_own(self) -> None:
        """Forget all tasks, and have their steps wait again."""
        self.tasks.give_up()
        for records, paths in self._step_stores():
            records.release(paths, run=self.run_id)

    def _report_start(self) -> None:
        """Show that a daemon lives that has not come to its first cycle, which may take minutes."""
        with suppress(ServiceUnavailable), outage_as_error():
            self._report("starting")

    def _report(self, state: str = "") -> None:
        """Write the status, when it changed or when it is time."""
        state = state or self._holds or ("working" if self.tasks else "idle")
        now = time.monotonic()
        if state == self._state and now < self._next_report:
            return
        self._state, self._next_report = state, now + REPORT_S
        running = [task.status(now) for task in self.tasks.by_id.values()]
        workers = self.cluster.describe()
        due = self.store.observations.count_unpacked()
        problem = self.config_watch.problem
        extra = {"workers": workers, "queue": due, "configuration": problem, "space": self._space or ""}
        self.status.report(state, running, extra)

"""The rolling audit: every product, manifest, sidecar file and tarball is read again from time to time.

What differs from its checksum in the database is made again. The nights that were checked longest ago come first, so
that it goes on where it stopped; its rate is limited, so that the disk and the daemon stay free for their work.

A damaged file may have been read before the damage was found: what was made from it since it was known to be whole is
made again as well; what is being made from it now, when that has ended.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

from obsarchive.core import document_paths as paths
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Night, Observation, utc_now
from obsarchive.core.step_state import State
from obsarchive.core.values import as_time
from obsarchive.daemon.night_context import Subject
from obsarchive.daemon.planner import dependents
from obsarchive.daemon.product_check import damage_of
from obsarchive.daemon.sidecars import sidecar_damage, write_sidecar
from obsarchive.daemon.work_queue import WorkQueue
from obsarchive.errors import DISK_ERRORS
from obsarchive.io.atomic import sha256
from obsarchive.pipeline import Pipeline, Step

log = logging.getLogger(__name__)

REST_S = 60.0
"""Longest pause after everything has been checked [s]; and the time whose unused allowance is kept."""


class ChecksumAudit:
    """Compares the archive with its checksums, a little at a time.

    Parameters
    ----------
    queue : WorkQueue
        Which pipelines apply to a night or an observation, and where it is kept.
    layout : Layout
        The archive tree.
    period : timedelta
        A night is checked again after this time.
    rate_mb_s : float
        Bytes read a second, on average [MB/s].
    monotonic : callable, optional
        Clock [s].
    """

    def __init__(
        self,
        queue: WorkQueue,
        layout: Layout,
        period: timedelta,
        rate_mb_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue, self.layout, self.period = queue, layout, period
        self.store = queue.store
        self._rate, self._monotonic = rate_mb_s * 1e6, monotonic
        self._last = monotonic()
        self._allowance = 0.0
        self._rests_until = 0.0
        self._work: Iterator[int] = iter(())
        self.n_repaired = 0
        """Steps, sidecar files and tarballs that were found damaged."""

    def advance(self, seconds: float) -> None:
        """Check as much as the rate allows since the last call, for at most some seconds."""
        now = self._monotonic()
        self._allowance = min(self._allowance + self._rate * (now - self._last), self._rate * REST_S)
        self._last = now
        while self._allowance > 0 and self._rests_until <= self._monotonic() < now + seconds:
            n_bytes = next(self._work, None)
            if n_bytes is None and not self._begin():
                self._rests_until = self._monotonic() + min(REST_S, self.period.total_seconds())
            self._allowance -= n_bytes or 0

    def _begin(self) -> bool:
        """Begin with the night that was checked longest ago; return whether one is due."""
        night = self.store.nights.least_checked(utc_now() - self.period)
        if night is not None:
            self._work = self.night(night)
        return night is not None

    def night(self, night: str) -> Iterator[int]:
        """Check a night.

        Parameters
        ----------
        night : str
            The night, ``yyyymmdd``.

        Yields
        ------
        int
            Bytes read since the last value.
        """
        begun = utc_now()  # what is damaged behind our back is younger than this
        subjects: list[Subject] = [*self.store.observations.of_night(night)]
        document = self.store.nights.find(night) or {}
        subjects += [Night(document)] if document else []
        since = as_time(document.get("checked"))
        if since is not None and since > begun:  # of a clock that was put back
            since = None
        for subject in subjects:
            try:
                yield from self._check(subject, since)
            except DISK_ERRORS as err:
                log.warning("%s: cannot be checked or repaired at present: %s", subject.id, err)
        self.store.nights.set_fields(night, {"checked": begun})

    def _check(self, subject: Subject, since: datetime | None) -> Iterator[int]:
        yield from self._steps(subject, since)
        if isinstance(subject, Observation):
            yield self._sidecar(subject)
            yield self._tarball(subject)

    def _steps(self, subject: Subject, since: datetime | None) -> Iterator[int]:
        chain = [link for link in self.queue.chain_of(subject) if link.applies(subject.document)]
        records = self.queue.step_store_of(subject)
        for link in chain:
            record, folder = (
                subject.pipeline(link.pipeline.name),
                link.pipeline.path(self.layout, subject.night, subject.id),
            )
            for step in link.pipeline.steps:
                n_bytes, damage = damage_of(record.step(step), folder, self.layout.manifest(folder, step))
                if damage and records.invalidate(subject.id, (link.pipeline.name, step)):
                    self._repaired(f"{subject.id} {link.pipeline.name}.{step}", damage)
                    self._repeat_readers(subject, link.pipeline, step, since)
                yield n_bytes

    def _repeat_readers(self, damaged: Subject, pipeline: Pipeline, step: str, since: datetime | None) -> None:
        """Have steps done again that may have read products since these were whole, or read them now."""
        if isinstance(damaged, Observation):  # those of its night come after it
            self.store.nights.unsettle(damaged.night, reductions=True)
        for reader, other, name in self._readers(damaged, pipeline, step):
            record = reader.pipeline(other.name).step(name)
            ended = record.finished
            if record.state is State.ENQUEUED or (ended is not None and (since is None or ended > since)):
                for again in (name, *dependents(other, name)):
                    self.queue.step_store_of(reader).repeat(reader.id, (other.name, again))

    def _readers(self, damaged: Subject, pipeline: Pipeline, step: str) -> Iterator[tuple[Subject, Pipeline, str]]:
        """Yield the steps that may read what a step makes, with what they belong to as it is now."""
        observations: list[Subject] = [*self.store.observations.of_night(damaged.night)]
        nights: list[Subject] = [*self.store.nights.all([damaged.night])]
        itself = [each for each in observations + nights if each.id == damaged.id]
        for subject in itself:
            yield from ((subject, pipeline, name) for name in dependents(pipeline, step))
        if isinstance(damaged, Observation):
            yield from self._steps_that(itself, lambda step: bool(step.reads))
            yield from self._steps_that(nights, lambda step: "observations" in step.uses)
        elif "masters" in damaged.pipeline(pipeline.name).step(step).results:
            yield from self._steps_that(observations, lambda step: "calibration" in step.uses)

    def _steps_that(
        self, subjects: Iterable[Subject], read: Callable[[Step], bool]
    ) -> Iterator[tuple[Subject, Pipeline, str]]:
        for subject in subjects:
            for link in self.queue.chain_of(subject):
                yield from ((subject, link.pipeline, name) for name, step in link.pipeline.steps.items() if read(step))

    def _sidecar(self, observation: Observation) -> int:
        document = self.store.observations.find(observation.id)
        if document is None:
            return 0
        try:
            content = self.layout.sidecar(observation.night, observation.id).read_bytes()
            damage = sidecar_damage(content, document)
        except OSError as err:
            content, damage = b"", f"its sidecar file cannot be read: {err}"
        if damage:
            write_sidecar(self.layout, document)
            self._repaired(observation.id, damage)
        return len(content)

    def _tarball(self, observation: Observation) -> int:
        checksum = observation.packed_sha256
        if not observation.packed or not checksum:
            return 0
        path = self.layout.tarball(observation.night, observation.id)
        try:
            n_bytes, is_whole = path.stat().st_size, sha256(path) == checksum
        except FileNotFoundError:
            n_bytes, is_whole = 0, False
        if not is_whole:
            self.store.observations.set_fields(observation.id, {paths.PACKED: False})
            self._repaired(observation.id, "its tarball differs from its checksum")
        return n_bytes

    def _repaired(self, what: str, damage: str) -> None:
        self.n_repaired += 1
        log.warning("%s: made again, %s", what, damage)

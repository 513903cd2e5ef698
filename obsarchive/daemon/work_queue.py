"""The work queue of the daemon: nights and observations for which something may be due, in the order of processing."""

import itertools
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from obsarchive.core import document_paths as paths
from obsarchive.core.documents import Night, Observation, utc_now
from obsarchive.core.masters import Master
from obsarchive.daemon import planner
from obsarchive.daemon.endings import PATIENCE
from obsarchive.daemon.night_context import Library, NightContext, Subject
from obsarchive.daemon.tasks import context_of, own_masters
from obsarchive.errors import MALFORMED
from obsarchive.pipeline import Step
from obsarchive.pipeline.chain import ChainEntry, digest_of, steps_of
from obsarchive.store import BY_RESULTS, StepPath, StepStore, Store

log = logging.getLogger(__name__)

LOOKED_AT_ONCE = 500
"""Largest number of observations whose look is recorded by one operation."""


class WorkQueue:
    """Newest night first, and in each night calibration before science.

    Parameters
    ----------
    store : Store
        The database.
    chain, night_chain : sequence of ChainEntry
        Pipelines of observations and of nights.
    max_retries : int
        How often a failed step is tried again.
    nights : sequence of str, optional
        Only these nights.
    arrives_within : timedelta, optional
        While the newest observation of a night is younger than this, others may follow, and its reference stars are
        not chosen yet; by default they are as soon as nothing else is due.
    """

    def __init__(
        self,
        store: Store,
        chain: Sequence[ChainEntry],
        night_chain: Sequence[ChainEntry],
        max_retries: int,
        nights: Sequence[str] = (),
        arrives_within: timedelta = timedelta(),
    ) -> None:
        self.store, self.max_retries, self.nights = store, max_retries, tuple(nights)
        self.chain, self.night_chain = chain, night_chain
        self._before_science = [link for link in night_chain if link.pipeline.precedes_science]
        self._at_any_time = [link for link in night_chain if not link.pipeline.follows_science]
        self._giving = [link for link in night_chain if any(step.gives for step in link.pipeline.steps.values())]
        self.giving_steps = steps_of(self._giving, "night")
        """Steps of nights that give reference stars to the PSF library."""
        summing = steps_of(night_chain, "night", uses={"observations"})
        self._summing_steps = [path for path in summing if path not in self.giving_steps]
        self.library_steps = planner.library_steps(chain)
        """Steps of observations that depend on the PSF library."""
        self.arrives_within = arrives_within
        self.library = Library()
        """What the PSF library holds."""
        self._every: Mapping[bytes, Night] = {}
        self._nights_changed = True
        self._own: tuple[Master, ...] = ()
        self._looked_at: list[str] = []
        self._at_rest: dict[str, tuple[Night, tuple[Master, ...]]] = {}

    def take_up_chain(self) -> None:
        """Reopen packed observations when the decision chain differs from that of the last run.

        A database of an earlier version holds no digest of the chain: there, only those with a step due are reopened.
        """
        lease, observations = self.store.lease, self.store.observations
        digest, former = digest_of(self.chain, self.max_retries), lease.chain()
        if digest == former:
            return
        if former:
            observations.reopen_packed()
            log.info("the pipelines changed since the last run: all observations are looked at again")
        else:
            for observation in observations.packed():
                if self._has_open(observation, self.chain):
                    observations.set_fields(observation.id, observations.reopened())
        lease.set_chain(digest)

    def chain_of(self, subject: Subject) -> Sequence[ChainEntry]:
        """Return the pipelines that apply to a night or an observation."""
        return self.night_chain if isinstance(subject, Night) else self.chain

    def chain_now(self, subject: Subject) -> Sequence[ChainEntry]:
        """Return those of them that may run now.

        Summaries wait until all science of a night has ended, the choice of its reference stars until all has that
        does not depend on them.
        """
        if not isinstance(subject, Night):
            return self.chain
        return [link for link in self.night_chain if self._has_come(link, subject)]

    def _has_come(self, link: ChainEntry, night: Night) -> bool:
        if link in self._giving:
            return bool(night.reductions)
        return not link.pipeline.follows_science or bool(night.science)

    def step_store_of(self, subject: Subject) -> StepStore:
        """Return the collection in which a night or an observation is kept."""
        return self.store.nights if isinstance(subject, Night) else self.store.observations

    def subjects(self, running: Collection[str] = ()) -> Iterator[tuple[Subject, NightContext]]:
        """Yield everything for which something may be due, with the state of its night.

        Parameters
        ----------
        running : collection of str
            Subjects that something runs for; it may grow on the way.

        Yields
        ------
        (Observation or Night, NightContext)
            Observations whose packing waited for others of their night a second time.
        """
        self._looked_at.clear()  # an outage may have kept some that were reopened since
        nights = {night.id: night for night in self._read() if not self.nights or night.id in self.nights}
        self._settle_science(nights)
        for night in nights.values():
            if not self._rests(night):
                yield night, context_of(night, self._own, self.library)
        opened = self.store.observations.open_nights(self._names)
        for name, night in nights.items():
            if name not in opened:
                continue
            context = context_of(night, self._own, self.library)
            if not self._is_before(night, context):
                yield from self._observations(night, context, running)

    def _observations(
        self, night: Night, context: NightContext, running: Collection[str]
    ) -> Iterator[tuple[Observation, NightContext]]:
        """Yield the open observations of a night, read as they are needed: there may be very many."""
        opened = self.store.observations.open(self._names, [night.id])
        looked_at: list[Observation] = []
        if self._giving:
            if not night.reductions:
                looked_at = list(self._up_to_reducing(opened, context))
                if not (looked_at and self._is_reducing(looked_at[-1], context)):
                    self._settle_reductions(night)
            is_chosen = bool(night.reductions) and not self._is_giving(night, context)
            context = replace(context, awaits_references=not is_chosen, may_pack=not night.reductions)
        every = itertools.chain(looked_at, opened)
        if context.may_pack:
            yield from ((observation, context) for observation in every)
        else:
            yield from self._unpacked_last(night, context, every, running)

    def _unpacked_last(
        self, night: Night, context: NightContext, observations: Iterable[Observation], running: Collection[str]
    ) -> Iterator[tuple[Observation, NightContext]]:
        """Yield observations, and those that are not packed once more when nothing runs for their night any more."""
        names, unpacked, has_open = {night.id}, [], False
        for observation in observations:
            yield observation, context
            names.add(observation.id)
            has_open = has_open or self._has_open(observation, self.chain)
            unpacked += [] if observation.packed else [observation]
        if not unpacked or not names.isdisjoint(running):
            return
        if not has_open:
            self._settle_reductions(night)  # companions that were found count now, all at once
            if self._is_choosing(Night(self.store.nights.find(night.id) or night.document)):
                return
        yield from ((observation, replace(context, may_pack=True)) for observation in unpacked)

    def _up_to_reducing(self, observations: Iterable[Observation], context: NightContext) -> Iterator[Observation]:
        """Yield observations until one for which something is to be done before the reference stars are chosen."""
        for observation in observations:
            yield observation
            if self._is_reducing(observation, context):
                return

    def _read(self) -> Collection[Night]:
        """Return all nights, and keep them, with the masters that they made from their own files."""
        former, self._every = self._every, self.store.nights.all_again(self._every)
        self._nights_changed |= self._every is not former
        if self._every is not former and former.keys() != self._every.keys():
            own = own_masters(self._every.values())
            if own != self._own:
                self._own = own
        return self._every.values()

    def have_nights_changed(self) -> bool:
        """Return whether the document of a night changed since the last call."""
        changed, self._nights_changed = self._nights_changed, False
        return changed

    def rest(self, subject: Subject) -> None:
        """Do not look again at what nothing is due for.

        A night rests until its document or a master of any night changes, a packed observation until it is reopened.

        Parameters
        ----------
        subject : Observation or Night
            As :meth:`subjects` gave it.
        """
        if isinstance(subject, Night):
            self._at_rest[subject.id] = subject, self._own
            return
        self._looked_at.append(subject.id)
        if len(self._looked_at) >= LOOKED_AT_ONCE:
            self.record_looks()

    def record_looks(self) -> None:
        """Record which observations rest: many at once, since one by one takes ten times as long."""
        names, self._looked_at = self._looked_at, []
        if names:
            self.store.observations.looked_at(names)

    def _rests(self, night: Night) -> bool:
        seen, own = self._at_rest.get(night.id, (None, ()))
        return seen is night and own is self._own

    def _is_reducing(self, observation: Observation, context: NightContext) -> bool:
        """Whether something is to be done for an observation before the reference stars of its night are chosen."""
        try:
            return planner.has_first_attempt(observation, self.chain, context, self.max_retries, self.library_steps)
        except MALFORMED:
            return False  # the night does not wait for a document that cannot be understood

    def _is_giving(self, night: Night, context: NightContext) -> bool:
        """Whether the reference stars of a night are being chosen, now or after a delay."""
        return (
            planner.is_running(night, self._giving)
            or self._has_open(night, self._giving)
            or next(planner.stale(night, self._giving, context), None) is not None
        )

    def has_settled(self, night: Night, step: Step) -> bool:
        """Return whether the observations that a step of a night reads are still those of the signature it records.

        If not, as where one is made again since, the night has to settle anew.

        Parameters
        ----------
        night : Night
            The night.
        step : Step
            A step that is due.
        """
        if "observations" not in step.uses:
            return True
        observations = self.store.observations
        if step.gives:
            is_same = night.reductions == observations.reductions(night.id, self.library_steps, self.library.known)
        else:
            is_same = night.science == observations.findings(night.id)
        if not is_same:
            self.store.nights.unsettle(night.id, reductions=bool(step.gives))
        return is_same

    def _settle_reductions(self, night: Night) -> None:
        """Set the signature of what the reference stars of a night are chosen from, unless observations may follow."""
        newest = self.store.observations.newest(night.id)
        if newest is None or abs(utc_now() - newest) >= self.arrives_within:  # a clock that is wrong delays nothing
            signature = self.store.observations.reductions(night.id, self.library_steps, self.library.known)
            self.store.nights.set_fields(night.id, {paths.REDUCTIONS_SIGNATURE: signature})
            self._carry_over(night, self.giving_steps, signature)

    def _carry_over(self, night: Night, steps: Sequence[StepPath], signature: str) -> None:
        """Record a signature for steps whose results an earlier version made from the same observations."""
        made_from = {path: night.pipeline(path[0]).step(path[1]).inputs.get("observations", "") for path in steps}
        former = {path: text for path, text in made_from.items() if text and not text.startswith(BY_RESULTS)}
        if former:
            present = self.store.observations.former_findings(night.id)
            for path in (path for path, text in former.items() if text == present):
                self.store.nights.set_fields(night.id, {self.store.nights.made_from(path): signature})

    @property
    def _names(self) -> list[str]:
        return [link.pipeline.name for link in self.chain]

    def _is_before(self, night: Night, context: NightContext) -> bool:
        """Whether calibration of a night is still to be done, so that its science waits."""
        chain = self._before_science
        try:
            return (
                planner.is_running(night, chain)
                or self._has_open(night, chain)
                or any(night.pipeline(link.pipeline.name).force_redo for link in chain)
                or next(planner.stale(night, chain, context), None) is not None
            )
        except MALFORMED:
            return False  # science does not wait for a document that cannot be understood

    def _has_open(self, subject: Subject, chain: Sequence[ChainEntry]) -> bool:
        return next(planner.open_steps(subject, chain, self.max_retries), None) is not None

    def _settle_science(self, nights: dict[str, Night]) -> None:
        """Set the signatures of the results of nights whose science has ended since the last call."""
        unsettled = [
            name for name, night in nights.items() if not night.science or (self._giving and not night.reductions)
        ]
        if not unsettled or len(self._at_any_time) == len(self.night_chain):
            return
        busy = self.store.observations.open_nights(self._names)
        for name in set(unsettled) - busy:
            if self._giving:
                # Also where it is known: companions that were found since count now, all at once.
                self._settle_reductions(nights[name])
                nights[name] = Night(self.store.nights.find(name) or nights[name].document)
                if self._is_choosing(nights[name]):
                    continue
            if not nights[name].science:
                signature = self.store.observations.findings(name)
                self.store.nights.set_fields(name, {paths.SCIENCE_SIGNATURE: signature})
                self._carry_over(nights[name], self._summing_steps, signature)
            nights[name] = Night(self.store.nights.find(name) or nights[name].document)

    def _is_choosing(self, night: Night) -> bool:
        """Whether the reference stars of a night, for which all is known, are chosen: its results change by that."""
        try:
            return bool(night.reductions) and self._is_giving(night, context_of(night, self._own, self.library))
        except MALFORMED:
            return False  # the night does not wait for a document that cannot be understood

    def pending(self, never_packed: Collection[str]) -> bool:
        """Whether something is due, now or later; observations in `never_packed` do not count."""
        return any(self._is_pending(subject, context, never_packed) for subject, context in self.subjects())

    def _waits_in_vain(self, subject: Subject, chain: Sequence[ChainEntry]) -> bool:
        """Whether all that could run has waited long for an outer cause to end, such as a disk that is away."""
        waiting = planner.open_steps(subject, chain, self.max_retries)
        waits = [subject.pipeline(link.pipeline.name).step(step.name).waits for link, step in waiting]
        return bool(waits) and min(waits) > PATIENCE

    def _is_pending(self, subject: Subject, context: NightContext, never_packed: Collection[str]) -> bool:
        chain = self.chain_now(subject)
        if self._waits_in_vain(subject, chain) or (isinstance(subject, Observation) and subject.is_unread):
            return False
        return (
            self._has_open(subject, chain)
            or next(planner.stale(subject, chain, context), None) is not None
            or any(subject.pipeline(link.pipeline.name).force_redo for link in chain)
            or (isinstance(subject, Observation) and not subject.packed and subject.id not in never_packed)
        )

"""The work queue of the daemon: nights and observations for which something may be due, in the order of processing."""

import logging
from collections.abc import Collection, Iterator, Sequence

from obsarchive.core import document_paths as paths
from obsarchive.core.documents import Night, Observation
from obsarchive.daemon import planner
from obsarchive.daemon.planner import Library, NightContext, Subject
from obsarchive.daemon.tasks import context_of
from obsarchive.pipeline.chain import ChainEntry, digest_of
from obsarchive.store import StepStore, Store

log = logging.getLogger(__name__)


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
    """

    def __init__(
        self,
        store: Store,
        chain: Sequence[ChainEntry],
        night_chain: Sequence[ChainEntry],
        max_retries: int,
        nights: Sequence[str] = (),
    ) -> None:
        self.store, self.max_retries, self.nights = store, max_retries, tuple(nights)
        self.chain, self.night_chain = chain, night_chain
        self._before_science = [link for link in night_chain if link.pipeline.precedes_science]
        self._at_any_time = [link for link in night_chain if not link.pipeline.follows_science]
        self.library = Library()
        """What the PSF library holds."""

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
        """Return those of them that may run now: summaries wait until all science of a night has ended."""
        if isinstance(subject, Night) and not subject.science:
            return self._at_any_time
        return self.chain_of(subject)

    def step_store_of(self, subject: Subject) -> StepStore:
        """Return the collection in which a night or an observation is kept."""
        return self.store.nights if isinstance(subject, Night) else self.store.observations

    def subjects(self) -> Iterator[tuple[Subject, NightContext]]:
        """Yield everything for which something may be due, with the state of its night."""
        every = self.store.nights.all()
        own = tuple(master for night in every for master in night.masters() if master.own)
        nights = {night.id: night for night in every if not self.nights or night.id in self.nights}
        self._settle_science(nights)
        contexts = {name: context_of(night, own, self.library) for name, night in nights.items()}
        for name, night in nights.items():
            yield night, contexts[name]
        calibrated = {name for name, night in nights.items() if not self._is_before(night)}
        for observation in self.store.observations.open(self._names, self.nights):
            if observation.night in calibrated:
                yield observation, contexts[observation.night]

    @property
    def _names(self) -> list[str]:
        return [link.pipeline.name for link in self.chain]

    def _is_before(self, night: Night) -> bool:
        """Whether calibration of a night is still to be done, so that its science waits."""
        return planner.is_running(night, self._before_science) or self._has_open(night, self._before_science)

    def _has_open(self, subject: Subject, chain: Sequence[ChainEntry]) -> bool:
        return next(planner.open_steps(subject, chain, self.max_retries), None) is not None

    def _settle_science(self, nights: dict[str, Night]) -> None:
        """Set the signature of the results of nights whose science has ended since the last call."""
        unsettled = [name for name, night in nights.items() if not night.science]
        if not unsettled or len(self._at_any_time) == len(self.night_chain):
            return
        busy = self.store.observations.open_nights(self._names)
        for name in set(unsettled) - busy:
            self.store.nights.set_fields(name, {paths.SCIENCE_SIGNATURE: self.store.observations.findings(name)})
            nights[name] = Night(self.store.nights.find(name) or nights[name].document)

    def pending(self, never_packed: Collection[str]) -> bool:
        """Whether something is due, now or later; observations in `never_packed` do not count."""
        return any(self._is_pending(subject, context, never_packed) for subject, context in self.subjects())

    def _is_pending(self, subject: Subject, context: NightContext, never_packed: Collection[str]) -> bool:
        chain = self.chain_now(subject)
        return (
            self._has_open(subject, chain)
            or next(planner.stale(subject, chain, context), None) is not None
            or any(subject.pipeline(link.pipeline.name).force_redo for link in chain)
            or (isinstance(subject, Observation) and not subject.packed and subject.id not in never_packed)
        )

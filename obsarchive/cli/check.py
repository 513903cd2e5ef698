"""List what is due: ``obsarchive daemon --check``. Reads everything, changes nothing."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from obsarchive.cli.console import say
from obsarchive.config.model import Config, Server
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Night, Observation, utc_now
from obsarchive.core.raw_problems import by_kind, listed
from obsarchive.core.step_state import State
from obsarchive.core.values import as_mapping, plain_text
from obsarchive.daemon import planner
from obsarchive.daemon.ingest import Ingest
from obsarchive.daemon.leader import check_database
from obsarchive.daemon.night_context import Library, Subject
from obsarchive.daemon.night_files import files_after_look, signatures
from obsarchive.daemon.raw_copies import differing_listings
from obsarchive.daemon.raw_scanner import Listing, Scanner, signature
from obsarchive.daemon.tasks import context_of, own_masters
from obsarchive.database.connect import open_store
from obsarchive.database.server_version import support_of
from obsarchive.instruments import Kind
from obsarchive.pipeline import Pipeline, Step
from obsarchive.pipeline.chain import ChainEntry, decision_chain
from obsarchive.store import Store

ALADIN_LITE = "3.8.2"
"""Version of Aladin Lite that the sky viewer was tried with."""


def check(config: Config, nights: tuple[str, ...]) -> int:
    """Check the configuration and the database, and print night by night which steps are due.

    Parameters
    ----------
    config : Config
        The archive's configuration.
    nights : tuple of str
        Nights ``yyyymmdd``; empty for all.

    Returns
    -------
    int
        Exit code.
    """
    whole_chain = decision_chain(config)
    chain = [link for link in whole_chain if link.pipeline.scope == "observation"]
    with open_store(config) as store:
        check_database(Layout(config.paths.archive), store)
        say(f"{config.source}: valid; pipelines: {', '.join(link.pipeline.name for link in chain)}; {_server(store)}\n")
        say(_sky_viewer(config.server))
        every: list[Listing] = []
        for root in config.paths.raw:
            scanner = Scanner(root, config.daemon.settle_time_s, f"{config.daemon.archiving_start_date:%Y%m%d}")
            try:
                listings = list(scanner.changed(set(nights) or None))
                say("".join(f"{root.path}: {text}\n" for text in scanner.not_looked_at()))
            except OSError as err:
                say(f"{root.path}: cannot be read: {err.strerror}\n")
                continue
            every += listings
        due = _DueSteps(config, store, whole_chain)
        by_night: dict[str, list[Listing]] = {}
        for listing in every:
            by_night.setdefault(listing.night, []).append(listing)
        for of_night in by_night.values():
            say("".join(due.report(of_night)))
        say("".join(f"{line}\n" for line in differing_listings(every)))
    return 0


def _server(store: Store) -> str:
    version = store.server_version
    support = support_of(version, utc_now().date())
    return f"MongoDB {version}{f' ({support})' if support else ''}"


def _sky_viewer(server: Server) -> str:
    """Say that the sky viewer is configured, but not there."""
    if server.aladin_lite is None or server.aladin_script is not None:
        return ""
    missing = f"server.aladin_lite: {server.aladin_lite} has no dist/aladin.js, so there is no sky viewer"
    return f"{missing}; run `npm install aladin-lite@{ALADIN_LITE}` and name its folder node_modules/aladin-lite\n"


class _DueSteps:
    """Says what is due for nights and their observations.

    Parameters
    ----------
    config : Config
        The configuration.
    store : Store
        The database.
    chain : sequence of ChainEntry
        All pipelines.
    """

    def __init__(self, config: Config, store: Store, chain: Sequence[ChainEntry]) -> None:
        self.store, self.chain = store, chain
        self.ingest, self.max_retries = Ingest(config, store), config.daemon.max_retries
        self._of_observations = [link for link in chain if link.pipeline.scope == "observation"]
        self._masters = own_masters(store.nights.all())

    def report(self, listings: Sequence[Listing]) -> Iterator[str]:
        """Yield what is due for a night and what each of its raw folders holds; the night's own steps come first."""
        found = [list(_documents(listing, self.store, self.ingest)) for listing in listings]
        night = self._night(listings, [observation for group in found for observation in group])
        own, awaits_calibration = self._of_night(night)
        awaits_references = _awaits_references(night, self.chain)
        for listing, observations in zip(listings, found, strict=True):
            now, after_calibration, after_references = own, Counter[str](), Counter[str]()
            own = Counter()
            due = (_due(observation, self._of_observations, self.max_retries) for observation in observations)
            for link, step in itertools.chain.from_iterable(due):
                counted = after_references if awaits_references and "library" in step.uses else now
                (after_calibration if awaits_calibration else counted)[_label(link.pipeline, step)] += 1
            words = [f"due now: {_counted(now) or 'nothing'}"]
            later = {"calibration is done": after_calibration, "references are chosen": after_references}
            words += [f"when the night's {event}: {_counted(steps)}" for event, steps in later.items() if steps]
            if listing.growing:
                words.append(f"{len(listing.growing)} file(s) still growing")
            first = f"{listing.night}: {len(listing.observations())} observation(s), {'; '.join(words)}"
            yield "\n  ".join([first, *_taken(listing)]) + "\n"

    def _night(self, listings: Sequence[Listing], observations: Iterable[Observation]) -> Night:
        """Return a night as the daemon would see it, with the files of all its raw folders."""
        name = listings[0].night
        document = self.store.nights.find(name) or {"_id": name}
        files: Sequence[Mapping[str, Any]] = Night(document).raw_entries()
        for listing in listings:
            files = files_after_look(listing, files, self.ingest.raw_folders(name))
        needs = {observation.need for observation in observations}
        seen = {"signature": signatures(files), "needs": [need.to_document() for need in needs]}
        raw = {**as_mapping(document.get("raw_data")), **seen}
        return Night({**document, **self.ingest.recorded_night(name, document), "raw_data": raw})

    def _of_night(self, night: Night) -> tuple[Counter[str], bool]:
        """Return the steps of the night itself that are due before its science has ended, and whether that waits."""
        chain = [link for link in self.chain if link.pipeline.scope == "night" and not _follows(link)]
        context = context_of(night, self._masters, Library())
        before = [link for link in chain if link.pipeline.precedes_science]
        due = {(link.pipeline, step) for link, step in _due(night, chain, self.max_retries)}
        due |= set(planner.stale(night, chain, context))
        waits = planner.is_running(night, before) or any(pipeline.precedes_science for pipeline, _ in due)
        return Counter(_label(pipeline, step) for pipeline, step in due), waits


def _label(pipeline: Pipeline, step: Step) -> str:
    return f"{pipeline.name}.{step.name}"


def _follows(link: ChainEntry) -> bool:
    """Whether a pipeline of a night needs what was made of its observations."""
    return link.pipeline.follows_science or any(step.gives for step in link.pipeline.steps.values())


def _counted(steps: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(steps.items()))


def _awaits_references(night: Night, whole_chain: Sequence[ChainEntry]) -> bool:
    """Whether the reference stars of a night are still to be chosen."""
    giving = [(link, step) for link in whole_chain for step in link.pipeline.steps.values() if step.gives]
    records = [night.pipeline(link.pipeline.name).step(step.name) for link, step in giving]
    return any(not night.reductions or record.state in (State.WAITING, State.ENQUEUED) for record in records)


def _taken(listing: Listing) -> Iterator[str]:
    """Say as what the files of a night's raw folder are taken."""
    kinds = Counter(found.raw.kind for found in listing.files)
    words = [f"{kinds[kind]} {kind}" for kind in get_args(Kind) if kinds[kind]]
    if listing.ignored:
        words.append(f"{len(listing.ignored)} ignored ({listed(map(plain_text, listing.ignored))})")
    yield f"{listing.folder}: {', '.join(words) or 'no files'}"
    yield from map(str, by_kind(listing.problems))
    yield from (f"{count} {text}" for text, count in sorted(listing.defaults().items()))


def _due(subject: Subject, chain: Sequence[ChainEntry], max_retries: int) -> Iterator[tuple[ChainEntry, Step]]:
    """Yield the steps that can run at once, and those that a user wants again."""
    requested = list(planner.requested(subject, chain))
    yield from requested
    known = {(link.pipeline.name, step.name) for link, step in requested}
    for link, step in planner.open_steps(subject, chain, max_retries):
        if (link.pipeline.name, step.name) not in known:
            yield link, step


def _documents(listing: Listing, store: Store, ingest: Ingest) -> Iterator[Observation]:
    """Documents of a night's observations; new and changed ones as the daemon would see them."""
    known = {observation.id: observation for observation in store.observations.of_night(listing.night)}
    for name, files in listing.observations().items():
        if name in known and known[name].raw_signature == signature(files):
            yield known[name]
        else:
            yield Observation(ingest.document(listing, name, files))

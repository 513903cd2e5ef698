"""List what is due: ``obsarchive daemon --check``. Reads everything, changes nothing."""

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from obsarchive.cli.console import say
from obsarchive.config.model import Config, Server
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Night, Observation, utc_now
from obsarchive.core.raw_problems import by_kind, listed
from obsarchive.core.step_state import State
from obsarchive.core.values import plain_text
from obsarchive.daemon import planner
from obsarchive.daemon.ingest import Ingest
from obsarchive.daemon.leader import check_database
from obsarchive.daemon.raw_copies import differing_listings
from obsarchive.daemon.raw_scanner import Listing, Scanner, signature
from obsarchive.database.connect import open_store
from obsarchive.database.server_version import support_of
from obsarchive.instruments import Kind
from obsarchive.pipeline import Step
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
            for listing in listings:
                say(_report(listing, whole_chain, store, Ingest(config, store), config.daemon.max_retries))
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


def _report(listing: Listing, whole_chain: list[ChainEntry], store: Store, ingest: Ingest, max_retries: int) -> str:
    present = listing.observations()
    chain = [link for link in whole_chain if link.pipeline.scope == "observation"]
    due: Counter[str] = Counter()
    later: Counter[str] = Counter()
    awaits_references = _awaits_references(listing.night, whole_chain, store)
    for observation in _documents(listing, store, ingest):
        for link, step in _due(observation, chain, max_retries):
            waits = awaits_references and "library" in step.uses
            (later if waits else due)[f"{link.pipeline.name}.{step.name}"] += 1
    waiting = f"; when the night's references are chosen: {_counted(later)}" if later else ""
    growing = f"; {len(listing.growing)} file(s) still growing" if listing.growing else ""
    first = f"{listing.night}: {len(present)} observation(s), due now: {_counted(due) or 'nothing'}{waiting}{growing}"
    return "\n  ".join([first, *_taken(listing)]) + "\n"


def _counted(steps: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(steps.items()))


def _awaits_references(name: str, whole_chain: list[ChainEntry], store: Store) -> bool:
    """Whether the reference stars of a night are still to be chosen."""
    night = Night(store.nights.find(name) or {"_id": name})
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


def _due(observation: Observation, chain: list[ChainEntry], max_retries: int) -> Iterator[tuple[ChainEntry, Step]]:
    """Yield the steps that can run at once, and those that a user wants again."""
    requested = list(planner.requested(observation, chain))
    yield from requested
    known = {(link.pipeline.name, step.name) for link, step in requested}
    for link, step in planner.open_steps(observation, chain, max_retries):
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

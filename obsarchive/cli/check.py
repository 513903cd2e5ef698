"""List what is due: ``obsarchive daemon --check``. Reads everything, changes nothing."""

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from obsarchive.cli.console import say
from obsarchive.config.model import Config
from obsarchive.core.documents import Observation
from obsarchive.core.raw_problems import by_kind, listed
from obsarchive.core.values import plain_text
from obsarchive.daemon import planner
from obsarchive.daemon.ingest import Ingest
from obsarchive.daemon.raw_scanner import Listing, Scanner, signature
from obsarchive.database.connect import open_store
from obsarchive.instruments import Kind
from obsarchive.pipeline import Step
from obsarchive.pipeline.chain import ChainEntry, decision_chain
from obsarchive.store import Store


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
    chain = [link for link in decision_chain(config) if link.pipeline.scope == "observation"]
    with open_store(config) as store:
        say(f"{config.source}: valid; pipelines: {', '.join(link.pipeline.name for link in chain)}\n")
        for root in config.paths.raw:
            scanner = Scanner(root, config.daemon.settle_time_s, f"{config.daemon.archiving_start_date:%Y%m%d}")
            try:
                listings = list(scanner.changed(set(nights) or None))
                say("".join(f"{root.path}: {text}\n" for text in scanner.not_looked_at()))
            except OSError as err:
                say(f"{root.path}: cannot be read: {err.strerror}\n")
                continue
            for listing in listings:
                say(_report(listing, chain, store, Ingest(config, store), config.daemon.max_retries))
    return 0


def _report(listing: Listing, chain: list[ChainEntry], store: Store, ingest: Ingest, max_retries: int) -> str:
    present = listing.observations()
    due: Counter[str] = Counter()
    for observation in _documents(listing, store, ingest):
        due.update(f"{link.pipeline.name}.{step.name}" for link, step in _due(observation, chain, max_retries))
    words = ", ".join(f"{count} {name}" for name, count in sorted(due.items())) or "nothing"
    growing = f"; {len(listing.growing)} file(s) still growing" if listing.growing else ""
    lines = [f"{listing.night}: {len(present)} observation(s), due now: {words}{growing}", *_taken(listing)]
    return "\n  ".join(lines) + "\n"


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

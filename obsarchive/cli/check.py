"""What would be due: ``obsarchive daemon --check``. Reads everything, changes nothing."""

from collections import Counter
from collections.abc import Iterator

from obsarchive.cli.console import say
from obsarchive.config.model import Config
from obsarchive.core.documents import Observation
from obsarchive.daemon import planner
from obsarchive.daemon.ingest import Ingest
from obsarchive.daemon.raw_scanner import Listing, Scanner, signature
from obsarchive.database.connect import open_store
from obsarchive.pipeline.chain import ChainEntry, decision_chain
from obsarchive.store import Store


def check(config: Config, nights: tuple[str, ...]) -> int:
    """Validate the configuration, connect, and say night by night what is due; returns the exit code."""
    chain = [link for link in decision_chain(config) if link.pipeline.scope == "observation"]
    with open_store(config) as store:
        say(f"{config.source}: fine; pipelines: {', '.join(link.pipeline.name for link in chain)}\n")
        for root in config.paths.raw:
            scanner = Scanner(root, config.misc.settle_time_s, f"{config.misc.archiving_start_date:%Y%m%d}")
            try:
                listings = list(scanner.changed(set(nights) or None))
            except OSError as err:
                say(f"{root.path}: cannot be read: {err.strerror}\n")
                continue
            for listing in listings:
                say(_report(listing, chain, store, Ingest(config, store), config.misc.max_retries))
    return 0


def _report(listing: Listing, chain: list[ChainEntry], store: Store, ingest: Ingest, max_retries: int) -> str:
    present = listing.observations()
    due: Counter[str] = Counter()
    for observation in _documents(listing, store, ingest):
        due.update(f"{link.pipeline.name}.{step.name}" for link, step in _due(observation, chain, max_retries))
    words = ", ".join(f"{count} {name}" for name, count in sorted(due.items())) or "nothing"
    growing = f"; {len(listing.growing)} file(s) still growing" if listing.growing else ""
    return f"{listing.night}: {len(present)} observation(s), due now: {words}{growing}\n"


def _due(
    observation: Observation, chain: list[ChainEntry], max_retries: int
) -> Iterator[tuple[ChainEntry, planner.Step]]:
    """Steps that can run at once, all of them again when a person asks for it."""
    for link in chain:
        if observation.pipeline(link.pipeline.name).force_redo and link.applies(observation.document):
            yield from ((link, step) for step in link.pipeline.steps.values())
        else:
            yield from planner.open_steps(observation, [link], max_retries)


def _documents(listing: Listing, store: Store, ingest: Ingest) -> Iterator[Observation]:
    """Documents of a night's observations; new and changed ones as the daemon would see them."""
    known = {observation.id: observation for observation in store.observations.of_night(listing.night)}
    for name, files in listing.observations().items():
        if name in known and known[name].raw_signature == signature(files):
            yield known[name]
        else:
            yield Observation(ingest.document(listing, name, files))

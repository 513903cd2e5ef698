"""Commands on a whole archive: ``redo``, ``rebuild``, ``verify``, ``simulate``."""

from argparse import Namespace

from obsarchive.cli.console import configure, say
from obsarchive.daemon import product_check
from obsarchive.daemon.ingest import Ingest
from obsarchive.database.connect import open_store
from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.names import is_night
from obsarchive.pipeline.chain import decision_chain, steps_of
from obsarchive.simulation import night as demo


def redo(options: Namespace) -> int:
    """Ask for a pipeline, or one of its steps, to be done again."""
    config = configure(options)
    pipeline, _, step = options.what.partition(":")
    chain = decision_chain(config)
    link = next((link for link in chain if link.pipeline.name == pipeline), None)
    if link is None:
        raise ConfigError(f"no pipeline {pipeline!r}; there are {', '.join(entry.pipeline.name for entry in chain)}")
    if step and step not in link.pipeline.steps:
        raise ConfigError(f"{pipeline} has no step {step!r}; it has {', '.join(link.pipeline.steps)}")
    with open_store(config) as store:
        records = store.nights if is_night(options.observation) else store.observations
        if records.find(options.observation) is None:
            raise ConfigError(f"there is no observation or night {options.observation!r} in the database")
        if step and not records.request_step_redo(options.observation, (pipeline, step)):
            raise ArchiveError(f"{options.observation} {options.what} has not ended yet: nothing to do again")
        if not step:
            records.request_redo(options.observation, pipeline)
    say(f"{options.observation} {options.what}: will be done again\n")
    return 0


def rebuild(options: Namespace) -> int:
    """Rebuild the database from the archive tree."""
    config = configure(options)
    with open_store(config) as store:
        store.ensure_indexes(steps_of(decision_chain(config)))
        say(f"{Ingest(config, store).tree()} observation(s) taken up from {config.paths.archive}\n")
        say(f"{len(store.nights.all())} night(s) in the database\n")
    return 0


def verify(options: Namespace) -> int:
    """Compare every product with its checksum."""
    wrong = 0
    for path, what in product_check.verify(configure(options).paths.archive):
        wrong += 1
        say(f"{path} {what}\n")
    say(f"{wrong} product(s) are not as they were made\n" if wrong else "every product is as it was made\n")
    return 1 if wrong else 0


def simulate(options: Namespace) -> int:
    """Write a simulated night of raw files."""
    config = configure(options)
    if not is_night(options.night):
        raise ConfigError(f"--night {options.night}: expected a night written YYYYMMDD")
    night = demo.NightPlan(night=options.night)
    folder = demo.write_night(config.paths.raw[0].path, night)
    demo.write_catalog(config.paths.archive, night)
    say(f"{sum(1 for _ in folder.iterdir())} files in {folder}\n")
    return 0

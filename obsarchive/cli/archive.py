"""``obsarchive redo`` and ``rebuild``: commands that need the pipelines."""

from argparse import Namespace

from obsarchive.cli.console import configure, say
from obsarchive.daemon.ingest import Ingest
from obsarchive.daemon.people_journal import PeopleJournal
from obsarchive.database.connect import open_store
from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.names import is_night
from obsarchive.pipeline.chain import decision_chain, obstacle_to_redo, steps_of


def redo(options: Namespace) -> int:
    """Request a redo of a pipeline, or of one of its steps."""
    config = configure(options, import_classes=True)
    pipeline, _, step = options.what.partition(":")
    chain = decision_chain(config)
    link = next((link for link in chain if link.pipeline.name == pipeline), None)
    if link is None:
        raise ConfigError(f"no pipeline {pipeline!r}; there are {', '.join(entry.pipeline.name for entry in chain)}")
    if step and step not in link.pipeline.steps:
        raise ConfigError(f"{pipeline} has no step {step!r}; it has {', '.join(link.pipeline.steps)}")
    with open_store(config) as store:
        records = store.nights if is_night(options.observation) else store.observations
        document = records.find(options.observation)
        if document is None:
            raise ConfigError(f"there is no observation or night {options.observation!r} in the database")
        if problem := obstacle_to_redo(chain, pipeline, options.observation, document):
            raise ConfigError(problem)
        if step and not records.request_step_redo(options.observation, (pipeline, step)):
            raise ArchiveError(f"{options.observation} {options.what} has not ended yet: nothing to redo")
        if not step:
            records.request_redo(options.observation, pipeline)
    say(f"{options.observation} {options.what}: redo requested\n")
    return 0


def rebuild(options: Namespace) -> int:
    """Rebuild the database from the archive tree."""
    config = configure(options, import_classes=True)
    with open_store(config) as store:
        store.ensure_indexes(steps_of(decision_chain(config)))
        restored = PeopleJournal(store.people, config.database_folder, lambda _: None).take_up()
        say(f"{restored} account(s), token(s), request(s) and entries of the audit log restored\n" if restored else "")
        say(f"{Ingest(config, store).tree()} observation(s) added from {config.paths.archive}\n")
        say(f"{len(store.nights.all())} night(s) in the database\n")
    return 0

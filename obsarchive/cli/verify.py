"""``obsarchive verify``: the products and their checksums."""

import math
from argparse import Namespace
from datetime import timedelta

from obsarchive.cli.console import configure, say
from obsarchive.config.model import Config
from obsarchive.core.archive_paths import Layout
from obsarchive.daemon import product_check
from obsarchive.errors import ConfigError
from obsarchive.names import is_night


def run(options: Namespace) -> int:
    """Compare every product with its checksum; have those made again that differ, if asked to."""
    config = configure(options, import_classes=options.repair)
    archive, wrong = config.paths.archive, 0
    if not archive.is_dir():
        raise ConfigError(f"paths.archive {archive}: there is no such folder; is its disk mounted?")
    for path, what in product_check.verify(archive):
        wrong += 1
        say(f"{path} {what}\n")
    if wrong:
        say(f"{wrong} product(s) are not as they were made\n")
    elif any(is_night(folder.name) for folder in archive.iterdir()):
        say("every product is as it was made\n")
    else:
        say(f"{archive} holds no night yet: if it should, see that its disk is mounted\n")
    if options.repair:
        _repair(config)
    return 1 if wrong else 0


def _repair(config: Config) -> None:
    """Have all made again that differs from the checksums in the database: by the daemon, when it next looks."""
    # Loaded late: they need the pipelines.
    from obsarchive.daemon.checksum_audit import ChecksumAudit
    from obsarchive.daemon.work_queue import WorkQueue
    from obsarchive.database.connect import open_store
    from obsarchive.pipeline.chain import decision_chain

    chain = decision_chain(config)
    of_observations, of_nights = (
        [link for link in chain if link.pipeline.scope == scope] for scope in ("observation", "night")
    )
    with open_store(config) as store:
        queue = WorkQueue(store, of_observations, of_nights, config.daemon.max_retries)
        audit = ChecksumAudit(queue, Layout(config.paths.archive), timedelta(0), rate_mb_s=math.inf)
        for night in store.nights.all():
            for _ in audit.night(night.id):
                pass
        say(f"{audit.n_repaired} step(s) or files are made again by the daemon\n")

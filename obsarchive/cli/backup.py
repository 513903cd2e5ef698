"""``obsarchive backup`` and ``restore``: what the archive tree cannot rebuild, as one file."""

import time
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from obsarchive import __version__
from obsarchive.cli.console import configure, say
from obsarchive.config.model import Config
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import utc_now
from obsarchive.daemon.ingest import Ingest
from obsarchive.daemon.leader import LeaderLock, archive_identifier, give_identifier
from obsarchive.daemon.people_journal import PeopleJournal
from obsarchive.database.connect import open_store
from obsarchive.errors import ConfigError, NotReady
from obsarchive.io.backup_file import check_backup, read_backup, write_backup
from obsarchive.pipeline.chain import decision_chain, steps_of
from obsarchive.store import Act, Backup, Store
from obsarchive.store.people import PROGRAMMES

ATTEMPTS, PAUSE_S = 20, 0.5
"""How often, and how soon, a database is read again in which collections or indexes are just made."""
_OUTCOMES = {
    "restored": "restored",
    "replaced": "replaced by what the backup holds",
    "kept": "were there and stay as they are",
    "unknown": "request(s) left: neither database nor tree hold what they are for",
}


def backup(options: Namespace) -> int:
    """Write a backup; daemon and portal may run."""
    config = configure(options, import_classes=True)
    layout = Layout(config.paths.archive)
    _refuse_to_replace(options.file, layout)
    with open_store(config) as store:
        kept = _backup_of(store, config)
        about = {
            "by": __version__,
            "made": utc_now().isoformat(),
            "archive": archive_identifier(layout) or give_identifier(layout, uuid4().hex),
            "path": str(layout.root),
            "database": config.database.db,
            "one_moment": kept.is_consistent,
        }
        counts = _write(options.file, about, kept)
    say(f"{options.file}: {', '.join(f'{number} {name}' for name, number in sorted(counts.items())) or 'nothing'}\n")
    if not about["one_moment"]:
        say("the database is no replica set: what was changed during the backup may be in it or not\n")
    return 0


def _refuse_to_replace(path: Path, layout: Layout) -> None:
    """Replace backups of this archive only: its disk may not be mounted, or the name be that of something else."""
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}: make it, or mount its disk")
    if path.exists() and check_backup(path).get("archive") != archive_identifier(layout):
        raise ConfigError(
            f"{path} is the backup of another archive, not of {layout.root} as it is now, and is not replaced: "
            "see that paths.archive is right and its disk mounted; otherwise choose another name"
        )


def _write(path: Path, about: Mapping[str, Any], kept: Backup) -> Counter[str]:
    """Write a backup; return the number of documents by collection."""
    for attempt in range(ATTEMPTS):
        counts = Counter[str]()

        def line_of(act: Act, counts: Counter[str] = counts) -> str:
            counts[act.collection] += 1
            return act.to_line()

        try:
            write_backup(path, about, map(line_of, kept.acts()))
        except NotReady:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE_S)
        else:
            break
    return counts


def restore(options: Namespace) -> int:
    """Put a backup back; no daemon may run."""
    config = configure(options, import_classes=True)
    layout = Layout(config.paths.archive)
    about = check_backup(options.file)
    if about.get("archive") != archive_identifier(layout) and not options.other_archive:
        raise ConfigError(
            f"{options.file} is the backup of another archive ({about.get('path')}, made {about.get('made')}), "
            f"not of {layout.root}; to put it back all the same: --other-archive"
        )
    with open_store(config) as store, LeaderLock(layout, store, uuid4().hex):
        store.ensure_indexes(steps_of(decision_chain(config)))
        # The journal is newer than any backup, and counts as complete once there are users.
        newer = PeopleJournal(store.people, config.database_folder, lambda _: None).take_up()
        say(f"{newer} document(s) of people restored from {config.database_folder}\n" if newer else "")
        backup = _backup_of(store, config)
        acts = [Act.from_line(line) for line in read_backup(options.file)]
        # before their observations: without its proprietary period, a programme has that of the archive
        programmes = [act for act in acts if act.collection == PROGRAMMES]
        counts = backup.restore(programmes, overwrite=options.overwrite)
        taken_up = Ingest(config, store).tree()
        say(f"{taken_up} observation(s) added from {layout.root}\n" if taken_up else "")
        others = (act for act in acts if act.collection != PROGRAMMES)
        counts += backup.restore(others, overwrite=options.overwrite)
    for (name, outcome), number in sorted(counts.items()):
        say(f"{name}: {number} {_OUTCOMES[outcome]}\n" if number else "")
    return 0


def _backup_of(store: Store, config: Config) -> Backup:
    chain = decision_chain(config)
    steps = {store.observations: steps_of(chain), store.nights: steps_of(chain, "night")}
    return Backup(store.database, steps)

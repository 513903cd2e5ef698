"""``obsarchive recompress``: raw nights once more, in tiles."""

import logging
from argparse import Namespace
from pathlib import Path

from obsarchive.cli.console import say
from obsarchive.core import logs
from obsarchive.errors import ArchiveError
from obsarchive.io.compression import explained
from obsarchive.io.recompression import packed_name, recompress

log = logging.getLogger(__name__)


def run(options: Namespace) -> int:
    """Pack the raw files of nights into another folder; what is there already stays, so that it may be stopped."""
    logs.set_up(None, "command", "INFO")
    before = after = failed = 0
    for night in options.nights:
        with explained(night):
            wanted = [path for path in sorted(night.iterdir()) if path.is_file() and packed_name(path.name)]
        for number, source in enumerate(wanted, 1):
            target: Path = options.target / night.resolve().name / packed_name(source.name)
            try:
                if not target.exists():
                    recompress(source, target)
                    log.info("%s: %d of %d", target, number, len(wanted))
            except ArchiveError as err:
                failed += 1
                log.warning("%s", err)
                continue
            before += source.stat().st_size
            after += target.stat().st_size
    say(f"{before / 1e9:.3f} GB became {after / 1e9:.3f} GB; {failed} file(s) could not be packed\n")
    return 1 if failed else 0

"""The configuration file while the daemon runs: a valid change is applied between cycles, any other is reported."""

import logging
import os
from pathlib import Path

from obsarchive.config.loading import load
from obsarchive.config.model import Config
from obsarchive.daemon.raw_scanner import open_instrument
from obsarchive.errors import ConfigError
from obsarchive.pipeline.chain import decision_chain

log = logging.getLogger(__name__)

NEEDS_RESTART = "database, paths.archive and paths.logs"


class ConfigWatch:
    """Looks whether the configuration file changed.

    Parameters
    ----------
    config : Config
        The configuration in use.

    Attributes
    ----------
    new : Config or None
        A changed configuration that can be applied.
    problem : str
        Why the file cannot be applied as it is now; empty if it is in use.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.new: Config | None = None
        self.problem = ""
        self._judged = self._before = _version(config.source)

    def look(self) -> None:
        """Read the file if it changed; an editor may still be writing, so it must be the same at two looks."""
        now = _version(self.config.source)
        if now != self._judged and now == self._before:
            self._judged = now
            self._judge()
        self._before = now

    def _judge(self) -> None:
        self.new, self.problem = None, ""
        try:
            read = self._read()
        except ConfigError as err:
            self.problem = str(err)
            log.warning("the changed configuration is not used: %s", err)
            return
        if read != self.config:
            self.new = read
            log.info("%s changed: applied as soon as the steps that run have ended", self.config.source)

    def _read(self) -> Config:
        """Read the file as at a start; raise `ConfigError` for what cannot be used, or not by a running daemon."""
        read = load(self.config.source)
        decision_chain(read)
        for root in read.paths.raw:
            open_instrument(root)
        if _lasting(read) != _lasting(self.config):
            raise ConfigError(f"{self.config.source}: changes of {NEEDS_RESTART} need a restart")
        return read


def _lasting(config: Config) -> tuple[object, ...]:
    """What a running daemon cannot change."""
    return config.database, config.paths.archive, config.paths.logs


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = os.stat(path)  # noqa: PTH116 - one call
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns

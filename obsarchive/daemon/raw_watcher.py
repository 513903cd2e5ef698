"""Observation of all raw folders; new and changed nights are entered into the database."""

import logging
from collections.abc import Sequence
from pathlib import Path

from obsarchive.config.model import Config
from obsarchive.daemon.ingest import Ingest
from obsarchive.daemon.raw_scanner import Listing, Scanner
from obsarchive.errors import ServiceUnavailable
from obsarchive.store import outage_as_error

log = logging.getLogger(__name__)


class RawWatcher:
    """The raw folders of an archive.

    Parameters
    ----------
    config : Config
        Where they are, and the first night that counts.
    ingest : Ingest
        Writes what is found into the database.
    nights : sequence of str, optional
        Only these nights.
    """

    def __init__(self, config: Config, ingest: Ingest, nights: Sequence[str] = ()) -> None:
        first = f"{config.daemon.archiving_start_date:%Y%m%d}"
        self.scanners = [Scanner(root, config.daemon.settle_time_s, first) for root in config.paths.raw]
        self.ingest = ingest
        self.nights = set(nights)
        self._warned: set[Path] = set()

    @property
    def unsettled(self) -> bool:
        """Whether some file may still be growing."""
        return any(scanner.unsettled for scanner in self.scanners)

    @property
    def problems_count(self) -> int:
        """Number of files that are not understood."""
        return sum(scanner.problems_count for scanner in self.scanners)

    def look(self) -> None:
        """Enter what changed since the last call; a folder that cannot be read is tried again later."""
        for scanner in self.scanners:
            try:
                self._warn_of_others(scanner)
                for listing in scanner.changed(self.nights or None):
                    self._take_in(scanner, listing)
            except OSError as err:
                log.warning("raw data in %s cannot be read, looked at again later: %s", scanner.path, err)

    def forget(self) -> None:
        """Have all nights entered again: the database that held them is gone."""
        for scanner in self.scanners:
            scanner.forget_all()

    def _warn_of_others(self, scanner: Scanner) -> None:
        """Log at the first look what of a raw folder is not looked at."""
        if scanner.path not in self._warned:
            self._warned.add(scanner.path)
            for text in scanner.not_looked_at():
                log.warning("raw data in %s: %s", scanner.path, text)

    def _take_in(self, scanner: Scanner, listing: Listing) -> None:
        try:
            with outage_as_error():
                self.ingest.night(listing)
        except ServiceUnavailable:
            scanner.forget(listing.night)
            raise
        except Exception:
            # Whatever a telescope writes must not stop the daemon, nor keep it from the other nights.
            log.exception("night %s: not entered, looked at again", listing.night)
            listing.incomplete = True
        if listing.incomplete:
            scanner.failed(listing.night)
        else:
            scanner.entered(listing.night)

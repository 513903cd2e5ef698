"""Observation of all raw folders; new and changed nights are entered into the database."""

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from obsarchive.config.model import Config
from obsarchive.daemon.ingest import Ingest
from obsarchive.daemon.raw_scanner import Listing, Scanner
from obsarchive.errors import ServiceUnavailable
from obsarchive.store import outage_as_error

log = logging.getLogger(__name__)

SLICE_S = 2.0
"""Time after which a look is interrupted, so that work on what was entered begins [s]."""


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
        self._under_way: Iterator[None] | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether a look has begun and not come to its end."""
        return self._under_way is not None

    @property
    def unsettled(self) -> bool:
        """Whether a look is under way, or some file may still be growing."""
        return self.is_under_way or any(scanner.unsettled for scanner in self.scanners)

    @property
    def problems_count(self) -> int:
        """Number of files that are not understood."""
        return sum(scanner.problems_count for scanner in self.scanners)

    def look(self, seconds: float = SLICE_S) -> bool:
        """Enter what changed since the last call; a folder that cannot be read is tried again later.

        Parameters
        ----------
        seconds : float, optional
            No night is begun after this time [s]; the next call goes on. Of the first ones, work can begin meanwhile.

        Returns
        -------
        bool
            Whether all has been looked at.
        """
        until = time.monotonic() + seconds
        looking, self._under_way = self._under_way or self._nights(), None
        for _ in looking:
            if time.monotonic() >= until:
                self._under_way = looking
                return False
        return True

    def forget(self) -> None:
        """Have all nights entered again: the database that held them is gone."""
        self._under_way = None
        for scanner in self.scanners:
            scanner.forget_all()

    def restore(self) -> None:
        """Enter what the archive tree holds and the database lacks; its raw files are looked for again."""
        self.ingest.tree()
        self.forget()

    def _nights(self) -> Iterator[None]:
        """Look at all raw folders, with a pause after each night that was entered."""
        for scanner in self.scanners:
            try:
                self._warn_of_others(scanner)
                for listing in scanner.changed(self.nights or None):
                    self._take_in(scanner, listing)
                    yield
            except OSError as err:
                log.warning("raw data in %s cannot be read, looked at again later: %s", scanner.path, err)

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

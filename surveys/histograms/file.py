"""Histogram file of a project: it counts exactly the finished sources, each once, even if writers are killed."""

import fcntl
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from obsarchive.errors import ArchiveError
from obsarchive.io.file_locks import FileLock
from surveys.histograms import Histogram

log = logging.getLogger(__name__)

LOCK_WAIT_S = 600.0


class HistogramFile:
    """A histogram file to which several processes add.

    Parameters
    ----------
    path : Path
        The file; one for each configuration.
    lock : Path
        Lock file, held while the histogram is changed.
    """

    def __init__(self, path: Path, lock: Path) -> None:
        self.path, self.lock = path, lock

    def read(self) -> Histogram:
        """Return the histogram of the file; an empty one if it cannot be read, as it can be counted again."""
        try:
            return Histogram.load(self.path) if self.path.exists() else Histogram()
        except ArchiveError as err:
            log.warning("%s; it is counted again", err)
            return Histogram()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self.lock)
        lock.acquire(fcntl.LOCK_EX, LOCK_WAIT_S)
        try:
            yield
        finally:
            lock.release()

    def add(self, part: Histogram) -> None:
        """Add a histogram of some sources.

        If one of them was counted before, its data changed: the file is removed, and `complete` counts all sources
        again.
        """
        if not part.sources:
            return
        with self._locked():
            whole = self.read()
            if whole.sources.isdisjoint(part.sources):
                whole += part
                whole.save(self.path)
            else:
                self.path.unlink(missing_ok=True)

    def complete(self, finished: set[str], count: Callable[[set[str]], Iterable[Histogram]]) -> None:
        """Make the file count the finished sources and no others.

        Parameters
        ----------
        finished : set of str
            Names of the sources.
        count : callable
            Returns histograms of the light curves of some of them.
        """
        with self._locked():
            whole = self.read()
            if whole.sources == finished and self.path.exists():
                return
            if not whole.sources <= finished:
                whole = Histogram()
            lacking = finished - whole.sources
            if lacking:
                log.info("%s: %d sources are counted again", self.path.name, len(lacking))
            for part in count(lacking):
                whole += part
            whole.save(self.path)

"""The histogram of a project on disk: it holds exactly the finished sources, each once, whoever was killed when."""

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
    """A histogram that several processes add to.

    Parameters
    ----------
    path : Path
        The file; one for each configuration.
    lock : Path
        Lock of all who add to it.
    """

    def __init__(self, path: Path, lock: Path) -> None:
        self.path, self.lock = path, lock

    def read(self) -> Histogram:
        """Return what is there; nothing if it cannot be read, for it can be counted again."""
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
        """Add sources; if one of them was counted before, its data changed, and all are counted again by `complete`."""
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
        """Make the file hold the finished sources and no others.

        Parameters
        ----------
        finished : set of str
            Names of the sources.
        count : callable
            Counts the light curves of some of them.
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

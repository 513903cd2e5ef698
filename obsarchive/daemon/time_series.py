"""Time-series photometry in the daemon: frames are downloaded at intervals, datasets with new ones are reduced."""

import logging
import os
import threading
import time
from functools import partial
from pathlib import Path

from obsarchive.config.model import Config
from obsarchive.core.documents import utc_now
from obsarchive.errors import MALFORMED, ArchiveError, ServiceUnavailable
from obsarchive.execution.cluster import Cluster
from obsarchive.store import Store, outage_as_error
from obsarchive.timeseries.batch import Reductions
from obsarchive.timeseries.download.download_config import load
from obsarchive.timeseries.download.run import Intake

log = logging.getLogger(__name__)

STOP_S = 20.0


class TimeSeries:
    """Downloads and reductions in a thread of their own, on the daemon's cluster.

    Parameters
    ----------
    config : Config
        Its section ``intake`` decides whether, what and when.
    store : Store
        The database.
    cluster : Cluster
        Where frames are measured.
    """

    def __init__(self, config: Config, store: Store, cluster: Cluster) -> None:
        self.job, self.store, self.cluster = config.intake, store, cluster
        self.cache = config.paths.tmp / "catalogs"
        self._thread: threading.Thread | None = None
        self._reductions: Reductions | None = None
        self._next_download = self._next_look = 0.0

    @property
    def busy(self) -> bool:
        """Whether a download or reduction runs."""
        return self._thread is not None and self._thread.is_alive()

    def start_if_due(self, interval_s: float) -> None:
        """Start what is due; `interval_s`: pause between two checks for due datasets [s]."""
        now = time.monotonic()
        if self.job.download is None or self.busy or now < min(self._next_download, self._next_look):
            return
        downloads = now >= self._next_download
        self._next_look = now + interval_s
        if downloads:
            self._next_download = now + 3600 * self.job.every_h
        stopping = threading.Event()
        run = partial(self.cluster.each, stopping=stopping)
        self._reductions = Reductions(run, self.store.datasets, self.cache, stopping=stopping)
        self._thread = threading.Thread(
            target=self._work, args=(self._reductions, downloads), name="time series", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop soon, without waiting for the frames in progress; the next start continues."""
        if self._reductions is not None:
            self._reductions.stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _work(self, reductions: Reductions, downloads: bool) -> None:
        try:
            with outage_as_error():
                if downloads:
                    self._try_download(reductions)
                due = [Path(dataset["folder"]) for dataset in self.store.datasets.due(and_failed=downloads)]
                if self.job.reduce and due:
                    for result in reductions.reduce(due, self.job.max_parallel):
                        log.info("%s: %s %s", result.subject, result.state, result.message)
        except (ArchiveError, OSError) as err:
            log.warning("time series: %s; tried again later", err)

    def _try_download(self, reductions: Reductions) -> None:
        """Fetch what is new; a request that cannot be read does not stop the reductions, and is shown in the portal."""
        try:
            self._download(reductions)
        except ServiceUnavailable:
            raise
        except (ArchiveError, OSError, *MALFORMED) as err:
            log.warning("time series: nothing was fetched: %s", err, exc_info=isinstance(err, MALFORMED))
            self.store.frames.note_run(f"nothing was fetched: {err}", [str(err)])

    def _download(self, reductions: Reductions) -> None:
        if self.job.download is None:
            return
        request = load(self.job.download)
        intake = Intake(request, self.store.frames, os.environ, self.store.datasets, reductions.stopping)
        log.info("online archives: %s", intake.run(utc_now()).text())

"""Reductions of many datasets, some side by side, each followed by the upload of its light curve."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from obsarchive.errors import ArchiveError, ConfigError, NotReady
from obsarchive.store import Datasets
from obsarchive.timeseries import config as configuration
from obsarchive.timeseries import tom_upload
from obsarchive.timeseries.names import LIGHT_CURVE
from obsarchive.timeseries.products import label_of, read_light_curve
from obsarchive.timeseries.reduction import Outcome, Reduction, Runner

log = logging.getLogger(__name__)

Told = Callable[[Path, float, str], None]
"""Is told how far a dataset is."""


def _unheard(folder: Path, fraction: float, text: str) -> None:
    log.debug("%s: %.0f %% %s", folder, 100 * fraction, text)


class Reductions:
    """Reduces datasets.

    Parameters
    ----------
    run : Runner
        Where the work is done.
    datasets : Datasets, optional
        Where it is noted.
    cache : Path
        Folder for what online catalogues answer.
    told : callable, optional
        Is told how far each is.
    """

    def __init__(self, run: Runner, datasets: Datasets | None, cache: Path, told: Told = _unheard) -> None:
        self.run, self.datasets, self.cache, self.told = run, datasets, cache, told
        self.stopping = threading.Event()

    def reduce(self, folders: Sequence[Path], max_parallel: int = 1, again: bool = False) -> Iterator[Outcome]:
        """Reduce datasets, at most `max_parallel` side by side; yields how each ended. To be called once."""
        with ThreadPoolExecutor(max_parallel, thread_name_prefix="dataset") as pool:
            try:
                for outcome in pool.map(lambda folder: self._reduce(folder, again), folders):
                    if outcome is not None:
                        yield outcome
            finally:  # Ctrl-C, too: the frames that run are the last ones
                self.stopping.set()

    def _reduce(self, folder: Path, again: bool) -> Outcome | None:
        if self.stopping.is_set():
            return None
        reduction = Reduction(folder, self._runner, lambda news: self._note(folder, news), cache=self.cache)
        wished = self.datasets is not None and self.datasets.begin(folder, reduction.run_id)
        outcome = reduction.reduce(again or wished)
        if outcome.state in ("done", "unchanged"):
            outcome.facts["tom"] = self._upload(folder)
            self._note(folder, {"tom": outcome.facts["tom"]})
        self.told(folder, 1.0, outcome.state)
        return outcome

    def _runner(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Run things until the whole is stopped."""
        for number, value in self.run(function, items):
            if self.stopping.is_set():
                raise NotReady("stopped; the next run goes on")
            yield number, value

    def _note(self, folder: Path, news: Any) -> None:
        if self.datasets is not None:
            self.datasets.note(folder, news)
        if "progress" in news:
            self.told(folder, float(news["progress"]), str(news.get("text", "")))

    def _upload(self, folder: Path) -> str:
        """Upload the light curve if that is wished; says what became of it."""
        try:
            config = configuration.load(folder)
            if not config.tom.upload or config.tom.config_file is None:
                return ""
            table = read_light_curve(folder / LIGHT_CURVE)
            label = label_of(config, table.meta["filter"])
            with tom_upload.Tom(tom_upload.load(config.tom.config_file)) as connection:
                n = connection.upload(config.target.name, label, table)
        except (ArchiveError, ConfigError, OSError) as err:
            log.warning("%s: the light curve was not uploaded: %s", folder, err)
            return f"not uploaded: {err}"
        log.info("%s: %d points of the light curve are in the TOM as %s", folder, n, label)
        return f"{n} points uploaded as {label}"

"""Reductions of many datasets, some side by side, each followed by the upload of its light curve."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from obsarchive.core.progress import ProgressCallback, no_progress
from obsarchive.errors import ArchiveError, ConfigError, NotReady
from obsarchive.execution.work import ResultState, Runner, StepResult
from obsarchive.store import Datasets
from obsarchive.timeseries import config as configuration
from obsarchive.timeseries import tom_upload
from obsarchive.timeseries.names import LIGHT_CURVE
from obsarchive.timeseries.products import label_of, read_light_curve
from obsarchive.timeseries.reduction import Reduction, ReductionResult

log = logging.getLogger(__name__)


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
    progress : ProgressCallback, optional
        Hears how far all of them are.
    stopping : threading.Event, optional
        Ends all when it is set; `run` may know it.
    """

    def __init__(
        self,
        run: Runner,
        datasets: Datasets | None,
        cache: Path,
        progress: ProgressCallback = no_progress,
        stopping: threading.Event | None = None,
    ) -> None:
        self.run, self.datasets, self.cache, self.progress = run, datasets, cache, progress
        self.stopping = stopping or threading.Event()
        self._shares: dict[Path, float] = {}
        """What is done of each dataset, 0 to 1."""

    def reduce(self, folders: Sequence[Path], max_parallel: int = 1, again: bool = False) -> Iterator[ReductionResult]:
        """Reduce datasets, some side by side; to be called once.

        Parameters
        ----------
        folders : sequence of Path
            The datasets.
        max_parallel : int, optional
            How many are reduced side by side at most.
        again : bool, optional
            Measure every frame again.

        Yields
        ------
        StepResult
            How each ended.
        """
        self._shares = dict.fromkeys(folders, 0.0)
        with ThreadPoolExecutor(max_parallel, thread_name_prefix="dataset") as pool:
            try:
                for result in pool.map(lambda folder: self._reduce(folder, again), folders):
                    if result is not None:
                        yield result
            finally:  # Ctrl-C, too: the frames that run are the last ones
                self.stopping.set()

    def _reduce(self, folder: Path, again: bool) -> ReductionResult | None:
        if self.stopping.is_set():
            return None
        reduction = Reduction(folder, self._runner, lambda news: self._note(folder, news), cache=self.cache)
        asked_for = self.datasets is not None and self.datasets.begin(folder, reduction.run_id)
        try:
            result = reduction.reduce(again or asked_for)
            if result.succeeded:
                result.record["tom"] = self._upload(folder)
                self._note(folder, {"tom": result.record["tom"]})
        except Exception as err:  # one dataset must not stop the others
            log.exception("%s: failed", folder)
            why = f"{type(err).__name__}: {err}"
            self._note(folder, {"state": "failed", "reason": why, "finished": datetime.now(UTC)})
            result = StepResult(str(folder), ResultState.FAILED, why, {})
        self._report(folder, 1.0, result.state)
        return result

    def _report(self, folder: Path, fraction: float, text: str) -> None:
        self._shares[folder] = fraction
        self.progress(sum(self._shares.values()) / len(self._shares), f"{'/'.join(folder.parts[-3:])}: {text}")

    def _runner(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Run things until the whole is stopped."""
        for number, value in self.run(function, items):
            if self.stopping.is_set():
                break
            yield number, value
        if self.stopping.is_set():
            raise NotReady("stopped; the next run goes on")

    def _note(self, folder: Path, news: Any) -> None:
        if self.datasets is not None:
            self.datasets.note(folder, news)
        if "progress" in news:
            self._report(folder, float(news["progress"]), str(news.get("text", "")))

    def _upload(self, folder: Path) -> str:
        """Upload the light curve if that is asked_for; says what became of it."""
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

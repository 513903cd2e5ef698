"""Reduction of one dataset: a task for the star catalogue, one for each frame, one for the ensemble.

Valid results are kept, so that a killed reduction resumes where it stopped; a frame that fails
costs itself only.
"""

import hashlib
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from obsarchive import __version__
from obsarchive.core.json_text import parse_json
from obsarchive.errors import ArchiveError, NotReady, ServiceUnavailable, Unprocessable
from obsarchive.execution.work import ResultState, Runner, StepResult
from obsarchive.io import atomic
from obsarchive.io.dataset_lock import DatasetLock, DatasetLockedError, require_run
from obsarchive.science.photometry.aperture import Flag
from obsarchive.science.photometry.source_detection import detect
from obsarchive.timeseries import config as configuration
from obsarchive.timeseries import products, star_catalog
from obsarchive.timeseries.config import ReductionConfig
from obsarchive.timeseries.diagnostics import write_plots
from obsarchive.timeseries.ensemble import Series, combine
from obsarchive.timeseries.frame_photometry import FrameTask, is_measured, measure, signature_of
from obsarchive.timeseries.frame_table import Info, frames_of, read_info, read_planes
from obsarchive.timeseries.names import FRAMES, LOG, RECORD, STAR_CATALOGUE, TABLE
from obsarchive.timeseries.target_position import target_outside

log = logging.getLogger(__name__)

LOG_BYTES = 5_000_000
MOST_CANDIDATES = 7
"""Frames of which the reference frame is chosen."""
WIDE_PX = 1000
"""Of wider frames the middle tells enough."""

StatusCallback = Callable[[Mapping[str, Any]], None]
"""Is called with the fields of the dataset's document that changed: state, progress, measurements."""
ReductionResult = StepResult[dict[str, Any]]
"""Of a dataset; its record holds what was measured."""


def _log_status(fields: Mapping[str, Any]) -> None:
    log.debug("%s", fields)


@dataclass(frozen=True)
class EnsembleTask:
    """A dataset whose frames are measured."""

    folder: Path
    config: ReductionConfig
    infos: tuple[Info, ...]
    failures: Mapping[str, str]
    run: str = ""


@dataclass(frozen=True)
class CatalogueTask:
    """A dataset that needs a star catalogue, and the frames on which it may rest, the best first."""

    folder: Path
    config: ReductionConfig
    candidates: tuple[Info, ...]
    cache: Path
    run: str = ""


class Reduction:
    """Reduces a dataset.

    Parameters
    ----------
    folder : Path
        The dataset, with its ``reduction_config.yaml``.
    run : Runner
        Where the work is done.
    note : StatusCallback
        Hears how far it is.
    cache : Path
        Folder for what online catalogues answer.
    run_id : str
        Name of the run.
    """

    def __init__(
        self, folder: Path, run: Runner, note: StatusCallback = _log_status, *, cache: Path, run_id: str = ""
    ) -> None:
        self.folder, self.run, self.note = folder.absolute(), run, note
        self.cache, self.run_id = cache, run_id or f"{datetime.now(UTC):%Y%m%dT%H%M%S}"

    def reduce(self, again: bool = False) -> ReductionResult:
        """Reduce new and changed frames; an error becomes a result with its reason.

        Parameters
        ----------
        again : bool
            Measure every frame again.

        Returns
        -------
        StepResult
            With the folder and the measurements.
        """
        try:
            with DatasetLock(self.folder, self.run_id), _logged(self.folder):
                return self._guarded(again)
        except DatasetLockedError as err:
            log.info("%s", err)
            return self._result(ResultState.LOCKED, str(err))
        except (ArchiveError, OSError) as err:
            return self._failed(err)

    def _result(self, state: ResultState, message: str = "", measured: dict[str, Any] | None = None) -> ReductionResult:
        return StepResult(str(self.folder), state, message, measured or {})

    def _failed(self, err: Exception) -> ReductionResult:
        log.warning("%s: failed: %s", self.folder, err)
        self.note({"state": "failed", "reason": str(err), "finished": datetime.now(UTC)})
        return self._result(ResultState.FAILED, str(err))

    def _guarded(self, again: bool) -> ReductionResult:
        started = time.monotonic()
        atomic.sweep_unfinished(self.folder)
        self.note({"state": "running", "reason": "", "run": self.run_id, "started": datetime.now(UTC)})
        try:
            measured = self._reduce(again)
        except (NotReady, ServiceUnavailable) as err:
            log.info("%s: %s", self.folder, err)
            self.note({"state": "due", "text": str(err)})
            return self._result(ResultState.STOPPED, str(err))
        except (ArchiveError, OSError) as err:
            return self._failed(err)
        if measured is None:
            self.note({"state": "done", "finished": datetime.now(UTC)})
            log.info("%s: nothing is new", self.folder)
            return self._result(ResultState.UNCHANGED)
        measured["seconds"] = time.monotonic() - started
        self.note({"state": "done", "reason": "", "finished": datetime.now(UTC), "progress": 1.0, **measured})
        log.info("%s: done in %.1f s: %s", self.folder, measured["seconds"], summary(measured))
        return self._result(ResultState.DONE, "", measured)

    def _reduce(self, again: bool) -> dict[str, Any] | None:
        config = configuration.load(self.folder)
        infos, failures = self._infos()
        if not infos:
            raise Unprocessable(
                f"{self.folder}: {len(failures)} frames, none of which can be read"
                + (f"; {next(iter(failures.values()))}" if failures else ": there is no FITS image in this folder")
            )
        digest = self._star_catalogue(config, infos)
        settings = config.digest()
        tasks = [
            FrameTask(self.folder, info.path, config, signature_of(info.path, settings, digest), self.run_id)
            for info in infos
        ]
        record = {} if again else read_record(self.folder)
        signature = _signature([task.signature for task in tasks], failures, config)
        if record.get("signature") == signature and (self.folder / TABLE).exists():
            return None
        if record.get("signature"):
            # the frames are measured anew: if that is not finished, these products must not count as up to date
            atomic.atomic_write(self.folder / RECORD, json.dumps({**record, "signature": ""}, indent=1).encode())
        failures |= self._measure(tasks, record.get("rejected", {}), again)
        rejected = {task.path.name: task.signature for task in tasks if task.path.name in failures}
        self.note({"progress": 0.95, "text": "ensemble"})
        usable = tuple(info for info in infos if info.path.name not in failures)
        log.info("%s: ensemble: %d frames are brought to one scale", self.folder, len(usable))
        measured: dict[str, Any] = self._one(finish, EnsembleTask(self.folder, config, usable, failures, self.run_id))
        _log_frames(self.folder)
        lost = [name for name, why in failures.items() if why.startswith(LOST)]
        text = {
            "signature": signature if not lost else "",
            "rejected": {name: [mark, failures[name]] for name, mark in rejected.items() if name not in lost},
            "failures": failures,
            "version": __version__,
            "run": self.run_id,
            "finished": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}Z",
            **measured,
        }
        atomic.atomic_write(self.folder / RECORD, json.dumps(text, indent=1).encode())
        return measured

    def _infos(self) -> tuple[list[Info], dict[str, str]]:
        """Headers of all frames in the order of their times, and those that cannot be read, with the reason."""
        infos, failures = [], {}
        for path in frames_of(self.folder):
            try:
                infos.append(read_info(path))
            except Unprocessable as err:
                failures[path.name] = str(err)
        failures |= _of_other_filters(infos, self.folder.name)
        for reason in failures.values():
            log.warning("%s", reason)
        kept = [info for info in infos if info.path.name not in failures]
        return sorted(kept, key=lambda info: (info.mjd_middle, info.stem)), failures

    def _star_catalogue(self, config: ReductionConfig, infos: list[Info]) -> str:
        """Make the star catalogue unless there is one of this configuration; returns its digest."""
        found = star_catalog.load(self.folder / STAR_CATALOGUE)
        is_new = "made before"
        if found is None or found[1] != config.digest():
            self.note({"text": "star catalogue"})
            candidates = self._candidates(config, infos)
            self._one(make_catalogue, CatalogueTask(self.folder, config, tuple(candidates), self.cache, self.run_id))
            found = star_catalog.load(self.folder / STAR_CATALOGUE)
            is_new = "made now"
        if found is None:
            raise ArchiveError(f"{self.folder / STAR_CATALOGUE} was made, but cannot be read")
        log.info("%s: star catalogue: %d stars, from %s, %s", self.folder, len(found[0]), found[0].origin, is_new)
        return found[0].digest()

    def _candidates(self, config: ReductionConfig, infos: list[Info]) -> list[Info]:
        """Frames on which the star catalogue may rest: the one that is configured, or those with most stars."""
        wanted = config.photometry.reference_image
        if wanted is not None:
            named = [info for info in infos if wanted in (info.path.name, info.stem)]
            if not named:
                raise Unprocessable(f"reference_image {wanted}: there is no such frame in {self.folder}")
            return named
        sharp = sorted(infos, key=lambda info: (not info.fwhm_arcsec > 0, info.fwhm_arcsec))
        step = max(1, len(infos) // MOST_CANDIDATES)
        some = sharp[:MOST_CANDIDATES] if sharp[0].fwhm_arcsec > 0 else infos[::step][:MOST_CANDIDATES]
        if len(some) == 1:
            return some
        counts = {i: value for i, value in self.run(count_stars, some) if isinstance(value, int)}
        return [some[i] for i in sorted(counts, key=lambda i: (-counts[i], i))] or some

    def _measure(self, tasks: list[FrameTask], rejected: Mapping[str, Any], again: bool) -> dict[str, str]:
        """Measure frames; returns those that failed, by name, with the reason."""
        failures, due = {}, []
        for task in tasks:
            known = rejected.get(task.path.name, ("", ""))
            if not again and known[0] == task.signature:
                failures[task.path.name] = known[1]
            elif again or not is_measured(task):
                due.append(task)
        log.info("%s: %d frames, %d to be measured", self.folder, len(tasks), len(due))
        for done, (i, value) in enumerate(self.run(measure, due), 1):
            name = due[i].path.name
            if isinstance(value, Unprocessable):
                failures[name] = str(value)
            elif isinstance(value, BaseException):
                failures[name] = f"{LOST}: {type(value).__name__}: {value}"
            if name in failures:
                log.warning("not measured: %s", failures[name])
            else:
                log.info("%s: %s", name, measured_in_words(value))
            self.note({"progress": 0.05 + 0.9 * done / len(due), "text": f"frame {done} of {len(due)}"})
        return failures

    def _one(self, function: Callable[[Any], Any], item: Any) -> Any:
        """Run one thing where the work is done; its exception is raised here."""
        for _, value in self.run(function, [item]):
            if isinstance(value, ArchiveError | OSError):
                raise value
            if isinstance(value, BaseException):
                raise ArchiveError(f"{LOST}: {type(value).__name__}: {value}") from value
            return value
        raise ArchiveError(f"{LOST}: no answer")


LOST = "not worked through"
"""No fault of the frame: it is tried again next time."""


def count_stars(info: Info) -> int:
    """Return the number of stars in the middle of a frame: the sharper and deeper, the more; on a worker."""
    image = read_planes(info, None).image
    ny, nx = image.shape
    middle = image[ny // 4 : ny - ny // 4, nx // 4 : nx - nx // 4] if min(ny, nx) > WIDE_PX else image
    return len(detect(middle, threshold=star_catalog.BRIGHT_SNR))


def make_catalogue(task: CatalogueTask) -> None:
    """Make the star catalogue from the first frame that can carry it; on a worker."""
    older = star_catalog.load(task.folder / STAR_CATALOGUE)
    problems = []
    for info in task.candidates:
        try:
            found = star_catalog.build(info, task.config, task.cache, older[0] if older else None)
        except Unprocessable as err:
            problems.append(f"{info.path.name}: {err}")
            continue
        require_run(task.folder, task.run)
        found.save(task.folder / STAR_CATALOGUE, task.config.digest())
        return
    raise Unprocessable(f"no frame can be the reference frame: {problems[0]} ({len(problems)} tried)")


def finish(task: EnsembleTask) -> dict[str, Any]:
    """Combine all frames and write every product, on a worker; return the results."""
    loaded = star_catalog.load(task.folder / STAR_CATALOGUE)
    if loaded is None:
        raise ArchiveError(f"{task.folder / STAR_CATALOGUE} is gone")
    if not task.infos:
        raise Unprocessable(f"none of the frames could be measured; {next(iter(task.failures.values()))}")
    series = combine(task.folder, loaded[0], task.infos, task.config)
    _check_target(series)
    require_run(task.folder, task.run)
    products.write_all(task.folder, series, task.config, task.failures, list(task.infos))
    write_plots(task.folder, series, task.config)
    target = series.stars.target
    return {
        "n_frames": len(task.infos) + len(task.failures),
        "n_measured": len(task.infos),
        "n_failed": len(task.failures),
        "n_bad": int(series.bad_frames.sum()),
        "n_stars": len(series.stars),
        "n_points": int(series.is_good[target].sum()),
        "filter": products.filter_of(series),
        "zero_point": series.zero_point.value,
        "zero_point_error": series.zero_point.error,
        "zero_point_scatter": series.zero_point.scatter,
        "zero_point_stars": series.zero_point.n_stars,
        "error_factor_max": series.error_model.range[1],
        "catalogue": series.stars.origin,
        "proposals": sorted({str(info.header["PROPID"]) for info in series.infos if info.header.get("PROPID")}),
        "first_mjd": float(series.times.mjd_utc[0]),
        "last_mjd": float(series.times.mjd_utc[-1]),
    }


def measured_in_words(facts: Mapping[str, float]) -> str:
    """Return what :func:`measure` found on a frame in one line."""
    return (
        f"seeing {facts['seeing_arcsec']:.2f} arcsec, {facts['n_matched']:.0f} stars matched with an rms of "
        f"{facts['rms_arcsec']:.3f} arcsec, sky {facts['sky']:.4g} counts/s/pixel"
    )


def _log_frames(folder: Path) -> None:
    """Log the zero point of each frame, and why one is bad."""
    for row in Table.read(folder / FRAMES, format="ascii.ecsv"):
        if row["state"] == "failed":
            continue
        words = f"zero point {row['offset']:+.4f} +- {row['offset_err']:.4f} mag relative to the mean"
        bad = f", bad: {row['reason']}" if row["state"] == "bad" else ""
        log.info("%s: %s, 5-sigma limit %.2f mag%s", row["frame"], words, row["limit"], bad)


def _of_other_filters(infos: Sequence[Info], folder: str) -> dict[str, str]:
    """Return the frames of another filter than most, with the reason; if as many are of each, the folder decides."""
    of = {info.path.name: str(info.header.get("FILTER") or "").strip() for info in infos}
    n_of = Counter(name for name in of.values() if name)
    if len(n_of) < 2:
        return {}
    usual = max(n_of, key=lambda name: (n_of[name], name == folder))
    return {
        frame: f"{frame}: FILTER is {name!r}, {n_of[usual]} frames of this dataset have {usual!r}: move it into a "
        f"dataset of its own"
        for frame, name in of.items()
        if name not in ("", usual)
    }


def _check_target(series: Series) -> None:
    """Refuse a target that is on none of the frames: its coordinates are wrong."""
    stars, target = series.stars, series.stars.target
    is_off = (series.flags[target] & int(Flag.EDGE) > 0) | ~np.isfinite(series.y[target])
    others = np.arange(len(stars)) != target
    if is_off.all() and others.any():
        position = float(stars.ra[target]), float(stars.dec[target])
        raise Unprocessable(target_outside(position, (stars.ra[others], stars.dec[others])))


def read_record(folder: Path) -> dict[str, Any]:
    """Return what is recorded of the last reduction; empty if there is nothing."""
    try:
        return dict(parse_json((folder / RECORD).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def summary(measured: Mapping[str, Any]) -> str:
    """Return the results of a reduction in one line."""
    words = f"{measured['n_stars']} stars on {measured['n_measured']} of {measured['n_frames']} frames"
    if measured["n_bad"]:
        words += f", {measured['n_bad']} of them bad"
    if measured["n_failed"]:
        words += f", {measured['n_failed']} failed"
    if measured["zero_point_stars"]:
        words += f"; zero point {measured['zero_point']:.3f} from {measured['zero_point_stars']} stars"
    return words


def _signature(frames: Sequence[str], failures: Mapping[str, str], config: ReductionConfig) -> str:
    """Stands for everything that a dataset's products rest on."""
    text = json.dumps([list(frames), sorted(failures), config.tom.data_label, config.target.name, __version__])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@contextmanager
def _logged(folder: Path) -> Iterator[None]:
    """Write what this thread logs into the dataset's own log, too."""
    handler = RotatingFileHandler(folder / LOG, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    handler.formatter.converter = time.gmtime  # type: ignore[union-attr]
    thread = threading.get_ident()
    handler.addFilter(lambda record: record.thread == thread)
    root = logging.getLogger("obsarchive")
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()

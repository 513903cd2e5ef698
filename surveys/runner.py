"""Run of a project: selection of the sources that are due, RA zone by RA zone, under locks between processes."""

import fcntl
import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from obsarchive.config.model import Parallel
from obsarchive.core.processes import this_process
from obsarchive.core.progress import Bar
from obsarchive.errors import ArchiveError
from obsarchive.execution.work import Runner, run_locally
from obsarchive.io.file_locks import FileLock
from obsarchive.store import Results, Surveys, check_documents
from surveys.database import find_config
from surveys.dataset import Document
from surveys.display import card, line
from surveys.formats.hdf5_light_curves import PhotometryFile
from surveys.histograms import Histogram
from surveys.histograms.file import HistogramFile
from surveys.missing_files import lost_on_disk
from surveys.observatory.base import zone_of
from surveys.observatory.downloads import reason_of, tried
from surveys.observatory.raw_storage import Downloaded, Row
from surveys.places import apart_arcsec
from surveys.properties import Properties
from surveys.source import Source
from surveys.worker import Zone, ZoneRecord, work_on

if TYPE_CHECKING:
    from surveys.project import Project

log = logging.getLogger(__name__)

RAW_FIELDS = ("source_name", "observatory", "state", "filename", "filekey", "checksum", "place", "origin")
FAR_ARCSEC = 60.0
"""Entries of the same name that are farther apart are different sources."""
LEAST_FOR_WORKERS = 2000
"""Fewer sources take less time than the start of workers."""
SUSPICIOUSLY_EMPTY = 5
"""If so many sources were fetched and all are empty, the configuration may be wrong."""
WAIT_S, NOTE_S = 0.5, 2.0
LEAST_IN_TASK, MOST_TASKS = 25, 200
"""Sources of a task, and tasks of an RA zone. A stop loses the sources that are not committed: those of a task, and
fewer than as many before it; a zone of very many sources has larger tasks, as each of them writes its file again."""


class Run:
    """A call of ``Project.run``.

    Attributes
    ----------
    fetched, empty, analysed, detections : int
        Numbers of sources fetched, of those of them that have no data, of sources analysed, and of real events.
    failures : list of (str, str)
        Names of failed sources, with the reasons.
    remarks : list of (str, str)
        Names of sources whose photometry is odd, with what a person should know of it.
    """

    def __init__(
        self,
        project: "Project",
        surveys: Surveys,
        retry_failed: bool,
        stages: Sequence[str],
        again: float | None = None,
    ) -> None:
        unknown = set(stages) - {"fetch", "reduce", "analyze"}
        if unknown:
            raise ArchiveError(f"no stage {sorted(unknown)}: fetch, reduce, analyze")
        self.project, self.surveys, self.retry_failed, self.stages = project, surveys, retry_failed, stages
        self.again = again
        self.recipe = project.recipe("analyze" in stages)
        self.locks = self.recipe.root / self.recipe.run / ".locks"
        self.fetched = self.empty = self.analysed = self.detections = 0
        self.failures: list[tuple[str, str]] = []
        self._gave_up: dict[str, ArchiveError] = {}
        self._lost: list[str] = []
        self.remarks: list[tuple[str, str]] = []
        self._project_of: dict[str, str] = {}
        self._fetched_of: Counter[str] = Counter()
        self._empty_of: Counter[str] = Counter()
        self._bar = Bar(f"project {project.name}")
        self._gone: set[str] = set()
        self._n_due = 0
        self._n_seen = self._n_reported = 0
        self._next_note = 0.0
        self._histogram = Histogram()
        self._histogram_file = HistogramFile(project.histogram_path, self.locks / "histogram")

    def _facts(self) -> dict[str, Any]:
        names = ("fetched", "empty", "analysed", "detections")
        return {**{name: getattr(self, name) for name in names}, "failed": len(self.failures)}

    __repr__ = line
    _repr_html_ = card

    def go(self, chosen: Sequence[int]) -> None:
        """Process the sources of the catalogue that are due, among those of the given row numbers."""
        catalog = self.project.catalog
        self.locks.mkdir(parents=True, exist_ok=True)
        self._forget_moved()
        due = self._due(chosen)
        self._n_due = len(due)
        self._warn_of_others()
        zones: dict[int, list[int]] = {}
        ra, _ = catalog.places()
        for i in due:
            zones.setdefault(zone_of({"ra": ra[i]}), []).append(i)
        with ExitStack() as stack:
            each = self._workers(stack) if due and self._works else run_locally
            waiting = sorted(zones)
            while waiting:
                batch: list[int] = []
                with self._locked(waiting, zones) as mine:
                    for zone in mine:
                        batch += zones[zone]
                    if mine:
                        self._batch(batch, each)
                waiting = [zone for zone in waiting if zone not in mine]
                if waiting and not mine:
                    time.sleep(WAIT_S)  # the remaining zones are locked by other processes
            self._warn_of_empty()
            if problems := [*map(str, self._gave_up.values()), *self._lost]:
                raise ArchiveError("; ".join(problems))
            if "analyze" in self.stages:
                finished = self.surveys.finished(self.recipe.run, self.recipe.cfg_hash, "done")
                self._histogram_file.complete(finished, lambda names: self._count(names, each))

    def _warn_of_empty(self) -> None:
        for name, n_fetched in self._fetched_of.items():
            if n_fetched >= SUSPICIOUSLY_EMPTY and self._empty_of[name] == n_fetched:
                log.warning(
                    "%s: all %d sources that were fetched are empty: if that is wrong, correct the configuration "
                    "and run again with --again (again=0.0 in Python)",
                    name,
                    n_fetched,
                )

    def _forget_moved(self) -> None:
        """Remove the results of sources that have moved in the catalogue since their photometry was fetched."""
        run, digest = self.recipe.run, self.project.catalog.cat_hash
        if (self.surveys.run(run) or {}).get("cat_hash") == digest:
            return  # what another project fetched since is stale
        for observatory in self.recipe.observatories:
            self.surveys.place_older(observatory.name)
        names = sorted(self.project.moved())
        files: dict[str, list[str]] = {}
        for curve in self.surveys.named("lightcurves", names, {"run": run}, ["filename", "filekey"]):
            files.setdefault(curve["filename"], []).append(curve["filekey"])
        # files first, and the hash last: if the process is killed in between, this is done again
        for filename, keys in files.items():
            PhotometryFile(self.recipe.root / run / filename).remove(keys)
        if names:
            self.surveys.forget_results(run, names)
        self.surveys.note_run(run, {"cat_hash": digest})

    def _due(self, chosen: Sequence[int]) -> list[int]:
        """Return the row numbers of unfinished sources, and of those whose raw photometry expired."""
        names = self.project.catalog.names
        recipe = self.recipe
        finished = self.surveys.finished(recipe.run, recipe.cfg_hash) if recipe.analysis else set()
        for observatory in recipe.observatories if "fetch" in self.stages else ():
            finished -= observatory.expired(self.again)
            finished -= observatory.altered([names[i] for i in chosen if names[i] in finished])
            if self.retry_failed:
                finished -= {found["source_name"] for found in self.surveys.failed(observatory.name)}
        if self.retry_failed:
            query = {"run": recipe.run, "state": "failed"}
            finished -= {found["source_name"] for found in self.surveys.find("properties", query)}
        self._gone = lost_on_disk(self.surveys, recipe, "fetch" in self.stages) & finished
        if self._gone:
            log.warning(
                "%s: data of %d finished sources are missing on disk; they are made again",
                self.project.name,
                len(self._gone),
            )
        finished -= self._gone
        return [i for i in chosen if names[i] not in finished]

    def _warn_of_others(self) -> None:
        query = {"run": self.recipe.run, "cfg_hash": {"$ne": self.recipe.cfg_hash}}
        older = self.surveys.count("properties", query) if self.recipe.analysis else 0
        if older:
            log.warning(
                "%s: %d sources were analysed with another configuration or code; they are analysed again "
                "(version_control keeps the results of each)",
                self.project.name,
                older,
            )

    def _workers(self, stack: ExitStack) -> Runner:
        """Return the function of a cluster that processes many RA zones, or of this process."""
        if self.project.pars.num_workers < 1 or self._n_due < LEAST_FOR_WORKERS:
            return run_locally
        from obsarchive.execution.cluster import Cluster  # late: it imports distributed

        config = find_config()
        parallel = (config.parallel if config else Parallel()).model_copy(
            update={"n_workers": self.project.pars.num_workers}
        )
        return stack.enter_context(Cluster(parallel, config.paths.tmp if config else self.recipe.root / ".tmp")).each

    @contextmanager
    def _locked(self, waiting: Sequence[int], zones: dict[int, list[int]]) -> Iterator[list[int]]:
        """Lock enough RA zones for a batch; those that other processes hold are skipped."""
        mine: list[int] = []
        with ExitStack() as held:
            n = 0
            for zone in waiting:
                lock = FileLock(self.locks / f"RA{zone:03d}")
                if not lock.try_acquire(fcntl.LOCK_EX):
                    continue
                held.callback(lock.release)
                mine.append(zone)
                n += len(zones[zone])
                if n >= self.project.pars.batch_size:
                    break
            yield mine

    def _batch(self, indices: Sequence[int], each: Runner) -> None:
        """Fetch, reduce and analyse the sources of RA zones that are locked."""
        # another process may have finished them before this one had the lock
        due = self._still_due(indices)
        rows = self._registered([self.project.catalog.get_row(i) for i in due])
        if "fetch" in self.stages:
            self._fetch(rows)
        if self._works:
            self._work(rows, each)
        self._n_seen += len(indices)
        self._n_reported, self._next_note = self._n_seen * self._parts, 0.0
        self._report_progress(0)
        self._histogram_file.add(self._histogram)
        self._histogram = Histogram()

    def _work(self, rows: Sequence[dict[str, Any]], each: Runner) -> None:
        """Reduce and analyse sources, and commit their results a few at a time, also when the run is stopped."""
        records: list[ZoneRecord] = []
        try:
            for record in self._worked(rows, each):
                records.append(record)
                self._report_progress(len(record.results.names))
                if sum(len(one.results.names) for one in records) >= LEAST_IN_TASK:
                    waiting, records = records, []
                    self._commit(waiting)
        finally:
            if records:
                self._commit(records)

    @property
    def _works(self) -> bool:
        """Whether light curves are made, not only downloads."""
        return not {"reduce", "analyze"}.isdisjoint(self.stages)

    @property
    def _parts(self) -> int:
        """Number of units of progress for a source: one for each download, and one for the rest."""
        return self._works + ("fetch" in self.stages) * len(self.recipe.observatories)

    def _report_progress(self, n_parts: int) -> None:
        """Report progress at intervals; `n_parts` more units of it are done."""
        self._n_reported += n_parts
        if time.monotonic() < self._next_note:
            return
        self._next_note = time.monotonic() + NOTE_S
        fraction = self._n_reported / max(1, self._n_due * self._parts)
        text = f"{self._n_seen} of {self._n_due} sources, {self.detections} events, {len(self.failures)} failed"
        self._bar.show(fraction, text)
        # with its state: another process that ran the project at the same time may have ended
        news = {"state": "running", "process": this_process(), "progress": fraction, "text": text}
        self.surveys.note_run(self.recipe.run, news)

    def _still_due(self, indices: Sequence[int]) -> list[int]:
        if not self.recipe.analysis or self.retry_failed:
            return list(indices)
        names = self.project.catalog.names
        query = {"run": self.recipe.run, "cfg_hash": self.recipe.cfg_hash, "stale": False}
        wanted = [names[i] for i in indices]
        done = self.surveys.named("properties", wanted, query, ["source_name"])
        expired = [obs.expired(self.again, wanted) for obs in self.recipe.observatories]
        lost = self._gone.intersection(wanted)
        if lost:  # unless another process has made them meanwhile
            lost = lost_on_disk(self.surveys, self.recipe, "fetch" in self.stages, sorted(lost))
        altered = [obs.altered(wanted) for obs in self.recipe.observatories if "fetch" in self.stages]
        finished = {found["source_name"] for found in done}.difference(lost, *expired, *altered)
        return [i for i in indices if names[i] not in finished]

    def _registered(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Register sources in the database; return those that no other project has elsewhere by the same name."""
        fields = ["ra_deg", "dec_deg", "projects"]
        known = {
            found["_id"]: found for found in self.surveys.named("sources", [row["name"] for row in rows], {}, fields)
        }
        good, documents = [], []
        for row in rows:
            other = known.get(row["name"])
            is_elsewhere = other is not None and _apart(row, other) > FAR_ARCSEC
            is_ours, owner = self._owners(other) if other is not None and is_elsewhere else (True, "")
            if other is not None and owner and is_ours:
                log.warning("%s: the project %s has this source, too; it moves for both", row["name"], owner)
            elif other is not None and owner:
                position = f"{other['ra_deg']:.4f} {other['dec_deg']:+.4f}"
                self._refuse(
                    row,
                    f"another project, {owner}, has a source of this name at {position}: give one of them another name",
                )
                continue
            document = tried(self._source_document, row)
            if isinstance(document, Exception):
                log.warning("%s: %s", row["name"], document)
                self.failures.append((str(row["name"]), reason_of(document)))
                continue
            good.append(row)
            documents.append(document)
        self.surveys.register(documents, self.recipe.run)
        return good

    def _source_document(self, row: dict[str, Any]) -> Document:
        """Return the document of a source, which can be stored."""
        document = Source.from_row({**row, "cat_name": self.project.catalog.origin}).document()
        check_documents([document])
        return document

    def _owners(self, source: Document) -> tuple[bool, str]:
        """Return whether a source belongs to this project, and the name of another that has it; empty if none has."""
        names = {}
        for run in source.get("projects", []):
            if run not in self._project_of:
                self._project_of[run] = str((self.surveys.run(run) or {}).get("name") or "")
            names[run] = self._project_of[run]
        is_ours = self.recipe.run in names or self.project.name in names.values()
        return is_ours, next((name for name in names.values() if name not in ("", self.project.name)), "")

    def _refuse(self, row: Mapping[str, Any], reason: str) -> None:
        """Note a source that cannot be processed, here and in the database; the next run tries it again."""
        name = str(row["name"])
        log.warning("%s: %s", name, reason)
        self.failures.append((name, reason))
        failed = Properties(name, self.recipe.run, self.recipe.cfg_hash, "failed", reason)
        self.surveys.save("properties", [{**failed.document(), "stale": True}])

    def _fetch(self, rows: Sequence[dict[str, Any]]) -> None:
        """Fetch sources; where a download gives up, what was fetched before is still analysed."""
        for observatory in self.recipe.observatories:
            if observatory.name in self._gave_up:
                continue
            missing = observatory.missing(rows, self.retry_failed, self.again)
            self._report_progress(len(rows) - len(missing))
            try:
                for row, raw in observatory.fetch(missing):
                    self._note_fetched(observatory.name, row, raw)
            except ArchiveError as err:
                self._gave_up[observatory.name] = err

    def _note_fetched(self, observatory: str, row: Row, raw: Downloaded) -> None:
        self._report_progress(1)
        if isinstance(raw, Exception):
            self.failures.append((str(row["name"]), f"{observatory}: {reason_of(raw)}"))
        else:
            self._count_fetched(observatory, raw.is_empty)

    def _count_fetched(self, observatory: str, is_empty: bool) -> None:
        self.fetched += 1
        self.empty += is_empty
        self._fetched_of[observatory] += 1
        self._empty_of[observatory] += is_empty

    def _worked(self, rows: Sequence[dict[str, Any]], each: Runner) -> Iterator[ZoneRecord]:
        """Yield the results of the sources that have raw photometry, RA zone by RA zone."""
        raw: dict[str, list[Document]] = {}
        by_name = {str(row["name"]): row for row in rows}
        ours = {observatory.name: observatory for observatory in self.recipe.observatories}
        for found in self.surveys.named("raw_photometry", list(by_name), {"state": {"$ne": "failed"}}, RAW_FIELDS):
            name, observatory = found["source_name"], ours.get(found["observatory"])
            if observatory is None:
                continue
            how = observatory.moved(by_name[name], found)
            if how:
                self._refuse(by_name[name], f"{observatory.name} was fetched for the position {how}: fetch it again")
            elif observatory.read_otherwise(found):
                self._refuse(
                    by_name[name],
                    f"{observatory.name} was fetched with other parameters, or by another project: fetch it again",
                )
            else:
                raw.setdefault(name, []).append(found)
        tasks = [
            Zone(self.recipe, group, {str(row["name"]): raw[str(row["name"])] for row in group})
            for zone in _by_zone(row for row in rows if str(row["name"]) in raw)
            for group in _pieces(zone)
        ]
        yield from self._each(tasks, each)

    def _each(self, tasks: Sequence[Zone], each: Runner) -> Iterator[ZoneRecord]:
        for number, result in each(work_on, tasks):
            if isinstance(result, Exception):
                # a full disk or a dead worker: the sources of this zone remain due, the others go on
                zone = zone_of(tasks[number].rows[0])
                self._lost.append(f"{self.recipe.run}: the work on RA {zone} was lost: {result}; run it again")
                log.error(self._lost[-1])
                self.failures += [(str(row["name"]), reason_of(result)) for row in tasks[number].rows]
            else:
                yield result.record

    def _commit(self, records: Sequence[ZoneRecord]) -> None:
        """Write the results of a batch to the database; their files are complete."""
        results = Results()
        for record in records:
            results += record.results
            self.failures += record.failures
            self.remarks += record.remarks
            if record.histogram is not None:
                self._histogram += record.histogram
        if self.recipe.analysis is None:
            # reduced only: older results of the analysis belong to the same light curves and remain
            self.surveys.replace(self.recipe.run, results, ["lightcurves"])
            return
        self.surveys.replace(self.recipe.run, results)
        self.analysed += len(results.names)
        self.detections += sum(not found["simulated"] for found in results.detections)

    def _count(self, names: set[str], each: Runner) -> Iterator[Histogram]:
        """Yield histograms of the light curves of finished sources."""
        catalog = self.project.catalog
        groups = _by_zone(catalog.get_row(name) for name in sorted(names) if name in catalog)
        for record in self._each([Zone(self.recipe, group, {}, only_count=True) for group in groups], each):
            if record.histogram is not None:
                yield record.histogram


def _by_zone(rows: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return sources grouped by RA zone."""
    groups: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(zone_of(row), []).append(row)
    return list(groups.values())


def _pieces(rows: Sequence[dict[str, Any]]) -> list[Sequence[dict[str, Any]]]:
    """Return the sources of an RA zone in pieces, one for each task."""
    n = max(LEAST_IN_TASK, len(rows) // MOST_TASKS)
    return [rows[start : start + n] for start in range(0, len(rows), n)]


def _apart(row: Mapping[str, Any], other: Document) -> float:
    return apart_arcsec(row["ra"], row["dec"], other["ra_deg"], other["dec_deg"])

"""One run of the intake: ask every archive, fetch what is new, sort it into datasets, keep the ledger."""

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from astropy.io import fits

from obsarchive import __version__
from obsarchive.config.field_types import import_class
from obsarchive.core.progress import ProgressCallback, no_progress
from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.io.atomic import atomic_path, atomic_write
from obsarchive.store import Datasets, Document, Frames
from obsarchive.timeseries.download.dataset_folders import (
    CONFIGURATION,
    INSTRUMENTS,
    Place,
    check_template,
    place_of,
    prepare,
)
from obsarchive.timeseries.download.download_config import ArchiveRequest, Request
from obsarchive.timeseries.download.online_archive import Frame, OnlineArchive, token_of
from obsarchive.timeseries.frame_table import FITS_ERRORS

log = logging.getLogger(__name__)

UNSORTABLE = (ArchiveError, *FITS_ERRORS)
"""What goes wrong with a single frame."""


@dataclass
class Summary:
    """Counts and problems of a run."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the counts and the last problem in one line."""
        words = ", ".join(f"{count} {word}" for word, count in sorted(self.counts.items())) or "nothing new"
        return f"{words}{f'; {len(self.problems)} problem(s), the last: {self.problems[-1]}' if self.problems else ''}"


class Intake:
    """Fetches frames.

    Parameters
    ----------
    request : Request
        What is wanted.
    ledger : Frames
        What is known.
    environment : mapping
        Where tokens are looked for.
    datasets : Datasets, optional
        Where datasets with new frames are noted.
    stopping : Event, optional
        Once it is set, no other frame is begun.
    """

    def __init__(
        self,
        request: Request,
        ledger: Frames,
        environment: Mapping[str, str],
        datasets: Datasets | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self.request, self.ledger, self.environment = request, ledger, dict(environment)
        self.datasets, self.stopping = datasets, stopping or threading.Event()
        self.summary = Summary()
        self._template: Path | None = None  # if it can be used

    def run(self, now: datetime, progress: ProgressCallback = no_progress) -> Summary:
        """Query the archives, fetch new frames and sort them into datasets.

        A failure of an archive or a frame does not stop the others; it is tried again in the next run.

        Parameters
        ----------
        now : datetime
            Present time [UTC].
        progress : callable, optional
            Takes the fraction done and a text.

        Returns
        -------
        Summary
            Counts and problems.
        """
        self._check_template()
        for request in self.request.archives.values():
            if request.active:
                self._ask(request, now, progress)
        self._sort_all()
        self._complete_datasets()
        self._tidy()
        self.write_list()
        self.ledger.note_run(self.summary.text(), self.summary.problems)
        return self.summary

    def _check_template(self) -> None:
        """Report before anything is fetched that datasets will get no configuration."""
        template = self.request.default_red_config
        if template is None:
            return
        try:
            found = check_template(template)
        except ConfigError as err:
            self._complain(f"default_red_config: {err}; new datasets get their configuration once it is mended")
            return
        self._template = template
        if found.tom.upload and found.tom.config_file is not None and not found.tom.config_file.is_file():
            self._complain(f"default_red_config: {template}: tom.config_file: {found.tom.config_file}: no such file")

    def _complete_datasets(self) -> None:
        """Give a configuration to datasets of earlier runs that have none, as their template could not be read."""
        template = self._template
        if template is None:
            return
        done: set[Path] = set()
        for frame in self.ledger.in_state("sorted"):
            path = Path(str(frame.get("path") or ""))
            if path.parent in done or not path.is_file():
                continue
            done.add(path.parent)
            place = place_of(frame, self.request.data_reduction_dir, INSTRUMENTS)
            if place.is_known and not (path.parent / CONFIGURATION).exists():
                self._complete(path, frame, template)

    def _complete(self, path: Path, frame: Document, template: Path) -> None:
        try:
            prepare(path.parent, template, {**frame, **_pointing(path)})
        except UNSORTABLE as err:
            self._complain(f"{path.parent}: no configuration can be made: {err}")
            return
        log.info("%s has a configuration now", path.parent)
        if self.datasets is not None and frame.get("kind") == "image":
            self.datasets.set_due(path.parent, str(frame.get("proposal") or ""))

    def _ask(self, request: ArchiveRequest, now: datetime, progress: ProgressCallback) -> None:
        start, end = self.request.window(now, self.ledger.last_success(request.name))
        try:
            kind = import_class(request.client)
            archive: OnlineArchive = kind(request, token_of(request, self.environment), self.request.timeout_s)
        except (ArchiveError, ValueError) as err:
            self._complain(f"{request.name}: {err}")
            return
        with closing(archive):
            if self._ask_archive(archive, request, (start, end), progress):
                self.ledger.note_success(request.name, end)

    def _ask_archive(
        self,
        archive: OnlineArchive,
        request: ArchiveRequest,
        span: tuple[datetime, datetime],
        progress: ProgressCallback,
    ) -> bool:
        """Fetch what is new of every proposal; whether nothing went wrong."""
        wanted: list[Frame] = []
        problems = 0
        for proposal in request.proposals:
            try:
                wanted += self._new(archive, proposal, span)
            except ArchiveError as err:
                problems += 1
                self._complain(f"{request.name}: {proposal}: {err}")
        return self._fetch_all(archive, wanted, progress) + problems == 0

    def _new(self, archive: OnlineArchive, proposal: str, span: tuple[datetime, datetime]) -> Iterator[Frame]:
        """Frames of a proposal that are not here yet, or whose bytes changed."""
        for frame in archive.frames(proposal, *span):
            facts = {key: value for key, value in asdict(frame).items() if key not in ("archive", "name", "url")}
            if self.ledger.offer(frame.archive, frame.name, facts) == "offered":
                yield frame

    def _fetch_all(self, archive: OnlineArchive, wanted: list[Frame], progress: ProgressCallback) -> int:
        failures = 0
        with ThreadPoolExecutor(self.request.streams) as pool:
            for done, problem in enumerate(pool.map(lambda frame: self._fetch(archive, frame), wanted), 1):
                failures += bool(problem)
                progress(done / len(wanted), f"{done} of {len(wanted)} frames")
        return failures

    def _fetch(self, archive: OnlineArchive, frame: Frame) -> str:
        """Fetch one frame; returns what was wrong, or nothing."""
        if self.stopping.is_set():
            return "stopped"
        folder = self.request.data_download_dir
        path, part = folder / frame.name, folder / f"{frame.name}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            archive.fetch(frame, part)
            part.replace(path)
        except (ArchiveError, OSError) as err:
            self.ledger.note(frame.archive, frame.name, "failed", problem=str(err))
            self._complain(str(err))
            return str(err)
        self.ledger.note(frame.archive, frame.name, "fetched")
        self.summary.counts["fetched"] += 1
        return ""

    def _complain(self, problem: str) -> None:
        log.warning("%s", problem)
        self.summary.problems.append(problem)

    def _sort_all(self) -> None:
        """Move every fetched frame into its dataset, also those that an earlier run skipped because of a lock."""
        for frame in self.ledger.in_state("fetched"):
            place = place_of(frame, self.request.data_reduction_dir, INSTRUMENTS)
            if place.is_locked:
                self.summary.counts["waiting for a locked dataset"] += 1
                log.info("%s waits: a reduction works in %s", frame["name"], place.folder)
                continue
            self._sort(frame, place)

    def _sort(self, frame: Document, place: Place) -> None:
        source = self.request.data_download_dir / frame["name"]
        target = place.folder / frame["name"].removesuffix(".fz")
        try:
            for made in (place.folder / CONFIGURATION, target):
                _sweep(made)
            prepare(place.folder, self.request.default_red_config, {**frame, **_pointing(source)})
            unpack(source, target)
        except UNSORTABLE as err:
            self._note_unsorted(frame, source, err)
            return
        if not place.is_known:
            log.warning("%s lies in %s: its instrument is not known", frame["name"], place.folder)
        self.ledger.note(frame["archive"], frame["name"], "sorted", path=str(target))
        if self.datasets is not None and place.is_known and frame.get("kind") == "image":
            self.datasets.set_due(place.folder, str(frame.get("proposal") or ""))
        self.summary.counts["sorted" if place.is_known else "unsorted"] += 1

    def _note_unsorted(self, frame: Document, source: Path, err: Exception) -> None:
        """Remember why a frame could not be sorted; only one that is not here any more is fetched again."""
        if not source.exists():
            state = "failed"
        elif isinstance(err, OSError) and err.errno is not None:
            state = "fetched"  # the disk is at fault: the next run sorts it
        else:
            state = "unsortable"
        reason = f"cannot be sorted: {err}"
        self.ledger.note(frame["archive"], frame["name"], state, problem=reason, version=__version__)
        self._complain(f"{frame['name']}: {reason}")

    def _tidy(self) -> None:
        """Remove files from the download folder that are in their dataset already, after a killed run."""
        done = {str(frame["name"]) for frame in self.ledger.in_state("sorted")}
        for path in self.request.data_download_dir.glob("*"):
            if path.name.removesuffix(".part") in done:
                path.unlink(missing_ok=True)

    def write_list(self) -> None:
        """Write the list of all fetched frames, one line each."""
        lines = ["file proposal_id object instrument filter dateobs state"]
        for frame in self.ledger.listed():
            moment = frame.get("date_utc")
            date = f"{moment:%Y-%m-%dT%H:%M:%S}" if isinstance(moment, datetime) else "-"
            name, known = frame["name"].removesuffix(".fz"), ("proposal", "target", "instrument", "filter")
            lines.append(" ".join(map(_word, [name, *(frame.get(key) for key in known), date, frame["state"]])))
        _sweep(self.request.frame_list_path)
        atomic_write(self.request.frame_list_path, ("\n".join(lines) + "\n").encode())


def _word(value: Any) -> str:
    """Write a value as one word of a table, as astropy's ``ascii.basic`` reads it."""
    text = str(value) if value not in (None, "") else "-"
    return f'"{text}"' if any(c.isspace() for c in text) else text


def _pointing(path: Path) -> dict[str, Any]:
    """Return the pointing of the telescope, from the first header that has it."""
    with fits.open(path, memmap=False) as hdus:
        header = next((hdu.header for hdu in hdus if "RA" in hdu.header), hdus[0].header)
        return {"ra": header.get("RA"), "dec": header.get("DEC")}


def _sweep(path: Path) -> None:
    """Remove what a killed run left of a file that it was writing."""
    for left in path.parent.glob(f".{path.name}.*.part"):
        left.unlink(missing_ok=True)


def unpack(source: Path, target: Path) -> None:
    """Write a frame as plain FITS, as ``funpack`` does: an image behind an empty primary HDU becomes the primary one.

    Parameters
    ----------
    source : Path
        The frame as the archive delivers it, compressed or not.
    target : Path
        The file to write.

    Raises
    ------
    OSError
        The file is no FITS, or damaged.
    """
    with fits.open(source, memmap=False) as hdus:
        plain: list[Any] = [
            fits.ImageHDU(hdu.data, hdu.header) if isinstance(hdu, fits.CompImageHDU) else hdu.copy() for hdu in hdus
        ]
        if len(plain) > 1 and hdus[0].data is None and isinstance(hdus[1], fits.CompImageHDU):
            plain = [fits.PrimaryHDU(plain[1].data, plain[1].header), *plain[2:]]
        with atomic_path(target) as part:
            fits.HDUList(plain).writeto(part, overwrite=True, output_verify="silentfix+ignore")

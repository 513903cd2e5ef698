"""Pipelines of a whole night: master darks and flats."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from obsarchive.config.model import Calibration as CalibrationSettings
from obsarchive.core.documents import Night
from obsarchive.core.masters import Master
from obsarchive.core.values import as_mappings
from obsarchive.errors import ArchiveError, BadRawData, Lacking, NotReady, Unprocessable
from obsarchive.io import fits_products
from obsarchive.io.atomic import sha256
from obsarchive.io.raw_files import signature
from obsarchive.io.raw_frames import Frames, Sections
from obsarchive.io.raw_headers import read_header
from obsarchive.io.reduction_state import reduction_state
from obsarchive.pipeline import InputKind, Pipeline, Workspace, step
from obsarchive.science.arrays import Float32Array, FloatArray
from obsarchive.science.imaging.combining import Clip, combine
from obsarchive.science.imaging.master_flats import flat_levels, master_flat, unexposed_flats
from pipelines.shared.calibrator import OVERSCAN, require_same_overscan

log = logging.getLogger(__name__)

FLAT_DARK_MODE = "0"
"""Read-out mode of the flats: without electron multiplication."""
SATURATED_FLAT = 0.9
"""Flats brighter than this fraction of the full range are rejected."""


Combine = Callable[[Frames], tuple[Float32Array, dict[str, Any]]]
"""Makes a master of some frames; returns its image and its measured."""
Form = tuple[tuple[int, int], Sections]
"""Shape of the frames of a file, and what of them is kept."""
Inspect = Callable[[Frames], Sequence[str]]
"""Returns why each frame of a file cannot be used; empty for those that can."""


class Calibration(Pipeline):
    """Master darks by mode and master flats by filter, or the nearest night's where there are too few files."""

    name = "calib"
    scope = "night"
    precedes_science = True

    @step(makes=["dark_{mode}.fits"], uses=["dark", "other_darks"])
    def darks(self, work: Workspace) -> dict[str, Any]:
        """Make the master dark of each mode: the sigma-clipped mean of all frames of its files."""
        masters = _NightMasters(work, "dark", _Needed("dark", work.task.calibration))
        for mode, files in _by(work, "dark", "mode").items():
            masters.make(mode, files, lambda frames: _combine_darks(work, frames))
        return masters.finish()

    @step(makes=["flat_{filter}.fits"], uses=["flat", "dark", "master_darks", "other_flats"], follows=["darks"])
    def flats(self, work: Workspace) -> dict[str, Any]:
        """Make the master flat of each filter: the clipped mean of dark-subtracted, normalised flats, with mean 1."""
        masters = _NightMasters(work, "flat", _Needed("flat", work.task.calibration))
        path = work.product(f"dark_{FLAT_DARK_MODE}.fits")
        if not path.exists() and any((m.kind, m.key) == ("dark", FLAT_DARK_MODE) for m in _masters(work)):
            raise NotReady(f"{path} has gone: the flats wait until it is made again")
        dark, header = fits_products.read_fits(path) if path.exists() else (None, {})
        for name, files in _by(work, "flat", "filter").items():
            if dark is None:
                masters.wait(name, files, f"no master dark of mode {FLAT_DARK_MODE} to subtract")
            else:
                masters.make(
                    name,
                    files,
                    lambda frames: _combine_flats(frames, dark, header),
                    lambda frames: _problems_of_flat(frames, dark),
                )
        return masters.finish()


def _no_problem(frames: Frames) -> Sequence[str]:
    return [""] * len(frames)


def _combine_darks(work: Workspace, frames: Frames) -> tuple[Float32Array, dict[str, Any]]:
    clip = Clip(sigma=work.task.calibration.sigma)
    master = combine(frames.rows, len(frames), frames.shape, clip=clip)
    measured = {
        "frames": len(frames),
        "level_adu": master.level,
        "noise_adu": float(np.nanmedian(master.noise)),
        "used_fraction": master.used_fraction,
    }
    return master.image, measured


def _combine_flats(frames: Frames, dark: FloatArray, header: Mapping[str, Any]) -> tuple[Float32Array, dict[str, Any]]:
    if dark.shape != frames.shape:
        raise Unprocessable(f"flats of shape {frames.shape}, but their master dark has {dark.shape}")
    require_same_overscan(header, frames.sections, "the flats")
    master = master_flat(frames.rows, len(frames), frames.shape, dark, saturation=_brightest_flat(frames))
    measured = {
        "frames": master.n_frames,
        "noise_percent": 100 * float(np.nanmedian(master.noise)),
        "used_fraction": master.used_fraction,
    }
    return master.image, measured


def _problems_of_flat(frames: Frames, dark: FloatArray) -> Sequence[str]:
    """Why frames of a file cannot be used for a flat; empty for each that can."""
    if dark.shape != frames.shape:
        return _no_problem(frames)  # reported for all files at once
    levels, noise = flat_levels(frames.rows, len(frames), frames.shape, dark)
    return unexposed_flats(levels, noise, _brightest_flat(frames))


def _brightest_flat(frames: Frames) -> float:
    return SATURATED_FLAT * (frames.saturation or np.inf)


def _masters(work: Workspace) -> Sequence[Master]:
    """Masters of the night."""
    return work.subject.masters() if isinstance(work.subject, Night) else ()


def _by(work: Workspace, kind: InputKind, key: str) -> dict[str, list[Path]]:
    """Raw files of the night of one kind, grouped by mode or filter."""
    night = work.subject
    groups: dict[str, list[Path]] = {}
    if isinstance(night, Night):
        for file in night.raw_files(kind):
            groups.setdefault(str(file.get(key) or ""), []).append(file["path"])
    return dict(sorted(groups.items()))


@dataclass(frozen=True)
class _Needed:
    """How much raw data a master needs: a number of files, or the frames of as many, in fewer files.

    Parameters
    ----------
    kind : str
        ``dark`` or ``flat``.
    calibration : CalibrationSettings
        Configuration of the calibration.
    """

    kind: str
    calibration: CalibrationSettings

    @property
    def files(self) -> int:
        """Files that are enough."""
        return self.calibration.min_darks if self.kind == "dark" else self.calibration.min_flats

    @property
    def frames(self) -> int:
        """Frames that are enough, in any number of files."""
        return self.files * self.calibration.frames_per_file

    def why_not(self, files: int, frames: int, others: str) -> str:
        """Return why some good files and frames are not enough, with a remark on others; empty if they are."""
        if files >= self.files or frames >= self.frames:
            return ""
        return (
            f"{files} good files{others} with {frames} good frames, needed are {self.files} files "
            f"(calibration.min_{self.kind}s) or {self.frames} frames (times calibration.frames_per_file)"
        )


def _otherwise(form: Form, usual: Form) -> str:
    """In which way a file is not like the others."""
    if form[0] != usual[0]:
        return f"frames of {form[0]}, the others have {usual[0]}"
    return f"its trim and overscan sections are {form[1].text}, those of the others {usual[1].text}"


def _made_from(path: Path) -> set[str]:
    """Return the names of the raw files of a master; empty if there is none, or none that can be read."""
    try:
        return set(fits_products.Provenance.from_header(fits_products.read_fits(path)[1]).raw_files)
    except ArchiveError:
        return set()


class _NightMasters:
    """Masters of one kind: made from the night's files, or copied from another night, or missing."""

    def __init__(self, work: Workspace, kind: InputKind, needed: _Needed) -> None:
        self.work, self.kind, self.needed = work, kind, needed
        self.masters: list[dict[str, Any]] = []
        self.excluded: list[dict[str, str]] = []
        self.short: dict[str, str] = {}
        self.waits = False
        """Whether good files wait for something else."""
        # A user may have asked for another night's masters in place of those of this night.
        wanted = work.subject.copies_from if isinstance(work.subject, Night) else ""
        self.copied = {(master.kind, master.key) for master in work.task.masters if master.night == wanted}

    def make(
        self,
        key: str,
        files: Iterable[Path],
        combine_frames: Combine,
        inspect: Inspect = _no_problem,
    ) -> None:
        """Make the master of a mode or filter from its readable files, if there are enough and no copy is wanted."""
        if (self.kind, key) in self.copied:
            return
        listed = list(files)
        files = [path for path in listed if path.exists()]
        if (len(files) < len(listed) or self._names_others(key, files)) and self._keep_former(key):
            return
        self.work.require_present(self.kind, listed)
        usable = self._usable(files, inspect)
        good, others = list(usable), self._others(len(usable), len(files), len(listed))
        short = self.needed.why_not(len(good), sum(usable.values()), others)
        if short:
            self.short[key] = short
            return
        with self.work.frames(self.kind, good) as frames:
            try:
                image, measured = combine_frames(frames)
            except Unprocessable as err:
                self.short[key] = str(err)
                return
            cards = {
                "NCOMBINE": measured["frames"],
                OVERSCAN: (frames.sections.overscan is not None, "overscan was subtracted from the frames"),
            }
        log.info("%s %s: %d frames of %d files", self.kind, key, measured["frames"], len(good))
        master = Master(self.kind, key, image.shape, self._signature(key, image, good), "own", self.work.subject.night)
        self._publish(master, image, cards, good)
        self.masters.append({**master.to_document(), **measured})

    def wait(self, key: str, files: Iterable[Path], why: str) -> None:
        """Note of a mode or filter why no master can be made now, whatever its files are; bad ones are recorded."""
        if (self.kind, key) in self.copied:
            return
        listed = list(files)
        present = [path for path in listed if path.exists()]
        good = len(self._usable(present, _no_problem))
        self.waits |= good > 0
        self.short[key] = f"{good} good files{self._others(good, len(present), len(listed))}, but {why}"

    def _others(self, n_good: int, n_present: int, n_listed: int) -> str:
        """Return what is to be said of files that are bad or gone, beside the good ones."""
        gone = f", {n_listed - n_present} gone from the raw folder" if n_present < n_listed else ""
        n_bad = n_present - n_good
        return gone + (f", {n_bad} bad (the last: {self.excluded[-1]['reason']})" if n_bad else "")

    def _usable(self, files: list[Path], inspect: Inspect) -> dict[Path, int]:
        """Return the files that are complete and agree with most others, with the number of their good frames.

        The rest are recorded with the reason.
        """
        forms: dict[Path, Form] = {}
        good: dict[Path, int] = {}
        for number, path in enumerate(files):
            self.work.progress(number / len(files), f"reading {path.name}")
            try:
                problem = ", ".join(
                    f"{what} applied before: {card}" for what, card in reduction_state(read_header(path)).items()
                )
                with self.work.frames(self.kind, [path]) as frames:
                    reasons = inspect(frames)
                    problem = problem or (reasons[0] if all(reasons) else "")
                    forms[path] = frames.shape, frames.sections
                    good[path] = sum(not reason for reason in reasons)
            except BadRawData as err:
                problem = str(err)
            if problem:
                log.warning("%s rejected: %s", path.name, problem)
                self.excluded.append({"file": path.name, "reason": problem})
                forms.pop(path, None)
        if not forms:
            return {}
        counted = list(forms.values())
        usual = max(set(counted), key=counted.count)
        self.excluded += [
            {"file": path.name, "reason": _otherwise(form, usual)} for path, form in forms.items() if form != usual
        ]
        return {path: good[path] for path, form in forms.items() if form == usual}

    def _publish(self, master: Master, image: FloatArray, cards: Mapping[str, Any], files: Iterable[Path]) -> None:
        header = {"MASTER": master.label, "ORIGIN": master.origin, **cards}
        self.work.publish_fits(f"{master.label}.fits", image, header, raw_files=files)

    def _names_others(self, key: str, files: Sequence[Path]) -> bool:
        """Whether the former master was made from files that have gone and nothing has come since.

        Its header says so where a lost database took the list of these files along.
        """
        path = self.work.product(f"{self.kind}_{key}.fits")
        former = _made_from(path)
        record = self.work.subject.pipeline(self.work.pipeline.name).step(self.work.task.step)
        excluded = {each.get("file") for each in as_mappings(record.results.get("excluded"))}
        present = {file.name for file in files}
        if not former or former <= present or not present <= former | excluded:
            return False
        made = path.stat().st_mtime
        return all(file.stat().st_mtime <= made for file in files)

    def _keep_former(self, key: str) -> bool:
        """Keep this night's own master some of whose files have gone: the rest would make a poorer one."""
        former, path = self._former(key)
        if former is None:
            return False
        image, header = fits_products.read_fits(path)
        cards = {name: header[name] for name in ("NCOMBINE", OVERSCAN) if name in header}
        log.warning("%s: raw files have gone; the master made from them is kept", path.name)
        raw_files = [Path(name) for name in sorted(_made_from(path))]
        self._publish(Master.from_document(former, self.work.subject.night), image, cards, raw_files)
        self.masters.append(dict(former))
        return True

    def _former(self, key: str) -> tuple[Mapping[str, Any] | None, Path]:
        """Return this night's own master that an earlier run made, None if it is not whole any more, and its path."""
        path = self.work.product(f"{self.kind}_{key}.fits")
        record = self.work.subject.pipeline(self.work.pipeline.name).step(self.work.task.step)
        wanted = {"kind": self.kind, "key": key, "origin": "own"}
        masters = as_mappings(record.results.get("masters"))
        former = next((each for each in masters if wanted.items() <= each.items()), None)
        checksums = {product.get("name"): product.get("sha256") for product in record.products}
        is_whole = path.exists() and sha256(path) == checksums.get(path.name)
        return former if is_whole else None, path

    def _signature(self, key: str, image: FloatArray, files: Sequence[Path]) -> str:
        """Return the signature of a master: that of its raw files, or the former one if its pixels are what they were.

        So raw files that were only copied or touched make no science due.
        """
        former, path = self._former(key)
        if former is not None and np.array_equal(fits_products.read_fits(path)[0], image, equal_nan=True):
            return str(former.get("signature", ""))
        return signature(files)

    def _copy_missing(self) -> None:
        """Copy the masters of other nights for modes or filters that this night lacks."""
        made = {master["key"] for master in self.masters}
        for other in self.work.task.masters:
            if other.kind == self.kind and other.key not in made:
                path = self.work.layout.calibration(other.night) / f"{other.label}.fits"
                image, header = fits_products.read_fits(path)
                origin = f"copied from {other.night}"
                log.warning("%s: %s", other.label, origin)
                copy = Master(other.kind, other.key, other.shape, other.signature, origin, self.work.subject.night)
                self._publish(copy, image, {OVERSCAN: header[OVERSCAN]} if OVERSCAN in header else {}, ())
                self.masters.append({**copy.to_document()})

    def finish(self) -> dict[str, Any]:
        """Copy missing masters of other nights and return the results.

        Without any master the step is rejected where files are bad, and waits for more where they are few.
        """
        self._copy_missing()
        short = [{"key": key, "reason": reason} for key, reason in self.short.items()]
        if not self.masters:
            why = "; ".join(f"{item['key']}: {item['reason']}" for item in short) or f"no {self.kind} files"
            message = f"no master {self.kind}: {why}, and no other night has what this night needs"
            if self.excluded and not self.waits:
                raise Unprocessable(message)
            raise Lacking("dark files" if self.waits else f"{self.kind} files", message)
        return {"masters": self.masters, "excluded": self.excluded, "short": short}

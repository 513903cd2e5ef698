"""Work of one Dask task: reduce and analyse the sources of one RA zone and write their light curves.

An RA zone is one whole degree of right ascension; all light curves of a zone lie in one file for each observatory.
"""

import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obsarchive.errors import ArchiveError
from obsarchive.execution.work import ResultState, StepResult
from obsarchive.store import Results, check_documents
from surveys import dataset
from surveys.analysis import Analysis, in_memory
from surveys.dataset import Document, Lightcurve, RawPhotometry
from surveys.formats.hdf5_light_curves import CorruptFileError, PhotometryFile, Record, check_storable
from surveys.histograms import Histogram
from surveys.observatory import VirtualObservatory
from surveys.observatory.base import zone_of
from surveys.observatory.downloads import reason_of, tried
from surveys.properties import Properties
from surveys.source import Source

log = logging.getLogger(__name__)

KEY = re.compile(r"(.*)_(reduction|processed|simulated)_\d+_of_\d+", re.DOTALL)
"""Keys of light curves: the name of the source, which may be any text, kind and number."""


@dataclass(frozen=True)
class Recipe:
    """Parts of a project that workers need.

    Parameters
    ----------
    root : Path
        Folder of all data.
    run, cfg_hash : str
        Folder of the project and hash of its configuration.
    observatories : list of VirtualObservatory
        They reduce the raw photometry.
    analysis : Analysis or None
        Analysis of the light curves; None: reduction only.
    paths : list of str
        Folders in which modules of the user are found.
    """

    root: Path
    run: str
    cfg_hash: str
    observatories: Sequence[VirtualObservatory]
    analysis: Analysis | None
    paths: Sequence[str] = ()


@dataclass(frozen=True)
class Zone:
    """Sources of one RA zone.

    Parameters
    ----------
    recipe : Recipe
        How they are processed.
    rows : list of dict
        The sources, as rows of the catalogue.
    raw : dict of str to list of dict
        Documents of their raw photometry, by the name of the source.
    only_count : bool
        Whether only the histogram of their stored light curves is computed.
    """

    recipe: Recipe
    rows: Sequence[dict[str, Any]]
    raw: dict[str, list[Document]]
    only_count: bool = False


@dataclass
class ZoneRecord:
    """Results of an RA zone: documents, the histogram of its light curves, what failed and what is odd, by source."""

    results: Results = field(default_factory=Results)
    histogram: Histogram | None = None
    failures: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)


def work_on(task: Zone) -> StepResult[ZoneRecord]:
    """Process an RA zone; an error of one source is noted with that source."""
    recipe = task.recipe
    # a worker is a new process: it knows neither the data folder nor where modules of the user are
    dataset.DATA_ROOT = recipe.root
    for path in recipe.paths:
        if path not in sys.path:
            sys.path.append(path)
    record = ZoneRecord(histogram=Histogram() if recipe.analysis else None)
    written: dict[str, dict[str, Record]] = {}
    stored = _Stored(_kept_curves(task)) if task.only_count else _Stored({}, *_read(task))
    for row in task.rows:
        name = str(row["name"])
        processed = tried(lambda one: _processed(task, one, stored, record.histogram), row)
        if isinstance(processed, Exception):
            expected = isinstance(processed, ArchiveError)
            log.warning("%s %s: %s", recipe.run, name, processed, exc_info=None if expected else processed)
            failed = Properties(name, recipe.run, recipe.cfg_hash, "failed", reason_of(processed))
            record.failures.append((name, failed.reason))
            record.results += Results([name], properties=[failed.document()] if recipe.analysis else [])
            continue
        record.results += processed[0]
        odd = [remark for curve in processed[1] for remark in curve.altdata.get("remarks", ())]
        odd += [remark for raw in stored.raw.get(name, ()) for remark in raw.remarks]  # also without a light curve
        record.remarks += [(name, remark) for remark in dict.fromkeys(odd)]
        for curve in processed[1]:
            written.setdefault(curve.filename, {})[curve.filekey] = curve.record
    if not task.only_count:
        _write(recipe, zone_of(task.rows[0]), record.results.names, written)
    return StepResult(f"RA {zone_of(task.rows[0])}", ResultState.DONE, "", record)


@dataclass(frozen=True)
class _Stored:
    """What the files have of the sources of a zone, by their names."""

    curves: dict[str, list[Lightcurve]]
    raw: dict[str, list[RawPhotometry]] = field(default_factory=dict)
    problems: dict[str, ArchiveError] = field(default_factory=dict)


def _processed(
    task: Zone, row: dict[str, Any], stored: _Stored, histogram: Histogram | None
) -> tuple[Results, list[Lightcurve]]:
    """Return all that is stored of a source, checked: nothing of it can stop what is stored with it."""
    recipe, source = task.recipe, Source.from_row(row, task.recipe.run)
    raw = stored.raw.get(source.name, [])
    if task.only_count:
        curves = stored.curves.get(source.name, [])
    else:
        curves = _reduced(recipe, raw, stored.problems.get(source.name))
    kept = _analysed(recipe, in_memory(source, curves))
    inputs = {found.observatory: _checksum(task, source.name, found.observatory) for found in raw}
    results = Results(
        [source.name],
        [curve.document(recipe.cfg_hash) for curve in kept],
        [event.document() for event in source.detections] if recipe.analysis else [],
        [{**source.properties.document(), "inputs": inputs}] if recipe.analysis else [],
    )
    check_documents([*results.lightcurves, *results.detections, *results.properties])
    for curve in kept:
        check_storable(curve.record)
    if recipe.analysis is not None and histogram is not None:
        recipe.analysis.count(histogram, source)
    return results, kept


def _checksum(task: Zone, name: str, observatory: str) -> str:
    return next(str(raw.get("checksum")) for raw in task.raw.get(name, []) if raw["observatory"] == observatory)


def _read(task: Zone) -> tuple[dict[str, list[RawPhotometry]], dict[str, ArchiveError]]:
    """Return the raw photometry of the sources, file by file, and the errors of those that cannot be read."""
    files: dict[tuple[str, str], list[Document]] = {}
    for documents in task.raw.values():
        for document in documents:
            files.setdefault((document["observatory"], document["filename"]), []).append(document)
    found: dict[str, list[RawPhotometry]] = {}
    problems: dict[str, ArchiveError] = {}
    for (observatory, filename), documents in files.items():
        names = {document["filekey"]: document["source_name"] for document in documents}
        file = PhotometryFile(task.recipe.root / observatory / filename)
        try:
            records = list(file.read_many(names))
        except ArchiveError as err:
            problems |= dict.fromkeys(names.values(), err)
            continue
        for key, record in records:
            if isinstance(record, ArchiveError):
                problems[names[key]] = record
            else:
                raw = RawPhotometry(record.columns, record.altdata, observatory=observatory)
                found.setdefault(names[key], []).append(raw)
    return found, problems


def _reduced(recipe: Recipe, raw: Sequence[RawPhotometry], problem: ArchiveError | None) -> list[Lightcurve]:
    if problem is not None:
        raise problem
    by_name = {observatory.name: observatory for observatory in recipe.observatories}
    return [curve for one in raw for curve in by_name[one.observatory].reduce(one)]


def _analysed(recipe: Recipe, source: Source) -> list[Lightcurve]:
    """Return the light curves of a source that are stored after its analysis."""
    curves = list(source.lightcurves)
    if recipe.analysis is None:
        return curves
    recipe.analysis.analyze_source(source, recipe.run, recipe.cfg_hash)
    return curves + source.processed_lightcurves if recipe.analysis.pars.save_processed else curves


def _write(recipe: Recipe, zone: int, names: Sequence[str], written: dict[str, dict[str, Record]]) -> None:
    """Write light curves in place of all older ones of these sources."""
    gone = set(names)
    folder = recipe.root / recipe.run
    # all files of the zone: a source may have fewer light curves than before, or none
    known = {f"{observatory.name}_photometry_RA{zone:03d}_reduced.h5" for observatory in recipe.observatories}
    for filename in sorted({*written, *known}):
        file, records = PhotometryFile(folder / filename), written.get(filename, {})
        there = _readable_keys(file)
        older = [key for key in there if source_of(key) in gone and key not in records]
        if records:
            file.write(records, older)
        elif older:
            file.remove(older)


def _readable_keys(file: PhotometryFile) -> list[str]:
    """Return the keys of a file; none of a damaged one, which the next writer sets aside."""
    try:
        return file.keys()
    except CorruptFileError as err:
        log.warning("%s", err)
        return []


def source_of(key: str) -> str:
    """Return the name of the source to which the key of a light curve belongs."""
    found = KEY.fullmatch(key)
    return found[1] if found else key


def _kept_curves(task: Zone) -> dict[str, list[Lightcurve]]:
    """Return the stored reduced light curves of the sources."""
    recipe = task.recipe
    found: dict[str, list[Lightcurve]] = {}
    wanted = {str(row["name"]) for row in task.rows}
    zone = zone_of(task.rows[0])
    for observatory in recipe.observatories:
        file = PhotometryFile(recipe.root / recipe.run / f"{observatory.name}_photometry_RA{zone:03d}_reduced.h5")
        there = _readable_keys(file)
        matches = ((key, KEY.fullmatch(key)) for key in there)
        keys = [key for key, found in matches if found and found[2] == "reduction" and found[1] in wanted]
        for key, record in file.read_many(keys) if keys else ():
            if isinstance(record, ArchiveError):
                log.warning("%s", record)
                continue
            found.setdefault(source_of(key), []).append(Lightcurve(record.columns, record.altdata, project=recipe.run))
    return found

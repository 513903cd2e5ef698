"""Work of one Dask task: reduce and analyse the sources of one RA zone and write their light curves.

An RA zone is one whole degree of right ascension; all light curves of a zone lie in one file for each observatory.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obsarchive.errors import ArchiveError
from obsarchive.execution.work import ResultState, StepResult
from obsarchive.store import Results
from surveys import dataset
from surveys.analysis import Analysis, in_memory
from surveys.dataset import Document, Lightcurve, RawPhotometry
from surveys.formats.hdf5_light_curves import PhotometryFile, Record
from surveys.histograms import Histogram
from surveys.observatory import VirtualObservatory
from surveys.observatory.base import reason_of, zone_of
from surveys.observatory.downloads import tried
from surveys.properties import Properties
from surveys.source import Source

log = logging.getLogger(__name__)

REDUCTION = "_reduction_"


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
    kept = _kept_curves(task) if task.only_count else {}
    raw, problems = ({}, {}) if task.only_count else _read(task)
    written: dict[str, dict[str, Record]] = {}

    def analyse(one: Source) -> list[Lightcurve]:
        own = raw.get(one.name, [])
        curves = kept.get(one.name, []) if task.only_count else _reduced(recipe, own, problems.get(one.name))
        return _analysed(recipe, in_memory(one, curves), record)

    for row in task.rows:
        name = str(row["name"])
        source = Source.from_row(row, recipe.run)
        analysed = tried(analyse, source)
        if isinstance(analysed, Exception):
            expected = isinstance(analysed, ArchiveError)
            log.warning("%s %s: %s", recipe.run, name, analysed, exc_info=None if expected else analysed)
            failed = Properties(name, recipe.run, recipe.cfg_hash, "failed", reason_of(analysed))
            record.failures.append((name, failed.reason))
            _note(record.results, name, [], [failed.document()] if recipe.analysis else [])
            continue
        odd = dict.fromkeys(remark for curve in analysed for remark in curve.altdata.get("remarks", ()))
        record.remarks += [(name, remark) for remark in odd]
        for curve in analysed:
            written.setdefault(curve.filename, {})[curve.filekey] = curve.record
        inputs = {found.observatory: _checksum(task, name, found.observatory) for found in raw.get(name, [])}
        properties = [{**source.properties.document(), "inputs": inputs}] if recipe.analysis else []
        _note(record.results, name, [curve.document(recipe.cfg_hash) for curve in analysed], properties)
        record.results.detections += [found.document() for found in (source.detections if recipe.analysis else [])]
    if not task.only_count:
        _write(recipe, zone_of(task.rows[0]), record.results.names, written)
    return StepResult(f"RA {zone_of(task.rows[0])}", ResultState.DONE, "", record)


def _note(results: Results, name: str, curves: list[Document], properties: list[Document]) -> None:
    results.names.append(name)
    results.lightcurves += curves
    results.properties += properties


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


def _analysed(recipe: Recipe, source: Source, record: ZoneRecord) -> list[Lightcurve]:
    """Return the light curves of a source that are stored after its analysis."""
    curves = list(source.lightcurves)
    if recipe.analysis is None:
        return curves
    recipe.analysis.analyze_source(source, recipe.run, recipe.cfg_hash)
    if record.histogram is not None:
        recipe.analysis.count(record.histogram, source)
    return curves + source.processed_lightcurves if recipe.analysis.pars.save_processed else curves


def _write(recipe: Recipe, zone: int, names: Sequence[str], written: dict[str, dict[str, Record]]) -> None:
    """Write light curves in place of all older ones of these sources."""
    gone = set(names)
    folder = recipe.root / recipe.run
    # all files of the zone: a source may have fewer light curves than before, or none
    known = {f"{observatory.name}_photometry_RA{zone:03d}_reduced.h5" for observatory in recipe.observatories}
    for filename in sorted({*written, *known}):
        file, records = PhotometryFile(folder / filename), written.get(filename, {})
        there = file.keys()
        older = [key for key in there if source_of(key) in gone and key not in records]
        if records:
            file.write(records, older)
        elif older:
            file.remove(older)


def source_of(key: str) -> str:
    """Return the name of the source to which the key of a light curve belongs."""
    for kind in (REDUCTION, "_processed_", "_simulated_"):
        name, found, rest = key.rpartition(kind)
        if found and rest[:1].isdigit():
            return name
    return key


def _kept_curves(task: Zone) -> dict[str, list[Lightcurve]]:
    """Return the stored reduced light curves of the sources."""
    recipe = task.recipe
    found: dict[str, list[Lightcurve]] = {}
    wanted = {str(row["name"]) for row in task.rows}
    zone = zone_of(task.rows[0])
    for observatory in recipe.observatories:
        file = PhotometryFile(recipe.root / recipe.run / f"{observatory.name}_photometry_RA{zone:03d}_reduced.h5")
        there = file.keys()
        keys = [key for key in there if REDUCTION in key and source_of(key) in wanted]
        for key, record in file.read_many(keys) if keys else ():
            if isinstance(record, ArchiveError):
                log.warning("%s", record)
                continue
            found.setdefault(source_of(key), []).append(Lightcurve(record.columns, record.altdata, project=recipe.run))
    return found

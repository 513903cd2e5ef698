"""Darks, flats and seeing files of a night as its document lists them: of all raw folders, also those that have gone.

Raw files that are moved away never make a product stale; only other raw files do. So files that have gone stay listed,
marked as missing, until their folder holds a new or changed file of the same kind, mode, filter and camera.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from obsarchive.core.document_types.nights import NightRawFile
from obsarchive.core.documents import NIGHT_KINDS
from obsarchive.daemon.raw_scanner import Found, Listing, signature_of

OF_WHICH = " of which "
"""Between the signature of all files that are listed and that of those which are there."""


def files_after_look(
    listing: Listing, before: Iterable[Mapping[str, Any]], folders: Sequence[Path]
) -> list[NightRawFile]:
    """Return the calibration files of a night after a look at one of its raw folders.

    Parameters
    ----------
    listing : Listing
        What that folder holds now.
    before : iterable of mapping
        The files as listed so far, of all folders.
    folders : sequence of Path
        The night's raw folders; of files of the same name those of the first one count.

    Returns
    -------
    list of NightRawFile
        By kind and name; one for each name.
    """
    here = str(listing.folder)
    known = [file for file in before if file.get("folder", here) == here]
    found = [_entry(each, kind, here) for kind in NIGHT_KINDS for each in listing.of_kind(kind)]
    order = {str(folder): number for number, folder in enumerate(folders)}
    elsewhere = [file for file in before if file.get("folder", here) != here and file["folder"] in order]
    chosen: dict[str, Any] = {}
    for file in sorted((*_kept(known, found), *elsewhere), key=lambda file: order.get(file["folder"], len(order))):
        chosen.setdefault(file["name"], file)
    return sorted(chosen.values(), key=lambda file: (NIGHT_KINDS.index(file["kind"]), file["name"]))


def signatures(files: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the signature of the listed files of each kind; where some have gone, with that of the others."""
    found: dict[str, str] = {}
    present = [file for file in files if not file.get("missing")]
    for kind in NIGHT_KINDS:
        listed, there = versions(files, kind), versions(present, kind)
        found[kind] = signature_of(listed) + ("" if there == listed else f"{OF_WHICH}{signature_of(there)}")
    return found


def versions(files: Iterable[Mapping[str, Any]], kind: str) -> list[tuple[str, int, int]]:
    """Return name, size and time [ns] of listed files of a kind, for their signature."""
    return [_version(file) for file in files if file["kind"] == kind]


def _kept(known: Iterable[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Files of one folder: those found, and of groups in which nothing is new also those that have gone."""
    present = {_version(file) for file in found}
    former: dict[Any, list[Mapping[str, Any]]] = {}
    for file in known:
        former.setdefault(_group(file), []).append(file)
    fresh = {_group(file) for file in found if _version(file) not in map(_version, former.get(_group(file), ()))}
    kept = [file for group, files in former.items() if group not in fresh for file in files]
    marked = [{**file, "missing": _version(file) not in present} for file in kept]
    return marked + [file for file in found if _group(file) in fresh]


def _group(file: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(file.get(key) or "") for key in ("kind", "mode", "filter", "camera"))


def _version(file: Mapping[str, Any]) -> tuple[str, int, int]:
    return str(file["name"]), int(file.get("bytes", -1)), int(file.get("mtime_ns", -1))


def _entry(found: Found, kind: str, folder: str) -> NightRawFile:
    return {
        "name": found.raw.name,
        "kind": kind,
        "mode": found.raw.mode,
        "filter": found.raw.filter,
        "camera": found.raw.camera,
        "date_utc": found.raw.date_utc,
        "folder": folder,
        "bytes": found.size,
        "mtime_ns": found.mtime_ns,
        "missing": False,
    }

"""Search for data that the database refers to and that are not on disk: deleted files, and keys that they lack.

Each file is opened once for the list of its keys; no data are read.
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from obsarchive.store import Surveys
from surveys.dataset import Document
from surveys.formats.hdf5_light_curves import CorruptFileError, PhotometryFile

if TYPE_CHECKING:
    from surveys.worker import Recipe

log = logging.getLogger(__name__)

FIELDS = ("source_name", "filename", "filekey")


def lost_on_disk(surveys: Surveys, recipe: "Recipe", may_fetch: bool, names: Sequence[str] | None = None) -> set[str]:
    """Return the sources of a project some of whose data are missing on disk.

    Parameters
    ----------
    surveys : Surveys
        The database.
    recipe : Recipe
        Folders and observatories of the project.
    may_fetch : bool
        Whether raw photometry can be fetched. If not, sources without it are excluded: nothing can be made of them.
    names : sequence of str, optional
        Only these sources.

    Returns
    -------
    set of str
    """
    lost = _without_key(recipe.root / recipe.run, surveys.files_of("lightcurves", {"run": recipe.run}, FIELDS, names))
    for observatory in recipe.observatories:
        query = {"observatory": observatory.name, "state": {"$ne": "failed"}}
        folder = recipe.root / observatory.name
        unfetched = _without_key(folder, surveys.files_of("raw_photometry", query, FIELDS, names))
        lost = lost | unfetched if may_fetch else lost - unfetched
    return lost


def _without_key(folder: Path, documents: Iterable[Document]) -> set[str]:
    """Return the sources whose keys are not in the files of a folder."""
    keys: dict[str, frozenset[str]] = {}
    lost = set()
    for document in documents:
        filename = document["filename"]
        if filename not in keys:
            keys[filename] = _keys(folder / filename)
        if document["filekey"] not in keys[filename]:
            lost.add(str(document["source_name"]))
    return lost


def _keys(path: Path) -> frozenset[str]:
    try:
        return frozenset(PhotometryFile(path).keys())
    except CorruptFileError as err:
        log.warning("%s", err)
        return frozenset()

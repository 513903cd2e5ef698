"""Index of the names of targets in the collection ``objects``: what the names of an observation are when folded."""

from collections.abc import Sequence
from itertools import islice

from pymongo import ASCENDING, UpdateOne
from pymongo.collection import Collection

from obsarchive.core import document_paths as paths
from obsarchive.core.target_names import FOLDING, target_fields
from obsarchive.store.step_records import Document

NAMES = frozenset({"name", "alternative_names"})
"""Fields that hold names of the target."""
_BATCH = 1000


def ensure_target_indexes(observations: Collection[Document]) -> None:
    """Create the indexes by which observations are found by their targets."""
    observations.create_index([(paths.TARGET_FOLDING, ASCENDING)])
    for key in (paths.TARGET_KEYS, paths.TARGET_PARTS):
        observations.create_index([(key, ASCENDING), ("date_utc", ASCENDING), ("_id", ASCENDING)])


def fold_names(observations: Collection[Document], subjects: Sequence[str] | None = None) -> int:
    """Index the names of targets where another version did, or none; return the number of observations.

    Parameters
    ----------
    observations : Collection
        The collection ``objects``.
    subjects : sequence of str, optional
        Observations whose names changed; by default all whose names are not indexed as now.
    """
    wanted: Document = {paths.TARGET_FOLDING: {"$ne": FOLDING}} if subjects is None else {"_id": {"$in": subjects}}
    found = observations.find(wanted, dict.fromkeys(NAMES, 1))
    folded = 0
    for many in iter(lambda: list(islice(found, _BATCH)), []):
        blocks = [(document["_id"], target_fields(document)) for document in many]
        observations.bulk_write(
            [UpdateOne({"_id": name}, {"$set": {"target": block}}) for name, block in blocks], ordered=False
        )
        folded += len(blocks)
    return folded

"""Values that people typed where the archive keeps blocks of fields: they count as missing, also when it writes there.

MongoDB refuses to set ``pipelined.bright_star.status.done`` in a document whose ``pipelined.bright_star`` is a text.
What stands in the way is removed and named in the log; what belonged there is found or made again.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pymongo.collection import Collection
from pymongo.errors import OperationFailure
from pymongo.results import UpdateResult

log = logging.getLogger(__name__)

PATH_NOT_VIABLE = 28
"""Code of the refusal to set a field of what is no block."""
Document = dict[str, Any]
T = TypeVar("T")


def update_one(collection: Collection[Document], query: Document, change: Document) -> UpdateResult:
    """Update the one document that a query with its ``_id`` names, as :meth:`Collection.update_one` does."""
    return written(collection, query["_id"], change, lambda: collection.update_one(query, change))


def update_many(collection: Collection[Document], query: Document, change: Document) -> int:
    """Update documents; return how many changed."""
    try:
        return collection.update_many(query, change).modified_count
    except OperationFailure as err:
        if err.code != PATH_NOT_VIABLE:
            raise
    names = [document["_id"] for document in collection.find(query, {"_id": 1})]
    return sum(update_one(collection, {**query, "_id": name}, change).modified_count for name in names)


def written(collection: Collection[Document], subject: str, change: Document, write: Callable[[], T]) -> T:
    """Return what `write` does; where something stands in its way, it is removed, and `write` is called again.

    Parameters
    ----------
    collection : Collection
        What is written to.
    subject : str
        The ``_id`` of the document.
    change : dict
        The change that is written.
    write : callable
        Writes it.
    """
    try:
        return write()
    except OperationFailure as err:
        if err.code != PATH_NOT_VIABLE or not make_way(collection, subject, change):
            raise
    return write()


def make_way(collection: Collection[Document], subject: str, change: Document) -> bool:
    """Remove what stands in the way of a change; return whether there was something.

    Parameters
    ----------
    collection : Collection
        What is to be written to.
    subject : str
        The ``_id`` of the document.
    change : dict
        The change that is to be written.
    """
    wanted = [path for operator in ("$set", "$inc") for path in change.get(operator, ())]
    found = _in_the_way(collection.find_one({"_id": subject}) or {}, wanted)
    for path, value in found.items():
        log.warning("%s: %s is %.100r, where a block of fields is expected: it counts as missing", subject, path, value)
        collection.update_one({"_id": subject}, {"$unset": {path: ""}})
    return bool(found)


def _in_the_way(document: Mapping[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
    """Return what is no block on the way to some paths, by its own path."""
    found: dict[str, Any] = {}
    for path in wanted:
        value: Any = document
        *blocks, _ = path.split(".")
        for depth, name in enumerate(blocks, 1):
            if name not in value:
                break
            value = value[name]
            if not isinstance(value, Mapping):
                found[".".join(blocks[:depth])] = value
                break
    return found

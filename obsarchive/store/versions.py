"""Updates that replace what a person said, and keep what was said before among earlier versions."""

from collections.abc import Mapping
from typing import Any

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document

MOST_EARLIER = 100
"""Earlier versions that are kept."""


def literal(value: Any) -> Document:
    """Return an expression of MongoDB for a plain value; what begins with ``$`` would be the name of a field."""
    return {"$literal": value}


def new_version(said: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Document]:
    """Return the update that writes a new version.

    Parameters
    ----------
    said : mapping
        Expressions by the names of the fields of which each version keeps its own value.
    facts : mapping
        Expressions of other fields.

    Returns
    -------
    list of dict
        Stages of an update; they also set ``written``, ``version`` and ``earlier``.
    """
    was = {key: f"${key}" for key in (*said, "written", "version")}
    before = {"$ifNull": ["$earlier", []]}
    longer = {"$slice": [{"$concatArrays": [before, [was]]}, -MOST_EARLIER]}
    return [
        {"$set": {"earlier": {"$cond": [{"$gt": ["$version", 0]}, longer, before]}}},
        {
            "$set": {
                **said,
                **facts,
                "written": utc_now(),
                "version": {"$add": [{"$ifNull": ["$version", 0]}, 1]},
            }
        },
    ]

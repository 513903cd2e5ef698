"""Versions of MongoDB: until when each is supported, and how data go from one to the next."""

import logging
from datetime import date
from typing import Any

from pymongo import MongoClient

log = logging.getLogger(__name__)

Release = tuple[int, int]

OLDEST: Release = (6, 0)
"""The oldest release that the archive is tested with."""
SUPPORT_ENDS: dict[Release, date] = {
    (5, 0): date(2024, 10, 31),
    (6, 0): date(2025, 7, 31),
    (7, 0): date(2027, 8, 31),
    (8, 0): date(2029, 10, 31),
}
"""When the makers of MongoDB end the support of a release."""
OTHER_DATA_FORMAT = 62
"""Exit code of a mongod that cannot read what another release wrote."""


def release_of(version: str) -> Release:
    """Return the release of a version such as ``6.0.5``."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def support_of(version: str, today: date) -> str:
    """Return what is to be said about the support of a version.

    Parameters
    ----------
    version : str
        Version of the server.
    today : date
        The day of the question.

    Returns
    -------
    str
        Such as ``"its support ended 2025-07-31"``; empty where nothing is known that speaks against it.
    """
    release = release_of(version)
    if release < OLDEST:
        return f"the archive needs {OLDEST[0]}.{OLDEST[1]} or later"
    ends = SUPPORT_ENDS.get(release)
    return f"its support ended {ends:%Y-%m-%d}" if ends and ends < today else ""


def format_hint(exit_code: int) -> str:
    """Return what to do about a mongod that ended because another release wrote its data; empty for other ends."""
    if exit_code != OTHER_DATA_FORMAT:
        return ""
    return (
        "; another release of MongoDB wrote these data: start with that one (database.mongod), go up one release at a "
        "time, or have the database rebuilt (docs/operations.md, Releases of MongoDB)"
    )


def raise_compatibility(client: MongoClient[dict[str, Any]]) -> None:
    """Let the data of an earlier release become those of the one that runs: the next one cannot read older ones.

    Parameters
    ----------
    client : MongoClient
        Connection to the primary, as a member of the replica set.
    """
    parameter = client.admin.command("getParameter", 1, featureCompatibilityVersion=1)
    written_by = parameter["featureCompatibilityVersion"]["version"]
    release = release_of(client.server_info()["version"])
    if release_of(written_by) == release:
        return
    name = f"{release[0]}.{release[1]}"
    confirmed: dict[str, Any] = {"confirm": True} if release >= (7, 0) else {}
    client.admin.command("setFeatureCompatibilityVersion", name, **confirmed)
    log.info(
        "the database was written by MongoDB %s; from now on MongoDB %s or the next release reads it", written_by, name
    )

"""Values that occur in the observations that a user may see: read from indexes, value by value."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pymongo.collection import Collection

from obsarchive.core import document_paths as paths
from obsarchive.core.rules import lookup
from obsarchive.store.search import TIME_LIMIT_MS
from obsarchive.store.step_records import Document
from obsarchive.store.visibility import is_admin, naming, programs_of


def programs_naming(observations: Collection[Document], user: Mapping[str, Any]) -> Iterator[str]:
    """Yield the programmes of observations that name a user, by one look into the index for each.

    Parameters
    ----------
    observations : Collection
        The collection ``objects``.
    user : mapping
        Document of the user.

    Yields
    ------
    str
    """
    yield from _values_of(observations, naming(user), paths.PROGRAM_ID)


def _values_of(observations: Collection[Document], query: Document, field: str) -> Iterator[str]:
    """Yield the different texts of a field, by one look into the index for each: it begins with what is asked for."""
    last = ""
    while True:
        beyond = {"$and": [query, {field: {"$gt": last}}]}
        found = observations.find(beyond, {field: 1}).sort(field, 1).limit(1).max_time_ms(TIME_LIMIT_MS)
        document = next(iter(found), None)
        if document is None:
            return
        last = str(lookup(document, field))
        yield last


def of_program(user: Mapping[str, Any], program: str) -> Document:
    """Return the filter of the observations of a programme that a user may see, without alternatives.

    Parameters
    ----------
    user : mapping
        Document of the user.
    program : str
        Identifier of the programme.

    Returns
    -------
    dict
    """
    if is_admin(user) or program in programs_of(user):
        return {paths.PROGRAM_ID: program}
    return {"$and": [naming(user), {paths.PROGRAM_ID: program}]}


def visible_values(observations: Collection[Document], user: Mapping[str, Any], field: str) -> list[str]:
    """Return the different values of an indexed text field of the observations that a user may see.

    Parameters
    ----------
    observations : Collection
        The collection ``objects``.
    user : mapping
        Document of the user.
    field : str
        Such as ``filter`` or ``camera``.

    Returns
    -------
    list of str
    """
    if is_admin(user):
        return sorted(_texts(observations.distinct(field, maxTimeMS=TIME_LIMIT_MS)))
    own = programs_of(user)
    found = {value for program in own for value in _values_of(observations, {paths.PROGRAM_ID: program}, field)}
    for program in programs_naming(observations, user):
        if program not in own:
            found.update(_texts(observations.distinct(field, of_program(user, program), maxTimeMS=TIME_LIMIT_MS)))
    return sorted(found)


def _texts(values: Iterable[Any]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str) and value)

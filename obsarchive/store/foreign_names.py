"""Names of observations that a user may not see, removed from documents before anything else reads them.

Steps name other observations: references of a star subtraction, stars of a night, files in a message. What the portal
takes from the database for a user passes through here, so that no page, file or answer can show such a name.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from obsarchive.core.documents import Observation
from obsarchive.names import SHORTEST_NAME, observations_in, replace_observations

LABEL = "reference star of another programme"
"""What stands for an observation that a user may not see."""
_OWN_RAW_DATA = frozenset({"fits_header", "raw_data"})
"""Parts of an observation that describe nothing but itself, and are long."""


_LISTS = (list, tuple)
_NUMBERS = frozenset({int, float, bool, type(None)})
Naming = Mapping[str, frozenset[str]]
"""Texts that name observations, each with these names."""


def texts_naming(value: Any) -> dict[str, frozenset[str]]:
    """Return the texts, keys and file names within a value that name observations, with these names."""
    found: dict[str, frozenset[str]] = {}
    waiting = [value]
    while waiting:  # no recursion: pages hold some ten thousand values
        value = waiting.pop()
        kind = type(value)
        if kind is str:
            if len(value) >= SHORTEST_NAME and value not in found and (names := observations_in(value)):
                found[value] = frozenset(names)
        elif kind is dict:
            waiting += value.keys()
            waiting += value.values()
        elif kind in _LISTS and not _is_numbers(value):
            waiting += value
    return found


def _is_numbers(value: Sequence[Any]) -> bool:
    """Whether a list holds numbers only, as curves do: it is not looked through."""
    return _NUMBERS.issuperset(map(type, value))


def without_names(value: Any, naming: Naming, visible: Set[str]) -> Any:
    """Return a value without names of observations that a user may not see.

    Entries of a list that are about such an observation (rows, products) are removed; elsewhere `LABEL` stands for the
    name.

    Parameters
    ----------
    value : any
        Documents, lists and plain values.
    naming : mapping of str to frozenset of str
        Its texts that name observations (:func:`texts_naming`).
    visible : set of str
        Names of observations that the user may see.

    Returns
    -------
    any
        The value itself where nothing is hidden.
    """
    hidden = {text for text, names in naming.items() if not names <= visible}
    return _masked(value, hidden, visible) if hidden else value


def _masked(value: Any, hidden: Set[str], visible: Set[str]) -> Any:
    kind = type(value)
    if kind is str:
        if value not in hidden:
            return value
        return replace_observations(value, lambda name: name if name in visible else LABEL)
    if kind is dict:
        return {key: _masked(inner, hidden, visible) for key, inner in value.items() if key not in hidden}
    if kind in _LISTS and not _is_numbers(value):
        return [_masked(inner, hidden, visible) for inner in value if not _is_about(inner, hidden)]
    return value


def _is_about(entry: Any, hidden: Set[str]) -> bool:
    """Whether an entry of a list is a row about a hidden observation, or names it: a product, a star, a file."""
    return type(entry) is dict and any(type(text) is str and text in hidden for text in entry.values())


def only_visible(value: Any, visible_of: Callable[[Set[str]], Set[str]]) -> Any:
    """Return a value without names of observations that may not be seen.

    Parameters
    ----------
    value : any
        Documents, lists and plain values.
    visible_of : callable
        Gives those of some observations that may be seen; asked once, and only where observations are named.

    Returns
    -------
    any
        The value itself where nothing is hidden.
    """
    naming = texts_naming(value)
    named: set[str] = set().union(*naming.values())
    return without_names(value, naming, visible_of(named)) if named else value


def observations_with(documents: Sequence[Mapping[str, Any]], hide: Callable[[Any], Any]) -> list[Observation]:
    """Return observations, of whose documents `hide` was given the parts that can name others."""
    parts = hide({document["_id"]: own_part(document) for document in documents})
    return [Observation({**document, **parts[document["_id"]]}) for document in documents]


def own_part(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an observation's document in which other observations can be named."""
    return {key: value for key, value in document.items() if key not in _OWN_RAW_DATA}

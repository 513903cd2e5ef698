"""Names of observations that a user may not see, removed from documents before anything else reads them.

Steps name other observations: references of a star subtraction, stars of a night, files in a message. What the portal
takes from the database for a user passes through here, so that no page, file or answer can show such a name.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from obsarchive.names import observations_in, replace_observations

LABEL = "reference star of another programme"
"""What stands for an observation that a user may not see."""
_OWN_RAW_DATA = frozenset({"fits_header", "raw_data"})
"""Parts of an observation that describe nothing but itself, and are long."""


def names_in(value: Any) -> Iterator[str]:
    """Yield the names of observations within texts, keys and file names of a value."""
    if isinstance(value, str):
        yield from observations_in(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from observations_in(key)
            yield from names_in(inner)
    elif isinstance(value, list | tuple) and not (value and isinstance(value[0], int | float)):
        for inner in value:
            yield from names_in(inner)


def without_names(value: Any, hidden: frozenset[str]) -> Any:
    """Return a value without some names of observations.

    Entries of a list that are about such an observation (rows, products) are removed; elsewhere `LABEL` stands for the
    name.

    Parameters
    ----------
    value : any
        Documents, lists and plain values.
    hidden : frozenset of str
        Names of the observations.

    Returns
    -------
    any
    """
    if isinstance(value, str):
        return replace_observations(value, lambda name: LABEL if name in hidden else name)
    if isinstance(value, Mapping):
        return {key: without_names(inner, hidden) for key, inner in value.items() if not _names(key, hidden)}
    if isinstance(value, list | tuple):
        return [without_names(inner, hidden) for inner in value if not _is_about(inner, hidden)]
    return value


def own_part(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an observation's document in which other observations can be named."""
    return {key: value for key, value in document.items() if key not in _OWN_RAW_DATA}


def _is_about(entry: Any, hidden: frozenset[str]) -> bool:
    """Whether an entry of a list is a row about a hidden observation, or names it: a product, a star, a file."""
    return isinstance(entry, Mapping) and any(_names(text, hidden) for text in entry.values() if isinstance(text, str))


def _names(text: str, hidden: frozenset[str]) -> bool:
    return not hidden.isdisjoint(observations_in(text))

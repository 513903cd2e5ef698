"""Reading of JSON text that people, other programs or a failing disk may have changed."""

import json
from typing import Any

from obsarchive.core.values import plain_values

DEEPEST = 80
"""Levels of nesting; MongoDB holds 100, and a document surrounds what is read."""


def parse_json(text: str | bytes) -> Any:
    """Return what a text holds, with numbers and texts as MongoDB holds them.

    Parameters
    ----------
    text : str or bytes
        JSON; bytes in UTF-8.

    Returns
    -------
    object
        Mappings, lists, texts, numbers; integers of more than 64 bits as text, numbers that are not finite as None.

    Raises
    ------
    ValueError
        When it is not JSON, not UTF-8, or nested deeper than `DEEPEST` levels.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    if _is_deeper(found, DEEPEST):
        raise ValueError(f"nested deeper than {DEEPEST} levels")
    return plain_values(found)


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(each, levels - 1) for each in inner)

"""JSON text that people, other programs or a failing disk may have changed.

Files of the archive tree hold a checksum of their own content: a flipped bit may leave them readable, with another
number or name in them, and a database that is rebuilt from the tree has nothing else to compare them with.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from obsarchive.core.values import plain_values

DEEPEST = 80
"""Levels of nesting; MongoDB holds 100, and a document surrounds what is read."""

CHECKSUM = "checksum"
"""Last key of a file with a checksum of its own: SHA-256 of the rest, as JSON with sorted keys and no blanks."""


class ChecksumError(ValueError):
    """A text is readable and differs from its own checksum.

    Parameters
    ----------
    content : dict
        What it holds now, without the checksum.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__("its content differs from its checksum")
        self.content = content


def json_with_checksum(
    content: Mapping[str, Any],
    *,
    default: Callable[[Any], object] | None = None,
    allow_nan: bool = True,
    indent: int | None = 1,
) -> bytes:
    """Return a JSON object that holds a checksum of its own content, in UTF-8.

    Parameters
    ----------
    content : mapping
        What it holds.
    default : callable, optional
        Converts values that JSON does not have.
    allow_nan : bool, optional
        Whether numbers may be not finite.
    indent : int, optional
        Blanks of a level; None: one line.

    Raises
    ------
    ValueError
        When a number is not finite and may not be.
    """
    plain = json.loads(json.dumps(content, default=default, allow_nan=allow_nan))
    return json.dumps({**plain, CHECKSUM: _checksum(plain)}, indent=indent).encode()


def parse_with_checksum(text: str | bytes) -> Any:
    """Return what a text of `json_with_checksum` holds, without its checksum; a text without one is as `parse_json`.

    Raises
    ------
    ChecksumError
        When its content differs from its checksum.
    ValueError
        When it is not JSON, not UTF-8, or nested deeper than `DEEPEST` levels.
    """
    found = parse_json(text)
    if not isinstance(found, dict) or (written := found.pop(CHECKSUM, None)) is None:
        return found
    if written != _checksum({key: value for key, value in json.loads(text).items() if key != CHECKSUM}):
        raise ChecksumError(found)
    return found


def _checksum(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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

"""Tolerant conversion of values of documents and results; nothing here raises an error."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

TRUE_TEXT = re.compile(r"^\s*(true|t|yes|y|on|1)(\.0*)?\s*$", re.IGNORECASE)
"""What counts as true where people type a text instead of a truth value."""


_MAPPINGS = (dict, Mapping)
"""What counts as a document; the class that the database returns stands first, which is found four times as fast."""


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return a document, an empty one for anything else."""
    return value if isinstance(value, _MAPPINGS) else {}


def as_mappings(value: Any) -> list[Mapping[str, Any]]:
    """Return the documents of a list; none for anything else."""
    return [entry for entry in value if isinstance(entry, _MAPPINGS)] if isinstance(value, list | tuple) else []


def as_count(value: Any) -> int:
    """Return a number of times; the Mongo shell writes them as doubles; 0 for anything else."""
    return int(value) if isinstance(value, int | float) and 0 <= value < float("inf") else 0


def as_flag(value: Any) -> bool:
    """Return a truth value, also of a 1 or a text such as ``"true"`` or ``"yes"``; False for anything else."""
    if isinstance(value, str) or type(value).__name__ == "Decimal128":  # of BSON, as some clients write numbers
        return bool(TRUE_TEXT.match(str(value)))
    return isinstance(value, bool | int | float) and value == 1


def as_time(value: Any) -> datetime | None:
    """Return an aware time, UTC where no zone is given; None for anything else."""
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def as_shape(value: Any) -> tuple[int, int] | None:
    """Return the shape of a frame, (ny, nx) [pixel]; None for anything else."""
    match value:
        case [int() | float() as ny, int() | float() as nx]:
            return as_count(ny), as_count(nx)
    return None


def plain_values(value: Any) -> Any:
    """Return measured values as JSON and BSON hold them: no numpy types, no NaN, no text that cannot be encoded."""
    match value:
        case np.generic() | np.ndarray():
            return plain_values(value.tolist())
        case Mapping():
            return {plain_text(str(key)).replace("\0", ""): plain_values(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain_values(inner) for inner in value]
        case str():
            return plain_text(value)
        case int() | float():
            return _plain_number(value)
    return value


def _plain_number(value: int | float) -> int | float | str | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if -(2**63) <= value < 2**63 else str(value)


def plain_text(text: str) -> str:
    """Return text with lone surrogates escaped: names of files may hold bytes that are not text."""
    return text.encode("utf-8", "backslashreplace").decode()

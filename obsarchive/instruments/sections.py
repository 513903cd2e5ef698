"""Sections of a frame, as headers write them: ``[x1:x2,y1:y2]``."""

import re
from typing import Any

from obsarchive.instruments.dates import is_empty

_RANGE = re.compile(r"-?\*|(\d*)\s*:\s*(\d*)|(\d+)")
_NONE = ("none", "n/a", "na", "null", "undefined", "unknown", "-", "0", "[]")


class SectionError(ValueError):
    """A section cannot be read, or is none of the frame; the message continues a sentence that names its text."""


def read_section(value: Any, shape: list[int] | None) -> tuple[int, int, int, int] | None:
    """Read a section as rows ``y0:y1`` and columns ``x0:x1``, counted from 0.

    Parameters
    ----------
    value : object
        ``[x1:x2,y1:y2]``, counted from 1, both ends included, in any order; ``*``, or an end left out, stands for the
        edge of the frame.
    shape : [ny, nx], optional
        Shape of the frame; None if it is not known.

    Returns
    -------
    (y0, y1, x0, x1) or None
        None if there is no value, or one that stands for none, such as ``none`` or ``[0:0,0:0]``.

    Raises
    ------
    SectionError
        It has another form, or lies outside of the frame.
    """
    text = "" if is_empty(value) else str(value).strip()
    axes = [axis.strip() for axis in text.strip("[]() ").split(",")]
    if text.lower() in ("", *_NONE) or all(re.fullmatch(r"0\s*:\s*0", axis) for axis in axes):
        return None
    if len(axes) != 2:
        raise SectionError("expected [x1:x2,y1:y2]")
    ny, nx = shape or (None, None)
    x0, x1 = _read_range(axes[0], nx)
    y0, y1 = _read_range(axes[1], ny)
    if (nx is not None and x1 > nx) or (ny is not None and y1 > ny) or min(x0, y0) < 0:
        size = f"{nx} columns and {ny} rows" if shape else "which are counted from 1"
        raise SectionError(f"not within the frame ({size})")
    return y0, y1, x0, x1


def _read_range(text: str, length: int | None) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise SectionError("expected [x1:x2,y1:y2]")
    first, last, single = match.groups()
    if single:
        first = last = single
    if length is None and not (first and last):
        raise SectionError("an end is left out, and the size of the frame is not known")
    ends = int(first or 1), int(last or length or 1)
    return min(ends) - 1, max(ends)

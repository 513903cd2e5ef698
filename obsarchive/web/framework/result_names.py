"""Names of measured values in words; keys of documents hold no dots, so that ``0_5`` in them is 0.5."""

import re
from collections.abc import Mapping

_AT = re.compile(r"(?P<what>.+?)_(?P<whole>\d+)(?:_(?P<decimals>\d+))?_(?P<unit>[a-z]+)")
_MEASURED_AT = {"contrast": "5σ contrast"}
"""Values that are measured at a place, where their key says less than an astronomer would write."""
_CLOSE = frozenset("″°%")
"""Units that follow a number without a space."""


def in_words(key: str, units: Mapping[str, str]) -> str:
    """Return the name of a measured value in words.

    Parameters
    ----------
    key : str
        Its key without its own unit, such as ``contrast_0_5_arcsec``: measured at 0.5 arcsec.
    units : mapping of str
        Units by their endings of keys.

    Returns
    -------
    str
        Such as ``5σ contrast at 0.5″``.
    """
    found = _AT.fullmatch(key)
    if found is None or found["unit"] not in units:
        return key.replace("_", " ")
    value = found["whole"] + (f".{found['decimals']}" if found["decimals"] else "")
    unit = units[found["unit"]]
    what = _MEASURED_AT.get(found["what"], found["what"].replace("_", " "))
    return f"{what} at {value}{'' if unit in _CLOSE else ' '}{unit}"

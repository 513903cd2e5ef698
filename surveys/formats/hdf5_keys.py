"""Names of sources as keys of HDF5 files: any text, percent-escaped where HDF5 would read it as a path."""

import re
from urllib.parse import unquote_to_bytes

FOREIGN = "surrogateescape"
"""Error handler that preserves bytes that are no UTF-8."""
EMPTY = "%"
"""Key of the empty name: no escape sequence, so that no other name has it."""
_ESCAPED = re.compile(r"[%/\x00-\x1f\x7f-\x9f\ud800-\udfff]|^\s|\s\Z|^\.(?=\.?\Z)|(?<=^\.)\.\Z")


def escape(name: str) -> str:
    """Return a name as a key of an HDF5 file.

    ``/``, ``%``, control characters, blanks at the ends and bytes that are no UTF-8 are percent-escaped, and so are the
    dots of ``.`` and ``..``; any other name is its own key.

    Parameters
    ----------
    name : str
        Any text.

    Returns
    -------
    str
        The key; `unescape` gives the name again.
    """
    if not name:
        return EMPTY
    return _ESCAPED.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode(errors=FOREIGN)), name)


def unescape(key: str) -> str:
    """Return the name whose key this is.

    Parameters
    ----------
    key : str
        What `escape` returned.

    Returns
    -------
    str
        The name.
    """
    if "%" not in key:
        return key
    return "" if key == EMPTY else unquote_to_bytes(key.encode(errors=FOREIGN)).decode(errors=FOREIGN)

"""Addresses of sources: any name fits into a path, also one that servers and browsers would read as a path itself."""

import re

from werkzeug.routing import BaseConverter

_AMBIGUOUS = re.compile(r"(^|/)\.{0,2}(/|\Z)|^~|/(matches|sky\.png|lightcurves|decision|thumbnail\.svg|export/\w+)\Z")
"""Names with empty segments, ``.`` or ``..``, which browsers resolve, or the ends of other addresses of sources."""
_SPECIAL = re.compile(r"[/.~]")
_ESCAPED = re.compile(r"~([0-9A-F]{2})")


class SourceName(BaseConverter):
    """Converter ``path`` of the portal: slashes are part of a name, and ambiguous names are escaped behind a ``~``."""

    regex = "[\\s\\S]*?"
    part_isolating = False

    def to_url(self, value: str) -> str:
        """Return a name as a part of an address."""
        if _AMBIGUOUS.search(value):
            value = "~" + _SPECIAL.sub(lambda found: f"~{ord(found[0]):02X}", value)
        return super().to_url(value)


def unescaped(text: str) -> str:
    """Return the name that `SourceName` wrote in an address.

    Parameters
    ----------
    text : str
        Name of a source as an address has it.

    Returns
    -------
    str
        The name; `text` itself if it is not escaped.
    """
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text[1:]) if text.startswith("~") else text

"""Entries of BibTeX."""

import re
from collections.abc import Mapping

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "{}$&#_%"},
}
AS_THEY_ARE = ("doi", "url")
"""Fields that styles print without reading TeX in them."""


def entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    """Return an entry.

    Parameters
    ----------
    kind, key : str
        Such as ``misc``, and what the work is cited by; signs that mean something to BibTeX become ``-``.
    fields : mapping of str to str
        Plain texts; those that are empty are left out.

    Returns
    -------
    str
    """
    lines = [f"  {name} = {{{_field(name, text)}}}," for name, text in fields.items() if text]
    return "\n".join([f"@{kind}{{{re.sub(r'[^A-Za-z0-9_.:+-]', '-', key)},", *lines, "}", ""])


def _field(name: str, text: str) -> str:
    if name in AS_THEY_ARE:
        return re.sub(r"[{}\\\s]", "", text)
    plain = "".join(_SPECIAL.get(sign, sign) for sign in text)
    # in braces of its own, so that styles keep capital letters, and take no name of several words apart
    return f"{{{plain}}}" if name == "title" or (name == "author" and "," not in text) else plain

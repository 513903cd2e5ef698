"""The mark of a filter: the same colour and shape in every plot of the portal, as ``plots.js`` has them."""

import re

_BAND = re.compile(r"(?:z|ztf|sdss|S)?([griz])p?")
SHAPES = {"g": "diamond", "r": "triangle", "i": "square", "z": "cross", "lp600": "circle", "c": "valley"}
"""Shapes of the filters; any other has a circle."""
N_OTHERS = 4
"""Colours that the style sheet has for other filters."""


def band(name: str) -> str:
    """Return the band of a filter, the one letter of ``g r i z`` under any of its names; else the name itself."""
    found = _BAND.fullmatch(name)
    return found[1] if found else name


def shape_of(name: str) -> str:
    """Return the shape of the marks of a filter."""
    return SHAPES.get(band(name), "circle")


def style_of(name: str, others: list[str]) -> str:
    """Return the class of the style sheet that gives marks of a filter their colour.

    Parameters
    ----------
    name : str
        The filter.
    others : list of str
        Filters without a colour of their own that the page had before; this one is added, if it is one.

    Returns
    -------
    str
    """
    known = band(name)
    if known in SHAPES:
        return f"filter-{known}"
    if known not in others:
        others.append(known)
    return f"filter-other-{others.index(known) % N_OTHERS}"

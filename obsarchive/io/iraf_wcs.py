"""Plate solutions of IRAF in FITS headers: projections TNX and ZPX with a correction surface in the ``WAT`` keywords.

See the registered FITS conventions TNX and ZPX (https://fits.gsfc.nasa.gov/fits_registry.html); astropy evaluates some
surfaces and ignores the others without a word.
"""

import re
from collections.abc import Callable

import numpy as np
from astropy.io import fits
from numpy.polynomial import chebyshev, legendre, polynomial

from obsarchive.science.arrays import Float64Array

Correction = Callable[[Float64Array, Float64Array], Float64Array]

STANDARD = {"TNX": "TAN", "ZPX": "ZPN"}
CARD = 68
"""Letters of a text in one card, with the blanks at its end, which readers drop."""
_BASES = {1: chebyshev.chebval, 2: legendre.legval, 3: polynomial.polyval}
_SURFACE = re.compile(r'(?:lng|lat)cor\s*=\s*"([^"]*)"')
_PARAMETER = re.compile(r"projp(\d+)\s*=\s*(\S+)")


def is_iraf(header: fits.Header) -> bool:
    """Return whether the coordinates of a header are of IRAF's own projections."""
    return str(header.get("CTYPE1", "")).strip()[-3:].upper() in STANDARD


def without_iraf(header: fits.Header) -> tuple[fits.Header, tuple[Correction, Correction]]:
    """Return a header in standard projections, and the corrections that it lacks then.

    Parameters
    ----------
    header : Header
        Header with projection TNX or ZPX.

    Returns
    -------
    header : Header
        A copy with projection TAN or ZPN.
    corrections : (callable, callable)
        They take intermediate world coordinates x, y [deg] and return what is added to each [deg].

    Raises
    ------
    ValueError
        The description of a surface cannot be read.
    """
    texts = [_text_of(header, axis) for axis in (1, 2)]
    plain = header.copy()
    for keyword in [keyword for keyword in plain if keyword.startswith("WAT")]:
        del plain[keyword]
    for axis in (1, 2):
        name = str(header[f"CTYPE{axis}"]).strip()
        plain[f"CTYPE{axis}"] = name[:-3] + STANDARD[name[-3:].upper()]
    latitude = 1 if str(header["CTYPE1"]).upper().startswith("DEC") else 2
    for number, value in _PARAMETER.findall(texts[latitude - 1]):
        plain[f"PV{latitude}_{number}"] = float(value)
    return plain, (_correction(texts[0]), _correction(texts[1]))


def _text_of(header: fits.Header, axis: int) -> str:
    cards = sorted(keyword for keyword in header if re.fullmatch(rf"WAT{axis}_\d\d\d", keyword))
    return "".join(str(header[keyword]).ljust(CARD) for keyword in cards)


def _correction(text: str) -> Correction:
    """Return the surface that a text describes; zero if it describes none."""
    found = _SURFACE.search(text)
    if found is None:
        return lambda x, _: np.zeros_like(x)
    values = [float(value) for value in found[1].split()]
    kind, n_x, n_y, cross = (int(value) for value in values[:4])
    terms = np.zeros((n_x, n_y))
    given = iter(values[8:])
    for j in range(n_y):
        n = n_x if j == 0 or cross == 1 else 1 if cross == 0 else min(n_x, max(n_x, n_y) - j)
        for i in range(n):
            terms[i, j] = next(given, np.nan)
    if kind not in _BASES or cross not in (0, 1, 2) or not np.isfinite(terms).all() or next(given, None) is not None:
        raise ValueError(f"no surface of IRAF: {found[1]}")
    low_x, high_x, low_y, high_y = values[4:8]
    evaluate = _BASES[kind]

    def correction(x: Float64Array, y: Float64Array) -> Float64Array:
        if kind != 3:  # orthogonal polynomials are defined from -1 to 1, powers are not scaled
            x = (2 * x - low_x - high_x) / (high_x - low_x)
            y = (2 * y - low_y - high_y) / (high_y - low_y)
        parts = [evaluate(x, terms[:, j]) * evaluate(y, np.eye(n_y)[j]) for j in range(n_y)]
        total: Float64Array = np.sum(parts, axis=0)
        return total

    return correction

"""Recognition of catalogue columns by their names; identifiers as text, coordinates in degrees."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obsarchive.errors import ConfigError
from surveys.formats.photometry_columns import simplify

Floats = NDArray[np.float64]

KNOWN = {
    "name": (
        "sourceid",
        "gaiaedr",
        "gaiadr",
        "name",
        "objectid",
        "objid",
        "ztfid",
        "id",
        "designation",
        "mainid",
        "num",
    ),
    "ra": ("ra", "raicr", "radeg", "raj", "rightascension"),
    "dec": ("dec", "deicr", "decdeg", "dej", "declination", "de"),
    "mag": ("photgmeanmag", "gmag", "mag", "magnitude", "vmag", "peakmag"),
    "mag_err": ("photgmeanmagerror", "egmag", "magerr", "magerror"),
    "pmra": ("pmra",),
    "pmdec": ("pmdec", "pmde"),
    "parallax": ("parallax", "plx"),
}
"""Simplified column names by meaning; the first that exists is used."""
PREFERRED = {"gaia_g": "phot_g_mean_mag", "gaia_bp": "phot_bp_mean_mag", "gaia_rp": "phot_rp_mean_mag"}
NEEDED = ("name", "ra", "dec")
NO_PLACE = ("", "nan", "none", "null", "-", "--")
HOURS_AND_DEGREES = {"ra": "hourangle", "dec": "deg"}


def find_columns(names: Sequence[str], asked: Mapping[str, str | None]) -> dict[str, str]:
    """Return the names of the columns that are used, by their meaning.

    Parameters
    ----------
    names : sequence of str
        All columns.
    asked : mapping of str to str or None
        Columns named by the user, by meaning; case is ignored unless two names differ in nothing else.

    Returns
    -------
    dict of str to str
        Column by meaning (a key of `KNOWN`).

    Raises
    ------
    ConfigError
        A column is missing.
    """
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(simplify(name), name)
    found: dict[str, str] = {}
    for what, words in KNOWN.items():
        wanted = asked.get(what)
        named = _exactly(names, wanted) if wanted else next((plain[word] for word in words if word in plain), None)
        if named is None and wanted:
            raise ConfigError(f"no column {wanted!r} for {what}; there are {', '.join(names[:40])}")
        if named is None and what in NEEDED:
            raise ConfigError(f"no column with {what}: say {what}_column; there are {', '.join(names[:40])}")
        if named is not None:
            found[what] = named
    return found


def _exactly(names: Sequence[str], wanted: str) -> str | None:
    return wanted if wanted in names else next((name for name in names if name.lower() == wanted.lower()), None)


def as_names(values: NDArray[Any]) -> NDArray[Any]:
    """Return identifiers: integers unchanged, anything else as text, empty where there is none."""
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind == "f":  # integers with missing values
        texts = (f"{value:.0f}" if value == np.floor(value) else str(value) for value in values.tolist())
        return np.where(np.isfinite(values), np.array([*texts, ""])[:-1], "")
    return np.char.strip(values.astype("U"))


def in_degrees(values: NDArray[Any], what: str) -> Floats:
    """Return right ascensions or declinations in degrees; numbers are degrees, other text is sexagesimal.

    Parameters
    ----------
    values : ndarray (n,)
        Numbers or text.
    what : str
        ``ra`` (sexagesimal: hours) or ``dec``.

    Returns
    -------
    ndarray (n,)
        Angles [deg]; NaN where there is none.

    Raises
    ------
    ConfigError
        Text that is neither a number nor sexagesimal.
    """
    if values.dtype.kind not in "UO":
        return values.astype(np.float64)
    text = np.char.strip(values.astype("U"))
    degrees: Floats = pd.to_numeric(pd.Series(text), errors="coerce").to_numpy(np.float64, copy=True)
    sexagesimal = np.isnan(degrees) & ~np.isin(np.char.lower(text), NO_PLACE)
    if not sexagesimal.any():
        return degrees
    from astropy.coordinates import Angle  # late: most catalogues have degrees
    from astropy.units import UnitsError

    try:
        degrees[sexagesimal] = Angle(text[sexagesimal], unit=HOURS_AND_DEGREES[what]).deg
    except (ValueError, UnitsError) as err:
        raise ConfigError(f"places are degrees, or sexagesimal such as 17:30:25.5 -25:30:30: {what}: {err}") from err
    return degrees

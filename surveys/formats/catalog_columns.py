"""Columns of catalogues: recognised by their names; names as text, places in degrees."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.coordinates import Angle
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
"""What columns are called, simplified, by what they are; the first that is there counts."""
PREFERRED = {"gaia_g": "phot_g_mean_mag", "gaia_bp": "phot_bp_mean_mag", "gaia_rp": "phot_rp_mean_mag"}
NEEDED = ("name", "ra", "dec")
NO_PLACE = ("", "nan", "none", "null", "-", "--")
HOURS_AND_DEGREES = {"ra": u.hourangle, "dec": u.deg}


def find_columns(names: Sequence[str], asked: Mapping[str, str | None]) -> dict[str, str]:
    """Return the columns that matter, by what they are.

    Parameters
    ----------
    names : sequence of str
        All columns.
    asked : mapping of str to str or None
        Those that somebody named, in any case unless two differ by that alone.

    Raises
    ------
    ConfigError
        A column is not there.
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
    """Return names: numbers without a fraction as they are, anything else as text, empty where there is none."""
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind == "f":  # some are missing
        texts = (f"{value:.0f}" if value == np.floor(value) else str(value) for value in values.tolist())
        return np.where(np.isfinite(values), np.array([*texts, ""])[:-1], "")
    return np.char.strip(values.astype("U"))


def in_degrees(values: NDArray[Any], what: str) -> Floats:
    """Return right ascensions or declinations [deg]: numbers are degrees, other text is sexagesimal.

    Raises
    ------
    ConfigError
        Text that is neither.
    """
    if values.dtype.kind not in "UO":
        return values.astype(np.float64)
    text = np.char.strip(values.astype("U"))
    degrees = pd.to_numeric(pd.Series(text), errors="coerce").to_numpy(np.float64, copy=True)
    sexagesimal = np.isnan(degrees) & ~np.isin(np.char.lower(text), NO_PLACE)
    try:
        degrees[sexagesimal] = Angle(text[sexagesimal], unit=HOURS_AND_DEGREES[what]).deg
    except (ValueError, u.UnitsError) as err:
        raise ConfigError(f"places are degrees, or sexagesimal such as 17:30:25.5 -25:30:30: {what}: {err}") from err
    return degrees

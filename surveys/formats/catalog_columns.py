"""Recognition of catalogue columns by their names; identifiers as text, names made of positions."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import ConfigError
from obsarchive.io.column_units import unit_in_name
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
        "identifier",
        "objectname",
    ),
    "ra": ("ra", "raicr", "radeg", "raj", "rightascension", "coordra", "alphaj", "alphawinj", "alphasky", "alpha"),
    "dec": ("dec", "de", "deicr", "decdeg", "dej", "declination", "decj", "coorddec", "deltaj", "deltasky"),
    "mag": ("photgmeanmag", "gmag", "mag", "magnitude", "vmag", "peakmag", "magauto"),
    "mag_err": ("photgmeanmagerror", "egmag", "magerr", "magerror", "magerrauto"),
    "pmra": ("pmra",),
    "pmdec": ("pmdec", "pmde"),
    "parallax": ("parallax", "plx"),
}
"""Simplified column names by meaning; the first that exists is used."""
PREFERRED = {"gaia_g": "phot_g_mean_mag", "gaia_bp": "phot_bp_mean_mag", "gaia_rp": "phot_rp_mean_mag"}
_OTHER_EQUINOX = re.compile(r"(?i)(ra|dec?|alpha|delta)[_ (]*b?1[89]\d\d")
NEEDED = ("ra", "dec")


def find_columns(names: Sequence[str], requested: Mapping[str, str | None]) -> dict[str, str]:
    """Return the names of the columns that are used, by their meaning; none where there is none but for positions.

    Parameters
    ----------
    names : sequence of str
        All columns.
    requested : mapping of str to str or None
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
    modern = [name for name in names if not _OTHER_EQUINOX.search(name)]
    plain: dict[str, str] = {}
    for name in modern:
        plain.setdefault(simplify(name), name)
    placed: dict[str, str] = {}
    for name in modern:
        # without a unit, as of ra_hours; and a coordinate in a column of astropy, as of sky.ra
        for part in (unit_in_name(name)[0], name.rpartition(".")[2]):
            placed.setdefault(simplify(part), name)
    found: dict[str, str] = {}
    for what, words in KNOWN.items():
        wanted = requested.get(what)
        known = {**placed, **plain} if what in NEEDED else plain
        named = _exactly(names, wanted) if wanted else next((known[word] for word in words if word in known), None)
        if named is None and wanted:
            raise ConfigError(f"no column {wanted!r} for {what}; there are {', '.join(names[:40])}")
        if named is None and what in NEEDED:
            older = "" if len(modern) == len(names) else "; positions of other equinoxes are not converted to J2000"
            raise ConfigError(f"no column with {what}: set {what}_column; there are {', '.join(names[:40])}{older}")
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


def names_of_places(ra: Floats, dec: Floats) -> NDArray[np.str_]:
    """Return names made of positions as the IAU recommends, such as ``J064508.91-164258.0``: digits are cut off.

    Parameters
    ----------
    ra, dec : ndarray (n,)
        Positions [deg].

    Returns
    -------
    ndarray of str (n,)
        Empty where there is no position.
    """
    known = np.isfinite(ra) & np.isfinite(dec)
    # what is lost in a conversion from hours or radians must not change the last digit
    hundredths = np.floor(np.where(known, ra, 0.0) % 360 * 24000 + 1e-4).astype(np.int64) % 8640000
    tenths = np.floor(np.abs(np.where(known, dec, 0.0)) * 36000 + 1e-4).astype(np.int64)
    names = [
        f"J{a // 360000:02d}{a // 6000 % 60:02d}{a // 100 % 60:02d}.{a % 100:02d}"
        f"{'-' if south else '+'}{d // 36000:02d}{d // 600 % 60:02d}{d // 10 % 60:02d}.{d % 10}"
        for a, d, south in zip(hundredths.tolist(), tenths.tolist(), (dec < 0).tolist(), strict=True)
    ]
    return np.where(known, np.array(names, "U"), "")

"""Units of columns of catalogues: conversion by astropy of what a file declares, or what the name of a column says.

Astropy and pandas are imported where they are needed: names of columns are recognised without them.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import ConfigError

if TYPE_CHECKING:
    from astropy.units import UnitBase

Floats = NDArray[np.float64]

NO_PLACE = (
    *("", "nan", "none", "null", "n/a", "na", "-", "--", "---", "...", "~"),
    *("indef", "undef", "undefined", "unknown", "masked", "no coord.", "no coord"),
)
WANTED = {"mag": "mag", "mag_err": "mag", "pmra": "mas / yr", "pmdec": "mas / yr", "parallax": "mas"}
"""Units in which quantities are returned, by meaning."""
MOST_NAMED = 5
LONGEST_ENDING = 40
"""Last characters of a column's name among which its unit is looked for."""
_ANGLES = {
    "hourangle": ("h", "hr", "hrs", "hour", "hours", "hourangle", "hms"),
    "deg": ("deg", "degs", "degree", "degrees", "°", "dms"),
    "rad": ("rad", "rads", "radian", "radians"),
    "arcmin": ("arcmin", "arcmins", "arcminute", "arcminutes"),
    "arcsec": ("arcsec", "arcsecs", "arcsecond", "arcseconds"),
    "mas": ("mas", "milliarcsec"),
}
_WORDS = {word: unit for unit, words in _ANGLES.items() for word in words}
_SEXAGESIMAL = re.compile(r"(?i)(?P<hours>h+|hours?|hr)[\s:]*m.*s.*|[-+±]?(d+|degs?|degrees?)[\s:]*(m|arcm|').*")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_IN_NAME = re.compile(
    rf"(?i)^(?P<base>.*?)(?:[\s_.:/(\['\"-]+|(?<=ra)|(?<=rightascension)|(?<=de)|(?<=dec)|(?<=declination)|(?<=2000))"
    rf"(?P<unit>{'|'.join(map(re.escape, sorted(_WORDS, key=len, reverse=True)))}|h+:m+:s+|d+:m+:s+)[)\]'\"\s]*$"
)


def unit_in_name(name: str) -> tuple[str, str]:
    """Return the name of a column without the unit of angle at its end, and that unit or an empty text.

    Parameters
    ----------
    name : str
        Name of a column, such as ``ra_hours``, ``RA (deg)``, ``RAdeg`` or ``raj2000 'h:m:s'``.

    Returns
    -------
    base, unit : str
    """
    first, last = name[:-LONGEST_ENDING], name[-LONGEST_ENDING:]  # the search takes long in long texts
    found = _IN_NAME.match(last)
    return (first + found["base"], found["unit"]) if found and first + found["base"] else (name, "")


def is_angle_word(text: str) -> bool:
    """Return whether a text is a unit of angle, as in the line of units under the names of a text file."""
    plain = _plain(text)
    return plain in _WORDS or _SEXAGESIMAL.fullmatch(plain) is not None


def degrees_of(values: NDArray[Any], what: str, unit: str = "", name: str = "") -> Floats:
    """Return right ascensions or declinations in degrees.

    Parameters
    ----------
    values : ndarray (n,)
        Numbers or text. Without a unit numbers are degrees, and other text is sexagesimal.
    what : str
        ``ra`` (sexagesimal: hours) or ``dec``.
    unit : str
        The declared unit; empty: that in `name`, if any.
    name : str
        Name of the column.

    Returns
    -------
    ndarray (n,)
        Angles [deg]; NaN where there is none.

    Raises
    ------
    ConfigError
        The unit is no angle, or a text is neither a number nor sexagesimal.
    """
    label, unit = name or what, unit or unit_in_name(name)[1]
    angle = _angle(unit, what, label)
    if values.dtype.kind not in "UO":
        if _SEXAGESIMAL.fullmatch(_plain(unit)):
            raise ConfigError(
                f"column {label!r}: expected text such as 17:30:25.5, as its unit is {unit}, found numbers; "
                "write them with colons, or in degrees"
            )
        return _converted(values.astype(np.float64), angle)
    text = np.char.replace(np.char.strip(values.astype("U")), "\N{MINUS SIGN}", "-")
    degrees = _converted(numbers_of(text), angle)
    sexagesimal = np.isnan(degrees) & ~np.isin(np.char.lower(text), NO_PLACE)
    if sexagesimal.any():
        degrees[sexagesimal] = _sexagesimal(text[sexagesimal], what, angle, label)
    return degrees


def _converted(numbers: Floats, angle: "UnitBase | None") -> Floats:
    return numbers if angle is None or angle == "deg" else np.asarray(angle.to("deg", numbers), np.float64)


def _sexagesimal(text: NDArray[np.str_], what: str, angle: "UnitBase | None", label: str) -> Floats:
    comma = next((word for word in text.tolist() if _DECIMAL_COMMA.fullmatch(word)), None)
    if comma is not None:
        raise ConfigError(
            f"column {label!r}: expected numbers with a decimal point, found {comma}: "
            "write the file with decimal points, and commas or semicolons between the columns"
        )
    from astropy.coordinates import Angle
    from astropy.units import UnitsError

    expected = "hourangle" if what == "ra" else "deg"
    if angle is not None and angle != expected:
        raise ConfigError(
            f"column {label!r}: expected numbers, as its unit is {angle}, found {str(text[0])!r}; "
            f"correct the unit ({'h:m:s' if what == 'ra' else 'd:m:s'})"
        )
    try:
        return np.asarray(Angle(text.tolist(), unit=expected).deg, np.float64)
    except (ValueError, UnitsError) as err:
        raise ConfigError(
            f"positions are degrees, or sexagesimal such as 17:30:25.5 -25:30:30: {label}: {err}"
        ) from err


def _plain(unit: str) -> str:
    return unit.strip().strip("'\"[]()").strip().lower()


def _angle(unit: str, what: str, label: str) -> "UnitBase | None":
    """Return the unit of an angle; None if none is declared."""
    plain = _plain(unit)
    if plain in ("", "-", "--", "---"):
        return None
    sexagesimal = _SEXAGESIMAL.fullmatch(plain)
    word = "" if sexagesimal is None else "hourangle" if sexagesimal["hours"] else "deg"
    found = _parsed(word or _WORDS.get(plain, unit))
    if found is None or not found.is_equivalent("deg") or (what == "dec" and found == "hourangle"):
        kinds = "deg, rad, arcsec or d:m:s" if what == "dec" else "deg, h, rad, arcsec or h:m:s"
        raise ConfigError(
            f"column {label!r}: expected a unit of angle for {what} ({kinds}), found {unit!r}; "
            f"correct the unit in the file, or name another column by {what}_column"
        )
    return found


def _parsed(unit: str) -> "UnitBase | None":
    """Return a unit in any of the ways in which files write it; None if it cannot be understood."""
    from astropy.units import Unit

    for text in (unit, unit.strip().strip("'\"[]"), unit.lower()):
        for written in (None, "cds"):
            try:
                return Unit(text, format=written)
            except (ValueError, TypeError):
                continue
    return None


def quantity_of(values: NDArray[Any], what: str, unit: str, name: str) -> NDArray[Any]:
    """Return magnitudes [mag], proper motions [mas/yr] or parallaxes [mas] of a column with any such unit.

    Parameters
    ----------
    values : ndarray (n,)
        Numbers, or text; returned as they are without a unit.
    what : str
        A key of `WANTED`; others are returned as they are.
    unit : str
        The declared unit; empty: that of `WANTED`.
    name : str
        Name of the column.

    Raises
    ------
    ConfigError
        The unit is of another kind.
    """
    wanted, plain = WANTED.get(what), _plain(unit)
    if wanted is None or plain in ("", "-", "--", "---") or (wanted == "mag" and _is_magnitude(plain)):
        return values
    found = _parsed(unit)
    if found is None or not found.is_equivalent(wanted):
        raise ConfigError(f"column {name!r}: expected {what} in units such as {wanted}, found {unit!r}")
    if found == wanted:
        return values
    return np.asarray(found.to(wanted, numbers_of(values)), np.float64)


def numbers_of(values: NDArray[Any]) -> Floats:
    """Return numbers (n,), also those written as text; NaN where there is none."""
    if values.dtype.kind in "iuf":
        return values.astype(np.float64)
    import pandas as pd

    numbers: Floats = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(np.float64, copy=True)
    return numbers


def _is_magnitude(unit: str) -> bool:
    return re.fullmatch(r"(ab|st|vega)?mags?(nitudes?)?(\(\w+\))?|mag\s*\(.*\)", unit) is not None


def checked_places(ra: Floats, dec: Floats, label: Callable[[int], str] | None = None) -> Floats:
    """Return right ascensions from 0 to 360; those from -180 to 0 are wrapped.

    Parameters
    ----------
    ra, dec : ndarray (n,)
        Positions [deg]; NaN where there is none.
    label : callable, optional
        Returns what a row is called in the message; by default its number, from 1.

    Raises
    ------
    ConfigError
        A position is not on the sphere.
    """
    wrong = np.flatnonzero((ra < -180 - 1e-9) | (ra > 360 + 1e-9) | (np.abs(dec) > 90 + 1e-9))
    if wrong.size:
        called = label or (lambda i: f"row {i + 1}")
        listed = "; ".join(f"{called(i)}: {ra[i]:g} {dec[i]:+g}" for i in wrong[:MOST_NAMED].tolist())
        raise ConfigError(
            f"expected right ascensions from 0 to 360 and declinations from -90 to 90 [deg], found in {wrong.size} of "
            f"{len(ra)} rows others: {listed}; correct these rows, or the unit or name of the columns"
        )
    return np.where(ra < 0, ra % 360, ra)


def doubt_of(ra: Floats, dec: Floats) -> str:
    """Return why positions without a declared unit may not be in degrees; empty if they look like degrees."""
    known = np.isfinite(ra) & np.isfinite(dec)
    if not known.any() or float(np.max(ra[known])) >= 24 or float(np.min(ra[known])) < 0:
        return ""
    if known.sum() > 1 and np.max(ra[known]) <= 2 * np.pi and np.max(np.abs(dec[known])) <= np.pi / 2:
        return "all right ascensions are below 6.3 and all declinations within 1.6: radians? They are taken for degrees"
    return "all right ascensions are below 24: hours? They are taken for degrees"

"""Positions and angles as people write them; what cannot be read says which part is wrong, and why."""

import math
import re
from dataclasses import dataclass

from astropy import units as u
from astropy.coordinates import SkyCoord

from obsarchive.instruments.base import degrees

UNITS = {"arcsec": 1 / 3600, "arcmin": 1 / 60, "deg": 1.0, "rad": 180 / math.pi}
"""Degrees in a unit of an angle."""
_WRITTEN_UNITS = {
    "arcsec": ("arcsec", "arcsecs", "arcseconds", "asec", "as", '"', "″", "''", "″"),
    "arcmin": ("arcmin", "arcmins", "arcminutes", "amin", "am", "'", "′"),
    "deg": ("deg", "degs", "degrees", "°", "d"),
    "rad": ("rad", "radian", "radians"),
}
_UNIT_OF = {written: unit for unit, all_written in _WRITTEN_UNITS.items() for written in all_written}
_MINUS = str.maketrans("−–—", "---")
_ANGLE = re.compile(r"([+-]?[0-9.]+(?:e[+-]?[0-9]+)?)\s*([^0-9.\s]*)", re.IGNORECASE)
_NUMBER = r"[+-]?[0-9]+(?:\.[0-9]*)?"
_GALACTIC = (
    re.compile(rf"l\s*=?\s*({_NUMBER})[\s,;]*b\s*=?\s*({_NUMBER})", re.IGNORECASE),
    re.compile(rf"gal(?:actic)?\s*({_NUMBER})[\s,;]+({_NUMBER})", re.IGNORECASE),
    re.compile(rf"({_NUMBER})[\s,;]+({_NUMBER})\s*gal(?:actic)?", re.IGNORECASE),
    re.compile(r"g\s*([0-9]+\.[0-9]+)([+-][0-9]+\.[0-9]+)", re.IGNORECASE),
)
_DESIGNATION = re.compile(r"J?(\d\d)(\d\d)(\d\d(?:\.\d*)?)\s*([+-]|\s)\s*(\d\d)(\d\d)(\d\d(?:\.\d*)?)", re.IGNORECASE)
_SHORT_DESIGNATION = re.compile(r"J(\d\d)(\d\d(?:\.\d*)?)\s*([+-]|\s)\s*(\d\d)(\d\d(?:\.\d*)?)", re.IGNORECASE)
HOW = "10:20:30.5 +12:34:56, 10h20m30.5s, degrees, J102030.5+123456, or galactic as l 220.1 b 53.4"


class PositionError(ValueError):
    """A text that is no position.

    Parameters
    ----------
    field : {"ra", "dec"}
        The coordinate that is wrong.
    message : str
        Why.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Place:
    """A position on the sky [deg], and how it was understood where that may surprise."""

    ra_deg: float
    dec_deg: float
    remark: str = ""


def read_place(ra: str, dec: str) -> Place:
    """Read a position on the sky.

    Parameters
    ----------
    ra : str
        Right ascension: in hours if sexagesimal, a plain number is in degrees; or both coordinates.
    dec : str
        Declination [deg]; empty where the other text holds both.

    Returns
    -------
    Place

    Raises
    ------
    PositionError
        A coordinate cannot be read or is none.
    """
    first, second = (text.translate(_MINUS).strip() for text in (ra, dec))
    if first and second:
        return _equatorial(_with_point(first), _with_point(second))
    whole = first or second
    for pattern in _GALACTIC:
        if found := pattern.fullmatch(whole):
            return _galactic(float(found[1]), float(found[2]))
    parts = _designation(whole) or _halves(whole)
    if parts is None:
        missing, given = ("dec", "RA") if first else ("ra", "Dec")
        raise PositionError(missing, f"both RA and Dec are needed, {given} alone is no position; as {HOW}")
    return _equatorial(*parts)


def position(ra: str, dec: str) -> tuple[float, float] | None:
    """Return right ascension (0 to 360) and declination [deg] of what `read_place` reads; None if that is none."""
    try:
        found = read_place(ra, dec)
    except PositionError:
        return None
    return found.ra_deg, found.dec_deg


def read_angle(text: str, unit: str) -> float | None:
    """Read a radius.

    Parameters
    ----------
    text : str
        A number, perhaps with its unit: ``30``, ``1'``, ``30 arcsec``, ``0.5°``.
    unit : str
        Unit of a number without one, a key of `UNITS`.

    Returns
    -------
    float or None
        The angle [deg]; None for what is none.
    """
    found = _ANGLE.fullmatch(text.translate(_MINUS).replace(",", ".").strip())
    written = _UNIT_OF.get(found[2].lower()) if found and found[2] else unit
    try:
        return float(found[1]) * UNITS[written] if found and written else None
    except ValueError:
        return None


def _with_point(text: str) -> str:
    """Return a number with a decimal point instead of a comma."""
    return text.replace(",", ".") if re.fullmatch(r"[+-]?\d+,\d+", text) else text


def _designation(text: str) -> tuple[str, str] | None:
    if found := _DESIGNATION.fullmatch(text):
        sign = "-" if found[4] == "-" else "+"
        return ":".join(found.group(1, 2, 3)), sign + ":".join(found.group(5, 6, 7))
    if found := _SHORT_DESIGNATION.fullmatch(text):
        sign = "-" if found[3] == "-" else "+"
        return f"{found[1]}:{found[2]}:0", f"{sign}{found[4]}:{found[5]}:0"
    return None


def _halves(text: str) -> tuple[str, str] | None:
    """Divide a text that holds both coordinates."""
    signed = re.fullmatch(r"(.*[0-9hmsd°'\"′″ʰᵐˢ.])\s*[,;]?\s*([+-].*)", text)
    if signed:
        return signed[1].rstrip(" ,;"), signed[2]
    if len(halves := re.split(r"\s*[,;]\s+|;", text)) == 2 or (len(halves := text.split(",")) == 2 and "." in text):
        return halves[0], halves[1]
    words = text.split()
    if len(words) not in (2, 4, 6):
        return None
    half = len(words) // 2
    return " ".join(words[:half]), " ".join(words[half:])


def _galactic(longitude: float, latitude: float) -> Place:
    if abs(latitude) > 90:
        raise PositionError("dec", f"galactic latitude {latitude:g} lies beyond ±90°")
    found = SkyCoord(l=longitude * u.deg, b=latitude * u.deg, frame="galactic").icrs
    ra, dec = float(found.ra.deg), float(found.dec.deg)
    return Place(ra, dec, f"l {longitude:g}°, b {latitude:g}° is RA {ra:.5f}°, Dec {dec:+.5f}°")


def _equatorial(ra: str, dec: str) -> Place:
    ra_deg, dec_deg = _coordinate("ra", "RA", ra, u.hourangle), _coordinate("dec", "Dec", dec, u.deg)
    if abs(dec_deg) > 90:
        exchanged = "; are RA and Dec exchanged?" if 0 <= dec_deg <= 360 and abs(ra_deg) <= 90 else ""
        raise PositionError("dec", f"Dec {dec} lies beyond ±90°{exchanged}")
    if not -360 <= ra_deg <= 360:
        most = "24 hours" if _is_sexagesimal(ra) else "360°"
        raise PositionError("ra", f"RA {ra} lies beyond {most}")
    remark = f"RA {ra} is read as {ra_deg % 360:g}°" if ra_deg < 0 else ""
    return Place(ra_deg % 360.0, dec_deg, remark)


def _coordinate(field: str, name: str, text: str, unit: u.Unit) -> float:
    parts = [float(part) for part in re.findall(r"[0-9]+(?:\.[0-9]*)?", text)] if _is_sexagesimal(text) else []
    for what, part in zip(("minutes", "seconds"), parts[1:], strict=False):
        if part > 60 or (part == 60 and what == "minutes"):
            raise PositionError(field, f"{name} {text}: {part:g} {what}, they go from 0 to 59")
    found = degrees(text, unit)
    if found is None:
        raise PositionError(field, f"{name} {text[:30]!r} cannot be read; write {HOW}")
    return found


def _is_sexagesimal(text: str) -> bool:
    return re.search(r"[:hmʰᵐ′'\s]", text.strip()) is not None

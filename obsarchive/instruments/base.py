"""Instrument adapters: what a raw file is, which observation it belongs to, what its header says.

An adapter is a class with the two methods of :class:`Instrument`, and that of :class:`Sectioned` if the camera has an
overscan. `RoboAO` reads names, `HeaderDriven` headers; an adopter writes another one and names it in ``paths.raw`` of
the configuration.
"""

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, cast, runtime_checkable

from astropy import units as u
from astropy.coordinates import FK4, FK5, Angle, SkyCoord
from astropy.time import Time

from obsarchive.core.document_types.observations import Coordinates
from obsarchive.io.raw_frames import Sections

Kind = Literal["science", "dark", "flat", "seeing", "ignored"]
_PACKINGS = (".fz.bz2", ".fz.gz", ".bz2", ".gz", ".fz", "")
SUFFIXES = tuple(f"{kind}{packed}" for kind in (".fits", ".fit", ".fts") for packed in _PACKINGS)
"""Endings of the names of raw files, in any case."""
_PACKED_OTHERWISE = re.compile(r".*\.(fits|fit|fts)\.(xz|zst|z|zip|7z|rar|lz4|lzma)", re.IGNORECASE)
UNKNOWN = 9999.0
"""Value by which the telescope's headers say that they do not know."""
J2000, FIRST_JULIAN, YEARS = 2000.0, 1984.0, (1850.0, 2100.0)
"""Equinox of the archive's positions, the first one that is a Julian year, and those that are believed."""
MAX_SIDE = 100_000
"""Longest side of a frame that is believed [pixel]."""


@dataclass(frozen=True)
class RawFile:
    """Kind and identity of a raw file."""

    name: str
    kind: Kind
    observation: str = ""
    """Name of the observation; empty for other kinds."""
    part: int = -1
    """Place in a sequence of several files; the first has no number."""
    mode: str = ""
    filter: str = ""
    date_utc: datetime | None = None
    camera: str = ""
    defaults: tuple[str, ...] = ()
    """What the header lacks and what is taken for it, such as ``keyword FILTER: filter none``: users are warned."""
    problem: str = ""
    """Why a FITS file is not understood and what to do about it; its kind is then ``ignored``. Users are warned."""
    is_unread: bool = False
    """Whether that is a fault of the disk rather than of the file: it is soon tried again."""


class Instrument(Protocol):
    """Interface of an adapter for an instrument."""

    def identify(self, path: Path) -> RawFile:
        """Return the kind of a file; unknown files are ``ignored``, FITS files with a ``problem``, never an error."""
        ...

    def describe(self, header: Mapping[str, Any]) -> dict[str, Any]:
        """Read what the header of frame 0 says, as fields of the observation's document.

        Any key may be missing or wrong: then its field is missing.
        """
        ...


@runtime_checkable
class Sectioned(Protocol):
    """An adapter of a camera whose frames have an overscan, or edges to be cut off."""

    def sections(self, header: Mapping[str, Any]) -> Sections:
        """Which part of a raw frame is kept, and which saw no light.

        Raises
        ------
        BadRawData
            The header states a section that cannot be read.
        """
        ...


def stem(name: str) -> str | None:
    """Return a raw file's name without its suffix, or None when it is no raw file."""
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), None)
    return None if suffix is None else name[: -len(suffix)]


def no_raw_file(name: str) -> RawFile:
    """Return what a file is whose name does not end as those of raw files do."""
    packed = _PACKED_OTHERWISE.fullmatch(name)
    problem = f"packed as .{packed[2]}, expected .bz2, .gz, .fz or a plain FITS file: pack it again" if packed else ""
    return RawFile(name, "ignored", problem=problem)


def first_known(values: Iterable[float | None]) -> float | None:
    """Return the first value that is not None."""
    return next((value for value in values if value is not None), None)


def number(value: Any) -> float | None:
    """Return a finite number, or None for whatever else a header may hold."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number != UNKNOWN else None


def degrees(value: Any, unit: u.Unit) -> float | None:
    """Return an angle in degrees.

    Parameters
    ----------
    value : object
        ``HH:MM:SS.ss``, ``10h20m30.5s``, or a number of degrees.
    unit : Unit
        Unit of sexagesimal text: hour angle or degree.

    Returns
    -------
    float or None
        The angle [deg]; None when `value` is no finite angle.
    """
    if not isinstance(value, str) or _is_number(value):
        return number(value)
    try:
        with warnings.catch_warnings(action="ignore"):  # 59.999 s are rounded to 60 s by some clocks
            degrees = float(Angle(value.strip(), unit=unit).to_value(u.deg))
    except (ValueError, TypeError, u.UnitsError):
        return None
    return degrees if math.isfinite(degrees) else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def frame_shape(header: Mapping[str, Any]) -> list[int] | None:
    """Rows and columns of a frame, if the header says so."""
    sides = [number(header.get(key)) for key in ("NAXIS2", "NAXIS1")]
    known = [int(side) for side in sides if side is not None and 1 <= side <= MAX_SIDE]
    return known if len(known) == len(sides) else None


def coordinates(ra: float | None, dec: float | None, header: Mapping[str, Any]) -> Coordinates | None:
    """Return the fields of the document's ``coordinates`` that are known.

    Parameters
    ----------
    ra, dec : float, optional
        Position [deg] in the header's equinox; a right ascension beyond a turn is wrapped.
    header : mapping
        Header of the raw file: ``EQUINOX``, ``AZIMUTH``, ``ELEVATION``.

    Returns
    -------
    dict or None
        None when nothing is known. The position is that of J2000: one of another equinox is precessed.
    """
    equinox = number(re.sub(r"^\s*[JB]\s*", "", str(header.get("EQUINOX")), flags=re.IGNORECASE))
    is_known = ra is not None and dec is not None and abs(dec) <= 90.0
    is_old = equinox is not None and YEARS[0] <= equinox <= YEARS[1] and equinox != J2000
    if ra is not None and dec is not None and is_known and is_old and equinox is not None:
        ra, dec = _precessed(ra, dec, equinox)
        equinox = J2000
    fields = {
        "epoch": equinox,
        "az_deg": number(header.get("AZIMUTH")),
        "el_deg": first_known(number(header.get(key)) for key in ("ELEVATION", "ELVATION")),
    }
    known = cast(Coordinates, {key: value for key, value in fields.items() if value is not None})
    if ra is not None and dec is not None and is_known:
        ra = ra % 360.0 % 360.0  # a tiny negative angle modulo 360 is 360
        longitude = (ra + 180.0) % 360.0 - 180.0
        known |= {"ra_deg": ra, "dec_deg": dec, "geojson": {"type": "Point", "coordinates": [longitude, dec]}}
    return known or None


def _precessed(ra: float, dec: float, equinox: float) -> tuple[float, float]:
    """Position of J2000 [deg]; before 1984, equinoxes are Besselian."""
    is_besselian = equinox < FIRST_JULIAN
    time = Time(equinox, format="byear" if is_besselian else "jyear")
    frame = FK4(equinox=time) if is_besselian else FK5(equinox=time)
    place = SkyCoord(ra * u.deg, dec * u.deg, frame=frame).transform_to(FK5(equinox="J2000"))
    return float(place.ra.deg), float(place.dec.deg)

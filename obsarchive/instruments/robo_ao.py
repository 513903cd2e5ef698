"""Robo-AO: everything is in the name of a file, conditions are in the header of frame 0."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from astropy import units as u

from obsarchive.instruments.base import (
    SUFFIXES,
    Kind,
    RawFile,
    coordinates,
    degrees,
    first_known,
    frame_shape,
    no_raw_file,
    number,
    stem,
)
from obsarchive.names import ObservationName, parse_stamp

_STAMP = r"(?P<date>\d{8}_\d{6}\.\d{6})(?:_(?P<part>\d{1,5}))?"
_WORD = r"[A-Za-z0-9+.-]+"
_PATTERNS: dict[Kind, re.Pattern[str]] = {
    "dark": re.compile(rf"dark_(?P<mode>[A-Za-z0-9]+)_{_STAMP}", re.ASCII),
    "flat": re.compile(rf"flat_(?P<mode>[A-Za-z0-9]+)_(?P<filter>{_WORD})_{_STAMP}", re.ASCII),
    "seeing": re.compile(rf"seeing_(?P<camera>{_WORD})_(?P<filter>{_WORD})_{_WORD}_{_STAMP}", re.ASCII),
    "science": re.compile(r"(?P<name>.+_\d{8}_\d{6}\.\d{6})(?:_(?P<part>\d{1,5}))?", re.ASCII),
}
_CALIBRATION: tuple[Kind, ...] = ("dark", "flat", "seeing")
_FORMS: dict[Kind, str] = {
    "dark": "dark_<mode>",
    "flat": "flat_<mode>_<filter>",
    "seeing": "seeing_<camera>_<filter>_<mark>",
    "science": "<programme>_<object>_<camera>_<filter>_<mark>",
}
OF_NO_USE = ("bias_*", "pointing_*")
_REMEDY = "rename it, or list its name in the setting ignored"


class RoboAO:
    """Robo-AO: everything is in the file's name, conditions are in the header of frame 0.

    Parameters
    ----------
    settings : mapping, optional
        ``ignored``: patterns of the names of FITS files of no use, such as ``["bias_*", "pointing_*"]``.

    Raises
    ------
    ValueError
        Another setting is given.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        known = dict(settings or {})
        ignored = known.pop("ignored", OF_NO_USE)
        if known:
            raise ValueError(f"RoboAO has no settings but ignored; found {', '.join(known)}")
        if isinstance(ignored, str) or not all(isinstance(pattern, str) for pattern in ignored):
            raise ValueError(f"setting ignored: expected a list of patterns, found {ignored!r}")
        self.ignored = tuple(ignored)

    def identify(self, path: Path) -> RawFile:
        """Return the kind of a file from its name."""
        text = stem(path.name)
        if text is None:
            return no_raw_file(path.name)
        if any(fnmatchcase(path.name, pattern) for pattern in self.ignored):
            return RawFile(path.name, "ignored")
        kind: Kind = next((k for k in _CALIBRATION if text.startswith(f"{k}_")), "science")
        match = _PATTERNS[kind].fullmatch(text)
        form = f"{_FORMS[kind]}_yyyymmdd_HHMMSS.SSSSSS"
        if match is None or not path.name.endswith(SUFFIXES):
            return RawFile(path.name, "ignored", problem=f"its name is not {form}: {_REMEDY}")
        parts = match.groupdict()
        part = -1 if parts["part"] is None else int(parts["part"])
        try:
            if kind == "science":
                name = ObservationName.parse(parts["name"])
                return RawFile(path.name, "science", parts["name"], part, "", name.filter, name.date_utc, name.camera)
            date = parse_stamp(parts["date"])
        except ValueError:
            problem = f"its name is not {form} with a date of the calendar, in 200 characters at most: {_REMEDY}"
            return RawFile(path.name, "ignored", problem=problem)
        return RawFile(
            path.name,
            kind,
            "",
            part,
            parts.get("mode", ""),
            parts.get("filter", ""),
            date,
            parts.get("camera", ""),
        )

    def describe(self, header: Mapping[str, Any]) -> dict[str, Any]:
        """Read exposure, magnitude, position, detector mode and frame shape."""
        ra = first_known(degrees(header.get(key), u.hourangle) for key in ("TELRA", "OBJRA"))
        dec = first_known(degrees(header.get(key), u.deg) for key in ("TELDEC", "OBJDEC"))
        mode = number(header.get("MODE_NUM"))
        fields: dict[str, Any] = {
            "exposure_s": number(header.get("EXPOSURE")),
            "magnitude": number(header.get("MAGNITUD")),
            "em_gain": number(header.get("EMGAIN")),
            "mode": None if mode is None else f"{mode:.0f}",
            "shape": frame_shape(header),
            "coordinates": coordinates(ra, dec, header),
        }
        return {key: value for key, value in fields.items() if value is not None}

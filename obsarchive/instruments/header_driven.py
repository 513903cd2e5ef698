"""Cameras whose headers describe the raw files, under keywords that the configuration names."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from astropy import units as u
from astropy.io.fits.card import Undefined
from pydantic import ConfigDict, TypeAdapter, ValidationError

from obsarchive.errors import ArchiveError, did_you_mean
from obsarchive.instruments import RawFile
from obsarchive.instruments.base import SUFFIXES, Kind, coordinates, degrees, frame_shape, number, stem
from obsarchive.io.image_headers import belongs_to
from obsarchive.io.raw_frames import Sections, read_header
from obsarchive.names import ObservationName

log = logging.getLogger(__name__)

BIAS_MODE = "0"
"""Mode of the master that is subtracted from flats."""
NO_FILTER, NO_OBJECT = "none", "unknown"
_DEFAULTS = {"object": f"object {NO_OBJECT}", "filter": f"filter {NO_FILTER}", "exposure": "exposure 0 s"}
"""Settings without whose keyword a default is taken, in the words of messages."""
_NEEDED_BY: dict[str, tuple[str, ...]] = {
    "science": ("object", "filter", "exposure"),
    "dark": ("exposure",),
    "flat": ("filter",),
    "seeing": ("filter",),
}
"""Which of them decide on the use of a kind of file."""
_SECTION = re.compile(r"\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]")


@dataclass(frozen=True)
class Keywords:
    """Header keywords and their values.

    Parameters
    ----------
    image_type, object, filter, exposure, ra, dec, gain, trim, overscan : str
        Keywords; of several, separated by blanks, the first that has a value.
    date, time : str
        Start of the exposure [UTC]: date and time in one, or apart.
    science, bias, dark, flat, seeing : tuple of str
        Values of the image type, in any case.
    camera, program : str
        Name of the camera, and of the programme: a word, or a keyword with ``$`` before it.
    sequence : str
        ``object``: exposures of the same object in the same filter and of the same length are one observation;
        ``file``: each file is.
    darks : str
        What is subtracted from science: ``bias``, or ``exposure``: the darks of the same exposure.
    """

    image_type: str = "IMAGETYP OBSTYPE"
    object: str = "OBJECT"
    filter: str = "FILTER"
    exposure: str = "EXPTIME EXPOSURE"
    date: str = "DATE-OBS"
    time: str = "TIME-OBS UTC UT"
    ra: str = "RA OBJRA TELRA"
    dec: str = "DEC OBJDEC TELDEC"
    gain: str = "EGAIN GAIN"
    trim: str = "TRIMSEC"
    overscan: str = "BIASSEC"
    science: tuple[str, ...] = ("object", "light", "light frame", "science", "expose")
    bias: tuple[str, ...] = ("bias", "zero", "bias frame")
    dark: tuple[str, ...] = ("dark", "dark frame")
    flat: tuple[str, ...] = ("flat", "flat field", "skyflat", "domeflat", "dome flat", "sky flat", "twilight flat")
    seeing: tuple[str, ...] = ("seeing",)
    camera: str = "CCD"
    program: str = "1"
    sequence: Literal["object", "file"] = "object"
    darks: Literal["bias", "exposure"] = "bias"

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass
class _Folder:
    """Cache of a folder: when it was listed, and of each file its version, kind and group."""

    listed_ns: int = -1
    files: dict[str, tuple[tuple[int, int], RawFile, tuple[str, ...]]] = field(default_factory=dict)


class HeaderDriven:
    """A camera whose files say in their headers what they are.

    Parameters
    ----------
    settings : mapping, optional
        Those of :class:`Keywords` that differ.

    Raises
    ------
    ValueError
        A setting is unknown or of the wrong type.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        try:
            self.keywords = TypeAdapter(Keywords).validate_python(dict(settings or {}))
        except ValidationError as err:
            raise ValueError(_explained(err)) from err
        self._folders: dict[Path, _Folder] = {}

    def identify(self, path: Path) -> RawFile:
        """Return the kind of a file from its header; science belongs to the sequence in its folder."""
        raw, group = self._facts(path)
        if raw.kind != "science" or self.keywords.sequence == "file":
            return raw
        try:
            siblings = self._siblings(path.parent, group)
        except OSError:  # the folder has gone
            return raw
        before = sorted((other.date_utc, other.name, other.observation) for other in [raw, *siblings])
        names = list(dict.fromkeys(name for _, name, _ in before))
        return replace(raw, observation=before[0][2], part=names.index(raw.name) - 1)

    def describe(self, header: Mapping[str, Any]) -> dict[str, Any]:
        """Read exposure, gain, position, detector mode and the shape of what is kept of a frame."""
        words = self.keywords
        ra, dec = degrees(self._value(header, words.ra), u.hourangle), degrees(self._value(header, words.dec), u.deg)
        shape, trim = frame_shape(header), self.sections(header).trim
        exposure = number(self._value(header, words.exposure))
        fields: dict[str, Any] = {
            "exposure_s": exposure,
            "gain": number(self._value(header, words.gain)),
            "mode": BIAS_MODE if words.darks == "bias" else _dark_mode(exposure),
            "shape": shape if trim is None else [trim[1] - trim[0], trim[3] - trim[2]],
            "coordinates": coordinates(ra, dec, header),
        }
        return {key: value for key, value in fields.items() if value is not None}

    def sections(self, header: Mapping[str, Any]) -> Sections:
        """Sections as ``[x1:x2,y1:y2]``, counted from 1, both ends included."""
        return Sections(*(_section(self._value(header, name)) for name in (self.keywords.trim, self.keywords.overscan)))

    def _value(self, header: Mapping[str, Any], names: str) -> Any:
        """First value that is there under some keywords."""
        values = (header.get(name) for name in names.split())
        return next((value for value in values if not _is_empty(value)), None)

    def _facts(self, path: Path) -> tuple[RawFile, tuple[str, ...]]:
        """Return the kind of a file, and the common facts of its sequence; read once for each version of the file."""
        try:
            stat = path.stat()
        except OSError:
            return RawFile(path.name, "ignored"), ()
        known = self._folders.setdefault(path.parent, _Folder()).files
        version = stat.st_size, stat.st_mtime_ns
        if path.name not in known or known[path.name][0] != version:
            known[path.name] = (version, *self._read(path))
        _, raw, group = known[path.name]
        return raw, group

    def _siblings(self, night: Path, group: tuple[str, ...]) -> list[RawFile]:
        """Files of a sequence; the folder is listed again only when files came or went."""
        folder = self._folders[night]
        changed_ns = night.stat().st_mtime_ns
        if folder.listed_ns != changed_ns:
            there = [other for other in night.iterdir() if stem(other.name) is not None]
            for other in there:
                self._facts(other)
            for name in folder.files.keys() - {other.name for other in there}:
                del folder.files[name]
            folder.listed_ns = changed_ns
        return [raw for _, raw, its in folder.files.values() if its == group]

    def _read(self, path: Path) -> tuple[RawFile, tuple[str, ...]]:
        ignored = RawFile(path.name, "ignored"), ()
        if stem(path.name) is None or _is_beside(path):
            return ignored
        try:
            header = read_header(path)
        except ArchiveError as err:
            log.info("%s is skipped: %s", path.name, err)
            return ignored
        kind, date = self._kind(header), self._date(header)
        if not kind or date is None:
            return ignored
        words = self.keywords
        band = _word(self._value(header, words.filter), NO_FILTER)
        camera = _word(self._named(header, words.camera), "CCD")
        length = _dark_mode(number(self._value(header, words.exposure)))
        if kind != "science":
            mode = {"bias": BIAS_MODE, "dark": length, "flat": BIAS_MODE}.get(kind, "")
            kept: Kind = "dark" if kind == "bias" else kind
            return RawFile(path.name, kept, "", -1, mode, band, date, camera, self._defaults(kind, header)), ()
        program = re.sub(r"[^A-Za-z0-9.]", "", _text(self._named(header, words.program)))[:20].strip(".") or "1"
        target = _word(self._value(header, words.object), NO_OBJECT, "_", 60)
        name = str(ObservationName(program, target, camera, band, "o", date))
        group = program, target, camera, band, length, str(frame_shape(header))
        return RawFile(path.name, "science", name, -1, "", band, date, camera, self._defaults(kind, header)), group

    def _defaults(self, kind: str, header: Mapping[str, Any]) -> tuple[str, ...]:
        named = {setting: str(getattr(self.keywords, setting)) for setting in _NEEDED_BY.get(kind, ())}
        return tuple(
            f"keyword {' or '.join(keywords.split())}: {_DEFAULTS[setting]}"
            for setting, keywords in named.items()
            if self._value(header, keywords) is None
        )

    def _kind(self, header: Mapping[str, Any]) -> Kind | Literal["bias", ""]:
        words = self.keywords
        value = _text(self._value(header, words.image_type)).lower()
        kinds: dict[Kind | Literal["bias", ""], tuple[str, ...]] = {
            "science": words.science,
            "bias": words.bias,
            "dark": words.dark,
            "flat": words.flat,
            "seeing": words.seeing,
        }
        return next((kind for kind, names in kinds.items() if value in map(str.lower, names)), "")

    def _named(self, header: Mapping[str, Any], name: str) -> Any:
        return self._value(header, name[1:]) if name.startswith("$") else name

    def _date(self, header: Mapping[str, Any]) -> datetime | None:
        day = _text(self._value(header, self.keywords.date))
        text = day if "T" in day else f"{day}T{_text(self._value(header, self.keywords.time))}"
        try:
            found = datetime.fromisoformat(text)
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        except (ValueError, OverflowError):
            return None


def _is_beside(path: Path) -> bool:
    """Whether a file is the weight, mask or error of another one, such as ``a.weight.fits`` of ``a.fits``."""
    base = belongs_to(stem(path.name) or "")
    return base is not None and any(path.with_name(f"{base}{suffix}").exists() for suffix in SUFFIXES)


def _explained(err: ValidationError) -> str:
    first = err.errors()[0]
    key = str(first["loc"][0])
    if first["type"] != "unexpected_keyword_argument":
        return f"setting {'.'.join(map(str, first['loc']))}: {first['msg']}"
    known = [keyword.name for keyword in fields(Keywords)]
    return f"setting {key}: unknown key{did_you_mean(key, known, cutoff=0.5)}"


def _is_empty(value: Any) -> bool:
    """Whether a keyword is absent, has no value, or a blank one."""
    return value is None or isinstance(value, Undefined) or not str(value).strip()


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _dark_mode(exposure_s: float | None) -> str:
    return f"{exposure_s or 0:g}s"


def _word(value: Any, default: str, joint: str = "-", longest: int = 30) -> str:
    """Text as part of a name: letters, digits, signs."""
    text = re.sub(r"[^A-Za-z0-9+.-]+", joint, _text(value))
    return text[:longest].strip("_-.") or default


def _section(value: Any) -> tuple[int, int, int, int] | None:
    match = _SECTION.fullmatch(str(value).strip()) if value is not None else None
    if match is None:
        return None
    x1, x2, y1, y2 = map(int, match.groups())
    return (y1 - 1, y2, x1 - 1, x2) if 1 <= x1 <= x2 and 1 <= y1 <= y2 else None

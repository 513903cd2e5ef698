"""Cameras whose headers describe the raw files, under keywords that the configuration names."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from astropy import units as u
from pydantic import ConfigDict, TypeAdapter, ValidationError

from obsarchive.config.wording import explain
from obsarchive.errors import ArchiveError, BadRawData, did_you_mean
from obsarchive.instruments.base import (
    SUFFIXES,
    UNKNOWN,
    Kind,
    RawFile,
    coordinates,
    degrees,
    frame_shape,
    no_raw_file,
    number,
    stem,
)
from obsarchive.instruments.dates import DATES, TIMES, DateError, exposure_start, is_empty
from obsarchive.instruments.sections import SectionError, read_section
from obsarchive.io.image_headers import belongs_to
from obsarchive.io.pixel_digest import pixel_digest
from obsarchive.io.raw_frames import Sections
from obsarchive.io.raw_headers import read_header
from obsarchive.io.reduction_state import reduction_state
from obsarchive.names import ObservationName

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
_KINDS: tuple[Kind | Literal["bias"], ...] = ("science", "bias", "dark", "flat", "seeing", "ignored")
"""Settings that list values of the image type."""


@dataclass(frozen=True)
class Keywords:
    """Header keywords and their values.

    Parameters
    ----------
    image_type, object, filter, exposure, ra, dec, gain, trim, overscan : str
        Keywords; of several, separated by blanks, the first that has a value.
    date, time : str
        Start of the exposure: date and time in one, or apart, as `exposure_start` reads them.
    science, bias, dark, flat, seeing, ignored : tuple of str
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
    date: str = DATES
    time: str = TIMES
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
    ignored: tuple[str, ...] = ()
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
            raise ValueError(_explained(err, settings)) from err
        self._folders: dict[Path, _Folder] = {}
        self._digests: dict[Path, tuple[tuple[int, int], str]] = {}

    def identify(self, path: Path) -> RawFile:
        """Return the kind of a file from its header; science belongs to the sequence in its folder."""
        raw, group = self._facts(path)
        if raw.kind != "science":
            return raw
        try:
            siblings = self._siblings(path.parent, group)
            copies = self._copies([raw, *siblings], path.parent)
        except OSError:  # the folder has gone
            return raw
        if raw.name in copies:
            problem = f"a copy of {copies[raw.name]}: the same pixels and the same begin; remove one of them"
            return RawFile(path.name, "ignored", problem=problem)
        if self.keywords.sequence == "file":
            return raw
        before = sorted(
            (other.date_utc, other.name, other.observation) for other in [raw, *siblings] if other.name not in copies
        )
        names = list(dict.fromkeys(name for _, name, _ in before))
        return replace(raw, observation=before[0][2], part=names.index(raw.name) - 1)

    def describe(self, header: Mapping[str, Any]) -> dict[str, Any]:
        """Read exposure, gain, position, detector mode and the shape of what is kept of a frame."""
        words = self.keywords
        ra, dec = degrees(self._value(header, words.ra), u.hourangle), degrees(self._value(header, words.dec), u.deg)
        shape = frame_shape(header)
        try:
            trim = self.sections(header).trim
        except BadRawData:
            trim = shape = None
        exposure = _seconds(self._value(header, words.exposure))
        fields: dict[str, Any] = {
            "exposure_s": exposure,
            "gain": number(self._value(header, words.gain)),
            "mode": BIAS_MODE if words.darks == "bias" else _dark_mode(exposure),
            "shape": shape if trim is None else [trim[1] - trim[0], trim[3] - trim[2]],
            "coordinates": coordinates(ra, dec, header),
        }
        return {key: value for key, value in fields.items() if value is not None}

    def sections(self, header: Mapping[str, Any]) -> Sections:
        """Sections as ``[x1:x2,y1:y2]``, counted from 1, both ends included.

        Raises
        ------
        BadRawData
            A section cannot be read, or lies outside of the frame.
        """
        return Sections(self._section(header, self.keywords.trim), self._section(header, self.keywords.overscan))

    def _section(self, header: Mapping[str, Any], names: str) -> tuple[int, int, int, int] | None:
        keyword = self._keyword(header, names)
        value = header.get(keyword)
        try:
            return read_section(value, frame_shape(header) or frame_shape(_unpacked(header)))
        except SectionError as err:
            raise BadRawData(f"{keyword} is {value!r}, {err}") from err

    def _keyword(self, header: Mapping[str, Any], names: str) -> str:
        """Return the first of some keywords that has a value; empty if none has."""
        return next((name for name in names.split() if not is_empty(header.get(name))), "")

    def _value(self, header: Mapping[str, Any], names: str) -> Any:
        """First value that is there under some keywords."""
        return header.get(self._keyword(header, names))

    def _facts(self, path: Path) -> tuple[RawFile, tuple[str, ...]]:
        """Return the kind of a file, and the common facts of its sequence; read once for each version of the file."""
        try:
            stat = path.stat()
        except OSError:
            return RawFile(path.name, "ignored"), ()
        known = self._folders.setdefault(path.parent, _Folder()).files
        version = stat.st_size, stat.st_mtime_ns
        if path.name not in known or known[path.name][0] != version:
            try:
                known[path.name] = (version, *self._read(path))
            except ArchiveError as err:  # of the disk: the next look may succeed
                known.pop(path.name, None)
                return RawFile(path.name, "ignored", problem=str(err), is_unread=True), ()
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

    def _copies(self, files: Sequence[RawFile], night: Path) -> dict[str, str]:
        """Return names of files that are copies, and of which: of those with the shortest name."""
        count = Counter(begin for begin, _ in {(file.date_utc, file.name) for file in files})
        twins = {file.name: file.date_utc for file in files if count[file.date_utc] > 1}
        first: dict[tuple[object, str], str] = {}
        copies = {}
        for name in sorted(twins, key=lambda name: (len(name), name)):
            pixels = self._pixels(night / name)
            original = first.setdefault((twins[name], pixels), name)
            if pixels and original != name:
                copies[name] = original
        return copies

    def _pixels(self, path: Path) -> str:
        """Fingerprint of the pixels of a file, read once for each version of it."""
        stat = path.stat()
        version = stat.st_size, stat.st_mtime_ns
        if path not in self._digests or self._digests[path][0] != version:
            self._digests[path] = version, pixel_digest(path)
        return self._digests[path][1]

    def _read(self, path: Path) -> tuple[RawFile, tuple[str, ...]]:
        """Return the kind of a file and the common facts of its sequence, or why there are none."""
        if stem(path.name) is None:
            return no_raw_file(path.name), ()
        if _is_beside(path):
            return RawFile(path.name, "ignored"), ()
        try:
            return self._described(path, read_header(path))
        except DateError as err:
            problem = f"{err}; correct the file, or name the keywords in the settings date and time"
        except BadRawData as err:
            problem = str(err).removeprefix(f"{path.name}: ")
        return RawFile(path.name, "ignored", problem=problem), ()

    def _described(self, path: Path, header: Mapping[str, Any]) -> tuple[RawFile, tuple[str, ...]]:
        words, kind = self.keywords, self._kind(header)
        if kind == "ignored":
            return RawFile(path.name, "ignored"), ()
        date = exposure_start(header, words.date, words.time).utc
        sections = self._checked_sections(header)
        self._check_exposure(header, kind)
        band = _word(self._value(header, words.filter), NO_FILTER)
        camera = _word(self._named(header, words.camera), "CCD")
        length = _dark_mode(_seconds(self._value(header, words.exposure)))
        if kind != "science":
            mode = {"bias": BIAS_MODE, "dark": length, "flat": BIAS_MODE}.get(kind, "")
            kept: Kind = "dark" if kind == "bias" else kind
            return RawFile(path.name, kept, "", -1, mode, band, date, camera, self._defaults(kind, header)), ()
        program = re.sub(r"[^A-Za-z0-9.]", "", _text(self._named(header, words.program)))[:20].strip(".") or "1"
        target = _word(self._value(header, words.object), NO_OBJECT, "_", 60)
        name = str(ObservationName(program, target, camera, band, "o", date))
        # frames that were reduced, or are cut otherwise, are not added to the others
        shape = frame_shape(header)
        if shape and sections.trim == (0, shape[0], 0, shape[1]):
            sections = replace(sections, trim=None)
        form = [str(shape), sections.text, *sorted(reduction_state(header))]
        group = (program, target, camera, band, length, *form)
        return RawFile(path.name, "science", name, -1, "", band, date, camera, self._defaults(kind, header)), group

    def _defaults(self, kind: str, header: Mapping[str, Any]) -> tuple[str, ...]:
        named = {setting: str(getattr(self.keywords, setting)) for setting in _NEEDED_BY.get(kind, ())}
        return tuple(
            f"keyword {' or '.join(keywords.split())}: {_DEFAULTS[setting]}"
            for setting, keywords in named.items()
            if self._value(header, keywords) is None
        )

    def _checked_sections(self, header: Mapping[str, Any]) -> Sections:
        try:
            return self.sections(header)
        except BadRawData as err:
            settings = "its keyword in the setting trim or overscan"
            raise BadRawData(f"{err}; correct the file, or name another one as {settings}") from err

    def _check_exposure(self, header: Mapping[str, Any], kind: str) -> None:
        keyword = self._keyword(header, self.keywords.exposure)
        value = header.get(keyword)
        if "exposure" in _NEEDED_BY.get(kind, ()) and keyword and value != UNKNOWN and _seconds(value) is None:
            expected = "expected a number of seconds; correct the file, or name another keyword in the setting exposure"
            raise BadRawData(f"{keyword} is {value!r}, {expected}")

    def _kind(self, header: Mapping[str, Any]) -> Kind | Literal["bias"]:
        words = self.keywords
        keyword = self._keyword(header, words.image_type)
        if not keyword:
            names = " or ".join(words.image_type.split())
            raise BadRawData(f"keyword {names} has no value: name the keyword of its kind in the setting image_type")
        value = _text(header.get(keyword))
        for kind in _KINDS:
            if value.lower() in map(str.lower, getattr(words, kind)):
                return kind
        settings = f"{', '.join(_KINDS[:-1])} or {_KINDS[-1]}"
        raise BadRawData(f"{keyword} is {value!r}, a kind that no setting names: add it to {settings}")

    def _named(self, header: Mapping[str, Any], name: str) -> Any:
        return self._value(header, name[1:]) if name.startswith("$") else name


def _is_beside(path: Path) -> bool:
    """Whether a file is the weight, mask or error of another one, such as ``a.weight.fits`` of ``a.fits``."""
    base = belongs_to(stem(path.name) or "")
    return base is not None and any(path.with_name(f"{base}{suffix}").exists() for suffix in SUFFIXES)


def _explained(err: ValidationError, settings: object) -> str:
    first = err.errors()[0]
    key = str(first["loc"][0])
    if first["type"] != "unexpected_keyword_argument":
        place, message = next(explain(err, settings))
        return f"setting {'.'.join(map(str, place))}: {message}"
    known = [keyword.name for keyword in fields(Keywords)]
    return f"setting {key}: unknown key{did_you_mean(key, known, cutoff=0.5)}"


def _unpacked(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the axes of the image that is packed into a table (``.fz``)."""
    return {axis: header.get(f"Z{axis}") for axis in ("NAXIS1", "NAXIS2")}


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _seconds(value: Any) -> float | None:
    """Return a time, a number or text that may end in its unit [s]; None for anything else."""
    return number(
        re.sub(r"\s*s(ec(ond)?s?)?\.?\s*$", "", value, flags=re.IGNORECASE) if isinstance(value, str) else value
    )


def _dark_mode(exposure_s: float | None) -> str:
    return f"{exposure_s or 0:g}s"


def _word(value: Any, default: str, joint: str = "-", longest: int = 30) -> str:
    """Text as part of a name: letters, digits, signs."""
    text = re.sub(r"[^A-Za-z0-9+.-]+", joint, _text(value))
    return text[:longest].strip("_-.") or default

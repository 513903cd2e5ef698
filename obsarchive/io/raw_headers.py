"""Headers of raw files: offsets and number of the frames, and the values for the database.

The scanner is tolerant: only the few keys that locate the pixels must be valid.
"""

import itertools
import math
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from obsarchive.core.document_types.observations import HeaderCard
from obsarchive.errors import BadRawData
from obsarchive.io.amplifiers import Mosaic, mosaic_of
from obsarchive.io.compression import explained, open_stream, packing_of
from obsarchive.io.hdus import PRINTABLE, Hdu, Mask, Stack, beginning, image_of, parse_hdu, read_cards, read_plane, walk
from obsarchive.io.image_headers import ImageHdu, Role, role_of
from obsarchive.io.image_roles import assign_roles, refuse_colours

MAX_CARDS = 2000
MAX_TEXT = 2000

_SECTIONS = ("TRIMSEC", "BIASSEC", "DATASEC", "DETSEC", "CCDSEC", "AMPSEC")
_STRUCTURE = re.compile(r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|[PG]COUNT")


@dataclass(frozen=True)
class Contents:
    """Content of a plain FITS file.

    `name` is that of the raw file, for messages.  `expected` is the number of frames its header announces (None: it
    does not say), `others` the number of extensions that are no images.  Where amplifiers must first be put together,
    `mosaic` says how, and `amplifiers` are their stacks by the number of the HDU; then there are no `stacks`.
    """

    path: Path
    name: str
    stacks: tuple[Stack, ...]
    others: int
    expected: int | None
    mosaic: Mosaic | None = None
    amplifiers: Mapping[int, Stack] = field(default_factory=dict)

    @property
    def n_frames(self) -> int:
        """Number of frames in the file."""
        return self.mosaic.planes if self.mosaic else sum(stack.count for stack in self.stacks)


def expected_frames(header: Mapping[str, Any]) -> int | None:
    """Read from the first header how many frames a file should hold; None when it does not say.

    ``NFRAMES`` and ``NUMFRAME`` count frames; ``NEXTEND`` counts the extensions that follow, to which the
    primary image adds one.
    """
    return _announced(header, 0)


def _announced(header: Mapping[str, Any], companions: int) -> int | None:
    """Number of frames by a header; of the extensions that it counts some, `companions`, are no frames."""
    for key in ("NFRAMES", "NUMFRAME", "NEXTEND"):
        try:
            count = int(header.get(key, 0))
        except (TypeError, ValueError, OverflowError):
            continue
        if count > 0:
            return count + _has_pixels(header) - companions if key == "NEXTEND" else count
    return None


def _has_pixels(header: Mapping[str, Any]) -> bool:
    return not any(header.get(key) == 0 for key in ("NAXIS", "NAXIS1", "NAXIS2"))


def scan(path: Path, name: str = "") -> Contents:
    """Find the frames of a plain FITS file by its headers; pixels are read only where names are silent.

    Frames are the images that hold light, see :mod:`obsarchive.io.image_roles`; masks and weights belong to them.
    Tables and empty HDUs are passed over, and so is one stray block at the end, which some cameras leave.

    Parameters
    ----------
    path : Path
        The file.
    name : str, optional
        Its name in messages: that of the raw file it was unpacked from.

    Raises
    ------
    BadRawData
        A header is broken, the data are cut short, or it is not known what the images are.
    ArchiveError
        The file cannot be read.
    """
    name = name or path.name
    with explained(path, name), path.open("rb") as file:
        hdus = list(walk(name, file))
        stacks = {number: hdu.stack for number, hdu in enumerate(hdus) if hdu.stack}
        shared = {key: hdus[0].values[key] for key in ("TELESCOP",) if key in hdus[0].values}
        images = {number: image_of(number, hdus[number], shared) for number in stacks}
        for number in stacks:
            refuse_colours(name, images[number])
        contents = Contents(path, name, tuple(stacks.values()), sum(not hdu.is_image for hdu in hdus), None)
        if len(stacks) > 1:
            contents = _sorted(contents, (stacks, images), file)
    # Announced by the primary header; where fpack moved that into the first extension, by that one.
    no_frames = sum(stack.count for stack in stacks.values()) - contents.n_frames
    announced = (_announced(hdu.values, no_frames) for hdu in hdus if hdu is hdus[0] or hdu.stack)
    expected = next((count for count in itertools.islice(announced, 2) if count), None)
    return replace(contents, expected=expected)


def _sorted(
    contents: Contents, every: tuple[Mapping[int, Stack], Mapping[int, ImageHdu]], file: BufferedIOBase
) -> Contents:
    """Tell frames from what belongs to them, in a file of several images."""
    (stacks, images), name = every, contents.name
    roles = assign_roles(name, list(images.values()), lambda number: read_plane(file, stacks[number]))
    used = {}
    for number in roles.lights + roles.amplifiers:
        found = roles.companions.get(number, {})
        masks = tuple(
            Mask(images[found[role]], role, stacks[found[role]])
            for role in (Role.MASK, Role.WEIGHT, Role.INVERSE_VARIANCE)
            if role in found
        )
        used[number] = replace(stacks[number], masks=masks) if masks else stacks[number]
        for mask in masks:
            if mask.stack.count not in (1, stacks[number].count):
                raise BadRawData(
                    f"{name}: {mask.image} has {mask.stack.count} planes: expected 1, or {stacks[number].count} as "
                    f"{images[number]}"
                )
    if roles.amplifiers:
        mosaic = mosaic_of(name, [images[number] for number in roles.amplifiers])
        return replace(contents, stacks=(), mosaic=mosaic, amplifiers=used)
    return replace(contents, stacks=tuple(used.values()))


def has_amplifiers(path: Path, name: str = "") -> bool:
    """Whether a plain FITS file holds amplifiers that must be put together; files of other kinds are only opened.

    Parameters
    ----------
    path : Path
        The file.
    name : str, optional
        Its name in messages.

    Raises
    ------
    BadRawData
        A file of amplifiers is broken, or they do not fit together.
    ArchiveError
        The file cannot be read.
    """
    with explained(path, name), path.open("rb") as file, suppress(ValueError):
        start = frames = 0
        while not frames:
            file.seek(start)
            cards, whole = read_cards(file)
            hdu = parse_hdu(cards, whole, start)
            if hdu.stack and not _is_part(hdu.values):
                return False
            start, frames = hdu.end, hdu.stack.count if hdu.stack else 0
    return bool(frames) and scan(path, name).mosaic is not None


def read_header(path: Path, name: str = "") -> fits.Header:
    """Read the header of frame 0 of a raw file, compressed or not, without reading further.

    To an empty primary HDU the cards of the extension with the first frame are added, and its ``NAXIS1`` and
    ``NAXIS2``; of amplifiers that make one frame, those of the whole frame.  Bad cards are skipped.

    Parameters
    ----------
    path : Path
        The file.
    name : str, optional
        Its name in messages: that of the raw file it was unpacked from.

    Raises
    ------
    BadRawData
        The file has no FITS header at all.
    ArchiveError
        The file cannot be read.
    """
    name = name or path.name
    with explained(path, name), open_stream(path) as stream:
        cards, whole = read_cards(stream)
        if not cards.startswith(b"SIMPLE"):
            raise BadRawData(f"{name}: expected a FITS header, found {beginning(cards)}")
        header = _tolerant_header(cards)
        is_plain = not packing_of(path)  # the end of a packed file is far
        is_part = _is_part(header) and (is_plain or expected_frames({"NEXTEND": header.get("NEXTEND")}))
        if whole and (is_part or not _has_pixels(header)):
            _add_frame(name, header, list(_headers(stream, cards)))
    return header


def _is_part(values: Mapping[str, Any]) -> bool:
    """Whether a header says where on the detector its image lies: it may be one of several amplifiers."""
    return any(str(values.get(key, "")).strip().startswith("[") for key in ("DETSEC", "CCDSEC"))


def _headers(stream: BufferedIOBase, cards: bytes) -> Iterator[tuple[bytes, Hdu]]:
    """Yield cards and HDUs from the primary to the first frame, or to the end where there may be parts of a frame.

    What is wrong with the file is found when its pixels are read; only errors of the disk are raised.
    """
    with suppress(ValueError, EOFError, zlib.error), _damage_suppressed():
        hdu = parse_hdu(cards, True, 0)
        yield cards, hdu
        is_found = False
        while not is_found:
            stream.seek(hdu.end)
            cards, whole = read_cards(stream)
            hdu = parse_hdu(cards, whole, hdu.end)
            yield cards, hdu
            image = image_of(0, hdu) if (hdu.is_image and hdu.stack) or hdu.values.get("ZIMAGE") == "T" else None
            is_found = (
                image is not None
                and not _is_part(hdu.values)
                and role_of(image) in (Role.LIGHT, Role.UNNAMED, Role.UNKNOWN)
            )


@contextmanager
def _damage_suppressed() -> Iterator[None]:
    """Suppress how decompressors report damaged data; errors of the system have a number."""
    try:
        yield
    except OSError as err:
        if err.errno is not None:
            raise


def _add_frame(name: str, header: fits.Header, hdus: Sequence[tuple[bytes, Hdu]]) -> None:
    """Add the cards and the shape of the first frame to the header of a primary HDU without pixels."""
    with suppress(LookupError, ValueError):
        number, shape, factor = _first_frame(name, [hdu for _, hdu in hdus])
        if number:
            header.extend(_tolerant_header(hdus[number][0], leave_out=_STRUCTURE), strip=False, update=True)
        header["NAXIS2"], header["NAXIS1"] = shape
        if factor is None:
            return
        for key in _SECTIONS:
            header.remove(key, ignore_missing=True, remove_all=True)
        for key in ("GAIN", "EGAIN"):
            if isinstance(header.get(key), int | float):
                header[key] = header[key] / factor


def _first_frame(name: str, hdus: Sequence[Hdu]) -> tuple[int, tuple[int, int], float | None]:
    """Return the HDU and the shape of the first frame; of a frame of amplifiers also the factor of the first one."""
    images = {
        number: image_of(number, hdu)
        for number, hdu in enumerate(hdus)
        if (hdu.stack if hdu.is_image else hdu.values.get("ZIMAGE") == "T")
    }
    try:
        roles = assign_roles(name, list(images.values()), _no_pixels)
        if not roles.amplifiers:
            number = roles.lights[0]
            return number, images[number].frame, None
        mosaic = mosaic_of(name, [images[number] for number in roles.amplifiers])
        return mosaic.parts[0].number, mosaic.shape, mosaic.parts[0].factor
    except BadRawData:  # said when the frames are read
        number = next(number for number, image in images.items() if role_of(image) is not Role.MASK)
        return number, images[number].frame, None


def _no_pixels(number: int) -> NDArray[Any]:
    raise BadRawData(f"HDU {number}: only headers are read")


def _tolerant_header(cards: bytes, leave_out: re.Pattern[str] | None = None) -> fits.Header:
    text = "".join(chr(byte) if byte in PRINTABLE else "?" for byte in cards)
    header = fits.Header()
    with warnings.catch_warnings(action="ignore"):
        for card in fits.Header.fromstring(text).cards:
            with suppress(ValueError, TypeError, LookupError, fits.VerifyError):
                if not (leave_out and leave_out.fullmatch(card.keyword)):
                    header.append((card.keyword, card.value, card.comment), end=True)
    return header


def plain_cards(header: fits.Header) -> list[HeaderCard]:
    """Return cards as ``{key, value, comment}`` that BSON and JSON can hold.

    At most 2000 cards, texts of at most 2000 characters without NUL and lone surrogates; floats that are
    not finite and integers beyond 64 bits become text, undefined values None.
    """
    return [
        {"key": _plain_text(card.keyword), "value": _plain_value(card.value), "comment": _plain_text(card.comment)}
        for card in itertools.islice(header.cards, MAX_CARDS)
    ]


def _plain_text(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:MAX_TEXT]


def _plain_value(value: Any) -> bool | int | float | str | None:
    if value is None or isinstance(value, fits.card.Undefined):
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer) and -(2**63) <= value < 2**63:
        return int(value)
    if isinstance(value, float | np.floating) and math.isfinite(value):
        return float(value)
    return _plain_text(str(value))

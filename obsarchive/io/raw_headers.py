"""Headers of raw files: offsets and number of the frames, and the values for the database.

The scanner is tolerant: only the few keys that locate the pixels must be valid.
"""

import itertools
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from obsarchive.core.document_types import HeaderCard
from obsarchive.errors import BadRawData
from obsarchive.io.compression import BLOCK, explained, open_stream

CARD = 80
MAX_HEADER_BYTES = 8 * 2**20  # 10^5 cards
MAX_CARDS = 2000
MAX_TEXT = 2000

_STORAGE: dict[int, np.dtype[Any]] = {
    8: np.dtype("u1"),
    16: np.dtype(">i2"),
    32: np.dtype(">i4"),
    64: np.dtype(">i8"),
    -32: np.dtype(">f4"),
    -64: np.dtype(">f8"),
}
_SCANNED = re.compile(rb"(NAXIS\d{0,3}|BITPIX|[PG]COUNT|BZERO|BSCALE|NEXTEND|NFRAMES|NUMFRAME) *")
_STRUCTURE = re.compile(r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|[PG]COUNT")
_PRINTABLE = bytes(range(0x20, 0x7F))


@dataclass(frozen=True)
class Stack:
    """The frames of one image HDU: `count` planes of `shape` (ny, nx), stored one after the other."""

    offset: int
    count: int
    shape: tuple[int, int]
    storage: np.dtype[Any]
    scale: float
    zero: float

    @property
    def frame_bytes(self) -> int:
        """Size of one stored frame."""
        return math.prod(self.shape) * self.storage.itemsize

    @property
    def native(self) -> np.dtype[Any]:
        """The type that holds the pixel values exactly; float32 where they are scaled."""
        stored = self.storage.newbyteorder("=")
        if self.scale == 1 and self.zero == 0:
            return stored
        if self.scale == 1 and stored.kind == "i" and self.zero == 2.0 ** (8 * stored.itemsize - 1):
            return np.dtype(f"u{stored.itemsize}")
        return np.dtype(np.float32)


@dataclass(frozen=True)
class Contents:
    """Content of a plain FITS file.

    `expected` is the number of frames its header announces (None: it does not say), `others` the number of
    extensions that are no images.
    """

    path: Path
    stacks: tuple[Stack, ...]
    others: int
    expected: int | None

    @property
    def n_frames(self) -> int:
        """Number of frames in the file."""
        return sum(stack.count for stack in self.stacks)


def expected_frames(header: Mapping[str, Any]) -> int | None:
    """Read from the first header how many frames a file should hold; None when it does not say.

    ``NFRAMES`` and ``NUMFRAME`` count frames; ``NEXTEND`` counts the extensions that follow, to which the
    primary image adds one.
    """
    for key in ("NFRAMES", "NUMFRAME", "NEXTEND"):
        try:
            count = int(header.get(key, 0))
        except (TypeError, ValueError, OverflowError):
            continue
        if count > 0:
            return count + (key == "NEXTEND" and _has_pixels(header))
    return None


def _has_pixels(header: Mapping[str, Any]) -> bool:
    return not any(header.get(key) == 0 for key in ("NAXIS", "NAXIS1", "NAXIS2"))


def scan(path: Path) -> Contents:
    """Find the frames of a plain FITS file by its headers; pixels are not read.

    Tables and empty HDUs are passed over, and so is one stray block at the end, which some cameras leave.

    Raises
    ------
    BadRawData
        A header is broken or the data are cut short.
    ArchiveError
        The file cannot be read.
    """
    with explained(path), path.open("rb") as file:
        hdus = list(_walk(path.name, file))
    # Announced by the primary header; where fpack moved that into the first extension, by that one.
    announced = (expected_frames(hdu.values) for hdu in hdus if hdu is hdus[0] or hdu.stack)
    return Contents(
        path,
        stacks=tuple(hdu.stack for hdu in hdus if hdu.stack),
        others=sum(not hdu.is_image for hdu in hdus),
        expected=next((count for count in itertools.islice(announced, 2) if count), None),
    )


@dataclass(frozen=True)
class _Hdu:
    values: dict[str, Any]
    is_image: bool
    stack: Stack | None
    data_start: int
    data_bytes: int

    @property
    def end(self) -> int:
        return _padded(self.data_start + self.data_bytes)


def _padded(n_bytes: int) -> int:
    return n_bytes + -n_bytes % BLOCK


def _walk(name: str, file: BufferedIOBase) -> Iterator[_Hdu]:
    """Yield the HDUs of an open file."""
    size = os.fstat(file.fileno()).st_size
    start = frames = 0
    while start < size or start == 0:
        file.seek(start)
        cards, whole = _header_cards(file)
        if start > 0 and size - start <= BLOCK and not cards.startswith(b"XTENSION"):
            return  # a stray block
        try:
            hdu = _parse(cards, whole, start)
        except ValueError as err:
            raise BadRawData(f"{name}: HDU at byte {start}: {err}") from err
        if hdu.data_start + hdu.data_bytes > size:
            raise BadRawData(f"{name}: {_describe_cut(hdu, frames, size)}")
        frames += hdu.stack.count if hdu.stack else 0
        yield hdu
        start = hdu.end


def _describe_cut(hdu: _Hdu, frames: int, size: int) -> str:
    found = max(size - hdu.data_start, 0)
    if hdu.stack is None:
        return f"extension: expected {hdu.data_bytes} bytes, found {found}"
    complete, found = divmod(found, hdu.stack.frame_bytes)
    return f"frame {frames + complete}: expected {hdu.stack.frame_bytes} bytes, found {found}"


def _header_cards(file: BufferedIOBase) -> tuple[bytes, bool]:
    """Read blocks up to the END card; the cards before it, and whether it was there."""
    cards = bytearray()
    while len(cards) < MAX_HEADER_BYTES:
        block = file.read(BLOCK)
        for start in range(0, len(block), CARD):
            if block.startswith(b"END     ", start):
                return bytes(cards + block[:start]), True
        if len(block.translate(None, _PRINTABLE)) > len(block) // 4:
            break  # these are pixels
        cards += block
        if len(block) < BLOCK:
            break
    return bytes(cards), False


def _parse(cards: bytes, whole: bool, start: int) -> _Hdu:
    """Read the few cards that say what an HDU holds and where; ValueError when they make no sense."""
    opening = b"XTENSION= " if start else b"SIMPLE  = "
    if not cards.startswith(opening):
        raise ValueError(f"expected a header with {opening.decode()}, found {cards[:20]!r}")
    if not whole:
        raise ValueError(f"expected an END card, found none in {len(cards)} bytes")
    values = _scanned_values(cards)
    bits, axes = _integer(values, "BITPIX"), _axes(values)
    if bits not in _STORAGE:
        raise ValueError(f"expected BITPIX of {sorted(_STORAGE)}, found {bits}")
    is_image = not start or cards[10:CARD].split(b"/")[0].strip(b"' ") == b"IMAGE"
    elements = math.prod(axes) if axes else 0
    if not is_image:  # tables: PCOUNT bytes follow, GCOUNT is 1 unless something else was meant
        elements = _integer(values, "GCOUNT", 1.0) * (_integer(values, "PCOUNT", 0.0) + elements)
    if elements < 0:
        raise ValueError(f"expected positive PCOUNT and GCOUNT, found {elements} elements")
    data_start = start + _padded(len(cards) + CARD)
    stack = _stack(values, axes, data_start) if is_image and elements else None
    return _Hdu(values, is_image, stack, data_start, abs(bits) // 8 * elements)


def _stack(values: dict[str, Any], axes: list[int], data_start: int) -> Stack:
    if len(axes) == 1:
        raise ValueError("expected frames of two axes, found one axis")
    scale, zero = _number(values, "BSCALE", 1.0), _number(values, "BZERO", 0.0)
    return Stack(data_start, math.prod(axes[2:]), (axes[1], axes[0]), _STORAGE[int(values["BITPIX"])], scale, zero)


def _scanned_values(cards: bytes) -> dict[str, Any]:
    """Return the values of the keys that the scanner reads: finite floats, or else text."""
    values: dict[str, Any] = {}
    for start in range(0, len(cards), CARD):
        if cards[start + 8 : start + 10] == b"= " and _SCANNED.fullmatch(cards, start, start + 8):
            text = cards[start + 10 : start + CARD].split(b"/")[0].strip().decode("latin-1")
            try:
                value = float(text.replace("D", "E"))
            except ValueError:
                value = math.nan
            values.setdefault(cards[start : start + 8].decode().rstrip(), value if math.isfinite(value) else text)
    return values


def _axes(values: dict[str, Any]) -> list[int]:
    count = _integer(values, "NAXIS")
    if not 0 <= count <= 999:
        raise ValueError(f"expected NAXIS from 0 to 999, found {count}")
    axes = [_integer(values, f"NAXIS{axis}") for axis in range(1, count + 1)]
    if any(length < 0 for length in axes):
        raise ValueError(f"expected axes of positive length, found {axes}")
    return axes


def _number(values: dict[str, Any], key: str, default: float | None = None) -> float:
    value = values.get(key, default)
    if isinstance(value, float):
        return value
    raise ValueError(f"expected a number in {key}, found {value!r}")


def _integer(values: dict[str, Any], key: str, default: float | None = None) -> int:
    value = _number(values, key, default)
    if value != int(value):
        raise ValueError(f"expected a whole number in {key}, found {value}")
    return int(value)


def read_header(path: Path) -> fits.Header:
    """Read the header of frame 0 of a raw file, compressed or not, without reading further.

    To an empty primary HDU the cards of the first extension are added.  Bad cards are skipped.

    Raises
    ------
    BadRawData
        The file has no FITS header at all.
    ArchiveError
        The file cannot be read.
    """
    with explained(path), open_stream(path) as stream:
        cards, whole = _header_cards(stream)
        if not cards.startswith(b"SIMPLE"):
            raise BadRawData(f"{path.name}: expected a FITS header, found {cards[:20]!r}")
        header = _tolerant_header(cards)
        if whole and not _has_pixels(header):
            extension = _tolerant_header(_header_cards(stream)[0], leave_out=_STRUCTURE)
            header.extend(extension, strip=False, update=True)
    return header


def _tolerant_header(cards: bytes, leave_out: re.Pattern[str] | None = None) -> fits.Header:
    text = "".join(chr(byte) if byte in _PRINTABLE else "?" for byte in cards)
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

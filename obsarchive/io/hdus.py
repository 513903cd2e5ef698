"""HDUs of a FITS file: what each holds and where, by the few cards that must be valid for that."""

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import BadRawData
from obsarchive.io.compression import BLOCK, explained
from obsarchive.io.image_headers import KEYS, MASK_PLANE, ImageHdu, Role

CARD = 80
MAX_HEADER_BYTES = 8 * 2**20  # 10^5 cards
_STORAGE: dict[int, np.dtype[Any]] = {
    8: np.dtype("u1"),
    16: np.dtype(">i2"),
    32: np.dtype(">i4"),
    64: np.dtype(">i8"),
    -32: np.dtype(">f4"),
    -64: np.dtype(">f8"),
}
_LAYOUT = ("BITPIX", "PCOUNT", "GCOUNT", "BZERO", "BSCALE", "BLANK", "NEXTEND", "NFRAMES", "NUMFRAME")
_SCANNED = frozenset(key.encode().ljust(8) for key in (*_LAYOUT, "ZIMAGE", "ZBITPIX", *KEYS))
_SCANNED_SERIES = (b"NAXIS", b"ZNAXIS", MASK_PLANE.encode())
_LONG_MASK_PLANE = f"HIERARCH {MASK_PLANE}".encode()
_QUOTED = re.compile(r"'((?:[^']|'')*)'")
PRINTABLE = bytes(range(0x20, 0x7F))


@dataclass(frozen=True)
class Stack:
    """The frames of one image HDU: `count` planes of `shape` (ny, nx), stored one after the other."""

    offset: int
    count: int
    shape: tuple[int, int]
    storage: np.dtype[Any]
    scale: float
    zero: float
    blank: int | None = None
    masks: "tuple[Mask, ...]" = ()

    @property
    def frame_bytes(self) -> int:
        """Size of one stored frame."""
        return math.prod(self.shape) * self.storage.itemsize

    @property
    def native(self) -> np.dtype[Any]:
        """The type that holds the pixel values exactly; float32 where they are scaled, or some are bad."""
        return np.dtype(np.float32) if self.blank is not None or self.masks else self.counts

    @property
    def counts(self) -> np.dtype[Any]:
        """The type that holds the values of good pixels exactly; float32 where they are scaled."""
        stored = self.storage.newbyteorder("=")
        if self.scale == 1 and self.zero == 0:
            return stored
        if self.scale == 1 and stored.kind == "i" and self.zero == 2.0 ** (8 * stored.itemsize - 1):
            return np.dtype(f"u{stored.itemsize}")
        return np.dtype(np.float32)


@dataclass(frozen=True)
class Mask:
    """An image that says which pixels of a stack are bad, by its `role`: of one plane for all, or one for each."""

    image: ImageHdu
    role: Role
    stack: Stack


def read_plane(file: BufferedIOBase, stack: Stack, plane: int = 0) -> NDArray[Any]:
    """Read one plane of an HDU, shape (ny, nx): floats where it is scaled, NaN at ``BLANK``."""
    file.seek(stack.offset + plane * stack.frame_bytes)
    raw = np.frombuffer(file.read(stack.frame_bytes), stack.storage)
    pixels = raw.reshape(stack.shape).astype(stack.storage.newbyteorder("="))
    if stack.scale == 1 and stack.zero == 0 and stack.blank is None:
        return pixels
    values = pixels * stack.scale + stack.zero
    return values if stack.blank is None else np.where(pixels == stack.blank, np.nan, values)


@dataclass(frozen=True)
class Hdu:
    """An HDU: the values of the cards that are scanned, and where its data are.

    Parameters
    ----------
    values : mapping
        Values by keyword.
    is_image : bool
        Whether it is an image, and no table.
    stack : Stack or None
        Its frames; None if it has none.
    data_start, data_bytes : int
        First byte of the data in the file, and their number.
    """

    values: Mapping[str, Any]
    is_image: bool
    stack: Stack | None
    data_start: int
    data_bytes: int

    @property
    def end(self) -> int:
        """First byte of the next HDU."""
        return _padded(self.data_start + self.data_bytes)


def image_of(number: int, hdu: Hdu, shared: Mapping[str, Any] | None = None) -> ImageHdu:
    """Return what the header of an image, tiled or not, says of it, and what the primary header says of all.

    Parameters
    ----------
    number : int
        Number of the HDU.
    hdu : Hdu
        The HDU.
    shared : mapping, optional
        Values of the primary header that hold for all images.

    Returns
    -------
    ImageHdu
    """
    prefix = "" if hdu.is_image else "Z"
    axes = [int(hdu.values[f"{prefix}NAXIS{axis}"]) for axis in range(int(hdu.values[f"{prefix}NAXIS"]), 0, -1)]
    return ImageHdu(
        number, {**shared, **hdu.values} if shared else hdu.values, tuple(axes), int(hdu.values[f"{prefix}BITPIX"])
    )


def _padded(n_bytes: int) -> int:
    return n_bytes + -n_bytes % BLOCK


def has_tiles(path: Path) -> bool:
    """Whether the first image of a FITS file is packed into a table, as by fpack; False if the file is damaged."""
    with explained(path), path.open("rb") as file, suppress(ValueError):
        start = 0
        while True:
            file.seek(start)
            hdu = parse_hdu(*read_cards(file), start)
            if hdu.stack or hdu.values.get("ZIMAGE") == "T":
                return not hdu.stack
            start = hdu.end
    return False


def walk(name: str, file: BufferedIOBase) -> Iterator[Hdu]:
    """Yield the HDUs of an open file.

    Parameters
    ----------
    name : str
        Its name in messages.
    file : file
        The file.

    Yields
    ------
    Hdu

    Raises
    ------
    BadRawData
        A header is broken, or the data are cut short.
    """
    size = os.fstat(file.fileno()).st_size
    start = frames = 0
    while start < size or start == 0:
        file.seek(start)
        cards, whole = read_cards(file)
        if start > 0 and size - start <= BLOCK and not cards.startswith(b"XTENSION"):
            return  # a stray block
        try:
            hdu = parse_hdu(cards, whole, start)
        except ValueError as err:
            raise BadRawData(f"{name}: HDU at byte {start}: {err}") from err
        if hdu.data_start + hdu.data_bytes > size:
            raise BadRawData(f"{name}: {_describe_cut(hdu, frames, size)}")
        frames += hdu.stack.count if hdu.stack else 0
        yield hdu
        start = hdu.end


def _describe_cut(hdu: Hdu, frames: int, size: int) -> str:
    found = max(size - hdu.data_start, 0)
    if hdu.stack is None:
        return f"extension: expected {hdu.data_bytes} bytes, found {found}"
    complete, found = divmod(found, hdu.stack.frame_bytes)
    return f"frame {frames + complete}: expected {hdu.stack.frame_bytes} bytes, found {found}"


def read_cards(file: BufferedIOBase) -> tuple[bytes, bool]:
    """Read blocks up to the END card; the cards before it, and whether it was there."""
    cards = bytearray()
    while len(cards) < MAX_HEADER_BYTES:
        block = file.read(BLOCK)
        for start in range(0, len(block), CARD):
            if block.startswith(b"END     ", start):
                return bytes(cards + block[:start]), True
        if len(block.translate(None, PRINTABLE)) > len(block) // 4:
            break  # these are pixels
        cards += block
        if len(block) < BLOCK:
            break
    return bytes(cards), False


def beginning(cards: bytes) -> str:
    """Return in words what is where a header is expected."""
    return repr(cards[:20].decode("ascii", "replace")) if cards else "nothing"


def parse_hdu(cards: bytes, whole: bool, start: int) -> Hdu:
    """Read the few cards that say what an HDU holds and where.

    Parameters
    ----------
    cards : bytes
        Its cards, as `read_cards` returns them.
    whole : bool
        Whether they end with an END card.
    start : int
        First byte of the HDU in the file.

    Returns
    -------
    Hdu

    Raises
    ------
    ValueError
        They make no sense.
    """
    opening = b"XTENSION= " if start else b"SIMPLE  = "
    if not cards.startswith(opening):
        raise ValueError(f"expected a FITS header with {opening.decode().strip(' =')}, found {beginning(cards)}")
    if not whole:
        if len(cards) >= MAX_HEADER_BYTES:
            raise ValueError(
                f"expected a header of at most {MAX_HEADER_BYTES} bytes, found no END card in the first {len(cards)}"
            )
        raise ValueError(f"expected an END card, found none in {len(cards)} bytes")
    values = _scanned_values(cards)
    bits, axes = _integer(values, "BITPIX"), _axes(values)
    if bits not in _STORAGE:
        raise ValueError(f"expected BITPIX of {sorted(_STORAGE)}, found {bits}")
    is_image = not start or cards[10:CARD].split(b"/")[0].strip(b"' ") == b"IMAGE"
    is_image = is_image and not (start and len(axes) == 1)  # a table of a column: a spectrum, wavelengths
    elements = math.prod(axes) if axes else 0
    if not is_image:  # tables: PCOUNT bytes follow, GCOUNT is 1 unless something else was meant
        elements = _integer(values, "GCOUNT", 1.0) * (_integer(values, "PCOUNT", 0.0) + elements)
    if elements < 0:
        raise ValueError(f"expected positive PCOUNT and GCOUNT, found {elements} elements")
    data_start = start + _padded(len(cards) + CARD)
    stack = _stack(values, axes, data_start) if is_image and elements else None
    return Hdu(values, is_image, stack, data_start, abs(bits) // 8 * elements)


def _stack(values: Mapping[str, Any], axes: list[int], data_start: int) -> Stack:
    if len(axes) == 1:
        raise ValueError("expected frames of two axes, found one axis")
    scale, zero = _number(values, "BSCALE", 1.0), _number(values, "BZERO", 0.0)
    storage = _STORAGE[int(values["BITPIX"])]
    return Stack(data_start, math.prod(axes[2:]), (axes[1], axes[0]), storage, scale, zero, _blank(values, storage))


def _blank(values: Mapping[str, Any], storage: np.dtype[Any]) -> int | None:
    """Stored value of pixels without one; integers only have it, and only one that they can hold."""
    value = values.get("BLANK")
    if storage.kind == "f" or not isinstance(value, float) or value != int(value):
        return None
    limits = np.iinfo(storage)
    return int(value) if limits.min <= value <= limits.max else None


@lru_cache(maxsize=8)
def _scanned_values(cards: bytes) -> Mapping[str, Any]:
    """Return the values of the keys that the scanner reads: finite floats, or else text.

    Kept, as the frames of a sequence often have the same header.
    """
    values: dict[str, Any] = {}
    for start in range(0, len(cards), CARD):
        key = cards[start : start + 8]
        if cards[start + 8 : start + 10] == b"= " and (key in _SCANNED or key.startswith(_SCANNED_SERIES)):
            text = cards[start + 10 : start + CARD].decode("latin-1")
            values.setdefault(key.decode("latin-1").rstrip(), _value(text))
        elif key == b"HIERARCH" and cards.startswith(_LONG_MASK_PLANE, start):
            name, _, text = cards[start + 9 : start + CARD].decode("latin-1").partition("=")
            values.setdefault(name.strip(), _value(text))
    return values


def _value(text: str) -> float | str:
    quoted = _QUOTED.match(text.lstrip())
    if quoted:
        return quoted[1].replace("''", "'").strip()
    text = text.split("/")[0].strip()
    try:
        value = float(text.replace("D", "E"))
    except ValueError:
        return text
    return value if math.isfinite(value) else text


def _axes(values: Mapping[str, Any]) -> list[int]:
    count = _integer(values, "NAXIS")
    if not 0 <= count <= 999:
        raise ValueError(f"expected NAXIS from 0 to 999, found {count}")
    axes = [_integer(values, f"NAXIS{axis}") for axis in range(1, count + 1)]
    if any(length < 0 for length in axes):
        raise ValueError(f"expected axes of positive length, found {axes}")
    return axes


def _number(values: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = values.get(key, default)
    if isinstance(value, float):
        return value
    raise ValueError(f"expected a number in {key}, found {value!r}")


def _integer(values: Mapping[str, Any], key: str, default: float | None = None) -> int:
    value = _number(values, key, default)
    if value != int(value):
        raise ValueError(f"expected a whole number in {key}, found {value}")
    return int(value)

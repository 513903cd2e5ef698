"""Frames of raw files, streamed one by one.

The frames of an observation are image HDUs, cubes, or both, and continue in further files.  Pixels that are marked as
bad, by ``BLANK`` or by a mask in the file, are NaN.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from astropy.io import fits
from numba import njit
from numpy.typing import NDArray

from obsarchive.errors import ArchiveError, BadRawData
from obsarchive.io.bad_pixels import bad_pixels
from obsarchive.io.compression import explained
from obsarchive.io.hdus import Stack, read_plane
from obsarchive.io.raw_headers import Contents, read_header, scan


@njit(cache=True)
def _decode_16bit(  # pragma: no cover - compiled
    raw: NDArray[np.uint16], out: NDArray[np.float32], scale: np.float32, zero: np.float32
) -> None:
    """Swap bytes and scale in one pass: twice as fast as numpy on what nearly every camera writes."""
    for y in range(raw.shape[0]):
        for x in range(raw.shape[1]):
            word = raw[y, x]
            out[y, x] = np.float32(np.int16((word << 8) | (word >> 8))) * scale + zero


@njit(cache=True)
def _blank_16bit(raw: NDArray[np.uint16], out: NDArray[np.float32], blank: int) -> None:  # pragma: no cover - compiled
    """Set pixels without a value to NaN."""
    for y in range(raw.shape[0]):
        for x in range(raw.shape[1]):
            word = raw[y, x]
            if np.int16((word << 8) | (word >> 8)) == blank:
                out[y, x] = np.nan


def _decode(raw: NDArray[Any], stack: Stack, out: NDArray[np.float32]) -> None:
    if stack.storage.itemsize == 2:
        _decode_16bit(raw.view(np.uint16), out, np.float32(stack.scale), np.float32(stack.zero))
        if stack.blank is not None:
            _blank_16bit(raw.view(np.uint16), out, stack.blank)
        return
    with np.errstate(over="ignore", invalid="ignore"):
        # float64 between: 32-bit counts less their BZERO do not fit into a float32
        out[...] = raw if stack.scale == 1 and stack.zero == 0 else raw * np.float64(stack.scale) + stack.zero
    if stack.blank is not None:
        out[raw == stack.blank] = np.nan


def _native(raw: NDArray[Any], stack: Stack) -> NDArray[Any]:
    """Byte-swapped pixels; adding half the range to two's complement is flipping the top bit."""
    pixels = raw.astype(stack.storage.newbyteorder("="))
    if stack.native.kind == "u" and stack.storage.kind == "i":
        pixels = pixels.view(stack.native)
        pixels ^= stack.native.type(1 << (8 * stack.native.itemsize - 1))
    return pixels


@dataclass(frozen=True)
class Sections:
    """Parts of a raw frame, as rows ``y0:y1`` and columns ``x0:x1`` from 0.

    Parameters
    ----------
    trim : (y0, y1, x0, x1), optional
        What is kept; the whole frame by default.
    overscan : (y0, y1, x0, x1), optional
        Pixels that saw no light: their median is subtracted from the frame.
    """

    trim: tuple[int, int, int, int] | None = None
    overscan: tuple[int, int, int, int] | None = None

    def __bool__(self) -> bool:
        return self.trim is not None or self.overscan is not None

    @property
    def text(self) -> str:
        """Both sections for a message: ``[x1:x2,y1:y2]``, counted from 1, or ``none``."""
        return " and ".join(map(_section_text, (self.trim, self.overscan)))


def _section_text(section: tuple[int, int, int, int] | None) -> str:
    if section is None:
        return "none"
    y0, y1, x0, x1 = section
    return f"[{x0 + 1}:{x1},{y0 + 1}:{y1}]"


WHOLE = Sections()


class Frames:
    """The frames of a sequence of plain FITS files, read one at a time; a context manager.

    Each read goes through one reused buffer of a frame's size, so that memory does not grow with the
    sequence; an object therefore belongs to one thread.

    Parameters
    ----------
    paths : sequence of Path
        Files in the order in which they were taken.
    sections : Sections
        What of a raw frame is kept, and where its overscan is.
    names : sequence of str, optional
        Names of the files in messages: those of the raw files they were unpacked from; by default their own.

    Attributes
    ----------
    shape : tuple of int
        (ny, nx) of every frame.
    dtype : dtype
        What `rows` gives: the type that holds the stored values exactly, float32 for scaled or mixed files and
        where pixels are bad.

    Raises
    ------
    BadRawData
        A file is damaged, holds fewer frames than announced, does not fit the others, or it is not known what its
        images are.
    ArchiveError
        A file cannot be read.
    """

    def __init__(self, paths: Sequence[Path], sections: Sections = WHOLE, names: Sequence[str] = ()) -> None:
        shown = names or [path.name for path in paths]
        contents = [scan(path, name) for path, name in zip(paths, shown, strict=True)]
        for file in contents:
            if file.mosaic:
                raise BadRawData(f"{file.name}: expected whole frames, found amplifiers: unpack the file first")
        _check_complete(contents)
        stacks = [stack for file in contents for stack in file.stacks]
        self._raw_shape = _common_shape(contents)
        self._sections = sections
        self._trim = _inside(sections.trim, self._raw_shape, contents[0].name)
        self.shape = self._trim[1] - self._trim[0], self._trim[3] - self._trim[2]
        natives = {stack.native for stack in stacks}
        single = len(natives) == 1 and sections.overscan is None
        self.dtype: np.dtype[Any] = natives.pop() if single else np.dtype(np.float32)
        is_unsigned = {stack.counts for stack in stacks} == {np.dtype(np.uint16)}
        self._full_scale = 65535.0 if is_unsigned else None
        self._has_masks = any(stack.masks for stack in stacks)
        self._bad: tuple[tuple[int, ...], NDArray[np.bool_]] = (), np.zeros((0, 0), bool)
        self._levels: dict[int, np.float32] = {}
        self._buffer = np.empty(max(stack.frame_bytes for stack in stacks), np.uint8)
        self._files = ExitStack()
        self._places: list[tuple[Contents, int, Stack, int]] = []
        try:
            for file in contents:
                with explained(file.path, file.name):
                    descriptor = self._files.enter_context(file.path.open("rb", buffering=0)).fileno()
                for stack in file.stacks:
                    self._places += [(file, descriptor, stack, plane) for plane in range(stack.count)]
        except ArchiveError:
            self.close()
            raise

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self.read(i) for i in range(len(self)))

    @property
    def sections(self) -> Sections:
        """What of a raw frame is kept, the whole of it if no section says so, and where its overscan is."""
        return Sections(self._trim, self._sections.overscan)

    def header(self) -> fits.Header:
        """Read the header of frame 0."""
        file = self._places[0][0]
        return read_header(file.path, file.name)

    @property
    def saturation(self) -> float | None:
        """Greatest value [ADU] of a frame: 65535 for unsigned 16-bit pixels, less the overscan; else not known."""
        return None if self._full_scale is None else self.above_overscan(self._full_scale)

    def above_overscan(self, level_adu: float) -> float:
        """Return what a level of raw pixels becomes in a frame: less the overscan of the first one [ADU]."""
        return level_adu - float(self._overscan(0)) if self._sections.overscan else level_adu

    def read(self, i: int, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return a frame.

        Parameters
        ----------
        i : int
            Number of the frame, from 0.
        out : (ny, nx) ndarray of float32, optional
            Array to write to.

        Returns
        -------
        (ny, nx) ndarray of float32
            The pixels [ADU]; `out` when given.
        """
        out = np.empty(self.shape, np.float32) if out is None else out
        if self._sections or self._has_masks:
            out[...] = self.window(i, 0, self.shape[0], 0, self.shape[1])
        else:
            raw, stack = self._raw_rows(i, 0, self.shape[0])
            _decode(raw, stack, out)
        return out

    def window(self, i: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[np.float32]:
        """Return the pixels [y0:y1, x0:x1] of a frame.

        Parameters
        ----------
        i : int
            Number of the frame, from 0.
        y0, y1, x0, x1 : int
            Edges of the window [pixel]; `y1` and `x1` are excluded.

        Returns
        -------
        (y1 - y0, x1 - x0) ndarray of float32
            The pixels [ADU].

        Raises
        ------
        ValueError
            The window is not within the frame.
        """
        if not 0 <= x0 <= x1 <= self.shape[1]:
            raise ValueError(f"columns {x0}:{x1} of a frame of {self.shape[1]}")
        out = np.empty((y1 - y0, x1 - x0), np.float32)
        raw, stack = self._raw_rows(i, y0, y1)
        top, left = self._trim[0], self._trim[2]
        _decode(raw[:, left + x0 : left + x1], stack, out)
        if stack.masks:
            out[self._bad_pixels(i, stack)[top + y0 : top + y1, left + x0 : left + x1]] = np.nan
        return out - self._overscan(i) if self._sections.overscan else out

    def _bad_pixels(self, i: int, stack: Stack) -> NDArray[np.bool_]:
        """Which pixels of a raw frame are bad, by the masks of its file; the last answer is kept."""
        file, descriptor, _, plane = self._places[i]
        planes = [min(plane, mask.stack.count - 1) for mask in stack.masks]
        place = (descriptor, *planes, *(mask.stack.offset for mask in stack.masks))
        if self._bad[0] != place:
            bad = np.zeros(stack.shape, bool)
            with explained(file.path, file.name), file.path.open("rb") as opened:
                for mask, at in zip(stack.masks, planes, strict=True):
                    bad |= bad_pixels(file.name, mask.image, mask.role, read_plane(opened, mask.stack, at))
            self._bad = place, bad
        return self._bad[1]

    def _overscan(self, i: int) -> np.float32:
        """Median of the pixels of a frame that saw no light."""
        if i not in self._levels:
            y0, y1, x0, x1 = _inside(self._sections.overscan, self._raw_shape, self._places[i][0].name)
            raw, stack = self._raw_rows(i, y0 - self._trim[0], y1 - self._trim[0])
            dark = np.empty((y1 - y0, x1 - x0), np.float32)
            _decode(raw[:, x0:x1], stack, dark)
            self._levels[i] = np.float32(np.nanmedian(dark))
        return self._levels[i]

    def rows(self, y0: int, y1: int) -> NDArray[Any]:
        """Return the rows [y0:y1] of all frames.

        Parameters
        ----------
        y0, y1 : int
            First row, and the row after the last [pixel].

        Returns
        -------
        (n, y1 - y0, nx) ndarray of `dtype`
            The pixels [ADU].

        Raises
        ------
        ValueError
            The rows are not within the frame.
        """
        out = np.empty((len(self), y1 - y0, self.shape[1]), self.dtype)
        for i, target in enumerate(out):
            if self._sections or self._has_masks:
                target[...] = self.window(i, y0, y1, 0, self.shape[1])
                continue
            raw, stack = self._raw_rows(i, y0, y1)
            if stack.native == self.dtype and self.dtype != np.float32:
                target[...] = _native(raw, stack)
            else:
                _decode(raw, stack, target)
        return out

    def _raw_rows(self, i: int, y0: int, y1: int) -> tuple[NDArray[Any], Stack]:
        """Read rows as stored, all columns of them, into the buffer; counted from the first that is kept."""
        y0, y1 = y0 + self._trim[0], y1 + self._trim[0]
        ny, nx = self._raw_shape
        if not 0 <= y0 <= y1 <= ny:
            raise ValueError(f"rows {y0}:{y1} of a frame of {ny}")
        file, descriptor, stack, plane = self._places[i]
        row_bytes = nx * stack.storage.itemsize
        raw = self._buffer[: (y1 - y0) * row_bytes]
        start = stack.offset + plane * stack.frame_bytes + y0 * row_bytes
        with explained(file.path, file.name):
            found = os.preadv(descriptor, [raw.data], start)
        if found != raw.size:
            raise BadRawData(f"{file.name}: frame {i}: expected {raw.size} bytes, found {found}")
        return raw.view(stack.storage).reshape(y1 - y0, nx), stack


def _inside(section: tuple[int, int, int, int] | None, shape: tuple[int, int], name: str) -> tuple[int, int, int, int]:
    """Section of a frame, the whole one for None; it must lie within."""
    if section is None:
        return 0, shape[0], 0, shape[1]
    y0, y1, x0, x1 = section
    if not (0 <= y0 < y1 <= shape[0] and 0 <= x0 < x1 <= shape[1]):
        raise BadRawData(f"{name}: section rows {y0}:{y1}, columns {x0}:{x1} of a frame of {shape} (y, x)")
    return section


def _check_complete(contents: Sequence[Contents]) -> None:
    """Find files cut where nothing looks broken: at the end of an HDU or of a compressed stream."""
    total = sum(file.n_frames for file in contents)
    if total == 0:
        raise BadRawData(f"{', '.join(file.name for file in contents)}: expected frames, found none")
    first = contents[0].n_frames
    for file in contents:
        announced = file.expected or 0
        # Some cameras announce the frames of the whole sequence in each of its files.
        if file.n_frames + file.others < announced and total != announced:
            raise BadRawData(f"{file.name} holds {file.n_frames} of {announced} frames")
        if file.n_frames > first or (file.n_frames < first and file is not contents[-1]):
            raise BadRawData(
                f"{file.name} holds {file.n_frames} frames, {contents[0].name} {first}: "
                "expected as many in all files of a sequence but the last"
            )


def _common_shape(contents: Sequence[Contents]) -> tuple[int, int]:
    shape = next(stack.shape for file in contents for stack in file.stacks)
    for file in contents:
        for stack in file.stacks:
            if stack.shape != shape:
                raise BadRawData(f"{file.name}: expected frames of {shape}, found {stack.shape} (y, x)")
    return shape

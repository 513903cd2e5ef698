"""Detectors read out by several amplifiers: the extensions of a file are put together into whole frames."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import BadRawData
from obsarchive.io.image_headers import ImageHdu
from obsarchive.io.image_roles import sections_of

PlaneReader = Callable[[int, int], NDArray[Any]]
"""Returns the pixels (ny, nx) of a plane of an HDU, by the numbers of both."""

_SECTION = re.compile(r"\[\s*(?:(\d+)\s*:\s*(\d+)|\*)\s*,\s*(?:(\d+)\s*:\s*(\d+)|\*)\s*\]")
MAX_SIDE = 100_000
"""Longest side of a detector that is believed [pixel]."""
LEAST_FILLED = 0.5
"""Share of the rectangle around all parts that they must fill."""
GAIN_RATIO = 2.0
"""Of amplifiers whose gains are believed: the greatest over the least."""


@dataclass(frozen=True)
class Section:
    """A section of an image or a detector: rows ``y0:y1``, columns ``x0:x1`` from 0, counted backwards or not."""

    y0: int
    y1: int
    x0: int
    x1: int
    flipped: tuple[bool, bool] = (False, False)
    """Whether (y, x) are given from the last to the first."""

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) [pixel]."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


def parse_section(text: str, frame: tuple[int, int] = (0, 0)) -> Section | None:
    """Read a section of a header.

    Parameters
    ----------
    text : str
        ``[x1:x2,y1:y2]``, counted from 1, both ends included, in either direction; ``*`` is a whole axis.
    frame : tuple of int
        (ny, nx), for the latter.

    Returns
    -------
    Section or None
        None for anything else.
    """
    match = _SECTION.fullmatch(text.strip())
    if match is None:
        return None
    whole = 1, frame[1], 1, frame[0]
    x1, x2, y1, y2 = (side if found is None else int(found) for found, side in zip(match.groups(), whole, strict=True))
    if min(x1, x2, y1, y2) < 1 or max(x1, x2, y1, y2) > MAX_SIDE:
        return None
    return Section(min(y1, y2) - 1, max(y1, y2), min(x1, x2) - 1, max(x1, x2), (y2 < y1, x2 < x1))


@dataclass(frozen=True)
class Amplifier:
    """A part of a frame.

    Attributes
    ----------
    number : int
        Of its HDU.
    data : Section
        Pixels that saw light, of the image.
    overscan : Section, optional
        Pixels that did not.
    place : Section
        Where they belong in the frame.
    flipped : tuple of bool
        Whether the image is turned over in (y, x).
    factor : float
        By which its counts are multiplied, for the gains of the amplifiers to be one.
    """

    number: int
    data: Section
    overscan: Section | None
    place: Section
    flipped: tuple[bool, bool]
    factor: float

    def put(self, pixels: NDArray[Any], frame: NDArray[Any]) -> None:
        """Write one plane of its image, (ny, nx), into a frame."""
        cut = pixels[self.data.slices]
        if self.overscan is not None:
            cut = cut - np.float32(np.nanmedian(pixels[self.overscan.slices]))
        if self.factor != 1:
            cut = cut * np.float32(self.factor)
        step_y, step_x = (-1 if flip else 1 for flip in self.flipped)
        frame[self.place.slices] = cut[::step_y, ::step_x]


@dataclass(frozen=True)
class Mosaic:
    """How amplifiers make a frame: its shape (ny, nx), number of planes, and the parts."""

    shape: tuple[int, int]
    planes: int
    parts: tuple[Amplifier, ...]

    @property
    def keeps_counts(self) -> bool:
        """Whether the pixels of the frame are the stored ones: all there, nothing subtracted, no factor."""
        whole = sum(part.place.shape[0] * part.place.shape[1] for part in self.parts) == self.shape[0] * self.shape[1]
        return whole and all(part.overscan is None and part.factor == 1 for part in self.parts)


def mosaic_of(file: str, images: Sequence[ImageHdu]) -> Mosaic:
    """Work out how the amplifiers of one detector fit together.

    Parameters
    ----------
    file : str
        Name of the file, for messages.
    images : sequence of ImageHdu
        The amplifiers, with ``DETSEC`` or ``CCDSEC``; ``DATASEC`` and ``BIASSEC`` where they have an overscan.

    Raises
    ------
    BadRawData
        The sections do not fit the images, or each other.
    """
    key = sections_of(images) or "DETSEC"
    data = [_data_section(file, image) for image in images]
    places = [_section(file, image, key) for image in images]
    binning = _binning(file, key, images, data, places)
    corner = min(place.y0 for place in places), min(place.x0 for place in places)
    targets = [
        _target(file, image, (place, cut), corner, binning)
        for image, place, cut in zip(images, places, data, strict=True)
    ]
    shape = max(target.y1 for target in targets), max(target.x1 for target in targets)
    _refuse_overlap(file, key, images, targets, shape)
    overscans = [_overscan(file, image) for image in images]
    if len({overscan is None for overscan in overscans}) > 1:
        raise BadRawData(f"{file}: expected BIASSEC in all of {_names(images)} or in none, found it in some")
    planes = {int(np.prod(image.shape[:-2])) for image in images}
    if len(planes) > 1:
        raise BadRawData(f"{file}: expected as many planes in all of {_names(images)}, found {sorted(planes)}")
    factors = _factors(images)
    parts = tuple(
        Amplifier(image.number, cut, overscan, target, _flips(place, cut), factor)
        for image, cut, overscan, place, target, factor in zip(
            images, data, overscans, places, targets, factors, strict=True
        )
    )
    return Mosaic(shape, planes.pop(), parts)


def _names(images: Sequence[ImageHdu]) -> str:
    return ", ".join(map(str, images))


def _section(file: str, image: ImageHdu, key: str) -> Section:
    found = parse_section(image.text(key), (0, 0) if key in ("DETSEC", "CCDSEC") else image.frame)
    if found is None:
        raise BadRawData(f"{file}: {image}: expected {key} as [x1:x2,y1:y2], found {image.text(key)!r}")
    return found


def _inside(file: str, image: ImageHdu, key: str) -> Section | None:
    """Section of an image, None if it has none; it must lie within."""
    if not image.text(key).startswith("["):
        return None
    found = _section(file, image, key)
    if found.y1 > image.frame[0] or found.x1 > image.frame[1]:
        raise BadRawData(
            f"{file}: {image}: expected {key} within its {image.frame} pixels (y, x), found {image.text(key)}"
        )
    return found


def _data_section(file: str, image: ImageHdu) -> Section:
    return _inside(file, image, "DATASEC") or Section(0, image.frame[0], 0, image.frame[1])


def _overscan(file: str, image: ImageHdu) -> Section | None:
    return _inside(file, image, "BIASSEC")


def _flips(place: Section, data: Section) -> tuple[bool, bool]:
    return place.flipped[0] != data.flipped[0], place.flipped[1] != data.flipped[1]


def _binning(
    file: str, key: str, images: Sequence[ImageHdu], data: Sequence[Section], places: Sequence[Section]
) -> tuple[int, int]:
    """Detector pixels per pixel of the images, (y, x): one for all."""
    found = []
    for image, cut, place in zip(images, data, places, strict=True):
        binning = tuple(max(1, side // own) for side, own in zip(place.shape, cut.shape, strict=True))
        fits = all(
            0 <= side - own * step < step for side, own, step in zip(place.shape, cut.shape, binning, strict=True)
        )
        if not fits:
            raise BadRawData(
                f"{file}: {image}: {cut.shape} pixels (y, x) do not fit {key} {image.text(key)}: "
                "expected DATASEC, and a whole number of detector pixels in each"
            )
        found.append((binning[0], binning[1]))
    if len(set(found)) > 1:
        raise BadRawData(f"{file}: {_names(images)} are binned differently: {sorted(set(found))} (y, x)")
    return found[0]


def _target(
    file: str, image: ImageHdu, sections: tuple[Section, Section], corner: tuple[int, int], binning: tuple[int, int]
) -> Section:
    """Place of an amplifier in the frame, in pixels of the images."""
    place, cut = sections
    (y0, odd_y), (x0, odd_x) = divmod(place.y0 - corner[0], binning[0]), divmod(place.x0 - corner[1], binning[1])
    if odd_y or odd_x:
        raise BadRawData(f"{file}: {image} lies between the pixels of the others, binned {binning} (y, x)")
    return Section(y0, y0 + cut.shape[0], x0, x0 + cut.shape[1])


def _refuse_overlap(
    file: str, key: str, images: Sequence[ImageHdu], targets: Sequence[Section], shape: tuple[int, int]
) -> None:
    """Parts of one detector lie side by side, and not far apart."""
    for i, one in enumerate(targets):
        for other, image in zip(targets[:i], images[:i], strict=True):
            if min(one.y1, other.y1) > max(one.y0, other.y0) and min(one.x1, other.x1) > max(one.x0, other.x0):
                raise BadRawData(
                    f"{file}: {image} and {images[i]} overlap on the detector: {key} {image.text(key)} and "
                    f"{images[i].text(key)}: expected parts that lie side by side"
                )
    filled = sum(target.shape[0] * target.shape[1] for target in targets) / (shape[0] * shape[1])
    if max(shape) > MAX_SIDE or filled < LEAST_FILLED:
        raise BadRawData(
            f"{file}: {_names(images)} fill {100 * filled:.0f} % of the {shape} pixels (y, x) around them by {key}: "
            "expected one detector; write chips that lie apart into files of their own"
        )


def _factors(images: Sequence[ImageHdu]) -> list[float]:
    """Gains over their mean, where all amplifiers have one that can be believed."""
    values = [image.cards.get("EGAIN", image.cards.get("GAIN")) for image in images]
    gains = [float(value) for value in values if isinstance(value, int | float) and value > 0]
    if len(gains) < len(images) or max(gains) > GAIN_RATIO * min(gains) or max(gains) == min(gains):
        return [1.0] * len(images)
    return [gain / (sum(gains) / len(gains)) for gain in gains]


def header_card(key: str, value: int) -> bytes:
    """Return a card of a FITS header that holds a whole number."""
    return f"{key:<8}= {value:>20d}".ljust(80).encode("ascii")


def write_frames(path: Path, mosaic: Mosaic, dtype: np.dtype[Any], read: PlaneReader) -> None:
    """Write the frames of a file of amplifiers as one plain FITS cube.

    Parameters
    ----------
    path : Path
        File to write.
    mosaic : Mosaic
        How they fit together.
    dtype : dtype
        Type of the pixels: unsigned 16-bit integers, or float32.
    read : callable
        Reads a plane of an HDU: as `dtype`, bad pixels NaN.
    """
    unsigned = dtype == np.uint16
    cards = [b"SIMPLE  =                    T".ljust(80), header_card("BITPIX", 16 if unsigned else -32)]
    cards += [header_card("NAXIS", 3)]
    cards += [header_card(f"NAXIS{i + 1}", side) for i, side in enumerate((*mosaic.shape[::-1], mosaic.planes))]
    cards += [header_card("BZERO", 32768)] if unsigned else []
    with path.open("wb") as sink:
        sink.write(b"".join([*cards, b"END".ljust(80)]).ljust(2880))
        for plane in range(mosaic.planes):
            frame = np.full(mosaic.shape, 0 if unsigned else np.nan, dtype)
            for part in mosaic.parts:
                part.put(read(part.number, plane), frame)
            stored = (frame ^ np.uint16(0x8000)).astype(">u2") if unsigned else frame.astype(">f4")
            sink.write(stored.tobytes())
        sink.write(bytes(-sink.tell() % 2880))

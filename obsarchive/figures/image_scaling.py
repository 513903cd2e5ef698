"""From physical values to the pixels of a picture: stretch and scale."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from obsarchive.science.arrays import AnyArray, BoolArray, Float32Array, Float64Array
from obsarchive.science.statistics import median_of_all

Bytes = NDArray[np.uint8]
"""Pixels of a picture, one byte each."""
Point = tuple[float, float]

NO_DATA, OUTLINE, BLACK, WHITE = 0, 1, 2, 223
"""Bytes of a picture: missing pixels and surround, the outline of text, the darkest and the brightest tone."""

_SAMPLE = 2**16
"""Pixels from which background and noise are taken."""

_BACKGROUND_SHARE = 0.2
"""Share of the pixels whose narrowest interval of values is the background."""

_OBJECT_SHARE = 0.25
"""With more than this share of pixels clearly below it, the commonest value belongs to an object, not to the sky."""

_UNDEFINED = 1e30
"""No measurement is larger; some programs mark missing pixels by the largest number of single precision."""

_BLACK_SIGMA, _SOFT_SIGMA = 2.0, 3.0
"""How far black lies below the background, and how far from black the scale turns from linear to logarithmic."""

_STAR_SHARE = 0.3
"""Largest share of a star's pixels that are brighter than half its peak, with some margin for noise."""

_MIN_RANGE_SIGMA = 40.0
"""White lies at least this far above the background: the noise of an empty field stays dark."""


@dataclass(frozen=True)
class Box:
    """A square part of an image: its centre (y, x) and its side [pixel]; ValueError if the side is not positive."""

    centre_yx: Point
    side_px: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.centre_yx, self.side_px))) or self.side_px <= 0:
            raise ValueError(f"expected a finite centre and a positive side, found {self}")


@dataclass(frozen=True)
class Levels:
    """Limits of an inverse hyperbolic sine scale.

    Attributes
    ----------
    black, white : float
        Values shown as 0 and 1 [unit of the image].
    soft : float
        Distance from black at which the scale turns from linear to logarithmic [unit of the image].
    """

    black: float = 0.0
    white: float = 1.0
    soft: float = 1.0


@dataclass(frozen=True)
class View:
    """Mapping of a square part of an image onto a square picture; the middle of the first pixel is (0, 0).

    Attributes
    ----------
    box : Box
        Part of the image.
    size_px : int
        Side of the picture [pixel].

    Raises
    ------
    ValueError
        If the size is not positive.
    """

    box: Box
    size_px: int

    def __post_init__(self) -> None:
        if self.size_px < 1:
            raise ValueError(f"expected a positive size of the picture, found {self.size_px}")

    @property
    def zoom(self) -> float:
        """Pixels of the picture per pixel of the image."""
        return self.size_px / self.box.side_px

    def covered(self, image: AnyArray) -> tuple[Point, Point]:
        """Return the edges (low, high) in y and in x of what is shown, from the edge of the first pixel [pixel]."""
        (y, x), (ny, nx) = self.box.centre_yx, image.shape
        return _span(y, self.box.side_px, ny), _span(x, self.box.side_px, nx)

    def column(self, x: float) -> float:
        """Return the distance of a column of the image from the left edge of the picture [pixel]."""
        return (x - self.box.centre_yx[1]) * self.zoom + self.size_px / 2

    def row(self, y: float) -> float:
        """Return the distance of a row of the image from the top edge of the picture [pixel]."""
        return (self.box.centre_yx[0] - y) * self.zoom + self.size_px / 2


def levels(image: AnyArray, core: tuple[slice, slice] = (slice(None), slice(None))) -> Levels:
    """Compute the levels at which to display an image.

    Black follows from the background, white is the brightest spot of at least 2x2 pixels, so that neither a hot
    pixel nor a cosmic ray decides. The softening is a few times the noise for stars; the more of the bright pixels
    are as bright as the brightest, as in the disc of a planet, the closer it comes to a linear scale.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image in any unit; pixels that are not finite are ignored.
    core : (slice, slice)
        Part of the image whose peak is white, usually the surroundings of the star.

    Returns
    -------
    Levels
        Finite, with ``black < white`` and ``soft > 0``, whatever the image.
    """
    sample = _sample(image)
    if not sample.size:
        return Levels()
    background, noise = _background(sample, _roughness(image))
    spots = _spots(image[core])
    peak = float(spots.max(initial=background))
    smallest = 1e-5 * max(abs(background), abs(peak), 1e-30)
    height = max(peak - background, _MIN_RANGE_SIGMA * noise, smallest)
    soft = max(_SOFT_SIGMA * noise, 3 * _flatness(spots - background, height) ** 2 * height, 1e-5 * height)
    return Levels(background - _BLACK_SIGMA * noise, background + height, soft)


def stretch(image: AnyArray, shown: Levels | None = None) -> Float32Array:
    """Map values to tones on an inverse hyperbolic sine scale (Lupton et al. 2004, PASP 116, 133).

    Parameters
    ----------
    image : ndarray, any shape
        Values [unit of the levels].
    shown : Levels, optional
        Levels; by default those of the image, which must then be two-dimensional.

    Returns
    -------
    ndarray of float32, same shape
        Tones from 0 (black) to 1 (white); NaN where the image has no measured value.
    """
    shown = shown or levels(image)
    top = (shown.white - shown.black) / shown.soft
    values = single(image)
    with np.errstate(over="ignore"):
        tones: Float32Array = np.arcsinh(
            np.clip((values - np.float32(shown.black)) / np.float32(shown.soft), 0, np.float32(top))
        )
    tones /= np.float32(np.arcsinh(top))
    tones[~measured(values)] = np.nan
    return tones


def single(image: AnyArray) -> Float32Array:
    """Return an image in native single precision, without a copy if possible; values too large become infinite."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(image, dtype=np.float32)


def measured(values: Float32Array) -> BoolArray:
    """Return which pixels hold a measured value rather than NaN, infinity or a filler for missing pixels."""
    valid: BoolArray = np.abs(values) < _UNDEFINED
    return valid


def checked(image: AnyArray) -> AnyArray:
    """Return an image that can be displayed; ValueError if it is not two-dimensional or is empty."""
    if image.ndim != 2 or not image.size:
        raise ValueError(f"expected an image of two dimensions, found the shape {image.shape}")
    return image


def pixels_in(image: AnyArray, box: Box | None) -> tuple[slice, slice]:
    """Return the slices of an image that a box covers.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        The image.
    box : Box, optional
        Part of it; the whole image by default.

    Returns
    -------
    (slice, slice)
        Rows and columns; all of them if the box lies beyond the image.
    """
    if box is None:
        return slice(None), slice(None)
    spans = [_span(c, box.side_px, n) for c, n in zip(box.centre_yx, image.shape, strict=True)]
    rows, columns = (slice(math.floor(low), math.ceil(high)) for low, high in spans)
    return (rows, columns) if image[rows, columns].size else (slice(None), slice(None))


def tone_bytes(image: AnyArray, view: View, shown: Levels) -> Bytes:
    """Draw a part of an image as the bytes of a picture, its last row at the top.

    Where the picture has fewer pixels than the image, values are averaged before they are stretched, which brings out
    faint sources; where it has more, tones are interpolated, so that bright cores do not ring.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image in the unit of the levels.
    view : View
        Part of the image, and size of the picture.
    shown : Levels
        Values that become black and white.

    Returns
    -------
    ndarray of uint8, shape (size_px, size_px)
        `BLACK` to `WHITE`, and `NO_DATA` for missing pixels and beyond the image.
    """
    picture = np.full((view.size_px, view.size_px), NO_DATA, dtype=np.uint8)
    (low_y, high_y), (low_x, high_x) = view.covered(image)
    if low_y >= high_y or low_x >= high_x:
        return picture
    rows, columns = _margin(low_y, high_y), _margin(low_x, high_x)
    part = single(image[rows, columns])
    box = (low_x - columns.start, low_y - rows.start, high_x - columns.start, high_y - rows.start)
    left, right = round(view.column(low_x - 0.5)), round(view.column(high_x - 0.5))
    top, bottom = round(view.row(high_y - 0.5)), round(view.row(low_y - 0.5))
    size = (max(1, right - left), max(1, bottom - top))
    if view.zoom < 1:
        tones = stretch(_resampled(part, box, size, Image.Resampling.HAMMING), shown)
    else:
        tones = np.clip(_resampled(stretch(part, shown), box, size, Image.Resampling.BICUBIC), 0, 1)
    scaled = np.nan_to_num(BLACK + 0.5 + tones * (WHITE - BLACK), nan=NO_DATA).astype(np.uint8)
    top, left = min(top, view.size_px - size[1]), min(left, view.size_px - size[0])
    picture[top : top + size[1], left : left + size[0]] = scaled[::-1]
    return picture


def _span(centre: float, side: float, n: int) -> tuple[float, float]:
    """Edges of the part of an axis of `n` pixels that a box covers, from the edge of the first pixel [pixel]."""
    low, high = centre + 0.5 - side / 2, centre + 0.5 + side / 2
    return min(max(low, 0.0), float(n)), min(max(high, 0.0), float(n))


def _margin(low: float, high: float) -> slice:
    """Whole pixels between two edges and what interpolation needs around them."""
    return slice(max(0, math.floor(low) - 3), math.ceil(high) + 3)


def _resampled(
    values: Float32Array, box: tuple[float, ...], size: tuple[int, int], kernel: Image.Resampling
) -> Float32Array:
    """Resample the part `box` (left, top, right, bottom) to `size` (nx, ny), ignoring missing pixels."""
    valid = measured(values)

    def resized(pixels: Float32Array) -> Float32Array:
        return np.asarray(Image.fromarray(pixels).resize(size, kernel, box))  # type: ignore[arg-type]

    if valid.all():
        return resized(values)
    weight = resized(valid.astype(np.float32))
    total = resized(np.where(valid, values, np.float32(0)))
    return np.where(weight > 0.5, total / np.maximum(weight, 0.5), np.float32(np.nan))


def _sample(image: AnyArray) -> Float64Array:
    """Sorted finite values of an evenly spread part of the pixels."""
    step = max(1, int(np.sqrt(image.size / _SAMPLE)))
    values = single(image[::step, ::step])
    return np.sort(values[measured(values)]).astype(float)


def _background(sample: Float64Array, roughness: float) -> tuple[float, float]:
    """Background and its noise from sorted values: the commonest value and the spread below it.

    Sources only add to the background, so that the values below it measure the noise even in a crowded field. Where
    an object fills the image its own surface is commonest; the darkest pixels are then the best estimate, and the
    spread is structure: noise cannot be much larger than the roughness, even if resampling made it smooth.
    """
    n = len(sample)
    width = max(1, round(_BACKGROUND_SHARE * n))
    start = int(np.argmin(sample[width - 1 :] - sample[: n - width + 1]))
    background = median_of_all(sample[start : start + width])
    below = sample[: max(1, int(np.searchsorted(sample, background, side="right")))]
    noise = min(1.4826 * (background - median_of_all(below)), 4 * roughness)
    clearly_below = np.searchsorted(sample, background - 5 * noise) / n
    return (float(sample[n // 100]) if clearly_below > _OBJECT_SHARE else background), noise


def _roughness(image: AnyArray) -> float:
    """Noise from second differences along some rows, as if it were independent from pixel to pixel."""
    rows = single(image[:: max(1, image.size // _SAMPLE)])
    rows = np.where(measured(rows), rows, np.float32(np.nan))
    bends = np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:])
    bends = bends[measured(bends)]
    return float(1.4826 / math.sqrt(6) * median_of_all(bends)) if bends.size else 0.0


def _spots(image: AnyArray) -> Float64Array:
    """Values that blocks of 2x2 pixels reach throughout, shape (n,)."""
    values = single(image)
    ny, nx = (length // 2 * 2 for length in values.shape)
    rows = np.minimum(values[:ny:2, :nx], values[1:ny:2, :nx])
    blocks = np.minimum(rows[:, ::2], rows[:, 1::2])
    return blocks[measured(blocks)].astype(float)


def _flatness(heights: Float64Array, top: float) -> float:
    """Return the flatness of the bright parts: 0 for any star, 1 for a disc of constant brightness.

    Of the pixels above 1/20 of the top, the share above 1/2 is ln 2 / ln 20 = 0.23 in a Gaussian star, less if the
    star has a halo, and 1 in a disc.
    """
    n_object = np.count_nonzero(heights > top / 20)
    share = np.count_nonzero(heights > top / 2) / n_object if n_object else 0.0
    return max(0.0, (share - _STAR_SHARE) / (1 - _STAR_SHARE))

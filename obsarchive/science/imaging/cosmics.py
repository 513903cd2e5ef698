"""Cosmic-ray rejection: Laplacian edge detection (L.A.Cosmic) for single images, comparison for two means."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import astroscrappy
import numpy as np
from scipy import ndimage

from obsarchive.science.arrays import BoolArray, Float32Array, FloatArray
from obsarchive.science.imaging.medians import median_5x5, median_of
from obsarchive.science.imaging.resampling import without_sharp_pixels
from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_all, robust_sigma

SIGMA_CLIP, NEIGHBOUR_FRACTION, OBJECT_LIMIT = 6.0, 0.3, 5.0
ROUNDS = 2
"""Iterations, in which the neighbours of cosmic rays are searched again."""
SHARP_OBJECT_LIMIT = 20.0
"""Object limit for single exposures, whose stars no other frame confirms."""
SEEN_AGAIN = 0.4
"""Share of the flux of a pixel in other frames from which on it belongs to a source."""
LEAST_LEFT = 8.0
"""Height of a star without sharp pixels, over the noise, from which on it is there for certain."""
LEAST_WIDE = 0.33
"""Height of a star of 2 pixels FWHM without sharp pixels over that with them: it is never taken for a cosmic ray."""
ON_STAR = 0.1
"""Light around a hit, over the height of the brightest star, from which on it is part of a group of stars."""
MODEL_ERROR = 0.05
"""Relative error of the smooth image in the noise model, which protects the cores of stars."""
OUTSTANDING = 4.0
"""Height of a pixel over the noise from which on it may be hit; its neighbours do not add so much to it."""
TILE_PX, CONTEXT_PX, REACH_PX = 48, 12, 4
"""Side of the parts of an image in which cosmic rays are looked for, what is around that counts, and how far a hit
pixel reaches."""
LEAST_SIDE_PX = 9
MARGIN_PX = 6
"""Mirrored rows and columns around an image: astroscrappy looks for nothing in the outermost three."""
DISAGREEMENT = 7.0
"""Difference of two means of different frames, over its noise, from which on a pixel is hit."""
SLOPE = 0.5
"""Tolerance of registration errors, in units of the local range of brightness."""
BRIGHTNESS_BINS = 30

Window = tuple[slice, slice]
"""Rows and columns of a part of an image."""


def without_cosmic_rays(
    image: FloatArray, rounds: int = ROUNDS, elsewhere: FloatArray | None = None, object_limit: float = OBJECT_LIMIT
) -> tuple[Float32Array, BoolArray]:
    """Replace cosmic rays by the median of their surroundings.

    van Dokkum (2001, PASP 113, 1420), as implemented by astroscrappy. The noise is that of the background, plus five
    percent of the smooth image.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Calibrated counts, or a mean of frames; NaN where unknown.
    rounds : int
        Number of iterations, in which the neighbours of cosmic rays are searched again.
    elsewhere : ndarray (ny, nx), optional
        Signal common to most frames, from :func:`common_signal`; NaN where unknown. A pixel that is as bright there
        belongs to a source, however sharp it is.
    object_limit : float
        Least contrast between fine structure and the underlying object; sharper stars need more.

    Returns
    -------
    clean : ndarray (ny, nx) float32
        Image without cosmic rays; unknown pixels stay NaN.
    hit : ndarray (ny, nx) of bool
        Pixels hit by cosmic rays.
    """
    pixels = np.array(image, np.float32)
    found = _detected(pixels, rounds, object_limit, elsewhere)
    if found is None:
        return pixels, np.zeros(pixels.shape, bool)
    hit, clean = found.hit, found.clean
    if elsewhere is not None:
        hit = found.unless_seen(elsewhere)
        # pixels that the other frames confirm get their values back
        clean = np.where(hit, clean, found.filled)
    return np.where(np.isfinite(pixels), clean + np.float32(found.level), np.float32(np.nan)), hit


def without_cosmic_rays_unaligned(windows: Sequence[FloatArray]) -> list[Float32Array]:
    """Replace cosmic rays in windows around a star that is not yet known to be in the same place in each.

    Parameters
    ----------
    windows : sequence of n ndarray (ny, nx)
        Calibrated counts; NaN where unknown.

    Returns
    -------
    list of n ndarray (ny, nx) float32
        Cleaned windows; the windows as they are if no star of much the same height is left in each, or one so sharp
        that another may have been taken for a cosmic ray.
    """
    clean = [_cleaned_around_stars(np.asarray(window, np.float32)) for window in windows]
    heights, noise, wide = np.array([_star_left(window) for window in clean]).T
    is_there = (heights > LEAST_LEFT * noise).all() and heights.min() >= SEEN_AGAIN * heights.max()
    if is_there and wide.min() >= LEAST_WIDE:
        return clean
    return [np.asarray(window, np.float32) for window in windows]


def _cleaned_around_stars(window: Float32Array) -> Float32Array:
    """Replace cosmic rays, but not where stars are: close ones make each other sharp."""
    clean, hit = without_cosmic_rays(window, object_limit=SHARP_OBJECT_LIMIT)
    if not hit.any():
        return clean
    level, smooth = median_of_all(clean[np.isfinite(clean)]), without_sharp_pixels(clean)
    return np.where(hit & (clean - level < ON_STAR * (smooth.max() - level)), clean, window)


def _star_left(window: Float32Array) -> tuple[float, float, float]:
    """Return height and noise of the brightest source of a window without sharp pixels, and the height over that with.

    All are 0 in a window without known pixels.
    """
    known = np.isfinite(window)
    if not known.any():
        return 0.0, 0.0, 0.0
    smooth, level = without_sharp_pixels(window), median_of_all(window[known])
    height, full = float(smooth.max()) - level, float(window[known].max()) - level
    return height, robust_sigma(smooth), height / full if full > 0 else 0.0


@dataclass(frozen=True, eq=False)
class _Detected:
    """Cosmic rays of an image: `filled` and `clean` are without and with replacement, above the background `level`."""

    hit: BoolArray
    clean: Float32Array
    filled: Float32Array
    level: float

    def unless_seen(self, elsewhere: FloatArray) -> BoolArray:
        """Return the hit pixels that are not as bright in the signal common to most frames."""
        with np.errstate(invalid="ignore"):
            hit: BoolArray = self.hit & ~(elsewhere - self.level >= SEEN_AGAIN * self.filled)
        return hit


def _detected(
    pixels: Float32Array, rounds: int, object_limit: float, elsewhere: FloatArray | None = None
) -> _Detected | None:
    """Detect cosmic rays; None for an image that is too small, or has no noise to compare them with.

    Where the signal of other frames is known they are looked for only around pixels that stand out, which takes a
    fraction of the time.
    """
    known = np.isfinite(pixels)
    if not known.any() or min(pixels.shape) < LEAST_SIDE_PX:
        return None
    level = median_of_all(pixels[known])
    noise = MAD_TO_SIGMA * median_of_all(np.abs(pixels[known] - level))
    if noise == 0:
        return None
    # astroscrappy cannot handle NaN; the background is removed so that zero fits in
    filled = np.where(known, pixels - np.float32(level), np.float32(0))
    smooth = np.maximum(median_5x5(filled), 0)
    variance = np.float32(noise**2) + (np.float32(MODEL_ERROR) * smooth) ** 2
    found = _Detected(np.zeros(filled.shape, bool), filled.copy(), filled, level)
    ny, nx = filled.shape
    tiles = [(slice(0, ny), slice(0, nx))]
    if elsewhere is not None:
        tiles = _tiles(replace(found, hit=filled > OUTSTANDING * noise).unless_seen(elsewhere))
    inner = (slice(MARGIN_PX, -MARGIN_PX),) * 2
    widened = partial(np.pad, pad_width=MARGIN_PX, mode="reflect")
    for tile in tiles:
        around, within = _with_context(tile)
        hit, clean = astroscrappy.detect_cosmics(
            widened(filled[around]),
            inmask=widened(~known[around]),
            invar=widened(variance[around]),
            sigclip=SIGMA_CLIP,
            sigfrac=NEIGHBOUR_FRACTION,
            objlim=object_limit,
            readnoise=noise,
            satlevel=np.inf,
            niter=rounds,
            cleantype="medmask",
        )
        found.hit[tile], found.clean[tile] = hit[inner][within], clean[inner][within]
    return found


def _tiles(wanted: BoolArray) -> list[Window]:
    """Return the parts of an image that wanted pixels lie in or reach; the whole of it where that takes less time."""
    reached = ndimage.maximum_filter(wanted, 2 * REACH_PX + 1)
    ny, nx = wanted.shape
    rows, columns = ([slice(start, min(start + TILE_PX, n)) for start in range(0, n, TILE_PX)] for n in (ny, nx))
    tiles = list(product(rows, columns))
    chosen = [tile for tile in tiles if reached[tile].any()]
    area = len(chosen) * (TILE_PX + 2 * (CONTEXT_PX + MARGIN_PX)) ** 2
    return chosen if area < wanted.size else [(slice(0, ny), slice(0, nx))]


def _with_context(tile: Window) -> tuple[Window, Window]:
    """Return a part of an image with what is around it, and where the part lies in that."""
    y, x = (max(side.start - CONTEXT_PX, 0) for side in tile)
    rows, columns = tile
    around = slice(y, rows.stop + CONTEXT_PX), slice(x, columns.stop + CONTEXT_PX)
    return around, (slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x))


def common_signal(frames: Iterable[FloatArray], shifts: FloatArray) -> Float32Array:
    """Compute the signal common to most exposures of a field, widened by one pixel: free of cosmic rays.

    Parameters
    ----------
    frames : iterable of ndarray (ny, nx)
        At least two exposures, read one after the other.
    shifts : ndarray (n, 2)
        (dy, dx) that moves each exposure onto the others [pixel].

    Returns
    -------
    ndarray (ny, nx) float32
        Median, of two exposures the minimum, also where only two are known; NaN where unknown.
    """
    # a pixel wider: whole-pixel shifts leave stars up to half a pixel apart
    widened = [
        moved(ndimage.maximum_filter(np.nan_to_num(frame, nan=-np.inf), 3), *shift)
        for frame, shift in zip(frames, np.rint(shifts).astype(int), strict=True)
    ]
    if len(widened) == 2:
        common = np.minimum(*widened)
    else:
        common = median_of(widened)
        unknown = np.isnan(common)
        # the lower one of the two in the middle: the mean of two would show the cosmic rays of either
        known_first = np.sort([image[unknown] for image in widened], axis=0)
        middle = np.maximum((~np.isnan(known_first)).sum(axis=0) - 1, 0) // 2
        common[unknown] = np.take_along_axis(known_first, middle[np.newaxis], axis=0)[0]
    return np.where(np.isfinite(common), common, np.nan).astype(np.float32)


def moved(image: FloatArray, dy: int, dx: int) -> Float32Array:
    """Return an image shifted by whole pixels.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Image.
    dy, dx : int
        Shift [pixel].

    Returns
    -------
    ndarray (ny, nx) float32
        Shifted copy; NaN where it comes from outside of the image.
    """
    ny, nx = image.shape
    out = np.full((ny, nx), np.nan, np.float32)
    rows, columns = slice(max(dy, 0), min(ny + dy, ny)), slice(max(dx, 0), min(nx + dx, nx))
    if rows.start < rows.stop and columns.start < columns.stop:
        out[rows, columns] = image[rows.start - dy : rows.stop - dy, columns.start - dx : columns.stop - dx]
    return out


def without_cosmic_rays_drizzled(
    image: FloatArray, scale: int, elsewhere: Callable[[], FloatArray] | None = None
) -> tuple[Float32Array, BoolArray]:
    """Replace cosmic rays of a drizzled stack, see :func:`without_cosmic_rays`.

    Cosmic rays are detected on the scale of the detector pixels; on the finer grid their edges are smoothed.

    Parameters
    ----------
    image : ndarray (scale * ny, scale * nx)
        Stack of frames.
    scale : int
        Pixels of the stack per detector pixel along each axis.
    elsewhere : callable, optional
        Returns the signal common to most of the frames (ny, nx), on detector pixels, from :func:`common_signal`;
        called only if something was found.

    Returns
    -------
    clean : ndarray (scale * ny, scale * nx) float32
        Stack without cosmic rays.
    hit : ndarray (scale * ny, scale * nx) of bool
        Pixels hit by cosmic rays.
    """
    ny, nx = (n // scale for n in image.shape)
    raw = image[: ny * scale, : nx * scale].reshape(ny, scale, nx, scale).mean(axis=(1, 3))
    found = _detected(raw.astype(np.float32), ROUNDS, OBJECT_LIMIT)
    hit, clean = np.zeros(image.shape, bool), np.array(image, np.float32)
    if found is None or not found.hit.any():
        return clean, hit
    # a stack holds the counts of its own, smaller pixels
    native = found.hit if elsewhere is None else found.unless_seen(elsewhere()[:ny, :nx] / np.float32(scale**2))
    hit[: ny * scale, : nx * scale] = native.repeat(scale, axis=0).repeat(scale, axis=1)
    reach = 2 * scale
    usable = np.pad(np.where(hit, np.float32(np.nan), clean), reach, constant_values=np.nan)
    y, x = np.nonzero(hit & np.isfinite(clean))
    around = np.arange(2 * reach + 1)
    # boxes are gathered for the hit pixels only: a median filter of the whole stack takes much longer
    boxes = usable[(y[:, np.newaxis] + around)[:, :, np.newaxis], (x[:, np.newaxis] + around)[:, np.newaxis, :]]
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # boxes without a usable pixel
        level = np.nanmedian(boxes, axis=(1, 2))
    clean[y, x] = np.where(np.isfinite(level), level, clean[y, x])
    return clean, hit


def coincident_mask(first: FloatArray, second: FloatArray) -> tuple[Float32Array, Float32Array, int]:
    """Replace pixels in which two means of different frames disagree by the lower of the two values.

    Parameters
    ----------
    first, second : ndarray (ny, nx)
        Means of the same object from two sets of frames; pixels that are not finite stay.

    Returns
    -------
    first, second : ndarray (ny, nx) float32
        Both means without cosmic rays.
    n_hit : int
        Number of pixels in which they disagree.
    """
    lower = np.fmin(first, second)
    difference = np.nan_to_num(np.abs(np.subtract(first, second)))
    known = np.isfinite(first) & np.isfinite(second)
    if not known.any():
        return np.array(first, np.float32), np.array(second, np.float32), 0
    level = median_5x5(np.nan_to_num(lower))
    # noise grows with brightness: it is estimated in bins of equally many pixels
    edges = np.unique(np.quantile(level[known], np.linspace(0, 1, BRIGHTNESS_BINS + 1)))
    number = np.clip(np.searchsorted(edges, level, side="right") - 1, 0, max(len(edges) - 2, 0))
    bins = [difference[known & (number == i)] for i in range(number.max() + 1)]
    noise = np.array([MAD_TO_SIGMA * median_of_all(values) if values.size else 0.0 for values in bins])
    # bins without scatter (blank or saturated pixels) take the least noise of the others
    noise = np.maximum(noise, noise[noise > 0].min(initial=np.inf) if (noise > 0).any() else np.inf)
    slope = ndimage.morphological_gradient(level, size=3)
    hit = known & (difference > DISAGREEMENT * noise[number] + SLOPE * slope)
    # the faint rim of a cosmic ray is below the threshold
    spread = ndimage.binary_dilation(hit) & known
    clean = [np.where(spread, lower, image).astype(np.float32) for image in (first, second)]
    return clean[0], clean[1], int(hit.sum())

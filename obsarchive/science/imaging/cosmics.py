"""Cosmic rays: found by their edges, sharper than any star's (L.A.Cosmic)."""

import warnings
from collections.abc import Iterable

import astroscrappy
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from obsarchive.science.statistics import MAD_TO_SIGMA

Image = NDArray[np.float32]

SIGMA_CLIP, NEIGHBOUR_FRACTION, OBJECT_LIMIT = 6.0, 0.3, 5.0
SHARP_OBJECT_LIMIT = 20.0
"""For single exposures, whose stars nothing else confirms."""
SEEN_AGAIN = 0.4
"""Share of a pixel's light that other frames must show."""
MODEL_ERROR = 0.05
"""Of the smooth image: stars are not known better than this, which protects their cores."""
LEAST_SIDE_PX = 9
DISAGREEMENT = 7.0
"""Two means of different frames differ by less than so many times their noise."""
SLOPE = 0.5
"""Of the range of brightness within a pixel's neighbours: registration is no better."""
BRIGHTNESS_BINS = 30


def without_cosmic_rays(
    image: NDArray, rounds: int = 2, elsewhere: NDArray | None = None, object_limit: float = OBJECT_LIMIT
) -> tuple[Image, NDArray[np.bool_]]:
    """Replace cosmic rays by the median of their surroundings.

    van Dokkum (2001, PASP 113, 1420), as implemented by astroscrappy. The noise is that of the background, and a
    twentieth of the light.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Calibrated counts, or a mean of frames; NaN where nothing is known, which stays.
    rounds : int
        How often the neighbours of cosmic rays are looked at again.
    elsewhere : ndarray (ny, nx), optional
        What most frames show there, see :func:`common_signal`; NaN where nothing is known. A pixel of which
        they show as much is a star's, however sharp it is.
    object_limit : float
        Contrast between fine structure and the object below it; sharper stars need more.

    Returns
    -------
    clean : ndarray (ny, nx)
        The image without them.
    hit : ndarray (ny, nx) of bool
        Where they were.
    """
    pixels = np.array(image, np.float32)
    known = np.isfinite(pixels)
    hit = np.zeros(pixels.shape, bool)
    if not known.any() or min(pixels.shape) < LEAST_SIDE_PX:
        return pixels, hit
    level = float(np.median(pixels[known]))
    noise = MAD_TO_SIGMA * float(np.median(np.abs(pixels[known] - level)))
    if noise == 0:
        return pixels, hit
    filled = np.where(known, pixels - np.float32(level), np.float32(0))
    smooth = np.maximum(ndimage.median_filter(filled, size=5), 0)
    hit, clean = astroscrappy.detect_cosmics(
        np.ascontiguousarray(filled),
        inmask=np.ascontiguousarray(~known),
        invar=np.float32(noise**2) + (np.float32(MODEL_ERROR) * smooth) ** 2,
        sigclip=SIGMA_CLIP,
        sigfrac=NEIGHBOUR_FRACTION,
        objlim=object_limit,
        readnoise=noise,
        satlevel=np.inf,
        niter=rounds,
        cleantype="medmask",
    )
    if elsewhere is not None:
        with np.errstate(invalid="ignore"):
            hit &= ~(elsewhere - level >= SEEN_AGAIN * filled)
        clean = np.where(hit, clean, filled)
    return np.where(known, clean + np.float32(level), np.float32(np.nan)), hit


def common_signal(frames: Iterable[NDArray], shifts: NDArray) -> Image:
    """Return what most exposures of a field show, a pixel wider than it is: no cosmic ray is among it.

    Parameters
    ----------
    frames : iterable of ndarray (ny, nx)
        At least two exposures, looked at one after the other.
    shifts : ndarray (n, 2)
        What moves each onto the others (dy, dx) [pixel].

    Returns
    -------
    ndarray (ny, nx)
        NaN where nothing is known.
    """
    widened = [
        moved(ndimage.maximum_filter(np.nan_to_num(frame, nan=-np.inf), 3), *shift)
        for frame, shift in zip(frames, np.rint(shifts).astype(int), strict=True)
    ]
    if len(widened) == 2:
        common = np.minimum(*widened)
    else:
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
            common = np.nanmedian(widened, axis=0)
    return np.where(np.isfinite(common), common, np.nan).astype(np.float32)


def moved(image: NDArray, dy: int, dx: int) -> Image:
    """Return an image moved by whole pixels; NaN where it comes from outside."""
    ny, nx = image.shape
    out = np.full((ny, nx), np.nan, np.float32)
    rows, columns = slice(max(dy, 0), min(ny + dy, ny)), slice(max(dx, 0), min(nx + dx, nx))
    if rows.start < rows.stop and columns.start < columns.stop:
        out[rows, columns] = image[rows.start - dy : rows.stop - dy, columns.start - dx : columns.stop - dx]
    return out


def without_cosmic_rays_drizzled(image: NDArray, scale: int) -> tuple[Image, NDArray[np.bool_]]:
    """Like :func:`without_cosmic_rays`, for a stack with `scale` pixels per pixel of the detector along an axis.

    Cosmic rays are looked for with the pixels in which they fell; on the finer ones their edges are washed out.

    Parameters
    ----------
    image : ndarray (scale * ny, scale * nx)
        Stack of frames.
    scale : int
        Pixels per raw pixel.

    Returns
    -------
    (ndarray, ndarray of bool)
        As there, on the pixels of the stack.
    """
    ny, nx = (n // scale for n in image.shape)
    raw = image[: ny * scale, : nx * scale].reshape(ny, scale, nx, scale).mean(axis=(1, 3))
    hit = np.zeros(image.shape, bool)
    hit[: ny * scale, : nx * scale] = without_cosmic_rays(raw)[1].repeat(scale, axis=0).repeat(scale, axis=1)
    clean = np.array(image, np.float32)
    reach = 2 * scale
    usable = np.pad(np.where(hit, np.float32(np.nan), clean), reach, constant_values=np.nan)
    y, x = np.nonzero(hit & np.isfinite(clean))
    around = np.arange(2 * reach + 1)
    boxes = usable[(y[:, np.newaxis] + around)[:, :, np.newaxis], (x[:, np.newaxis] + around)[:, np.newaxis, :]]
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # nothing but cosmic rays: what was there
        level = np.nanmedian(boxes, axis=(1, 2))
    clean[y, x] = np.where(np.isfinite(level), level, clean[y, x])
    return clean, hit


def coincident_mask(first: NDArray, second: NDArray) -> tuple[Image, Image, int]:
    """Remove what is in one of two means of different frames only: there it takes the value of the other.

    Parameters
    ----------
    first, second : ndarray (ny, nx)
        Means of the same object from two sets of frames; pixels that are not finite stay.

    Returns
    -------
    (ndarray, ndarray, int)
        Both without cosmic rays, and how many pixels were replaced.
    """
    lower = np.fmin(first, second)
    difference = np.nan_to_num(np.abs(np.subtract(first, second)))
    known = np.isfinite(first) & np.isfinite(second)
    if not known.any():
        return np.array(first, np.float32), np.array(second, np.float32), 0
    level = ndimage.median_filter(np.nan_to_num(lower), size=5)
    edges = np.unique(np.quantile(level[known], np.linspace(0, 1, BRIGHTNESS_BINS + 1)))
    number = np.clip(np.searchsorted(edges, level, side="right") - 1, 0, max(len(edges) - 2, 0))
    noise = np.array([_usual(difference[known & (number == i)]) for i in range(number.max() + 1)])
    noise = np.maximum(noise, noise[noise > 0].min(initial=np.inf) if (noise > 0).any() else np.inf)
    slope = ndimage.morphological_gradient(level, size=3)
    hit = known & (difference > DISAGREEMENT * noise[number] + SLOPE * slope)
    spread = ndimage.binary_dilation(hit) & known
    clean = [np.where(spread, lower, image).astype(np.float32) for image in (first, second)]
    return clean[0], clean[1], int(hit.sum())


def _usual(difference: NDArray) -> float:
    return MAD_TO_SIGMA * float(np.median(difference)) if difference.size else 0.0

"""Close-ups of one star at different times, made to be compared: one scale, north up, one stretch, one place."""

import math
import warnings

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy import ndimage

from obsarchive.errors import Unprocessable
from obsarchive.figures.canvas import Canvas
from obsarchive.figures.image_scaling import BLACK, NO_DATA, WHITE
from obsarchive.science.arrays import AnyArray, Float64Array
from obsarchive.science.registration.subpixel_peaks import star_near
from obsarchive.science.statistics import median_of_all

SOFT = 0.003
"""Brightness relative to the star's peak at which the scale turns from linear to logarithmic."""
_REACH_ARCSEC, _CORE_ARCSEC = 0.3, 0.1
"""How far from its recorded place the star may lie, and how far from its centre its peak."""


def close_up(image: AnyArray, header: fits.Header, half_arcsec: float, size_px: int = 480) -> bytes:
    """Draw the surroundings of the guide star, north up and east left, with the star in the middle.

    Brightness is relative to the star's peak above the background, on an inverse hyperbolic sine scale, so that
    pictures of different exposures can be laid over each other.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image in any unit.
    header : Header
        Its header: world coordinates, and the place of the star in ``GUIDEX``, ``GUIDEY``.
    half_arcsec : float
        Half side of the picture [arcsec].
    size_px : int
        Side of the picture [pixel].

    Returns
    -------
    bytes
        PNG, `size_px` x `size_px`.

    Raises
    ------
    Unprocessable
        The header holds no world coordinates or no place of the star, or there is no star.
    """
    to_pixels = _pixels_per_arcsec(header)
    star = _star(image, header, to_pixels)
    middle, scale = (size_px - 1) / 2, 2 * half_arcsec / size_px
    # a row further down is further south, a column further right is further west
    step = -scale * to_pixels[::-1, ::-1]  # (dy, dx) of the image by (row, column) of the picture
    first, part = _around(image, star, 1.5 * half_arcsec * float(np.abs(to_pixels).sum(axis=1).max()))
    offset = np.array(star) - first - step @ np.array([middle, middle])
    return Canvas(_tones(_resampled(part, step, offset, size_px), scale)).png()


def _around(image: AnyArray, star: tuple[float, float], reach_px: float) -> tuple[Float64Array, Float64Array]:
    """Return the first (y, x) and the pixels of the part of an image that a picture can show, with a margin."""
    first = [max(0, math.floor(at - reach_px) - 8) for at in star]
    last = [math.ceil(at + reach_px) + 9 for at in star]
    return np.array(first, dtype=float), image[first[0] : last[0], first[1] : last[1]].astype(np.float64)


def _resampled(part: Float64Array, step: Float64Array, offset: Float64Array, size_px: int) -> Float64Array:
    """Return the pixels of a picture, by cubic splines: straight lines would move every peak to a pixel's middle."""
    valid = np.isfinite(part)
    shape = (size_px, size_px)
    values = ndimage.affine_transform(np.where(valid, part, 0.0), step, offset, shape, order=3, mode="nearest")
    is_known = ndimage.affine_transform(valid.astype(np.float64), step, offset, shape, order=1, cval=0.0) > 0.99
    resampled: Float64Array = np.where(is_known, values, np.nan)
    return resampled


def _pixels_per_arcsec(header: fits.Header) -> Float64Array:
    """Return the matrix that turns offsets (east, north) [arcsec] into (x, y) of the image [pixel]."""
    try:
        with warnings.catch_warnings(action="ignore"):
            degrees: Float64Array = WCS(header).celestial.pixel_scale_matrix
        inverse: Float64Array = np.linalg.inv(degrees * 3600.0).astype(np.float64)
    except (ValueError, TypeError, LookupError, np.linalg.LinAlgError) as err:
        raise Unprocessable(f"the header holds no world coordinates: {err}") from err
    if "CTYPE1" not in header or not np.isfinite(inverse).all():
        raise Unprocessable("the header holds no world coordinates")
    return inverse


def _star(image: AnyArray, header: fits.Header, to_pixels: Float64Array) -> tuple[float, float]:
    """Return the place (y, x) of the star [pixel]."""
    try:
        place = float(header["GUIDEY"]) - 1, float(header["GUIDEX"]) - 1
    except (KeyError, TypeError, ValueError) as err:
        raise Unprocessable("the header does not say where the star is") from err
    per_arcsec = math.sqrt(abs(float(np.linalg.det(to_pixels))))
    if not all(map(math.isfinite, place)):
        raise Unprocessable("the header does not say where the star is")
    return star_near(image, place, max(2, round(_REACH_ARCSEC * per_arcsec)))


def _tones(values: Float64Array, scale_arcsec: float) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    measured = np.isfinite(values)
    edge = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    background = median_of_all(edge[np.isfinite(edge)]) if np.isfinite(edge).any() else float(np.nanmin(values))
    half, reach = len(values) // 2, max(1, round(_CORE_ARCSEC / scale_arcsec))
    core = values[half - reach : half + reach + 1, half - reach : half + reach + 1]
    height = float(np.nanmax(core)) - background if np.isfinite(core).any() else 0.0
    if height <= 1e-9 * abs(background):
        raise Unprocessable("there is no star at its place")
    relative = np.clip(np.nan_to_num((values - background) / height), 0, 1)
    tones = np.arcsinh(relative / SOFT) / np.arcsinh(1 / SOFT)
    shown = np.where(measured, np.rint(BLACK + tones * (WHITE - BLACK)), NO_DATA)
    return shown.astype(np.uint8)

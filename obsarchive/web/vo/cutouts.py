"""SODA 1.0: parts of images, as FITS with a WCS of their own, or as pictures."""

import io
import math
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from PIL import Image
from scipy.ndimage import binary_dilation

from obsarchive.figures.image_scaling import stretch
from obsarchive.science.arrays import AnyArray
from obsarchive.science.astrometry.sky_regions import Polygon, Region, intersects, position_of, vector_of
from obsarchive.web.vo.adql_parser import QueryError

MOST_BYTES = 256 * 1024**2
"""Of a part of an image."""
MOST_PIXELS = 4096**2
"""Of a picture."""
_GRID = 65
"""Places along each axis at which an image is compared with a region larger than it."""
_NOT_OF_A_PART = ("CHECKSUM", "DATASUM", "GUIDEX", "GUIDEY")


class NoOverlapError(ValueError):
    """The region and the image do not overlap."""


def cut_out(path: Path, region: Region | None, as_picture: bool) -> bytes:
    """Return the part of an image that holds a region.

    Parameters
    ----------
    path : Path
        FITS file.
    region : Circle, Polygon or Range, optional
        Region of the sky; by default the whole image.
    as_picture : bool
        Whether a PNG is wanted rather than FITS.

    Returns
    -------
    bytes
        The file.

    Raises
    ------
    NoOverlapError
        The region lies beside the image.
    QueryError
        The file holds no image with a WCS.
    """
    with warnings.catch_warnings(action="ignore", category=AstropyWarning):
        header, data = _read(path)
        rows, columns = _slices(header, data.shape[-2:], region)
        part = data[..., rows, columns]
        if part.nbytes > MOST_BYTES:
            raise QueryError("the part is very large: choose a smaller region, or fetch the whole file")
        pixels = np.array(part)
        return _picture(pixels) if as_picture else _fits(header, pixels, (rows.start, columns.start))


def _read(path: Path) -> tuple[fits.Header, AnyArray]:
    """Return header and pixels of the first image; pixels are read when they are used."""
    try:
        with fits.open(path, memmap=True) as hdus:
            hdu = next(hdu for hdu in hdus if hdu.is_image and hdu.header["NAXIS"] >= 2)
            return hdu.header, hdu.data
    except (OSError, StopIteration, KeyError, TypeError, fits.VerifyError) as err:
        raise QueryError("the file holds no image that can be read") from err


def _slices(header: fits.Header, shape: tuple[int, int], region: Region | None) -> tuple[slice, slice]:
    ny, nx = shape
    if region is None:
        return slice(0, ny), slice(0, nx)
    wcs = WCS(header).celestial if "CTYPE1" in header else None
    if wcs is None or not wcs.has_celestial:
        raise QueryError("the image does not say where on the sky it lies")
    corners = wcs.calc_footprint(axes=(nx, ny), center=False)
    outline = Polygon(tuple((float(ra), float(dec)) for ra, dec in corners))
    if not intersects(region, outline):
        raise NoOverlapError("the region lies beside the image")
    x = y = np.empty(0)
    if region.bounding.radius_deg > outline.bounding.radius_deg:
        x, y = _of_large(region, wcs, shape)
    if not x.size:
        places = np.array([position_of(point) for point in region.outline()])
        x, y = wcs.all_world2pix(*places.T, 0)
    return _span(y, ny), _span(x, nx)


def _of_large(region: Region, wcs: WCS, shape: tuple[int, int]) -> tuple[AnyArray, AnyArray]:
    """Pixels of a coarse grid over the image that lie in a region larger than it, and those next to them."""
    y, x = np.meshgrid(*(np.linspace(-0.5, length - 0.5, _GRID) for length in shape), indexing="ij")
    ra, dec = wcs.all_pix2world(x.ravel(), y.ravel(), 0)
    inside = np.array([region.holds(vector_of(*place)) for place in zip(ra, dec, strict=True)]).reshape(x.shape)
    inside = binary_dilation(inside, np.ones((3, 3)))
    return x[inside], y[inside]


def _span(values: AnyArray, length: int) -> slice:
    """Pixels that positions cover along an axis."""
    low = max(0, math.floor(np.nanmin(values) + 0.5))
    high = min(length, math.ceil(np.nanmax(values) + 0.5))
    return slice(low, max(high, low + 1)) if low < length else slice(length - 1, length)


def _fits(header: fits.Header, pixels: AnyArray, origin: tuple[int, int]) -> bytes:
    part = header.copy(strip=True)
    for key in _NOT_OF_A_PART:
        part.remove(key, ignore_missing=True)
    for axis, first in ((1, origin[1]), (2, origin[0])):
        if f"CRPIX{axis}" in part:
            part[f"CRPIX{axis}"] -= first
    part.add_history(f"cut out from x = {origin[1] + 1}, y = {origin[0] + 1} on")
    buffer = io.BytesIO()
    fits.PrimaryHDU(pixels, part).writeto(buffer, checksum=True, output_verify="silentfix")
    return buffer.getvalue()


def _picture(pixels: AnyArray) -> bytes:
    image = pixels if pixels.ndim == 2 else pixels.reshape(-1, *pixels.shape[-2:])[0]
    if image.size > MOST_PIXELS:
        raise QueryError(f"a picture has {MOST_PIXELS} pixels at most: choose a smaller region")
    tones = np.nan_to_num(stretch(image))[::-1]  # the first row of FITS is the lowest
    buffer = io.BytesIO()
    Image.fromarray((np.clip(tones, 0, 1) * 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()

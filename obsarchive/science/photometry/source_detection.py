"""Source detection by SEP (Barbary 2016, JOSS 1, 58; after Bertin & Arnouts 1996, A&AS 117, 393)."""

from dataclasses import dataclass

import numpy as np
import sep
from numba import njit

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IndexArray
from obsarchive.science.statistics import median_of_all

THRESHOLD_SNR = 22.0
LEAST_PIXELS = 5
BACKGROUND_PX = 64
LEAST_SIDE_PX = 16
MAX_SOURCES = 5000
WIDTH_ROUNDS, SAME_WIDTH = 12, 1e-3
WIDEST = 4.0
"""Largest width of a star, in units of the isophotal one."""
GAUSS_FWHM = 2.3548


@dataclass(frozen=True, eq=False)
class Sources:
    """Sources of an image, brightest first.

    Attributes
    ----------
    y, x : ndarray (n,)
        Windowed centroids [pixel].
    flux : ndarray (n,)
        Isophotal flux [counts].
    snr : ndarray (n,)
        Peak over the noise of the background.
    fwhm_px : ndarray (n,)
        FWHM of the Gaussian that fits the core best, by adaptive moments (Bernstein & Jarvis 2002, AJ 123, 583)
        [pixel].
    """

    y: Float64Array
    x: Float64Array
    flux: Float64Array
    snr: Float64Array
    fwhm_px: Float64Array

    def __len__(self) -> int:
        return len(self.y)

    def chosen(self, which: BoolArray | IndexArray) -> "Sources":
        """Return a selection of the sources, by a mask or by numbers."""
        return Sources(self.y[which], self.x[which], self.flux[which], self.snr[which], self.fwhm_px[which])


def detect(
    image: FloatArray, fwhm_px: float = 4.0, threshold: float = THRESHOLD_SNR, most: int = MAX_SOURCES
) -> Sources:
    """Detect the sources of an image.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Counts; pixels that are not finite are masked.
    fwhm_px : float
        FWHM of stars, for the filter [pixel].
    threshold : float
        Least signal-to-noise ratio in the smoothed image, where that of a star is largest.
    most : int
        Largest number of sources, the brightest ones.

    Returns
    -------
    Sources
        Positions, fluxes and widths; empty if nothing is above the threshold.

    Raises
    ------
    Unprocessable
        The image is too small, constant or without finite pixels, or it overflows the buffers of SEP.
    """
    pixels, unknown = filled_pixels(image)
    mask = unknown if unknown.any() else None
    cell = min(BACKGROUND_PX, *image.shape)
    background = sep.Background(pixels, mask=mask, bw=cell, bh=cell)
    flat = background.back()
    np.subtract(pixels, flat, out=flat)
    kernel = _kernel(fwhm_px)
    # SEP compares the smoothed image with the noise of the unsmoothed one: convert the threshold
    smoothed_noise = float(np.sqrt(np.sum(kernel**2)) / np.sum(kernel))
    sep.set_extract_pixstack(1_000_000)
    try:
        found = sep.extract(
            flat,
            threshold * smoothed_noise,
            err=background.rms(),
            mask=mask,
            minarea=LEAST_PIXELS,
            filter_kernel=kernel,
            filter_type="conv",  # "matched" takes eight times as long
            deblend_cont=0.005,
        )
    except Exception as err:
        # SEP raises bare Exception when its buffers overflow; a lack of memory, or a bug, is something else
        if type(err) is not Exception:
            raise
        raise Unprocessable(f"no sources: {err}") from err
    found = found[np.argsort(-found["flux"])][:most]
    if not len(found):
        return Sources(*(np.empty(0) for _ in range(5)))
    isophotal = np.sqrt(0.5 * (found["a"] ** 2 + found["b"] ** 2))
    sigma = np.clip(isophotal, 0.5, 2 * fwhm_px)
    # pixels at the edge of the window have next to no weight: which part of them lies within makes no difference
    x, y, flag = sep.winpos(flat, found["x"], found["y"], sigma, mask=mask, subpix=1)
    # windowed centroids may wander to a brighter neighbour: then the isophotal one is used
    good = (np.hypot(x - found["x"], y - found["y"]) < GAUSS_FWHM * isophotal) & (flag == 0)
    x, y = np.where(good, x, found["x"]), np.where(good, y, found["y"])
    snr = found["peak"] / background.globalrms
    width = GAUSS_FWHM * _core_sigma(flat, y, x, sigma)
    return Sources(y, x, found["flux"].astype(float), snr.astype(float), width)


def filled_pixels(image: FloatArray) -> tuple[Float32Array, BoolArray]:
    """Check that an image can hold sources, and replace the pixels that are not finite by the median.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Counts.

    Returns
    -------
    (ndarray (ny, nx), ndarray (ny, nx))
        The pixels, the image itself where nothing is to be replaced, and which of them were not finite.

    Raises
    ------
    Unprocessable
        The image is too small, constant or without finite pixels.
    """
    if min(image.shape) < LEAST_SIDE_PX:
        raise Unprocessable(f"no sources: the image is {image.shape}, at least {LEAST_SIDE_PX} pixels are needed")
    pixels = np.ascontiguousarray(image, np.float32)
    low, high = _range(pixels)
    unknown = np.zeros(pixels.shape, bool)
    if not np.isfinite(high - low):
        unknown = ~np.isfinite(pixels)
        if unknown.all():
            raise Unprocessable("no sources: no pixel of the image is finite")
        # masked pixels still enter the smoothing of their neighbours
        pixels = np.where(unknown, median_of_all(pixels[~unknown]), pixels)
        low, high = _range(pixels)
    if low == high:
        raise Unprocessable("no sources: the image is constant")
    return pixels, unknown


@njit(cache=True)
def _range(pixels):  # type: ignore[no-untyped-def]
    """Least and greatest value, NaN if one of them is; rows are summed, as a sum shows that in vector instructions."""
    low, high = np.float64(pixels[0, 0]), np.float64(pixels[0, 0])
    for row in pixels:
        least, greatest, total = row[0], row[0], np.float32(0)
        for value in row:
            least, greatest = min(least, value), max(greatest, value)
            total += value * np.float32(0)
        if total != 0:
            return np.nan, np.nan
        low, high = min(low, least), max(high, greatest)
    return low, high


@njit(cache=True)
def _along(centre, sigma, n):  # type: ignore[no-untyped-def]
    """First pixel of the core along an axis, the squared offsets of its pixels, and their Gaussian weights."""
    half = int(np.ceil(4 * sigma))
    first = max(int(centre) - half, 0)
    square = (np.arange(first, min(int(centre) + half + 2, n)) - centre) ** 2
    return first, square, np.exp(-square / (2 * sigma**2))


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def _moments(image, place, sigma):  # type: ignore[no-untyped-def]
    """Light under a Gaussian and its second moment; the Gaussian is a product of one along y and one along x."""
    y0, y2, along_y = _along(place[0], sigma, image.shape[0])
    x0, x2, along_x = _along(place[1], sigma, image.shape[1])
    across = along_x * x2
    light, spread = 0.0, 0.0
    for j in range(along_y.size):
        row = image[y0 + j, x0 : x0 + along_x.size]
        total, outward = 0.0, 0.0
        for i in range(row.size):
            total += along_x[i] * row[i]
            outward += across[i] * row[i]
        light += along_y[j] * total
        spread += 0.5 * along_y[j] * (y2[j] * total + outward)
    return light, spread


@njit(cache=True)
def _core_sigma(image, y, x, start):  # type: ignore[no-untyped-def]
    """Width of each source, weighted with a Gaussian of its own width [pixel]."""
    out = start.astype(np.float64)
    for i in range(len(y)):
        sigma = start[i]
        for _ in range(WIDTH_ROUNDS):
            light, spread = _moments(image, (y[i], x[i]), sigma)
            if light <= 0 or spread <= 0:
                break
            # The product of two Gaussians: the reciprocals of their variances add up.
            inverse = light / spread - 1 / sigma**2
            before, sigma = sigma, min(max(1 / np.sqrt(inverse), 0.4) if inverse > 0 else np.inf, WIDEST * start[i])
            if abs(sigma - before) < SAME_WIDTH * before:
                break
        out[i] = sigma
    return out


def _kernel(fwhm_px: float) -> Float32Array:
    sigma = max(fwhm_px, 1.5) / GAUSS_FWHM
    half = int(np.ceil(1.5 * sigma))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    kernel: Float32Array = np.exp(-(y**2 + x**2) / (2 * sigma**2)).astype(np.float32)
    return kernel

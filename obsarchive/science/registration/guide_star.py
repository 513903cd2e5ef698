"""Guide star of lucky imaging: detection in median frames.

The star is detected at several scales at once, so that a diffraction-limited core, a seeing disc and a
defocused ring are each found as one object.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import fft, ndimage

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import BoolArray, Float32Array, Float64Array, FloatArray
from obsarchive.science.imaging.hot_pixels import without_spikes
from obsarchive.science.imaging.medians import median_of
from obsarchive.science.registration.frame_measure import measure
from obsarchive.science.registration.windows import cut
from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_all

SCALES_PX = (1, 2, 4, 8, 16)
GUIDE_STAR_MIN_SNR = 6.0
BORDER_PX = 4
LEAST_SIDE_PX = 16
LEAST_NOISE = 1e-9
"""Least noise, relative to the highest pixel, for images without any."""


@dataclass(frozen=True)
class GuideStar:
    """The star on which frames are registered.

    Attributes
    ----------
    y, x : float
        Position [pixel].
    flux : float
        Flux within the window [counts].
    snr : float
        Significance of the detection at its best scale.
    scale_px : float
        Size of the whole star, halo or ring included, as the sigma of a Gaussian of the same adaptive second
        moment [pixel].
    """

    y: float
    x: float
    flux: float
    snr: float
    scale_px: float

    @property
    def half_window_px(self) -> int:
        """Half the side of a window with the star and its background, fast to transform [pixel]."""
        return int(fft.next_fast_len(int(np.clip(5 * self.scale_px, 32, 128)), real=True))


@dataclass(frozen=True)
class _Detection:
    y: int
    x: int
    snr: float
    best_scale_px: int
    largest_scale_px: int


def guide_star(medians: FloatArray, *, exclude: BoolArray | None = None) -> GuideStar:
    """Detect the brightest star of an observation.

    Parameters
    ----------
    medians : ndarray (k, ny, nx)
        Medians of k subsets of the frames, each spread over the sequence (k about 5). The star must be present
        in most of them, at the same position, and wider than a pixel.
    exclude : ndarray (ny, nx) of bool, optional
        True where no star may be chosen.

    Returns
    -------
    GuideStar
        Position, flux and size.

    Raises
    ------
    Unprocessable
        No source reaches a signal-to-noise ratio of 6 (noise of single electrons reaches 5 somewhere in a large frame),
        or the frames are too small to hold a star and its background.
    """
    if min(medians.shape[1:]) < LEAST_SIDE_PX:
        raise Unprocessable(f"no guide star: frames of {medians.shape[1:]}, at least {LEAST_SIDE_PX} pixels are needed")
    subsets = np.stack([_flattened(image) for image in medians])
    if exclude is not None:
        subsets[:, exclude] = 0
    found = _brightest(subsets)
    if found.snr < GUIDE_STAR_MIN_SNR:
        raise Unprocessable(f"no guide star: brightest source has S/N {found.snr:.1f}, needs {GUIDE_STAR_MIN_SNR:.0f}")
    image = median_of(subsets)
    star = GuideStar(found.y, found.x, np.nan, found.snr, _whole_size(image, found))
    window, (y0, x0) = cut(image, star.y, star.x, star.half_window_px)
    measured = measure(window, float(found.best_scale_px), star.scale_px)
    return replace(star, y=y0 + measured.y, x=x0 + measured.x, flux=measured.flux)


def locate(frame: FloatArray, *, exclude: BoolArray | None = None) -> GuideStar:
    """Detect the brightest star of a single frame, for sequences in which the star moves.

    Parameters
    ----------
    frame : ndarray (ny, nx)
        Calibrated counts.
    exclude : ndarray (ny, nx) of bool, optional
        True where no star may be chosen.

    Returns
    -------
    GuideStar
        Position, flux and size, as of :func:`guide_star`.

    Raises
    ------
    Unprocessable
        There is no star, or the frame is too small.
    """
    return guide_star(frame[np.newaxis], exclude=exclude)


def _flattened(image: FloatArray) -> Float32Array:
    """Return an image without large-scale background and single hot pixels; NaN becomes zero."""
    image = np.asarray(image, np.float32)
    flat = np.nan_to_num(image - _background(image), posinf=0, neginf=0)
    noise = MAD_TO_SIGMA * median_of_all(np.abs(flat))
    return without_spikes(flat, 5 * noise)


def _background(image: Float32Array, cell: int = 128) -> Float32Array | np.float32:
    """Return medians of large cells, median-smoothed and interpolated; a single median for small images."""
    ny, nx = image.shape
    rows, columns = ny // cell, nx // cell
    overall = np.float32(np.nanmedian(image)) if np.isfinite(image).any() else np.float32(0)
    if min(rows, columns) < 3:
        return overall
    height, width = ny // rows, nx // columns
    filled = np.where(np.isfinite(image), image, overall)[: rows * height, : columns * width]
    # every other pixel along both axes is enough for the median of a cell
    cells = filled.reshape(rows, height, columns, width)[:, ::2, :, ::2]
    levels = np.median(cells, axis=(1, 3))
    # odd reflection carries a gradient on to the border
    smooth = np.pad(ndimage.median_filter(levels, size=3), 1, mode="reflect", reflect_type="odd")
    along_y, along_x = (
        _linear_weights((np.arange(n) + 0.5) / step + 0.5, cells)
        for n, step, cells in zip((ny, nx), (height, width), smooth.shape, strict=True)
    )
    background: Float32Array = (along_y @ smooth @ along_x.T).astype(np.float32)
    return background


def _linear_weights(positions: Float64Array, n: int) -> Float64Array:
    """Return the weights (m, n) of n samples in the linear interpolation at m positions; constant beyond the ends."""
    weights: Float64Array = np.maximum(1 - np.abs(np.clip(positions, 0, n - 1)[:, np.newaxis] - np.arange(n)), 0)
    return weights


def _brightest(subsets: Float32Array) -> _Detection:
    """Return the most significant peak over all scales of background-subtracted images (k, ny, nx)."""
    maps = {}
    for scale in SCALES_PX:
        # binning, then smoothing by one binned pixel: a matched filter of each scale at the cost of a small image
        binned = _binned(subsets, scale)
        if min(binned.shape[1:]) >= 16 or scale == SCALES_PX[0]:
            maps[scale] = _significance(binned)
    best = _Detection(0, 0, -np.inf, 1, 1)
    for scale, snr in maps.items():
        # smoothing reflects the image at its border: no detection there
        margin = max(1, BORDER_PX // scale)
        inner = snr[margin:-margin, margin:-margin]
        y, x = np.unravel_index(np.argmax(inner), inner.shape)
        if inner[y, x] > best.snr:
            centre = ((np.array([y, x]) + margin + 0.5) * scale - 0.5).round().astype(int)
            best = _Detection(int(centre[0]), int(centre[1]), float(inner[y, x]), scale, scale)
    # the star extends as far as scales at which it keeps half of its significance
    extent = [scale for scale, snr in maps.items() if _near(snr, best.y // scale, best.x // scale) >= best.snr / 2]
    return _Detection(best.y, best.x, best.snr, best.best_scale_px, max([best.best_scale_px, *extent]))


def _whole_size(image: Float32Array, found: _Detection) -> float:
    """Return the size of a source [pixel] by adaptive moments: the weight converges to sqrt(3) times the source.

    The weight is at most three times the largest scale at which the source keeps half of its significance.
    """
    y, x, weight_sigma = float(found.y), float(found.x), float(found.best_scale_px)
    limit = 3.0 * found.largest_scale_px
    for _ in range(12):
        window, (y0, x0) = cut(image, y, x, int(3 * limit))
        rows, columns = np.ogrid[y0 : y0 + window.shape[0], x0 : x0 + window.shape[1]]
        light = window * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * weight_sigma**2))
        total = float(light.sum())
        if not total > 0:
            break  # surroundings darker than the sky: the last size is kept
        y, x = float((light * rows).sum()) / total, float((light * columns).sum()) / total
        variance = float((light * ((rows - y) ** 2 + (columns - x) ** 2)).sum()) / (2 * total)
        # a source of sigma s under a weight of sigma w has 1 / v = 1 / s^2 + 1 / w^2; w = 2 sqrt(v) gives w^2 = 3 s^2
        weight_sigma = float(np.clip(2 * max(variance, 0) ** 0.5, found.best_scale_px, limit))
    return weight_sigma / 3**0.5


def _binned(images: Float32Array, factor: int) -> Float32Array:
    k, ny, nx = images.shape
    rows, columns = ny // factor, nx // factor
    trimmed = images[:, : rows * factor, : columns * factor]
    means: Float32Array = trimmed.reshape(k, rows, factor, columns, factor).mean(axis=(2, 4), dtype=np.float32)
    return means


def _significance(images: Float32Array) -> Float32Array:
    """Return the signal-to-noise ratio after smoothing by one (binned) pixel, common to most of the subsets."""
    smooth = ndimage.gaussian_filter(images, (0, 1, 1), truncate=3)
    # the median of two is their mean, in which a source of one subset would survive
    common: Float32Array = np.min(smooth, axis=0) if len(smooth) == 2 else median_of(smooth)
    common -= median_of_all(common)
    noise = MAD_TO_SIGMA * median_of_all(np.abs(common))
    least = LEAST_NOISE * float(np.abs(common).max())
    snr: Float32Array = common / max(noise, least, float(np.finfo(np.float32).tiny))
    return snr


def _near(image: Float32Array, y: int, x: int) -> float:
    return float(image[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max(initial=-np.inf))

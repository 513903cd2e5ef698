"""Extended objects: bounding box in a frame, and image sharpness of each frame for frame selection."""

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import Float32Array, Float64Array, FloatArray
from obsarchive.science.statistics import median_of_all, robust_sigma

EDGE_LEVEL = 0.15
"""Brightness of the limb of an object, relative to the range of brightness."""
MARGIN = 0.3
"""Margin around an object, relative to its size."""
LEAST_SIDE_PX = 32
LEAST_CONTRAST = 6.0
"""Range of brightness, over the noise of the smoothed mean, below which a field is empty."""
FINE_PX, COARSE_PX = 1.0, 3.0
"""Sigmas of the difference of Gaussians that selects detail [pixel]."""
SKY_COVERAGE = 0.9


@dataclass(frozen=True)
class Box:
    """Part of a frame: rows y0 to y1, columns x0 to x1."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def centre(self) -> tuple[float, float]:
        """Centre (y, x) [pixel]."""
        return (self.y0 + self.y1 - 1) / 2, (self.x0 + self.x1 - 1) / 2


def find_object(mean: FloatArray) -> Box:
    """Compute the box around the largest bright object of a mean of frames; the whole frame if the object fills it.

    Parameters
    ----------
    mean : ndarray (ny, nx)
        Mean of calibrated frames.

    Returns
    -------
    Box
        Rows and columns, with a margin.

    Raises
    ------
    Unprocessable
        There is no object, or the frame is too small.
    """
    ny, nx = mean.shape
    if min(ny, nx) < LEAST_SIDE_PX:
        raise Unprocessable(f"no object: frames of {(ny, nx)}, at least {LEAST_SIDE_PX} pixels are needed", "zero_flux")
    finite = np.isfinite(mean)
    if not finite.any():
        raise Unprocessable("no object: no pixel of the frames is finite", "zero_flux")
    filled = np.where(finite, mean, median_of_all(mean[finite])).astype(np.float32)
    smooth = ndimage.gaussian_filter(ndimage.median_filter(filled, size=3), 2.0)
    # percentiles: a cosmic ray or a dead pixel must not set the range
    dark, bright = np.percentile(smooth, (1, 99.8))
    rough = filled - smooth
    # noise of a pixel over sqrt(4 pi sigma^2): what the Gaussian leaves of it
    noise = robust_sigma(rough) / np.sqrt(4 * np.pi * 2.0**2)
    if not bright - dark > LEAST_CONTRAST * noise:
        raise Unprocessable(
            f"no object: the mean of the frames is flat, its range of {bright - dark:.3g} is {LEAST_CONTRAST:g} times "
            f"its noise of {noise:.3g} or less",
            "zero_flux",
        )
    labels, _ = ndimage.label(smooth > dark + EDGE_LEVEL * (bright - dark))
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    rows, columns = ndimage.find_objects(labels)[largest - 1]
    y0, y1 = _widened(rows, ny)
    x0, x1 = _widened(columns, nx)
    return Box(y0, y1, x0, x1)


def _widened(span: slice, n: int) -> tuple[int, int]:
    """Return the range of an object with a margin, of even length."""
    centre = (span.start + span.stop) / 2
    half = max((0.5 + MARGIN) * (span.stop - span.start), LEAST_SIDE_PX / 2)
    first, last = max(int(centre - half), 0), min(int(np.ceil(centre + half)), n)
    return (first, last) if (last - first) % 2 == 0 else (first, last - 1)


def sharpness(windows: Float32Array, shifts: FloatArray, template: Float32Array) -> Float64Array:
    """Compute the image sharpness of each frame, relative to the median frame.

    The flux of fine structure that a frame shares with the mean of all, over the total flux that it shares: noise and
    cosmic rays are not shared, so they are not mistaken for sharpness.

    Parameters
    ----------
    windows : ndarray (n, ny, nx)
        Background-subtracted frames.
    shifts : ndarray (n, 2)
        (dy, dx) that moves each onto the template [pixel].
    template : ndarray (ny, nx)
        Mean of the aligned frames.

    Returns
    -------
    ndarray (n,)
        Sharpness; 0 for frames without flux.
    """
    ny, nx = template.shape
    fx, fy = fft.rfftfreq(nx), fft.fftfreq(ny)[:, np.newaxis]
    squared = 2 * np.pi**2 * (fx**2 + fy**2)
    # band-pass: the largest scales hold no information on sharpness, the smallest only noise
    detail = (np.exp(-squared * FINE_PX**2) - np.exp(-squared * COARSE_PX**2)) ** 2
    spectrum = np.conj(fft.rfft2(template))
    sharp, light = np.zeros(len(windows)), np.zeros(len(windows))
    for i, (window, (dy, dx)) in enumerate(zip(windows, shifts, strict=True)):
        moved = fft.rfft2(np.where(np.isfinite(window), window, 0)) * np.exp(-2j * np.pi * (dy * fy + dx * fx))
        product = (moved * spectrum).real
        # by Parseval, sums over the spectrum are the scalar products of the (filtered) images
        sharp[i], light[i] = np.sum(product * detail), np.sum(product)
    share = np.divide(sharp, light, out=np.zeros(len(windows)), where=light > 0)
    usual = median_of_all(share)
    return share / usual if usual > 0 else np.ones(len(windows))


def sky_below(image: FloatArray, smooth_px: float = 4.0) -> float:
    """Compute the level of the darkest part of a smoothed image: the sky, or an upper limit to it in a filled frame.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Image; NaN where unknown.
    smooth_px : float
        Sigma of the Gaussian [pixel].

    Returns
    -------
    float
        Level [unit of the image]; 0 if nothing is known.
    """
    known = np.isfinite(image)
    weight = ndimage.gaussian_filter(known.astype(np.float32), smooth_px)
    smooth = ndimage.gaussian_filter(np.where(known, image, 0).astype(np.float32), smooth_px)
    # near unknown pixels and borders the smoothed level rests on few pixels
    inner = known & (weight > SKY_COVERAGE)
    return float((smooth[inner] / weight[inner]).min()) if inner.any() else 0.0

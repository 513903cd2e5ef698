"""Richardson-Lucy deconvolution of extended objects, with early stopping by cross-validation.

Richardson (1972, J. Opt. Soc. Am. 62, 55) and Lucy (1974, AJ 79, 745), accelerated after Biggs & Andrews (1997, Appl.
Opt. 36, 1766). Early stopping is the regularisation: one half of the frames is deconvolved as long as its model
predicts the other half better with each iteration; further iterations would fit the noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import BoolArray, Float32Array, FloatArray
from obsarchive.science.statistics import MAD_TO_SIGMA

MAX_ITERATIONS = 150
PATIENCE = 4
"""Iterations without a better prediction before stopping."""
DETAIL_PX = 4.0
"""Sigma of the Gaussian of the high-pass filter that defines detail [pixel]."""
OFFSET_SIGMAS = 3.0
"""Pedestal added to the image, in units of the background noise, as the method needs positive data."""
MAX_ACCELERATION = 0.95
LEAST_WEIGHT = 1e-2


@dataclass(frozen=True, eq=False)
class Deconvolved:
    """A deconvolved image.

    Attributes
    ----------
    image : ndarray (ny, nx) float32
        Model of the object, not negative [unit of the input].
    iterations : int
        Number of iterations, chosen by cross-validation.
    misfit : float
        Mean squared error of the prediction, over that of predicting one half of the frames by the other.
    """

    image: Float32Array
    iterations: int
    misfit: float


def predicted_best(first: FloatArray, second: FloatArray, psf: FloatArray) -> tuple[int, float]:
    """Compute the number of iterations on one half of the frames that predicts the other half best.

    Parameters
    ----------
    first, second : ndarray (ny, nx)
        Means of the two halves, background-subtracted; pixels that are not finite are unknown.
    psf : ndarray (side, side)
        PSF of odd side, the star on the central pixel; negative and unknown pixels count as zero.

    Returns
    -------
    (int, float)
        Number of iterations, and the misfit as in `Deconvolved`.

    Raises
    ------
    Unprocessable
        The PSF holds no flux.
    """
    known = np.isfinite(first) & np.isfinite(second)
    reference = _detail_power(first - second, known)
    if reference == 0:
        return 1, 0.0
    best, least = 1, np.inf
    for number, (_, model) in enumerate(_iterations(first, psf, _noise(first, second))):
        misfit = _detail_power(model - second, known)  # of the object after `number` iterations
        if misfit < least:
            best, least = max(number, 1), misfit
        # the misfit need not fall monotonically: one worse prediction is no reason to stop
        elif number >= best + PATIENCE or number >= MAX_ITERATIONS:
            break
    return best, least / reference


def deconvolve(first: FloatArray, second: FloatArray, psf: FloatArray) -> Deconvolved:
    """Deconvolve the mean of two halves of the frames, with the number of iterations on which they agree.

    Parameters
    ----------
    first, second : ndarray (ny, nx)
        Means of the two halves, background-subtracted; pixels that are not finite are unknown.
    psf : ndarray (side, side)
        PSF of odd side, the star on the central pixel; negative and unknown pixels count as zero.

    Returns
    -------
    Deconvolved
        Image (ny, nx), iterations and misfit.

    Raises
    ------
    Unprocessable
        The PSF holds no flux.
    """
    best, misfit = predicted_best(first, second, psf)
    mean = 0.5 * (np.asarray(first, np.float32) + np.asarray(second, np.float32))
    steps = _iterations(mean, psf, _noise(first, second) / np.sqrt(2))
    image = next(image for number, (image, _) in enumerate(steps, start=1) if number == best)
    return Deconvolved(image, best, misfit)


def _detail_power(difference: FloatArray, known: BoolArray) -> float:
    """Return the mean square of structure finer than a few pixels.

    An error in the halo of the PSF takes many iterations to be fitted; it must not hide that noise is fitted meanwhile.
    """
    if not known.any():
        return 0.0
    filled = np.where(known, difference, np.float32(0)).astype(np.float32)
    return float(np.mean((filled - ndimage.gaussian_filter(filled, DETAIL_PX))[known] ** 2))


def _noise(first: FloatArray, second: FloatArray) -> float:
    """Return the noise of one half, where there is no object."""
    return float(MAD_TO_SIGMA * float(np.nanmedian(np.abs(first - second))) / np.sqrt(2))


def _iterations(image: FloatArray, psf: FloatArray, noise: float) -> Iterator[tuple[Float32Array, Float32Array]]:
    """Yield the object after each iteration, and the blurred image of the object before it."""
    blur = _Convolution(image.shape, psf)
    known = np.isfinite(image)
    filled = np.where(known, image, np.float32(0))
    offset = np.float32(max(OFFSET_SIGMAS * noise, 1e-6 * float(np.abs(filled).max())))
    # the pedestal keeps data and model positive; unknown pixels have neither data nor weight
    data = blur.padded(np.where(known, np.maximum(filled, -offset) + offset, 0))
    # near unknown pixels and borders only part of the PSF is observed: the correction is normalised by it
    weight = 1 / np.maximum(blur.transposed(blur.padded(known)), np.float32(LEAST_WEIGHT))
    start = np.float32(max(float(filled.mean()), 1e-3 * float(filled.max()), 1e-12))
    current = np.full(blur.shape, start, np.float32)
    point, step = current, np.zeros(blur.shape, np.float32)
    while True:
        model = blur.forward(point)
        ratio = np.asarray(data / (np.maximum(model, 0) + offset), np.float32)  # 0 where nothing is known
        found = np.asarray(point * np.maximum(blur.transposed(ratio), 0) * weight, np.float32)
        before, step = step, found - point
        power = float(np.vdot(before, before))
        # vector extrapolation: the step length that the last two corrections suggest
        acceleration = np.clip(np.vdot(step, before) / power, 0, MAX_ACCELERATION) if power > 0 else 0.0
        yield blur.cut(found), blur.cut(model)
        point = np.maximum(found + np.float32(acceleration) * (found - current), np.float32(0))
        current = found


class _Convolution:
    """Convolution with a PSF, with zero padding for flux that is blurred beyond the image."""

    def __init__(self, shape: tuple[int, ...], psf: FloatArray) -> None:
        clean = np.maximum(np.nan_to_num(psf), 0).astype(np.float32)
        total = float(clean.sum())
        if not total > 0:
            raise Unprocessable("nothing to deconvolve with: the PSF holds no light")
        self.image_shape = shape
        half = len(clean) // 2
        self.shape = tuple(fft.next_fast_len(n + 2 * half, real=True) for n in shape)
        kernel = np.zeros(self.shape, np.float32)
        kernel[: len(clean), : len(clean)] = clean / total
        # the central pixel of the PSF belongs at the origin, or the image would be shifted
        self._transfer = fft.rfft2(np.roll(kernel, (-half, -half), axis=(0, 1)))
        self._conjugate = np.conj(self._transfer)

    def padded(self, image: FloatArray) -> Float32Array:
        out = np.zeros(self.shape, np.float32)
        out[: self.image_shape[0], : self.image_shape[1]] = image
        return out

    def cut(self, image: Float32Array) -> Float32Array:
        return image[: self.image_shape[0], : self.image_shape[1]]

    def forward(self, image: Float32Array) -> Float32Array:
        blurred: Float32Array = fft.irfft2(fft.rfft2(image) * self._transfer, self.shape)
        return blurred

    def transposed(self, image: Float32Array) -> Float32Array:
        correlated: Float32Array = fft.irfft2(fft.rfft2(image) * self._conjugate, self.shape)
        return correlated

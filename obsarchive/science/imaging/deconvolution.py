"""Deconvolution of extended objects: Richardson-Lucy iterations that the data themselves stop.

Richardson (1972, J. Opt. Soc. Am. 62, 55) and Lucy (1974, AJ 79, 745), accelerated after Biggs & Andrews (1997, Appl.
Opt. 36, 1766). Early stopping is the regularisation: one half of the frames is deconvolved, and as long as its model
predicts the other half better and better, the iterations find the object; after that they find the noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from obsarchive.errors import Unprocessable
from obsarchive.science.statistics import MAD_TO_SIGMA

Image = NDArray[np.float32]

MAX_ITERATIONS = 150
PATIENCE = 4
"""Iterations without a better prediction after which the best one is taken."""
DETAIL_PX = 4.0
"""Detail is what a Gaussian of this sigma smooths away [pixel]."""
OFFSET_SIGMAS = 3.0
"""Noise of the background, as counts in which its Poisson noise would be the same or less."""
MAX_ACCELERATION = 0.95
LEAST_WEIGHT = 1e-2


@dataclass(frozen=True, eq=False)
class Deconvolved:
    """A deconvolved image.

    Attributes
    ----------
    image : ndarray (ny, nx)
        The object, not negative.
    iterations : int
        At which the data stopped.
    misfit : float
        Mean squared error of the prediction there, over that of predicting one half of the frames by the other.
    """

    image: Image
    iterations: int
    misfit: float


def predicted_best(first: NDArray, second: NDArray, psf: NDArray) -> tuple[int, float]:
    """Number of iterations on one half of the frames after which it predicts the other half best.

    Parameters
    ----------
    first, second : ndarray (ny, nx)
        Means of the halves, without background; what is not finite is not known.
    psf : ndarray (side, side)
        Odd side, the star on the central pixel; negative and unknown pixels count as zero.

    Returns
    -------
    (int, float)
        Iterations, and the misfit as in `Deconvolved`.

    Raises
    ------
    Unprocessable
        The PSF holds no light.
    """
    known = np.isfinite(first) & np.isfinite(second)
    reference = _detail_power(first - second, known)
    if reference == 0:
        return 1, 0.0
    best, least = 1, np.inf
    for number, (_, model) in enumerate(_iterations(first, psf, _noise(first, second))):
        misfit = _detail_power(model - second, known)  # of the model after `number` iterations
        if misfit < least:
            best, least = max(number, 1), misfit
        elif number >= best + PATIENCE or number >= MAX_ITERATIONS:
            break
    return best, least / reference


def deconvolve(first: NDArray, second: NDArray, psf: NDArray) -> Deconvolved:
    """Deconvolve the mean of two halves of the frames, as far as they agree.

    Parameters and errors are those of :func:`predicted_best`.

    Returns
    -------
    Deconvolved
    """
    best, misfit = predicted_best(first, second, psf)
    mean = 0.5 * (np.asarray(first, np.float32) + np.asarray(second, np.float32))
    steps = _iterations(mean, psf, _noise(first, second) / np.sqrt(2))
    image = next(image for number, (image, _) in enumerate(steps, start=1) if number == best)
    return Deconvolved(image, best, misfit)


def _detail_power(difference: NDArray, known: NDArray) -> float:
    """Mean square of what is finer than a few pixels.

    A halo that the PSF has wrong takes many iterations to be fitted; it must not hide that noise is fitted meanwhile.
    """
    if not known.any():
        return 0.0
    filled = np.where(known, difference, np.float32(0)).astype(np.float32)
    return float(np.mean((filled - ndimage.gaussian_filter(filled, DETAIL_PX))[known] ** 2))


def _noise(first: NDArray, second: NDArray) -> float:
    """Noise of a half, where there is no object."""
    return MAD_TO_SIGMA * float(np.nanmedian(np.abs(first - second))) / np.sqrt(2)


def _iterations(image: NDArray, psf: NDArray, noise: float) -> Iterator[tuple[Image, Image]]:
    """Yield the object after each iteration, and the image of the object before it."""
    blur = _Convolution(image.shape, psf)
    known = np.isfinite(image)
    filled = np.where(known, image, np.float32(0))
    offset = np.float32(max(OFFSET_SIGMAS * noise, 1e-6 * float(np.abs(filled).max())))
    data = blur.padded(np.where(known, np.maximum(filled, -offset) + offset, 0))
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
        acceleration = np.clip(np.vdot(step, before) / power, 0, MAX_ACCELERATION) if power > 0 else 0.0
        yield blur.cut(found), blur.cut(model)
        point = np.maximum(found + np.float32(acceleration) * (found - current), np.float32(0))
        current = found


class _Convolution:
    """Convolution with a PSF, with room around the image for what blurs into it."""

    def __init__(self, shape: tuple[int, ...], psf: NDArray) -> None:
        clean = np.maximum(np.nan_to_num(psf), 0).astype(np.float32)
        total = float(clean.sum())
        if not total > 0:
            raise Unprocessable("nothing to deconvolve with: the PSF holds no light")
        self.image_shape = shape
        half = len(clean) // 2
        self.shape = tuple(fft.next_fast_len(n + 2 * half, real=True) for n in shape)
        kernel = np.zeros(self.shape, np.float32)
        kernel[: len(clean), : len(clean)] = clean / total
        self._transfer = fft.rfft2(np.roll(kernel, (-half, -half), axis=(0, 1)))
        self._conjugate = np.conj(self._transfer)

    def padded(self, image: NDArray) -> Image:
        out = np.zeros(self.shape, np.float32)
        out[: self.image_shape[0], : self.image_shape[1]] = image
        return out

    def cut(self, image: Image) -> Image:
        return image[: self.image_shape[0], : self.image_shape[1]]

    def forward(self, image: Image) -> Image:
        return fft.irfft2(fft.rfft2(image) * self._transfer, self.shape)

    def transposed(self, image: Image) -> Image:
        return fft.irfft2(fft.rfft2(image) * self._conjugate, self.shape)

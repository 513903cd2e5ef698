"""What simulated stars and scenes look like in a product: measured here and in the benchmarks."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from obsarchive.simulation.scenes import SimulatedObservation


def companion(image: NDArray, primary: tuple[float, float], guess: tuple[float, float]) -> NDArray:
    """Position (y, x) relative to the primary [pixel] and flux ratio, the primary itself serving as PSF."""
    half = 16
    yy, xx = np.indices(image.shape)
    radius = np.hypot(yy - primary[0], xx - primary[1])
    near = np.hypot(yy - primary[0] - guess[0], xx - primary[1] - guess[1]) < 25
    rings = radius.astype(int)
    halo = np.array(
        [np.median(image[(rings == r) & ~near]) if np.any((rings == r) & ~near) else 0 for r in range(rings.max() + 2)]
    )
    flattened = image - np.interp(radius, np.arange(halo.size) + 0.5, halo)

    def box(source: NDArray, y: float, x: float) -> NDArray:
        y0, x0 = round(y) - half, round(x) - half
        return source[y0 : y0 + 2 * half + 1, x0 : x0 + 2 * half + 1]

    star = box(image, *primary)
    seen = box(flattened, primary[0] + guess[0], primary[1] + guess[1])
    offset = (
        round(primary[0] + guess[0]) - round(primary[0]),
        round(primary[1] + guess[1]) - round(primary[1]),
    )
    window = np.hypot(*(np.indices(star.shape) - half)) < 7

    def misfit(parameters: NDArray) -> NDArray:
        dy, dx, ratio, level = parameters
        moved = ndimage.fourier_shift(np.fft.fft2(star), (dy - offset[0], dx - offset[1]))
        return ((seen - ratio * np.fft.ifft2(moved).real - level) * window).ravel()

    return optimize.least_squares(misfit, [*guess, 0.05, 0.0], x_scale=[1, 1, 0.01, star.max() / 100]).x


def core(image: NDArray, y: float, x: float, half: int) -> NDArray:
    """Position (y, x) of a star: a Gaussian core on a wide one [pixel]."""
    top, left = round(y) - half, round(x) - half
    box = image[top : top + 2 * half + 1, left : left + 2 * half + 1]
    yy, xx = np.mgrid[-half : half + 1, -half : half + 1]

    def misfit(p: NDArray) -> NDArray:
        squared = (yy - p[1]) ** 2 + (xx - p[2]) ** 2
        return (p[0] * np.exp(-squared / 2 / p[3] ** 2) + p[4] + p[5] * np.exp(-squared / 2 / p[6] ** 2) - box).ravel()

    found = optimize.least_squares(misfit, [np.ptp(box) / 2, 0, 0, 2, np.median(box), np.ptp(box) / 2, half / 2]).x
    return np.array([top + half + found[1], left + half + found[2]])


def half_width(image: NDArray, y: float, x: float) -> float:
    """FWHM from the area above half of the peak [pixel]."""
    box = image[round(y) - 12 : round(y) + 13, round(x) - 12 : round(x) + 13]
    level = np.median(image)
    return 2 * np.sqrt(np.sum(box - level > (box.max() - level) / 2) / np.pi)


def detail_correlation(image: NDArray, truth: NDArray) -> float:
    """Correlation of the sharp detail of an image on half the pixels, after alignment, around the object."""
    binned = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean(axis=(1, 3))
    sharp, expected = (picture - ndimage.gaussian_filter(picture, 4) for picture in (binned, truth))
    near = ndimage.binary_dilation(truth > 0.05 * truth.max(), iterations=6)
    shifts = [(dy, dx) for dy in np.arange(-1.5, 1.6, 0.5) for dx in np.arange(-1.5, 1.6, 0.5)]
    moved = (ndimage.shift(sharp, shift, order=3)[near] for shift in shifts)
    return max(float(np.corrcoef(picture, expected[near])[0, 1]) for picture in moved)


def scene_where_registered(seen: SimulatedObservation, frames_table: NDArray) -> NDArray:
    """Scene of an extended object where the frames (columns frame, dy, dx) were registered to, to a pixel or so."""
    shifts = frames_table[np.argsort(frames_table[:, 0]), 1:]
    scene, side = seen.scene.extended, seen.instrument.detector.read_shape[0]
    full = np.pad(scene, (side - len(scene)) // 2)
    return ndimage.shift(full, np.median(seen.truth.shifts_px + shifts, axis=0), order=3)

"""Hot pixels and cosmic rays in a single image of stars."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Image = NDArray[np.float32]

MAX_PASSES = 16


def without_spikes(image: Image, threshold: float) -> Image:
    """Remove what no telescope could make: hot pixels and tracks of cosmic rays.

    A pixel above the threshold and above four times the third-brightest of its eight neighbours is sharper
    than a star of FWHM 1.7 pixel; it becomes that neighbour. A track is eaten from its ends, pass by pass.

    Parameters
    ----------
    image : ndarray (ny, nx) float32
        Image without background.
    threshold : float
        Fainter pixels are left alone [counts/pixel]; single photo-electrons of an EMCCD are spikes, too.

    Returns
    -------
    ndarray (ny, nx) float32
        Cleaned copy; the outermost pixels are as they were.
    """
    clean = image.copy()
    for _ in range(MAX_PASSES):
        before = clean.copy()
        if not _erode_spikes(before, clean, np.float32(threshold)):
            break
    return clean


@njit(cache=True)
def _erode_spikes(image, clean, threshold):  # type: ignore[no-untyped-def]
    """One pass of `without_spikes` from image to clean, which begins as a copy; returns how many it found."""
    ny, nx = image.shape
    neighbours = np.empty(8, image.dtype)
    n_spikes = 0
    for y in range(1, ny - 1):
        for x in range(1, nx - 1):
            if image[y, x] > threshold:
                neighbours[:3] = image[y - 1, x - 1 : x + 2]
                neighbours[3:6] = image[y + 1, x - 1 : x + 2]
                neighbours[6], neighbours[7] = image[y, x - 1], image[y, x + 1]
                neighbours.sort()
                third = neighbours[5]
                if image[y, x] > max(4 * third, threshold):
                    clean[y, x] = third
                    n_spikes += 1
    return n_spikes

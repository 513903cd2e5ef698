"""Maxima between the pixels, by parabolas."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from obsarchive.errors import Unprocessable


def vertex(values: NDArray) -> float:
    """Position of the maximum of the parabola through three values, from the middle one; at most half a step."""
    curvature = float(values[0] - 2 * values[1] + values[2])
    return float(np.clip(0.5 * (values[0] - values[2]) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0


def highest_point(image: NDArray) -> tuple[float, float, float]:
    """Maximum of an image away from its border.

    Parameters
    ----------
    image : ndarray (ny, nx)
        At least 3 pixels along each axis.

    Returns
    -------
    (float, float, float)
        Position (y, x) between the pixels, and the value of the highest pixel.

    Raises
    ------
    Unprocessable
        The image is too small.
    """
    inner = image[1:-1, 1:-1]
    if inner.size == 0:
        raise Unprocessable(f"an image of {image.shape} is too small to hold a star")
    y, x = np.unravel_index(np.argmax(inner), inner.shape)
    dy, dx = vertex(image[y : y + 3, x + 1]), vertex(image[y + 1, x : x + 3])
    return float(1 + y + dy), float(1 + x + dx), float(inner[y, x])


def star_near(image: NDArray, place: tuple[float, float], reach_px: int, smooth_px: float = 1.5) -> tuple[float, float]:
    """Peak of a star, smoothed, within a box around a place, positions (y, x) [pixel]."""
    y0, x0 = (max(round(centre) - reach_px - 1, 0) for centre in place)
    margin = int(4 * smooth_px) + 1
    top, left = max(y0 - margin, 0), max(x0 - margin, 0)
    part = image[top : y0 + 2 * reach_px + 3 + margin, left : x0 + 2 * reach_px + 3 + margin]
    smooth = ndimage.gaussian_filter(np.nan_to_num(part), smooth_px)
    y, x, _ = highest_point(smooth[y0 - top :, x0 - left :][: 2 * reach_px + 3, : 2 * reach_px + 3])
    return y0 + y, x0 + x

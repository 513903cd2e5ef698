"""Sub-pixel positions of maxima, by parabolas."""

import numpy as np
from scipy import ndimage

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import FloatArray


def vertex(values: FloatArray) -> float:
    """Return the vertex of the parabola through three values, relative to the middle one; at most half a step."""
    curvature = float(values[0] - 2 * values[1] + values[2])
    return float(np.clip(0.5 * (values[0] - values[2]) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0


def highest_point(image: FloatArray) -> tuple[float, float, float]:
    """Return the maximum of an image away from its border.

    Parameters
    ----------
    image : ndarray (ny, nx)
        At least 3 pixels along each axis.

    Returns
    -------
    (float, float, float)
        Position (y, x) between the pixels [pixel], and the value of the highest pixel.

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


def star_near(
    image: FloatArray, place: tuple[float, float], reach_px: int, smooth_px: float = 1.5
) -> tuple[float, float]:
    """Return the peak of the smoothed image within a box around a position.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Image; NaN counts as zero.
    place : (float, float)
        Centre (y, x) of the box [pixel].
    reach_px : int
        Half the side of the box [pixel].
    smooth_px : float
        Sigma of the Gaussian [pixel].

    Returns
    -------
    (float, float)
        Position (y, x) of the peak [pixel].

    Raises
    ------
    Unprocessable
        The box lies outside of the image.
    """
    y0, x0 = (max(round(centre) - reach_px - 1, 0) for centre in place)
    # with a margin as wide as the kernel, smoothing the part equals smoothing the whole image
    margin = int(4 * smooth_px) + 1
    top, left = max(y0 - margin, 0), max(x0 - margin, 0)
    part = image[top : y0 + 2 * reach_px + 3 + margin, left : x0 + 2 * reach_px + 3 + margin]
    smooth = ndimage.gaussian_filter(np.nan_to_num(part), smooth_px)
    y, x, _ = highest_point(smooth[y0 - top :, x0 - left :][: 2 * reach_px + 3, : 2 * reach_px + 3])
    return y0 + y, x0 + x

"""What frames that cover the pixels of a drizzled stack unevenly do to the place of its stars."""

import numpy as np

from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.imaging.drizzle import Drizzle

_REACH = 8.0
"""Half side of the stamp of a star, in sigmas of its core."""
_ROUNDS = 12


def coverage_offset(
    shifts: FloatArray, place: tuple[float, float], core_px: float, scale: int, pixfrac: float
) -> tuple[float, float]:
    """Compute how far from its place a star of the stack is, because its frames cover the pixels unevenly.

    A pixel of the stack is the mean of the drops that fall onto it, and of a few drops the mean lies beside its centre.
    All stars of the stack are moved alike, by a few hundredths of a pixel. A Gaussian core is drizzled as the frames
    were.

    Parameters
    ----------
    shifts : ndarray (n, 2)
        (dy, dx) by which the frames were shifted [pixel of a frame].
    place : (float, float)
        Place (y, x) of the star in the stack [pixel of a frame].
    core_px : float
        Sigma of its core [pixel of a frame].
    scale : int
        Pixels of the stack per pixel of a frame along each axis.
    pixfrac : float
        Side of the drizzled drops [pixel of a frame].

    Returns
    -------
    (float, float)
        Offset (y, x) [pixel of the stack].
    """
    half = int(np.ceil(_REACH * core_px)) + 1
    centre = half + np.asarray(place, float) % 1
    # whole pixels change nothing
    parts = np.asarray(shifts, float) % 1
    stack = Drizzle((2 * half + 2, 2 * half + 2), scale, pixfrac)
    pixels = np.arange(2 * half + 2)
    for dy, dx in parts.tolist():
        rows, columns = (
            np.exp(-((pixels - c + d) ** 2) / (2 * core_px**2)) for c, d in zip(centre, (dy, dx), strict=True)
        )
        stack.add(np.outer(rows, columns).astype(np.float32), dy, dx)
    image = np.nan_to_num(stack.image().astype(float))
    expected = np.array(stack.output_position(*centre))
    y, x = _centre(image, expected, scale * core_px) - expected
    return float(y), float(x)


def _centre(image: Float64Array, start: Float64Array, sigma_px: float) -> Float64Array:
    """Return the centroid under a Gaussian that moves with it."""
    pixels = np.arange(len(image))
    centre = start.copy()
    for _ in range(_ROUNDS):
        rows, columns = (np.exp(-((pixels - c) ** 2) / (2 * sigma_px**2)) for c in centre)
        along, across = image @ columns * rows, rows @ image * columns
        found = np.array([pixels @ along / along.sum(), pixels @ across / across.sum()])
        # under a window as wide as the star a centroid moves half of the way
        centre += 2 * (found - centre)
    return centre

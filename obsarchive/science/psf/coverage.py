"""What frames that cover the pixels of a drizzled stack unevenly do to its stars."""

from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.psf.band_limited_peak import peak_below

_BY_CHANCE = 3.0
"""Most by which the places of random frames beat with the pixels, over what they do in the mean."""
_REACH = 8.0
"""Half side of the stamp of a star, in sigmas of its core."""
_ROUNDS = 12
_EVEN = 6
"""Frames along each axis that cover the pixels evenly."""


@dataclass(frozen=True)
class Coverage:
    """What uneven coverage does to the stars of a stack, to all of them alike.

    Attributes
    ----------
    offset : (float, float)
        How far (y, x) they are from their places [pixel of the stack].
    peak, width : float
        Peak and FWHM of a core about its highest point, relative to those of the same frames when they cover the pixels
        evenly, less one.
    n_places : int
        How many frames at random places cover the pixels so: fewer than there are where the star hardly moves.
    """

    offset: tuple[float, float]
    peak: float
    width: float
    n_places: int


def uneven_coverage(
    shifts: FloatArray, peaks: FloatArray, place: tuple[float, float], core_px: float, scale: int, pixfrac: float
) -> Coverage:
    """Compute what frames that cover the pixels of a stack unevenly do to its stars.

    A pixel of the stack is the mean of the drops that fall onto it, and of a few drops the mean lies beside its centre:
    stars are moved by a few hundredths of a pixel, and frames whose pixels happen to lie on the peak count for more
    than others, sharp or not. A Gaussian core, as high as in each frame, is drizzled as the frames were, and measured
    as stars are. Where pixels are wider than half of lambda / D the places of a dozen frames change peak and width by a
    tenth: too much for a series in it, and the highest point is not where the star is.

    Parameters
    ----------
    shifts : ndarray (n, 2)
        (dy, dx) by which the frames were shifted [pixel of a frame].
    peaks : ndarray (n,)
        Peaks of the star in them.
    place : (float, float)
        Place (y, x) of the star in the stack [pixel of a frame].
    core_px : float
        Sigma of its core, half of lambda / D [pixel of a frame].
    scale : int
        Pixels of the stack per pixel of a frame along each axis.
    pixfrac : float
        Side of the drizzled drops [pixel of a frame].

    Returns
    -------
    Coverage
    """
    half = int(np.ceil(_REACH * core_px)) + 1
    centre = half + np.asarray(place, float) % 1
    pixels = np.arange(2 * half + 2)

    def drizzled(shifts: FloatArray, peaks: FloatArray) -> Drizzle:
        stack = Drizzle((len(pixels), len(pixels)), scale, pixfrac)
        # whole pixels change nothing
        for part, peak in zip(np.asarray(shifts, float) % 1, peaks, strict=True):
            rows, columns = (
                np.exp(-((pixels - c + d) ** 2) / (2 * core_px**2)) for c, d in zip(centre, part, strict=True)
            )
            stack.add((peak * np.outer(rows, columns)).astype(np.float32), *part.tolist())
        return stack

    stack = drizzled(shifts, peaks)
    image = np.nan_to_num(stack.image().astype(float))
    expected = np.array(stack.output_position(*centre))
    core = scale * core_px
    y, x = _centre(image, expected, core) - expected
    evenly = np.stack(np.meshgrid(*2 * [np.arange(_EVEN) / _EVEN]), axis=-1).reshape(-1, 2)
    even = np.nan_to_num(drizzled(evenly, np.full(len(evenly), np.mean(peaks))).image().astype(float))
    (height, width), (even_height, even_width) = (_peak_and_width(each, expected, core) for each in (image, even))
    return Coverage((float(y), float(x)), height / even_height - 1, width / even_width - 1, _n_places(shifts))


def _n_places(shifts: FloatArray) -> int:
    """Return the number of frames at random places whose pixels beat with the star as these shifts (n, 2) make them.

    The mean of n waves of random phases has a mean square of 1 / n, that of both axes three times as much in one
    sequence of 60; beyond that the places are not random.
    """
    waves = np.exp(2j * np.pi * np.asarray(shifts, float)).mean(axis=0)
    return round(_BY_CHANCE / max(float(np.mean(np.abs(waves) ** 2)), _BY_CHANCE / len(shifts)))


def _peak_and_width(image: Float64Array, centre: Float64Array, sigma_px: float) -> tuple[float, float]:
    """Return height and FWHM of a core about its highest point, with the frequencies that a telescope transmits."""
    (top, left), side = np.rint(centre - _REACH * sigma_px).astype(int), 2 * int(_REACH * sigma_px) + 1
    found = peak_below(image[top : top + side, left : left + side], 1 / (2 * sigma_px))
    # beyond the core it is lower than half of the peak, rings or not
    return found.height, 2 * float(np.interp(-found.height / 2, -found.profile, found.radii))


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

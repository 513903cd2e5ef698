"""Stars beside the guide star: frames in which they stand elsewhere follow another star, or are turned."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from obsarchive.science.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IndexArray
from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_all

LEAST_SHARE = 0.1
"""Of the guide star's peak, in the mean of all frames: fainter stars are not looked at."""
OUTSTANDING = 6.0
"""Least significance among the pixels as far from the guide star."""
PRESENT, ABSENT = 0.5, 0.2
"""Of the light that a star has where it is."""
USUAL = 0.97
"""Quantile of its light in all frames that counts as the light that a star has where it is."""
EQUAL = 0.5
"""Ratio of two stars from which on the fainter one may be the brighter one of a frame."""
LEAST_OF_PAIR = 0.3
"""Light of the fainter star of a pair over that of the brighter one."""
MOST_NEIGHBOURS = 8
SAME_PLACE_PX = 2.0


@dataclass(frozen=True)
class Followed:
    """Which star each frame follows.

    Attributes
    ----------
    moves : ndarray (n, 2)
        (dy, dx) from the star that a frame follows to the guide star; 0 for most [pixel].
    is_odd : ndarray (n,) of bool
        Frames whose stars are not those of the others, whichever they follow.
    """

    moves: Float64Array
    is_odd: BoolArray


def centred(window: FloatArray, y: float, x: float) -> Float32Array:
    """Return a larger image with the star of a window in its middle; NaN where it is unknown.

    Parameters
    ----------
    window : ndarray (ny, nx)
        Calibrated counts above the background, over the peak of the star.
    y, x : float
        Position of the star [pixel].

    Returns
    -------
    ndarray (2 * ny - 1, 2 * nx - 1) float32
        The star lies on the middle pixel.
    """
    ny, nx = window.shape
    out = np.full((2 * ny - 1, 2 * nx - 1), np.nan, np.float32)
    y0, x0 = (int(np.clip(n - 1 - round(place), 0, n - 1)) for n, place in ((ny, y), (nx, x)))
    out[y0 : y0 + ny, x0 : x0 + nx] = window
    return out


def smoothed(image: FloatArray, core_px: float) -> Float32Array:
    """Return an image smoothed with a Gaussian of sigma `core_px`; unknown pixels stay NaN and count as zero."""
    known = np.isfinite(image)
    smooth = ndimage.gaussian_filter(np.where(known, image, 0).astype(np.float32), core_px, mode="constant")
    return np.where(known, smooth, np.float32(np.nan))


def neighbours(mean: FloatArray, least_px: float) -> IndexArray:
    """Find stars beside the guide star, or what seems to be one.

    Parameters
    ----------
    mean : ndarray (2 * ny - 1, 2 * nx - 1)
        Smoothed mean of centred windows; NaN where it is unknown.
    least_px : float
        Least distance from the guide star [pixel].

    Returns
    -------
    ndarray (k, 2) of int
        (dy, dx) from the guide star, the brightest first [pixel].
    """
    middle = np.array(mean.shape) // 2
    y, x = np.indices(mean.shape)
    radius = np.hypot(y - middle[0], x - middle[1])
    excess = np.zeros(mean.shape)
    threshold = np.full(mean.shape, np.inf)
    for r in range(int(least_px), int(radius.max())):
        ring = (radius >= r) & (radius < r + 1) & np.isfinite(mean)
        if ring.sum() < 8:
            continue
        excess[ring] = mean[ring] - median_of_all(mean[ring])
        scatter = MAD_TO_SIGMA * median_of_all(np.abs(excess[ring]))
        threshold[ring] = max(OUTSTANDING * scatter, LEAST_SHARE * float(mean[tuple(middle)]))
    highest = excess == ndimage.maximum_filter(excess, size=2 * int(least_px) + 1)
    places = np.argwhere(highest & (excess > threshold) & (radius >= least_px))
    order = np.argsort(-excess[tuple(places.T)], kind="stable")[:MOST_NEIGHBOURS]
    found: IndexArray = places[order] - middle
    return found


def opposites(offsets: IndexArray, light: FloatArray) -> IndexArray:
    """Return places opposite to stars nearly as bright: few frames, which the mean hardly shows, may follow those.

    Parameters
    ----------
    offsets : ndarray (k, 2)
        Of the neighbours from the star [pixel].
    light : ndarray (n, k)
        Light of each frame at each offset, over that of the star it follows; NaN where it is unknown.

    Returns
    -------
    ndarray (l, 2)
        Offsets that are not among the others [pixel].
    """
    bright = offsets[_usual(light) >= EQUAL]
    new = [-offset for offset in bright if not (np.hypot(*(offsets + offset).T) <= SAME_PLACE_PX).any()]
    return np.array(new, int).reshape(-1, 2)


def light_at(image: FloatArray, offsets: IndexArray) -> Float64Array:
    """Return the light of a smoothed, centred window at offsets (k, 2), above that as far from its middle; (k,)."""
    middle = np.array(image.shape) // 2
    light = np.full(len(offsets), np.nan)
    for i, (dy, dx) in enumerate(offsets):
        y, x = middle[0] + dy, middle[1] + dx
        turns = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        around = np.rint(middle[:, np.newaxis] + np.hypot(dy, dx) * np.array([np.sin(turns), np.cos(turns)])).astype(
            int
        )
        inside = ((around >= 0) & (around < np.array(image.shape)[:, np.newaxis])).all(axis=0)
        values = image[tuple(around[:, inside])]
        box = image[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        if box.size and np.isfinite(box).all():
            light[i] = box.max() - median_of_all(values[np.isfinite(values)])
    return light


def is_pair(light: FloatArray) -> bool:
    """Return whether there is a star nearly as bright beside the guide star.

    Parameters
    ----------
    light : ndarray (n, k)
        Light of each frame at each offset, over that of the star it follows; NaN where it is unknown.

    Returns
    -------
    bool
        False where n or k is 0.
    """
    return bool((_usual(light) >= LEAST_OF_PAIR).any())


def _usual(light: FloatArray) -> Float64Array:
    """Return the light (k,) that a star has where it is; 0 for cosmic rays, which hit a place in very few frames."""
    usual = np.zeros(light.shape[-1])
    for k, values in enumerate(light.T):
        known = values[np.isfinite(values)]
        high = np.quantile(known, USUAL) if known.size else 0.0
        # the light of cosmic rays is in the mean alone, that of a star which stays is as strong in it
        if known.size and high > known.mean() / 2:
            usual[k] = high
    return usual


def followed(light: FloatArray, offsets: IndexArray) -> Followed:
    """Decide which star each frame follows, from the neighbours that it shows.

    A star that is there is there in all frames. Of neighbours that are absent in some frames, the pattern that most
    frames show is right; cosmic rays make neighbours in the mean that hardly any frame shows. Frames that follow
    another star as bright as the guide star show it at the opposite offset.

    Parameters
    ----------
    light : ndarray (n, k)
        Light of each frame at each offset, over that of the star it follows; NaN where it is unknown.
    offsets : ndarray (k, 2)
        Of the neighbours from the star [pixel].

    Returns
    -------
    Followed
        Of the n frames.
    """
    moves, is_odd = np.zeros((len(light), 2)), np.zeros(len(light), bool)
    usual, known = _usual(light), np.isfinite(light)
    for offset in offsets[usual >= EQUAL]:
        # where frames that follow that star show this one, however few they are
        usual[(np.hypot(*(offsets + offset).T) <= SAME_PLACE_PX) & (usual < EQUAL)] = 1.0
    is_jumping = ~(light >= ABSENT * usual).all(axis=0) & (usual > 0)
    light, known, places, bright = light[:, is_jumping], known[:, is_jumping], offsets[is_jumping], usual[is_jumping]
    patterns = light > PRESENT * bright
    shown, first, counts = np.unique(patterns[known.all(axis=1)], axis=0, return_index=True, return_counts=True)
    if not len(shown):
        return Followed(moves, is_odd)
    right = shown[max(range(len(shown)), key=lambda i: (counts[i], -first[i]))]
    equals = places[right & (bright >= EQUAL)]
    for i in np.flatnonzero(((patterns != right) & known).any(axis=1)):
        opposite = [
            place
            for place in places[patterns[i] & (bright >= EQUAL)]
            if any(np.hypot(*(place + equal)) <= SAME_PLACE_PX for equal in equals)
        ]
        if opposite:
            moves[i] = opposite[0]
        else:
            is_odd[i] = bool((light[i] < ABSENT * bright)[right].any())
    return Followed(moves, is_odd)

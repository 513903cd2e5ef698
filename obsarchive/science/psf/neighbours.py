"""The profile of a star among others: their light, which would pass for background, is taken away first.

Every star of a small field has the same image, so the neighbours are copies of the star's own mean profile. Profile and
copies are found in turns, as each needs the other.
"""

import numpy as np
from scipy import ndimage

from obsarchive.science.arrays import Float64Array, FloatArray, IntArray
from obsarchive.science.psf.radial_profile import ANNULUS, CORE_FWHM, StarProfile
from obsarchive.science.statistics import MAD_TO_SIGMA

_REACH = 2.0
"""Distance up to which neighbours count, in units of the aperture."""
_NEAREST, _NEAR = 1.2, 2.5
"""Distance within which a source is part of the star, and up to which speckles are bright, in units of the core."""
_FAINTEST, _FAINTEST_NEAR, _SIGNIFICANCE = 0.02, 0.04, 10.0
"""Least height of a neighbour and of a near one in units of the star's, and in those of the scatter around it."""
_MOST, _ROUNDS = 12, 6
_WING = -11 / 3
_WING_FROM = 0.7
"""Radius from which on the profile is a power law, in units of the aperture."""


def profile_among_neighbours(
    image: FloatArray, position: tuple[int, int], aperture_px: float, core_px: float
) -> StarProfile:
    """Measure the profile of a star without the light of its neighbours.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image; NaN marks missing pixels.
    position : (int, int)
        Brightest pixel (row, column) of the star.
    aperture_px, core_px : float
        Radii of the aperture and of the core [pixel].

    Returns
    -------
    StarProfile
        Of the image as it is where there is no neighbour.
    """
    star = StarProfile(image, position, aperture_px, core_px)
    reach = int(_REACH * aperture_px)
    top, left = (max(0, centre - reach) for centre in position)
    window = np.s_[top : position[0] + reach + 1, left : position[1] + reach + 1]
    field = np.asarray(image[window], float)
    centre = np.array([position[0] - top, position[1] - left])
    places = _neighbours(field, centre, star)
    if not len(places):
        return star
    for _ in range(_ROUNDS):
        cleaned = np.array(image, float)
        light = _light(field, centre, places, star)
        cleaned[window] -= light
        rows, columns = np.ogrid[: len(light), : light.shape[1]]
        inside = np.hypot(rows - centre[0], columns - centre[1]) < aperture_px
        star = StarProfile(cleaned, position, aperture_px, core_px, float(light[inside].sum()))
    return star


def _neighbours(field: Float64Array, centre: IntArray, star: StarProfile) -> IntArray:
    """Return the pixels (row, column) of other stars, the brightest first, shape (n, 2)."""
    radius = np.hypot(*np.ogrid[-centre[0] : len(field) - centre[0], -centre[1] : field.shape[1] - centre[1]])
    width = star.core_px / CORE_FWHM / 2
    rest = ndimage.gaussian_filter(np.nan_to_num(field - _background(star)) - _model(radius, star), width)
    near = int(_NEAREST * star.core_px)
    rest[radius < near] = -np.inf
    least = np.where(radius < _NEAR * star.core_px, _FAINTEST_NEAR, _FAINTEST) * star.image.max()
    is_bright = rest > least
    if not is_bright.any():
        return np.empty((0, 2), int)
    is_top = (rest == ndimage.maximum_filter(rest, 2 * near + 1)) & is_bright
    places = np.argwhere(is_top)
    places = places[np.argsort(-rest[tuple(places.T)])][:_MOST]
    return np.array([p for p in places if rest[tuple(p)] > _SIGNIFICANCE * _scatter(rest, radius, p, near)], int)


def _scatter(rest: Float64Array, radius: Float64Array, place: IntArray, near: int) -> float:
    """Return the scatter of what the profile leaves at the distance of a place."""
    ring = rest[(np.abs(radius - radius[tuple(place)]) < near / 2) & np.isfinite(rest)]
    return float(MAD_TO_SIGMA * np.median(np.abs(ring - np.median(ring))))


def _light(field: Float64Array, centre: IntArray, places: IntArray, star: StarProfile) -> Float64Array:
    """Return the light of the neighbours, shape of `field`."""
    rows, columns = np.ogrid[: field.shape[0], : field.shape[1]]
    copies = np.array([_model(np.hypot(rows - y, columns - x), star) for y, x in (centre, *places)])
    seen = np.isfinite(field)
    near = np.any([np.hypot(rows - y, columns - x) < star.core_px / CORE_FWHM for y, x in places], axis=0) & seen
    own = field[near] - _background(star) - copies[0][near]
    amplitudes = np.linalg.lstsq(copies[1:, near].T, own)[0]
    light: Float64Array = np.tensordot(np.maximum(amplitudes, 0), copies[1:], 1)
    return light


def _background(star: StarProfile) -> float:
    half = len(star.box) // 2
    # what was subtracted is the difference anywhere
    return float(star.box[half, half] - star.image[half, half])


def _model(radius: Float64Array, star: StarProfile) -> Float64Array:
    """Return the star's mean profile at distances from its centre, a power law where it is faint."""
    first = int(_WING_FROM * star.aperture_px)
    rings = np.arange(len(star.profile))
    wing = slice(first, int(ANNULUS / 1.2 * star.aperture_px))
    scale = np.median(star.profile[wing] * (rings[wing] / first) ** -_WING)
    inside = radius < first
    model: Float64Array = max(scale, 0.0) * np.clip(radius / first, 1.0, None) ** _WING
    model[inside] = np.interp(radius[inside], rings, star.profile)
    return model

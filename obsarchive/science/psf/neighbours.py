"""The profile of a star among others: their light, which would pass for background, is taken away first.

Every star of a small field has the same image, speckles and all, so the neighbours are copies of the star itself. The
star and its copies are found in turns, as each needs the other.
"""

import numpy as np
from scipy import ndimage

from obsarchive.science.arrays import Float64Array, FloatArray, IntArray
from obsarchive.science.psf.radial_profile import ANNULUS, CORE_FWHM, StarProfile
from obsarchive.science.registration.subpixel_peaks import vertex
from obsarchive.science.statistics import median_of_all, robust_sigma

_REACH = 2.0
"""Distance up to which neighbours count, in units of the aperture."""
_NEAREST = 1.2
"""Distance within which a source is part of the star, in units of the core."""
_FAINTEST = 0.02
"""Least height of a neighbour in units of the star's."""
_SIGNIFICANCE, _PLAUSIBLE = 10.0, 6.0
"""Least height of a neighbour in units of the scatter around it, and of what may be one: speckles of stars alone, of a
Strehl ratio of 5 %, reach 9."""
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
    alone = StarProfile(image, position, aperture_px, core_px)
    reach = int(_REACH * aperture_px)
    top, left = (max(0, centre - reach) for centre in position)
    field = np.asarray(image[top : position[0] + reach + 1, left : position[1] + reach + 1], float)
    centre = np.array([position[0] - top, position[1] - left])
    rest = _rest(field, centre, alone)
    places = _candidates(rest, centre, alone)
    doubtful: list[Float64Array] = []
    while len(places):
        copies = [_Copy(place, rest, centre, alone) for place in places]
        star = _without(copies, field, centre, alone, doubtful)
        # the light of a neighbour is no noise of the ring that it is on
        significance = [copy.amplitude / copy.amplitude_error for copy in copies]
        if min(significance) > _SIGNIFICANCE:
            return star
        # a speckle, or a companion whose light is left in the star's
        weakest = int(np.argmin(significance))
        doubtful.append(copies[weakest].amplitude * copies[weakest].of(star))
        places = np.delete(places, weakest, axis=0)
    place = int(centre[0]), int(centre[1])
    return StarProfile(field, place, aperture_px, core_px, doubtful) if doubtful else alone


class _Copy:
    """A neighbour, as a multiple of the star.

    Attributes
    ----------
    place : ndarray (2,)
        Its pixel (row, column) in the field.
    height : float
        Highest pixel of the smoothed star.
    amplitude, amplitude_error : float
        Its light in units of the star's; the error is that by speckles of the star, their scatter on the ring of the
        neighbour.
    """

    def __init__(self, place: IntArray, rest: Float64Array, centre: IntArray, star: StarProfile) -> None:
        smooth = ndimage.gaussian_filter(star.patch, _width(star))
        middle = len(smooth) // 2
        self.place, self.height = place, float(smooth[middle, middle])
        self.amplitude, self.amplitude_error = 0.0, np.inf
        self._apart = place + _top(rest, *place) - centre - _top(smooth, middle, middle)
        self._first = int(_WING_FROM * star.aperture_px)
        rows, columns = np.ogrid[: len(rest), : rest.shape[1]]
        self.distance = np.hypot(rows - centre[0] - self._apart[0], columns - centre[1] - self._apart[1])
        self._wing = (np.maximum(self.distance, self._first) / self._first) ** _WING
        self._centre = centre

    def of(self, star: StarProfile) -> Float64Array:
        """Return the star at the place of the neighbour, a power law where it is faint."""
        margin = self._first + 2
        half = len(star.image) // 2
        patch = star.image[half - margin : half + margin + 1, half - margin : half + margin + 1]
        whole = np.floor(self._apart).astype(int)
        # a core as sharp as the star's own: linear interpolation would lower it by a few percent
        patch = np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(patch), self._apart - whole)).real
        canvas = np.zeros(np.array(self.distance.shape) + 2 * margin)
        row, column = self._centre + whole
        canvas[row : row + len(patch), column : column + len(patch)] = patch
        inner = canvas[margin:-margin, margin:-margin]
        return np.where(self.distance < self._first, inner, _wing_height(star) * self._wing)


def _without(
    copies: list[_Copy], field: Float64Array, centre: IntArray, star: StarProfile, doubtful: list[Float64Array]
) -> StarProfile:
    """Return the star without its neighbours, whose amplitudes are set; what may be others is doubtful."""
    radius, place = _radius(field, centre), (int(centre[0]), int(centre[1]))
    around = [(copy.distance < star.core_px / CORE_FWHM) & np.isfinite(field) for copy in copies]
    for _ in range(_ROUNDS):
        lights = np.array([copy.of(star) for copy in copies])
        for copy, light, near in zip(copies, lights, around, strict=True):
            others = np.tensordot([c.amplitude * (c is not copy) for c in copies], lights[:, near], 1)
            left = field[near] - star.background - _model(radius[near], star) - others
            copy.amplitude = max(float(light[near] @ left / (light[near] @ light[near])), 0.0)
        cleaned = field - np.tensordot([copy.amplitude for copy in copies], lights, 1)
        star = StarProfile(cleaned, place, star.aperture_px, star.core_px)
    rest = _rest(cleaned, centre, star)
    for copy in copies:
        copy.amplitude_error = _scatter(rest, centre, copy.place, _nearest(star)) / copy.height
    doubts = [copy.amplitude_error * light for copy, light in zip(copies, lights, strict=True)]
    return StarProfile(cleaned, place, star.aperture_px, star.core_px, [*doubts, *doubtful])


def _rest(field: Float64Array, centre: IntArray, star: StarProfile) -> Float64Array:
    """Return what the mean profile of a star leaves of a field, smoothed."""
    left = np.nan_to_num(field - star.background) - _model(_radius(field, centre), star)
    rest: Float64Array = ndimage.gaussian_filter(left, _width(star))
    return rest


def _candidates(rest: Float64Array, centre: IntArray, star: StarProfile) -> IntArray:
    """Return the pixels (row, column) that may be other stars, the brightest first, shape (n, 2)."""
    near = _nearest(star)
    outside = np.where(_radius(rest, centre) < near, -np.inf, rest)
    is_bright = outside > _FAINTEST * star.image.max()
    if not is_bright.any():
        return np.empty((0, 2), int)
    is_top = (outside == ndimage.maximum_filter(outside, 2 * near + 1)) & is_bright
    # a vertex needs pixels on both sides
    is_top[[0, -1]] = is_top[:, [0, -1]] = False
    places = np.argwhere(is_top)
    places = places[np.argsort(-rest[tuple(places.T)])][:_MOST]
    return np.array([p for p in places if rest[tuple(p)] > _PLAUSIBLE * _scatter(rest, centre, p, near)], int)


def _scatter(rest: Float64Array, centre: IntArray, place: IntArray, near: int) -> float:
    """Return the scatter of what the profile leaves at the distance of a place."""
    distance = np.hypot(*(place - centre))
    # most places are near: a small part of the field
    reach = int(distance) + near
    corner = np.maximum(centre - reach, 0)
    part = rest[corner[0] : centre[0] + reach + 1, corner[1] : centre[1] + reach + 1]
    radius = _radius(part, centre - corner)
    ring = part[(np.abs(radius - distance) < near / 2) & (radius >= near)]
    return robust_sigma(ring)


def _radius(field: Float64Array, centre: IntArray) -> Float64Array:
    return np.hypot(*np.ogrid[-centre[0] : len(field) - centre[0], -centre[1] : field.shape[1] - centre[1]])


def _width(star: StarProfile) -> float:
    return star.core_px / CORE_FWHM / 2


def _nearest(star: StarProfile) -> int:
    return int(_NEAREST * star.core_px)


def _top(smooth: Float64Array, row: int, column: int) -> Float64Array:
    """Return the place of a maximum from its pixel."""
    return np.array([vertex(smooth[row - 1 : row + 2, column]), vertex(smooth[row, column - 1 : column + 2])])


def _wing_height(star: StarProfile) -> float:
    """Return the height of the power law where it begins."""
    first = int(_WING_FROM * star.aperture_px)
    wing = np.arange(first, int(ANNULUS / 1.2 * star.aperture_px))
    return max(median_of_all(star.profile[wing] * (wing / first) ** -_WING), 0.0)


def _model(radius: Float64Array, star: StarProfile) -> Float64Array:
    """Return the star's mean profile at distances from its centre, a power law where it is faint."""
    first = int(_WING_FROM * star.aperture_px)
    inside = radius < first
    model: Float64Array = _wing_height(star) * np.clip(radius / first, 1.0, None) ** _WING
    model[inside] = np.interp(radius[inside], np.arange(len(star.profile)), star.profile)
    return model

"""The profile of a star among others: their light, which would pass for background, is taken away first.

Every star of a small field has the same image, speckles and all, so the neighbours are copies of the star itself. The
star and its copies are found in turns, as each needs the other. A speckle may be as bright as the core of a faint
companion; that has a halo, too, which makes the whole star lopsided.
"""

import numpy as np
from scipy import ndimage

from obsarchive.science.arrays import Float64Array, FloatArray, IntArray
from obsarchive.science.psf.radial_profile import ANNULUS, CORE_FWHM, StarProfile, cut_out
from obsarchive.science.registration.subpixel_peaks import vertex
from obsarchive.science.statistics import median_of_all, robust_sigma

_REACH = 2.0
"""Distance up to which neighbours count, in units of the aperture."""
_NEAREST = 1.2
"""Distance within which a source is part of the star, in units of the core."""
_FAINTEST = 0.02
"""Least height of a neighbour in units of the star's."""
_LEAST_CORE, _HIGH_CORE = 3.0, 6.0
"""Least height of what may be a neighbour in units of the scatter around it, and of what stands out by itself."""
_DOUBTFUL, _SIGNIFICANCE, _CERTAIN = 10.5, 14.0, 15.5
"""Least significance, see `_significance`, of what may be a neighbour, of what is taken for one, and of what is no
speckle. Of 1360 stars alone by Fourier optics, of Strehl ratios from 4 to 40 %, speckles reach 13.8 and nine exceed
10.5; of 120 companions of 6 to 12 % of the light of stars of a Strehl ratio of 5 %, three do not. Of 900 stars with a
static aberration of up to 1 rad, or in turbulence of 2 to 8 r0, each the mean of 5 to 100 instants, two exceed 15.5;
of 240 single instants 11."""
_DISC = 0.4
"""Radius of the disc in which the star is compared with a copy, in units of the aperture."""
_GRAIN = 0.25
"""Radius of an independent patch of a smoothed image, in units of the core."""
_LEAST_NOISE = 1e-6
"""In units of the star's peak."""
_MOST = 12
_LEAST_ROUNDS, _MOST_ROUNDS, _SETTLED = 6, 60, 1e-4
"""Iterations, which end when no pixel of the star changes by more, in units of its peak: of a star as bright as its
neighbour, each moves the copy of the copy that is left in it one separation further out."""
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
    field = np.where(np.isfinite(field), field, np.nan)
    centre = np.array([position[0] - top, position[1] - left])
    rest = _rest(field, centre, alone)
    places = _candidates(rest, centre, alone)
    doubtful: list[Float64Array] = []
    while len(places):
        copies = [_Copy(place, rest, centre, alone) for place in places]
        star = _without(copies, field, centre, alone, doubtful)
        # the light of a neighbour is no noise of the ring that it is on
        weakest = min(copies, key=lambda copy: copy.significance)
        if weakest.significance > _SIGNIFICANCE:
            return star
        # a speckle, or a companion whose light is left in the star's
        if weakest.may_be_star:
            doubtful.append(weakest.amplitude * weakest.of(star))
        places = np.array([copy.place for copy in copies if copy is not weakest])
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
        neighbour, or as much as there is where it may be a speckle.
    significance : float
        See `_significance`.
    may_be_star : bool
        Whether it stands out at all.
    """

    def __init__(self, place: IntArray, rest: Float64Array, centre: IntArray, star: StarProfile) -> None:
        smooth = ndimage.gaussian_filter(star.patch, _width(star))
        middle = len(smooth) // 2
        self.place, self.height = place, float(smooth[middle, middle])
        self.amplitude, self.amplitude_error = 0.0, np.inf
        self.significance, self.may_be_star = 0.0, False
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
    for made in range(_MOST_ROUNDS):
        before = star.image
        lights = np.array([copy.of(star) for copy in copies])
        for copy, light, near in zip(copies, lights, around, strict=True):
            others = np.tensordot([c.amplitude * (c is not copy) for c in copies], lights[:, near], 1)
            left = field[near] - star.background - _model(radius[near], star) - others
            copy.amplitude = max(float(light[near] @ left / (light[near] @ light[near])), 0.0)
        cleaned = field - np.tensordot([copy.amplitude for copy in copies], lights, 1)
        star = StarProfile(cleaned, place, star.aperture_px, star.core_px)
        if made + 1 >= _LEAST_ROUNDS and np.nanmax(np.abs(star.image - before)) < _SETTLED * np.nanmax(star.image):
            break
    rest = _rest(cleaned, centre, star)
    smooth = _smooth(star)
    for copy in copies:
        core, copy.significance = _significance(rest, centre, copy.place, star, smooth, copy.amplitude)
        copy.may_be_star = _may_be_star(core, copy.significance)
        of_speckles = _scatter(rest, centre, copy.place, _nearest(star)) / copy.height
        copy.amplitude_error = of_speckles if copy.significance > _CERTAIN else max(copy.amplitude, of_speckles)
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
    # the brightest pixel at the rim may be the slope of a lobe of the star
    is_top &= rest == ndimage.maximum_filter(rest, 3)
    # a vertex needs pixels on both sides
    is_top[[0, -1]] = is_top[:, [0, -1]] = False
    places = np.argwhere(is_top)
    places = places[np.argsort(-rest[tuple(places.T)])][:_MOST]
    places = places[[rest[tuple(p)] > _LEAST_CORE * _scatter(rest, centre, p, near) for p in places]]
    if not len(places):
        return places
    smooth = _smooth(star)
    return places[[_may_be_star(*_significance(rest, centre, place, star, smooth)) for place in places]]


def _may_be_star(core: float, whole: float) -> bool:
    """Return whether a neighbour of this `_significance` stands out at all."""
    return core > _HIGH_CORE or whole > _DOUBTFUL


def _significance(
    rest: Float64Array,
    centre: IntArray,
    place: IntArray,
    star: StarProfile,
    smooth: Float64Array,
    taken: float = 0.0,
) -> tuple[float, float]:
    """Return how much the core of a neighbour stands out of the speckles of a star, and the neighbour as a whole.

    Its core is compared with the scatter at its distance; a copy of the star, halo and all, with what is left of the
    star in a disc around it, where speckles are in proportion to light. So much of it was taken away before.
    """
    apart = place - centre
    distance, near, half = float(np.hypot(*apart)), _nearest(star), len(smooth) // 2
    reach = int(max(_DISC * star.aperture_px, distance + star.core_px))
    light = np.nan_to_num(cut_out(smooth, (int(half - apart[0]), int(half - apart[1])), reach))
    left = cut_out(rest, (int(centre[0]), int(centre[1])), reach) + taken * light
    core = float(left[tuple(apart + reach)])
    radius = np.hypot(*np.ogrid[-reach : reach + 1, -reach : reach + 1])
    used = (radius >= near) & (radius < reach) & np.isfinite(left)
    radius, left, light = radius[used], left[used], light[used]
    scatter = robust_sigma(left[np.abs(radius - distance) < near / 2])
    ring = np.rint(radius).astype(np.int64)
    count = np.maximum(np.bincount(ring), 1)
    # the mean profile is the star's
    left, light = (values - (np.bincount(ring, values) / count)[ring] for values in (left, light))
    # an image without noise leaves nothing
    least = _LEAST_NOISE * float(star.image.max())
    weight = 1 / (_model(radius, star) ** 2 + max(2 * star.noise, least) ** 2)
    information = float(weight @ light**2)
    amplitude = float((weight * left) @ light) / information
    variance = float(weight @ (left - amplitude * light) ** 2) / len(left) * np.pi * (_GRAIN * star.core_px) ** 2
    core /= max(scatter, least)
    variance = max(variance, _LEAST_NOISE**2)
    return core, float(np.hypot(core, max(amplitude, 0.0) * np.sqrt(information / variance)))


def _smooth(star: StarProfile) -> Float64Array:
    smooth: Float64Array = ndimage.gaussian_filter(star.image, _width(star))
    return smooth


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

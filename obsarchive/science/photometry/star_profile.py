"""Profile of the stars of an image from all their pixels at once, as far out as neighbours and sky overlap with it."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numba import njit
from scipy.spatial import cKDTree

from obsarchive.science.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IndexArray
from obsarchive.science.photometry.aperture import overlap
from obsarchive.science.photometry.source_detection import BACKGROUND_PX

STEP_FWHM = 0.25
"""Step of the profile [FWHM]; between steps it is linear."""
KNOTS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14])
"""Radii with unknowns of their own [steps]; beyond the last one a star has no light."""
TABLE = 8192
"""Number of squares of radii at which a profile is computed beforehand."""
LEAST_PIXELS = 60
"""Least number of pixels of a star that no other star took before."""


@dataclass(frozen=True, eq=False)
class StarProfile:
    """Light of a star of flux 1 per pixel: a mean around the star, and an elongation along any axis.

    Parameters
    ----------
    light : ndarray (3, k)
        Mean, and amplitudes of the cosine and the sine of twice the angle from x, at radii in even steps.
    step_px : float
        The step [pixel].
    covariance : ndarray (m, m)
        Of the unknowns: the three rows at `KNOTS` but the last, one after the other.
    """

    light: Float64Array
    step_px: float
    covariance: Float64Array

    @property
    def reach_px(self) -> float:
        """Radius beyond which there is no light [pixel]."""
        return float(self.step_px * (self.light.shape[1] - 1))

    def image(self, shape: tuple[int, ...], stars: tuple[FloatArray, FloatArray, FloatArray]) -> Float32Array:
        """Return the image of stars (y, x, flux)."""
        found = np.zeros(shape, np.float32)
        y, x, flux = (np.asarray(each, np.float64) for each in stars)
        _draw(found, (y, x, flux), self.table, self.reach_px)
        return found

    def in_circles(
        self, circles: tuple[FloatArray, FloatArray], stars: tuple[FloatArray, FloatArray], radius_px: float
    ) -> Float64Array:
        """Return the light of stars (y, x) of flux 1 in circles (y, x), one star for each circle."""
        places = np.array([*circles, *stars], np.float64)
        return np.asarray(_in_circles(places, radius_px, self.table, self.reach_px))

    @cached_property
    def table(self) -> Float64Array:
        """The three rows at squares of radii in even steps; those of the elongation over the square."""
        square = (np.arange(TABLE) + 0.5) / TABLE * self.reach_px**2
        rows = np.array([np.interp(np.sqrt(square) / self.step_px, np.arange(len(row)), row) for row in self.light])
        rows[1:] /= square
        return np.asarray(rows)

    def scaled(self, factor: float) -> "StarProfile":
        """Return the profile of a star of so much more light."""
        return StarProfile(self.light * factor, self.step_px, self.covariance * factor**2)

    def errors(self, n: int) -> list["StarProfile"]:
        """Return the n independent errors of most light, each of one standard deviation."""
        area = np.maximum(KNOTS[:-1], 0.5) * np.gradient(KNOTS)[:-1]
        # an elongation cancels around the star
        weight = np.concatenate([area, 0.3 * area, 0.3 * area])
        values, vectors = np.linalg.eigh(self.covariance * np.outer(weight, weight))
        scaled = np.sqrt(np.maximum(values, 0.0)) * vectors / weight[:, np.newaxis]
        return [replace(self, light=_on_steps(column)) for column in scaled.T[: -n - 1 : -1]]


def fit_profile(
    image: FloatArray,
    variance: FloatArray,
    stars: tuple[Float64Array, Float64Array, Float64Array],
    chosen: IndexArray,
    fwhm_px: float,
) -> StarProfile | None:
    """Fit the profile that all stars share, together with a sky that is even over some ten pixels.

    Parameters
    ----------
    image, variance : ndarray (ny, nx)
        Pixels, NaN where they do not count, and their variance; one that follows the noise of each pixel itself would
        bias the fit.
    stars : (ndarray (n,), ndarray (n,), ndarray (n,))
        Positions [pixel] and fluxes of all stars (y, x, flux).
    chosen : ndarray of int
        Stars whose surroundings are fitted.
    fwhm_px : float
        FWHM of the stars [pixel].

    Returns
    -------
    StarProfile or None
        In units of the fluxes; None without pixels.
    """
    y, x, flux = stars
    step, unknowns = STEP_FWHM * fwhm_px, 3 * (len(KNOTS) - 1)
    reach = float(step * KNOTS[-1])
    tree = cKDTree(np.stack([y, x], axis=1))
    free = np.isfinite(image)
    matrix, right = np.zeros((unknowns, unknowns)), np.zeros(unknowns)
    skies: dict[tuple[int, int], Float64Array] = {}
    for i in chosen:
        rows, columns = _around(free, (y[i], x[i]), reach)
        if len(rows) < LEAST_PIXELS:
            continue
        free[rows, columns] = False  # pixels shared by several stars count once
        near = tree.query_ball_point((y[i], x[i]), 2 * reach + 1)
        design = np.empty((len(rows), unknowns + 2))
        design[:, :-2] = _design(np.array([rows, columns]), np.array([y[near], x[near], flux[near]]), step, KNOTS)
        design[:, -2], design[:, -1] = 1.0, image[rows, columns]
        normal = design.T @ (design / variance[rows, columns][:, np.newaxis])
        matrix, right = matrix + normal[:-2, :-2], right + normal[:-2, -1]
        cell = int(y[i]) // BACKGROUND_PX, int(x[i]) // BACKGROUND_PX
        skies[cell] = skies.get(cell, 0.0) + normal[-2]
    if not skies:
        return None
    for sky in skies.values():
        # the sky is eliminated: what remains are deviations from the means of a cell
        matrix, right = matrix - np.outer(sky[:-2], sky[:-2]) / sky[-2], right - sky[:-2] * sky[-1] / sky[-2]
    covariance = np.linalg.pinv(matrix, rcond=1e-10, hermitian=True).astype(np.float64)
    return StarProfile(_on_steps(covariance @ right), step, covariance)


def _around(free: BoolArray, star: tuple[float, float], reach: float) -> tuple[IndexArray, IndexArray]:
    """Return rows and columns of the free pixels within reach of a star."""
    top, left = (max(int(place - reach), 0) for place in star)
    cut = free[top : int(star[0] + reach) + 2, left : int(star[1] + reach) + 2]
    rows, columns = np.nonzero(cut)
    near = np.hypot(rows + top - star[0], columns + left - star[1]) < reach
    return rows[near] + top, columns[near] + left


def _on_steps(unknowns: Float64Array) -> Float64Array:
    """Return the three rows of a profile at all steps from the unknowns at the knots."""
    rows = np.column_stack([unknowns.reshape(3, -1), np.zeros(3)])
    return np.array([np.interp(np.arange(KNOTS[-1] + 1), KNOTS, row) for row in rows])


@njit(cache=True)
def _design(pixels, stars, step, knots):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Light of all stars in each pixel, by unknown; the elongation of the centre has none."""
    n = len(knots) - 1
    found = np.zeros((pixels.shape[1], 3 * n))
    for p in range(pixels.shape[1]):
        for j in range(stars.shape[1]):
            dy, dx = pixels[0, p] - stars[0, j], pixels[1, p] - stars[1, j]
            square = dy * dy + dx * dx
            place = np.sqrt(square) / step
            if place >= knots[n]:
                continue
            k = np.searchsorted(knots, place, side="right") - 1
            upper = (place - knots[k]) / (knots[k + 1] - knots[k])
            for m in range(k, min(k + 2, n)):
                light = stars[2, j] * (upper if m > k else 1 - upper)
                found[p, m] += light
                if m > 0:
                    found[p, n + m] += light * (dx * dx - dy * dy) / square
                    found[p, 2 * n + m] += light * 2 * dx * dy / square
    return found


@njit(cache=True)
def value_of(table, reach2, dy, dx):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Light at a distance from the star."""
    square = dy * dy + dx * dx
    if square >= reach2:
        return 0.0
    k = int(square * (table.shape[1] / reach2))
    return table[0, k] + table[1, k] * (dx * dx - dy * dy) + table[2, k] * (2 * dx * dy)


@njit(cache=True)
def _draw(image, stars, table, reach):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    y, x, flux = stars
    reach2 = reach * reach
    for j in range(len(y)):
        if flux[j] == 0.0:
            continue
        for row in range(max(int(np.ceil(y[j] - reach)), 0), min(int(y[j] + reach) + 1, image.shape[0])):
            wide = np.sqrt(max(reach2 - (row - y[j]) ** 2, 0.0))
            for column in range(max(int(np.ceil(x[j] - wide)), 0), min(int(x[j] + wide) + 1, image.shape[1])):
                image[row, column] += flux[j] * value_of(table, reach2, row - y[j], column - x[j])


@njit(cache=True)
def _in_circles(places, radius, table, reach):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    found = np.zeros(places.shape[1])
    for i in range(places.shape[1]):
        y, x = places[0, i], places[1, i]
        for row in range(int(np.floor(y - radius)), int(np.ceil(y + radius)) + 1):
            for column in range(int(np.floor(x - radius)), int(np.ceil(x + radius)) + 1):
                part = overlap(row - y, column - x, radius)
                if part > 0.0:
                    found[i] += part * value_of(table, reach * reach, row - places[2, i], column - places[3, i])
    return found

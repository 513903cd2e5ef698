"""World coordinates: gnomonic projection, and plate solutions from pixels to it, linear or with distortion.

Calabretta & Greisen (2002, A&A 395, 1077); distortion as in the SIP convention (Shupe et al. 2005, ASPC 347, 491).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from obsarchive.science.arrays import Float64Array, FloatArray

ARCSEC = 3600.0
INVERSION_ROUNDS = 12
LEAST_FREEDOM_FACTOR = 1.32
"""Half of the 68 % range of Student's distribution of two degrees of freedom; its standard deviation is infinite."""


def project(ra_deg: ArrayLike, dec_deg: ArrayLike, centre: tuple[float, float]) -> tuple[Float64Array, Float64Array]:
    """Project positions on the sky gnomonically.

    Parameters
    ----------
    ra_deg, dec_deg : array_like
        Positions [deg].
    centre : (float, float)
        Right ascension and declination of the tangent point [deg].

    Returns
    -------
    xi, eta : ndarray
        Standard coordinates, east and north [arcsec]; NaN for the other half of the sky.
    """
    ra, dec = np.radians(np.asarray(ra_deg, float)), np.radians(np.asarray(dec_deg, float))
    ra0, dec0 = np.radians(centre)
    cosine = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    cosine = np.where(cosine > 0, cosine, np.nan)
    xi = np.cos(dec) * np.sin(ra - ra0) / cosine
    eta = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / cosine
    return np.degrees(xi) * ARCSEC, np.degrees(eta) * ARCSEC


def deproject(
    xi_arcsec: ArrayLike, eta_arcsec: ArrayLike, centre: tuple[float, float]
) -> tuple[Float64Array, Float64Array]:
    """Return the positions on the sky of standard coordinates: the inverse of :func:`project`.

    Parameters
    ----------
    xi_arcsec, eta_arcsec : array_like
        Standard coordinates, east and north [arcsec].
    centre : (float, float)
        Right ascension and declination of the tangent point [deg].

    Returns
    -------
    ra, dec : ndarray
        Right ascension (0 to 360) and declination [deg].
    """
    xi = np.radians(np.asarray(xi_arcsec, float) / ARCSEC)
    eta = np.radians(np.asarray(eta_arcsec, float) / ARCSEC)
    ra0, dec0 = np.radians(centre)
    denominator = np.cos(dec0) - eta * np.sin(dec0)
    ra = ra0 + np.arctan2(xi, denominator)
    dec = np.arctan2((np.sin(dec0) + eta * np.cos(dec0)), np.hypot(xi, denominator))
    return np.degrees(ra) % 360, np.degrees(dec)


@dataclass(frozen=True, eq=False)
class PlateSolution:
    """Plate solution: mapping from pixels to the sky.

    Attributes
    ----------
    centre : (float, float)
        Right ascension and declination at the reference pixel [deg].
    reference : (float, float)
        Reference pixel (y, x), from 0.
    matrix : ndarray (2, 2)
        (xi, eta) [arcsec] of a step in (x, y) [pixel].
    distortion : dict
        By powers (i, j) of x and y: coefficients of the offset of (x, y) [pixel]; empty without distortion.
    """

    centre: tuple[float, float]
    reference: tuple[float, float]
    matrix: Float64Array
    distortion: dict[tuple[int, int], tuple[float, float]] = field(default_factory=dict)

    def to_standard_coordinates(self, y: ArrayLike, x: ArrayLike) -> tuple[Float64Array, Float64Array]:
        """Return the standard coordinates of pixels.

        Parameters
        ----------
        y, x : array_like
            Pixels, from 0.

        Returns
        -------
        xi, eta : ndarray
            Standard coordinates, east and north, about `centre` [arcsec].
        """
        u, v = np.asarray(x, float) - self.reference[1], np.asarray(y, float) - self.reference[0]
        du, dv = self._distorted(u, v)
        u, v = u + du, v + dv
        return self.matrix[0, 0] * u + self.matrix[0, 1] * v, self.matrix[1, 0] * u + self.matrix[1, 1] * v

    def sky(self, y: ArrayLike, x: ArrayLike) -> tuple[Float64Array, Float64Array]:
        """Return the positions on the sky of pixels.

        Parameters
        ----------
        y, x : array_like
            Pixels, from 0.

        Returns
        -------
        ra, dec : ndarray
            Right ascension (0 to 360) and declination [deg].
        """
        return deproject(*self.to_standard_coordinates(y, x), self.centre)

    def pixels(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[Float64Array, Float64Array]:
        """Return the pixels of positions on the sky: the inverse of :meth:`sky`.

        Parameters
        ----------
        ra_deg, dec_deg : array_like
            Positions [deg].

        Returns
        -------
        y, x : ndarray
            Pixels, from 0; NaN for the other half of the sky.
        """
        wanted = np.linalg.solve(self.matrix, np.stack(np.atleast_1d(*project(ra_deg, dec_deg, self.centre))))
        u, v = wanted
        # the inverse of the distortion by fixed-point iteration: it converges, as distortion is small
        for _ in range(INVERSION_ROUNDS if self.distortion else 0):
            du, dv = self._distorted(u, v)
            u, v = wanted[0] - du, wanted[1] - dv
        shape = np.broadcast_shapes(np.shape(ra_deg), np.shape(dec_deg))
        return (v + self.reference[0]).reshape(shape), (u + self.reference[1]).reshape(shape)

    def _distorted(self, u: Float64Array, v: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Return the offsets by distortion of pixels relative to the reference pixel."""
        du, dv = np.zeros_like(u), np.zeros_like(v)
        for (i, j), (a, b) in self.distortion.items():
            term = u**i * v**j
            du, dv = du + a * term, dv + b * term
        return du, dv

    @property
    def scale_arcsec(self) -> float:
        """Plate scale [arcsec/pixel]."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))

    @property
    def north_angle_deg(self) -> float:
        """Direction of north, counterclockwise from up (+y) [deg]."""
        x, y = np.linalg.solve(self.matrix, [0.0, 1.0])
        return float(np.degrees(np.arctan2(-x, y)))


def fit_wcs(
    pixels: tuple[FloatArray, FloatArray],
    standard: tuple[FloatArray, FloatArray],
    start: PlateSolution,
    order: int,
    weights: FloatArray | None = None,
) -> PlateSolution:
    """Fit a plate solution to matched stars by least squares.

    Parameters
    ----------
    pixels : (ndarray (n,), ndarray (n,))
        Positions (y, x) [pixel].
    standard : (ndarray (n,), ndarray (n,))
        Standard coordinates (xi, eta) of the same stars about the centre of `start` [arcsec].
    start : PlateSolution
        Solution whose tangent point, reference pixel and parity are used.
    order : int
        0: shift, rotation and scale; 1: any linear map; 2, 3: with distortion.
    weights : ndarray (n,), optional
        Weights of the stars; used for orders from 1 on.

    Returns
    -------
    PlateSolution
        Its centre is the fitted sky position of the reference pixel, to first order.
    """
    y, x = (np.asarray(axis, float) for axis in pixels)
    xi, eta = (np.asarray(axis, float) for axis in standard)
    u, v = x - start.reference[1], y - start.reference[0]
    if order == 0:
        offset, matrix, terms = _similarity(u, v, xi, eta, start)
    else:
        offset, matrix, terms = _polynomial((u, v), (xi, eta), order, weights)
    ra, dec = (float(axis) for axis in deproject(offset[0], offset[1], start.centre))
    return PlateSolution((ra, dec), start.reference, _axes((ra, dec), offset, start.centre) @ matrix, terms)


def _axes(centre: tuple[float, float], offset: Float64Array, start: tuple[float, float]) -> Float64Array:
    """Return the map of small steps from the tangent plane of a first centre to that of another, given its offset.

    The meridians converge: north at the new centre is another direction than at the first one.
    """
    steps = offset[:, np.newaxis] + np.array([[1.0, 0.0], [0.0, 1.0]])
    return np.stack(project(*deproject(steps[0], steps[1], start), centre))


def _similarity(
    u: Float64Array, v: Float64Array, xi: Float64Array, eta: Float64Array, start: PlateSolution
) -> tuple[Float64Array, Float64Array, dict[tuple[int, int], tuple[float, float]]]:
    parity = np.sign(np.linalg.det(start.matrix))
    one, zero = np.ones_like(u), np.zeros_like(u)
    # xi = a u - p b v + c, eta = b u + p a v + d
    rows = np.concatenate([np.stack([u, -parity * v, one, zero], axis=1), np.stack([parity * v, u, zero, one], axis=1)])
    a, b, c, d = np.linalg.lstsq(rows, np.concatenate([xi, eta]), rcond=None)[0]
    return np.array([c, d]), np.array([[a, -parity * b], [b, parity * a]]), {}


def _polynomial(
    pixels: tuple[Float64Array, Float64Array],
    standard: tuple[Float64Array, Float64Array],
    order: int,
    weights: FloatArray | None,
) -> tuple[Float64Array, Float64Array, dict[tuple[int, int], tuple[float, float]]]:
    u, v = pixels
    unit = _unit_px(u, v)
    rows = _terms(u / unit, v / unit, order)
    scale = np.sqrt(np.ones_like(u) if weights is None else weights)[:, np.newaxis]
    solved = np.linalg.lstsq(rows * scale, np.stack(standard, axis=1) * scale, rcond=None)[0]
    terms = {power: row / unit ** sum(power) for power, row in zip(_powers(order), solved, strict=True)}
    matrix = np.stack([terms[1, 0], terms[0, 1]], axis=1)
    # the SIP convention adds distortion to the pixels, before the linear map
    higher = {power: np.linalg.solve(matrix, row) for power, row in terms.items() if sum(power) > 1}
    return terms[0, 0], matrix, {power: (float(a), float(b)) for power, (a, b) in higher.items()}


@dataclass(frozen=True, eq=False)
class PlateErrors:
    """Standard errors of a plate solution, without those of the catalogue as a whole.

    Parameters
    ----------
    centre_arcsec : (float, float)
        Of the sky position of the reference pixel, east and north [arcsec].
    scale_arcsec : float
        Of the plate scale [arcsec/pixel].
    north_angle_deg : float
        Of the direction of north [deg].
    star_arcsec : float
        Of one star along an axis, about the fit [arcsec].
    reference : (float, float)
        Reference pixel (y, x).
    unit_px : float
        Pixels of a step of the terms.
    order : int
        Order of the fit, at least 1.
    covariance : ndarray (k, k)
        Of the terms of a standard coordinate, the mean of both axes [arcsec^2].
    """

    centre_arcsec: tuple[float, float]
    scale_arcsec: float
    north_angle_deg: float
    star_arcsec: float
    reference: tuple[float, float]
    unit_px: float
    order: int
    covariance: Float64Array

    def of_sky(self, y: ArrayLike, x: ArrayLike) -> Float64Array:
        """Return the error along an axis of the sky position of pixels, by the solution alone [arcsec]."""
        u, v = np.asarray(x, float) - self.reference[1], np.asarray(y, float) - self.reference[0]
        terms = _terms(u / self.unit_px, v / self.unit_px, self.order)
        error: Float64Array = np.sqrt(np.einsum("...i,ij,...j->...", terms, self.covariance, terms))
        return error


def _terms(u: Float64Array, v: Float64Array, order: int) -> Float64Array:
    """Return the terms of a polynomial along a new last axis: 1, u, v, u^2, u v, ..."""
    return np.stack([u**i * v**j for i, j in _powers(order)], axis=-1)


def _powers(order: int) -> list[tuple[int, int]]:
    return [(i, n - i) for n in range(order + 1) for i in range(n, -1, -1)]


def _unit_px(u: Float64Array, v: Float64Array) -> float:
    """Return the unit in which coordinates are of order one: high powers of pixels would be ill-conditioned."""
    return max(float(np.abs(u).max(initial=1.0)), float(np.abs(v).max(initial=1.0)))


def plate_errors(
    pixels: tuple[FloatArray, FloatArray],
    residuals: Float64Array,
    solution: PlateSolution,
    order: int,
    weights: FloatArray | None = None,
    slopes: FloatArray | None = None,
) -> PlateErrors:
    """Compute the errors of a plate solution from the residuals of its stars.

    The scatter of few stars is uncertain itself: errors are the standard deviation of Student's distribution, and
    with no more than two degrees of freedom, half of its 68 % range.

    Parameters
    ----------
    pixels : (ndarray (n,), ndarray (n,))
        Positions (y, x) of the stars [pixel].
    residuals : ndarray (n, 2)
        Image minus catalogue, east and north [arcsec].
    solution : PlateSolution
        The fit.
    order : int
        As it was fitted by :func:`fit_wcs`.
    weights : ndarray (n,), optional
        Weights of the stars.
    slopes : ndarray (n,), optional
        By how much a weighted residual changes with the residual, where the weights depend on it; the weights if not.

    Returns
    -------
    PlateErrors
        Infinite with as many unknowns as coordinates.
    """
    y, x = (np.asarray(axis, float) for axis in pixels)
    u, v = x - solution.reference[1], y - solution.reference[0]
    weight = np.ones(len(u)) if weights is None else np.asarray(weights, float)
    if order == 0:
        return _of_similarity((u, v), residuals, solution)
    unit = _unit_px(u, v)
    rows = _terms(u / unit, v / unit, order)
    # of a robust fit, what a star adds is worth less than its weight (Huber 1981, Robust Statistics, chapter 7)
    worth = 1.0 if slopes is None else max(float(np.sum(slopes) / np.sum(weight)), 0.1)
    east, north = (_covariance(rows, residuals[:, axis], weight) / worth**2 for axis in (0, 1))
    matrix = np.zeros((4, 4))
    matrix[:2, :2], matrix[2:, 2:] = (one[1:3, 1:3] / unit**2 for one in (east, north))
    scale, angle = _of_matrix(solution, matrix)
    centre = float(np.sqrt(east[0, 0])), float(np.sqrt(north[0, 0]))
    star = _of_a_star(residuals, 2 * rows.shape[1], weight)
    return PlateErrors(centre, scale, angle, star, solution.reference, unit, order, (east + north) / 2)


def _of_similarity(
    pixels: tuple[Float64Array, Float64Array], residuals: Float64Array, solution: PlateSolution
) -> PlateErrors:
    u, v = pixels
    parity = float(np.sign(np.linalg.det(solution.matrix)))
    one, zero = np.ones_like(u), np.zeros_like(u)
    rows = np.concatenate([np.stack([u, -parity * v, one, zero], axis=1), np.stack([parity * v, u, zero, one], axis=1)])
    found = _covariance(rows, residuals.T.ravel(), np.ones(2 * len(u)))
    # (a, -p b) and (b, p a): the rows of the matrix
    spread = np.array([[1, 0], [0, -parity], [0, 1], [parity, 0]])
    scale, angle = _of_matrix(solution, spread @ found[:2, :2] @ spread.T)
    centre = float(np.sqrt(found[2, 2])), float(np.sqrt(found[3, 3]))
    # terms (1, u, v) along both axes, from (a, b, and the two constants)
    east = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, -parity, 0, 0]])
    north = np.array([[0, 0, 0, 1], [0, parity, 0, 0], [1, 0, 0, 0]])
    covariance = (east @ found @ east.T + north @ found @ north.T) / 2
    star = _of_a_star(residuals, 4, one)
    return PlateErrors(centre, scale, angle, star, solution.reference, 1.0, 1, covariance)


def _of_a_star(residuals: Float64Array, n_unknowns: int, weights: FloatArray) -> float:
    """Return the error of one star along an axis about the fit [arcsec]; displaced stars have hardly any weight."""
    freedom = residuals.size - n_unknowns
    if freedom < 1:
        return float("inf")
    student = freedom / (freedom - 2) if freedom > 2 else LEAST_FREEDOM_FACTOR**2
    worth = residuals.size / freedom * student
    return float(np.sqrt(np.average(np.mean(residuals**2, axis=1), weights=weights) * worth))


def _covariance(rows: Float64Array, residual: Float64Array, weights: FloatArray) -> Float64Array:
    """Return the covariance of the unknowns of weighted least squares, from the residuals."""
    n, k = rows.shape
    if n <= k:
        return np.full((k, k), np.inf)
    inverse = np.linalg.pinv(rows.T @ (rows * weights[:, np.newaxis]))
    if np.ptp(weights) == 0:
        found = inverse * weights[0] * np.sum(residual**2) / (n - k)
    else:
        # what a star does not pull its own fit (MacKinnon & White 1985, J. Econometrics 29, 305)
        own = np.minimum(weights * np.einsum("ij,jk,ik->i", rows, inverse, rows), 0.9)
        influence = rows * (weights * residual / np.sqrt(1 - own))[:, np.newaxis] @ inverse
        found = influence.T @ influence
    student = (n - k) / (n - k - 2) if n - k > 2 else LEAST_FREEDOM_FACTOR**2
    return np.asarray(found * student)


def _of_matrix(solution: PlateSolution, covariance: Float64Array) -> tuple[float, float]:
    """Return the errors of scale [arcsec/pixel] and direction of north [deg], given that of the matrix, row by row."""
    if not np.isfinite(covariance).all():
        return float("inf"), float("inf")
    step = 1e-4 * solution.scale_arcsec
    slopes = np.zeros((2, 4))
    for i in range(4):
        changed = solution.matrix.copy()
        changed.flat[i] += step
        other = PlateSolution(solution.centre, solution.reference, changed)
        turn = (other.north_angle_deg - solution.north_angle_deg + 180) % 360 - 180
        slopes[:, i] = (other.scale_arcsec - solution.scale_arcsec) / step, turn / step
    scale, angle = np.sqrt(np.diag(slopes @ covariance @ slopes.T))
    return float(scale), float(angle)

"""World coordinates: gnomonic projection, and plate solutions from pixels to it, linear or with distortion.

Calabretta & Greisen (2002, A&A 395, 1077); distortion as in the SIP convention (Shupe et al. 2005, ASPC 347, 491).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from obsarchive.science.arrays import Float64Array, FloatArray

ARCSEC = 3600.0
INVERSION_ROUNDS = 12


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
    centre = deproject(offset[0], offset[1], start.centre)
    return PlateSolution((float(centre[0]), float(centre[1])), start.reference, matrix, terms)


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
    powers = [(i, n - i) for n in range(order + 1) for i in range(n, -1, -1)]
    # coordinates of order one, as high powers of pixels would make the least squares ill-conditioned
    unit = max(float(np.abs(u).max(initial=1.0)), float(np.abs(v).max(initial=1.0)))
    rows = np.stack([(u / unit) ** i * (v / unit) ** j for i, j in powers], axis=1)
    scale = np.sqrt(np.ones_like(u) if weights is None else weights)[:, np.newaxis]
    solved = np.linalg.lstsq(rows * scale, np.stack(standard, axis=1) * scale, rcond=None)[0]
    terms = {power: row / unit ** sum(power) for power, row in zip(powers, solved, strict=True)}
    matrix = np.stack([terms[1, 0], terms[0, 1]], axis=1)
    # the SIP convention adds distortion to the pixels, before the linear map
    higher = {power: np.linalg.solve(matrix, row) for power, row in terms.items() if sum(power) > 1}
    return terms[0, 0], matrix, {power: (float(a), float(b)) for power, (a, b) in higher.items()}

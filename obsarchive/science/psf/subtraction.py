"""PSF subtraction by KLIP: stamps, ranking of references by correlation, and principal components.

KLIP is principal component analysis of the references (Soummer, Pueyo & Larkin 2012, ApJ 755, L28; Amara & Quanz
2012, MNRAS 427, 948). With references of other stars the components do not depend on the target: the residual is
linear in it, so the throughput of a companion is known exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import linalg, ndimage

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IndexArray
from obsarchive.science.registration.subpixel_peaks import star_near
from obsarchive.science.statistics import median_of_all

Pixel = TypeVar("Pixel", bound=np.generic)
STAMP_SIDE = 201
"""Side of a stamp [pixel]: a radius of 1.7 arcsec on the drizzled grid of Robo-AO at a 2 m telescope."""
MARGIN_PX = 22
"""Pixels around a stamp in which companions are searched, too, though no reference reaches them: out to 2 arcsec."""
REACH_PX = 6
"""Radius of the search for the peak around the given position [pixel]."""
FLUX_RADIUS = 0.25
"""Radius of the aperture in which a stamp has flux 1, in sides of the stamp."""
LEAST_COVERAGE = 0.5
"""Least share of a stamp within the image."""
MAX_COMPONENTS = 60
BLOCK = 8192
"""Number of pixels whose products are summed in single precision."""
WITNESSES = 16
"""References whose mean shows what is common to all."""
RELATIVE_EIGENVALUE = 1e-7
"""Eigenvalue, relative to the largest, below which a component is rounding error."""


def cut_stamp(
    image: FloatArray, centre_yx: tuple[float, float], side: int = STAMP_SIDE, margin_px: int = 0
) -> Float32Array:
    """Cut out a star: centred on the central pixel, background-subtracted, flux 1.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Stack of a star.
    centre_yx : (float, float)
        Position of the star, good to a few pixels: its peak is searched around it [pixel].
    side : int
        Odd side of the stamp [pixel].
    margin_px : int
        Pixels cut out around the stamp, in its unit.

    Returns
    -------
    ndarray (side + 2 margin_px, side + 2 margin_px) float32
        Share of the flux per pixel; NaN outside of the image.

    Raises
    ------
    Unprocessable
        There is no flux, or the star lies too close to the edge of the image.
    """
    return cut_star(image, centre_yx, side, margin_px)[0]


def cut_star(
    image: FloatArray, centre_yx: tuple[float, float], side: int = STAMP_SIDE, margin_px: int = 0
) -> tuple[Float32Array, float]:
    """Return what :func:`cut_stamp` does, and the flux of the star that is 1 there [unit of the image]."""
    filled = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    # a star that was predicted outside of the image is searched at its border
    y, x = (float(np.clip(c, 0, n - 1)) for c, n in zip(centre_yx, filled.shape, strict=True))
    y, x = star_near(filled, (y, x), REACH_PX)
    half, whole = side // 2, side + 2 * margin_px
    grid = np.arange(-(whole // 2), whole // 2 + 1, dtype=float)
    rows, columns = y + grid, x + grid
    inside = np.outer(_within(rows, image.shape[0]), _within(columns, image.shape[1]))
    if central(inside, side).mean() < LEAST_COVERAGE:
        raise Unprocessable(f"the star at ({y:.0f}, {x:.0f}) lies too close to the edge of the image {image.shape}")
    # a margin for the spline, so that not the whole image is filtered
    y0, x0 = max(int(rows[0]) - 12, 0), max(int(columns[0]) - 12, 0)
    part = filled[y0 : int(rows[-1]) + 13, x0 : int(columns[-1]) + 13]
    stamp = ndimage.map_coordinates(part, np.meshgrid(rows - y0, columns - x0, indexing="ij"), order=3, mode="nearest")
    inner, known, radius = central(stamp, side), central(inside, side), radii(side)
    stamp -= _background(filled, (y, x), half, inner[known & (radius > 0.9 * half)])
    flux = float(inner[known & (radius <= FLUX_RADIUS * side)].sum())
    if not flux > 0:
        raise Unprocessable("no light where the star should be: nothing to subtract")
    return np.where(inside, stamp / flux, np.nan).astype(np.float32), flux


def radii(side: int) -> Float64Array:
    """Return the distance of every pixel from the central one, shape (side, side) [pixel]."""
    half = side // 2
    return np.hypot(*np.ogrid[-half : half + 1, -half : half + 1])


def central(stamp: NDArray[Pixel], side: int) -> NDArray[Pixel]:
    """Return the central part (..., side, side) of a stamp with a margin."""
    margin = (stamp.shape[-1] - side) // 2
    return stamp[..., margin : margin + side, margin : margin + side]


def _within(positions: FloatArray, n: int) -> BoolArray:
    return (positions >= 0) & (positions <= n - 1)


def _background(image: Float32Array, centre: tuple[float, float], half: int, rim: FloatArray) -> float:
    """Return the sky level: median beyond the stamp where the image is large enough, else at the rim of the stamp."""
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    # zeros are pixels without data
    beyond = image[(np.hypot(y - centre[0], x - centre[1]) > half) & (image != 0)]
    values = beyond if beyond.size > rim.size else rim
    return median_of_all(values) if values.size else 0.0


def correlations(target: FloatArray, stamps: Float32Array, mask: BoolArray) -> Float64Array:
    """Compute the Pearson correlation of a stamp with many others.

    Parameters
    ----------
    target : ndarray (side, side)
        Stamp; pixels that are not finite count as zero.
    stamps : ndarray (k, side, side) float32
        Other stamps, likewise; they are read once, without a copy.
    mask : ndarray (side, side) of bool
        Pixels to use.

    Returns
    -------
    ndarray (k,)
        Correlation coefficients; 0 for an empty stamp.
    """
    n = max(int(mask.sum()), 1)
    vector = np.where(mask, np.nan_to_num(target), 0).astype(np.float32)
    # with the target of zero mean, the means of the stamps do not enter their products with it
    vector = np.where(mask, vector - vector.sum(dtype=float) / n, 0).astype(np.float32)
    flat = stamps.reshape(len(stamps), target.size)
    sums = _sums(flat, vector.ravel(), mask.ravel().astype(np.float32))
    # the fast sums assume finite pixels; the few stamps with others are summed again
    for i in np.flatnonzero(~np.isfinite(sums).all(axis=1)):
        clean = np.where(mask.ravel() & np.isfinite(flat[i]), flat[i], 0).astype(float)
        sums[i] = clean.sum(), clean @ clean, clean @ vector.ravel()
    power = np.maximum(sums[:, 1] - sums[:, 0] ** 2 / n, 0) * np.dot(vector.ravel(), vector.ravel())
    found: Float64Array = np.divide(sums[:, 2], np.sqrt(power), out=np.zeros(len(sums)), where=power > 0)
    return found


@njit(cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _sums(stamps, target, weight):  # type: ignore[no-untyped-def]
    """Sums of the weighted pixels of each stamp, of their squares, and of their products with the target."""
    out = np.empty((len(stamps), 3))
    for i in range(0, len(stamps), 2):
        k = min(i + 1, len(stamps) - 1)  # two at a time: memory answers two requests faster than one after the other
        total = squares = products = other_total = other_squares = other_products = np.float32(0)
        for j in range(stamps.shape[1]):
            value, other = stamps[i, j] * weight[j], stamps[k, j] * weight[j]
            total, other_total = total + value, other_total + other
            squares, other_squares = squares + value * value, other_squares + other * other
            products, other_products = products + value * target[j], other_products + other * target[j]
        out[i, 0], out[i, 1], out[i, 2] = total, squares, products
        out[k, 0], out[k, 1], out[k, 2] = other_total, other_squares, other_products
    return out


def best_correlated(target: FloatArray, stamps: Float32Array, mask: BoolArray, most: int) -> IndexArray:
    """Return the stamps best correlated with a target.

    Parameters
    ----------
    target : ndarray (side, side)
        Stamp.
    stamps : ndarray (k, side, side) float32
        Other stamps.
    mask : ndarray (side, side) of bool
        Pixels to use.
    most : int
        Largest number of stamps.

    Returns
    -------
    ndarray (m,) of int
        Numbers of the stamps, best first, without empty ones; see :func:`correlations`.
    """
    correlation = correlations(target, stamps, mask)
    order = np.argsort(-correlation, kind="stable")
    chosen: IndexArray = order[correlation[order] != 0][:most]
    return chosen


@dataclass(frozen=True)
class References:
    """Reference stamps for a subtraction.

    Parameters
    ----------
    stamps : ndarray (k, side, side)
        Centred references; pixels that are not finite count as zero.
    mask : ndarray (side, side) of bool
        Region in which the target is subtracted.
    beyond : ndarray (side, side) of bool, optional
        Region that no reference reaches, in which the target stays as it is.
    """

    stamps: Float32Array
    mask: BoolArray
    beyond: BoolArray | None = None

    @property
    def radius_px(self) -> float:
        """Radius of the region in which the target is subtracted [pixel]."""
        return float(radii(len(self.mask))[self.mask].max(initial=0.0))

    @cached_property
    def vectors(self) -> Float32Array:
        """Pixels within the mask, each reference without its mean, shape (k, p)."""
        flat = np.ascontiguousarray(self.stamps, np.float32).reshape(len(self.stamps), -1)
        edges = np.flatnonzero(np.diff(self.mask.ravel(), prepend=False, append=False))
        chosen: Float32Array = np.empty((len(flat), np.count_nonzero(self.mask)), np.float32)
        # the means tell whether any pixel is not finite, without a pass of its own
        if not _centred(flat, edges, chosen):
            _centred(np.nan_to_num(flat), edges, chosen)
        return chosen

    def vector_of(self, target: FloatArray) -> Float32Array:
        """Return the pixels of a stamp within the mask, without their mean, shape (p,)."""
        pixels = np.nan_to_num(np.asarray(target, np.float32)[self.mask])
        vector: Float32Array = pixels - pixels.mean()
        return vector

    def components(self) -> "Components":
        """Return the principal components of the references."""
        n = len(self.vectors)
        # of the Gram matrix (k, k): with fewer references than pixels much smaller than the covariance
        values, vectors = linalg.eigh(_gram(self.vectors), subset_by_index=[max(n - MAX_COMPONENTS, 0), n - 1])
        order = np.argsort(-values)
        strong = order[values[order] > RELATIVE_EIGENVALUE * max(values.max(initial=0.0), 1e-300)]
        return Components(self, values[strong], vectors[:, strong])


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def _centred(stamps, edges, chosen):  # type: ignore[no-untyped-def]
    """Copy the pixels between pairs of edges of each stamp, without their mean; false if one is not finite."""
    for i in range(len(stamps)):
        stamp, made, n = stamps[i], chosen[i], 0
        for k in range(0, edges.size, 2):
            run = stamp[edges[k] : edges[k + 1]]
            made[n : n + run.size] = run
            n += run.size
        total = 0.0
        for j in range(n):
            total += made[j]
        if not np.isfinite(total):
            return False
        mean = np.float32(total / max(n, 1))
        for j in range(n):
            made[j] -= mean
    return True


@njit(cache=True)
def _without_common(vectors, start, share, common, rest):  # type: ignore[no-untyped-def]
    """Make `rest`, the pixels of the vectors from `start` on without their share of what is common."""
    for i in range(len(vectors)):
        vector, made, part = vectors[i, start : start + rest.shape[1]], rest[i], share[i]
        for j in range(made.size):
            made[j] = vector[j] - part * common[j]


def _gram(vectors: Float32Array) -> Float64Array:
    """Return the products (k, k) of all vectors (k, p) with each other, in single precision block by block.

    What is common to them, by far the largest part, is removed first: its rounding errors would be as large as the
    differences between the vectors. The mean of some of them shows it as well as that of all.
    """
    n = len(vectors)
    common = vectors[:: max(1, n // WITNESSES)].mean(axis=0)
    power = max(float(np.dot(common, common)), float(np.finfo(np.float32).tiny))
    blocks = [slice(start, start + BLOCK) for start in range(0, vectors.shape[1], BLOCK)]
    share = sum((vectors[:, block] @ common[block] for block in blocks), np.zeros(n)) / power
    share = share.astype(np.float32)
    products, cross = np.zeros((n, n)), np.zeros(n)
    rest = np.empty((n, BLOCK), np.float32)
    for block in blocks:
        if block.start + BLOCK > vectors.shape[1]:
            rest = np.empty((n, vectors.shape[1] - block.start), np.float32)
        _without_common(vectors, block.start, share, common[block], rest)
        products += rest @ rest.T
        cross += rest @ common[block]
    mixed = np.outer(share, cross)
    return products + mixed + mixed.T + power * np.outer(share, share.astype(float))


@dataclass(frozen=True)
class Components:
    """Principal components of references, strongest first.

    Parameters
    ----------
    references : References
        Stamps of which these are the components.
    values : ndarray (m,)
        Eigenvalues of the Gram matrix of the references.
    weights : ndarray (k, m)
        Eigenvectors of the Gram matrix.
    """

    references: References
    values: Float64Array
    weights: Float64Array

    def subtract(self, target: FloatArray, counts: Sequence[int]) -> Float32Array:
        """Subtract the projection of a target on the first components.

        Parameters
        ----------
        target : ndarray (side, side) or (n, side, side)
            Stamp, or several; pixels that are not finite count as zero.
        counts : sequence of int
            Numbers of components.

        Returns
        -------
        ndarray (len(counts), side, side) or (len(counts), n, side, side)
            Residuals; NaN outside of the mask and of what is beyond.
        """
        stamps = np.asarray(target, np.float32)
        many = stamps.reshape(-1, *stamps.shape[-2:])
        pixels = np.stack([self.references.vector_of(stamp) for stamp in many])
        # components are never made: projections on references, combined by the eigenvectors, need less memory
        projections = self._onto(pixels) / self.values[:, np.newaxis]
        out = np.full((len(counts), *many.shape), np.nan, np.float32)
        if (beyond := self.references.beyond) is not None:
            out[:, :, beyond] = many[:, beyond]
        for number, count in enumerate(counts):
            coefficients = self.weights[:, :count] @ projections[:count]
            out[number][:, self.references.mask] = pixels - coefficients.T.astype(np.float32) @ self.references.vectors
        return out.reshape(len(counts), *stamps.shape)

    def throughput(self, apertures: FloatArray, stamps: FloatArray, counts: Sequence[int]) -> Float64Array:
        """Compute the throughput: the flux in apertures after :meth:`subtract`, without computing the residuals.

        Parameters
        ----------
        apertures : ndarray (n, side, side)
            Weights of the pixels, for each stamp.
        stamps : ndarray (n, side, side)
            Stamps from which the star is subtracted.
        counts : sequence of int
            Numbers of components.

        Returns
        -------
        ndarray (len(counts), n)
            Fluxes [unit of the stamps].
        """
        pixels = np.stack([self.references.vector_of(stamp) for stamp in stamps])
        weights = np.ascontiguousarray(apertures[:, self.references.mask], np.float32)
        whole = np.einsum("ij,ij->i", weights, pixels, dtype=float)
        if self.references.beyond is not None:
            seen = apertures.any(axis=0) & self.references.beyond
            whole += np.sum(apertures[:, seen] * stamps[:, seen], axis=1, dtype=float)
        # each component removes its own share: a running sum serves all numbers of components
        own = np.flatnonzero(weights.any(axis=0))
        onto = self.weights.T @ (self.references.vectors[:, own] @ weights[:, own].T)
        removed = np.cumsum(onto * self._onto(pixels) / self.values[:, np.newaxis], axis=0)
        left: Float64Array = whole - removed[np.asarray(counts, int) - 1]
        return left

    def _onto(self, pixels: Float32Array) -> Float64Array:
        """Return projections (m, n) of vectors (n, p) on the components, times the square root of the eigenvalues."""
        vectors = self.references.vectors
        total = np.zeros((len(vectors), len(pixels)))
        for start in range(0, pixels.shape[1], BLOCK):
            total += vectors[:, start : start + BLOCK] @ pixels[:, start : start + BLOCK].T
        return self.weights.T @ total


def subtraction_mask(target: FloatArray, inner_px: float) -> BoolArray:
    """Return the region in which a star can be subtracted: outside of its core, where the stamp is known.

    Parameters
    ----------
    target : ndarray (side, side)
        Stamp, the star in the centre.
    inner_px : float
        Radius of the core that is excluded [pixel].

    Returns
    -------
    ndarray (side, side) of bool
        True where the star is subtracted.
    """
    radius = radii(len(target))
    return np.isfinite(target) & (radius >= inner_px) & (radius <= len(target) // 2)


def candidate_counts(n_references: int) -> list[int]:
    """Return the numbers of components to try with a number of references."""
    steps = [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30, 40, 50, MAX_COMPONENTS]
    return [count for count in steps if count <= n_references]

"""Subtraction of a star with reference PSFs: stamps, their ranking by correlation, and KLIP.

KLIP is principal component analysis of the references (Soummer, Pueyo & Larkin 2012, ApJ 755, L28; Amara & Quanz
2012, MNRAS 427, 948). With references of other stars the components do not depend on the target: the residual is
linear in it, and so what becomes of a companion is known exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import linalg, ndimage

from obsarchive.errors import Unprocessable
from obsarchive.science.registration.subpixel_peaks import star_near

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

STAMP_SIDE = 201
"""Side of a stamp [pixel]: a radius of 1.7 arcsec on the drizzled grid of Robo-AO at a 2 m telescope."""
REACH_PX = 6
"""The peak is looked for so far from where it should be [pixel]."""
FLUX_RADIUS = 0.25
"""Radius of the aperture in which a stamp has flux 1, in sides of the stamp."""
LEAST_COVERAGE = 0.5
"""Part of a stamp that must lie within the image."""
MAX_COMPONENTS = 60
BLOCK = 8192
"""Pixels whose products are added in single precision."""
RELATIVE_EIGENVALUE = 1e-7
"""Components weaker than this, relative to the strongest, are rounding errors."""


def cut_stamp(image: NDArray, centre_yx: tuple[float, float], side: int = STAMP_SIDE) -> Image:
    """Cut a star out of an image: on the central pixel, without background, flux 1.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Stack of a star.
    centre_yx : (float, float)
        The star, good to a few pixels: its peak is looked for around it [pixel].
    side : int
        Odd side of the stamp [pixel].

    Returns
    -------
    ndarray (side, side)
        NaN outside of the image.

    Raises
    ------
    Unprocessable
        There is no light, or the star lies too close to the edge of the image.
    """
    filled = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    y, x = star_near(filled, _within_image(centre_yx, filled.shape), REACH_PX)
    half = side // 2
    grid = np.arange(-half, half + 1, dtype=float)
    rows, columns = y + grid, x + grid
    inside = np.outer(_within(rows, image.shape[0]), _within(columns, image.shape[1]))
    if inside.mean() < LEAST_COVERAGE:
        raise Unprocessable(f"the star at ({y:.0f}, {x:.0f}) lies too close to the edge of the image {image.shape}")
    # a margin for the spline, so that not the whole image is filtered
    y0, x0 = max(int(rows[0]) - 12, 0), max(int(columns[0]) - 12, 0)
    part = filled[y0 : int(rows[-1]) + 13, x0 : int(columns[-1]) + 13]
    stamp = ndimage.map_coordinates(part, np.meshgrid(rows - y0, columns - x0, indexing="ij"), order=3, mode="nearest")
    radius = radii(side)
    stamp -= _background(filled, (y, x), half, stamp[inside & (radius > 0.9 * half)])
    flux = float(stamp[inside & (radius <= FLUX_RADIUS * side)].sum())
    if not flux > 0:
        raise Unprocessable("no light where the star should be: nothing to subtract")
    return np.where(inside, stamp / flux, np.nan).astype(np.float32)


def radii(side: int) -> NDArray[np.float64]:
    """Distance of every pixel from the central one, shape (side, side) [pixel]."""
    half = side // 2
    return np.hypot(*np.ogrid[-half : half + 1, -half : half + 1])


def _within_image(place: tuple[float, float], shape: tuple[int, ...]) -> tuple[float, float]:
    y, x = (float(np.clip(c, 0, n - 1)) for c, n in zip(place, shape, strict=True))
    return y, x


def _within(positions: NDArray, n: int) -> Mask:
    return (positions >= 0) & (positions <= n - 1)


def _background(image: Image, centre: tuple[float, float], half: int, rim: NDArray) -> float:
    """Level of the sky: median beyond the stamp where the image has room, else at the stamp's rim."""
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    beyond = image[(np.hypot(y - centre[0], x - centre[1]) > half) & (image != 0)]
    values = beyond if beyond.size > rim.size else rim
    return float(np.median(values)) if values.size else 0.0


def correlations(target: NDArray, stamps: Image, mask: Mask) -> NDArray[np.float64]:
    """Pearson correlation of a stamp with many others.

    Parameters
    ----------
    target : ndarray (side, side)
        Stamp; pixels that are not finite count as zero.
    stamps : ndarray (k, side, side) float32
        Others, likewise; they are read once, without a copy.
    mask : ndarray (side, side) of bool
        Pixels that count.

    Returns
    -------
    ndarray (k,)
        0 for an empty stamp.
    """
    n = max(int(mask.sum()), 1)
    vector = np.where(mask, np.nan_to_num(target), 0).astype(np.float32)
    vector = np.where(mask, vector - vector.sum(dtype=float) / n, 0).astype(np.float32)
    flat = stamps.reshape(len(stamps), target.size)
    sums = _sums(flat, vector.ravel(), mask.ravel().astype(np.float32))
    for i in np.flatnonzero(~np.isfinite(sums).all(axis=1)):
        clean = np.where(mask.ravel() & np.isfinite(flat[i]), flat[i], 0).astype(float)
        sums[i] = clean.sum(), clean @ clean, clean @ vector.ravel()
    power = np.maximum(sums[:, 1] - sums[:, 0] ** 2 / n, 0) * np.dot(vector.ravel(), vector.ravel())
    return np.divide(sums[:, 2], np.sqrt(power), out=np.zeros(len(sums)), where=power > 0)


@njit(cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _sums(stamps, target, weight):  # type: ignore[no-untyped-def]
    """Sums of the weighted pixels of each stamp, of their squares, and of their products with the target."""
    out = np.empty((len(stamps), 3))
    for i in range(len(stamps)):
        total, squares, products = np.float32(0), np.float32(0), np.float32(0)
        stamp = stamps[i]
        for j in range(stamps.shape[1]):
            value = stamp[j] * weight[j]
            total += value
            squares += value * value
            products += value * target[j]
        out[i, 0], out[i, 1], out[i, 2] = total, squares, products
    return out


def best_correlated(target: NDArray, stamps: Image, mask: Mask, most: int) -> NDArray[np.intp]:
    """Numbers of the stamps that resemble a target most, best first; empty ones never (:func:`correlations`)."""
    correlation = correlations(target, stamps, mask)
    order = np.argsort(-correlation, kind="stable")
    return order[correlation[order] != 0][:most]


@dataclass(frozen=True)
class References:
    """Reference stamps ready for subtraction.

    Parameters
    ----------
    stamps : ndarray (k, side, side)
        Centred references; pixels that are not finite count as zero.
    mask : ndarray (side, side) of bool
        Where the target is subtracted.
    """

    stamps: Image
    mask: Mask

    @cached_property
    def vectors(self) -> Image:
        """Pixels within the mask, each reference without its mean, shape (k, p)."""
        chosen = self.stamps.reshape(len(self.stamps), -1).take(np.flatnonzero(self.mask), axis=1, mode="clip")
        means = chosen.mean(axis=1, keepdims=True)
        if not np.isfinite(means).all():
            chosen = np.nan_to_num(chosen)
            means = chosen.mean(axis=1, keepdims=True)
        chosen -= means
        return chosen

    def vector_of(self, target: NDArray) -> Image:
        """Pixels of a stamp within the mask, without their mean."""
        vector = np.nan_to_num(np.asarray(target, np.float32)[self.mask])
        return vector - vector.mean()

    def components(self) -> "Components":
        """Principal components of the references."""
        n = len(self.vectors)
        values, vectors = linalg.eigh(_gram(self.vectors), subset_by_index=[max(n - MAX_COMPONENTS, 0), n - 1])
        order = np.argsort(-values)
        strong = order[values[order] > RELATIVE_EIGENVALUE * max(values.max(initial=0.0), 1e-300)]
        return Components(self, values[strong], vectors[:, strong])


def _gram(vectors: Image) -> NDArray[np.float64]:
    """Products of all vectors (k, p) with each other, in single precision block by block.

    What all have in common, by far the largest part, is taken out first: its rounding errors would be as large as what
    tells the vectors apart.
    """
    n = len(vectors)
    common = vectors.mean(axis=0)
    power = max(float(np.dot(common, common)), float(np.finfo(np.float32).tiny))
    blocks = [slice(start, start + BLOCK) for start in range(0, vectors.shape[1], BLOCK)]
    share = sum((vectors[:, block] @ common[block] for block in blocks), np.zeros(n)) / power
    share = share.astype(np.float32)
    products, cross = np.zeros((n, n)), np.zeros(n)
    for block in blocks:
        rest = vectors[:, block] - share[:, np.newaxis] * common[block]
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
        What they are components of.
    values : ndarray (m,)
        Eigenvalues of the references' Gram matrix.
    weights : ndarray (k, m)
        Its eigenvectors.
    """

    references: References
    values: NDArray[np.float64]
    weights: NDArray[np.float64]

    def subtract(self, target: NDArray, counts: Sequence[int]) -> Image:
        """Subtract the projection of a target on the first components.

        Parameters
        ----------
        target : ndarray (side, side) or (n, side, side)
            Stamp, or several; pixels that are not finite stay so.
        counts : sequence of int
            Numbers of components.

        Returns
        -------
        ndarray (len(counts), side, side) or (len(counts), n, side, side)
            Residuals; NaN outside of the mask.
        """
        stamps = np.asarray(target, np.float32)
        many = stamps.reshape(-1, *stamps.shape[-2:])
        pixels = np.stack([self.references.vector_of(stamp) for stamp in many])
        projections = self._onto(pixels) / self.values[:, np.newaxis]
        out = np.full((len(counts), *many.shape), np.nan, np.float32)
        for number, count in enumerate(counts):
            coefficients = self.weights[:, :count] @ projections[:count]
            out[number][:, self.references.mask] = pixels - coefficients.T.astype(np.float32) @ self.references.vectors
        return out.reshape(len(counts), *stamps.shape)

    def throughput(self, apertures: NDArray, stamps: NDArray, counts: Sequence[int]) -> NDArray[np.float64]:
        """Flux that the subtraction leaves in an aperture: as of :meth:`subtract`, without making the residuals.

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
        """
        pixels = np.stack([self.references.vector_of(stamp) for stamp in stamps])
        weights = np.ascontiguousarray(apertures[:, self.references.mask], np.float32)
        whole = np.einsum("ij,ij->i", weights, pixels, dtype=float)
        removed = np.cumsum(self._onto(weights) * self._onto(pixels) / self.values[:, np.newaxis], axis=0)
        return whole - removed[np.asarray(counts, int) - 1]

    def _onto(self, pixels: Image) -> NDArray[np.float64]:
        """Projections (m, n) of vectors (n, p) on the components, times the root of the eigenvalues."""
        vectors = self.references.vectors
        total = np.zeros((len(vectors), len(pixels)))
        for start in range(0, pixels.shape[1], BLOCK):
            total += vectors[:, start : start + BLOCK] @ pixels[:, start : start + BLOCK].T
        return self.weights.T @ total


def subtraction_mask(target: NDArray, inner_px: float) -> Mask:
    """Where a star can be subtracted: outside of its core, and where the stamp is known.

    Parameters
    ----------
    target : ndarray (side, side)
        Stamp, the star in the centre.
    inner_px : float
        Radius of the core that is left out [pixel].

    Returns
    -------
    ndarray (side, side) of bool
    """
    radius = radii(len(target))
    return np.isfinite(target) & (radius >= inner_px) & (radius <= len(target) // 2)


def candidate_counts(n_references: int) -> list[int]:
    """Numbers of components worth trying with so many references."""
    steps = [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30, 40, 50, MAX_COMPONENTS]
    return [count for count in steps if count <= n_references]

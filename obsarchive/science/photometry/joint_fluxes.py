"""Fluxes of all stars of an image at once, by least squares near each star, with the light of all its neighbours."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from obsarchive.science.arrays import Float64Array, FloatArray, IndexArray
from obsarchive.science.photometry.star_profile import StarProfile, value_of

WITHIN_FWHM = 1.5
"""Radius of the pixels that tell the flux of a star [FWHM]."""
LEAST_LIGHT = 0.05
"""Least light in the good pixels of a star, weighted by the profile, over that of all its pixels, to measure it."""
LEAST_SHARED = 0.1
"""Least light that a neighbour shares with a star, over its own, for the error of its flux to count."""
CLIP_SIGMA, PROFILE_SHARE = 6.0, 0.2
"""Residuals of so many sigma, and such a share of the model, are not those of stars."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Pixels, and what is known of them.

    Parameters
    ----------
    image, variance : ndarray (ny, nx)
        Pixels and their variance; NaN and saturated ones do not count.
    model : ndarray (ny, nx)
        Light of all stars as known before, by which outliers are recognised; zeros: nothing is rejected.
    saturation : float
        Level at and above which a pixel is saturated.
    """

    image: FloatArray
    variance: FloatArray
    model: FloatArray
    saturation: float


def owners(places: tuple[FloatArray, FloatArray], flux: FloatArray, apart_px: float) -> IndexArray:
    """Return the number of the star to which the light of each belongs: a brighter one that is not resolved, or itself.

    Parameters
    ----------
    places : (ndarray (n,), ndarray (n,))
        Positions (y, x) [pixel].
    flux : ndarray (n,)
        Approximate fluxes.
    apart_px : float
        Separation from which stars are resolved [pixel].

    Returns
    -------
    ndarray (n,) of int
        Each owner owns itself.
    """
    found = np.arange(len(flux))
    pairs = cKDTree(np.stack(places, axis=1)).query_pairs(apart_px, output_type="ndarray")
    order = np.argsort(-np.nan_to_num(flux), kind="stable")
    rank = np.empty(len(flux), int)
    rank[order] = np.arange(len(flux))
    pairs = np.take_along_axis(pairs, np.argsort(rank[pairs], axis=1), axis=1)
    for bright, faint in pairs[np.lexsort(rank[pairs].T)]:
        if found[bright] == bright and found[faint] == faint:
            found[faint] = bright
    return found


def joint_fluxes(
    pixels: Surroundings, places: tuple[FloatArray, FloatArray], sky: FloatArray, profile: StarProfile, fwhm_px: float
) -> tuple[Float64Array, Float64Array]:
    """Return the fluxes of stars and their standard errors; 0 and 0 where the image does not show the star.

    Parameters
    ----------
    pixels : Surroundings
        The image.
    places : (ndarray (n,), ndarray (n,))
        Positions (y, x) of resolved stars [pixel].
    sky : ndarray (n,)
        Level of the sky at each star.
    profile : StarProfile
        Light of a star of flux 1.
    fwhm_px : float
        FWHM of the stars [pixel].

    Returns
    -------
    flux, error : ndarray (n,)
        In units of the profile; the error is that of the noise, and of what neighbours share with the star.
    """
    centres, within = np.array(places, np.float64), WITHIN_FWHM * fwhm_px
    tree = cKDTree(centres.T)
    near = tree.query_pairs(profile.reach_px + within, output_type="ndarray")
    one, other = np.concatenate([near, near[:, ::-1]]).T
    order = np.argsort(one, kind="stable")
    one, other = one[order], other[order]
    edges = np.searchsorted(one, np.arange(centres.shape[1] + 1))
    products, right, own, noise, share = _products(
        (pixels.image, pixels.variance, pixels.model, pixels.saturation),
        np.vstack([centres, sky]),
        (edges, other),
        (profile.table, profile.reach_px, within),
    )
    seen = share > LEAST_LIGHT
    flux, error = np.zeros(len(right)), np.zeros(len(right))
    row = np.cumsum(seen) - 1
    kept = seen[one] & seen[other]
    n = int(seen.sum())
    matrix = sparse.csc_matrix((products[kept], (row[one[kept]], row[other[kept]])), (n, n))
    matrix = matrix + sparse.diags(own[seen], format="csc")
    flux[seen] = splu(matrix).solve(right[seen])
    error[seen] = np.sqrt(noise * _inverse_diagonal(products, own, edges, other))[seen]
    return flux, error


@njit(cache=True)
def _inverse_diagonal(products, own, edges, other):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Diagonal of the inverse of the products, each element from a star and the neighbours that share most with it."""
    found = np.zeros(len(own))
    for i in range(len(own)):
        if own[i] <= 0.0:
            continue
        block = [i]
        for k in range(edges[i], edges[i + 1]):
            if own[other[k]] > 0.0 and products[k] > LEAST_SHARED * own[i]:
                block.append(other[k])
        unit = np.zeros(len(block))
        unit[0] = 1.0
        found[i] = max(np.linalg.solve(_block(products, own, (edges, other), block), unit)[0], 1 / own[i])
    return found


@njit(cache=True)
def _block(products, own, neighbours, block):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Products of the profiles of some stars with each other."""
    (edges, other), size = neighbours, len(block)
    found = np.zeros((size, size))
    for a in range(size):
        found[a, a] = own[block[a]]
        for k in range(edges[block[a]], edges[block[a] + 1]):
            for b in range(size):
                if block[b] == other[k]:
                    found[a, b] = products[k]
    return found


@njit(cache=True)
def _products(pixels, stars, neighbours, profile):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Products of the profile of each star with those of its neighbours, the image and itself, in its good pixels.

    Also the variance of the product with the image over the last, and the share of its light that is in good pixels.
    """
    edges, other = neighbours
    table, reach, within = profile
    n, reach2 = stars.shape[1], reach * reach
    products = np.zeros(len(other))
    right, own, noise, share = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    for i in range(n):
        (y, x, level), whole = stars[:, i], 0.0
        for row in range(int(np.floor(y - within)) + 1, int(np.floor(y + within)) + 1):
            wide = np.sqrt(max(within * within - (row - y) ** 2, 0.0))
            for column in range(int(np.floor(x - wide)) + 1, int(np.floor(x + wide)) + 1):
                light = value_of(table, reach2, row - y, column - x)
                whole += light * light
                if not _is_good(pixels, row, column, level):
                    continue
                right[i] += light * (pixels[0][row, column] - level)
                own[i] += light * light
                noise[i] += light * light * pixels[1][row, column]
                for k in range(edges[i], edges[i + 1]):
                    j = other[k]
                    products[k] += light * value_of(table, reach2, row - stars[0, j], column - stars[1, j])
        if own[i] > 0.0:
            noise[i], share[i] = noise[i] / own[i], own[i] / whole
    return products, right, own, noise, share


@njit(cache=True)
def _is_good(pixels, row, column, level):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Whether a pixel is on the image, has a value, and shows what the model expects."""
    image, variance, model, saturation = pixels
    if row < 0 or column < 0 or row >= image.shape[0] or column >= image.shape[1]:
        return False
    value, expected = image[row, column], model[row, column]
    if not np.isfinite(value) or value >= saturation:
        return False
    limit = CLIP_SIGMA * np.sqrt(variance[row, column]) + PROFILE_SHARE * abs(expected)
    return expected == 0.0 or abs(value - level - expected) <= limit

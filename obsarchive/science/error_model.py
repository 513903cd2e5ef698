"""Errors that tell what the scatter is: what photon noise leaves out is learnt from the stars themselves."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from obsarchive.science.robust import median_of_known

Floats = NDArray[np.float64]

LEAST_FRAMES, LEAST_STARS = 5, 10
FACTOR_RANGE = (0.8, 2.0)
MAX_FLOOR_MAG, MAX_CROWDING = 0.05, 0.5
FAINT, BRIGHT = (0.02, 0.2), 0.005
"""Relative errors of stars that tell the factor, and below which they tell the floor."""
CROWDED = 3.0
"""Light of neighbours, in units of a star's error, from which on a star is crowded."""
NEIGHBOURS_FWHM = 4.0
CHI2_MEDIAN_SHORT = 2 / 9
"""Wilson & Hilferty (1931, PNAS 17, 684): the median of chi-square with k degrees of freedom is k (1 - 2 / 9k)^3."""
POGSON = 2.5 / np.log(10)


@dataclass(frozen=True)
class ErrorModel:
    """Errors as they should be: a factor times the computed ones; a floor and a share of the neighbours' light beside.

    Compare Yee et al. (2012, ApJ 755, 102).

    Parameters
    ----------
    factor : float
        Of the computed errors.
    floor_mag : float
        What flat fields and scintillation add [mag].
    crowding : float
        By how much the neighbours' light in the aperture changes with the seeing, as a share of it.
    """

    factor: float = 1.0
    floor_mag: float = 0.0
    crowding: float = 0.0

    def applied(self, flux: Floats, error: Floats, neighbours: Floats) -> Floats:
        """Return errors as they should be (n_stars, n_frames).

        Parameters
        ----------
        flux, error : ndarray (n_stars, n_frames)
            Fluxes and computed errors.
        neighbours : ndarray (n_stars,)
            Light of the neighbours in the aperture.
        """
        beside = np.hypot(flux * self.floor_mag / POGSON, self.crowding * neighbours[:, np.newaxis])
        return np.asarray(np.hypot(self.factor * error, beside))


def neighbour_light(stars: tuple[NDArray, NDArray], flux: NDArray, radius_px: float, fwhm_px: float) -> Floats:
    """Return how much light of its neighbours falls into the aperture of each star, roughly.

    Parameters
    ----------
    stars : (y, x)
        Places [pixel].
    flux : ndarray (n,)
        Light of the stars.
    radius_px, fwhm_px : float
        Of the aperture and of the stars' images, taken as Moffat profiles of exponent 3 [pixel].
    """
    y, x = stars
    light = np.where(np.isfinite(flux), np.maximum(flux, 0.0), 0.0)
    found = np.zeros(len(y))
    placed = np.flatnonzero(np.isfinite(y) & np.isfinite(x))
    tree = cKDTree(np.stack([y[placed], x[placed]], axis=1))
    pairs = placed[tree.query_pairs(radius_px + NEIGHBOURS_FWHM * fwhm_px, output_type="ndarray")]
    alpha2 = fwhm_px**2 / 4 / (2 ** (1 / 3) - 1)
    distance2 = (y[pairs[:, 0]] - y[pairs[:, 1]]) ** 2 + (x[pairs[:, 0]] - x[pairs[:, 1]]) ** 2
    share = np.minimum(2 * radius_px**2 / alpha2 * (1 + distance2 / alpha2) ** -3.0, 1.0)
    np.add.at(found, pairs[:, 0], share * light[pairs[:, 1]])
    np.add.at(found, pairs[:, 1], share * light[pairs[:, 0]])
    return found


def fit_error_model(flux: Floats, error: Floats, usable: NDArray[np.bool_], neighbours: Floats) -> ErrorModel:
    """Find the errors with which most stars scatter as constant ones do; lonely stars first, then crowded ones.

    Parameters
    ----------
    flux, error : ndarray (n_stars, n_frames)
        On one scale.
    usable : ndarray (n_stars, n_frames)
        Measurements without a flag.
    neighbours : ndarray (n_stars,)
        Light of the neighbours, see :func:`neighbour_light`.
    """
    good = usable & np.isfinite(flux) & (error > 0)
    enough = good.sum(axis=1) >= LEAST_FRAMES
    if flux.shape[1] < LEAST_FRAMES or enough.sum() < LEAST_STARS:
        return ErrorModel()
    flux, error, good, neighbours = flux[enough], error[enough], good[enough], neighbours[enough]
    typical = median_of_known(np.where(good, error, np.nan), 1)
    relative = np.where(
        (level := median_of_known(np.where(good, flux, np.nan), 1)) > 0, typical / np.maximum(level, 1e-30), np.inf
    )
    crowd = neighbours / typical
    lonely = crowd <= max(1.0, float(np.sort(crowd)[min(2 * LEAST_STARS, len(crowd)) - 1]))
    model = ErrorModel()
    faint = lonely & (relative > FAINT[0]) & (relative < FAINT[1])
    if faint.sum() >= LEAST_STARS:
        chi2 = np.median(reduced_chi2(flux[faint], error[faint], good[faint], of_median=True))
        model = ErrorModel(float(np.clip(np.sqrt(chi2), *FACTOR_RANGE)))
    best = np.sort(relative[lonely])[min(LEAST_STARS, int(lonely.sum())) - 1]
    bright = lonely & (relative <= max(BRIGHT, float(best)))
    model = _raised(model, "floor_mag", MAX_FLOOR_MAG, (flux[bright], error[bright], good[bright], neighbours[bright]))
    crowded = crowd > CROWDED
    if crowded.sum() >= LEAST_STARS:
        some = flux[crowded], error[crowded], good[crowded], neighbours[crowded]
        model = _raised(model, "crowding", MAX_CROWDING, some)
    return model


def _raised(
    model: ErrorModel, name: str, largest: float, stars: tuple[Floats, Floats, NDArray[np.bool_], Floats]
) -> ErrorModel:
    """Raise one part of the errors until the median star scatters as they say."""
    flux, error, good, neighbours = stars

    def chi2(value: float) -> float:
        errors = replace(model, **{name: value}).applied(flux, error, neighbours)
        return float(np.median(reduced_chi2(flux, errors, good, of_median=True)))

    low, high = 0.0, largest
    if chi2(low) <= 1.0:
        return model
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if chi2(middle) > 1.0 else (low, middle)
    return replace(model, **{name: high})


def reduced_chi2(flux: Floats, error: Floats, good: NDArray[np.bool_], of_median: bool = False) -> Floats:
    """Return each star's reduced chi-square about its weighted mean (n_stars,).

    `of_median`: divided by what the median of constant stars is, which is less than 1 when there are few frames.
    """
    weight = np.where(good, 1 / np.maximum(error, 1e-30) ** 2, 0.0)
    value = np.where(good, flux, 0.0)
    mean = (weight * value).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-30)
    freedom = np.maximum(good.sum(axis=1) - 1, 1)
    found = (weight * (value - mean[:, np.newaxis]) ** 2).sum(axis=1) / freedom
    return found / (1 - CHI2_MEDIAN_SHORT / freedom) ** 3 if of_median else found

"""Errors that tell what the scatter is: what photon noise leaves out is learnt from the stars themselves."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from obsarchive.science.statistics import median_of_known

Floats = NDArray[np.float64]

LEAST_FRAMES, LEAST_STARS = 5, 10
STARS_PER_LEVEL, MOST_LEVELS = 25, 12
FACTOR_RANGE = (0.8, 4.0)
CHI2_MEDIAN_SHORT = 2 / 9
"""Wilson & Hilferty (1931, PNAS 17, 684): the median of chi-square with k degrees of freedom is k (1 - 2 / 9k)^3."""


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """By what computed errors are multiplied, from bright stars to faint ones.

    Flat fields and scintillation raise the errors of bright stars, neighbours those of all.

    Parameters
    ----------
    log_flux : ndarray (k,)
        Natural logarithms of fluxes, rising.
    factor : ndarray (k,)
        Factors there.
    """

    log_flux: Floats = field(default_factory=lambda: np.zeros(1))
    factor: Floats = field(default_factory=lambda: np.ones(1))

    def applied(self, flux: Floats, error: Floats) -> Floats:
        """Return errors as they should be."""
        level = np.log(np.where(flux > 0, flux, 1e-30))
        return np.asarray(error * np.interp(level, self.log_flux, self.factor))

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest factor."""
        return float(self.factor.min()), float(self.factor.max())


def fit_error_model(flux: Floats, error: Floats, usable: NDArray[np.bool_]) -> ErrorModel:
    """Find the errors with which, at every brightness, the median star scatters as a constant one does.

    Parameters
    ----------
    flux, error : ndarray (n_stars, n_frames)
        On one scale.
    usable : ndarray (n_stars, n_frames)
        Measurements without a flag.
    """
    good = usable & np.isfinite(flux) & (error > 0)
    level = median_of_known(np.where(good, flux, np.nan), 1)
    chosen = np.flatnonzero((good.sum(axis=1) >= min(LEAST_FRAMES, flux.shape[1])) & (level > 0))
    if flux.shape[1] < LEAST_FRAMES or len(chosen) < LEAST_STARS:
        return ErrorModel()
    chosen = chosen[np.argsort(level[chosen])]
    chi2 = reduced_chi2(flux[chosen], error[chosen], good[chosen], of_median=True)
    n_levels = int(np.clip(len(chosen) // STARS_PER_LEVEL, 1, MOST_LEVELS))
    parts = np.array_split(np.arange(len(chosen)), n_levels)
    factors = [np.clip(np.sqrt(np.median(chi2[part])), *FACTOR_RANGE) for part in parts]
    return ErrorModel(np.array([np.log(np.median(level[chosen[part]])) for part in parts]), np.array(factors))


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

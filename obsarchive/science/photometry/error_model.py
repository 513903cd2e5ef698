"""Error model: rescaling of photometric errors by the observed scatter of constant stars."""

from dataclasses import dataclass, field

import numpy as np

from obsarchive.science.arrays import BoolArray, Float64Array
from obsarchive.science.statistics import median_of_all, median_of_known

LEAST_FRAMES, LEAST_STARS = 5, 10
STARS_PER_LEVEL, MOST_LEVELS = 25, 12
FACTOR_RANGE = (0.8, 4.0)
CHI2_MEDIAN_SHORT = 2 / 9
"""Wilson & Hilferty (1931, PNAS 17, 684): the median of chi-square with k degrees of freedom is k (1 - 2 / 9k)^3."""


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """Factor on computed errors as a function of brightness.

    Flat-field errors and scintillation raise the errors of bright stars, crowding those of all.

    Parameters
    ----------
    log_flux : ndarray (k,)
        Natural logarithms of fluxes, rising.
    factor : ndarray (k,)
        Factor on the errors at these fluxes.
    """

    log_flux: Float64Array = field(default_factory=lambda: np.zeros(1))
    factor: Float64Array = field(default_factory=lambda: np.ones(1))

    def applied(self, flux: Float64Array, error: Float64Array) -> Float64Array:
        """Return rescaled errors.

        Parameters
        ----------
        flux, error : ndarray
            Fluxes and their standard errors, same shape.

        Returns
        -------
        ndarray
            Errors, same shape and unit.
        """
        # fluxes that are not positive take the factor of the faintest stars
        level = np.log(np.where(flux > 0, flux, 1e-30))
        return np.asarray(error * np.interp(level, self.log_flux, self.factor))

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest factor."""
        return float(self.factor.min()), float(self.factor.max())


def fit_error_model(flux: Float64Array, error: Float64Array, usable: BoolArray) -> ErrorModel:
    """Compute the error model with which, at every brightness, the median star scatters like a constant one.

    Parameters
    ----------
    flux, error : ndarray (n_stars, n_frames)
        Fluxes and their standard errors on one scale.
    usable : ndarray (n_stars, n_frames) of bool
        Measurements without a flag.

    Returns
    -------
    ErrorModel
        A factor of 1 if there are too few frames or stars.
    """
    good = usable & np.isfinite(flux) & (error > 0)
    level = median_of_known(np.where(good, flux, np.nan), 1)
    chosen = np.flatnonzero((good.sum(axis=1) >= min(LEAST_FRAMES, flux.shape[1])) & (level > 0))
    if flux.shape[1] < LEAST_FRAMES or len(chosen) < LEAST_STARS:
        return ErrorModel()
    chosen = chosen[np.argsort(level[chosen])]
    chi2 = reduced_chi2(flux[chosen], error[chosen], good[chosen], of_median=True)
    # levels of equally many stars: a median of few would be noise
    n_levels = int(np.clip(len(chosen) // STARS_PER_LEVEL, 1, MOST_LEVELS))
    parts = np.array_split(np.arange(len(chosen)), n_levels)
    # the median, as variable stars must not raise the errors of constant ones; bounded against chance
    factors = [np.clip(np.sqrt(median_of_all(chi2[part])), *FACTOR_RANGE) for part in parts]
    return ErrorModel(np.array([np.log(median_of_all(level[chosen[part]])) for part in parts]), np.array(factors))


def reduced_chi2(flux: Float64Array, error: Float64Array, good: BoolArray, of_median: bool = False) -> Float64Array:
    """Compute the reduced chi-square of each star about its weighted mean.

    Parameters
    ----------
    flux, error : ndarray (n_stars, n_frames)
        Fluxes and their standard errors.
    good : ndarray (n_stars, n_frames) of bool
        Measurements to use.
    of_median : bool
        Divide by the median of chi-square of a constant star, which is below 1 for few frames.

    Returns
    -------
    ndarray (n_stars,)
        Reduced chi-square.
    """
    weight = np.where(good, 1 / np.maximum(error, 1e-30) ** 2, 0.0)
    value = np.where(good, flux, 0.0)
    mean = (weight * value).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-30)
    freedom = np.maximum(good.sum(axis=1) - 1, 1)
    found: Float64Array = (weight * (value - mean[:, np.newaxis]) ** 2).sum(axis=1) / freedom
    return found / (1 - CHI2_MEDIAN_SHORT / freedom) ** 3 if of_median else found

"""Plots of a dataset: the target's light curve, scatter of all stars, growth of light, residuals over the field."""

from pathlib import Path

import numpy as np

from obsarchive import fitsio, series_plots
from obsarchive.datasets.configuration import ReductionConfig
from obsarchive.datasets.ensemble import DETECTED_SIGMA, Series, magnitudes
from obsarchive.datasets.frame import RADII
from obsarchive.datasets.products import filter_of
from obsarchive.figures import Labels
from obsarchive.science.robust import median_of_known
from obsarchive.science.zero_point import band_of, gaia_in_band

PLOTS = {
    "lightcurve.png": "light curve of the target",
    "rms.png": "scatter of all stars against magnitude",
    "growth.png": "light in apertures of several radii",
    "residuals.png": "comparison with the catalogue over the field",
}


def write_plots(folder: Path, series: Series, config: ReductionConfig) -> None:
    """Write all plots of a dataset."""
    labels = Labels(config.target.name, filter_of(series))
    row = series.stars.target
    flux, error = series.flux[row], series.flux_error[row]
    unseen = flux < DETECTED_SIGMA * error
    limit = np.where(unseen, magnitudes(np.maximum(flux, 0) + DETECTED_SIGMA * error, series.zero_point), np.nan)
    curve = series_plots.light_curve(
        series.times.bjd_tdb,
        (series.mag[row], series.mag_error[row]),
        limit,
        ~series.is_good[row],
        labels,
        filter_of(series),
    )
    fitsio.write_atomic(folder / "lightcurve.png", curve)
    mag, scatter, expected = _scatter(series)
    plot = series_plots.scatter_against_magnitude(mag, scatter, expected, row, labels)
    fitsio.write_atomic(folder / "rms.png", plot)
    radii = [factor * config.photometry.aperture_arcsec for factor in RADII]
    plot = series_plots.growth_of_light(radii, series.growth, series.fwhm_arcsec, labels)
    fitsio.write_atomic(folder / "growth.png", plot)
    plot = series_plots.residual_map(series.stars.x, series.stars.y, _residual(series, mag), labels)
    fitsio.write_atomic(folder / "residuals.png", plot)


def _scatter(series: Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle magnitude, robust scatter and typical error of every star."""
    good = series.is_good & (series.flux > 0)
    mag = np.where(good, series.mag, np.nan)
    middle = median_of_known(mag, 1)
    scatter = 1.4826 * median_of_known(np.abs(mag - middle[:, np.newaxis]), 1)
    error = median_of_known(np.where(good, series.mag_error, np.nan), 1)
    return middle, np.where(good.sum(axis=1) > 2, scatter, np.nan), error


def _residual(series: Series, mag: np.ndarray) -> np.ndarray:
    """Catalogue minus measured magnitude of the comparison stars."""
    stars, band = series.stars, band_of(filter_of(series))
    catalogue = gaia_in_band(stars.mag, stars.colour, band) if stars.is_gaia and band else stars.mag
    bright = mag <= median_of_known(mag, 0)
    return np.where(bright & bool(series.zero_point.n_stars), catalogue - mag, np.nan)

"""Plots of a dataset: the target's light curve, scatter of all stars, curve of growth, residuals over the field."""

from pathlib import Path

import numpy as np
from astropy.table import Table

from obsarchive.figures import time_series
from obsarchive.figures.previews import Labels, Mark, Sky, preview_cropped
from obsarchive.io import atomic
from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_known
from obsarchive.timeseries import products
from obsarchive.timeseries.config import ReductionConfig
from obsarchive.timeseries.ensemble import UNUSABLE, Series
from obsarchive.timeseries.frame_photometry import RADII, read_sidecar
from obsarchive.timeseries.frame_table import read_planes
from obsarchive.timeseries.names import SIDECARS
from obsarchive.timeseries.products import filter_of

FINDER_ARCSEC = 60.0


def write_plots(folder: Path, series: Series, config: ReductionConfig) -> None:
    """Write all plots of a dataset."""
    labels = Labels(config.target.name, filter_of(series))
    target = products.light_curve(series, series.stars.target, config)
    atomic.atomic_write(folder / "lightcurve.png", plot_light_curve(target, config.target.name))
    atomic.atomic_write(folder / "finder.png", _finder(folder, series, config))
    mag, scatter, expected = _scatter(series)
    plot = time_series.scatter_against_magnitude(mag, scatter, expected, series.stars.target, labels)
    atomic.atomic_write(folder / "rms.png", plot)
    radii = [factor * config.photometry.aperture_arcsec for factor in RADII]
    plot = time_series.curve_of_growth(radii, series.growth, series.fwhm_arcsec, labels)
    atomic.atomic_write(folder / "growth.png", plot)
    plot = time_series.residual_map(series.stars.x, series.stars.y, _residual(series, mag), labels)
    atomic.atomic_write(folder / "residuals.png", plot)


def plot_light_curve(table: Table, name: str) -> bytes:
    """Plot a light curve as :mod:`.products` gives it; returns PNG."""
    columns = {key: np.asarray(table[key], float) for key in ("time_bjd_tdb", "mag", "mag_err", "limit")}
    bad = np.asarray(table["flags"], int) & int(UNUSABLE) != 0
    labels = Labels(name, str(table.meta.get("filter", "")))
    mag = columns["mag"], columns["mag_err"]
    return time_series.light_curve(columns["time_bjd_tdb"], mag, columns["limit"], bad, labels, labels.filter)


def _finder(folder: Path, series: Series, config: ReductionConfig) -> bytes:
    """Draw the surroundings of the target on the reference frame, or on the first one that was measured."""
    info = next((info for info in series.infos if info.path.name == series.stars.reference), series.infos[0])
    column, target = list(series.infos).index(info), series.stars.target
    plate, image = read_sidecar(folder / SIDECARS / f"{info.stem}.wcs"), read_planes(info, None).image
    place = float(series.y[target, column]), float(series.x[target, column])
    labels = Labels(config.target.name, filter_of(series), marks=[Mark(*place)])
    filled = np.where(np.isfinite(image), image, np.nanmedian(image))
    sky = Sky(plate.scale_arcsec, plate.north_angle_deg, bool(np.linalg.det(plate.matrix) < 0))
    return preview_cropped(filled, sky, place, FINDER_ARCSEC / plate.scale_arcsec, labels)


def _scatter(series: Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle magnitude, robust scatter and typical error of every star."""
    good = series.is_good & (series.flux > 0)
    mag = np.where(good, series.mag, np.nan)
    middle = median_of_known(mag, 1)
    scatter = MAD_TO_SIGMA * median_of_known(np.abs(mag - middle[:, np.newaxis]), 1)
    error = median_of_known(np.where(good, series.mag_error, np.nan), 1)
    return middle, np.where(good.sum(axis=1) > 2, scatter, np.nan), error


def _residual(series: Series, mag: np.ndarray) -> np.ndarray:
    """Catalogue minus measured magnitude of the comparison stars."""
    catalogue = series.stars.magnitudes_in(filter_of(series))
    bright = (mag <= median_of_known(mag, 0)) & series.is_undisturbed
    return np.where(bright & bool(series.zero_point.n_stars), catalogue - mag, np.nan)

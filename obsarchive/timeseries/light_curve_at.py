"""The light curve of any star or place of a reduced dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from obsarchive.errors import ArchiveError, Unprocessable
from obsarchive.science.astrometry.plate_solution import project
from obsarchive.science.photometry.aperture import Flag
from obsarchive.science.photometry.engine import engine_of
from obsarchive.timeseries import config as configuration
from obsarchive.timeseries import star_catalog
from obsarchive.timeseries.ensemble import Series, combine
from obsarchive.timeseries.frame_photometry import read_sidecar
from obsarchive.timeseries.frame_table import Info, frames_of, read_info, read_planes
from obsarchive.timeseries.light_curve_reader import STAR_ARCSEC
from obsarchive.timeseries.names import SIDECARS, STAR_CATALOGUE
from obsarchive.timeseries.products import light_curve, points
from obsarchive.timeseries.star_catalog import Stars, annulus
from obsarchive.timeseries.target_position import explain_distance


@dataclass(frozen=True)
class Found:
    """A light curve.

    Parameters
    ----------
    table : Table
        Its points.
    what : str
        The star or position, in words.
    """

    table: Table
    what: str


def nearest_star(catalogue: Stars, ra_deg: float, dec_deg: float) -> tuple[int, float]:
    """Return the star that is nearest to a position.

    Parameters
    ----------
    catalogue : Stars
        Star catalogue of a dataset.
    ra_deg, dec_deg : float
        The position [deg].

    Returns
    -------
    row : int
        Row of the star in the catalogue.
    distance : float
        Its distance [arcsec].
    """
    xi, eta = project(catalogue.ra, catalogue.dec, (ra_deg, dec_deg))
    distance = np.where(np.isfinite(xi), np.hypot(xi, eta), np.inf)
    row = int(np.argmin(distance))
    return row, float(distance[row])


def light_curve_at(folder: Path, ra_deg: float, dec_deg: float) -> Found:
    """Return the light curve of the star at a position, or of the position itself (forced photometry) without a star.

    Parameters
    ----------
    folder : Path
        Folder of the dataset.
    ra_deg, dec_deg : float
        The position [deg].

    Returns
    -------
    Found
        The light curve, and which star it belongs to.

    Raises
    ------
    ArchiveError
        The dataset was not reduced, or the position is on none of its frames.
    """
    series, config = reopened(folder)
    row, distance = nearest_star(series.stars, ra_deg, dec_deg)
    if distance <= STAR_ARCSEC:
        number = int(series.stars.number[row])
        name = "the target" if number == star_catalog.TARGET else f"star {number}"
        return Found(light_curve(series, row, config), f"{name}, {distance:.2f} arcsec away")
    table = _forced(folder, series, config, (ra_deg, dec_deg), row)
    return Found(table, f"the position itself: the nearest star is {distance:.1f} arcsec away")


def reopened(folder: Path) -> tuple[Series, configuration.ReductionConfig]:
    """Return the light curves of a dataset that was reduced."""
    config = configuration.load(folder)
    loaded = star_catalog.load(folder / STAR_CATALOGUE)
    if loaded is None:
        raise ArchiveError(f"{folder}: there is no star catalogue: the dataset was not reduced yet")
    infos = []
    for path in frames_of(folder):
        try:
            infos.append(read_info(path))
        except Unprocessable:
            continue
    return combine(folder, loaded[0], infos, config), config


def _forced(
    folder: Path, series: Series, config: configuration.ReductionConfig, sky: tuple[float, float], nearest: int
) -> Table:
    """Measure a position on every frame; the scale is that of the nearest star."""
    n = len(series.infos)
    measured = {name: np.full(n, np.nan) for name in ("flux", "error", "sky")}
    flags = np.zeros(n, np.int64)
    for i, (info, fact) in enumerate(zip(series.infos, series.facts, strict=True)):
        light = _on_frame(folder, info, fact, sky, config.photometry)
        measured["flux"][i], measured["error"][i], measured["sky"][i], flags[i] = light
    if not np.isfinite(measured["flux"]).any():
        why = explain_distance(sky, (series.stars.ra, series.stars.dec))
        raise ArchiveError(f"{folder}: the place {sky[0]:.5f} {sky[1]:+.5f} is on none of the {n} frames, but {why}")
    flux, error = series.scale.applied_at(nearest, measured["flux"], measured["error"])
    error = series.error_model.applied(flux, error)
    flags |= series.flags[nearest] & int(Flag.BAD_FRAME)
    found = points(
        series.times,
        np.array([info.path.name for info in series.infos]),
        (flux, error),
        (measured["sky"], series.fwhm_arcsec, flags),
        series.zero_point,
    )
    found.meta |= {"ra_deg": sky[0], "dec_deg": sky[1], "filter": str(series.infos[0].header.get("FILTER") or "")}
    return found


def _on_frame(
    folder: Path, info: Info, fact: Mapping[str, Any], sky: tuple[float, float], settings: configuration.Photometry
) -> tuple[float, float, float, int]:
    """Flux, error, sky and flags of a place on a frame, per second."""
    plate = read_sidecar(folder / SIDECARS / f"{info.stem}.wcs")
    y, x = plate.pixels(*(np.atleast_1d(value) for value in sky))
    planes = read_planes(info, None)
    radius = settings.aperture_arcsec / plate.scale_arcsec
    found = engine_of(settings.engine).aperture_photometry(
        planes.image, planes.variance, (y, x), (radius,), annulus(radius, fact["fwhm_px"]), planes.saturation
    )
    seconds = info.exposure_s
    flux, error = float(found.flux[0, 0]) / seconds, float(found.flux_error[0, 0]) / seconds
    return flux, error, float(found.sky[0]) / seconds, int(found.flags[0])

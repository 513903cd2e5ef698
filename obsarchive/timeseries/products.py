"""What a dataset's reduction leaves behind: the table of all stars, the target's light curve, the frames' quality."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import ArrayLike

from obsarchive import __version__
from obsarchive.errors import ArchiveError
from obsarchive.io import atomic
from obsarchive.science.arrays import AnyArray, Float64Array
from obsarchive.science.astrometry.times import LightCurveTimes
from obsarchive.science.photometry.aperture import Flag
from obsarchive.science.photometry.zero_point import ZeroPoint, instrumental_magnitudes
from obsarchive.science.statistics import median_of_known
from obsarchive.timeseries.config import ReductionConfig
from obsarchive.timeseries.download.dataset_folders import safe
from obsarchive.timeseries.ensemble import DETECTED_SIGMA, Series, magnitudes
from obsarchive.timeseries.frame_table import Info, write_summary
from obsarchive.timeseries.names import FRAMES, LIGHT_CURVE, SUMMARY, TABLE, TABLE_PATH

FLUX_UNIT = u.ct / u.s
"""Unit of fluxes: that of the images, by second; the zero point is the magnitude of 1."""
MAX_CSV_ERROR_MAG = 0.5
"""Points with larger errors are not in the .csv file."""


def write_all(
    folder: Path, series: Series, config: ReductionConfig, failures: Mapping[str, str], infos: list[Info]
) -> None:
    """Write every table of a dataset.

    Parameters
    ----------
    folder : Path
        The dataset.
    series : Series
        Light curves.
    config : ReductionConfig
        Of the dataset.
    failures : mapping of str to str
        Frames that could not be measured, by file name, and why.
    infos : list of Info
        All frames whose header could be read.
    """
    write_table(folder / TABLE, series, config)
    target = light_curve(series, series.stars.target, config)
    write_light_curve(folder / LIGHT_CURVE, target)
    stem = f"{safe(config.target.name)}_{safe(filter_of(series))}_lc"
    write_dat(folder / f"{stem}.dat", target)
    write_csv(folder / f"{stem}.csv", target, label_of(config, filter_of(series)))
    write_frames(folder / FRAMES, series, failures)
    measured = {info.stem: True for info in series.infos}
    hjd = {info.stem: float(t) for info, t in zip(series.infos, series.times.hjd_utc, strict=True)}
    write_summary(folder / SUMMARY, infos, hjd, measured)


def filter_of(series: Series) -> str:
    """Return the filter of a dataset."""
    return str(series.infos[0].header.get("FILTER") or "unknown")


def label_of(config: ReductionConfig, filter_name: str) -> str:
    """Return the name of a light curve's filter in tables for a TOM.

    Parameters
    ----------
    config : ReductionConfig
        Configuration of the dataset.
    filter_name : str
        The filter.

    Returns
    -------
    str
        The configured label, or else the target's name, and the filter.
    """
    return f"{config.tom.data_label or config.target.name}_{filter_name}"


def write_table(path: Path, series: Series, config: ReductionConfig) -> None:
    """Write ``photometry.h5``: one row for each star and frame, at the path ``photometry``.

    Parameters
    ----------
    path : Path
        File to write.
    series : Series
        Photometry of all stars.
    config : ReductionConfig
        Configuration of the dataset.
    """
    shape = series.flux.shape

    def per_star(values: AnyArray) -> AnyArray:
        return np.repeat(values, shape[1])

    def per_frame(values: AnyArray) -> AnyArray:
        return np.tile(values, shape[0])

    stars = series.stars
    table = Table(
        {
            "star_id": per_star(stars.number),
            "ra": per_star(stars.ra) * u.deg,
            "dec": per_star(stars.dec) * u.deg,
            "x": series.x.ravel().astype(np.float32) * u.pix,
            "y": series.y.ravel().astype(np.float32) * u.pix,
            "frame": per_frame(np.array([info.path.name for info in series.infos], "S")),
            "time_bjd_tdb": per_frame(series.times.bjd_tdb) * u.day,
            "flux": series.flux.ravel() * FLUX_UNIT,
            "flux_err": series.flux_error.ravel() * FLUX_UNIT,
            "mag": series.mag.ravel() * u.mag,
            "mag_err": series.mag_error.ravel() * u.mag,
            "sky": series.sky.ravel().astype(np.float32),
            "fwhm": per_frame(series.fwhm_arcsec).astype(np.float32) * u.arcsec,
            "flags": series.flags.ravel().astype(np.int32),
        }
    )
    table.meta = {
        **{"target": config.target.name, "target_id": 0, "filter": filter_of(series), "version": __version__},
        **{"zero_point": series.zero_point.value, "zero_point_error": series.zero_point.error},
        **{"zero_point_scatter": series.zero_point.scatter, "zero_point_stars": series.zero_point.n_stars},
        **{"catalogue": stars.origin, "aperture_arcsec": config.photometry.aperture_arcsec},
        **{"engine": config.photometry.engine},
        **dict(zip(("error_factor_min", "error_factor_max"), series.error_model.range, strict=True)),
        "flag_bits": ", ".join(f"{flag.value} {flag.name}" for flag in Flag),
    }
    with atomic.atomic_path(path) as part, warnings.catch_warnings(action="ignore"):
        table.write(
            part, path=TABLE_PATH, format="hdf5", serialize_meta=True, compression="lzf", shuffle=True, chunks=True
        )


def read_table(path: Path) -> Table:
    """Read ``photometry.h5``.

    Raises
    ------
    ArchiveError
        There is none, or it is damaged.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            return Table.read(path, path=TABLE_PATH, format="hdf5", character_as_bytes=False)
    except FileNotFoundError as err:
        raise ArchiveError(f"{path}: not there: the dataset was not reduced yet") from err
    except (OSError, ValueError, LookupError) as err:
        raise ArchiveError(f"{path} cannot be read: {err}") from err


def light_curve(series: Series, row: int, config: ReductionConfig) -> Table:
    """Return the light curve of one star.

    Parameters
    ----------
    series : Series
        Photometry of all stars.
    row : int
        Row of the star.
    config : ReductionConfig
        Configuration of the dataset.

    Returns
    -------
    Table
        Columns of :func:`points`; target, star and filter in ``meta``.
    """
    found = points(
        series.times,
        np.array([info.path.name for info in series.infos]),
        (series.flux[row], series.flux_error[row]),
        (series.sky[row], series.fwhm_arcsec, series.flags[row]),
        series.zero_point,
    )
    star = series.stars
    found.meta |= {"target": config.target.name, "star_id": int(star.number[row]), "filter": filter_of(series)}
    found.meta |= {"ra_deg": float(star.ra[row]), "dec_deg": float(star.dec[row])}
    found.meta |= {"zero_point_error": series.zero_point.error, "catalogue": star.origin}
    return found


def points(
    times: LightCurveTimes,
    frames: AnyArray,
    light: tuple[Float64Array, Float64Array],
    state: tuple[AnyArray, AnyArray, AnyArray],
    zero_point: ZeroPoint,
) -> Table:
    """Return the points of a light curve.

    Parameters
    ----------
    times : LightCurveTimes
        Times of mid-exposure (n,).
    frames : (n,) ndarray of str
        Names of the frames.
    light : tuple of (n,) ndarray of float
        Flux and its standard error [count].
    state : tuple of (n,) ndarray
        Sky [count/pixel], FWHM [arcsec] and flags.
    zero_point : ZeroPoint
        Zero point of the magnitudes.

    Returns
    -------
    Table
        One row for each frame, with units.
    """
    (flux, error), (sky, fwhm, flags) = light, state
    mag, mag_error = instrumental_magnitudes(flux, error)
    limit = magnitudes(np.maximum(flux, 0) + DETECTED_SIGMA * error, zero_point)
    table = Table(
        {
            "time_bjd_tdb": times.bjd_tdb * u.day,
            "time_hjd_utc": times.hjd_utc * u.day,
            "time_mjd_utc": times.mjd_utc * u.day,
            "flux": flux * FLUX_UNIT,
            "flux_err": error * FLUX_UNIT,
            "mag": (zero_point.value + mag) * u.mag,
            "mag_err": mag_error * u.mag,
            "limit": np.where(flux < DETECTED_SIGMA * error, limit, np.nan) * u.mag,
            "sky": sky,
            "fwhm": fwhm * u.arcsec,
            "flags": flags,
            "frame": frames,
        }
    )
    table.meta = {"zero_point": zero_point.value, "zero_point_stars": zero_point.n_stars, "version": __version__}
    return table


def write_light_curve(path: Path, table: Table) -> None:
    """Write a light curve with its units, as ECSV.

    Parameters
    ----------
    path : Path
        File to write.
    table : Table
        The light curve.
    """
    with atomic.atomic_path(path) as part:
        table.write(part, format="ascii.ecsv", overwrite=True)


def read_light_curve(path: Path) -> Table:
    """Read a light curve that :func:`write_light_curve` wrote; `ArchiveError` when there is none."""
    try:
        return Table.read(path, format="ascii.ecsv")
    except (OSError, ValueError, LookupError) as err:
        raise ArchiveError(f"{path} cannot be read: {err}") from err


def write_dat(path: Path, table: Table) -> None:
    """Write ``HJD flux err_flux mag err_mag file``; a point without positive flux has magnitude 0.

    Parameters
    ----------
    path : Path
        File to write.
    table : Table
        The light curve.
    """
    lines = ["HJD flux err_flux mag err_mag file"]
    for row in table:
        mag, mag_error = (value if math.isfinite(value) else 0.0 for value in (row["mag"], row["mag_err"]))
        if math.isfinite(row["flux"]):
            light = f"{row['flux']:.6g} {row['flux_err']:.6g} {mag:.5f} {mag_error:.5f}"
            lines.append(f"{row['time_hjd_utc']:.7f} {light} {row['frame']}")
    atomic.atomic_write(path, ("\n".join(lines) + "\n").encode())


def write_csv(path: Path, table: Table, label: str) -> None:
    """Write ``time,filter,magnitude,error``: heliocentric Julian dates, points with errors below half a magnitude.

    Parameters
    ----------
    path : Path
        File to write.
    table : Table
        The light curve.
    label : str
        Name of the filter.
    """
    lines = ["time,filter,magnitude,error"]
    lines += [
        f"{row['time_hjd_utc']:.7f},{label},{row['mag']:.5f},{row['mag_err']:.5f}"
        for row in table
        if row["mag_err"] < MAX_CSV_ERROR_MAG and not row["flags"] & int(Flag.BAD_FRAME)
    ]
    atomic.atomic_write(path, ("\n".join(lines) + "\n").encode())


def write_frames(path: Path, series: Series, failures: Mapping[str, str]) -> None:
    """Write the quality of every frame, with the reason for those that failed.

    Parameters
    ----------
    path : Path
        File to write.
    series : Series
        Photometry of all stars.
    failures : mapping of str to str
        Reason by the name of a frame that could not be measured.
    """
    offset = median_of_known(series.scale.correction, 0)
    n, m = len(series.infos), len(failures)
    nan = np.full(m, np.nan)

    def column(values: ArrayLike) -> Float64Array:
        return np.concatenate([np.asarray(values, float), nan])

    names = [info.path.name for info in series.infos]
    states = np.where(series.bad_frames, "bad", "good").tolist()
    table = Table(
        {
            "frame": np.array([*names, *failures]),
            "state": np.array([*states, *["failed"] * m]),
            "reason": np.array([*series.verdicts, *failures.values()]),
            "time_bjd_tdb": column(series.times.bjd_tdb) * u.day,
            "time_mjd_utc": column(series.times.mjd_utc) * u.day,
            "exposure": column([info.exposure_s for info in series.infos]) * u.s,
            "fwhm": column(series.fwhm_arcsec) * u.arcsec,
            "sky": column([fact["sky"] for fact in series.facts]),
            "offset": column(offset) * u.mag,
            "offset_err": column(series.scale.error) * u.mag,
            "limit": column(series.limits) * u.mag,
            "n_matched": column([fact["n_matched"] for fact in series.facts]),
            "wcs_rms": column([fact["rms_px"] for fact in series.facts]) * u.pix,
        }
    )
    table.meta = {"measured": n, "failed": m}
    with atomic.atomic_path(path) as part:
        table.write(part, format="ascii.ecsv", overwrite=True)

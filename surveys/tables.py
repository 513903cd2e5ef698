"""Light curves as tables of astropy, pandas and lightkurve; folded by a period; in bins of time."""

from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.table import Table
from astropy.time import Time

from obsarchive.errors import ConfigError
from obsarchive.science.astrometry.times import JD_OF_MJD
from obsarchive.science.light_curves.light_curve import binned, magnitudes_of_fluxes
from surveys.formats.hdf5_light_curves import Columns

if TYPE_CHECKING:
    from surveys.dataset import Lightcurve
    from surveys.source_data import DatasetMixin

UNITS = {
    "mjd": "d",
    "exptime": "s",
    "ra": "deg",
    "dec": "deg",
    "flux": "uJy",
    "flux_err": "uJy",
    "mag": "mag",
    "mag_err": "mag",
    "offset": "arcsec",
    "dmag": "mag",
}
"""Units of the columns of light curves."""
JULIAN_DATE_FROM = 2_000_000.0
"""Times above it are Julian dates [d]."""


class MissingPackageError(ConfigError, ImportError):
    """An optional package is not installed."""


def table_of(dataset: "DatasetMixin", has_units: bool = True) -> Table:
    """Return a dataset as a table of astropy, with its times as `Time` (UTC) in the column ``time``.

    Parameters
    ----------
    dataset : DatasetMixin
        Raw photometry or a light curve; loaded if necessary.
    has_units : bool
        Whether the columns have the units of light curves; those of raw photometry are the survey's.

    Returns
    -------
    Table
        All columns; source, observatory and filter in ``meta``.
    """
    columns = dataset.columns
    times = {} if dataset.is_empty else {"time": Time(dataset.mjds, format="mjd", scale="utc")}
    found = Table({**times, **columns})
    for name in columns if has_units else ():
        if name in UNITS:
            found[name].unit = u.Unit(UNITS[name])
    wanted = ("name", "observatory", "filter", "series_number", "ra", "dec", "period_d", "epoch_mjd")
    found.meta = {key: dataset.altdata[key] for key in wanted if dataset.altdata.get(key) is not None}
    return found


def lightkurve_of(curve: "Lightcurve") -> Any:
    """Return a light curve as a ``LightCurve`` of the package lightkurve, with all columns.

    Raises
    ------
    MissingPackageError
        The package is not installed.
    """
    try:
        from lightkurve import LightCurve  # late: an optional package
    except ImportError as err:
        raise MissingPackageError(
            "to_lightkurve needs the package lightkurve, which is not installed: pip install lightkurve"
        ) from err
    table = table_of(curve)
    main = {name: u.Quantity(table[name]) for name in ("flux", "flux_err")}
    label = f"{curve.source_name} {curve.observatory} {curve.filter}".strip()
    made = LightCurve(time=table["time"], **main, meta={**table.meta, "LABEL": label})
    for name in table.colnames:
        if name not in ("time", *main):
            made[name] = table[name]
    return made


def folded(curve: "Lightcurve", period: Any, epoch: Any = None) -> "Lightcurve":
    """Return a light curve sorted by phase, which its column ``phase`` has, from 0 to 1.

    Parameters
    ----------
    curve : Lightcurve
        The light curve.
    period : float or Quantity
        Period [d].
    epoch : float, Time or Quantity, optional
        Time of phase 0: MJD or Julian date [d]; None: the first epoch.

    Raises
    ------
    ConfigError
        The period is not positive.
    """
    period_d, columns = _days(period), curve.columns
    if not period_d > 0:
        raise ConfigError(f"a period is a positive number of days, found {period!r}")
    mjd = columns["mjd"]
    start = (float(np.nanmin(mjd)) if len(mjd) else 0.0) if epoch is None else _mjd(epoch)
    phase = ((mjd - start) / period_d) % 1.0
    order = np.argsort(phase, kind="stable")
    sorted_columns = {name: values[order] for name, values in {**columns, "phase": phase}.items()}
    return curve.with_columns(sorted_columns, period_d=period_d, epoch_mjd=start)


def in_bins(curve: "Lightcurve", days: Any) -> "Lightcurve":
    """Return the weighted means of the good epochs of a light curve in bins of time.

    Parameters
    ----------
    curve : Lightcurve
        The light curve.
    days : float or Quantity
        Width of the bins [d], which begin with the first epoch; empty ones are missing.

    Returns
    -------
    Lightcurve
        With mean time, flux and magnitude, their errors, total exposure time, and ``n_epochs``.

    Raises
    ------
    ConfigError
        The width is not positive.
    """
    width = _days(days)
    if not width > 0:
        raise ConfigError(f"the width of bins is a positive number of days, found {days!r}")
    columns, good = curve.columns, curve.good
    own = {name: columns[name][good].astype(np.float64) for name in ("mjd", "exptime", "flux", "flux_err", "mag")}
    # fluxes are averaged, as magnitudes of faint sources are biased; they may have a zero point of their own
    apart = own["mag"] - magnitudes_of_fluxes(own["flux"], own["flux_err"])[0]
    shift = float(np.median(apart[np.isfinite(apart)])) if np.isfinite(apart).any() else 0.0
    mjd, flux, flux_err, n_epochs, number = binned(own["mjd"], own["flux"], own["flux_err"], width)
    mag, mag_err = magnitudes_of_fluxes(flux, flux_err)
    made: Columns = {
        "mjd": mjd,
        "exptime": np.bincount(number, np.nan_to_num(own["exptime"]), len(mjd)),
        "flux": flux,
        "flux_err": flux_err,
        "mag": mag + shift,
        "mag_err": mag_err,
        "n_epochs": n_epochs,
    }
    return curve.with_columns(made, bin_d=width)


def _days(value: Any) -> float:
    return float(value.to_value(u.d)) if isinstance(value, u.Quantity) else float(value)


def _mjd(value: Any) -> float:
    if isinstance(value, Time):
        return float(value.utc.mjd)
    days = _days(value)
    return days - JD_OF_MJD if days > JULIAN_DATE_FROM else days

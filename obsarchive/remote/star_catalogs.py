"""Reference catalogues of stars, in memory and in files."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.io.column_units import checked_places, degrees_of, doubt_of, numbers_of, quantity_of, unit_in_name
from obsarchive.science.astrometry.spherical import apply_proper_motion
from obsarchive.science.photometry.zero_point import band_of, gaia_in_band

log = logging.getLogger(__name__)

GAIA_EPOCH = 2016.0
MAX_STARS = 5000
_NAMES = {
    "ra": (
        "ra",
        "ra_deg",
        "raj2000",
        "ra_icrs",
        "_ra",
        "_raj2000",
        "coord_ra",
        "alpha_j2000",
        "alphawin_j2000",
        "right_ascension",
    ),
    "dec": (
        "dec",
        "dec_deg",
        "dej2000",
        "de_icrs",
        "_de",
        "decj2000",
        "de",
        "_dej2000",
        "coord_dec",
        "delta_j2000",
        "deltawin_j2000",
        "declination",
    ),
    "mag": ("mag", "gmag", "phot_g_mean_mag", "g", "magnitude", "mag_auto"),
    "pm_ra": ("pmra", "pm_ra"),
    "pm_dec": ("pmdec", "pmde", "pm_dec"),
    "epoch": ("epoch", "ref_epoch"),
    "colour": ("colour", "color", "bp_rp", "bp-rp"),
}
_PLACE = ("ra", "dec")
_GAIA_G = ("gmag", "phot_g_mean_mag")


@dataclass(frozen=True, eq=False)
class Catalog:
    """Stars, brightest first.

    Attributes
    ----------
    ra, dec : ndarray (n,)
        Positions (ICRS) at `epoch` [deg].
    magnitude : ndarray (n,)
        NaN where it is not known.
    pm_ra, pm_dec : ndarray (n,)
        Proper motions, that in right ascension times cos(declination); 0 where they are not known [mas/year].
    epoch : float
        Julian year of the positions.
    origin : str
        Where it comes from.
    colour : ndarray (n,)
        NaN where it is not known; of Gaia BP - RP.
    is_gaia : bool
        Whether the magnitudes are those of Gaia's band G.
    """

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    pm_ra: NDArray[np.float64]
    pm_dec: NDArray[np.float64]
    epoch: float
    origin: str
    colour: NDArray[np.float64]
    is_gaia: bool = False

    def __len__(self) -> int:
        return len(self.ra)

    def at(self, year: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the positions at another epoch.

        Parameters
        ----------
        year : float
            Julian year.

        Returns
        -------
        (ndarray, ndarray)
            Right ascension and declination (n,) [deg].
        """
        return apply_proper_motion((self.ra, self.dec), (self.pm_ra, self.pm_dec), year - self.epoch)

    def magnitudes_in(self, filter_name: str) -> NDArray[np.float64]:
        """Return magnitudes in the band of a filter: Gaia's are turned into it where a relation is known.

        Parameters
        ----------
        filter_name : str
            Name of the filter.

        Returns
        -------
        ndarray (n,)
            Magnitudes; NaN where they are not known.
        """
        band = band_of(filter_name)
        return gaia_in_band(self.magnitude, self.colour, band) if self.is_gaia and band else self.magnitude

    def around(self, ra_deg: float, dec_deg: float, radius_deg: float, most: int = MAX_STARS) -> "Catalog":
        """Return the stars within a cone, the brightest if there are too many.

        Parameters
        ----------
        ra_deg, dec_deg : float
            Centre of the cone [deg].
        radius_deg : float
            Its radius [deg].
        most : int
            Largest number of stars.

        Returns
        -------
        Catalog
            May be empty.
        """
        cosine = np.sin(np.radians(self.dec)) * math.sin(math.radians(dec_deg)) + np.cos(
            np.radians(self.dec)
        ) * math.cos(math.radians(dec_deg)) * np.cos(np.radians(self.ra - ra_deg))
        inside = np.flatnonzero(cosine >= math.cos(math.radians(radius_deg)))[:most]
        return self.chosen(inside)

    def chosen(self, which: NDArray[Any]) -> "Catalog":
        """Return some of the stars.

        Parameters
        ----------
        which : ndarray
            Their numbers, or a mask (n,).

        Returns
        -------
        Catalog
            In the order of `which`.
        """
        return replace(
            self,
            ra=self.ra[which],
            dec=self.dec[which],
            magnitude=self.magnitude[which],
            pm_ra=self.pm_ra[which],
            pm_dec=self.pm_dec[which],
            colour=self.colour[which],
        )


def read_catalog(path: Path) -> Catalog:
    """Read a catalogue file with positions and magnitudes and, if known, proper motions, epochs and colours.

    Parameters
    ----------
    path : Path
        The file, of any format of `open_table`; ``file.fits[2]`` names a table in it.

    Returns
    -------
    Catalog
        Its stars that have a position.

    Raises
    ------
    ArchiveError
        The file is missing, cannot be read, lacks a column, or has a unit or a position that cannot be.
    """
    from obsarchive.io.catalog_tables import open_table  # late: it imports the libraries of all formats

    try:
        found = open_table(path)
        columns = {name: found.column(name) for name in _named(found.names).values()}
    except ConfigError as err:
        raise ArchiveError(f"catalogue {path} cannot be read: {err}") from err
    return _stars(columns, {name: found.unit(name) for name in columns}, found.names, path.name)


def catalog_of(table: Table, origin: str) -> Catalog:
    """Return the stars of a table, whose columns have any of the names in use.

    Parameters
    ----------
    table : Table
        Positions [deg], magnitudes, proper motions [mas/year], epochs [Julian year], colours, or in their own units.
    origin : str
        Where it comes from.

    Returns
    -------
    Catalog
        Its stars that have a position; without epochs they are taken for those of Gaia.

    Raises
    ------
    ArchiveError
        A column of the position is missing, or a unit or a position cannot be.
    """
    names = list(map(str, table.colnames))
    used = _named(names).values()
    units = {name: str(table[name].unit or ("deg" if key in _PLACE else "")) for key, name in _named(names).items()}
    columns = {name: np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan) for name in used}
    return _stars(columns, units, names, origin)


def _named(names: Sequence[str]) -> dict[str, str]:
    """Return the columns that are used, by their meaning."""
    exact = {name.lower(): name for name in names}
    placed = {unit_in_name(name)[0].lower(): name for name in reversed(names)}
    found = {}
    for key, words in _NAMES.items():
        known = {**placed, **exact} if key in _PLACE else exact
        name = next((known[word] for word in words if word in known), None)
        if name is not None:
            found[key] = name
    return found


def _stars(columns: Mapping[str, NDArray[Any]], units: Mapping[str, str], names: Sequence[str], origin: str) -> Catalog:
    """Return the stars of columns, by name, in their units."""
    named = _named(names)
    for key in _PLACE:
        if key not in named:
            raise ArchiveError(f"catalogue {origin}: no column {key!r} [deg]; found {', '.join(names)}")
    try:
        found = {key: _numbers(key, columns[name], units[name], name) for key, name in named.items()}
        places = _places(found, units[named["ra"]] or unit_in_name(named["ra"])[1], origin)
    except ConfigError as err:
        raise ArchiveError(f"catalogue {origin}: {err}") from err
    n = len(places)
    epochs = found.get("epoch", np.empty(0))
    every = Catalog(
        ra=places % 360,
        dec=found["dec"],
        magnitude=found.get("mag", np.full(n, np.nan)),
        pm_ra=np.nan_to_num(found.get("pm_ra", np.zeros(n))),
        pm_dec=np.nan_to_num(found.get("pm_dec", np.zeros(n))),
        epoch=float(np.nanmedian(epochs)) if np.isfinite(epochs).any() else GAIA_EPOCH,
        origin=origin,
        colour=found.get("colour", np.full(n, np.nan)),
        is_gaia=named.get("mag", "").lower() in _GAIA_G,
    )
    known = np.flatnonzero(np.isfinite(every.ra) & np.isfinite(every.dec))
    if len(known) < n:
        log.warning("catalogue %s: %d of %d rows have no position and are skipped", origin, n - len(known), n)
    return every.chosen(known[np.argsort(every.magnitude[known], kind="stable")])


def _numbers(key: str, values: NDArray[Any], unit: str, name: str) -> NDArray[np.float64]:
    if key in _PLACE:
        return degrees_of(values, key, unit, name)
    what = {"pm_ra": "pmra", "pm_dec": "pmdec", "mag": "mag"}.get(key, "")
    return numbers_of(quantity_of(values, what, unit, name))


def _places(found: Mapping[str, NDArray[np.float64]], unit: str, origin: str) -> NDArray[np.float64]:
    """Return right ascensions that are checked; those that may be hours are a warning."""
    ra, dec = found["ra"], found["dec"]
    doubt = "" if unit else doubt_of(ra, dec)
    if doubt:
        log.warning("catalogue %s: %s; name a unit in the file or the column, as ra_hours", origin, doubt)
    return checked_places(ra, dec)

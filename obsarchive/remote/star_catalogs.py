"""Reference catalogues of stars, in memory and in files."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from obsarchive.errors import ArchiveError
from obsarchive.science.astrometry.spherical import apply_proper_motion
from obsarchive.science.photometry.zero_point import band_of, gaia_in_band

GAIA_EPOCH = 2016.0
MAX_STARS = 5000
_NAMES = {
    "ra": ("ra", "ra_deg", "raj2000", "ra_icrs", "_ra"),
    "dec": ("dec", "dec_deg", "dej2000", "de_icrs", "_de", "decj2000"),
    "mag": ("mag", "gmag", "phot_g_mean_mag", "g", "magnitude"),
    "pm_ra": ("pmra", "pm_ra"),
    "pm_dec": ("pmdec", "pmde", "pm_dec"),
    "epoch": ("epoch", "ref_epoch"),
    "colour": ("colour", "color", "bp_rp", "bp-rp"),
}
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
    """Read a catalogue: CSV, ECSV, FITS or VOTable with columns ``ra dec mag`` and, if known, ``pmra pmdec epoch``.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Catalog
        Its stars that have a position.

    Raises
    ------
    ArchiveError
        The file is missing, cannot be read, or lacks a column.
    """
    try:
        table = Table.read(path, format="ascii.csv") if path.suffix.lower() == ".csv" else Table.read(path)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as err:
        raise ArchiveError(f"catalogue {path} cannot be read: {err}") from err
    return catalog_of(table, str(path.name))


def catalog_of(table: Table, origin: str) -> Catalog:
    """Return the stars of a table, whose columns have any of the names in use.

    Parameters
    ----------
    table : Table
        Positions [deg], magnitudes, proper motions [mas/year], epochs [Julian year], colours.
    origin : str
        Where it comes from.

    Returns
    -------
    Catalog
        Its stars that have a position; without epochs they are taken for those of Gaia.

    Raises
    ------
    ArchiveError
        A column of the position is missing.
    """
    found = {str(name).lower(): name for name in table.colnames}
    columns: dict[str, NDArray[np.float64]] = {}
    for key, names in _NAMES.items():
        name = next((found[name] for name in names if name in found), None)
        if name is not None:
            columns[key] = np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan)
    for key in ("ra", "dec"):
        if key not in columns:
            raise ArchiveError(f"catalogue {origin}: no column {key!r} [deg]; found {', '.join(table.colnames)}")
    n = len(table)
    epochs = columns.get("epoch", np.empty(0))
    every = Catalog(
        ra=columns["ra"] % 360,
        dec=columns["dec"],
        magnitude=columns.get("mag", np.full(n, np.nan)),
        pm_ra=np.nan_to_num(columns.get("pm_ra", np.zeros(n))),
        pm_dec=np.nan_to_num(columns.get("pm_dec", np.zeros(n))),
        epoch=float(np.nanmedian(epochs)) if np.isfinite(epochs).any() else GAIA_EPOCH,
        origin=origin,
        colour=columns.get("colour", np.full(n, np.nan)),
        is_gaia="mag" not in found and any(name in found for name in _GAIA_G),
    )
    known = np.flatnonzero(np.isfinite(every.ra) & np.isfinite(every.dec))
    return every.chosen(known[np.argsort(every.magnitude[known], kind="stable")])

"""Reference catalogues of stars: a file, or Gaia DR3 from VizieR where the archive may ask for it."""

import csv
import hashlib
import io
import logging
import math
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from obsarchive.errors import ArchiveError, Unprocessable
from obsarchive.io.atomic import atomic_write
from obsarchive.science.photometry.zero_point import band_of, gaia_in_band

log = logging.getLogger(__name__)

GAIA_EPOCH = 2016.0
GAIA_TABLE = "I/355/gaiadr3"
TIMEOUT_S = 30.0
MAX_BYTES = 2**26
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
        """Positions of another epoch [deg]."""
        years = year - self.epoch
        dec = self.dec + self.pm_dec * years / 3.6e6
        ra = self.ra + self.pm_ra * years / 3.6e6 / np.cos(np.radians(np.clip(self.dec, -89.9999, 89.9999)))
        return ra % 360, np.clip(dec, -90, 90)

    def magnitudes_in(self, filter_name: str) -> NDArray[np.float64]:
        """Magnitudes in the band of a filter: Gaia's are turned into it where a relation is known."""
        band = band_of(filter_name)
        return gaia_in_band(self.magnitude, self.colour, band) if self.is_gaia and band else self.magnitude

    def around(self, ra_deg: float, dec_deg: float, radius_deg: float, most: int = MAX_STARS) -> "Catalog":
        """Stars within a cone, the brightest if there are too many."""
        cosine = np.sin(np.radians(self.dec)) * math.sin(math.radians(dec_deg)) + np.cos(
            np.radians(self.dec)
        ) * math.cos(math.radians(dec_deg)) * np.cos(np.radians(self.ra - ra_deg))
        inside = np.flatnonzero(cosine >= math.cos(math.radians(radius_deg)))[:most]
        return self.chosen(inside)

    def chosen(self, which: NDArray) -> "Catalog":
        """Some of the stars."""
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

    Raises
    ------
    ArchiveError
        The file is missing, cannot be read, or lacks a column.
    """
    try:
        table = Table.read(path, format="ascii.csv") if path.suffix.lower() == ".csv" else Table.read(path)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as err:
        raise ArchiveError(f"catalogue {path} cannot be read: {err}") from err
    return _catalog(table, str(path.name))


def _catalog(table: Table, origin: str, epoch: float = GAIA_EPOCH) -> Catalog:
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
        epoch=float(np.nanmedian(epochs)) if np.isfinite(epochs).any() else epoch,
        origin=origin,
        colour=columns.get("colour", np.full(n, np.nan)),
        is_gaia="mag" not in found and any(name in found for name in _GAIA_G),
    )
    known = np.flatnonzero(np.isfinite(every.ra) & np.isfinite(every.dec))
    return every.chosen(known[np.argsort(every.magnitude[known], kind="stable")])


def gaia_around(
    place: tuple[float, float], radius_deg: float, service: str, cache: Path, most: int = MAX_STARS
) -> Catalog:
    """Gaia DR3 (Gaia Collaboration 2023, A&A 674, A1) around a place, from a VizieR service, kept on disk.

    Parameters
    ----------
    place : (float, float)
        Right ascension and declination [deg].
    radius_deg : float
        Radius of the cone [deg].
    service : str
        Address of the service's ``asu-tsv`` program.
    cache : Path
        Folder for answers.
    most : int
        Largest number of stars; the brightest come.

    Raises
    ------
    Unprocessable
        The service cannot be reached, or its answer is none.
    """
    query = urllib.parse.urlencode(
        {
            "-source": GAIA_TABLE,
            "-c": f"{place[0]:.5f} {place[1]:+.5f}",
            "-c.rd": f"{radius_deg:.5f}",
            "-out": "RA_ICRS,DE_ICRS,Gmag,pmRA,pmDE,BP-RP",
            "-out.max": most,
            "-sort": "Gmag",
        }
    )
    file = cache / f"gaia_{hashlib.sha256(f'{service}?{query}'.encode()).hexdigest()[:20]}.tsv"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        atomic_write(file, _fetched(f"{service}?{query}"))
    table = _vizier_table(file.read_text(errors="replace"))
    if not len(table):
        file.unlink(missing_ok=True)
        raise Unprocessable(
            f"no stars of Gaia DR3 within {radius_deg:.3f} deg of {place}: the answer of {service} is empty"
        )
    return _catalog(table, "Gaia DR3", GAIA_EPOCH)


def _fetched(address: str) -> bytes:
    if not address.startswith(("https://", "http://")):
        raise Unprocessable(f"no catalogue: {address.partition('?')[0]} is no http address")
    log.info("asking for reference stars: %s", address.partition("?")[0])
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the scheme was checked
            return answer.read(MAX_BYTES)
    except (OSError, ValueError, urllib.error.URLError) as err:
        raise Unprocessable(f"no catalogue: {address.partition('?')[0]} cannot be reached: {err}") from err


def _vizier_table(text: str) -> Table:
    rows = vizier_rows(text)
    return Table({name: [_number(row[name]) for row in rows] for name in rows[0]}) if rows else Table()


def vizier_rows(text: str) -> list[dict[str, str]]:
    """Rows of a tab-separated answer of VizieR, by the names of columns: comments, names, units, dashes, rows."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) < 4:
        return []
    names = [name.strip() for name in lines[0].split("\t")]
    rows = csv.reader(io.StringIO("\n".join(lines[3:])), delimiter="\t")
    return [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")

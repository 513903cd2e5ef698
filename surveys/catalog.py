"""Source catalogues: tables with names and coordinates, looked up by name or position."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsarchive.core.rules import names_in, select_rows
from obsarchive.errors import ConfigError
from obsarchive.science.astrometry.spherical import apply_proper_motion, unit_vectors
from obsarchive.science.astrometry.times import julian_year, mjd_of
from surveys.dataset import data_root
from surveys.formats.catalog_columns import KNOWN, PREFERRED, as_names, find_columns, in_degrees
from surveys.formats.photometry_columns import known
from surveys.parameters import Configured, Parameters
from surveys.provenance import hash_of

if TYPE_CHECKING:
    from scipy.spatial import KDTree

    from obsarchive.io.catalog_tables import ColumnTable

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Row = dict[str, Any]

FOLDER = Path("catalogs")
WHITE_DWARFS = "GaiaEDR3_WD_main.fits"
WHITE_DWARFS_SERVICE = "https://warwick.ac.uk"
WHITE_DWARFS_PATH = "/fac/sci/physics/research/astro/research/catalogues/gaiaedr3_wd_main.fits.gz"
"""Gentile Fusillo et al. (2021, MNRAS 508, 3877)."""
EDR3_EPOCH = 2016.0
DEFAULTS = {"wd": "WD", "wds": "WD", "white dwarf": "WD", "white dwarfs": "WD", "test": "test"}
MOST_DUPLICATES = 5


class ParsCatalog(Parameters):
    """Parameters of a catalogue."""

    default_cfg_key = "catalog"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        add = self.add_par
        self.default = add("default", None, (None, str), "WD: white dwarfs of Gaia EDR3; test: synthetic sources")
        self.filename = add("filename", None, (None, str), "a FITS, CSV, HDF5, VOTable or parquet file")
        self.where = add("where", None, (None, str), "expression that selects rows, such as: mag < 16 and dec > 0")
        self.test_size = add("test_size", 10, int, "sources of the test catalogue")
        for what in KNOWN:
            setattr(self, f"{what}_column", add(f"{what}_column", None, (None, str), f"column with {what}"))
        self.alias_column = add("alias_column", None, (None, str, list), "column or columns with other names")
        self.preferred_mag = add("preferred_mag", None, (None, str), "Gaia_G, Gaia_BP, Gaia_RP, or a column")
        self.epoch = add(
            "epoch", None, (None, float), "Julian year of the coordinates; None: from the catalogue", unit="yr"
        )
        self.service = add(
            "service", WHITE_DWARFS_SERVICE, str, "where the default catalogue comes from", critical=False
        )


class Catalog(Configured):
    """A source catalogue.

    Parameters
    ----------
    **kwargs
        Parameters; see ``describe()`` of its `pars`.

    Raises
    ------
    ConfigError
        No file, a missing column, or an expression that cannot be parsed.
    """

    pars_class = ParsCatalog

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._table: ColumnTable | None = None
        self._rows: NDArray[np.int64] = np.empty(0, np.int64)
        self._columns: dict[str, str] = {}
        self._values: dict[str, NDArray[Any]] = {}

    @property
    def path(self) -> Path | None:
        """The file; None for the synthetic test catalogue."""
        if self.pars.filename:
            return _found(Path(self.pars.filename).expanduser())
        default = DEFAULTS.get(str(self.pars.default or "test").lower())
        if default is None:
            raise ConfigError(
                f"catalog: default: {self.pars.default!r} is none of WD, test; a file is named by filename"
            )
        return None if default == "test" else _found(Path(WHITE_DWARFS))

    def load(self) -> None:
        """Read the catalogue unless it is in memory; the default one is downloaded if it is missing."""
        if self._values:
            return
        path = self.path
        if path is None:
            values = _made_up(self.pars.test_size)
            self._choose(values, dict(values))
            return
        if not path.exists() and not self.pars.filename:
            path = self._fetch(path)
        if not path.exists():
            tried = ", ".join(str(place.absolute()) for place in _places(Path(self.pars.filename).expanduser()))
            raise ConfigError(f"{self.pars.filename}: expected a table, found no such file; tried {tried}")
        from obsarchive.io.catalog_tables import open_table  # late: it imports the libraries of all formats

        self._table = open_table(path)
        self._columns = self._find_columns(self._table.names)
        values = {what: self._table.column(name) for what, name in self._columns.items()}
        values |= {what: in_degrees(values[what], what) for what in ("ra", "dec")}
        self._choose({**values, "name": as_names(values["name"])}, {})

    def _fetch(self, path: Path) -> Path:
        """Download the default catalogue and return the compressed file."""
        from obsarchive.io.catalog_tables import open_table
        from obsarchive.remote.http import HttpClient

        log.info("%s is not here: it is fetched from %s", path.name, self.pars.service)
        packed = path.with_name(f"{path.name}.gz")
        with HttpClient("the catalogue of white dwarfs", self.pars.service, timeout_s=120.0) as client:
            client.download(WHITE_DWARFS_PATH, packed)
        try:
            open_table(packed)
        except ConfigError:
            packed.unlink()  # an error page instead of the catalogue, or half of it
            raise
        return packed

    def _find_columns(self, names: Sequence[str]) -> dict[str, str]:
        """Return the names of the columns that are used, by their meaning."""
        requested: dict[str, str | None] = {what: self.pars[f"{what}_column"] for what in KNOWN}
        preferred = self.pars.preferred_mag
        if preferred and not requested["mag"]:
            requested["mag"] = PREFERRED.get(preferred.lower(), preferred)
        try:
            return find_columns(names, requested)
        except ConfigError as err:
            raise ConfigError(f"{self.path}: {err}") from err

    def _choose(self, values: dict[str, NDArray[Any]], columns: dict[str, NDArray[Any]]) -> None:
        """Select the rows that have a name and a position, pass the cut, and are the first of their name."""
        keep = np.isfinite(values["ra"]) & (np.abs(values["dec"]) <= 90) & (values["name"] != "")
        if not keep.all():
            log.warning("%s: %d rows without a name or position are skipped", self.path, int((~keep).sum()))
        if self.pars.where:
            for name in names_in(self.pars.where):
                if name in values:
                    columns[name] = values[name]
                elif self._table is not None and name in self._table.names:
                    columns[name] = self._table.column(name)
            keep &= select_rows(self.pars.where, columns or values)
        rows = np.flatnonzero(keep)
        names = values["name"][rows]
        _, first = np.unique(names, return_index=True)
        if len(first) < len(rows):
            again = np.delete(names, first)[:MOST_DUPLICATES].tolist()
            log.warning("%s: %d names occur again and are skipped: %s …", self.path, len(rows) - len(first), again)
            rows = rows[np.sort(first)]
        self._rows = rows
        self._values = {what: own[rows] for what, own in values.items()}

    def __len__(self) -> int:
        self.load()
        return len(self._rows)

    @cached_property
    def names(self) -> list[str]:
        """Names of all sources."""
        self.load()
        return [str(name) for name in self._values["name"].tolist()]

    @cached_property
    def _by_name(self) -> dict[str, int]:
        known = {name: i for i, name in enumerate(self.names)}
        for values in self._aliases:
            for i, alias in enumerate(values.tolist()):
                if alias != "":
                    known.setdefault(str(alias), i)
        return known

    @cached_property
    def _aliases(self) -> list[NDArray[Any]]:
        requested = self.pars.alias_column
        columns = [] if requested is None else [requested] if isinstance(requested, str) else list(requested)
        return [as_names(self._extra(column)) for column in columns]

    def _extra(self, column: str) -> NDArray[Any]:
        if self._table is None:
            raise ConfigError(f"the test catalogue has no column {column!r}")
        return self._table.column(column)[self._rows]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @property
    def data(self) -> Any:
        """The whole catalogue as a pandas table; large files take much memory."""
        import pandas as pd

        self.load()
        if self._table is None:
            return pd.DataFrame(self._values)
        return pd.DataFrame({name: self._extra(name) for name in self._table.names})

    def places(self, obstime: datetime | float | None = None) -> tuple[Floats, Floats]:
        """Return the coordinates (n,) [deg] of all sources.

        Parameters
        ----------
        obstime : datetime or float, optional
            Epoch to which proper motion is applied, a time or a Julian year; None: coordinates as in the catalogue.
        """
        self.load()
        return self._moved(slice(None), obstime)

    def _moved(self, which: Any, obstime: datetime | float | None) -> tuple[Floats, Floats]:
        position = self._values["ra"][which], self._values["dec"][which]
        if obstime is None or "pmra" not in self._values or "pmdec" not in self._values:
            return position
        year = julian_year(mjd_of(obstime)) if isinstance(obstime, datetime) else float(obstime)
        return apply_proper_motion(
            position, (self._values["pmra"][which], self._values["pmdec"][which]), year - self.epoch
        )

    @property
    def epoch(self) -> float:
        """Julian year of the coordinates: as configured, from the column ``ref_epoch``, or that of Gaia EDR3."""
        if self.pars.epoch is not None:
            return float(self.pars.epoch)
        return self._stated_epoch

    @cached_property
    def _stated_epoch(self) -> float:
        self.load()
        named = [] if self._table is None else [name for name in self._table.names if name.lower() == "ref_epoch"]
        return float(self._extra(named[0])[0]) if named and len(self._rows) else EDR3_EPOCH

    def get_row(
        self,
        loc: int | str,
        output: str = "dict",
        obstime: datetime | float | None = None,
        preferred_mag: str | None = None,
    ) -> Row:
        """Return a source.

        Parameters
        ----------
        loc : int or str
            Its row number, or its name or alias.
        output : str
            ``dict``: name, ra, dec [deg], mag, mag_err, pmra, pmdec [mas/yr], parallax [mas], aliases, cat_index;
            ``raw``: all columns of the file.
        obstime : datetime or float, optional
            Epoch of the coordinates; proper motion is enough, a parallax is not needed.
        preferred_mag : str, optional
            Another magnitude than the configured one.

        Returns
        -------
        dict
            Values by name; None where the catalogue has none.

        Raises
        ------
        KeyError
            There is no such source.
        """
        self.load()
        if isinstance(loc, str):
            if loc not in self._by_name:
                raise KeyError(f"no source {loc!r} in the catalogue {self.path or 'of tests'}")
            loc = self._by_name[loc]
        if not -len(self) <= loc < len(self):
            raise KeyError(f"no source number {loc} in a catalogue of {len(self)}")
        loc = int(loc) % len(self)
        if output == "raw":
            return self._raw(loc)
        ra, dec = self._moved(slice(loc, loc + 1), obstime)
        row: Row = {"name": self.names[loc], "ra": float(ra[0]), "dec": float(dec[0])}
        row |= {what: known(self._values[what][loc]) if what in self._values else None for what in list(KNOWN)[3:]}
        if preferred_mag is not None:
            row["mag"] = known(self._extra(PREFERRED.get(preferred_mag.lower(), preferred_mag))[loc])
        row["aliases"] = [str(values[loc]) for values in self._aliases if values[loc] != ""]
        row["cat_index"] = loc
        return row

    def _raw(self, loc: int) -> Row:
        if self._table is None:
            return {what: values[loc].item() for what, values in self._values.items()}
        return self._table.row(int(self._rows[loc]))

    def rows(self, which: Sequence[int]) -> Iterator[Row]:
        """Yield several sources, by their row numbers."""
        for loc in which:
            yield self.get_row(loc)

    def values_from_row(
        self, row: Mapping[str, Any]
    ) -> tuple[int, str, float, float, float | None, float | None, list[str]]:
        """Return cat_index, name, ra, dec [deg], mag, mag_err and aliases of a row."""
        known = self.get_row(str(row["name"])) if "cat_index" not in row else row
        return (
            known["cat_index"],
            known["name"],
            known["ra"],
            known["dec"],
            known.get("mag"),
            known.get("mag_err"),
            known.get("aliases", []),
        )

    def indices(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Return the row numbers of sources by their names or aliases; -1 for unknown ones."""
        known = self._by_name
        return np.array([known.get(name, -1) for name in names], np.int64)

    @cached_property
    def _tree(self) -> "KDTree":
        from scipy.spatial import KDTree  # late: only needed for look-ups by position

        self.load()
        return KDTree(unit_vectors(self._values["ra"], self._values["dec"]))

    def match(self, ra: ArrayLike, dec: ArrayLike, radius: float | None = 2.0) -> tuple[NDArray[np.int64], Floats]:
        """Return the nearest source to each of many positions, also across RA 0 h and at the poles.

        Parameters
        ----------
        ra, dec : array_like (n,)
            Positions [deg].
        radius : float or None
            Largest separation [arcsec]; None: no limit.

        Returns
        -------
        index : ndarray of int (n,)
            Row numbers; -1 without a match.
        separation : ndarray (n,)
            Angular separations [arcsec]; inf without a match.
        """
        wanted = unit_vectors(np.atleast_1d(np.asarray(ra, float)), np.atleast_1d(np.asarray(dec, float)))
        known = np.isfinite(wanted).all(axis=1)
        # the limit of a KD-tree is exclusive; sources at exactly `radius` match, too
        limit = np.inf if radius is None else 2 * np.sin(np.radians(min(radius / 3600, 180.0)) / 2) + 1e-13
        chord, index = np.full(len(wanted), np.inf), np.full(len(wanted), -1)
        chord[known], index[known] = self._tree.query(wanted[known], distance_upper_bound=limit)
        far = ~np.isfinite(chord)
        distance = np.degrees(2 * np.arcsin(np.clip(np.where(far, 0, chord) / 2, 0, 1))) * 3600
        return np.where(far, -1, index), np.where(far, np.inf, distance)

    def get_nearest_row(
        self,
        ra: float,
        dec: float,
        radius: float | None = 2.0,
        output: str = "dict",
        obstime: datetime | float | None = None,
    ) -> Row | None:
        """Return the source nearest to a position.

        Parameters
        ----------
        ra, dec : float
            Position [deg].
        radius : float or None
            Largest separation [arcsec]; None: no limit.
        output, obstime
            As of `get_row`.

        Returns
        -------
        dict or None
            The row; None if there is no source within `radius`.
        """
        index, _ = self.match(ra, dec, radius)
        return None if index[0] < 0 else self.get_row(int(index[0]), output, obstime)

    def make_smaller_catalog(self, which: Sequence[int]) -> Self:
        """Return a catalogue of some of the sources, by their row numbers."""
        self.load()
        made = type(self)(**{**self.pars.to_dict(), "cfg_file": None})
        made._table, made._columns = self._table, self._columns
        chosen = np.asarray(which, np.int64)
        made._rows, made._values = self._rows[chosen], {what: values[chosen] for what, values in self._values.items()}
        return made

    @property
    def cat_hash(self) -> str:
        """Hash of names and coordinates."""
        ra, dec = self.places()
        return hash_of({"names": self.names, "ra": np.round(ra, 7).tolist(), "dec": np.round(dec, 7).tolist()})


def _places(name: Path) -> list[Path]:
    return [name] if name.is_absolute() else [name, FOLDER / name, data_root() / FOLDER / name]


def _found(name: Path) -> Path:
    """Return the path of a file: as given, in ``catalogs`` of the working directory, or in that of the data folder."""
    places = _places(name)
    for place in [*places, *(place.with_name(place.name + ".gz") for place in places)]:
        if place.exists():
            return place
    return places[-1]


def _made_up(n: int) -> dict[str, NDArray[Any]]:
    """Return synthetic sources, isotropic on the sky and always the same."""
    rng = np.random.default_rng(20220101)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    names = np.array([f"J{a:09.5f}{d:+09.5f}" for a, d in zip(ra, dec, strict=True)])
    return {"name": names, "ra": ra, "dec": dec, "mag": rng.uniform(15, 20, n), "mag_err": rng.uniform(0.01, 0.1, n)}

"""Source catalogues: tables with names and coordinates, looked up by name or position."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsarchive.core.rules import names_in, select_rows
from obsarchive.errors import ConfigError
from obsarchive.science.astrometry.spherical import apply_proper_motion, unit_vectors
from obsarchive.science.astrometry.times import julian_year, mjd_of
from surveys.dataset import data_root
from surveys.formats.brightness import NO_MAGNITUDE
from surveys.formats.catalog_columns import KNOWN, NEEDED, PREFERRED, as_names, find_columns, names_of_places
from surveys.formats.photometry_columns import known
from surveys.parameters import Configured, Parameters

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
MOST_LISTED = 5
MOST_SHOWN = 10
SAME_ARCSEC = 1.0
"""Rows of the same name within this separation are the same source."""


class ParsCatalog(Parameters):
    """Parameters of a catalogue."""

    default_cfg_key = "catalog"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        add = self.add_par
        self.default = add("default", None, (None, str), "WD: white dwarfs of Gaia EDR3; test: synthetic sources")
        self.filename = add("filename", None, (None, str), "a FITS, text, HDF5, VOTable or parquet file")
        self.table = add(
            "table",
            None,
            (None, str, int),
            "number or name of the table in the file, if it has several",
            critical=False,
        )
        self.where = add("where", None, (None, str), "expression that selects rows, such as: mag < 16 and dec > 0")
        self.test_size = add("test_size", 10, int, "sources of the test catalogue", least=0)
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

    It has a length, and is iterated and indexed by row number or name to rows as of `get_row`; slices, masks and lists
    give smaller catalogues.

    Parameters
    ----------
    data : Table, DataFrame, SkyCoord, mapping of columns, list of mappings, or str, optional
        The catalogue itself, or the name of its file; by default that of the parameters.
    names : sequence of str, optional
        Names of the sources of `data`; by default those in it, or made of the positions.
    **kwargs
        Parameters; see ``describe()`` of its `pars`.

    Raises
    ------
    ConfigError
        No file, a missing column, or an expression that cannot be parsed.
    """

    pars_class = ParsCatalog

    def __init__(self, data: Any = None, names: Sequence[str] | None = None, **kwargs: Any) -> None:
        if isinstance(data, str | Path):
            data, kwargs = None, {**kwargs, "filename": str(data)}
        super().__init__(**kwargs)
        self._given: ColumnTable | None = None
        if data is not None:
            from surveys.formats.catalog_data import table_of  # late: it imports astropy

            self._given = table_of(data, names)
        self._table: ColumnTable | None = None
        self._rows: NDArray[np.int64] = np.empty(0, np.int64)
        self._columns: dict[str, str] = {}
        self._values: dict[str, NDArray[Any]] = {}

    @property
    def path(self) -> Path | None:
        """The file; None for the synthetic test catalogue, and for one in memory."""
        if self._given is not None:
            return None
        if self.pars.filename:
            return self._located()[0]
        default = DEFAULTS.get(str(self.pars.default or "test").lower())
        if default is None:
            raise ConfigError(
                f"catalog: default: {self.pars.default!r} is none of WD, test; a file is named by filename"
            )
        return None if default == "test" else _found(Path(WHITE_DWARFS))

    def _located(self) -> tuple[Path, str | int | None]:
        """Return the file, and the table in it that is named."""
        name = Path(self.pars.filename).expanduser()
        found = _found(name)
        if found.exists() or "[" not in name.name:
            return found, self.pars.table
        from obsarchive.io.catalog_tables import named_table

        file, table = named_table(name)
        return _found(file), table if self.pars.table is None else self.pars.table

    @property
    def origin(self) -> str:
        """Where it comes from: its file, ``test``, or the kind of object."""
        return str(self._given.path if self._given is not None else self.path or "test")

    @property
    def is_in_memory(self) -> bool:
        """Whether it was given as an object."""
        return self._given is not None

    def load(self) -> None:
        """Read the catalogue unless it is in memory; the default one is downloaded if it is missing."""
        if self._values:
            return
        path = self.path
        if self._given is None and path is None:
            values = _made_up(self.pars.test_size)
            self._choose(values, dict(values))
            return
        self._table = self._given or self._opened(path)
        self._columns = self._find_columns(self._table.names)
        values = self._converted(self._table)
        if "mag" in values:
            values["mag"] = _without_placeholders(values["mag"])
        self._choose(values, {})
        if not len(self._rows):
            log.warning("%s: no source is left of %d rows", self.origin, len(self._table))

    def _opened(self, path: Path | None) -> "ColumnTable":
        from obsarchive.io.catalog_tables import open_table  # late: it imports the libraries of all formats

        table = None
        if self.pars.filename:
            path, table = self._located()
        elif path is not None and not path.exists():
            path = self._fetch(path)
        if path is None or not path.exists():
            tried = ", ".join(str(place.absolute()) for place in _places(Path(self.pars.filename).expanduser()))
            raise ConfigError(f"{self.pars.filename}: expected a table, found no such file; tried {tried}")
        return open_table(path, table)

    def _converted(self, table: "ColumnTable") -> dict[str, NDArray[Any]]:
        """Return the columns that are used, by meaning, in the units of `get_row`."""
        from obsarchive.io.column_units import degrees_of, doubt_of, quantity_of, unit_in_name

        values = {what: table.column(name) for what, name in self._columns.items()}
        is_bare = values["ra"].dtype.kind not in "UO"
        try:
            for what in NEEDED:
                name = self._columns[what]
                is_bare &= not (table.unit(name) or unit_in_name(name)[1])
                values[what] = degrees_of(values[what], what, table.unit(name), name)
        except ConfigError as err:
            raise ConfigError(f"{self.origin}: {err}") from err
        doubt = doubt_of(values["ra"], values["dec"]) if is_bare else ""
        if doubt:
            log.warning("%s: %s; name a unit in the file or the column, as ra_hours", self.origin, doubt)
        for what in set(values) - {"name", *NEEDED}:
            try:
                values[what] = quantity_of(values[what], what, table.unit(self._columns[what]), self._columns[what])
            except ConfigError as err:
                if self.pars[f"{what}_column"]:
                    raise ConfigError(f"{self.origin}: {err}") from err
                log.warning("%s: %s; it is not used", self.origin, err)
                del values[what], self._columns[what]
        if "name" in values:
            values["name"] = as_names(values["name"])
        else:
            log.info("%s has no column of names: they are made of the positions", self.origin)
            values["name"] = names_of_places(values["ra"], values["dec"])
        return values

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
            raise ConfigError(f"{self.origin}: {err}{self._other_tables()}") from err

    def _other_tables(self) -> str:
        path = self.path
        return "" if path is None else f"; another table of the file is named as {path.name}[NUMBER]"

    def _choose(self, values: dict[str, NDArray[Any]], columns: dict[str, NDArray[Any]]) -> None:
        """Select the rows that have a name and a position, pass the cut, and are the first of their name."""
        keep = np.isfinite(values["ra"]) & np.isfinite(values["dec"]) & (values["name"] != "")
        if not keep.all():
            lost = np.flatnonzero(~keep)
            listed = ", ".join(_label(values, i) for i in lost[:MOST_LISTED].tolist())
            log.warning(
                "%s: %d rows without a name or position are skipped: %s%s",
                self.origin,
                len(lost),
                listed,
                " …" if len(lost) > MOST_LISTED else "",
            )
        if self.pars.where:
            for name in names_in(self.pars.where):
                if name in values:
                    columns[name] = values[name]
                elif self._table is not None and name in self._table.names:
                    columns[name] = self._table.column(name)
            keep &= select_rows(self.pars.where, columns or values)
        rows = self._distinct(values, np.flatnonzero(keep))
        self._rows = rows
        self._values = {what: own[rows] for what, own in values.items()}
        self._values["ra"] = self._checked(rows)

    def _checked(self, rows: NDArray[np.int64]) -> Floats:
        """Return the right ascensions; an error names rows that are not on the sphere."""
        from obsarchive.io.column_units import checked_places

        values = self._values
        try:
            return checked_places(values["ra"], values["dec"], lambda i: f"row {rows[i] + 1} ({values['name'][i]})")
        except ConfigError as err:
            self._values = {}
            raise ConfigError(f"{self.origin}: {err}, or exclude them by where") from err

    def _distinct(self, values: Mapping[str, NDArray[Any]], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows that are the first of their name."""
        names = values["name"][rows]
        _, first = np.unique(names, return_index=True)
        if len(first) == len(rows):
            return rows
        _, which = np.unique(names, return_inverse=True)
        again = np.delete(names, first)[:MOST_LISTED].tolist()
        ra, dec = values["ra"][rows], values["dec"][rows]
        earlier = unit_vectors(ra[first][which], dec[first][which])
        apart = np.linalg.norm(unit_vectors(ra, dec) - earlier, axis=1) > np.radians(SAME_ARCSEC / 3600)
        hint = ""
        if apart.any():
            one = _label(values, int(rows[np.argmax(apart)]))
            hint = f"; {int(apart.sum())} of them are elsewhere, as {one}: if names are not unique, set name_column"
        log.warning(
            "%s: %d names occur again and are skipped: %s …%s", self.origin, apart.size - first.size, again, hint
        )
        return rows[np.sort(first)]

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

    def __iter__(self) -> Iterator[Row]:
        return self.rows(range(len(self)))

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, str):
            return self.get_row(which)
        if isinstance(which, int | np.integer):
            if not -len(self) <= which < len(self):
                raise IndexError(f"no source number {which} in a catalogue of {len(self)}")
            return self.get_row(int(which))
        if isinstance(which, slice):
            return self.make_smaller_catalog(range(len(self))[which])
        chosen = np.asarray(which) if len(which) else np.empty(0, np.int64)
        if chosen.dtype.kind in "UO":
            return self.make_smaller_catalog([int(self.get_row(str(name))["cat_index"]) for name in chosen])
        # numpy checks masks and numbers
        return self.make_smaller_catalog(np.arange(len(self))[chosen].tolist())

    def __repr__(self) -> str:
        size = f"{len(self._rows)} sources" if self._values else "not read yet"
        return f"<{type(self).__name__} {self.origin}: {size}>"

    def _repr_html_(self) -> str:
        if not self._values and self.origin.endswith(WHITE_DWARFS):
            return f"<p>{escape(repr(self))}</p>"  # it may have to be downloaded
        shown = self.make_smaller_catalog(range(min(len(self), MOST_SHOWN))).to_table()
        return f"<p>{escape(repr(self))}</p>{shown._repr_html_()}"

    def _all_columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns of `get_row`, and the others of the file."""
        self.load()
        columns = {"name": np.array(self.names, "U"), **{k: v for k, v in self._values.items() if k != "name"}}
        used = set(self._columns.values())
        others = [] if self._table is None else [name for name in self._table.names if name not in used]
        return columns | {name: self._extra(name) for name in others if name not in columns}

    def write(self, path: Path) -> None:
        """Write the sources, in the units of `get_row`, to a file that is read as the same catalogue.

        Parameters
        ----------
        path : Path
            Its suffix determines the format: FITS, CSV, HDF5, VOTable or parquet.
        """
        from obsarchive.io.catalog_tables import write_table

        columns = self._all_columns()
        while others := [name for what, name in find_columns(list(columns), {}).items() if name != what]:
            for name in others:
                del columns[name]  # it would be taken for that of the name or the magnitude
        write_table(path, columns)

    def to_table(self) -> Any:
        """Return the sources as a table of astropy: name, ra, dec … with units, and the file's other columns."""
        from surveys.formats.catalog_data import UNITS, as_table

        columns = self._all_columns()
        units = {} if self._table is None else {name: self._table.unit(name) for name in columns}
        return as_table(columns, {**units, **UNITS})

    def to_pandas(self) -> Any:
        """Return the sources as a table of pandas, with the columns of `to_table`."""
        import pandas as pd

        return pd.DataFrame(self._all_columns())

    def to_skycoord(self, obstime: datetime | float | None = None) -> Any:
        """Return the coordinates (ICRS) as a SkyCoord of astropy, at the epoch of the catalogue or at `obstime`."""
        from astropy.coordinates import SkyCoord

        return SkyCoord(*self.places(obstime), unit="deg", frame="icrs")

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

    def proper_motions(self) -> Floats:
        """Return the proper motions (n, 2) of all sources [mas/yr]; NaN where the catalogue has none."""
        self.load()
        unknown = np.full(len(self._rows), np.nan)
        return np.stack([self._values.get(what, unknown).astype(np.float64) for what in ("pmra", "pmdec")], axis=1)

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
                raise KeyError(
                    f"no source {loc!r} in the catalogue {self.origin if self.origin != 'test' else 'of tests'}"
                )
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
        made._given, made._table, made._columns = self._given, self._table, self._columns
        chosen = np.asarray(which, np.int64)
        made._rows, made._values = self._rows[chosen], {what: values[chosen] for what, values in self._values.items()}
        return made

    @property
    def cat_hash(self) -> str:
        """Hash of names, coordinates and proper motions."""
        self.load()
        found = hashlib.sha256("\n".join(self.names).encode())
        for what, digits in (("ra", 7), ("dec", 7), ("pmra", 3), ("pmdec", 3)):
            if what in self._values:
                found.update(np.round(self._values[what].astype(np.float64), digits).tobytes())
        return found.hexdigest()[:16]


def _label(values: Mapping[str, NDArray[Any]], row: int) -> str:
    name = str(values["name"][row])
    return f"row {row + 1} ({name})" if name else f"row {row + 1}"


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


def _without_placeholders(mag: NDArray[Any]) -> NDArray[Any]:
    """Return magnitudes; 99.99, -999 and the like are missing."""
    if mag.dtype.kind not in "fiu" or not (np.abs(mag) >= NO_MAGNITUDE).any():
        return mag
    return np.where(np.abs(mag) < NO_MAGNITUDE, mag, np.nan)

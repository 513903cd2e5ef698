"""Source catalogues: tables with names and coordinates, looked up by name or position."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsarchive.errors import ConfigError
from obsarchive.science.astrometry.times import julian_year, mjd_of
from surveys.catalog_files import WHITE_DWARFS, find_file, find_table, open_catalog, open_white_dwarfs
from surveys.catalog_parameters import ParsCatalog
from surveys.catalog_sources import CatalogSources, Floats, sources_of_table, synthetic_sources
from surveys.formats.catalog_columns import KNOWN, PREFERRED, as_names, find_columns
from surveys.formats.photometry_columns import known
from surveys.parameters import Configured

if TYPE_CHECKING:
    from obsarchive.io.catalog_tables import ColumnTable

Row = dict[str, Any]

EDR3_EPOCH = 2016.0
DEFAULTS = {"wd": "WD", "wds": "WD", "white dwarf": "WD", "white dwarfs": "WD", "test": "test"}
MOST_SHOWN = 10


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
        self._sources: CatalogSources | None = None

    @property
    def path(self) -> Path | None:
        """The file; None for the synthetic test catalogue, and for one in memory."""
        if self._given is not None:
            return None
        if self.pars.filename:
            return find_table(self.pars.filename, self.pars.table)[0]
        default = DEFAULTS.get(str(self.pars.default or "test").lower())
        if default is None:
            raise ConfigError(
                f"catalog: default: {self.pars.default!r} is none of WD, test; a file is named by filename"
            )
        return None if default == "test" else find_file(Path(WHITE_DWARFS))

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
        _ = self._loaded

    @property
    def _loaded(self) -> CatalogSources:
        """The sources, read if they have not been."""
        if self._sources is None:
            self._sources = self._read()
        return self._sources

    def _read(self) -> CatalogSources:
        if self._given is None and self.path is None:
            return synthetic_sources(self.pars.test_size, self.pars.where)
        table = self._given or self._opened()
        named = {what for what in KNOWN if self.pars[f"{what}_column"]}
        return sources_of_table(table, self._find_columns(table.names), self.pars.where, self.origin, named)

    def _opened(self) -> "ColumnTable":
        if self.pars.filename:
            return open_catalog(self.pars.filename, self.pars.table)
        return open_white_dwarfs(self.pars.service)

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

    def __len__(self) -> int:
        return len(self._loaded)

    @property
    def names(self) -> list[str]:
        """Names of all sources."""
        return self._loaded.names

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
        return [as_names(self._loaded.column(column)) for column in columns]

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
        size = "not read yet" if self._sources is None else f"{len(self._sources)} sources"
        return f"<{type(self).__name__} {self.origin}: {size}>"

    def _repr_html_(self) -> str:
        if self._sources is None and self.origin.endswith(WHITE_DWARFS):
            return f"<p>{escape(repr(self))}</p>"  # it may have to be downloaded
        shown = self.make_smaller_catalog(range(min(len(self), MOST_SHOWN))).to_table()
        return f"<p>{escape(repr(self))}</p>{shown._repr_html_()}"

    def write(self, path: Path) -> None:
        """Write the sources, in the units of `get_row`, to a file that is read as the same catalogue.

        Parameters
        ----------
        path : Path
            Its suffix determines the format: FITS, CSV, HDF5, VOTable or parquet.
        """
        from obsarchive.io.catalog_tables import write_table

        columns = self._loaded.all_columns()
        while others := [name for what, name in find_columns(list(columns), {}).items() if name != what]:
            for name in others:
                del columns[name]  # it would be taken for that of the name or the magnitude
        write_table(path, columns)

    def to_table(self) -> Any:
        """Return the sources as a table of astropy: name, ra, dec … with units, and the file's other columns."""
        from surveys.formats.catalog_data import UNITS, as_table

        columns, table = self._loaded.all_columns(), self._loaded.table
        units = {} if table is None else {name: table.unit(name) for name in columns}
        return as_table(columns, {**units, **UNITS})

    def to_pandas(self) -> Any:
        """Return the sources as a table of pandas, with the columns of `to_table`."""
        import pandas as pd

        return pd.DataFrame(self._loaded.all_columns())

    def to_skycoord(self, obstime: datetime | float | None = None) -> Any:
        """Return the coordinates (ICRS) as a SkyCoord of astropy, at the epoch of the catalogue or at `obstime`."""
        from astropy.coordinates import SkyCoord

        return SkyCoord(*self.places(obstime), unit="deg", frame="icrs")

    @property
    def data(self) -> Any:
        """The whole catalogue as a pandas table; large files take much memory."""
        import pandas as pd

        sources = self._loaded
        if sources.table is None:
            return pd.DataFrame(sources.values)
        return pd.DataFrame({name: sources.column(name) for name in sources.column_names})

    def places(self, obstime: datetime | float | None = None) -> tuple[Floats, Floats]:
        """Return the coordinates (n,) [deg] of all sources.

        Parameters
        ----------
        obstime : datetime or float, optional
            Epoch to which proper motion is applied, a time or a Julian year; None: coordinates as in the catalogue.
        """
        return self._loaded.places(slice(None), self._years(obstime))

    def proper_motions(self) -> Floats:
        """Return the proper motions (n, 2) of all sources [mas/yr]; NaN where the catalogue has none."""
        return self._loaded.proper_motions()

    def _years(self, obstime: datetime | float | None) -> float | None:
        """Return the years from the epoch of the catalogue to another one; None if they make no difference."""
        if obstime is None or not self._loaded.has_proper_motion:
            return None
        return (julian_year(mjd_of(obstime)) if isinstance(obstime, datetime) else float(obstime)) - self.epoch

    @property
    def epoch(self) -> float:
        """Julian year of the coordinates: as configured, from the column ``ref_epoch``, or that of Gaia EDR3."""
        if self.pars.epoch is not None:
            return float(self.pars.epoch)
        return self._stated_epoch

    @cached_property
    def _stated_epoch(self) -> float:
        sources = self._loaded
        named = [name for name in sources.column_names if name.lower() == "ref_epoch"]
        return float(sources.column(named[0])[0]) if named and len(sources) else EDR3_EPOCH

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
        sources = self._loaded
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
            return sources.row(loc)
        ra, dec = sources.places(slice(loc, loc + 1), self._years(obstime))
        row: Row = {"name": self.names[loc], "ra": float(ra[0]), "dec": float(dec[0])}
        values = sources.values
        row |= {what: known(values[what][loc]) if what in values else None for what in list(KNOWN)[3:]}
        if preferred_mag is not None:
            row["mag"] = known(sources.column(PREFERRED.get(preferred_mag.lower(), preferred_mag))[loc])
        row["aliases"] = [str(values[loc]) for values in self._aliases if values[loc] != ""]
        row["cat_index"] = loc
        return row

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
        return self._loaded.match(ra, dec, radius)

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
        sources = self._loaded
        made = type(self)(**{**self.pars.to_dict(), "cfg_file": None})
        made._given, made._sources = self._given, sources.some(which)
        return made

    @property
    def cat_hash(self) -> str:
        """Hash of names, coordinates and proper motions."""
        return self._loaded.digest

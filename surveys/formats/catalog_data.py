"""Catalogues from objects in memory: tables of astropy and pandas, coordinates, lists of mappings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Column, MaskedColumn, Table
from numpy.typing import NDArray

from obsarchive.errors import ConfigError
from obsarchive.io.catalog_tables import ColumnTable
from obsarchive.io.text_tables import of_astropy

UNITS = {"ra": "deg", "dec": "deg", "mag": "mag", "mag_err": "mag"} | {"pmra": "mas / yr", "pmdec": "mas / yr"}
UNITS |= {"parallax": "mas"}
"""Units of the columns of a catalogue, by meaning."""


def table_of(data: Any, names: Sequence[str] | None = None) -> ColumnTable:
    """Return the table of an object in memory.

    Parameters
    ----------
    data : Table, DataFrame, SkyCoord, structured array, mapping of columns, or sequence of mappings
        Columns as in files; columns of type SkyCoord become ``ra`` and ``dec`` [deg, ICRS], quantities keep their unit.
    names : sequence of str, optional
        Names of the sources, in a column ``name``.

    Returns
    -------
    ColumnTable

    Raises
    ------
    ConfigError
        It is none of these, or has columns of the same name.
    """
    origin = Path(f"<{type(data).__name__}>")
    if not isinstance(data, SkyCoord) and callable(getattr(data, "to_table", None)):
        data = data.to_table()  # answers of PyVO, other catalogues
    table = _as_table(data)
    if names is not None:
        if len(names) != len(table):
            raise ConfigError(f"{origin}: expected {len(table)} names, found {len(names)}")
        table["name"] = np.asarray(names).astype("U")
    return ColumnTable(origin, of_astropy(origin, table))


def _as_table(data: Any) -> Table:
    if isinstance(data, SkyCoord):
        return Table(_of_coordinates(data.reshape(-1)))
    if isinstance(data, Table):
        return _of_columns({name: data[name] for name in data.colnames})
    if hasattr(data, "iloc"):  # pandas, which need not be imported
        named = data.reset_index() if data.index.name else data
        return Table({str(name): _of_series(named[name]) for name in named.columns})
    if isinstance(data, np.ndarray) and data.dtype.names:
        return Table(np.asarray(data))
    if isinstance(data, Mapping):
        return _of_columns(data)
    if isinstance(data, Sequence) and all(isinstance(row, Mapping) for row in data):
        rows = [dict(row) for row in data]
        keys = list(dict.fromkeys(key for row in rows for key in row))
        return Table({str(key): _of_values([row.get(key) for row in rows]) for key in keys})
    raise ConfigError(
        f"a catalogue is made of a file name, Table, DataFrame, SkyCoord, mapping of columns or list of rows; "
        f"found {type(data).__name__}"
    )


def _of_columns(columns: Mapping[Any, Any]) -> Table:
    made: dict[str, Any] = {}
    for name, column in columns.items():
        if isinstance(column, SkyCoord):
            made |= {key: value for key, value in _of_coordinates(column).items() if key not in columns}
        elif isinstance(column, Column | u.Quantity):
            made[str(name)] = column
        else:
            made[str(name)] = _of_values(list(column))
    return Table(made)


def _of_coordinates(coordinates: SkyCoord) -> dict[str, Any]:
    sky = coordinates.icrs
    found: dict[str, Any] = {"ra": sky.ra.deg * u.deg, "dec": sky.dec.deg * u.deg}
    if "s" in sky.data.differentials:
        found |= {"pmra": sky.pm_ra_cosdec.to(u.mas / u.yr), "pmdec": sky.pm_dec.to(u.mas / u.yr)}
    if getattr(sky, "obstime", None) is not None:
        found["ref_epoch"] = np.broadcast_to(sky.obstime.jyear, sky.ra.shape).copy()
    return found


def _of_series(series: Any) -> Any:
    missing = series.isna().to_numpy()
    values = series.to_numpy()
    if values.dtype.kind in "biuf":
        return values
    return _of_values([None if gone else value for value, gone in zip(values.tolist(), missing.tolist(), strict=True)])


def _of_values(values: list[Any]) -> Column:
    """Return values as a column; missing ones masked, of several kinds as text."""
    missing = [value is None for value in values]
    if all(isinstance(value, bool | int | float | np.number | np.bool_ | None) for value in values):
        return MaskedColumn([0 if gone else value for value, gone in zip(values, missing, strict=True)], mask=missing)
    if all(isinstance(value, u.Quantity) for value in values):
        return Column(u.Quantity(values))
    return MaskedColumn(["" if value is None else str(value) for value in values], mask=missing, dtype="U")


def as_table(columns: Mapping[str, NDArray[Any]], units: Mapping[str, str]) -> Table:
    """Return columns (n,) as a table of astropy, with units where they are understood; numbers that are NaN masked.

    Parameters
    ----------
    columns : mapping of str to ndarray (n,)
        Values by name.
    units : mapping of str to str
        Units by name.
    """
    table = Table()
    for name, values in columns.items():
        gaps = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
        table[name] = MaskedColumn(values, mask=gaps) if gaps.any() else Column(values)
        stated = units.get(name)
        if stated:
            table[name].unit = u.Unit(stated, parse_strict="silent")
    return table

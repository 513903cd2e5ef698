"""Columns and units of tables of astropy."""

from typing import Any

import numpy as np
from astropy.table import Table
from astropy.time import Time
from numpy.typing import NDArray

from surveys.formats.cell_values import text_of
from surveys.formats.hdf5_light_curves import Columns


def columns_of_table(table: Table) -> tuple[Columns, dict[str, str]]:
    """Return the one-dimensional columns of a table, and their units.

    Parameters
    ----------
    table : Table
        May have masked values, quantities and times; times are Julian dates then, in UTC.

    Returns
    -------
    columns : dict of str to ndarray (n,)
        Missing numbers are NaN, missing texts empty.
    units : dict of str to str
        Units by column, of those that have one.
    """
    columns: Columns = {}
    units: dict[str, str] = {}
    for name in table.colnames:
        column = table[name]
        if isinstance(column, Time):
            columns["mjd" if "mjd" not in table.colnames else name] = np.asarray(column.utc.mjd)
            continue
        if getattr(column, "ndim", 0) != 1:
            continue
        unit = getattr(column, "unit", None)
        columns[name] = _plain_array(column)
        if unit is not None and str(unit):
            units[name] = str(unit)
    return columns, units


def _plain_array(column: Any) -> NDArray[Any]:
    mask = np.ma.getmaskarray(column) if isinstance(column, np.ma.MaskedArray) else getattr(column, "mask", False)
    values = np.ma.getdata(column)
    values = np.asarray(getattr(values, "unmasked", values))
    mask = np.broadcast_to(mask, values.shape)
    if values.dtype.kind in "SUO":
        return np.where(mask, "", text_of(values))
    values = values.astype(values.dtype.newbyteorder("="))
    return np.where(mask, np.nan, values.astype(np.float64)) if mask.any() else values

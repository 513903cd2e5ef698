"""Queries with comparisons, sorting and limits, run in MongoDB, with tables as results.

::

    session.table(Detection, where="score > 10 and source.mag < 16", sort="-score", limit=100)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Column as TableColumn
from astropy.table import MaskedColumn, Table
from astropy.time import Time

from obsarchive.core.rules import conditions, lookup, names_in
from obsarchive.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from obsarchive.store import Surveys

SOURCE = "source."
"""Prefix of the columns of the source of a result."""
FREE = ("features.", "extra.")
"""Prefixes of values of properties, whose names depend on the analysis."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    path : str
        Field of the documents.
    kind : type
        float, int, str, bool or datetime.
    unit : str
        Unit of the values.
    """

    path: str
    kind: type
    unit: str = ""


_DTYPES: Mapping[type, str] = {str: "U", float: "f8", int: "i8", bool: "?"}


def _columns(named: Mapping[str, tuple[type, str]], paths: Mapping[str, str]) -> dict[str, Column]:
    return {name: Column(paths.get(name, name), kind, unit) for name, (kind, unit) in named.items()}


_OF_RESULTS: dict[str, tuple[type, str]] = {"source_name": (str, ""), "project": (str, "")}
_OF_CURVES: dict[str, tuple[type, str]] = {"observatory": (str, ""), "filter": (str, ""), "series_number": (int, "")}
COLUMNS: Mapping[str, Mapping[str, Column]] = {
    "sources": _columns(
        {
            **{"name": (str, ""), "ra": (float, "deg"), "dec": (float, "deg")},
            **{"mag": (float, "mag"), "mag_err": (float, "mag"), "mag_filter": (str, ""), "cat_name": (str, "")},
        },
        {"name": "_id", "ra": "ra_deg", "dec": "dec_deg"},
    ),
    "raw_photometry": _columns(
        {
            **{"source_name": (str, ""), "observatory": (str, ""), "state": (str, ""), "number": (int, "")},
            **{"fetched": (datetime, ""), "filename": (str, ""), "filekey": (str, ""), "reason": (str, "")},
        },
        {},
    ),
    "lightcurves": _columns(
        {
            **_OF_RESULTS,
            **_OF_CURVES,
            **{"series_total": (int, ""), "number": (int, ""), "was_processed": (bool, "")},
            **{"mjd_start": (float, "d"), "mjd_stop": (float, "d"), "cadence_d": (float, "d"), "mag": (float, "mag")},
            **{"flux_mean": (float, "uJy"), "flux_rms": (float, "uJy"), "is_uniform": (bool, "")},
            **{"filename": (str, ""), "filekey": (str, ""), "cfg_hash": (str, "")},
        },
        {"project": "run"},
    ),
    "detections": _columns(
        {
            **_OF_RESULTS,
            **_OF_CURVES,
            **{"number": (int, ""), "method": (str, ""), "score": (float, ""), "strength": (float, "")},
            **{"mjd_start": (float, "d"), "mjd_peak": (float, "d"), "mjd_stop": (float, "d")},
            **{"peak_mag": (float, "mag"), "n_epochs": (int, ""), "width_d": (float, "d"), "amplitude": (float, "uJy")},
            **{"quality": (bool, ""), "simulated": (bool, ""), "cfg_hash": (str, "")},
        },
        {"project": "run"},
    ),
    "properties": _columns(
        {
            **_OF_RESULTS,
            **{"state": (str, ""), "reason": (str, ""), "has_data": (bool, ""), "n_detections": (int, "")},
            **{"stale": (bool, ""), "made": (datetime, ""), "cfg_hash": (str, "")},
        },
        {"project": "run"},
    ),
}
"""Columns of the tables of each kind, by their names."""


def query_table(
    surveys: "Surveys", kind: str, own: Mapping[str, Any], where: str = "", sort: str = "", limit: int = 0
) -> Table:
    """Return the objects of a kind as a table.

    Parameters
    ----------
    surveys : Surveys
        The database.
    kind : str
        Collection: a key of `COLUMNS`.
    own : mapping
        Filter of MongoDB.
    where : str
        Expression of the project's rules over the columns, such as ``score > 10 and source.mag < 16``; those of the
        source of a result begin with ``source.``; of properties also ``features.…`` and ``extra.…``.
    sort : str
        Columns, separated by commas; those with a minus sign in descending order.
    limit : int
        Largest number of rows; 0: all.

    Returns
    -------
    Table
        With units; the columns that `where` and `sort` mention beside those of the kind.

    Raises
    ------
    ConfigError
        An expression that cannot be read, or an unknown column.
    """
    order = [(name.lstrip("-"), -1 if name.startswith("-") else 1) for name in sort.replace(" ", "").split(",") if name]
    mentioned = [*sorted(names_in(where) if where.strip() else ()), *(name for name, _ in order)]
    chosen = dict(COLUMNS[kind]) | {name: column_of(kind, name) for name in mentioned}
    _refuse_times(mentioned, chosen)
    wanted = conditions(where, {name: (column.path, column.kind) for name, column in chosen.items()})
    first = [query for names, query in wanted if not _of_source(names)]
    then = [query for names, query in wanted if _of_source(names)]
    found = surveys.select(
        kind,
        {"$and": [own, *first]},
        {"$and": then} if then else {},
        [(chosen[name].path, direction) for name, direction in order],
        limit,
        with_sources=_of_source(mentioned),
    )
    rows = list(found)
    table = Table(
        {name: _filled(column, [lookup(row, column.path) for row in rows]) for name, column in chosen.items()}
    )
    table.meta = {"where": where, "sort": sort}
    return table


def column_of(kind: str, name: str) -> Column:
    """Return a column by its name.

    Parameters
    ----------
    kind : str
        Collection.
    name : str
        Name of a column; with ``source.`` of that of the source.

    Returns
    -------
    Column

    Raises
    ------
    ConfigError
        There is no such column; the message has the nearest name.
    """
    known = dict(COLUMNS[kind])
    if kind != "sources":
        known |= {
            SOURCE + other: Column(SOURCE + column.path, column.kind, column.unit)
            for other, column in COLUMNS["sources"].items()
        }
    if name in known:
        return known[name]
    if kind == "properties" and name.startswith(FREE):
        return Column(name, float)
    hint = did_you_mean(name, known) or f"; there is {', '.join(known)}"
    raise ConfigError(f"no column {name!r}{hint}")


def _of_source(names: Iterable[str]) -> bool:
    return any(name.startswith(SOURCE) for name in names)


def _refuse_times(mentioned: Iterable[str], chosen: Mapping[str, Column]) -> None:
    for name in mentioned:
        if chosen[name].kind is datetime:
            raise ConfigError(f"{name} is a date, which is shown but cannot be compared or sorted")


def _filled(column: Column, values: Sequence[Any]) -> Any:
    """Return values as a column; missing ones are masked."""
    if column.kind is datetime:
        known = [value for value in values if value is not None]
        if len(known) == len(values) and values:
            return Time([value.replace(tzinfo=None) for value in values], scale="utc")
        values = ["" if value is None else f"{value:%Y-%m-%dT%H:%M:%SZ}" for value in values]
        return TableColumn(np.array(values, "U"))
    missing = [not isinstance(value, column.kind | int if column.kind is float else column.kind) for value in values]
    plain = [column.kind() if gone else value for value, gone in zip(values, missing, strict=True)]
    array = np.array(plain, _DTYPES[column.kind])
    made = MaskedColumn(array, mask=missing) if any(missing) else TableColumn(array)
    if column.unit:
        made.unit = column.unit
    return made

"""Sources of a catalogue: the rows of a table that have a name and a position, in the units of the archive."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from obsarchive.core.rules import names_in, select_rows
from obsarchive.errors import ConfigError
from obsarchive.science.astrometry.spherical import apply_proper_motion, unit_vectors
from surveys.formats.brightness import NO_MAGNITUDE
from surveys.formats.catalog_columns import NEEDED, as_names, names_of_places

if TYPE_CHECKING:
    from scipy.spatial import KDTree

    from obsarchive.io.catalog_tables import ColumnTable

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Values = dict[str, NDArray[Any]]

MOST_LISTED = 5
SAME_ARCSEC = 1.0
"""Rows of the same name within this separation are the same source."""


@dataclass(frozen=True, eq=False)
class CatalogSources:
    """Sources that were selected from a table.

    Parameters
    ----------
    values : dict of ndarray (n,)
        Their columns by meaning, as name, ra, dec [deg], mag, pmra, pmdec [mas/yr].
    rows : ndarray of int (n,)
        Their rows in the table.
    table : ColumnTable, optional
        The table; None of synthetic sources.
    columns : mapping of str to str
        Names of the columns of the table by their meaning.
    """

    values: Values
    rows: NDArray[np.int64]
    table: "ColumnTable | None" = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def names(self) -> list[str]:
        """Names of all sources."""
        return [str(name) for name in self.values["name"].tolist()]

    @property
    def column_names(self) -> list[str]:
        """All columns of the table."""
        return [] if self.table is None else list(self.table.names)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column of the table (n,), as it is there."""
        if self.table is None:
            raise ConfigError(f"the test catalogue has no column {name!r}")
        return self.table.column(name)[self.rows]

    def all_columns(self) -> Values:
        """Return the columns by meaning, and the others of the table by their names."""
        columns = {"name": np.array(self.names, "U"), **{k: v for k, v in self.values.items() if k != "name"}}
        used = set(self.columns.values())
        others = [name for name in self.column_names if name not in used]
        return columns | {name: self.column(name) for name in others if name not in columns}

    def row(self, number: int) -> dict[str, Any]:
        """Return all columns of the table of one source."""
        if self.table is None:
            return {what: values[number].item() for what, values in self.values.items()}
        return self.table.row(int(self.rows[number]))

    def some(self, which: Sequence[int]) -> Self:
        """Return some of the sources, by their numbers."""
        chosen = np.asarray(which, np.int64)
        values = {what: values[chosen] for what, values in self.values.items()}
        return replace(self, rows=self.rows[chosen], values=values)

    @property
    def has_proper_motion(self) -> bool:
        """Whether there are columns of proper motion."""
        return "pmra" in self.values and "pmdec" in self.values

    def places(self, which: Any, years: float | None) -> tuple[Floats, Floats]:
        """Return right ascensions and declinations [deg], moved by the proper motion of some years if these are given.

        Parameters
        ----------
        which : int, slice or ndarray
            Numbers of the sources.
        years : float or None
            Years from the epoch of the catalogue; only with proper motions.
        """
        position = self.values["ra"][which], self.values["dec"][which]
        if years is None:
            return position
        return apply_proper_motion(position, (self.values["pmra"][which], self.values["pmdec"][which]), years)

    def proper_motions(self) -> Floats:
        """Return the proper motions (n, 2) [mas/yr]; NaN where there is none."""
        unknown = np.full(len(self), np.nan)
        return np.stack([self.values.get(what, unknown).astype(np.float64) for what in ("pmra", "pmdec")], axis=1)

    @cached_property
    def _tree(self) -> "KDTree":
        from scipy.spatial import KDTree  # late: only needed for look-ups by position

        return KDTree(unit_vectors(self.values["ra"], self.values["dec"]))

    def match(self, ra: ArrayLike, dec: ArrayLike, radius: float | None) -> tuple[NDArray[np.int64], Floats]:
        """Return number and separation [arcsec] of the nearest source to each of many positions [deg].

        Parameters
        ----------
        ra, dec : array_like (n,)
            Positions [deg].
        radius : float or None
            Largest separation [arcsec]; None: no limit.

        Returns
        -------
        index : ndarray of int (n,)
            Numbers of the sources; -1 without a match.
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

    @property
    def digest(self) -> str:
        """Hash of names, coordinates and proper motions."""
        found = hashlib.sha256("\n".join(self.names).encode())
        for what, digits in (("ra", 7), ("dec", 7), ("pmra", 3), ("pmdec", 3)):
            if what in self.values:
                found.update(np.round(self.values[what].astype(np.float64), digits).tobytes())
        return found.hexdigest()[:16]


def synthetic_sources(n: int, where: str | None) -> CatalogSources:
    """Return synthetic sources, isotropic on the sky and always the same.

    Parameters
    ----------
    n : int
        Their number.
    where : str or None
        Expression that selects some of them.

    Returns
    -------
    CatalogSources
    """
    rng = np.random.default_rng(20220101)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    names = np.array([f"J{a:09.5f}{d:+09.5f}" for a, d in zip(ra, dec, strict=True)])
    values = {"name": names, "ra": ra, "dec": dec}
    values |= {"mag": rng.uniform(15, 20, n), "mag_err": rng.uniform(0.01, 0.1, n)}
    return _selected(values, where, "test", None, {})


def sources_of_table(
    table: "ColumnTable", columns: Mapping[str, str], where: str | None, origin: str, named: AbstractSet[str]
) -> CatalogSources:
    """Return the sources of a table.

    Parameters
    ----------
    table : ColumnTable
        The table.
    columns : mapping of str to str
        Names of the columns that are used, by their meaning.
    where : str or None
        Expression that selects rows.
    origin : str
        Where the table comes from, for messages.
    named : set of str
        Meanings of the columns that a user named: these must be usable.

    Returns
    -------
    CatalogSources

    Raises
    ------
    ConfigError
        Positions, or a column that a user named, cannot be understood; or the expression cannot.
    """
    values, used = _converted(table, dict(columns), origin, named)
    if "mag" in values:
        values["mag"] = _without_placeholders(values["mag"])
    found = _selected(values, where, origin, table, used)
    if not len(found):
        log.warning("%s: no source is left of %d rows", origin, len(table))
    return found


def _converted(
    table: "ColumnTable", columns: dict[str, str], origin: str, named: AbstractSet[str]
) -> tuple[Values, dict[str, str]]:
    """Return the values of the columns in the units of the archive, and the columns that can be understood."""
    from obsarchive.io.column_units import degrees_of, doubt_of, quantity_of, unit_in_name

    values = {what: table.column(name) for what, name in columns.items()}
    is_bare = values["ra"].dtype.kind not in "UO"
    try:
        for what in NEEDED:
            name = columns[what]
            is_bare &= not (table.unit(name) or unit_in_name(name)[1])
            values[what] = degrees_of(values[what], what, table.unit(name), name)
    except ConfigError as err:
        raise ConfigError(f"{origin}: {err}") from err
    doubt = doubt_of(values["ra"], values["dec"]) if is_bare else ""
    if doubt:
        log.warning("%s: %s; name a unit in the file or the column, as ra_hours", origin, doubt)
    for what in set(values) - {"name", *NEEDED}:
        try:
            values[what] = quantity_of(values[what], what, table.unit(columns[what]), columns[what])
        except ConfigError as err:
            if what in named:
                raise ConfigError(f"{origin}: {err}") from err
            log.warning("%s: %s; it is not used", origin, err)
            del values[what], columns[what]
    if "name" in values:
        values["name"] = as_names(values["name"])
    else:
        log.info("%s has no column of names: they are made of the positions", origin)
        values["name"] = names_of_places(values["ra"], values["dec"])
    return values, columns


def _selected(
    values: Values, where: str | None, origin: str, table: "ColumnTable | None", columns: Mapping[str, str]
) -> CatalogSources:
    """Return the rows that have a name and a position, pass the cut, and are the first of their name."""
    keep = np.isfinite(values["ra"]) & np.isfinite(values["dec"]) & (values["name"] != "")
    if not keep.all():
        lost = np.flatnonzero(~keep)
        listed = ", ".join(_label(values, i) for i in lost[:MOST_LISTED].tolist())
        more = " …" if len(lost) > MOST_LISTED else ""
        log.warning("%s: %d rows without a name or position are skipped: %s%s", origin, len(lost), listed, more)
    if where:
        keep &= select_rows(where, _columns_for(where, values, table))
    rows = _distinct(values, np.flatnonzero(keep), origin)
    chosen = {what: own[rows] for what, own in values.items()}
    chosen["ra"] = _checked(chosen, rows, origin)
    return CatalogSources(chosen, rows, table, columns)


def _columns_for(where: str, values: Values, table: "ColumnTable | None") -> Values:
    """Return the columns that an expression names, by meaning or as in the table; all where it names none of them."""
    if table is None:
        return values
    found: Values = {}
    for name in names_in(where):
        if name in values:
            found[name] = values[name]
        elif name in table.names:
            found[name] = table.column(name)
    return found or values


def _checked(values: Values, rows: NDArray[np.int64], origin: str) -> Floats:
    """Return the right ascensions; an error names rows that are not on the sphere."""
    from obsarchive.io.column_units import checked_places

    try:
        return checked_places(values["ra"], values["dec"], lambda i: f"row {rows[i] + 1} ({values['name'][i]})")
    except ConfigError as err:
        raise ConfigError(f"{origin}: {err}, or exclude them by where") from err


def _distinct(values: Values, rows: NDArray[np.int64], origin: str) -> NDArray[np.int64]:
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
    log.warning("%s: %d names occur again and are skipped: %s …%s", origin, apart.size - first.size, again, hint)
    return rows[np.sort(first)]


def _label(values: Values, row: int) -> str:
    name = str(values["name"][row])
    return f"row {row + 1} ({name})" if name else f"row {row + 1}"


def _without_placeholders(mag: NDArray[Any]) -> NDArray[Any]:
    """Return magnitudes; 99.99, -999 and the like are missing."""
    if mag.dtype.kind not in "fiu" or not (np.abs(mag) >= NO_MAGNITUDE).any():
        return mag
    return np.where(np.abs(mag) < NO_MAGNITUDE, mag, np.nan)

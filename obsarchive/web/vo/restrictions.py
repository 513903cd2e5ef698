"""What a condition on files demands of observations, so that the database need not send all of them.

The restriction of a condition lets too much pass where it cannot say more; the condition itself is then evaluated for
every file that comes.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from obsarchive.core.document_paths import DEC_DEG, PROGRAM_ID, RA_DEG
from obsarchive.science.astrometry.sky_regions import Region
from obsarchive.store.file_queries import (
    NOTHING,
    AllParts,
    AnyOf,
    AnyPart,
    Containing,
    Restriction,
    RightAscension,
    Within,
)
from obsarchive.store.search import Cone
from obsarchive.web.vo.adql_evaluation import Compiler, LikePattern, Table
from obsarchive.web.vo.adql_functions import read_region
from obsarchive.web.vo.adql_nodes import (
    Between,
    Call,
    ColumnName,
    Comparison,
    Constant,
    Like,
    Logical,
    Negation,
    Node,
    OneOf,
    children,
)
from obsarchive.web.vo.archive_files import MJD_EPOCH, Archive, read_did

TEXTS = {
    "obs_id": "_id",
    "target_name": "name",
    "facility_name": "telescope",
    "instrument_name": "camera",
    "proposal_id": PROGRAM_ID,
}
"""Columns that are fields of observations."""
FIXED: dict[str, tuple[Any, ...]] = {
    "calib_level": (1, 2, 3),
    "dataproduct_type": ("image", "cube", "measurements"),
    "o_ucd": ("phot.count",),
    "em_xel": (1,),
    "t_resolution": (None,),
    "t_xel": (None,),
    "pol_states": (None,),
    "pol_xel": (None,),
}
"""All values that some columns may have."""
NULL_OF_MASTERS = frozenset(
    {"target_name", "s_ra", "s_dec", "s_region", "s_footprint", "s_resolution", "s_fov", "s_pixel_scale", "t_exptime"}
    | {"em_min", "em_max", "em_res_power", "facility_name", "instrument_name", "proposal_id"}
)
"""Columns that a master dark or flat has no value of; conditions on them are never true of one."""
BANDS = frozenset({"em_min", "em_max", "em_res_power"})
LONGEST_EXPOSURE_D = 1.0
ROUNDING = timedelta(seconds=1)
"""More than a time loses as a number of days."""
POINTING_ERROR_DEG = 0.2
"""How far the header of a product may place it from where the telescope was pointed."""
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "<>": "<>"}


@dataclass(frozen=True)
class Reader:
    """Reads restrictions from conditions.

    Parameters
    ----------
    archive : Archive
        Telescopes and names.
    table : Table
        The table of files.
    """

    archive: Archive
    table: Table

    @property
    def margin_deg(self) -> float:
        """How far a position in an image may lie from that of its observation [deg]."""
        fields = [t.plate_scale_arcsec * sum(t.detector_px) / 3600 for t in self.archive.telescopes.values()]
        return max(fields, default=0.0) + POINTING_ERROR_DEG

    def read(self, node: Node) -> Restriction | None:
        """Return the restriction of a condition; None if it says nothing about observations."""
        match node:
            case Logical("AND"):
                parts = [part for part in map(self.read, node.parts) if part]
                return AllParts(tuple(parts)) if parts else None
            case Logical("OR"):
                found = [self.read(part) for part in node.parts]
                known = tuple(part for part in found if part)
                return AnyPart(known) if len(known) == len(found) else None
            case _:
                return self._of_few_values(node) or self._of_predicate(node)

    def _of_few_values(self, node: Node) -> Restriction | None:
        """Restriction of a condition on columns that have few values: none, or some filters."""
        names = columns_of(node)
        if names and names <= BANDS:
            condition = Compiler(_constant_table(self.table, BANDS)).condition(node)
            bands = self.archive.passbands().items()
            good = [name for name, some in bands if any(condition(_band_row(*band)) is True for band in some)]
            may_be_null = condition(dict.fromkeys(BANDS)) is True
            return None if may_be_null else AnyOf("filter", tuple(good))
        fixed = {**FIXED, "obs_collection": (self.archive.collection,)}
        if not names or not names <= fixed.keys():
            return None
        condition = Compiler(_constant_table(self.table, names)).condition(node)
        rows = (dict(zip(names, row, strict=True)) for row in itertools.product(*(fixed[name] for name in names)))
        return None if any(condition(row) is True for row in rows) else NOTHING

    def _of_predicate(self, node: Node) -> Restriction | None:
        match node:
            case Comparison("=" | "<" | "<=" | ">" | ">="):
                return self._of_comparison(node)
            case Between(ColumnName(name), Constant(low), Constant(high)):
                return self._of_range(name, low, high)
            case OneOf(ColumnName(name), choices) if all(isinstance(choice, Constant) for choice in choices):
                return self._of_values(name, [choice.value for choice in choices if isinstance(choice, Constant)])
            case Like(ColumnName(name), Constant(str() as text), ignore_case) if name in ("obs_id", "target_name"):
                return _of_pattern(TEXTS[name], LikePattern(text), ignore_case)
            case _:
                return None

    def _of_comparison(self, node: Comparison) -> Restriction | None:
        sign, left, right = node.operator, node.left, node.right
        if isinstance(left, Constant) or (not columns_of(left) and not isinstance(right, Constant)):
            sign, left, right = _FLIPPED[sign], right, left
        if columns_of(right):
            return None
        limit = Compiler(self.table).value(right).of(None)
        if isinstance(left, ColumnName):
            return self._of_limit(left.name, sign, limit)
        match left:
            case Call("CONTAINS" | "INTERSECTS") if sign == "=" and limit == 1:
                return self._of_regions(left.arguments, 0.0)
            case Call("DISTANCE", (_, _)) if sign in ("<", "<=", "=") and isinstance(limit, int | float):
                return self._of_regions(left.arguments, float(limit))
        return None

    def _of_limit(self, name: str, sign: str, limit: Any) -> Restriction | None:
        if sign == "=":
            return self._of_values(name, [limit])
        return self._of_range(name, None, limit) if sign in ("<", "<=") else self._of_range(name, limit, None)

    def _of_regions(self, arguments: Sequence[Node], distance_deg: float) -> Restriction | None:
        constant = [argument for argument in arguments if not columns_of(argument)]
        others = set().union(*(columns_of(argument) for argument in arguments))
        if len(constant) != 1 or not others <= {"s_ra", "s_dec", "s_region", "s_footprint"}:
            return None
        found = Compiler(self.table).value(constant[0]).of(None)
        region: Region | None = read_region(found) if isinstance(found, str) else found
        if region is None:
            return NOTHING
        circle = region.bounding
        radius = circle.radius_deg + distance_deg + self.margin_deg
        return _or_nowhere(Cone(circle.ra_deg % 360, circle.dec_deg, radius)) if radius < 180 else None

    def _of_values(self, name: str, values: Sequence[Any]) -> Restriction | None:
        texts = tuple(value for value in values if isinstance(value, str))
        if name in TEXTS:
            return AnyOf(TEXTS[name], texts)
        if name == "obs_publisher_did":
            found = (read_did(self.archive.authority, text) for text in texts)
            return AnyOf("_id", tuple(parts[0] for parts in found if parts))
        if len(values) == 1:
            return self._of_range(name, values[0], values[0])
        return None

    def _of_range(self, name: str, low: Any, high: Any) -> Restriction | None:
        limits = low, high
        known = [limit for limit in limits if limit is not None]
        if not known or not all(isinstance(limit, int | float) for limit in known):
            return None
        found: Restriction | None = None
        match name:
            case "t_min":
                found = _times(low, high)
            case "t_max":
                found = _times(None if low is None else low - LONGEST_EXPOSURE_D, high)
            case "t_exptime":
                found = Within("exposure_s", low, high)
            case "s_dec":
                south, north = (
                    None if limit is None else limit + side * self.margin_deg
                    for limit, side in zip(limits, (-1, 1), strict=True)
                )
                found = _or_nowhere(Within(DEC_DEG, south, north))
            case "s_ra":
                first, last = 0.0 if low is None else low, 360.0 if high is None else high
                found = _or_nowhere(RightAscension(first, last, self.margin_deg))
        return found


def columns_of(node: Node) -> frozenset[str]:
    """Return the names of the columns in an expression."""
    if isinstance(node, ColumnName):
        return frozenset({node.name})
    return frozenset().union(*map(columns_of, children(node)))


def excludes_masters(node: Node) -> bool:
    """Whether a condition is true of no master dark or flat."""
    match node:
        case Logical("AND"):
            return any(map(excludes_masters, node.parts))
        case Logical("OR"):
            return all(map(excludes_masters, node.parts))
        case Comparison() | Between() | OneOf() | Like():
            return bool(columns_of(node) & NULL_OF_MASTERS)
        case Negation(Comparison() | Between() | OneOf() | Like() as inner):
            return bool(columns_of(inner) & NULL_OF_MASTERS)
        case _:
            return False


def _constant_table(table: Table, names: frozenset[str]) -> Table:
    """Return a table whose rows are mappings of a few columns."""
    return Table(
        table.name,
        "",
        {name: table.columns[name] for name in names},
        {name: itemgetter(name) for name in names},
    )


def _band_row(low: float, high: float) -> Mapping[str, float | None]:
    power = (low + high) / 2 / (high - low) if high > low else None
    return {"em_min": low, "em_max": high, "em_res_power": power}


def _of_pattern(path: str, pattern: LikePattern, ignore_case: bool) -> Restriction | None:
    longest = max(pattern.literals, key=len)
    if not longest:
        return None
    return Containing(
        path, longest, at_start=pattern.starts_with_literal and longest == pattern.literals[0], ignore_case=ignore_case
    )


def _or_nowhere(restriction: Restriction) -> Restriction:
    """Let observations without a position pass: their products may have one."""
    return AnyPart((restriction, AnyOf(RA_DEG, (None,))))


def _times(low: float | None, high: float | None) -> Restriction:
    return Within("date_utc", _date(low, -ROUNDING), _date(high, ROUNDING))


def _date(mjd: float | None, margin: timedelta) -> datetime | None:
    """Return a time; one beyond the calendar of the database becomes its end."""
    return None if mjd is None else MJD_EPOCH + timedelta(days=min(max(mjd, 1.0), 200_000.0)) + margin

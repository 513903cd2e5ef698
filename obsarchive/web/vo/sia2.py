"""Simple Image Access 2.0: its parameters as a condition on files."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from obsarchive.science.astrometry.sky_regions import Circle, Polygon, Region
from obsarchive.web.vo.adql_evaluation import Table
from obsarchive.web.vo.adql_nodes import (
    Between,
    Call,
    ColumnName,
    Comparison,
    Constant,
    Logical,
    Node,
    OneOf,
    Output,
    Query,
)
from obsarchive.web.vo.adql_parser import QueryError
from obsarchive.web.vo.archive_files import ArchiveFile
from obsarchive.web.vo.obscore import TableColumn
from obsarchive.web.vo.parameters import Parameters, read_interval, read_region_parameter
from obsarchive.web.vo.tables import OBSCORE

INTERVALS = {
    "FOV": "s_fov",
    "SPATRES": "s_resolution",
    "SPECRP": "em_res_power",
    "EXPTIME": "t_exptime",
    "TIMERES": "t_resolution",
}
OVERLAPS = {"BAND": ("em_min", "em_max"), "TIME": ("t_min", "t_max")}
TEXTS = {
    "ID": "obs_publisher_did",
    "COLLECTION": "obs_collection",
    "FACILITY": "facility_name",
    "INSTRUMENT": "instrument_name",
    "TARGET": "target_name",
}
POLARIZATIONS = frozenset(["I", "Q", "U", "V", "RR", "LL", "RL", "LR", "XX", "YY", "XY", "YX", "POLI", "POLA"])
FITS = frozenset({"fits", "application/fits", "image/fits"})
PARAMETERS = frozenset({"POS", "POL", "DPTYPE", "CALIB", "FORMAT", *INTERVALS, *OVERLAPS, *TEXTS})


def _footprint(file: ArchiveFile) -> Region | None:
    """Outline of an image; of a file without one, where the telescope pointed."""
    if len(file.corners) >= 3:
        return Polygon(tuple(file.corners))
    return Circle(*file.centre) if file.centre else None


TABLE: Table = replace(
    OBSCORE,
    columns={**OBSCORE.columns, "s_footprint": TableColumn("s_footprint", "char", "", xtype="adql:REGION")},
    values={**OBSCORE.values, "s_footprint": _footprint},
)
"""``ivoa.obscore``, with what positions are compared with."""


def query_of(parameters: Parameters) -> Query:
    """Return the query that the parameters of a request mean.

    Parameters
    ----------
    parameters : Parameters
        Several values of a parameter are alternatives; several parameters must all be fulfilled.

    Returns
    -------
    Query

    Raises
    ------
    QueryError
        A value is not what the standard wants.
    """
    parts: list[Node] = [OneOf(ColumnName("dataproduct_type"), (Constant("image"), Constant("cube")))]
    for name in sorted(parameters.values.keys() & PARAMETERS):
        parts.append(_any_of([_condition(name)(text) for text in parameters.all(name)]))
    outputs = tuple(Output(ColumnName(name)) for name in OBSCORE.columns)
    return Query(OBSCORE.name, outputs, where=Logical("AND", tuple(parts)))


def _any_of(parts: Sequence[Node]) -> Node:
    return parts[0] if len(parts) == 1 else Logical("OR", tuple(parts))


def _condition(name: str) -> Callable[[str], Node]:
    """Return how a value of a parameter is read."""
    if name in INTERVALS:
        return lambda text: _between(name, text)
    if name in OVERLAPS:
        return lambda text: _overlap(name, text)
    if name in TEXTS:
        return lambda text: OneOf(ColumnName(TEXTS[name]), (Constant(text),))
    special: dict[str, Callable[[str], Node]] = {
        "POS": _position,
        "POL": _polarization,
        "DPTYPE": _type,
        "CALIB": _level,
        "FORMAT": _format,
    }
    return special[name]


def _between(name: str, text: str) -> Node:
    low, high = read_interval(name, text)
    return Between(ColumnName(INTERVALS[name]), Constant(low), Constant(high))


def _overlap(name: str, text: str) -> Node:
    low, high = read_interval(name, text)
    first, last = OVERLAPS[name]
    ends = Comparison(">=", ColumnName(last), Constant(low)), Comparison("<=", ColumnName(first), Constant(high))
    return Logical("AND", ends)


def _position(text: str) -> Node:
    region = Constant(read_region_parameter("POS", text))
    return Comparison("=", Call("INTERSECTS", (region, ColumnName("s_footprint"))), Constant(1.0))


def _polarization(text: str) -> Node:
    if text.upper() not in POLARIZATIONS:
        raise QueryError(f"POL: one of {', '.join(sorted(POLARIZATIONS))}")
    return Comparison("=", ColumnName("pol_states"), Constant(f"/{text.upper()}/"))  # no file has any


def _type(text: str) -> Node:
    if text.lower() not in ("image", "cube"):
        raise QueryError("DPTYPE: image or cube")
    return Comparison("=", ColumnName("dataproduct_type"), Constant(text.lower()))


def _level(text: str) -> Node:
    if text not in ("0", "1", "2", "3", "4"):
        raise QueryError("CALIB: 0, 1, 2, 3 or 4")
    return Comparison("=", ColumnName("calib_level"), Constant(float(text)))


def _format(text: str) -> Node:
    wanted = text.split(";")[0].strip().lower()
    if wanted == "all":
        return Comparison("=", ColumnName("em_xel"), Constant(1.0))  # true of all
    return Comparison("=", ColumnName("access_format"), Constant("image/fits" if wanted in FITS else wanted))

"""Tables that TAP answers: ``ivoa.obscore``, and ``TAP_SCHEMA``, which describes them."""

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

from obsarchive.web.vo import obscore
from obsarchive.web.vo.adql_evaluation import Table
from obsarchive.web.vo.obscore import TableColumn

Row = Mapping[str, Any]

OBSCORE = Table(
    "ivoa.obscore",
    "files of the observations that you may see, raw and reduced, and masters of their nights",
    obscore.COLUMNS,
    obscore.VALUES,
    utype="ivo://ivoa.net/std/obscore#core-1.1",
)
INDEXED = frozenset(
    {"obs_id", "obs_publisher_did", "target_name", "s_ra", "s_dec", "s_region", "t_min", "t_max", "t_exptime"}
    | {"em_min", "em_max", "facility_name", "instrument_name", "proposal_id"}
)
PRINCIPAL = frozenset(
    {"dataproduct_type", "calib_level", "obs_id", "access_url", "access_format", "target_name", "s_ra", "s_dec"}
    | {"s_resolution", "t_min", "t_exptime", "em_min", "em_max", "instrument_name"}
)

_SCHEMA_COLUMNS: dict[str, dict[str, tuple[str, str]]] = {
    "tap_schema.schemas": {
        "schema_name": ("char", "name of the schema"),
        "utype": ("char", "what a standard calls it"),
        "description": ("char", "what it holds"),
        "schema_index": ("int", "place in a list"),
    },
    "tap_schema.tables": {
        "schema_name": ("char", "schema of the table"),
        "table_name": ("char", "name of the table, with the schema"),
        "table_type": ("char", "table or view"),
        "utype": ("char", "what a standard calls it"),
        "description": ("char", "what it holds"),
        "table_index": ("int", "place in a list"),
    },
    "tap_schema.columns": {
        "table_name": ("char", "table of the column"),
        "column_name": ("char", "name of the column"),
        "datatype": ("char", "type, as in a VOTable"),
        "arraysize": ("char", "size of its values, as in a VOTable"),
        "xtype": ("char", "what its values stand for"),
        '"size"': ("int", "largest size; not given"),
        "description": ("char", "what it holds"),
        "utype": ("char", "what a standard calls it"),
        "unit": ("char", "unit"),
        "ucd": ("char", "kind of quantity"),
        "indexed": ("int", "1: conditions on it are quick"),
        "principal": ("int", "1: one of the most useful"),
        "std": ("int", "1: a standard defines it"),
        "column_index": ("int", "place in a list"),
    },
    "tap_schema.keys": {
        "key_id": ("char", "name of the key"),
        "from_table": ("char", "table that refers"),
        "target_table": ("char", "table that is referred to"),
        "utype": ("char", "what a standard calls it"),
        "description": ("char", "what it is for"),
    },
    "tap_schema.key_columns": {
        "key_id": ("char", "name of the key"),
        "from_column": ("char", "column that refers"),
        "target_column": ("char", "column that is referred to"),
    },
}
_DESCRIPTIONS = {
    "tap_schema.schemas": "schemas of this service",
    "tap_schema.tables": "tables of this service",
    "tap_schema.columns": "columns of these tables",
    "tap_schema.keys": "keys between tables",
    "tap_schema.key_columns": "columns of these keys",
}
KEYS = (
    ("schema_of_table", "tap_schema.tables", "tap_schema.schemas", "schema_name", "schema_name"),
    ("table_of_column", "tap_schema.columns", "tap_schema.tables", "table_name", "table_name"),
    ("from_of_key", "tap_schema.keys", "tap_schema.tables", "from_table", "table_name"),
    ("target_of_key", "tap_schema.keys", "tap_schema.tables", "target_table", "table_name"),
    ("key_of_column", "tap_schema.key_columns", "tap_schema.keys", "key_id", "key_id"),
)
"""Keys between tables: name, table, table that it refers to, and the columns of both."""


def _described(name: str) -> Table:
    columns = {
        column.strip('"'): TableColumn(column.strip('"'), datatype, about)
        for column, (datatype, about) in _SCHEMA_COLUMNS[name].items()
    }
    return Table(name, _DESCRIPTIONS[name], columns, {column: itemgetter(column) for column in columns})


TABLES: dict[str, Table] = {OBSCORE.name: OBSCORE, **{name: _described(name) for name in _SCHEMA_COLUMNS}}
"""All tables, by name."""

SCHEMAS = {
    "ivoa": "tables of standards of the virtual observatory",
    "tap_schema": "description of the tables of this service",
}


def schema_rows(name: str) -> list[Row]:
    """Return the rows of a table of ``TAP_SCHEMA``."""
    match name.partition(".")[2]:
        case "schemas":
            return [
                {"schema_name": schema, "utype": None, "description": about, "schema_index": number}
                for number, (schema, about) in enumerate(SCHEMAS.items())
            ]
        case "tables":
            return [
                {
                    "schema_name": table.name.partition(".")[0],
                    "table_name": table.name,
                    "table_type": "view" if table is OBSCORE else "table",
                    "utype": table.utype or None,
                    "description": table.description,
                    "table_index": number,
                }
                for number, table in enumerate(TABLES.values())
            ]
        case "columns":
            return [row for table in TABLES.values() for row in _column_rows(table.name, table.columns.values())]
        case "keys":
            return [
                {"key_id": key, "from_table": source, "target_table": target, "utype": None, "description": None}
                for key, source, target, *_ in KEYS
            ]
        case _:
            return [
                {"key_id": key, "from_column": column, "target_column": of_target}
                for key, _, _, column, of_target in KEYS
            ]


def _column_rows(table: str, columns: Iterable[TableColumn]) -> list[Row]:
    is_obscore = table == OBSCORE.name
    return [
        {
            "table_name": table,
            "column_name": '"size"' if column.name == "size" else column.name,
            "datatype": column.datatype,
            "arraysize": column.arraysize or None,
            "xtype": column.xtype or None,
            "size": None,
            "description": column.description,
            "utype": column.utype or None,
            "unit": column.unit or None,
            "ucd": column.ucd or None,
            "indexed": int(is_obscore and column.name in INDEXED),
            "principal": int(not is_obscore or column.name in PRINCIPAL),
            "std": int(column.is_standard),
            "column_index": number,
        }
        for number, column in enumerate(columns)
    ]


EXAMPLES = (
    (
        "around",
        "Files around a position",
        "Reduced files whose centre lies within 0.1 degrees.",
        "SELECT TOP 100 obs_id, target_name, s_resolution, access_url FROM ivoa.obscore WHERE calib_level > 1 AND "
        "1 = CONTAINS(POINT('ICRS', s_ra, s_dec), CIRCLE('ICRS', 155.1, 0.0, 0.1)) ORDER BY t_min DESC",
    ),
    (
        "outlines",
        "Files that show a position",
        "A position lies in the outline of the image.",
        "SELECT TOP 100 * FROM ivoa.obscore WHERE 1 = CONTAINS(POINT('ICRS', 155.127, -0.004), s_region)",
    ),
    (
        "night",
        "The sharpest images of a night",
        "Times are MJD, resolutions arcsec.",
        "SELECT TOP 10 target_name, s_resolution FROM ivoa.obscore WHERE t_min BETWEEN 57656 AND 57657 AND "
        "s_resolution IS NOT NULL ORDER BY s_resolution",
    ),
    (
        "targets",
        "How many files there are of each target",
        "Groups of the rows of a programme.",
        "SELECT target_name, COUNT(*) AS n FROM ivoa.obscore WHERE proposal_id = '3' GROUP BY target_name "
        "ORDER BY n DESC",
    ),
)
"""Queries for those who begin: identifier, title, text and query."""

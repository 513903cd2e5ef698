"""VOTables (IVOA, version 1.4), as pyvo and TOPCAT read them."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from astropy.io.votable import tree, writeto

from obsarchive.web.models.columns import Column
from obsarchive.web.models.view_models import Card

MIME = "application/x-votable+xml"

Field = tuple[dict[str, Any], list[Any]]
"""Attributes of a field (name, datatype, unit, ucd, ...), and its values."""


def of_rows(rows: Sequence[Card], columns: Iterable[Column]) -> bytes:
    """Return observations as a VOTable.

    Parameters
    ----------
    rows : sequence of Card
        The observations.
    columns : iterable of Column
        Columns of the table.

    Returns
    -------
    bytes
        XML.
    """
    return table([(_attributes(column), [column.plain(card) for card in rows]) for column in columns])


def _attributes(column: Column) -> dict[str, Any]:
    kind = {"datatype": "double"} if column.is_number else {"datatype": "char", "arraysize": "*"}
    about = {"unit": column.unit if column.unit != "%" else "", "ucd": column.ucd}
    named = {"name": column.key, "ID": column.key, **kind}
    return {**named, **{key: value for key, value in about.items() if value}}


def table(fields: Sequence[Field], overflow: bool = False) -> bytes:
    """Return a table of results as a VOTable.

    Parameters
    ----------
    fields : sequence of (attributes, values)
        Columns; a value None is empty.
    overflow : bool
        Whether there are more rows than are sent.

    Returns
    -------
    bytes
        XML.
    """
    document, resource = tree.VOTableFile(version="1.4"), tree.Resource(type="results")
    document.resources.append(resource)
    resource.infos.append(tree.Info(name="QUERY_STATUS", value="OK"))
    rows = len(fields[0][1]) if fields else 0
    made = tree.TableElement(document)
    resource.tables.append(made)
    made.fields.extend(tree.Field(document, **attributes) for attributes, _ in fields)
    made.create_arrays(rows)
    for attributes, values in fields:
        is_text = attributes["datatype"] == "char"
        column = made.array[attributes["ID"]]
        for row, value in enumerate(values):
            column[row] = ("" if value is None else str(value)) if is_text else np.nan if value is None else value
    if overflow:
        resource.infos.append(tree.Info(name="QUERY_STATUS", value="OVERFLOW"))
    return _written(document)


def error(message: str) -> bytes:
    """Return the error of a query in the format of the protocols."""
    document, resource = tree.VOTableFile(version="1.4"), tree.Resource(type="results")
    document.resources.append(resource)
    document.infos.append(tree.Info(name="Error", ID="Error", value=message))  # where cone searches look
    info = tree.Info(name="QUERY_STATUS", value="ERROR")
    info.content = message
    resource.infos.append(info)
    return _written(document)


def _written(document: tree.VOTableFile) -> bytes:
    buffer = io.BytesIO()
    writeto(document, buffer)
    return buffer.getvalue()

"""Answers in the formats of the protocols: VOTable 1.4, CSV and TSV, errors, and descriptions of services."""

import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from flask import Response

from obsarchive.web.framework.file_responses import csv_text
from obsarchive.web.vo.obscore import TableColumn

VOTABLE = "application/x-votable+xml"
TEXT_FORMATS = {"text/csv": ",", "csv": ",", "text/tab-separated-values": "\t", "tsv": "\t"}
VOTABLE_FORMATS = frozenset({"votable", VOTABLE, "text/xml", "application/xml", "votable/td", "votable/tabledata"})
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class FormatError(ValueError):
    """A format that is not served."""


@dataclass(frozen=True)
class ServiceParameter:
    """A parameter of a service: a value, or the column that holds it, and what it means."""

    name: str
    datatype: str = "char"
    arraysize: str = "*"
    value: str = ""
    column: str = ""
    ucd: str = ""
    unit: str = ""
    xtype: str = ""
    description: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServiceDescriptor:
    """A service that takes something of a row, such as its identifier."""

    id: str
    url: str
    standard: str
    parameters: tuple[ServiceParameter, ...]
    description: str = ""


def is_known_format(wanted: str) -> bool:
    """Whether answers are served in a format."""
    plain = wanted.split(";")[0].strip().lower()
    return not plain or plain in VOTABLE_FORMATS or plain in TEXT_FORMATS


@dataclass(frozen=True)
class ResultTable:
    """A table to be sent.

    Parameters
    ----------
    columns : sequence of TableColumn
        Its columns.
    rows : iterable of sequence
        Its rows; None is a missing value.
    overflow : bool
        Whether there are more rows.
    infos : mapping of str to str
        What else a VOTable says.
    services : sequence of ServiceDescriptor
        Services that take something of a row.
    """

    columns: Sequence[TableColumn]
    rows: Iterable[Sequence[Any]]
    overflow: bool = False
    infos: Mapping[str, str] = field(default_factory=dict)
    services: Sequence[ServiceDescriptor] = ()

    def response(self, wanted: str = "") -> Response:
        """Return it in a format; VOTable by default, FormatError if the format is not served."""
        plain = wanted.split(";")[0].strip().lower()
        if plain in TEXT_FORMATS:
            separator = TEXT_FORMATS[plain]
            mime = "text/csv; header=present" if separator == "," else "text/tab-separated-values"
            return Response(_separated(self.columns, self.rows, separator), content_type=mime)
        if not is_known_format(wanted):
            raise FormatError(f"the format {wanted[:60]!r} is not served: votable, csv or tsv")
        mime = plain if plain in ("text/xml", "application/xml") else VOTABLE
        return Response("".join(self._votable()), content_type=mime)

    def _votable(self) -> Iterator[str]:
        yield f'{_HEAD}<RESOURCE type="results">\n<INFO name="QUERY_STATUS" value="OK"/>\n'
        for name, value in self.infos.items():
            yield f"<INFO{_attributes({'name': name, 'value': value})}/>\n"
        yield '<TABLE name="results">\n'
        yield from map(_field, self.columns)
        yield "<DATA><TABLEDATA>\n"
        for row in self.rows:
            yield f"<TR>{''.join(map(_cell, row))}</TR>\n"
        yield "</TABLEDATA></DATA>\n</TABLE>\n"
        if self.overflow:
            yield '<INFO name="QUERY_STATUS" value="OVERFLOW"/>\n'
        yield "</RESOURCE>\n"
        yield from map(_service, self.services)
        yield "</VOTABLE>\n"


def error(message: str, status: int = 400) -> Response:
    """Return the error of a query."""
    body = f'<RESOURCE type="results"><INFO name="QUERY_STATUS" value="ERROR">{_text(message)}</INFO></RESOURCE>'
    return Response(f"{_HEAD}{body}</VOTABLE>\n", status, content_type=VOTABLE)


_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xsi:schemaLocation="http://www.ivoa.net/xml/VOTable/v1.3 http://www.ivoa.net/xml/VOTable/VOTable-1.4.xsd">\n'
)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "<TD/>"
    return f"<TD>{_text(value if isinstance(value, str) else repr(value))}</TD>"


def _field(column: TableColumn) -> str:
    about = {
        "ID": re.sub(r"\W", "_", column.name, flags=re.ASCII) if column.name[:1].isalpha() else "",
        "name": column.name,
        "datatype": column.datatype,
        "arraysize": column.arraysize,
        "unit": column.unit,
        "ucd": column.ucd,
        "utype": column.utype,
        "xtype": column.xtype,
    }
    description = f"<DESCRIPTION>{_text(column.description)}</DESCRIPTION>" if column.description else ""
    return f"<FIELD{_attributes(about)}>{description}</FIELD>\n"


def _service(service: ServiceDescriptor) -> str:
    parameters = {"standardID": service.standard, "accessURL": service.url}
    plain = "".join(
        f"<PARAM{_attributes({'name': name, 'datatype': 'char', 'arraysize': '*', 'value': value})}/>\n"
        for name, value in parameters.items()
        if value
    )
    inputs = "".join(map(_input, service.parameters))
    about = f"<DESCRIPTION>{_text(service.description)}</DESCRIPTION>\n" if service.description else ""
    start = f"<RESOURCE{_attributes({'type': 'meta', 'utype': 'adhoc:service', 'ID': service.id})}>\n{about}{plain}"
    return f'{start}<GROUP name="inputParams">\n{inputs}</GROUP>\n</RESOURCE>\n'


def _input(parameter: ServiceParameter) -> str:
    about = {
        "name": parameter.name,
        "datatype": parameter.datatype,
        "arraysize": parameter.arraysize,
        "ucd": parameter.ucd,
        "unit": parameter.unit,
        "xtype": parameter.xtype,
        "ref": parameter.column,
    }
    description = f"<DESCRIPTION>{_text(parameter.description)}</DESCRIPTION>" if parameter.description else ""
    options = "".join(f"<OPTION{_attributes({'value': option})}/>" for option in parameter.options)
    values = f"<VALUES>{options}</VALUES>" if options else ""
    return f"<PARAM{_attributes(about)} value={quoteattr(parameter.value)}>{description}{values}</PARAM>\n"


def _attributes(values: Mapping[str, str]) -> str:
    return "".join(f" {name}={quoteattr(_NO_XML.sub('?', value))}" for name, value in values.items() if value)


def _text(value: str) -> str:
    if value.isprintable() and not ("&" in value or "<" in value or ">" in value):
        return value  # nearly all
    return escape(_NO_XML.sub("?", value))


def _separated(columns: Sequence[TableColumn], rows: Iterable[Sequence[Any]], separator: str) -> str:
    if separator == "\t":
        text = io.StringIO()
        lines = ([column.name for column in columns], *rows)
        for line in lines:
            cells = ("" if value is None else re.sub(r"[\t\r\n]", " ", str(value)) for value in line)
            text.write("\t".join(cells) + "\n")
        return text.getvalue()
    return csv_text([column.name for column in columns], rows, "\r\n")

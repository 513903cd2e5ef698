"""Runs queries: which rows, in which order, and what of them; within limits of rows and of time."""

import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from obsarchive.core.document_paths import PROGRAM_ID
from obsarchive.errors import ServiceUnavailable
from obsarchive.store import FileQueries, outage_as_error
from obsarchive.web.vo.adql_evaluation import Compiler, Evaluate, Expression, Table
from obsarchive.web.vo.adql_functions import write_region
from obsarchive.web.vo.adql_nodes import Call, ColumnName, Constant, Node, Output, Query, is_aggregate, without_table
from obsarchive.web.vo.adql_parser import QueryError
from obsarchive.web.vo.aggregates import Groups
from obsarchive.web.vo.archive_files import Archive, files_of, masters_of
from obsarchive.web.vo.obscore import TableColumn
from obsarchive.web.vo.restrictions import Reader, excludes_masters
from obsarchive.web.vo.tables import OBSCORE, TABLES, schema_rows

DEFAULT_ROWS, MOST_ROWS = 5000, 20_000
"""Rows of an answer: unless the client says how many, and at most."""
MOST_SORTED = 100_000
"""Rows that are sorted here, when the database cannot sort them."""
TIME_LIMIT_S = 10.0
TOO_LONG = f"the query takes longer than {TIME_LIMIT_S:g} s: restrict it, by t_min, obs_id or a region"
SORTED_BY_DATABASE = {
    "t_min": "date_utc",
    "obs_id": "_id",
    "target_name": "name",
    "t_exptime": "exposure_s",
    "proposal_id": PROGRAM_ID,
}


@dataclass(frozen=True)
class Answer:
    """Columns and rows of an answer."""

    columns: Sequence[TableColumn]
    rows: Sequence[Sequence[Any]]
    overflow: bool = False


@dataclass
class Runner:
    """Runs queries of a user.

    Parameters
    ----------
    user : mapping
        Document of the user.
    files : FileQueries
        The database.
    archive : Archive
        The archive.
    """

    user: Mapping[str, Any]
    files: FileQueries
    archive: Archive
    _deadline: float = field(default=0.0, init=False)

    def run(self, query: Query, table: Table | None = None, most: int = DEFAULT_ROWS) -> Answer:
        """Return the answer to a query.

        Parameters
        ----------
        query : Query
            The query.
        table : Table, optional
            The table that it asks; by default that of its name.
        most : int
            Rows that the client wants at most.

        Returns
        -------
        Answer

        Raises
        ------
        QueryError
            The query makes no sense, or takes too long.
        """
        table = table or find_table(query.table)
        self._deadline = time.monotonic() + TIME_LIMIT_S
        plan = Plan(query, table)
        limit = min(max(most, 0), MOST_ROWS)
        wanted = limit + 1 if query.top is None else min(query.top, limit + 1)
        try:
            with outage_as_error():
                rows = list(itertools.islice(self._rows(plan), query.offset, query.offset + wanted))
        except ServiceUnavailable as err:
            if time.monotonic() < self._deadline:
                raise
            raise QueryError(TOO_LONG) from err  # the database gave up
        return Answer(plan.columns, rows[:limit], overflow=len(rows) > limit)

    def _rows(self, plan: "Plan") -> Iterator[Sequence[Any]]:
        chosen = (row for row in self._watched(self._source(plan)) if plan.accepts(row))
        if plan.groups is not None:
            made = plan.groups.of(chosen)
            return iter(_in_order(made, plan))
        if plan.sort and plan.database_order is None:
            pairs = [([key.of(row) for key, _ in plan.sort], row) for row in _limited(chosen)]
            return _distinct((plan.output(row) for row in _sorted(pairs, plan)), plan)
        return _distinct(map(plan.output, chosen), plan)

    def _watched(self, rows: Iterable[Any]) -> Iterator[Any]:
        for number, row in enumerate(rows):
            if number % 100 == 0 and time.monotonic() > self._deadline:
                raise QueryError(TOO_LONG)
            yield row

    def _source(self, plan: "Plan") -> Iterable[Any]:
        if plan.table.columns is not OBSCORE.columns and plan.table.name != OBSCORE.name:
            return schema_rows(plan.table.name)
        where, order = without_table(plan.query.where) if plan.query.where else None, plan.database_order
        restriction = Reader(self.archive, plan.table).read(where) if where else None
        found = self.files.observations(
            self.user, restriction, [(order[0], -1 if order[1] else 1)] if order else [], int(TIME_LIMIT_S * 1000)
        )
        files = (file for seen in found for file in files_of(self.archive, seen))
        if where is not None and excludes_masters(where):
            return files
        descending = bool(order and order[1])
        masters = (
            file for night in self.files.nights(self.user, descending) for file in masters_of(self.archive, night)
        )
        if order is None:
            return itertools.chain(files, masters)
        key = _sort_key(plan.sort[0][0].of)
        by_time = order[0] == "date_utc"
        sorted_masters = masters if by_time else iter(sorted(masters, key=key, reverse=descending))
        return heapq.merge(files, sorted_masters, key=key, reverse=descending)


def find_table(name: str) -> Table:
    """Return a table; QueryError if there is none of the name."""
    found = TABLES.get(name.lower())
    if found is None:
        raise QueryError(f"there is no table {name[:60]!r}; there are {', '.join(TABLES)}")
    return found


class Plan:
    """A query with all its expressions ready.

    Parameters
    ----------
    query : Query
        The query.
    table : Table
        The table that it asks.
    """

    def __init__(self, query: Query, table: Table) -> None:
        self.query, self.table = query, table
        self.compiler = Compiler(table, query.alias)
        self.outputs = query.outputs or tuple(Output(ColumnName(name)) for name in table.columns)
        is_grouped = bool(query.group_by) or any(is_aggregate(output.value) for output in self.outputs)
        self.groups = Groups(query, self.outputs, self.compiler) if is_grouped else None
        values = self.groups.values if self.groups else [self.compiler.value(output.value) for output in self.outputs]
        self.columns = _unique([self._column(*pair) for pair in zip(self.outputs, values, strict=True)])
        self.values = [value.of for value in values]
        self._where = self.compiler.condition(query.where) if query.where else None
        if query.having is not None and self.groups is None:
            raise QueryError("HAVING needs GROUP BY")
        self.sort = [(self._sort_value(key.value), key.descending) for key in query.order_by]

    @property
    def database_order(self) -> tuple[str, bool] | None:
        """Field by which the database can sort, and whether descending; None if it cannot."""
        match self.query.order_by:
            case (key,) if self.groups is None and self.table.columns.keys() >= OBSCORE.columns.keys():
                value = self._named(key.value)
                if isinstance(value, ColumnName) and value.name in SORTED_BY_DATABASE:
                    return SORTED_BY_DATABASE[value.name], key.descending
        return None

    def accepts(self, row: Any) -> bool:
        """Whether a row fulfils the condition."""
        return self._where is None or self._where(row) is True

    def output(self, row: Any) -> list[Any]:
        """Return the values of a row."""
        return [_plain(value(row)) for value in self.values]

    def _named(self, node: Node) -> Node:
        """Return the output that a key of the order names by its number or name, or the key itself."""
        if isinstance(node, Constant):
            number = node.value
            if not isinstance(number, float) or not number.is_integer() or not 1 <= number <= len(self.outputs):
                raise QueryError("ORDER BY needs a column, or its number")
            return self.outputs[int(number) - 1].value
        if isinstance(node, ColumnName) and not node.table:
            named = (output.value for output in self.outputs if output.name.lower() == node.name)
            return next(named, node)
        return node

    def _sort_value(self, node: Node) -> Expression:
        value = self._named(node)
        return self.groups.key(value) if self.groups else self.compiler.value(value)

    def _column(self, output: Output, value: Expression) -> TableColumn:
        node = output.value
        if isinstance(node, ColumnName):
            column = self.compiler.column_of(node)
            name = output.name or column.name
            return TableColumn(
                name, column.datatype, column.description, column.unit, column.ucd, column.utype, column.xtype
            )
        is_count = isinstance(node, Call) and node.name == "COUNT"
        datatype = "long" if is_count else "char" if value.kind in ("text", "region") else "double"
        name = output.name or (node.name.lower() if isinstance(node, Call) else "value")
        return TableColumn(name, datatype, "", xtype="adql:REGION" if value.kind == "region" else "", is_standard=False)


def _unique(columns: Iterable[TableColumn]) -> list[TableColumn]:
    """Give columns of the same name different ones."""
    seen: set[str] = set()
    found = []
    for column in columns:
        name, number = column.name, 1
        while name.lower() in seen:
            number += 1
            name = f"{column.name}_{number}"
        seen.add(name.lower())
        found.append(TableColumn(**{**vars(column), "name": name}))
    return found


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else write_region(value)


def _limited(rows: Iterable[Any]) -> Iterator[Any]:
    for number, row in enumerate(rows):
        if number >= MOST_SORTED:
            raise QueryError(f"more than {MOST_SORTED} rows would have to be sorted: restrict the query")
        yield row


def _sort_key(value: Evaluate) -> Callable[[Any], tuple[bool, Any]]:
    def key(row: Any) -> tuple[bool, Any]:
        found = value(row)
        return found is not None, "" if found is None else found

    return key


def _sorted(pairs: list[tuple[list[Any], Any]], plan: Plan) -> Iterator[Any]:
    for number in reversed(range(len(plan.sort))):
        _sort_by(pairs, number, plan.sort[number][1])
    return (row for _, row in pairs)


def _sort_by(pairs: list[tuple[list[Any], Any]], number: int, descending: bool) -> None:
    missing = [pair for pair in pairs if pair[0][number] is None]
    present = [pair for pair in pairs if pair[0][number] is not None]
    present.sort(key=lambda pair: pair[0][number], reverse=descending)
    pairs[:] = present + missing if descending else missing + present


def _in_order(made: list[tuple[Any, list[Any]]], plan: Plan) -> Iterable[list[Any]]:
    pairs = [([key.of(group) for key, _ in plan.sort], [_plain(value) for value in row]) for group, row in made]
    return _distinct(_sorted(pairs, plan), plan)


def _distinct(rows: Iterable[list[Any]], plan: Plan) -> Iterator[list[Any]]:
    if not plan.query.distinct:
        yield from rows
        return
    seen: set[tuple[Any, ...]] = set()
    for row in rows:
        key = tuple(row)
        if key not in seen:
            seen.add(key)
            yield row

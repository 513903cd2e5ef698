"""Rows of a table gathered into groups: GROUP BY, HAVING, COUNT, SUM, AVG, MIN and MAX."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from obsarchive.web.vo.adql_evaluation import Compiler, Expression, Table
from obsarchive.web.vo.adql_nodes import AGGREGATES, Call, ColumnName, Node, Output, Query, children, with_children
from obsarchive.web.vo.adql_parser import QueryError
from obsarchive.web.vo.obscore import TableColumn

MOST_GROUPS = 50_000
EVERY_ROW = ColumnName("*")


@dataclass
class _Sum:
    """What is kept of the values of a group."""

    count: int = 0
    total: Any = 0
    least: Any = None
    most: Any = None
    seen: set[Any] = field(default_factory=set)

    def add(self, value: Any, distinct: bool) -> None:
        if value is None or (distinct and value in self.seen):
            return
        if distinct:
            self.seen.add(value)
        self.count += 1
        if not isinstance(value, str):
            self.total += value
        self.least = value if self.least is None else min(self.least, value)
        self.most = value if self.most is None else max(self.most, value)

    def result(self, name: str) -> Any:
        if name == "COUNT":
            return self.count
        if self.count == 0:
            return None
        return {"SUM": self.total, "AVG": self.total / self.count, "MIN": self.least, "MAX": self.most}[name]


class Groups:
    """Gathers rows into groups, and compiles what is asked of them.

    Expressions of a query with groups are evaluated for a group: keys and aggregates have names of their own there.

    Parameters
    ----------
    query : Query
        The query.
    outputs : sequence of Output
        Columns of the answer.
    compiler : Compiler
        Of the table that is asked.
    """

    def __init__(self, query: Query, outputs: Sequence[Output], compiler: Compiler) -> None:
        self._rows = compiler
        named = {output.name.lower(): output.value for output in outputs if output.name}
        self._keys = tuple(
            named.get(key.name, key) if isinstance(key, ColumnName) and key.name not in compiler.table.columns else key
            for key in query.group_by
        )
        self._key_values = [compiler.value(key) for key in self._keys]
        self._calls: dict[Call, Expression | None] = {}
        for node in (*(output.value for output in outputs), *([query.having] if query.having else [])):
            self._find_calls(node)
        for key in query.order_by:
            self._find_calls(key.value)
        self._compiler = Compiler(self._table())
        self.values = [self.key(output.value) for output in outputs]
        self._having = self._compiler.condition(self._renamed(query.having)) if query.having else None

    def key(self, node: Node) -> Expression:
        """Return a value of a group."""
        return self._compiler.value(self._renamed(node))

    def of(self, rows: Iterable[Any]) -> list[tuple[Any, list[Any]]]:
        """Return all groups of some rows, each with its values."""
        sums: dict[tuple[Any, ...], dict[Call, _Sum]] = {}
        if not self._keys:
            sums[()] = {call: _Sum() for call in self._calls}
        for row in rows:
            key = tuple(value.of(row) for value in self._key_values)
            if key not in sums:
                if len(sums) >= MOST_GROUPS:
                    raise QueryError(f"there are more than {MOST_GROUPS} groups: restrict the query")
                sums[key] = {call: _Sum() for call in self._calls}
            for call, value in self._calls.items():
                sums[key][call].add(1 if value is None else value.of(row), call.distinct)
        groups = [self._group(key, found) for key, found in sums.items()]
        kept = (group for group in groups if self._having is None or self._having(group) is True)
        return [(group, [value.of(group) for value in self.values]) for group in kept]

    def _group(self, key: tuple[Any, ...], found: dict[Call, _Sum]) -> dict[str, Any]:
        keys = {f"key {number}": value for number, value in enumerate(key)}
        return {**keys, **{f"call {n}": total.result(call.name) for n, (call, total) in enumerate(found.items())}}

    def _find_calls(self, node: Node) -> None:
        if isinstance(node, Call) and node.name in AGGREGATES:
            if len(node.arguments) != 1:
                raise QueryError(f"{node.name} takes one value")
            is_count = node.arguments == (EVERY_ROW,)
            value = None if is_count else self._rows.value(node.arguments[0])
            if is_count and node.name != "COUNT":
                raise QueryError(f"{node.name}(*) makes no sense")
            if value and value.kind != "number" and node.name in ("SUM", "AVG"):
                raise QueryError(f"{node.name} needs numbers")
            self._calls.setdefault(node, value)
            return
        for part in children(node):
            self._find_calls(part)

    def _table(self) -> Table:
        kinds = {f"key {n}": value.kind for n, value in enumerate(self._key_values)}
        for number, (call, value) in enumerate(self._calls.items()):
            kinds[f"call {number}"] = "number" if call.name in ("COUNT", "SUM", "AVG") or value is None else value.kind
        columns = {
            name: TableColumn(name, "char" if kind in ("text", "region") else "double", "")
            for name, kind in kinds.items()
        }
        values = {name: itemgetter(name) for name in columns}
        return Table(self._rows.table.name, "", columns, values)

    def _renamed(self, node: Node) -> Node:
        """Return an expression in terms of keys and aggregates."""
        for number, key in enumerate(self._keys):
            if node == key:
                return ColumnName(f"key {number}")
        if isinstance(node, Call) and node in self._calls:
            return ColumnName(f"call {list(self._calls).index(node)}")
        if isinstance(node, ColumnName):
            raise QueryError(f"the column {node.name[:60]!r} is neither in GROUP BY nor in a function such as MAX")
        return with_children(node, [self._renamed(part) for part in children(node)])

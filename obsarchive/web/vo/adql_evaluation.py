"""Values of a query's expressions for the rows of a table, with the three-valued logic of SQL."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from obsarchive.science.astrometry.sky_regions import Circle, Polygon, Range
from obsarchive.web.vo.adql_functions import FUNCTIONS, WITH_FRAME, Function, ValueKind
from obsarchive.web.vo.adql_nodes import (
    AGGREGATES,
    Arithmetic,
    Between,
    Call,
    ColumnName,
    Comparison,
    Constant,
    IsNull,
    Like,
    Logical,
    Negation,
    Node,
    OneOf,
)
from obsarchive.web.vo.adql_parser import QueryError
from obsarchive.web.vo.obscore import TableColumn

Row = Any
Evaluate = Callable[[Row], Any]

_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_COMPARE = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Table:
    """A table that can be asked.

    Parameters
    ----------
    name : str
        Its name, with the schema.
    description : str
        What it holds.
    columns : mapping of str to TableColumn
        Its columns, in their order.
    values : mapping of str to callable
        How the value of a column is found in a row.
    utype : str
        What the standard calls it.
    """

    name: str
    description: str
    columns: Mapping[str, TableColumn]
    values: Mapping[str, Evaluate]
    utype: str = ""


@dataclass(frozen=True)
class Expression:
    """An expression that is ready: its value for a row, and the kind of it."""

    of: Evaluate
    kind: ValueKind


class Compiler:
    """Turns the nodes of a query into expressions.

    Parameters
    ----------
    table : Table
        The table that is asked.
    alias : str
        Another name of it in the query.
    """

    def __init__(self, table: Table, alias: str = "") -> None:
        self.table = table
        name = table.name.lower()
        self._names = {"", alias, name, name.rpartition(".")[2]} if not alias else {"", alias}

    def condition(self, node: Node) -> Evaluate:
        """Return whether a row fulfils a condition: True, False or None."""
        found = self.compile(node)
        if found.kind != "condition":
            raise QueryError("a condition is needed, such as calib_level = 2")
        return found.of

    def value(self, node: Node) -> Expression:
        """Return a value, not a condition."""
        found = self.compile(node)
        if found.kind == "condition":
            raise QueryError("a condition is no value")
        return found

    def compile(self, node: Node) -> Expression:
        """Return an expression; QueryError for what makes no sense."""
        match node:
            case Constant():
                found = _constant(node.value)
            case ColumnName():
                found = self._column(node)
            case Call():
                found = self._call(node)
            case Arithmetic():
                found = self._arithmetic(node)
            case Negation():
                found = _negated(self.condition(node.condition))
            case Logical():
                found = _joined(node.operator, [self.condition(part) for part in node.parts])
            case _:
                found = self._predicate(node)
        return found

    def column_of(self, node: ColumnName) -> TableColumn:
        """Return the column that a name means."""
        if node.table not in self._names or node.name not in self.table.columns:
            name = f"{node.table}.{node.name}".lstrip(".")
            raise QueryError(f"there is no column {name[:60]!r} in {self.table.name}")
        return self.table.columns[node.name]

    def _column(self, node: ColumnName) -> Expression:
        column = self.column_of(node)
        kind: ValueKind = "text" if column.datatype == "char" else "number"
        return Expression(self.table.values[node.name], "region" if column.xtype == "adql:REGION" else kind)

    def _arithmetic(self, node: Arithmetic) -> Expression:
        left, right = self.value(node.left), self.value(node.right)
        if node.operator == "||":
            _demand("text", left, right)
            return _strict(operator.add, [left, right], "text")
        _demand("number", left, right)
        return _strict(_ARITHMETIC[node.operator], [left, right], "number")

    def _call(self, node: Call) -> Expression:
        if node.name in AGGREGATES:
            raise QueryError(f"{node.name} belongs into the list of SELECT or into HAVING")
        function = FUNCTIONS.get(node.name)
        if function is None:
            raise QueryError(f"there is no function {node.name[:40]}; known: {', '.join(sorted(FUNCTIONS))}")
        arguments = [self.value(argument) for argument in node.arguments]
        if node.name in WITH_FRAME and arguments and arguments[0].kind in ("text", "any"):
            arguments = arguments[1:]
        _check_arguments(node.name, function, arguments)
        return _strict(function.compute, arguments, function.gives)

    def _predicate(self, node: Node) -> Expression:
        match node:
            case Comparison():
                left, right = self.value(node.left), self.value(node.right)
                _demand_alike(left, right)
                return _strict(_COMPARE[node.operator], [left, right], "condition")
            case Between():
                parts = [self.value(part) for part in (node.value, node.low, node.high)]
                _demand_alike(*parts)
                return _strict(lambda value, low, high: low <= value <= high, parts, "condition")
            case OneOf():
                return self._one_of(node)
            case Like():
                return self._like(node)
            case IsNull():
                value = self.value(node.value).of
                return Expression(lambda row: value(row) is None, "condition")
            case _:
                raise QueryError("this is not understood")

    def _one_of(self, node: OneOf) -> Expression:
        equal = [self._predicate(Comparison("=", node.value, choice)).of for choice in node.choices]
        return _joined("OR", equal)

    def _like(self, node: Like) -> Expression:
        value = self.value(node.value)
        _demand("text", value)
        if not isinstance(node.pattern, Constant) or not isinstance(node.pattern.value, str):
            raise QueryError("LIKE needs a text in quotes")
        pattern = LikePattern(node.pattern.value, node.ignore_case)
        return _strict(pattern.matches, [value], "condition")


class LikePattern:
    """A pattern with ``%`` (any text) and ``_`` (any letter), matched in linear time.

    Parameters
    ----------
    text : str
        The pattern.
    ignore_case : bool
        Whether capitals do not matter.
    """

    def __init__(self, text: str, ignore_case: bool = False) -> None:
        self.literals = re.split("[%_]", text)
        self.starts_with_literal = bool(self.literals[0])
        flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
        self._last_length = len(text.rpartition("%")[2])
        self._parts = [re.compile(re.escape(part).replace("_", "."), flags) for part in text.split("%")]

    def matches(self, text: str) -> bool:
        """Return whether a text has the pattern."""
        first, *others = self._parts
        if not others:
            return first.fullmatch(text) is not None
        found = first.match(text)
        for part in others[:-1]:
            if found is None:
                return False
            found = part.search(text, found.end())
        if found is None or len(text) - found.end() < self._last_length:
            return False
        return self._parts[-1].fullmatch(text[len(text) - self._last_length :]) is not None


def _constant(value: Any) -> Expression:
    kind: ValueKind = "any"
    if isinstance(value, str):
        kind = "text"
    elif isinstance(value, int | float):
        kind = "number"
    elif isinstance(value, Circle | Polygon | Range):
        kind = "region"
    return Expression(lambda _: value, kind)


def _strict(compute: Callable[..., Any], parts: Sequence[Expression], kind: ValueKind) -> Expression:
    """Return a function of values that is missing if one of them is, or if it has no value."""
    evaluate = [part.of for part in parts]

    def of(row: Row) -> Any:
        values = [value(row) for value in evaluate]
        if None in values:
            return None
        try:
            found = compute(*values)
        except (ArithmeticError, ValueError) as err:
            if isinstance(err, QueryError):
                raise
            return None  # such as the logarithm of a negative number
        return None if isinstance(found, float) and not math.isfinite(found) else found

    return Expression(of, kind)


def _negated(condition: Evaluate) -> Expression:
    def of(row: Row) -> bool | None:
        found: bool | None = condition(row)
        return None if found is None else not found

    return Expression(of, "condition")


def _joined(word: str, conditions: Sequence[Evaluate]) -> Expression:
    decisive = word == "OR"

    def of(row: Row) -> bool | None:
        unknown = False
        for condition in conditions:
            found: bool | None = condition(row)
            if found is decisive:
                return decisive
            unknown |= found is None
        return None if unknown else not decisive

    return Expression(of, "condition")


def _demand(kind: ValueKind, *expressions: Expression) -> None:
    for found in expressions:
        if found.kind not in (kind, "any") and not (kind == "region" and found.kind == "text"):
            raise QueryError(f"a {kind} is needed, not a {found.kind}")


def _demand_alike(*expressions: Expression) -> None:
    kinds = {"text" if found.kind == "region" else found.kind for found in expressions} - {"any"}
    if len(kinds) > 1:
        raise QueryError(f"a {' cannot be compared with a '.join(sorted(kinds))}")


def _check_arguments(name: str, function: Function, arguments: Sequence[Expression]) -> None:
    if not function.least <= len(arguments) <= function.most:
        raise QueryError(f"{name} takes {function.least} to {function.most} values, not {len(arguments)}")
    if function.takes != "any":
        _demand(function.takes, *arguments)

"""Queries in ADQL as trees."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from obsarchive.science.astrometry.sky_regions import Region


@dataclass(frozen=True)
class Constant:
    """A number, a text, a region, or NULL."""

    value: float | str | Region | None


@dataclass(frozen=True)
class ColumnName:
    """A column, with the table if that was named."""

    name: str
    table: str = ""


@dataclass(frozen=True)
class Call:
    """A function of some values; ``*`` stands for all rows in ``COUNT(*)``."""

    name: str
    arguments: tuple["Node", ...]
    distinct: bool = False


@dataclass(frozen=True)
class Arithmetic:
    """Two values and one of ``+ - * / ||``."""

    operator: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True)
class Comparison:
    """Two values and one of ``= <> < <= > >=``."""

    operator: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True)
class Between:
    """A value and its limits, both included."""

    value: "Node"
    low: "Node"
    high: "Node"


@dataclass(frozen=True)
class OneOf:
    """A value and those it is compared with."""

    value: "Node"
    choices: tuple["Node", ...]


@dataclass(frozen=True)
class Like:
    """A text and a pattern with ``%`` and ``_``."""

    value: "Node"
    pattern: "Node"
    ignore_case: bool = False


@dataclass(frozen=True)
class IsNull:
    """Whether a value is missing."""

    value: "Node"


@dataclass(frozen=True)
class Logical:
    """Conditions of which all (``AND``) or any (``OR``) must hold."""

    operator: Literal["AND", "OR"]
    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Negation:
    """The opposite of a condition."""

    condition: "Node"


Node: TypeAlias = (
    Constant | ColumnName | Call | Arithmetic | Comparison | Between | OneOf | Like | IsNull | Logical | Negation
)


@dataclass(frozen=True)
class Output:
    """A column of the answer: its value, and its name if the query gives one."""

    value: Node
    name: str = ""


@dataclass(frozen=True)
class SortKey:
    """A value to sort by; a number is the place of an output, from 1."""

    value: Node
    descending: bool = False


@dataclass(frozen=True)
class Query:
    """A query of one table.

    Parameters
    ----------
    table : str
        Its name, in small letters.
    outputs : tuple of Output
        Columns of the answer; empty: all.
    alias : str
        Another name of the table.
    where : Node, optional
        Which rows.
    group_by : tuple of Node
        Rows with the same values become one.
    having : Node, optional
        Which of these.
    order_by : tuple of SortKey
        The order.
    top : int, optional
        At most so many rows.
    offset : int
        So many rows are skipped.
    distinct : bool
        Whether equal rows are answered once.
    """

    table: str
    outputs: tuple[Output, ...] = ()
    alias: str = ""
    where: Node | None = None
    group_by: tuple[Node, ...] = ()
    having: Node | None = None
    order_by: tuple[SortKey, ...] = ()
    top: int | None = None
    offset: int = 0
    distinct: bool = False


AGGREGATES = frozenset({"COUNT", "SUM", "AVG", "MIN", "MAX"})


def children(node: Node) -> tuple[Node, ...]:
    """Return the parts of a node."""
    found: tuple[Node, ...] = ()
    match node:
        case Call(_, arguments):
            found = arguments
        case Arithmetic(_, left, right) | Comparison(_, left, right):
            found = left, right
        case Between(value, low, high):
            found = value, low, high
        case OneOf(value, choices):
            found = (value, *choices)
        case Like(value, pattern):
            found = value, pattern
        case Logical(_, parts):
            found = parts
        case IsNull(part) | Negation(part):
            found = (part,)
    return found


def is_aggregate(node: Node) -> bool:
    """Whether a value is made from many rows."""
    return (isinstance(node, Call) and node.name in AGGREGATES) or any(map(is_aggregate, children(node)))


def with_children(node: Node, parts: list[Node]) -> Node:
    """Return a node with other parts than `children` returns."""
    made = node
    match node:
        case Call():
            made = Call(node.name, tuple(parts), node.distinct)
        case Arithmetic() | Comparison():
            made = type(node)(node.operator, *parts)
        case Logical():
            made = Logical(node.operator, tuple(parts))
        case OneOf():
            made = OneOf(parts[0], tuple(parts[1:]))
        case Like():
            made = Like(parts[0], parts[1], node.ignore_case)
        case Between() | IsNull() | Negation():
            made = type(node)(*parts)
    return made


def without_table(node: Node) -> Node:
    """Return an expression whose columns do not name their table."""
    if isinstance(node, ColumnName):
        return ColumnName(node.name)
    return with_children(node, [without_table(part) for part in children(node)])

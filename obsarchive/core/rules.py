"""Decision rules written in the configuration, compiled once, evaluated without ``eval``.

A rule is one expression over the fields of an observation, such as
``filter in ['Si', 'Sz'] and magnitude < 12``. Only literals, field names, comparisons, and / or / not are
understood; everything else, and every comparison of unlike types, is rejected when the configuration is read.
A field that an observation lacks, or holds in another type, makes its comparison false.

The same expressions select rows of a table, whose columns are the fields.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.core import document_paths as paths
from obsarchive.errors import ConfigError, did_you_mean

Rule = Callable[[Mapping[str, Any]], bool]

FIELDS: dict[str, type] = {
    "name": str,
    "night": str,
    "mode": str,
    "telescope": str,
    "camera": str,
    "filter": str,
    "marker": str,
    paths.PROGRAM_ID: str,
    paths.PROGRAM_PI: str,
    "exposure_s": float,
    "magnitude": float,
    paths.RA_DEG: float,
    paths.DEC_DEG: float,
    paths.AZ_DEG: float,
    paths.EL_DEG: float,
    paths.SEEING_MEDIAN_ARCSEC: float,
    paths.SEEING_NEAREST_ARCSEC: float,
}
"""Fields that a rule may mention, dotted as in the Mongo shell, with their type."""

_COMPARE: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, many: value in many,
    ast.NotIn: lambda value, many: value not in many,
}
_TYPES: dict[type, tuple[type, ...]] = {float: (int, float), int: (int, float), str: (str,), bool: (bool,)}
_WORDS = {float: "a number", int: "a number", str: "text (quote it)", bool: "True or False"}
_OPERATORS: dict[type, str] = {
    ast.Eq: "$eq",
    ast.NotEq: "$ne",
    ast.Lt: "$lt",
    ast.LtE: "$lte",
    ast.Gt: "$gt",
    ast.GtE: "$gte",
    ast.In: "$in",
    ast.NotIn: "$nin",
}
_ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_MEMBER = (ast.In, ast.NotIn)
_KINDS: dict[str, type] = dict.fromkeys("iufb", float) | dict.fromkeys("SUO", str)


@dataclass(frozen=True)
class _Comparison:
    """One comparison of an expression, read and checked."""

    name: str
    op: type[ast.cmpop]
    literal: Any


@dataclass(frozen=True)
class _Not:
    part: "_Form"


@dataclass(frozen=True)
class _Join:
    is_and: bool
    parts: "tuple[_Form, ...]"


_Form = bool | _Comparison | _Not | _Join
"""An expression that has been read: what a rule for documents and a selection of rows are made of."""


def compile_rule(text: str) -> Rule:
    """Turn `text` into a function of one observation document.

    Parameters
    ----------
    text : str
        The expression. ``True`` and ``False`` stand for every and no observation.

    Returns
    -------
    callable
        ``rule(document) -> bool``.

    Raises
    ------
    ConfigError
        When the expression cannot be read, mentions an unknown field or compares unlike types.
    """
    return _rule(_parse(text, _field_type))


def select_rows(text: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Return the rows of a table for which an expression holds, such as ``mag < 16 and dec > 0``.

    Parameters
    ----------
    text : str
        The expression, as for `compile_rule`; the fields are the names of the columns.
    columns : mapping of ndarray (n,)
        At least one column, so that the number of rows is known: numbers or text.  NaN and empty text are missing
        values, of which every comparison is false.

    Returns
    -------
    ndarray of bool (n,)

    Raises
    ------
    ConfigError
        When the expression cannot be read, mentions an unknown column or compares unlike types; or the columns are
        no table.
    """
    shapes = sorted({column.shape for column in columns.values()})
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise ConfigError(f"rule {text!r}: expected columns of one length, found {shapes or 'none'}")

    def kind_of(name: str) -> type:
        kind = _KINDS.get(_named("column", name, columns).dtype.kind)
        if kind is None:
            raise ConfigError(f"column {name!r} is neither numbers nor text but {columns[name].dtype}")
        return kind

    return _rows(_parse(text, kind_of), columns, shapes[0][0])


def conditions(text: str, fields: Mapping[str, tuple[str, type]]) -> list[tuple[set[str], dict[str, Any]]]:
    """Turn an expression into filters of MongoDB, all of which must hold.

    As in a rule, a comparison of a field that a document lacks is false.

    Parameters
    ----------
    text : str
        The expression; empty: everything.
    fields : mapping of str to (str, type)
        Path in the documents and type (float, int, str or bool) of each field, by its name.

    Returns
    -------
    list of (set of str, dict)
        Names of the fields of each filter, and the filter: one for each part that the outermost ``and`` joins.

    Raises
    ------
    ConfigError
        When the expression cannot be read, mentions an unknown field or compares unlike types.
    """
    if not text.strip():
        return []
    form = _parse(text, lambda name: _named("field", name, fields)[1])
    parts = form.parts if isinstance(form, _Join) and form.is_and else (form,)
    return [(_names(part), _filter(part, fields)) for part in parts]


def _names(form: _Form) -> set[str]:
    match form:
        case _Comparison(name):
            return {name}
        case _Not(part):
            return _names(part)
        case _Join(_, parts):
            return set().union(*(_names(part) for part in parts))
    return set()


def _filter(form: _Form, fields: Mapping[str, tuple[str, type]]) -> dict[str, Any]:
    match form:
        case _Comparison(name, op, literal):
            path, kind = fields[name]
            # the database finds that a missing value differs from any other
            present = {"$type": {str: "string", bool: "bool"}.get(kind, "number")}
            given = list(literal) if op in (ast.In, ast.NotIn) else literal
            return {path: {_OPERATORS[op]: given, **(present if op in (ast.NotEq, ast.NotIn) else {})}}
        case _Not(part):
            return {"$nor": [_filter(part, fields)]}
        case _Join(is_and, parts):
            return {"$and" if is_and else "$or": [_filter(part, fields) for part in parts]}
    return {} if form else {"$nor": [{}]}


def names_in(text: str) -> set[str]:
    """Return the names of the fields or columns that an expression mentions, known or not.

    Raises
    ------
    ConfigError
        When the expression cannot be read.
    """
    names: set[str] = set()
    _parse(text, names.add)
    return names


def lookup(document: Mapping[str, Any], dotted: str) -> Any:
    """Return the value at a dotted path of a document.

    Parameters
    ----------
    document : mapping
        The document.
    dotted : str
        Names of the nested fields, joined by dots.

    Returns
    -------
    object
        None if there is no such field.
    """
    found: Any = document
    for key in dotted.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(key)
    return found


def _parse(text: str, kind_of: Callable[[str], type | None]) -> _Form:
    try:
        return _form(ast.parse(text.strip(), mode="eval").body, kind_of)
    except SyntaxError as err:
        raise ConfigError(f"rule {text!r}: cannot be read at letter {err.offset}: {err.msg}") from err
    except (ValueError, RecursionError, MemoryError, ConfigError) as err:
        raise ConfigError(f"rule {text!r}: {err}") from err


def _form(node: ast.expr, kind_of: Callable[[str], type | None]) -> _Form:
    match node:
        case ast.Constant(value=bool(value)):
            return value
        case ast.BoolOp(op=op, values=values):
            return _Join(isinstance(op, ast.And), tuple(_form(value, kind_of) for value in values))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _Not(_form(operand, kind_of))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _comparison(left, op, right, kind_of)
        case ast.Compare():
            raise ConfigError("write chained comparisons with 'and'")
    raise ConfigError(f"{ast.unparse(node)!r} is neither a comparison nor and / or / not")


def _comparison(left: ast.expr, op: ast.cmpop, right: ast.expr, kind_of: Callable[[str], type | None]) -> _Comparison:
    name = ast.unparse(left).replace(" ", "")  # a column may be called B-V
    kind = kind_of(name)
    if type(op) not in _COMPARE:
        raise ConfigError(f"'{ast.unparse(ast.Compare(left, [op], [right]))}': this comparison is not allowed")
    try:
        literal = ast.literal_eval(right)
    except (ValueError, TypeError) as err:
        raise ConfigError(f"{ast.unparse(right)!r} is not a literal") from err
    if kind is not None:
        _check_type(name, kind, op, literal)
    return _Comparison(name, type(op), literal)


def _field_type(name: str) -> type:
    return str if paths.CLASSIFIED_AS.fullmatch(name) else _named("field", name, FIELDS)


def _named(what: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise ConfigError(f"unknown {what} {name!r}{did_you_mean(name, known)}")
    return known[name]


def _check_type(name: str, kind: type, op: ast.cmpop, literal: object) -> None:
    if isinstance(op, _MEMBER):
        if not isinstance(literal, list | tuple | set):
            raise ConfigError(f"'in' needs a list, found {literal!r}")
        items = list(literal)
    else:
        items = [literal]
    if kind in (str, bool) and isinstance(op, _ORDER):
        what = "text" if kind is str else "true or false"
        raise ConfigError(f"{name} is {what} and has no order: use ==, != or in")
    for item in items:
        if not isinstance(item, _TYPES[kind]) or (isinstance(item, bool) and kind is not bool):
            raise ConfigError(f"{name} is {_WORDS[kind]}, {item!r} is not")


def _rule(form: _Form) -> Rule:
    match form:
        case _Comparison():
            return _of_document(form)
        case _Not(part):
            inner = _rule(part)
            return lambda document: not inner(document)
        case _Join(is_and, parts):
            rules = [_rule(part) for part in parts]
            join = all if is_and else any
            return lambda document: join(rule(document) for rule in rules)
    return lambda document: form  # noqa: ARG005 - a constant rule looks at nothing


def _of_document(comparison: _Comparison) -> Rule:
    compare, literal = _COMPARE[comparison.op], comparison.literal
    wanted = _TYPES[_field_type(comparison.name)]

    def rule(document: Mapping[str, Any]) -> bool:
        found = lookup(document, comparison.name)
        # A document may hold a list (several owners of a programme): any of them may match.
        many = found if isinstance(found, list) else [found]
        return any(isinstance(value, wanted) and compare(value, literal) for value in many)

    return rule


def _rows(form: _Form, columns: Mapping[str, NDArray[Any]], n_rows: int) -> NDArray[np.bool_]:
    match form:
        case _Comparison(name, op, literal):
            return _of_column(columns[name], op, literal)
        case _Not(part):
            return ~_rows(part, columns, n_rows)
        case _Join(is_and, parts):
            return reduce(operator.and_ if is_and else operator.or_, (_rows(part, columns, n_rows) for part in parts))
    return np.full(n_rows, form)


def _of_column(column: NDArray[Any], op: type[ast.cmpop], literal: Any) -> NDArray[np.bool_]:
    column = _comparable(column)
    if op in _MEMBER:
        equal = _among(column, list(literal))
        found = equal if op is ast.In else ~equal
    else:
        found = np.asarray(_COMPARE[op](column, _like(column, literal)))
    return found & _present(column)


def _comparable(column: NDArray[Any]) -> NDArray[Any]:
    kind = column.dtype.kind
    if kind == "O":
        return np.array([value if isinstance(value, str) else "" for value in column.tolist()], dtype="U")
    return column.view(np.uint8) if kind == "b" else column


def _present(column: NDArray[Any]) -> NDArray[np.bool_]:
    if column.dtype.kind == "f":
        return np.asarray(~np.isnan(column))
    return np.asarray(column != _like(column, "")) if column.dtype.kind in "US" else np.array(True)


def _like(column: NDArray[Any], literal: Any) -> Any:
    """Give a literal the type in which a comparison is exact, as that of two values of Python is.

    Not so for whole numbers beyond 2**53 and a column of floats, which cannot hold all of these.
    """
    if isinstance(literal, str):
        return literal.encode("utf-8", "surrogatepass") if column.dtype.kind == "S" else literal
    if column.dtype.kind in "iu" and (isinstance(literal, int) or literal.is_integer()):
        return int(literal)
    try:
        return np.float64(literal)  # a Python number would become one of 32 bits
    except OverflowError:
        return math.inf if literal > 0 else -math.inf


def _among(column: NDArray[Any], literals: list[Any]) -> NDArray[np.bool_]:
    items = [_like(column, literal) for literal in literals]
    if column.dtype.kind in "iu":
        limits = np.iinfo(column.dtype)
        items = [item for item in items if isinstance(item, int) and limits.min <= item <= limits.max]
    kinds: dict[str, Any] = {"f": np.float64, "U": "U", "S": "S"}
    return np.isin(column, np.array(items, dtype=kinds.get(column.dtype.kind, column.dtype)))

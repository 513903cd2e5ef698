"""Decision rules written in the configuration, compiled once, evaluated without ``eval``.

A rule is one expression over the fields of an observation, such as
``filter in ['Si', 'Sz'] and magnitude < 12``. Only literals, field names, comparisons, and / or / not are
understood; everything else, and every comparison of unlike types, is refused when the configuration is read.
A field that an observation lacks, or holds in another type, makes its comparison false.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from obsarchive.errors import ConfigError

Rule = Callable[[Mapping[str, Any]], bool]

FIELDS: dict[str, type] = {
    "name": str,
    "night": str,
    "mode": str,
    "telescope": str,
    "camera": str,
    "filter": str,
    "marker": str,
    "science_program.program_id": str,
    "science_program.program_PI": str,
    "exposure_s": float,
    "magnitude": float,
    "coordinates.ra_deg": float,
    "coordinates.dec_deg": float,
    "coordinates.az_deg": float,
    "coordinates.el_deg": float,
    "seeing.median_arcsec": float,
    "seeing.nearest_arcsec": float,
}
"""Fields that a rule may mention, dotted as in the Mongo shell, with their type."""

_CLASSIFICATION = re.compile(r"pipelined\.\w+\.classified_as")

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
_TYPES: dict[type, tuple[type, ...]] = {float: (int, float), str: (str,)}
_ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_MEMBER = (ast.In, ast.NotIn)


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
    try:
        return _build(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as err:
        raise ConfigError(f"rule {text!r}: {err}") from err
    except ConfigError as err:
        raise ConfigError(f"rule {text!r}: {err}") from err


def lookup(document: Mapping[str, Any], dotted: str) -> Any:
    """Value at a dotted path of a document, or None."""
    found: Any = document
    for key in dotted.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(key)
    return found


def _build(node: ast.expr) -> Rule:
    match node:
        case ast.Constant(value=bool(value)):
            return lambda document: value  # noqa: ARG005 - a constant rule looks at nothing
        case ast.BoolOp(op=op, values=values):
            parts = [_build(value) for value in values]
            join = all if isinstance(op, ast.And) else any
            return lambda document: join(part(document) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _build(operand)
            return lambda document: not inner(document)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _comparison(left, op, right)
        case ast.Compare():
            raise ConfigError("write chained comparisons with 'and'")
    raise ConfigError(f"{ast.unparse(node)!r} is neither a comparison nor and / or / not")


def _comparison(left: ast.expr, op: ast.cmpop, right: ast.expr) -> Rule:
    name = ast.unparse(left)
    kind = _field_type(name)
    compare = _COMPARE.get(type(op))
    if compare is None:
        raise ConfigError(f"'{ast.unparse(ast.Compare(left, [op], [right]))}': this comparison is not allowed")
    try:
        literal = ast.literal_eval(right)
    except (ValueError, TypeError) as err:
        raise ConfigError(f"{ast.unparse(right)!r} is not a literal") from err
    _check_type(name, kind, op, literal)
    wanted = _TYPES[kind]

    def rule(document: Mapping[str, Any]) -> bool:
        found = lookup(document, name)
        # A document may hold a list (several owners of a programme): any of them may match.
        many = found if isinstance(found, list) else [found]
        return any(isinstance(value, wanted) and compare(value, literal) for value in many)

    return rule


def _field_type(name: str) -> type:
    if _CLASSIFICATION.fullmatch(name):
        return str
    if name not in FIELDS:
        near = get_close_matches(name, FIELDS, n=1)
        raise ConfigError(f"unknown field {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return FIELDS[name]


def _check_type(name: str, kind: type, op: ast.cmpop, literal: object) -> None:
    if isinstance(op, _MEMBER):
        if not isinstance(literal, list | tuple | set):
            raise ConfigError(f"'in' needs a list, found {literal!r}")
        items = list(literal)
    else:
        items = [literal]
    if kind is str and isinstance(op, _ORDER):
        raise ConfigError(f"{name} is text and has no order: use ==, != or in")
    for item in items:
        if not isinstance(item, _TYPES[kind]) or isinstance(item, bool):
            words = "a number" if kind is float else "text (quote it)"
            raise ConfigError(f"{name} is {words}, {item!r} is not")

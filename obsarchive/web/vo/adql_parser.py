"""ADQL 2.1, the part that makes sense for one table: read as a tree, or rejected with the place of the mistake."""

from functools import cache
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput, v_args
from lark.exceptions import UnexpectedCharacters, VisitError

from obsarchive.web.vo.adql_nodes import (
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
    Output,
    Query,
    SortKey,
)

LONGEST_QUERY, DEEPEST_QUERY, LARGEST_OFFSET = 20_000, 80, 10**9

GRAMMAR = r"""
query: "SELECT"i [DISTINCT | ALL] ["TOP"i INT] outputs "FROM"i table [where] [group] [having] [order] [offset] ";"?
outputs: "*" -> everything | output ("," output)*
output: condition ["AS"i? name]
table: path ["AS"i? name]
path: name ("." name)*
where: "WHERE"i condition
group: "GROUP"i "BY"i condition ("," condition)*
having: "HAVING"i condition
order: "ORDER"i "BY"i sort_key ("," sort_key)*
sort_key: condition [ASC | DESC]
offset: "OFFSET"i INT

?condition: conjunction ("OR"i conjunction)* -> any_of
?conjunction: negation ("AND"i negation)* -> all_of
?negation: "NOT"i negation -> negated | predicate
?predicate: sum
    | sum COMPARISON sum -> comparison
    | sum [NOT] "BETWEEN"i sum "AND"i sum -> between
    | sum [NOT] "IN"i "(" sum ("," sum)* ")" -> one_of
    | sum [NOT] LIKE sum -> like
    | sum "IS"i [NOT] "NULL"i -> is_null
?sum: product | sum SUM_SIGN product -> arithmetic
?product: factor | product PRODUCT_SIGN factor -> arithmetic
?factor: atom | SUM_SIGN factor -> signed
?atom: NUMBER -> number
    | INT -> number
    | STRING+ -> text
    | "NULL"i -> null
    | "(" condition ")"
    | call
    | path -> column
call: name "(" [DISTINCT | ALL] (STAR | arguments)? ")"
arguments: condition ("," condition)*
name: NAME | QUOTED

DISTINCT.2: /distinct\b/i
ALL.2: /all\b/i
ASC.2: /asc\b/i
DESC.2: /desc\b/i
NOT.2: /not\b/i
LIKE.2: /i?like\b/i
STAR: "*"
COMPARISON: "=" | "<>" | "!=" | "<=" | ">=" | "<" | ">"
SUM_SIGN: "+" | "-" | "||"
PRODUCT_SIGN: "*" | "/"
STRING: /'([^']|'')*'/
QUOTED: /"([^"]|"")+"/
NUMBER.1: /(\d+\.\d*|\.\d+)([eE][+-]?\d+)?|\d+[eE][+-]?\d+/
INT: /\d+/
NAME: /[a-z][a-z0-9_]*/i
COMMENT: /--[^\n]*/
%import common.WS
%ignore WS
%ignore COMMENT
"""


class QueryError(ValueError):
    """A query that cannot be answered; the message is for the client."""


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", start="query", maybe_placeholders=True)


def parse(text: str) -> Query:
    """Return a query.

    Parameters
    ----------
    text : str
        In ADQL.

    Returns
    -------
    Query

    Raises
    ------
    QueryError
        It is none, or not in the part of the language that is understood.
    """
    if len(text) > LONGEST_QUERY:
        raise QueryError(f"a query has {LONGEST_QUERY} characters at most")
    if text.count("(") > DEEPEST_QUERY or text.upper().count("NOT") > DEEPEST_QUERY:
        raise QueryError("the query has too many parentheses")
    try:
        found: Query = _Builder().transform(_parser().parse(text))
    except UnexpectedInput as err:
        raise QueryError(_explained(err, text)) from err
    except VisitError as err:
        too_deep = isinstance(err.orig_exc, RecursionError)
        raise QueryError("the query is nested too deeply" if too_deep else str(err.orig_exc)) from err
    return found


def _explained(err: UnexpectedInput, text: str) -> str:
    place = f"line {err.line}, column {err.column}" if err.line and err.line > 0 else "the end"
    if isinstance(err, UnexpectedCharacters):
        return f"the query is not understood at {place}: {text.splitlines()[err.line - 1][err.column - 1 :][:30]!r}"
    word = str(getattr(err, "token", ""))
    return f"the query is not understood at {place}" + (f": {word[:40]!r}" if word else ": it ends too early")


class _Builder(Transformer[Token, Any]):
    """From the tree of the grammar to `Query`."""

    def name(self, found: list[Token]) -> str:
        [token] = found
        return str(token)[1:-1].replace('""', '"') if token.type == "QUOTED" else str(token)

    def path(self, names: list[str]) -> list[str]:
        return names

    def column(self, found: list[list[str]]) -> ColumnName:
        *table, name = found[0]
        return ColumnName(name.lower(), ".".join(table).lower())

    def number(self, found: list[Token]) -> Constant:
        return Constant(float(found[0]))

    def text(self, found: list[Token]) -> Constant:
        return Constant("".join(str(token)[1:-1].replace("''", "'") for token in found))

    def null(self, _: list[Any]) -> Constant:
        return Constant(None)

    def signed(self, found: list[Any]) -> Node:
        sign, value = found
        if sign == "-" and isinstance(value, Constant) and isinstance(value.value, float):
            return Constant(-value.value)
        return value if sign == "+" else Arithmetic("-", Constant(0.0), value)

    @v_args(inline=True)
    def arithmetic(self, left: Node, sign: Token, right: Node) -> Arithmetic:
        return Arithmetic(str(sign), left, right)

    @v_args(inline=True)
    def comparison(self, left: Node, sign: Token, right: Node) -> Comparison:
        return Comparison("<>" if sign == "!=" else str(sign), left, right)

    def any_of(self, parts: list[Node]) -> Node:
        return parts[0] if len(parts) == 1 else Logical("OR", tuple(parts))

    def all_of(self, parts: list[Node]) -> Node:
        return parts[0] if len(parts) == 1 else Logical("AND", tuple(parts))

    def negated(self, found: list[Node]) -> Negation:
        return Negation(found[0])

    @v_args(inline=True)
    def between(self, value: Node, negate: Token | None, low: Node, high: Node) -> Node:
        return _unless(negate, Between(value, low, high))

    @v_args(inline=True)
    def one_of(self, value: Node, negate: Token | None, *choices: Node) -> Node:
        return _unless(negate, OneOf(value, choices))

    @v_args(inline=True)
    def like(self, value: Node, negate: Token | None, word: Token, pattern: Node) -> Node:
        return _unless(negate, Like(value, pattern, ignore_case=word.upper() == "ILIKE"))

    @v_args(inline=True)
    def is_null(self, value: Node, negate: Token | None) -> Node:
        return _unless(negate, IsNull(value))

    def arguments(self, found: list[Node]) -> tuple[Node, ...]:
        return tuple(found)

    @v_args(inline=True)
    def call(self, name: str, word: Token | None, arguments: Any = ()) -> Call:
        if isinstance(arguments, Token):
            arguments = (ColumnName("*"),)
        return Call(name.upper(), arguments or (), _is(word, "DISTINCT"))

    @v_args(inline=True)
    def output(self, value: Node, name: str | None) -> Output:
        return Output(value, name or "")

    def outputs(self, found: list[Output]) -> tuple[Output, ...]:
        return tuple(found)

    def everything(self, _: list[Any]) -> tuple[Output, ...]:
        return ()

    def table(self, found: list[Any]) -> tuple[str, str]:
        path, alias = found
        return ".".join(path).lower(), (alias or "").lower()

    def where(self, found: list[Node]) -> Node:
        return found[0]

    having = where

    def group(self, found: list[Node]) -> tuple[Node, ...]:
        return tuple(found)

    @v_args(inline=True)
    def sort_key(self, value: Node, word: Token | None) -> SortKey:
        return SortKey(value, descending=_is(word, "DESC"))

    def order(self, found: list[SortKey]) -> tuple[SortKey, ...]:
        return tuple(found)

    def offset(self, found: list[Token]) -> int:
        return min(int(found[0]), LARGEST_OFFSET)

    def query(self, found: list[Any]) -> Query:
        word, top, outputs, (table, alias), where, group, having, order, offset = found
        return Query(
            table=table,
            alias=alias,
            outputs=outputs,
            where=where,
            group_by=group or (),
            having=having,
            order_by=order or (),
            top=None if top is None else int(top),
            offset=offset or 0,
            distinct=_is(word, "DISTINCT"),
        )


def _is(token: Token | None, kind: str) -> bool:
    return token is not None and token.type == kind


def _unless(negate: Token | None, node: Node) -> Node:
    return Negation(node) if negate is not None else node

"""What is wrong with configured values, in plain English: where, what was expected, what was found."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from obsarchive.config.field_types import nearest_key

Place = tuple[int | str, ...]
Problem = Mapping[str, Any]

LONGEST = 100
"""Letters of a value that are shown."""
_SECRET_KEY = re.compile(r"token|password|passwd|secret|credential|envvar|_env$|^env$|^file$", re.IGNORECASE)
_USER_IN_URL = re.compile(r"(?<=://)[^/\s]*@|(?<=[?&])[^\s'\"]*")

GROUP, LIST = "a group of keys and values", "a list"
WHOLE, NUMBER, TEXT, YES_OR_NO = "a whole number", "a number", "a text", "true or false"
DAY, CLOCK, MOMENT = "a day such as 2026-03-14", "a time of day such as 23:30", "a time such as 2026-03-14T23:30"
_KINDS = {
    "int": WHOLE,
    "float": NUMBER,
    "decimal": NUMBER,
    "bool": YES_OR_NO,
    "string": TEXT,
    "dict": GROUP,
    "mapping": GROUP,
    "model": GROUP,
    "dataclass": GROUP,
    "tuple": LIST,
    "list": LIST,
    "set": LIST,
    "frozen_set": LIST,
    "iterable": LIST,
    "date": DAY,
    "time": CLOCK,
    "datetime": MOMENT,
    "path": "a path as text",
    "none": "null",
}
"""What is meant by the first word of the name of an error, as `int` of `int_parsing`."""
_BOUNDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda given: f"a number greater than {given['gt']:g}",
    "greater_than_equal": lambda given: f"a number not less than {given['ge']:g}",
    "less_than": lambda given: f"a number less than {given['lt']:g}",
    "less_than_equal": lambda given: f"a number not greater than {given['le']:g}",
    "multiple_of": lambda given: f"a multiple of {given['multiple_of']:g}",
    "too_short": lambda given: f"a list of at least {_counted(given['min_length'], 'entry', 'entries')}",
    "too_long": lambda given: f"a list of at most {_counted(given['max_length'], 'entry', 'entries')}",
    "string_too_short": lambda given: f"a text of at least {_counted(given['min_length'], 'letter', 'letters')}",
    "string_too_long": lambda given: f"a text of at most {_counted(given['max_length'], 'letter', 'letters')}",
    "literal_error": lambda given: str(given["expected"]),
    "enum": lambda given: str(given["expected"]),
    "finite_number": lambda _: "a finite number",
    "int_from_float": lambda _: "a whole number without a fraction",
    "int_parsing_size": lambda _: "a smaller whole number",
    "form": lambda given: str(given["what"]),
}
"""What is meant by errors that name a limit."""


def explain(err: ValidationError, raw: object, model: type[BaseModel] | None = None) -> Iterator[tuple[Place, str]]:
    """Yield what is wrong with the values of a file.

    Of a value that may be of several kinds, one message names them all; a group or list is not called wrong where a
    value within it is.

    Parameters
    ----------
    err : ValidationError
        What pydantic found.
    raw : object
        Content of the file.
    model : type, optional
        Model of it, which tells the nearest of its keys for an unknown one.

    Yields
    ------
    place : tuple
        Keys, and numbers of entries of lists, that lead to the value.
    message : str
        What is wrong with it.
    """
    found: dict[Place, list[Problem]] = {}
    for problem in err.errors(include_url=False):
        found.setdefault(_place(raw, problem["loc"], is_missing=problem["type"] == "missing"), []).append(problem)
    for place, problems in found.items():
        if not any(len(other) > len(place) and other[: len(place)] == place for other in found):
            yield from ((place, message) for message in dict.fromkeys(_messages(place, problems, model)))


def _place(raw: object, loc: Sequence[int | str], *, is_missing: bool) -> Place:
    """Return where a value stands in the file, without what pydantic calls the kinds that it may be of."""
    place: list[int | str] = []
    value = raw
    for number, part in enumerate(loc):
        match value:
            case Mapping() if part in value:
                value = value[part]
            case list() | tuple() if isinstance(part, int) and part < len(value):
                value = value[part]
            case _ if not is_missing or number < len(loc) - 1:
                continue
        place.append(part)
    return tuple(place)


def _messages(place: Place, problems: Sequence[Problem], model: type[BaseModel] | None) -> Iterator[str]:
    said = [text for text in (_said(problem, place, model) for problem in problems) if text]
    if said:
        yield from said
        return
    kinds = list(dict.fromkeys(_expected(problem) for problem in problems))
    yield f"{' or '.join(kinds)} is expected; {_found(problems[0]['input'], place)}"


def _said(problem: Problem, place: Place, model: type[BaseModel] | None) -> str:
    """Return the message of a problem that is none of a value of the wrong kind; empty for others."""
    match problem["type"]:
        case "missing":
            is_entry = bool(place) and isinstance(place[-1], int)
            return "this entry of the list is needed" if is_entry else "this key is needed"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"unknown key{nearest_key(place, model)}"
        case "value_error" | "assertion_error":
            return str(problem["ctx"]["error"])
    return ""


def _expected(problem: Problem) -> str:
    kind, given = problem["type"], problem.get("ctx", {})
    if kind in _BOUNDS:
        return _BOUNDS[kind](given)
    first = next((name for name in _KINDS if kind.startswith(f"{name}_")), "")
    return _KINDS.get(first) or re.sub(r"^Input should (be )?", "", problem["msg"])


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _found(value: object, place: Place) -> str:
    """Write what was found, unless it may be a secret; of what holds further values only that it does."""
    match value:
        case None | True | False:
            return f"found {str(value).lower().replace('none', 'null')}"
        case Mapping():
            return f"found {GROUP}" if value else "found an empty group"
        case list() | tuple():
            return f"found a list of {_counted(len(value), 'entry', 'entries')}" if value else "found an empty list"
    if any(_SECRET_KEY.search(str(part)) for part in place):
        return "what was found is not shown, as it may be a secret"
    text = _USER_IN_URL.sub("…", repr(value))
    return f"found {text if len(text) <= LONGEST else text[:LONGEST] + '…'}"

"""Fields of documents, as the types of `obsarchive.core.document_types` declare them."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter
from typing_extensions import is_typeddict

STRICT = ConfigDict(extra="forbid", strict=True)


def validate(documents: list[dict[str, Any]], kind: Any) -> None:
    """Fail if a document lacks a required field, holds one that is not declared, or one of another type."""
    TypeAdapter(list[kind], config=STRICT).validate_python(documents)


def choices(kind: Any) -> Sequence[Any]:
    """Types of a union; a type that is none alone."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def resolves(parts: Sequence[str], kind: Any) -> bool:
    """Whether parts of a dotted path, which may hold ``*``, lead to a field of a type."""
    if len(choices(kind)) > 1:
        return any(resolves(parts, choice) for choice in choices(kind))
    if not parts or kind is Any:
        return True
    if is_typeddict(kind):
        fields = get_type_hints(kind)
        return any(resolves(parts[1:], fields[name]) for name in fields if fnmatchcase(name, parts[0]))
    if get_origin(kind) is dict:
        return resolves(parts[1:], get_args(kind)[1])
    return get_origin(kind) is list and resolves(parts[1:] if parts[0] == "$" else parts, get_args(kind)[0])


def declared(kind: Any) -> set[tuple[str, str]]:
    """Every field of a type and of those within it, with the name of its type."""
    if is_typeddict(kind):
        fields = get_type_hints(kind)
        return {(kind.__name__, name) for name in fields}.union(*map(declared, fields.values()))
    return set().union(*(declared(inner) for inner in get_args(kind)))


def held(value: Any, kind: Any) -> Iterator[tuple[str, str]]:
    """Yield the declared fields that a document holds, as `declared` names them."""
    for choice in choices(kind):
        if is_typeddict(choice) and isinstance(value, dict):
            fields = get_type_hints(choice)
            for name in fields.keys() & value.keys():
                yield choice.__name__, name
                yield from held(value[name], fields[name])
        elif get_origin(choice) is dict and isinstance(value, dict):
            for inner in value.values():
                yield from held(inner, get_args(choice)[1])
        elif get_origin(choice) is list and isinstance(value, list):
            for inner in value:
                yield from held(inner, get_args(choice)[0])

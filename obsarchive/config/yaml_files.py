"""YAML files checked against a model: errors are reported with the file, the line and the key."""

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from obsarchive.config.field_types import Lenient, ignored_keys
from obsarchive.config.wording import Place, explain
from obsarchive.errors import MALFORMED, ConfigError

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=BaseModel)

MERGE = "tag:yaml.org,2002:merge"
"""Of the key ``<<``, which may stand twice."""
MOST_VALUES = 100_000
"""Largest number of values in a file."""
_WITHOUT_BASE_60 = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?(\d[\d_]*\.[\d_]*(e[-+]?\d+)?|\d[\d_]*e[-+]?\d+|\.\d[\d_]*(e[-+]?\d+)?|\.inf)$|\.nan$", re.IGNORECASE
    ),
}


_RESOLVERS = {
    first: [(tag, _WITHOUT_BASE_60.get(tag, pattern)) for tag, pattern in resolvers]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader = type("_Loader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": _RESOLVERS})
"""Reads ``17:30:25`` as text, as YAML 1.2 does, not as a number of base 60."""


def load(path: Path, model: type[Model], replaced: Mapping[str, Any] | None = None) -> Model:
    """Read a YAML file; keys that a lenient model passes over are logged.

    Relative paths in it are relative to its folder (see :mod:`obsarchive.config.field_types`).

    Parameters
    ----------
    path : Path
        The file.
    model : type
        Pydantic model of its content.
    replaced : mapping, optional
        Sections that stand for those of the file: of a template, which lacks them.

    Returns
    -------
    BaseModel
        An instance of `model`.

    Raises
    ------
    ConfigError
        With the file, the line and the key, what was expected and what was found.
    """
    path = path.absolute()
    raw, node = _parsed(path)
    lines = _lines(node, ())
    if issubclass(model, Lenient):
        for place, hint in ignored_keys(raw, model):
            where = f"{path}, line {lines.get(place, 1)}"
            log.warning("%s: the unknown key %s is ignored%s", where, ".".join(place), hint)
    try:
        return model.model_validate({**raw, **(replaced or {})}, context={"folder": path.parent})
    except ValidationError as err:
        found = (
            f"{path}, line {_line_of(place, lines)}: {'.'.join(map(str, place))}: {message}"
            for place, message in explain(err, {**raw, **(replaced or {})}, model)
        )
        raise ConfigError("\n".join(found)) from err


def read(path: Path) -> dict[str, Any]:
    """Read a YAML file of keys and values that no model describes.

    Raises
    ------
    ConfigError
        With the file and the line.
    """
    raw, _ = _parsed(path)
    return {str(key): value for key, value in raw.items()}


def _parsed(path: Path) -> tuple[Mapping[Any, Any], yaml.Node | None]:
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            _check_size(node, {})
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except FileNotFoundError as err:
        raise ConfigError(f"{path}: no such file") from err
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read as text: {err}") from err
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not YAML: {getattr(err, 'problem', None) or err}") from err
    except (*MALFORMED, RecursionError) as err:  # values such as the 30th of February, or nested a thousand times
        raise ConfigError(f"{path}: not YAML: it holds what cannot be read: {err}") from err
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}: expected keys and values, found {type(raw).__name__}")
    repeated = [
        f"{path}, line {line}: {'.'.join(map(str, place))}: this key is given twice, first in line {first}: keep one"
        for place, first, line in _repeated(node)
    ]
    if repeated:
        raise ConfigError("\n".join(dict.fromkeys(repeated)))
    return raw, node


def _check_size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node holds, those behind aliases counted each time.

    Raises
    ------
    ValueError
        They are more than `MOST_VALUES`, or it holds itself.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MOST_VALUES  # until it is counted: a node that holds itself is too large
        parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_check_size(part, known) for part in parts)
    if known[id(node)] > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values, those behind aliases counted each time")
    return known[id(node)]


def _lines(node: yaml.Node | None, place: Place) -> dict[Place, int]:
    """Line of every key, by its place."""
    found: dict[Place, int] = {place: node.start_mark.line + 1} if node is not None else {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found |= _lines(value, (*place, str(key.value)))
            found[*place, str(key.value)] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            found |= _lines(value, (*place, number))
    return found


def _repeated(node: yaml.Node | None, place: Place = ()) -> Iterator[tuple[Place, int, int]]:
    """Yield the places of keys that are given twice in one group, with their first and their next line."""
    if isinstance(node, yaml.MappingNode):
        known: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            here, line = (*place, str(key.value)), key.start_mark.line + 1
            first = known.setdefault((key.tag, str(key.value)), line)
            if first != line and key.tag != MERGE:
                yield here, first, line
            yield from _repeated(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _repeated(value, (*place, number))


def _line_of(place: Place, lines: Mapping[Place, int]) -> int:
    """Return the line of a value, or of what it lacks in."""
    known = tuple(part if isinstance(part, int) else str(part) for part in place)
    return next((lines[known[:n]] for n in range(len(known), -1, -1) if known[:n] in lines), 1)

"""Reading of ``config.json``: what is wrong is named by file, key, what was expected and what was found."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from obsarchive.config.model import Config
from obsarchive.config.wording import Place, explain
from obsarchive.errors import ConfigError

HELP = "help"
"""Key of a comment, which may stand anywhere, and more than once."""


class _Object(dict[str, Any]):
    """An object of a JSON file; it remembers the keys that were given more than once, of which the last would win."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs)
        self.repeated = {key: count for key, count in counts.items() if count > 1 and key != HELP}


def load(path: Path | str, *, import_classes: bool = True) -> Config:
    """Read and check a configuration file.

    Parameters
    ----------
    path : path or str
        The file.
    import_classes : bool, optional
        Whether the classes it names must exist; they are imported, with what they need.

    Returns
    -------
    Config
        The configuration; relative paths are relative to the folder of the file.

    Raises
    ------
    ConfigError
        With the file, the path of the key, what was expected and what was found.
    """
    path = Path(path).absolute()
    raw = _parsed(path)
    try:
        config = Config.model_validate(
            _without_help(raw), context={"folder": path.parent, "import_classes": import_classes}
        )
    except ValidationError as err:
        lines = (f"{path}: {_dotted(place)}: {message}" for place, message in explain(err, raw, Config))
        raise ConfigError("\n".join(lines)) from err
    return config.model_copy(update={"source": path})


def _parsed(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_Object)
    except FileNotFoundError as err:
        raise ConfigError(f"{path}: no such file; copy the shipped config.json and edit it") from err
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: not a text file in UTF-8") from err
    except json.JSONDecodeError as err:
        raise ConfigError(f"{path}, line {err.lineno}, column {err.colno}: not JSON: {err.msg}") from err
    except (ValueError, RecursionError) as err:
        raise ConfigError(f"{path}: holds a number or a nesting that no configuration needs: {err}") from err
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected one JSON object, found a {type(raw).__name__}")
    repeated = [
        f"{path}: {_dotted(place)}: this key is given {count} times in one object: keep one"
        for place, count in _repeated(raw)
    ]
    if repeated:
        raise ConfigError("\n".join(repeated))
    return raw


def _repeated(value: object, place: Place = ()) -> Iterator[tuple[Place, int]]:
    """Yield the places of keys that were given more than once, and how often."""
    if isinstance(value, _Object):
        yield from (((*place, key), count) for key, count in value.repeated.items())
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _repeated(inner, (*place, key))


def _dotted(place: Place) -> str:
    return ".".join(map(str, place))


def _without_help(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_help(inner) for key, inner in value.items() if key != HELP}
    if isinstance(value, list):
        return [_without_help(inner) for inner in value]
    return value

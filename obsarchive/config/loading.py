"""Reading of ``config.json``: what is wrong is named by file, key, what was expected and what was found."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from obsarchive.config.field_types import format_validation_error
from obsarchive.config.model import Config
from obsarchive.errors import ConfigError


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
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
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
    try:
        config = Config.model_validate(
            _without_help(raw), context={"folder": path.parent, "import_classes": import_classes}
        )
    except ValidationError as err:
        raise ConfigError("\n".join(f"{path}: {line}" for line in _explained(err))) from err
    return config.model_copy(update={"source": path})


def _without_help(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_help(inner) for key, inner in value.items() if key != "help"}
    if isinstance(value, list):
        return [_without_help(inner) for inner in value]
    return value


def _explained(err: ValidationError) -> Iterator[str]:
    problems = err.errors()
    for problem in problems:
        inner = (other["loc"][: len(problem["loc"])] for other in problems if other is not problem)
        if problem["type"] == "too_short" and problem["loc"] in inner:
            continue  # an entry is not missing but wrong, as another line says
        where = ".".join(str(part) for part in problem["loc"])
        yield f"{where}: {format_validation_error(problem, problem['loc'], Config)}"

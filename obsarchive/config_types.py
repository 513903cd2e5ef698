"""Types of which the configuration is made: absolute paths, secrets from outside, classes, rules."""

import importlib
import os
from datetime import date, time
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationInfo

from obsarchive.errors import ConfigError
from obsarchive.rules import compile_rule


def _absolute(path: Path, info: ValidationInfo) -> Path:
    folder: Path = (info.context or {}).get("folder", Path.cwd())
    return (folder / path.expanduser()).absolute()


def _read_secret(value: object, info: ValidationInfo) -> object:
    """Resolve ``{"env": NAME}`` or ``{"file": path}``; a secret is never written in the file itself."""
    if value is None or isinstance(value, SecretStr):
        return value
    match value:
        case {"env": str(name), **rest} if not rest:
            if name not in os.environ:
                raise ValueError(f"environment variable {name} is not set")
            return SecretStr(os.environ[name])
        case {"file": str(name), **rest} if not rest:
            path = _absolute(Path(name), info)
            try:
                return SecretStr(path.read_text().strip())
            except OSError as err:
                raise ValueError(f"cannot read the secret from {path}: {err.strerror}") from err
    raise ValueError('a secret is given as {"env": "NAME"} or {"file": "path"}, never written here')


def _importable(name: str) -> str:
    import_class(name)
    return name


IMPORT_ERRORS = (ImportError, AttributeError, ValueError, NameError, TypeError, SyntaxError)
"""What goes wrong when somebody's module is imported."""


def import_class(name: str) -> type:
    """Return the class called ``package.module.Class``; ValueError when there is none."""
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except IMPORT_ERRORS as err:
        raise ValueError(f"no class {name!r}: {type(err).__name__}: {err}") from err
    if not isinstance(found, type):
        raise ValueError(f"{name!r} is not a class")  # noqa: TRY004 - pydantic reports ValueErrors
    return found


def _compiles(text: str) -> str:
    try:
        compile_rule(text)
    except ConfigError as err:
        raise ValueError(str(err)) from err
    return text


def _without_zone(clock: time) -> time:
    if clock.tzinfo is not None:
        raise ValueError(f'a time of day without a zone, such as "23:30"; found {clock.isoformat()}')
    return clock


AnyPath = Annotated[Path, AfterValidator(_absolute)]
Secret = Annotated[SecretStr | None, BeforeValidator(_read_secret)]
ClassName = Annotated[str, AfterValidator(_importable)]
RuleText = Annotated[str, AfterValidator(_compiles)]
Clock = Annotated[time, AfterValidator(_without_zone)]
Day = Annotated[date, BeforeValidator(lambda text: text.replace("/", "-") if isinstance(text, str) else text)]


class Section(BaseModel):
    """A part of the configuration: frozen, strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

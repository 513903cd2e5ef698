"""Types of which the configuration is made: absolute paths, secrets from outside, classes, rules."""

import importlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from pathlib import Path
from sysconfig import get_path
from traceback import extract_tb
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from obsarchive.core.rules import compile_rule
from obsarchive.errors import ConfigError, did_you_mean


def _absolute(path: Path, info: ValidationInfo) -> Path:
    if "\0" in str(path):
        raise ValueError("a path without the character 0 is expected")
    folder: Path = (info.context or {}).get("folder", Path.cwd())
    return (folder / path.expanduser()).absolute()


def _read_secret(value: object, info: ValidationInfo) -> object:
    """Resolve ``{"env": NAME}`` or ``{"file": path}``; a secret is never written in the file itself."""
    if value is None or isinstance(value, SecretStr):
        return value
    match value:
        case {"env": str(name), **rest} if not rest:
            if name not in os.environ:
                raise ValueError(f"environment variable {shown_variable(name)} is not set")
            return SecretStr(os.environ[name])
        case {"file": str(name), **rest} if not rest:
            path = _absolute(Path(name), info)
            try:
                return SecretStr(path.read_text().strip())
            except (OSError, ValueError) as err:
                why = getattr(err, "strerror", None) or "it is no path or no text"
                raise ValueError(f"cannot read the secret from {_shown_file(path, info)}: {why}") from err
    raise ValueError('a secret is given as {"env": "NAME"} or {"file": "path"}, never written here')


_VARIABLE = re.compile(r"[A-Z]{1,24}|[A-Z][A-Z0-9]{0,9}(_[A-Z0-9]{1,16}){1,6}|[A-Z][A-Z0-9]{0,7}")
"""Names of environment variables as people choose them; a secret has more digits, or small letters."""
HIDDEN = "(not shown, as it may be the secret itself: this setting holds the NAME of a variable)"


def shown_variable(name: str) -> str:
    """Return the name of an environment variable for a message, unless it may be a secret in the wrong place.

    Parameters
    ----------
    name : str
        What stands where the name of a variable belongs.

    Returns
    -------
    str
        The name, or a text that says why it is hidden.
    """
    return name if _VARIABLE.fullmatch(name) else HIDDEN


def _shown_file(path: Path, info: ValidationInfo) -> str:
    """Return the path of a file with a secret, unless the path may be the secret itself."""
    if path.parent == _absolute(Path(), info) or not path.parent.is_dir():
        return "the file (not shown, as it may be the secret itself: this setting holds the PATH of a file)"
    return str(path)


def _importable(name: str, info: ValidationInfo) -> str:
    if (info.context or {}).get("import_classes", True):
        import_class(name)
    return name


IMPORT_ERRORS = (ImportError, AttributeError, ValueError, NameError, TypeError, SyntaxError)
"""What goes wrong when a module of an adopter is imported."""


def import_object(name: str, kind: str) -> Any:
    """Return what is called ``package.module.name``.

    Parameters
    ----------
    name : str
        Its name.
    kind : str
        What it should be, for the message.

    Returns
    -------
    object

    Raises
    ------
    ValueError
        There is none, or its module cannot be imported.
    """
    path, _, attribute = name.rpartition(".")
    if not path:
        raise ValueError(f"no {kind} {name!r}: its module must stand before it, as in my_module.{name}")
    try:
        module = importlib.import_module(path)
    except Exception as err:  # whatever a module of an adopter does while it is imported
        raise ValueError(f"no {kind} {name!r}: {_why_not_imported(path, err)}") from err
    try:
        return getattr(module, attribute)
    except IMPORT_ERRORS as err:
        hint = did_you_mean(attribute, vars(module))
        raise ValueError(f"no {kind} {name!r}: {type(err).__name__}: {err}{hint}") from err


def _why_not_imported(module: str, err: Exception) -> str:
    """Return whether a module is missing, or else what goes wrong in it, with file and line."""
    if isinstance(err, ModuleNotFoundError) and f"{module}.".startswith(f"{err.name}."):
        return f"{err}, neither in this folder nor on PYTHONPATH"
    file, line = _place_of(err)
    text = err.msg if isinstance(err, SyntaxError) else err
    return f"its module cannot be imported: {type(err).__name__}: {text} ({file}, line {line})"


def _place_of(err: Exception) -> tuple[str, int | None]:
    """Return file and line in which an import failed: the innermost ones that belong to no installed package."""
    if isinstance(err, SyntaxError) and err.filename:
        return err.filename, err.lineno
    frames = [frame for frame in extract_tb(err.__traceback__) if not frame.filename.startswith("<")]
    foreign = tuple({get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")})
    ours = [frame for frame in frames if not frame.filename.startswith(foreign) and frame.filename != __file__]
    last = (ours or frames)[-1]
    return last.filename, last.lineno


def import_class(name: str) -> type:
    """Return the class called ``package.module.Class``; ValueError when there is none."""
    found = import_object(name, "class")
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


def none_as_nothing(value: Any) -> Any:
    """Read ``none`` and an empty text, as older files have them, as nothing."""
    return None if isinstance(value, str) and value.strip().lower() in ("", "none") else value


def matching(pattern: str, what: str) -> AfterValidator:
    """Return a check of the form of a text.

    Parameters
    ----------
    pattern : str
        Regular expression of its beginning.
    what : str
        What people call such a text, with an example.

    Returns
    -------
    AfterValidator
        To be put into an `Annotated` text.
    """
    form = re.compile(pattern)

    def checked(text: str) -> str:
        if form.search(text) is None:
            raise PydanticCustomError("form", "{what}", {"what": what})
        return text

    return AfterValidator(checked)


AnyPath = Annotated[Path, AfterValidator(_absolute)]
WebAddress = Annotated[str, matching(r"^https?://[^?#@;,'\"\s]+\Z", "a web address such as https://example.org/path")]
Secret = Annotated[SecretStr | None, BeforeValidator(_read_secret)]
ClassName = Annotated[str, AfterValidator(_importable)]
RuleText = Annotated[str, AfterValidator(_compiles)]
Clock = Annotated[time, AfterValidator(_without_zone)]
Day = Annotated[date, BeforeValidator(lambda text: text.replace("/", "-") if isinstance(text, str) else text)]


class Lenient(BaseModel):
    """A part of a file that older programs read, too: what only they know is passed over, with a warning."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)
    of_older_programs: ClassVar[tuple[str, ...]] = ()
    """Keys that are passed over without a warning."""


class Section(BaseModel):
    """A part of the configuration: frozen, strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def renamed(default: Any, name: str, old_name: str, description: str | None = None) -> Any:
    """Return a field of a `Section` that files of earlier versions know by another name.

    Parameters
    ----------
    default : object
        Value where the key is missing.
    name, old_name : str
        The key, and the one that earlier versions had.
    description : str, optional
        What the value is, with its unit.

    Returns
    -------
    pydantic.fields.FieldInfo
        To be assigned to the field.
    """
    return Field(default, validation_alias=AliasChoices(name, old_name), description=description)


def nearest_key(place: Sequence[int | str], whole: type[BaseModel] | None) -> str:
    """Return the end of a message about an unknown key: the known one that it resembles, or whose older name it is.

    Parameters
    ----------
    place : sequence of int or str
        Path of the key in the file.
    whole : type or None
        Model of the whole file, if there is one.

    Returns
    -------
    str
    """
    model: Any = whole
    for part in place[:-1]:
        model = _inner_model(model, part)
    keys = {} if model is None else _keys(model)
    key = str(place[-1])
    if key in keys:
        return f" beside {keys[key]!r}, which means the same: give one of the two"
    return did_you_mean(key, keys, cutoff=0.5)


def ignored_keys(
    raw: Mapping[Any, Any], model: type[BaseModel], place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the keys of a file that `Lenient` models pass over.

    Parameters
    ----------
    raw : mapping
        Content of the file.
    model : type
        Model of it.
    place : tuple of str, optional
        Where it stands in the file.

    Yields
    ------
    place : tuple of str
        Place of the key.
    hint : str
        The known key that it resembles most, as `did_you_mean` returns it.
    """
    known = {*_keys(model), *model.model_fields, *getattr(model, "of_older_programs", ())}
    for key, value in raw.items():
        inner = _inner_model(model, str(key)) if key in known else None
        if key not in known:
            yield (*place, str(key)), did_you_mean(str(key), known)
        elif inner is not None and inner is not model and isinstance(value, Mapping):
            yield from ignored_keys(value, inner, (*place, str(key)))


def _keys(model: Any) -> dict[str, str]:
    """Return the keys that a model reads, each with the name of its field."""
    keys: dict[str, str] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.validation_alias, AliasChoices):
            keys |= dict.fromkeys(map(str, field.validation_alias.choices), name)
        elif not field.exclude:
            keys[field.alias or name] = name
    return keys


def _inner_model(model: Any, part: int | str) -> Any:
    """Return the model that stands at `part` of `model`; entries of a list or mapping keep their model."""
    if model is None or isinstance(part, int):
        return model
    name = _keys(model).get(part)
    return model if name is None else _model_in(model.model_fields[name].annotation)


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_model_in(inner) for inner in getattr(annotation, "__args__", ())]
    return next((model for model in found if model is not None), None)

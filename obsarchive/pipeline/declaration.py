"""The declaration of a pipeline: a named class whose methods are its steps, with what each makes and depends on."""

import graphlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError

from obsarchive.config.wording import explain
from obsarchive.core.archive_paths import Layout
from obsarchive.errors import ConfigError, did_you_mean

InputKind = Literal[
    "science",
    "calibration",
    "library",
    "dark",
    "flat",
    "seeing",
    "master_darks",
    "other_darks",
    "other_flats",
    "observations",
]


StepMethod = TypeVar("StepMethod", bound=Callable[..., Any])


@dataclass(frozen=True)
class NoSettings:
    """Settings of pipelines and steps that have none."""


@dataclass(frozen=True)
class Step:
    """A step of a pipeline, as declared by :func:`step`."""

    name: str
    makes: tuple[str, ...]
    may_make: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    uses: tuple[InputKind, ...] = ()
    settings: type = NoSettings
    gives: tuple[InputKind, ...] = ()


def step(  # noqa: PLR0913 - a declaration, all by keyword
    *,
    makes: Sequence[str],
    may_make: Sequence[str] = (),
    after: Sequence[str] = (),
    follows: Sequence[str] = (),
    reads: Sequence[str] = (),
    uses: Sequence[InputKind] = ("science", "calibration"),
    settings: type = NoSettings,
    gives: Sequence[InputKind] = (),
) -> Callable[[StepMethod], StepMethod]:
    """Mark a method ``(self, work: Workspace) -> dict`` as a pipeline step.

    Parameters
    ----------
    makes : sequence of str
        Products, relative to the pipeline's folder; ``{id}`` stands for the observation id or the night.
        A name with other fields (``dark_{mode}.fits``) stands for any number of products.
    may_make : sequence of str, optional
        Products that there are only when the data allow it.
    after : sequence of str, optional
        Steps that must be done before, because this one reads what they made.
    follows : sequence of str, optional
        Steps that must have ended before, successfully or not, because this one shows their results.
    reads : sequence of str, optional
        A product of another pipeline of the observation, ``pipeline/product``, in the order of preference: the step
        works on the first that exists (:meth:`Workspace.source`), once those pipelines have ended, successfully or
        not.
    uses : sequence of str, optional
        What the step is made from; when any of it changes, the step is due again. ``science``, ``dark``,
        ``flat``, ``seeing``: raw files of that kind. ``calibration``: the masters that fit the observation.
        ``library``: the PSF library, which matters again only to a step that found too few references
        (``lacks_references`` of its results) or used one that was removed (``references``). The step runs when the
        references of its night are known; if its settings have ``enough_references``, also when there are as many.
        ``master_darks``: the master darks of the night.
        ``other_darks``, ``other_flats``: masters of the nearest other nights for what this night lacks.
        ``observations``: what the pipelines found in the night's observations.
    settings : type, optional
        Frozen dataclass of the step's own settings.
    gives : sequence of str, optional
        Of a step of a night, what it adds to: ``library``. It runs when all has ended for the night's observations
        that does not depend on this, and the steps that use this wait for it.

    Returns
    -------
    callable
        Decorator of the method.

    Raises
    ------
    TypeError
        The step uses an unknown kind of input.
    """

    def mark(method: StepMethod) -> StepMethod:
        if unknown := sorted(set(uses) - set(get_args(InputKind))):
            raise TypeError(f"{method.__name__}: uses {unknown[0]!r}; there are {', '.join(get_args(InputKind))}")
        method.declared = Step(  # type: ignore[attr-defined]
            method.__name__,
            tuple(makes),
            tuple(may_make),
            tuple(after),
            tuple(follows),
            tuple(reads),
            tuple(uses),
            settings,
            tuple(gives),
        )
        return method

    return mark


class Pipeline:
    """Base class of pipelines: a subclass sets `name` and has one method per step.

    Parameters
    ----------
    settings : mapping, optional
        Values of `Settings`.
    steps : mapping, optional
        Values of the steps' own settings, by step name.

    Raises
    ------
    ConfigError
        When a setting is unknown or of the wrong type.
    TypeError
        When the class is defined: a step comes after an unknown step, or steps wait for each other.
    """

    name: ClassVar[str] = ""
    scope: ClassVar[Literal["observation", "night"]] = "observation"
    precedes_science: ClassVar[bool] = False
    """Whether the night's observations wait for this night pipeline."""
    follows_science: ClassVar[bool] = False
    """Whether this night pipeline waits until nothing is due for the night's observations."""
    folder: ClassVar[str | None] = None
    """Folder of the products; None: the name of the pipeline."""
    Settings: ClassVar[type] = NoSettings
    """Frozen dataclass of the settings that all steps share, available as ``self.settings``."""
    steps: ClassVar[dict[str, Step]] = {}
    """Declared steps by name, in an order in which they can run."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        methods = [getattr(cls, name) for name in dir(cls)]
        marked = {m.__name__: m.declared for m in methods if hasattr(m, "declared")}
        order = graphlib.TopologicalSorter({name: (*s.after, *s.follows) for name, s in marked.items()})
        try:
            names = list(order.static_order())
        except graphlib.CycleError as err:
            raise TypeError(f"{cls.__name__}: steps wait for each other: {' -> '.join(err.args[1])}") from err
        if unknown := sorted(set(names) - set(marked)):
            raise TypeError(f"{cls.__name__}: no such step: {', '.join(unknown)}")
        cls.steps = {name: marked[name] for name in names}

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,
        steps: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.settings = _validated(self.Settings, settings or {}, f"{self.name}.settings")
        for unknown in set(steps or {}) - set(self.steps):
            raise ConfigError(f"{self.name}.steps.{unknown}: no such step; there are {', '.join(self.steps)}")
        self.step_settings = {
            name: _validated(declared.settings, (steps or {}).get(name, {}), f"{self.name}.steps.{name}")
            for name, declared in self.steps.items()
        }

    def path(self, layout: Layout, night: str, subject: str) -> Path:
        """Return the folder of this pipeline's products.

        Parameters
        ----------
        layout : Layout
            Paths of the archive.
        night : str
            UT date, ``yyyymmdd``.
        subject : str
            Name of the observation; ignored by pipelines of a night.

        Returns
        -------
        Path
            Folder within that of the night or of the observation.
        """
        base = layout.night(night) if self.scope == "night" else layout.observation(night, subject)
        return base / (self.folder or self.name)


def _validated(kind: type, values: Mapping[str, Any], where: str) -> Any:
    """Settings dataclass from configured values; `where` they stand is part of every error message."""
    known = [f.name for f in fields(kind)] if is_dataclass(kind) else []
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}.{key}: unknown key{did_you_mean(key, known)}")
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as err:
        lines = (f"{'.'.join(map(str, (where, *place)))}: {message}" for place, message in explain(err, dict(values)))
        raise ConfigError("\n".join(lines)) from err

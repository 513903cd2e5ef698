"""Parameters of surveys: declared with type, unit and help, locked against unknown names, read from YAML.

A class of the user's own declares parameters in ``__init__`` of a subclass::

    class ParsMyAnalysis(ParsAnalysis):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self._enforce_no_new_attrs = False
            self.num_kernels = self.add_par("num_kernels", 10, int, "number of kernels")
            self._enforce_no_new_attrs = True

Values of the caller and of the file are applied when all constructors have returned, so the order of these lines does
not matter, and an undeclared name is an error then.
"""

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from html import escape
from typing import Any, ClassVar

import numpy as np

from obsarchive.errors import ConfigError, did_you_mean
from surveys.config_files import read_section
from surveys.display import card, line

Types = type | None | Iterable[type | None]
FROM_PROJECT = ("project", "cfg_file", "data_types", "verbose")
"""Parameters that a project hands down to all its parts; parts without them ignore them."""


class UnknownParameter(ConfigError, AttributeError):
    """There is no parameter of this name."""


class WrongType(ConfigError, TypeError):
    """The type of a value is not one of those of its parameter."""


class OutOfRange(ConfigError, ValueError):
    """The value of a parameter is smaller than it may be."""


class AmbiguousParameter(ConfigError, ValueError):
    """A name matches several parameters."""


class IllegalName(ConfigError, ValueError):
    """A name that is not allowed for a folder."""


@dataclass(frozen=True)
class Declared:
    """Declaration of a parameter.

    Parameters
    ----------
    name, help, unit : str
        As shown to users.
    default : object
        Default value.
    types : tuple of type
        Types that are allowed; empty: any.
    critical : bool
        Whether results depend on it: only these parameters enter the hash of a configuration.
    secret : bool
        Whether it is never written.
    least : float or None
        Least value of a number; None: any.
    """

    name: str
    default: Any
    types: tuple[type, ...]
    help: str
    critical: bool = True
    unit: str = ""
    secret: bool = False
    least: float | None = None

    @property
    def type_names(self) -> str:
        """Names of the types, joined by "or"."""
        return " or ".join("None" if kind is type(None) else kind.__name__ for kind in self.types) or "any"

    def checked(self, value: Any) -> Any:
        """Return the value in its stored form: plain Python, an integer as float if the parameter is one.

        Raises
        ------
        WrongType
            The type is not allowed.
        OutOfRange
            The number is too small.
        """
        if isinstance(value, np.generic):
            value = value.item()
        # Python counts bool as an int; here it must be allowed by name
        is_stray_bool = isinstance(value, bool) and bool not in self.types
        if float in self.types and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        elif self.types and (is_stray_bool or not isinstance(value, self.types)):
            raise WrongType(f"parameter {self.name!r} must be of type {self.type_names}, found {self.shown(value)}")
        if self.least is not None and isinstance(value, int | float) and not value >= self.least:
            raise OutOfRange(f"parameter {self.name!r} must be at least {self.least:g}, found {self.shown(value)}")
        return value

    def shown(self, value: Any) -> str:
        """Return a value for display; secrets are masked."""
        return "(secret)" if self.secret and value else repr(value)


class _Completed(type):
    """Metaclass that calls ``_complete`` after the constructors of a class and all its subclasses have returned."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        made._complete()
        return made


class Parameters(metaclass=_Completed):
    """A set of parameters.

    Parameters
    ----------
    **kwargs
        Values; they override those of the file. ``cfg_file``: a YAML file (an absolute path, or a name in ``configs``
        or the working directory); None or False: no file; by default ``configs/<project>.yaml`` is read if it exists.
        ``cfg_key``: section of the file for this object.

    Raises
    ------
    UnknownParameter
        An undeclared name (also an AttributeError); the message has the nearest name.
    WrongType
        A value of a wrong type (also a TypeError).
    AmbiguousParameter
        A shorthand of several names (also a ValueError).
    ConfigError
        The named file is missing or cannot be parsed.
    """

    default_cfg_key: ClassVar[str] = ""
    _enforce_no_new_attrs = False
    _enforce_type_checks = True
    _ignore_case = True
    _allow_shorthands = False
    _remove_underscores = False
    _tolerant = False

    def __init__(self, **kwargs: Any) -> None:
        self._declared: dict[str, Declared] = {}
        self._aliases: dict[str, str] = {}
        # values of the caller; None after they were applied
        self._given: dict[str, Any] | None = {name: value for name, value in kwargs.items() if name != "_tolerant"}
        self._unknown: dict[str, Any] = {}
        self._tolerant = bool(kwargs.get("_tolerant", False))
        self.cfg_file = self.add_par("cfg_file", None, (None, str, bool), "YAML file with parameters", critical=False)
        self.cfg_key = self.add_par(
            "cfg_key", None, (None, str), "section of that file for this object", critical=False
        )
        self.project = self.add_par("project", None, (None, str), "name of the project", critical=False)
        self.verbose = self.add_par("verbose", 0, int, "verbosity, from 0 to 10", critical=False)
        self.data_types = self.add_par("data_types", ["photometry"], (list, str), "kinds of data")

    @classmethod
    def get_default_cfg_key(cls) -> str:
        """Return the section of configuration files that is read if no ``cfg_key`` is given; subclasses override it."""
        return cls.default_cfg_key

    def _complete(self) -> None:
        self.load_then_update(self._given or {})
        self._given = None
        self._enforce_no_new_attrs = True
        if not self._tolerant:
            self.require_known()

    def require_known(self) -> None:
        """Raise UnknownParameter for names that the caller gave and no class declared."""
        for name in self._unknown:
            if name not in FROM_PROJECT:
                raise self._no_such(name)

    def add_par(  # noqa: PLR0913 - a declaration is one line
        self,
        name: str,
        default: Any,
        types: Types = (),
        help: str = "",
        critical: bool = True,
        *,
        unit: str = "",
        secret: bool = False,
        least: float | None = None,
    ) -> Any:
        """Declare a parameter.

        Parameters
        ----------
        name : str
            Its name.
        default : object
            Default value.
        types : type, None, or iterable of these
            Types that are allowed; empty: any.
        help, unit : str
            Description and unit.
        critical : bool
            Whether results depend on it.
        secret : bool
            Whether it is never written.
        least : float, optional
            Least value of a number, such as 0 for a threshold.

        Returns
        -------
        object
            A copy of the default, to be set as an attribute.

        Raises
        ------
        ValueError
            It was declared before.
        """
        if name in self._declared:
            raise ValueError(f"parameter {name!r} is declared twice in {type(self).__name__}")
        many = (types,) if types is None or isinstance(types, type) else tuple(types)
        kinds = tuple(type(None) if kind is None else kind for kind in many)
        self._declared[name] = Declared(name, copy.deepcopy(default), kinds, help, critical, unit, secret, least)
        return copy.deepcopy(default)

    def set_default(self, name: str, default: Any) -> None:
        """Change the default of a parameter of a parent class.

        Parameters
        ----------
        name : str
            Its name.
        default : object
            New default value.
        """
        known = self._declared[name]
        self._declared[name] = replace(known, default=copy.deepcopy(default))
        object.__setattr__(self, name, copy.deepcopy(default))

    def add_alias(self, alias: str, real: str) -> None:
        """Declare another name of a parameter.

        Parameters
        ----------
        alias : str
            The other name.
        real : str
            The name of the parameter.

        Raises
        ------
        UnknownParameter
            There is no such parameter.
        """
        if real not in self._declared:
            raise self._no_such(real)
        self._aliases[alias] = real

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
            return
        real = self._find(name)
        if real is None:
            if self._enforce_no_new_attrs:
                raise self._no_such(name)
            object.__setattr__(self, name, value)
            return
        if self._enforce_type_checks:
            value = self._declared[real].checked(value)
        object.__setattr__(self, real, value)

    def __getattr__(self, name: str) -> Any:
        # only called if there is no attribute of exactly this name
        if name.startswith("_"):
            raise AttributeError(name)
        real = self._find(name)
        if real is None:
            raise self._no_such(name)
        return object.__getattribute__(self, real)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def _find(self, name: str) -> str | None:
        """Return the parameter of a name, or None.

        Raises
        ------
        AmbiguousParameter
            There are several.
        """
        if name in self._declared:
            return name
        if name in self._aliases:
            return self._aliases[name]
        names = {**{known: known for known in self._declared}, **self._aliases}
        wanted = self._plain(name)
        found = {real for known, real in names.items() if self._plain(known) == wanted}
        if not found and self._allow_shorthands and wanted:
            found = {real for known, real in names.items() if self._plain(known).startswith(wanted)}
        if len(found) > 1:
            raise AmbiguousParameter(f"parameter {name!r} may mean any of {sorted(found)}: write one of them")
        return found.pop() if found else None

    def _plain(self, name: str) -> str:
        name = name.lower() if self._ignore_case else name
        return name.replace("_", "") if self._remove_underscores else name

    def _no_such(self, name: str) -> UnknownParameter:
        names = [*self._declared, *self._aliases]
        hint = did_you_mean(name.lower(), names, cutoff=0.5) or f"; known are {', '.join(sorted(names))}"
        return UnknownParameter(f"{type(self).__name__} has no parameter {name!r}{hint}")

    def load_then_update(self, kwargs: Mapping[str, Any]) -> None:
        """Apply the values of the file, then those of the caller."""
        given = dict(kwargs)
        for name in ("project", "cfg_file", "cfg_key"):
            if name in given:
                setattr(self, name, given.pop(name))
        key = self.cfg_key or self.get_default_cfg_key()
        if "cfg_file" in kwargs and self.cfg_file is None:
            self.cfg_file = False  # None means "not given" when it is handed on, and False "no file"
        requested = self.cfg_file if "cfg_file" in kwargs else True
        if key and requested is not False:
            self.apply(self.section(read_section(requested, self.project, key)))
        self.apply(given)

    def section(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values of a section of the file that belong to this object; subclasses may select deeper ones."""
        return values

    def apply(self, values: Mapping[str, Any]) -> None:
        """Set several parameters; unknown names are collected until all constructors have returned."""
        for name, value in values.items():
            if self._find(name) is None and self._given is not None:
                self._unknown[name] = value
            else:
                setattr(self, name, copy.deepcopy(value))

    def read(self, values: Mapping[str, Any]) -> None:
        """Set parameters from a mapping, replacing their values."""
        for name, value in values.items():
            setattr(self, name, copy.deepcopy(value))

    def update(self, values: Mapping[str, Any]) -> None:
        """Set parameters from a mapping; mappings and sets are merged with the present values."""
        for name, value in values.items():
            now = getattr(self, name)
            merges = isinstance(now, dict | set) and isinstance(value, type(now))
            setattr(self, name, now | copy.deepcopy(value) if merges else copy.deepcopy(value))

    def copy(self) -> "Parameters":
        """Return a deep copy."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Parameters":
        made = object.__new__(type(self))
        for name, value in self.__dict__.items():
            object.__setattr__(made, name, copy.deepcopy(value, memo))
        return made

    def to_dict(self, critical: bool = False, hidden: bool = False) -> dict[str, Any]:
        """Return the values by name, without secrets.

        Parameters
        ----------
        critical : bool, optional
            Only parameters on which results depend.
        hidden : bool, optional
            Also the settings of this class whose names start with an underscore.

        Returns
        -------
        dict
            Copies of the values.
        """
        chosen = {
            name: copy.deepcopy(getattr(self, name))
            for name, known in self._declared.items()
            if not known.secret and (known.critical or not critical)
        }
        if hidden:
            chosen |= {name: value for name, value in self.__dict__.items() if name.startswith("_enforce")}
        return chosen

    def compare(self, other: "Parameters", critical: bool = False, ignore: Iterable[str] = ()) -> dict[str, Any]:
        """Return the differences from other parameters.

        Parameters
        ----------
        other : Parameters
            Compared with these.
        critical : bool
            Only parameters on which results depend.
        ignore : iterable of str
            Names that are not compared.

        Returns
        -------
        dict
            ``{name: (own value, other value)}``.
        """
        ours, theirs = self.to_dict(critical), other.to_dict(critical)
        names = [name for name in {**ours, **theirs} if name not in set(ignore)]
        return {name: (ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)}

    def changed(self) -> dict[str, Any]:
        """Return the values that differ from their defaults, by name, without secrets."""
        values = self.to_dict()
        hidden = ("cfg_file", "cfg_key", "project", "name")
        return {name: value for name, value in values.items() if name not in hidden and value != self._default(name)}

    def _default(self, name: str) -> Any:
        return self._declared[name].default

    def _repr_html_(self) -> str:
        header = "".join(f"<th>{title}</th>" for title in ("parameter", "value", "default", "unit", "meaning"))
        rows = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{escape(text)}</td>' for text in self._row(name)) + "</tr>"
            for name in self._declared
        )
        return f"<table><caption><b>{type(self).__name__}</b></caption><tr>{header}</tr>{rows}</table>"

    def _row(self, name: str) -> tuple[str, ...]:
        known = self._declared[name]
        return name, known.shown(getattr(self, name)), known.shown(known.default), known.unit, known.help

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Parameters) and not self.compare(other)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def describe(self) -> str:
        """Return a table of all parameters: name, type, unit, value, default, help."""
        rows = [("name", "type", "unit", "value", "default", "help")]
        for name, known in self._declared.items():
            value, default = known.shown(getattr(self, name)), known.shown(known.default)
            rows.append((name, known.type_names, known.unit, value, default, known.help))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = [
            "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[5]]) for row in rows
        ]
        return "\n".join(lines)

    show_pars = describe

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({values})"


class Configured(metaclass=_Completed):
    """Base class of objects with parameters; unknown names are refused after its constructors have returned."""

    pars_class: ClassVar[type[Parameters]] = Parameters
    pars: Any

    def __init__(self, **kwargs: Any) -> None:
        self.pars = self._make_pars_object(kwargs)

    def _make_pars_object(self, kwargs: Mapping[str, Any]) -> Parameters:
        # tolerant: a subclass may replace these by parameters of its own, which may have further names
        return self.pars_class(**kwargs, _tolerant=True)

    def _complete(self) -> None:
        self.pars.require_known()

    def _facts(self) -> dict[str, Any]:
        return {"name": getattr(self, "name", None), **self.pars.changed()}

    __repr__ = line
    _repr_html_ = card


@lru_cache(maxsize=256)
def legalize(name: str) -> str:
    """Return a name in the form of folder and file names: upper case, blanks and hyphens as underscores.

    Raises
    ------
    IllegalName
        It has other characters than letters, digits and underscores, or starts with a digit.
    """
    legal = re.sub(r"[\s-]", "_", name.strip()).upper()
    if re.fullmatch(r"(?!\d)\w+", legal, re.ASCII) is None:
        raise IllegalName(f"{name!r} cannot be a name: letters, digits and underscores, and no digit at its start")
    return legal

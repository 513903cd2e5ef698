"""Which configuration and which code made a product: one hash for one meaning."""

import ast
import hashlib
import importlib
import inspect
import json
import math
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from obsarchive.errors import ConfigError
from obsarchive.io.atomic import atomic_write

HASH_DIGITS = 16
RESULTS = (
    *(
        "surveys.formats.photometry_columns",
        "surveys.observatory",
        "surveys.dataset",
        "surveys.formats.hdf5_light_curves",
        "surveys.worker",
    ),
    *(
        "obsarchive.science.light_curves.light_curve",
        "obsarchive.science.light_curves.events",
        "obsarchive.science.light_curves.features",
    ),
    *("surveys.periods", "surveys.histograms", "surveys.formats.catalog_columns"),
)
"""Modules on whose code results depend, beside those of the classes that a project uses."""


def canonical(value: Any) -> Any:
    """Return a value as every way of writing it comes out: sets sorted, whole floats as integers, keys as text."""
    match value:
        case Mapping():
            made: Any = {str(key): canonical(value[key]) for key in sorted(value, key=str)}
        case set() | frozenset():
            # 1 and "1" look the same as text, and a set has no order that could tell them apart
            made = sorted((canonical(item) for item in value), key=json.dumps)
        case list() | tuple():
            made = [canonical(item) for item in value]
        case np.generic() | np.ndarray():
            made = canonical(value.tolist())
        case bool() | int() | str() | None:
            made = value
        case float():
            made = int(value) if math.isfinite(value) and value == int(value) else repr(value)
        case Path():
            made = str(value)
        case _:
            raise ConfigError(f"a configuration holds texts, numbers, lists and mappings; found {value!r}")
    return made


def hash_of(config: Mapping[str, Any]) -> str:
    """Return the hash of a configuration; the same for two that mean the same."""
    text = json.dumps(canonical(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]


@cache
def digest_of_code(module: str) -> str:
    """Return the hash of what a module does: comments, blanks and descriptions do not count."""
    try:
        source = inspect.getsource(importlib.import_module(module))
    except (OSError, TypeError):  # typed into a notebook: nothing tells one version from another
        return "unknown"
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                block[:] = [line for line in block if not _is_text(line)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:HASH_DIGITS]


def _is_text(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def code_of(classes: Iterable[type]) -> str:
    """Return the hash of the code that makes results: ours, and that of the classes of a project."""
    modules = {base.__module__ for made in classes for base in made.__mro__ if base.__module__ != "builtins"}
    return hash_of({module: digest_of_code(module) for module in {*modules, *RESULTS}})


def seed_of(name: str) -> int:
    """Return the seed of random numbers for a name: the same in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


def write_config(folder: Path, config: Mapping[str, Any], cfg_hash: str) -> Path:
    """Write the configuration of a run beside its products; it can be read as the file of a project again."""
    path = folder / f"00_config_{cfg_hash}.yaml"
    text = yaml.safe_dump(json.loads(json.dumps(config, default=_plain)), sort_keys=False, allow_unicode=True)
    atomic_write(path, f"# made by Archiver; hash {cfg_hash}\n{text}".encode())
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return str(value)

"""Provenance of results: the hash of the configuration and of the code that made them, one hash for one meaning.

Our own code is hashed as a version that we raise by hand, so that modules may be renamed and rewritten while results
stay valid; classes of users are hashed by their source text, which need no version.
"""

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
ANALYSIS_VERSION = 4
"""Version of the analysis: to be raised by hand when a configuration gives other results than before."""
RECORDED: Mapping[str, str] = {
    # names in two parts, so that a tool that renames modules leaves them alone
    **{
        f"surveys.{name}": digest
        for name, digest in {
            "analysis": "b6a94cf15307c165",
            "bins": "443a009d38ef5cd0",
            "catalog": "1e7f445414c60018",
            "catalog_columns": "b4dafbe88a8f5375",
            "columns": "44339fc557a1d915",
            "dataset": "753ab93e61fb5e72",
            "demo": "dd7d3ef5e0837885",
            "files": "1",
            "finder": "722bfab6bd043b55",
            "histograms": "cfdf783427453ecb",
            "observatory": "2eb75e7dbe21295b",
            "parameters": "893b591edff8e540",
            "periods": "2799aba2d1151556",
            "quality": "b1cb641d6f4c6e44",
            "reducing": "ab00bba4e6ca9611",
            "simulator": "953343aab9a42ea9",
            "storage": "eda3819330da07c0",
            "tess": "2da91712878a66ac",
            "ztf": "6d76a6ef737108b9",
        }.items()
    },
    **{
        f"obsarchive.science.{name}": digest
        for name, digest in {
            "events": "f904900bde97e6b6",
            "features": "d504f3ef6cb23190",
            "lightcurve": "3d2783207e9693a8",
        }.items()
    },
}
"""Names and digests that stand for our own modules in hashes, as they were when `ANALYSIS_VERSION` was 1.

They only keep the hashes of existing results: they need not follow the code, nor the modules when these move. A new
class of ours gets a row here, with any text as its digest, and one in `CLASSES`.
"""
OF_ALL_RESULTS = (
    *(f"surveys.{name}" for name in ("columns", "observatory", "dataset", "storage", "bins")),
    *(f"surveys.{name}" for name in ("periods", "histograms", "catalog_columns")),
    *(f"obsarchive.science.{name}" for name in ("lightcurve", "events", "features")),
)
"""Rows on which all results depend, beside those of the classes that a project uses."""
CLASSES: Mapping[str, str] = {
    "Analysis": "analysis",
    "Catalog": "catalog",
    "Configured": "parameters",
    "Finder": "finder",
    "Parameters": "parameters",
    "PhotometryReducer": "reducing",
    "QualityChecker": "quality",
    "Simulator": "simulator",
    "VirtualDemoObs": "demo",
    "VirtualFiles": "files",
    "VirtualObservatory": "observatory",
    "VirtualTESS": "tess",
    "VirtualZTF": "ztf",
}
"""Row of each class of ours of which projects are made, by its public name."""


def canonical(value: Any) -> Any:
    """Return a value in its canonical form: sets sorted, whole floats as integers, keys as text."""
    match value:
        case Mapping():
            made: Any = {str(key): canonical(value[key]) for key in sorted(value, key=str)}
        case set() | frozenset():
            # sorted as JSON, where 1 and "1" differ; as text they do not, and the order would be that of the set
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
    """Return the hash of a configuration; equal for configurations of the same meaning."""
    text = json.dumps(canonical(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]


@cache
def digest_of_code(module: str) -> str:
    """Return the hash of the syntax tree of a module, without comments, blanks and docstrings."""
    try:
        source = inspect.getsource(importlib.import_module(module))
    except (OSError, TypeError):  # defined in a notebook: there is no source text to compare
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


def code_name(made: type) -> str:
    """Return the name by which the code of a class is hashed: a recorded one, or for a user's class its module."""
    # a user's class may lie in our package, and may have the name of the one that it extends
    extends_namesake = any(base.__qualname__ == made.__qualname__ for base in made.__mro__[1:])
    is_ours = made.__module__.partition(".")[0] == "surveys" and made.__qualname__ in CLASSES and not extends_namesake
    return f"surveys.{CLASSES[made.__qualname__]}" if is_ours else made.__module__


def code_of(classes: Iterable[type]) -> str:
    """Return the hash of the code that makes results: the version of ours, and the source text of users' classes."""
    found: dict[str, str | int] = {name: RECORDED[name] for name in OF_ALL_RESULTS}
    for base in {base for made in classes for base in made.__mro__ if base.__module__ != "builtins"}:
        name = code_name(base)
        found[name] = RECORDED[name] if name in RECORDED else digest_of_code(base.__module__)
    if ANALYSIS_VERSION > 1:  # version 1 is that of the recorded digests
        found["ANALYSIS_VERSION"] = ANALYSIS_VERSION
    return hash_of(found)


def seed_of(name: str) -> int:
    """Return the random seed of a name: the same in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


def write_config(folder: Path, config: Mapping[str, Any], cfg_hash: str) -> Path:
    """Write the configuration of a run beside its products, as a file that a project can read again.

    Parameters
    ----------
    folder : Path
        Folder of the products.
    config : mapping
        Configuration by section.
    cfg_hash : str
        Its hash, part of the file name.

    Returns
    -------
    Path
        The file.
    """
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

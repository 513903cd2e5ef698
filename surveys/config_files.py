"""Configuration files of surveys: found by name, read anew for every object, checked for unknown sections."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from obsarchive.config import yaml_files
from obsarchive.errors import ConfigError

SECTIONS = ("project", "catalog", "observatories", "analysis", "finder", "quality", "simulator", "histograms", "code")
"""Sections of a file; ``code`` stands in those that runs write, and says what made them."""
FOLDERS = (Path(), Path("configs"))
SUFFIXES = ("", ".yaml", ".yml", ".cfg")


def find_file(asked: str | bool, project: str | None) -> Path | None:
    """Return the file that is meant; None if none was asked for and none is there.

    Parameters
    ----------
    asked : str or bool
        A path, or the name of a file here or in ``configs``; True: that of the project, if it exists.
    project : str or None
        Name of the project.

    Raises
    ------
    ConfigError
        A file was asked for that is not there.
    """
    if isinstance(asked, str):
        path = Path(asked).expanduser()
        found = path if path.is_absolute() and path.is_file() else next(_candidates(asked), None)
        if found is None:
            raise ConfigError(f"{asked}: no such file, neither here nor in {FOLDERS[1].absolute()}")
        return found
    return next(_candidates(project), None) if project else None


def _candidates(name: str) -> Iterator[Path]:
    wanted = {f"{name}{suffix}".lower() for suffix in SUFFIXES}
    for folder in FOLDERS:
        if (folder / name).is_file():
            yield folder / name
        if folder.is_dir():
            yield from (path for path in sorted(folder.iterdir()) if path.name.lower() in wanted and path.is_file())


def read_section(asked: str | bool, project: str | None, key: str) -> dict[str, Any]:
    """Return the values below a key of a configuration file; empty if there is no file or no such key.

    Raises
    ------
    ConfigError
        The file is missing although it was asked for, is no YAML, or has a section that nobody reads.
    """
    path = find_file(asked, project)
    if path is None:
        return {}
    raw = yaml_files.read(path)
    for section in raw:
        if section not in SECTIONS and section != key:
            near = get_close_matches(str(section), SECTIONS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(SECTIONS)}"
            raise ConfigError(f"{path}: unknown section {section!r}{hint}")
    values = raw.get(key)
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: {key}: expected keys and values, found {type(values).__name__}")
    return dict(values)

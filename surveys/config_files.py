"""Configuration files of surveys: found by name, read again for every object, checked for unknown sections."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from obsarchive.errors import ConfigError, did_you_mean

SECTIONS = ("project", "catalog", "observatories", "analysis", "finder", "quality", "simulator", "histograms", "code")
"""Sections of a file; ``code`` is in those that runs write, with the version that made them."""
FOLDERS = (Path(), Path("configs"))
SUFFIXES = ("", ".yaml", ".yml", ".cfg")


def find_file(requested: str | bool, project: str | None) -> Path | None:
    """Return the path of a configuration file.

    Parameters
    ----------
    requested : str or bool
        A path, or the name of a file in the working directory or in ``configs``; True: the file of the project, if it
        exists.
    project : str or None
        Name of the project.

    Returns
    -------
    Path or None
        None if no file was named and the project has none.

    Raises
    ------
    ConfigError
        The named file does not exist.
    """
    if isinstance(requested, str):
        path = Path(requested).expanduser()
        found = path if path.is_absolute() and path.is_file() else next(_candidates(requested), None)
        if found is None:
            raise ConfigError(f"{requested}: no such file, neither here nor in {FOLDERS[1].absolute()}")
        return found
    return next(_candidates(project), None) if project else None


def _candidates(name: str) -> Iterator[Path]:
    wanted = {f"{name}{suffix}".lower() for suffix in SUFFIXES}
    for folder in FOLDERS:
        if (folder / name).is_file():
            yield folder / name
        if folder.is_dir():
            yield from (path for path in sorted(folder.iterdir()) if path.name.lower() in wanted and path.is_file())


def read_section(requested: str | bool, project: str | None, key: str) -> dict[str, Any]:
    """Return one section of a configuration file.

    Parameters
    ----------
    requested, project
        The file, as of `find_file`.
    key : str
        Name of the section.

    Returns
    -------
    dict
        Its values by name; empty if there is no file or no such section.

    Raises
    ------
    ConfigError
        The named file does not exist, is no YAML, or has an unknown section.
    """
    path = find_file(requested, project)
    if path is None:
        return {}
    from obsarchive.config import yaml_files  # late: it imports pydantic

    raw = yaml_files.read(path)
    for section in raw:
        if section not in SECTIONS and section != key:
            hint = did_you_mean(str(section), SECTIONS) or f"; known are {', '.join(SECTIONS)}"
            raise ConfigError(f"{path}: unknown section {section!r}{hint}")
    values = raw.get(key)
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: {key}: expected keys and values, found {type(values).__name__}")
    return dict(values)

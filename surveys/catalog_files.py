"""Files of catalogues: where they are looked for, and the default one, which is downloaded."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from obsarchive.errors import ConfigError
from surveys.dataset import data_root

if TYPE_CHECKING:
    from obsarchive.io.catalog_tables import ColumnTable

log = logging.getLogger(__name__)

FOLDER = Path("catalogs")
WHITE_DWARFS = "GaiaEDR3_WD_main.fits"
WHITE_DWARFS_SERVICE = "https://warwick.ac.uk"
WHITE_DWARFS_PATH = "/fac/sci/physics/research/astro/research/catalogues/gaiaedr3_wd_main.fits.gz"
"""Gentile Fusillo et al. (2021, MNRAS 508, 3877)."""


def _candidates(name: Path) -> list[Path]:
    """Return where a file may lie: as given, in ``catalogs`` of the working directory, in that of the data folder."""
    return [name] if name.is_absolute() else [name, FOLDER / name, data_root() / FOLDER / name]


def find_file(name: Path) -> Path:
    """Return the path of a file, which may be compressed; the last of its candidates if there is none."""
    places = _candidates(name)
    for place in [*places, *(place.with_name(place.name + ".gz") for place in places)]:
        if place.exists():
            return place
    return places[-1]


def find_table(filename: str, table: str | int | None) -> tuple[Path, str | int | None]:
    """Return the path of a file, and the table in it.

    Parameters
    ----------
    filename : str
        Name of the file, which may end with a table in brackets, as ``name.fits[2]``.
    table : str or int or None
        The table, if it is named otherwise.

    Returns
    -------
    (Path, str or int or None)
        Path and table.
    """
    name = Path(filename).expanduser()
    found = find_file(name)
    if found.exists() or "[" not in name.name:
        return found, table
    from obsarchive.io.catalog_tables import named_table  # late: it imports the libraries of all formats

    file, named = named_table(name)
    return find_file(file), named if table is None else table


def open_catalog(filename: str, table: str | int | None) -> "ColumnTable":
    """Open the file of a catalogue.

    Parameters
    ----------
    filename, table
        As of `find_table`.

    Returns
    -------
    ColumnTable

    Raises
    ------
    ConfigError
        There is no such file, or it is no table.
    """
    from obsarchive.io.catalog_tables import open_table  # late, as above

    path, table = find_table(filename, table)
    if not path.exists():
        tried = ", ".join(str(place.absolute()) for place in _candidates(Path(filename).expanduser()))
        raise ConfigError(f"{filename}: expected a table, found no such file; tried {tried}")
    return open_table(path, table)


def open_white_dwarfs(service: str) -> "ColumnTable":
    """Open the catalogue of white dwarfs; it is downloaded if it is missing.

    Parameters
    ----------
    service : str
        Address of the service that has it.

    Returns
    -------
    ColumnTable

    Raises
    ------
    ConfigError
        What was sent, or lies there, is no table.
    """
    from obsarchive.io.catalog_tables import open_table

    path = find_file(Path(WHITE_DWARFS))
    return open_table(path if path.exists() else _fetch_white_dwarfs(path, service))


def _fetch_white_dwarfs(path: Path, service: str) -> Path:
    """Download the catalogue of white dwarfs and return the compressed file."""
    from obsarchive.io.catalog_tables import open_table
    from obsarchive.remote.http import HttpClient

    log.info("%s is not here: it is fetched from %s", path.name, service)
    packed = path.with_name(f"{path.name}.gz")
    with HttpClient("the catalogue of white dwarfs", service, timeout_s=120.0) as client:
        client.download(WHITE_DWARFS_PATH, packed)
    try:
        open_table(packed)
    except ConfigError:
        packed.unlink()  # an error page instead of the catalogue, or half of it
        raise
    return packed
